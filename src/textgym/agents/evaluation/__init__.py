"""Playing held-out prompts, and what is reported of the texts."""
