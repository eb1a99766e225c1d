"""Where things stand in a run directory: the names that readers and writers share."""

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
BEST, LAST, PREVIOUS = "best", "last", "previous"
