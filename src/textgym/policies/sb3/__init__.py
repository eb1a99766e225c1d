"""The language model as Stable-Baselines3's policies."""
