"""The checks of a reward audit, each a small function of a reward model and texts."""
