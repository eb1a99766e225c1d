"""Where things stand in a run directory: the names that readers and writers share."""

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
REWARD_EXTRA = "reward_extra.jsonl"  # what a reward model wants recorded beside its texts
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
BEST, LAST, PREVIOUS = "best", "last", "previous"
START = "start"  # the model that a run started from, for its held-out evaluations
ALARMS = "alarms.jsonl"  # what the guards of a training saw
BEST_GOLD = "best_gold"  # the model of the held-out evaluation that the gold judge liked best
BEST_REWARD = "best_reward"  # of a training: none is taken for it unless it is named
HELD_OUT, HELD_OUT_SETTINGS = "held_out.jsonl", "held_out.json"
HELD_OUT_PROMPTS, HELD_OUT_SCORES = "held_out_prompts.jsonl", "held_out_scores.jsonl"
CELLS = "cells"  # of a comparison: the folder of its runs
LATENT_HELD_OUT = "latent_held_out.jsonl"  # the texts of a training with latent actions
LATENT_AGENT = "latent_agent.json"  # of the checkpoint of one
AUTOENCODER = "vae.json"  # of the checkpoint of a text VAE
