"""The language model: decoder, cache, packing, sampling, generation, checkpoints."""
