"""How each algorithm is held against the exact optimum: one table, a line an algorithm.

`tests/learning/test_oracle.py` runs it with the quick budgets, `benchmarks/learning_table.py` (that
is `make learning`) with the full ones and three seeds. docs/oracle.md says why the settings are so.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from textgym_testing import tiny_lm

import textgym
from textgym.agents.evaluation.oracle import Oracle
from textgym.policies.language_model.causal_lm import CausalLM

ONE, FEW = "textgym/OneToken-v0", "textgym/FewTokens-v0"
BETA = 0.15
BARS = {ONE: 0.02, FEW: 0.05}  # total variation after the full budget
QUICK_BARS = {ONE: 0.02, FEW: 0.25}  # after the quick one; the start is at 0.55 and more
SHARE_OF_HIGHEST = 0.99  # of the highest reward, for algorithms without a KL term


@dataclass(frozen=True)
class Setting:
    """One algorithm on one environment.

    :param quick: tokens in the default test suite; 0 leaves it out there.
    :param full: tokens in `make learning`.
    :param keywords: as `make_agent` takes them.
    :param target_kl: TRPO's, at the start and at the end: SB3 has no schedule for it.
    """

    quick: int
    full: int
    keywords: dict[str, Any] = field(default_factory=dict)
    target_kl: tuple[float, float] | None = None


FALLING = {"final_learning_rate": 0.0}
# λ = 1 and unscaled advantages: nothing but the reward and the KL term moves the fixed point.
CRITIC = {**FALLING, "gae_lambda": 1.0, "normalize_advantage": False}
SHARP = {"value_lr_scale": 3.0, "vf_coef": 2.0}
PPO_ONE = {**CRITIC, "n_envs": 64, "n_steps": 2, "batch_size": 128, "learning_rate": 0.01}
PPO_FEW = {
    **CRITIC,
    **SHARP,
    "n_envs": 128,
    "n_steps": 3,
    "batch_size": 384,
    "learning_rate": 0.005,
}
A2C_ONE = {**CRITIC, "n_envs": 32, "n_steps": 2, "learning_rate": 0.01}
A2C_FEW = {**CRITIC, **SHARP, "n_envs": 128, "n_steps": 3, "learning_rate": 0.005}
TRPO = {
    "gae_lambda": 1.0,
    "n_envs": 128,
    "value_trunk": "own",
    "value_lr_scale": 1.0,
    "learning_rate": 0.01,
    "n_critic_updates": 10,
}
GROUPS = {**FALLING, "n_envs": 64, "num_generations": 8}
WHOLE = {"mask_top_p": 1.0}  # NLPO's mask lets every token through

GRPO_ONE = {**GROUPS, "n_groups": 16, "batch_size": 128, "learning_rate": 0.01}
GRPO_FEW = {**GROUPS, "n_groups": 16, "batch_size": 384, "learning_rate": 0.005}
# The Q-values' temperature is a price of leaving the start too: at 0.03 it costs half a percent.
REPLAY = {
    **FALLING,
    "n_envs": 64,
    "train_freq": 4,
    "gradient_steps": 4,
    "batch_size": 256,
    "learning_rate": 0.006,
    "q_temperature": 0.03,
}
# Fresh texts only: an old one tells what a first letter was worth with the letters of its time.
# And slowly: in a hurry it settles on the second best text, which earns 87%.
REPLAY_FEW = {
    **REPLAY,
    "n_envs": 128,
    "buffer_size": 4_096,
    "learning_rate": 0.002,
    "q_temperature": 0.04,
}

# With a KL term of coefficient BETA: they are to come to π*.
REGULARISED: dict[str, dict[str, Setting]] = {
    "ppo": {ONE: Setting(8_192, 40_960, PPO_ONE), FEW: Setting(24_576, 147_456, PPO_FEW)},
    "a2c": {ONE: Setting(12_288, 40_960, A2C_ONE), FEW: Setting(30_720, 393_216, A2C_FEW)},
    "trpo": {
        ONE: Setting(3_072, 16_384, TRPO | {"n_steps": 1}, (0.1, 2e-4)),
        FEW: Setting(6_144, 98_304, TRPO | {"n_steps": 3}, (0.1, 1e-4)),
    },
    "maskable_ppo": {ONE: Setting(8_192, 40_960, PPO_ONE), FEW: Setting(0, 147_456, PPO_FEW)},
    "nlpo": {
        ONE: Setting(8_192, 40_960, PPO_ONE | WHOLE),
        FEW: Setting(0, 147_456, PPO_FEW | WHOLE),
    },
    "grpo": {ONE: Setting(8_192, 40_960, GRPO_ONE), FEW: Setting(24_576, 147_456, GRPO_FEW)},
    "rloo": {
        ONE: Setting(8_192, 40_960, GROUPS | {"learning_rate": 0.02}),
        FEW: Setting(30_720, 196_608, GROUPS | {"learning_rate": 0.01}),
    },
    "reinforce": {
        ONE: Setting(12_288, 81_920, FALLING | {"n_envs": 128, "learning_rate": 0.015}),
        FEW: Setting(40_960, 294_912, FALLING | {"n_envs": 128, "learning_rate": 0.005}),
    },
}

# Without a KL term: they are to earn nearly all that there is.
UNREGULARISED: dict[str, dict[str, Setting]] = {
    # With several tokens it settles on a good text before it has found the best one, but for a
    # small entropy bonus: at 0.03 the policy that it aims at earns 99.9%.
    "ppo": {
        ONE: Setting(8_192, 40_960, PPO_ONE),
        FEW: Setting(0, 147_456, PPO_FEW | {"ent_coef": 0.03, "learning_rate": 0.002}),
    },
    "best_of_n": {
        ONE: Setting(8_192, 40_960, GROUPS | {"learning_rate": 0.01}),
        # Of eight the best hides too much: it settles on the second best text.
        FEW: Setting(
            0,
            294_912,
            GROUPS | {"n_envs": 128, "num_generations": 4, "n_groups": 64, "learning_rate": 0.002},
        ),
    },
    "dqn": {ONE: Setting(12_288, 40_960, REPLAY), FEW: Setting(0, 294_912, REPLAY_FEW)},
    "qrdqn": {ONE: Setting(12_288, 40_960, REPLAY), FEW: Setting(0, 294_912, REPLAY_FEW)},
}

# Those that neither table fits, and why.
ELSEWHERE = {
    "dpo": "sees only which of two texts is better, never by how much, so π* is not its goal",
}


class FallingTargetKL(BaseCallback):
    """Lets TRPO's trust region shrink geometrically over `learn`, as a learning rate would."""

    def __init__(self, first: float, last: float) -> None:
        super().__init__()
        self.first, self.last = first, last

    def _on_rollout_start(self) -> None:
        left = max(self.model._current_progress_remaining, 0.0)
        self.model.target_kl = self.last * (self.first / self.last) ** left

    def _on_step(self) -> bool:
        return True


