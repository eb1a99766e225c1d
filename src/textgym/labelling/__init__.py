"""The labelling page: a local server that asks people about texts (`textgym label`)."""
