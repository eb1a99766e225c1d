"""Reward models for worker processes, which import them."""

import os
import time

from textgym.rewards import RewardOutput


def length(prompts, completions, **columns):
    """Characters."""
    return [float(len(text)) for text in completions]


def whole_answer(prompts, completions, *, completion_ids, bonus):
    """Everything that an answer may hold; None for an empty text."""
    return RewardOutput(
        [
            len(ids) + more if text else None
            for text, ids, more in zip(completions, completion_ids, bonus, strict=True)
        ],
        {"process": [float(os.getpid())] * len(completions)},
        [[(0, len(text), 0.5)] for text in completions],
        {"upper": [text.upper() for text in completions]},
    )


def obeys(prompts, completions, **columns):
    """Does what a completion says."""
    for text in completions:
        if text == "die":
            os._exit(7)
        if text == "kill":
            os.kill(os.getpid(), 9)
        if text == "hang":
            time.sleep(600)
        if text == "raise":
            raise ValueError("no such word")
        if text == "nan":
            return [float("nan")] * len(completions)
    return [1.0] * len(completions)


def says_step(completions, trainer_state, **kwargs):
    """A reward of TRL's kind."""
    return [float(trainer_state.global_step)] * len(completions)


class DiesAtStart:
    """Its copy cannot be made."""

    def __call__(self, prompts, completions, **columns):
        return [0.0] * len(completions)

    def __setstate__(self, state):
        os._exit(3)

    def __getstate__(self):
        return {"a": 1}
