"""Reward models that a program can say: length, patterns, words, sentiment."""
