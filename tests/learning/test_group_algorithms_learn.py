"""The algorithms without a critic, and NLPO, learn a small task, and not what is not there."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from textgym_groups import group_env
from textgym_learning import BUDGET, AnotherTextsScore, share_of_a
from textgym_testing import tiny_lm

from textgym.agents.algorithms.best_of_n import BestOfN
from textgym.agents.algorithms.dpo import DPO
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.algorithms.nlpo import NLPO
from textgym.agents.algorithms.reinforce import REINFORCE
from textgym.agents.algorithms.rloo import RLOO
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.envs.texts.labelled_rows import Preference
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.top_p_mask import TopPMaskPolicy

N_ENVS = 16


def start():
    """A fresh model whose distribution is almost flat."""
    return tiny_lm(spread=1.0, num_hidden_layers=1)


# Keywords and tokens of training for each.
SETTINGS = {
    GRPO: ({"num_generations": 8, "n_epochs": 4, "batch_size": 64, "learning_rate": 3e-3}, 4096),
    RLOO: ({"num_generations": 4, "learning_rate": 1e-2}, 6144),
    REINFORCE: ({"num_generations": 1, "learning_rate": 1e-2}, 6144),
    BestOfN: (
        {"num_generations": 8, "n_epochs": 2, "batch_size": 16, "learning_rate": 5e-3},
        6144,
    ),
    DPO: ({"num_generations": 4, "learning_rate": 5e-3, "n_epochs": 2}, 6144),
    NLPO: (
        {"n_steps": 16, "batch_size": 64, "n_epochs": 4, "learning_rate": 3e-3, "gamma": 1.0},
        4096,
    ),
}
every_algorithm = pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)


def learn(cls, reward, **changes):
    keywords, tokens = SETTINGS[cls]
    keywords = {"seed": 0, "device": "cpu", **keywords, **changes}
    policy, fields = TextActorCriticPolicy, {"model": start()}
    if issubclass(cls, PPO):
        policy, fields = TopPMaskPolicy, {**fields, "mask_top_p": 0.9}
        keywords["rollout_buffer_class"] = EpisodeRolloutBuffer
    if cls is DPO:
        keywords["kl"] = KLPenalty(start(), 0.1)
    env = group_env(
        N_ENVS,
        keywords.get("num_generations", 1),
        prompts=["b", "cd"],
        reward=reward,
        max_new_tokens=BUDGET,
    )
    return cls(policy, env, policy_kwargs=fields, **keywords).learn(tokens)


def mean_share_of_a(agent, n=200):
    prompts = ["b", "cd"] * (n // 2)
    texts = agent.policy.lm.generate(prompts, max_new_tokens=BUDGET, seed=1)
    return np.mean(share_of_a(None, texts))


@every_algorithm
def test_a_letter_that_pays_is_learned(cls):
    assert mean_share_of_a(learn(cls, share_of_a)) > 0.8  # a random policy: about 0.1


@every_algorithm
def test_shuffled_rewards_teach_nothing(cls):
    assert mean_share_of_a(learn(cls, AnotherTextsScore())) < 0.5


def test_pairs_of_a_file_are_learned_and_shuffled_pairs_are_not():
    rng = np.random.default_rng(0)
    pairs = []
    for prompt in ["b", "cd"] * 40:
        texts = ["".join(rng.choice(list("abcd"), BUDGET - 1)) for _ in range(2)]
        better, worse = sorted(texts, key=lambda text: text.count("a"), reverse=True)
        if better.count("a") > worse.count("a"):
            pairs.append(Preference(prompt, better, worse))
    turned = [
        Preference(pair.prompt, pair.rejected, pair.chosen) if rng.random() < 0.5 else pair
        for pair in pairs
    ]
    options = {"n_groups": 16, "learning_rate": 3e-3, "num_generations": 2}
    learned = learn(DPO, share_of_a, preferences=pairs, **options)
    assert mean_share_of_a(learned) > 0.6  # no text of the file is more than half an a
    assert mean_share_of_a(learn(DPO, share_of_a, preferences=turned, **options)) < 0.3


@pytest.mark.parametrize("cls", [GRPO, RLOO, REINFORCE], ids=lambda cls: cls.__name__)
def test_a_strong_kl_term_keeps_the_policy_where_it_was(cls):
    held = learn(cls, share_of_a, kl=KLPenalty(start(), 1.0))
    # The best policy for β = 1 on this reward, π ∝ π_ref · exp(r), hardly differs from π_ref.
    assert mean_share_of_a(held) < 0.3
