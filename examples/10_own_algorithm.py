"""An algorithm of your own, by name: what its advantages are, what its loss is, and a word for it.

    python examples/10_own_algorithm.py [--steps 8000]

Reward-weighted regression (Peters and Schaal 2007, "Reinforcement Learning by Reward-Weighted
Regression"): all completions of a prompt are imitated, each as much as exp(reward / softness) says.
That is best-of-n with a soft choice of the best. Groups, rollouts, minibatches, the KL term,
logging, callbacks and saving come with `CriticFreeAlgorithm`.

In a package of yours, this module up to `main` is all it takes. With

    [project.entry-points."textgym.plugins"]
    mine = "mine.algorithms"

in its pyproject.toml the command line knows the word: `textgym train ENV --agent rwr --softness 1`.
"""

import argparse
import math

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy

import textgym
from textgym.agents import CriticFreeAlgorithm, CriticFreeSpec
from textgym.errors import InputError


class RewardWeightedRegression(CriticFreeAlgorithm):
    """Imitates the completions of a prompt in proportion to exp(reward / softness).

    :param softness: the reward that makes a completion e times as heavy; near 0: only the best.
    """

    min_generations = 2

    def __init__(self, policy, env, learning_rate=1e-3, *, softness: float = 0.1, **keywords):
        if softness <= 0:
            raise InputError(f"softness must be above 0, got {softness}")
        self.softness = softness
        super().__init__(policy, env, learning_rate, **keywords)

    def compute_advantages(self, totals):
        """Weights with mean 0 in each group: total rewards `[G, k]` in, the same shape out."""
        weights = np.exp((totals - totals.max(axis=1, keepdims=True)) / self.softness)
        return weights / weights.mean(axis=1, keepdims=True) - 1  # less 1: equal ones teach nothing

    def compute_loss(self, log_prob, batch):
        """Weighted negative log-likelihood, and a figure of one's own to log under train/."""
        loss = -(batch.advantages * log_prob).mean()
        return loss, {"heaviest": float(batch.advantages.max()) + 1}


def defaults(budget, n_envs):
    """Keywords that `make_agent` fills in, from the task's budget in tokens and the rows."""
    return {"learning_rate": 1e-3, "num_generations": math.gcd(n_envs, 8), "n_epochs": 1}


RWR = CriticFreeSpec(
    f"{__name__}:RewardWeightedRegression",
    defaults,
    description="imitates all completions, the better ones more",
)
textgym.register_agent("rwr", RWR)


def vowels(prompts, completions):
    """Share of vowels among 16 characters."""
    return [sum(letter in "aeiou" for letter in text) / 16 for text in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=8_000, help="completion tokens to train on")
    options = parser.parse_args()

    textgym.register("example/Vowels-v0", prompts=["Sing: "], reward=vowels, max_new_tokens=16)
    test_env = textgym.make_vec("example/Vowels-v0", n_envs=16, seed=100)
    for word in ("rwr", "best_of_n"):
        agent = textgym.make_agent(word, "example/Vowels-v0", n_envs=16, learning_rate=3e-3, seed=0)
        agent.learn(options.steps)
        mean, _ = evaluate_policy(agent, test_env, n_eval_episodes=64, deterministic=False)
        print(f"{word}: {mean:.3f} of the reward's maximum 1.0, {type(agent).__name__}")


if __name__ == "__main__":
    main()
