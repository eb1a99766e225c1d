"""The verbs that fit language models and reward models to files."""
