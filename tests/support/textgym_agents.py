"""Agents under test: unmodified PPO and A2C on the letters, and their naive counterparts."""

import pytest
import torch
from stable_baselines3 import PPO
from textgym_testing import BOS, EOS, PAD, NaiveTokenPolicy, TeeBuffer, letter_env, set_up, tiny_lm

from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

SGD = {"optimizer_class": torch.optim.SGD}
HOT = {"temperature": 1.4, "top_k": 4, "top_p": 0.9}
# Fixed lengths, mixed ones (stops, refills, segments cut by the rollout's end), outer truncation.
CASES = {
    "fixed lengths": {"fixed": True},
    "mixed lengths": {},
    "truncated": {"env": {"max_episode_steps": 3}},
    "own value trunk": {"policy": {"value_trunk": "own"}},
    "temperature, top-k, top-p": {"policy": HOT, "env": {"max_episode_steps": 4}},
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def settings(cls, **changes):
    shared = {"n_steps": 8, "learning_rate": 0.1, "seed": 3, "device": "cpu", "gamma": 0.9}
    if cls is PPO:
        shared |= {"batch_size": 8, "n_epochs": 2, "gae_lambda": 0.8, "vf_coef": 0.7}
    return {**shared, "ent_coef": 0.03, **changes}


def text_agent(cls=PPO, *, lm=None, env=None, policy=None, fixed=False, **changes):
    """An agent on our buffer, with a value head that is not all zero."""
    lm = lm or tiny_lm(spread=6.0)
    fields = dict(env or {})
    if fixed:
        fields = {"prompts": ["ab", "cd"], "max_new_tokens": 4, **fields}
    agent = cls(
        TextActorCriticPolicy,
        letter_env(**fields),
        policy_kwargs={"model": lm, **SGD, **(policy or {})},
        rollout_buffer_class=TeeBuffer,
        **settings(cls, **changes),
    )
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        agent.policy.value_net.weight.normal_(0, 0.5, generator=generator)
        if agent.policy.value_decoder is not None:
            for parameter in agent.policy.value_decoder.parameters():
                parameter.mul_(1.2)
    if fixed:
        agent.policy.excluded_ids = torch.tensor([PAD, BOS, EOS])
    return set_up(agent)


def naive_agent(agent, **changes):
    """The same weights under `NaiveTokenPolicy` and SB3's own buffer."""
    keywords = {"source": agent.policy, **SGD}
    cls = type(agent)
    other = cls(NaiveTokenPolicy, letter_env(), policy_kwargs=keywords, **settings(cls, **changes))
    return set_up(other)
