"""Run directories: one writer, settings, record, checkpoints, resuming."""