class AnotherTextsScore:
    """Each text is paid what an earlier one deserved: the same rewards, without their reasons."""

    name = "shuffled"

    def __init__(self, reward: Any) -> None:
        self.reward, self.rng = reward, np.random.default_rng(0)
        self.waiting: list[float] = []

    def __call__(self, prompts: Any, completions: Any, **columns: Any) -> list[float]:
        deserved = list(self.reward(prompts, completions, **columns))
        if not self.waiting:
            self.waiting = list(deserved)
        scores = []
        for score in deserved:
            i = int(self.rng.integers(len(self.waiting)))
            scores.append(self.waiting[i])
            self.waiting[i] = score
        return scores


def start_model(env: str, seed: int) -> CausalLM:
    """A model of one layer whose distribution is far from flat, so that π_ref matters."""
    tokenizer = textgym.get_task(env).tokenizer
    return tiny_lm(tokenizer, seed=seed, spread=4.0, num_hidden_layers=1, hidden_size=32)


def oracle_of(env: str, seed: int) -> Oracle:
    """The optimum from `start_model`."""
    return Oracle(textgym.get_task(env), start_model(env, seed), BETA)


def train(
    name: str, env: str, setting: Setting, seed: int, *, tokens: int, **keywords: Any
) -> CausalLM:
    """The language model that an algorithm ends with, from `start_model`.

    :param keywords: `kl_coef` and whatever else replaces the setting's.
    """
    agent = textgym.make_agent(
        name,
        env,
        policy=start_model(env, seed),
        seed=seed,
        **{"device": "cpu", **setting.keywords, **keywords},
    )
    callback = None if setting.target_kl is None else FallingTargetKL(*setting.target_kl)
    return CausalLM.from_agent(agent.learn(tokens, callback=callback))
