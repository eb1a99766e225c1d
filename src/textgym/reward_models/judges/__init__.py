"""Language models as judges: behind a chat endpoint, or from a directory."""
