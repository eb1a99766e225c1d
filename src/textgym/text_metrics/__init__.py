"""Leaves: what is counted in texts, and how texts are cut into words."""
