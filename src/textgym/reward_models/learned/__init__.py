"""Reward models that are fitted to ratings or preferences."""
