"""The algorithms that Stable-Baselines3 lacks, a file each, and their losses."""
