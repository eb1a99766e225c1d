"""The small task of the learning tests: eight letters a, and the same pay without its reasons."""

import numpy as np

BUDGET = 8


def share_of_a(prompts, completions):
    """1 for eight letters a, and nothing for other letters and for stopping early."""
    return [text.count("a") / BUDGET for text in completions]


class AnotherTextsScore:
    """Each text is paid what an earlier one deserved: the same rewards, without their reasons."""

    name = "shuffled"

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.waiting = list(self.rng.random(64))

    def __call__(self, prompts, completions):
        scores = []
        for score in share_of_a(prompts, completions):
            i = self.rng.integers(len(self.waiting))
            scores.append(self.waiting[i])
            self.waiting[i] = score
        return scores
