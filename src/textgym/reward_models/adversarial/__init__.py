"""A reward model that learns to tell the policy's texts from those of a corpus."""
