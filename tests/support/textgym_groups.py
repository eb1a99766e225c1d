"""Agents without a critic under test, on the letters, and what they compute done naively."""

import numpy as np
import torch
from front_door import ENV, byte_lm
from stable_baselines3.common.vec_env import VecMonitor
from textgym_agents import SGD
from textgym_testing import NaiveTokenPolicy, letter_task, set_up, tiny_lm

import textgym
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

WORDS = ("grpo", "rloo", "reinforce", "best_of_n", "dpo")


def group_env(n_envs=4, num_generations=2, *, max_episode_steps=None, **fields):
    """An SB3 environment over `letter_task` that deals groups."""
    vector_env = TextVectorEnv(
        letter_task(**fields),
        n_envs,
        max_episode_steps=max_episode_steps,
        num_generations=num_generations,
    )
    return VecMonitor(TextVecEnv(vector_env))


def group_agent(cls=GRPO, *, lm=None, env=None, policy=None, num_generations=2, **changes):
    """An agent of plain gradient steps that nothing clips, ready for `play` and `train`."""
    keywords = {"learning_rate": 0.1, "max_grad_norm": 1e9, "seed": 3, "device": "cpu", **changes}
    agent = cls(
        TextActorCriticPolicy,
        group_env(num_generations=num_generations) if env is None else env,
        policy_kwargs={"model": lm or tiny_lm(spread=6.0), **SGD, **(policy or {})},
        num_generations=num_generations,
        **keywords,
    )
    return set_up(agent)


def front_door_agent(word, **keywords):
    """An agent by its word, whose rewards differ from text to text."""
    env_kwargs = {"max_new_tokens": 8, "prompts": ["One ", "Two ", "Three "]}
    defaults = {"policy": byte_lm(), "n_envs": 4, "seed": 0, "env_kwargs": env_kwargs}
    return textgym.make_agent(word, ENV, **{**defaults, **keywords})


def play(agent):
    """One rollout; its episodes, group by group."""
    assert agent.collect_rollouts(agent.env, agent.env.test_callback, None, 1)
    return agent.episodes


def naive_policy(agent, model=None):
    """One forward pass a token under the weights of `agent`, or those of a reference model."""
    source = agent.policy
    if model is not None:
        source = TextActorCriticPolicy(
            agent.observation_space,
            agent.action_space,
            lambda _: 0.1,
            model=model,
            temperature=source.sampling.temperature,
            top_k=source.sampling.top_k,
            top_p=source.sampling.top_p,
        )
    return NaiveTokenPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, source=source
    )


def naive_log_probs(naive, episode):
    """`[a]`, with a graph: each token of an episode by a pass of its own."""
    tokens = torch.as_tensor(episode.tokens)
    chosen = []
    for place, action in zip(episode.acted.tolist(), episode.actions.tolist(), strict=True):
        logits, _ = naive.one(tokens[: place + 1], torch.tensor(action))
        chosen.append(logits.log_softmax(-1)[action])
    return torch.stack(chosen)


def assert_same_gradient(agent, naive, tolerance=1e-5):
    """The gradients of the language model's weights, which `train` leaves behind."""
    theirs = dict(naive.lm.named_parameters())
    largest = 0.0
    for name, parameter in agent.policy.lm.named_parameters():
        expected = theirs[name].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=tolerance, msg=name)
        largest = max(largest, float(expected.abs().max()))
    assert largest > 100 * tolerance, "the gradient is too small for the comparison to say anything"


def assert_whole(episode, prompts=("a", "bcd", "cdabb"), tokenizer=None):
    """An episode from its prompt on, each of its tokens seen by the choice of the next one."""
    tokenizer = tokenizer or letter_task().tokenizer
    assert episode.prompt in prompts
    assert episode.acted[0] == len(tokenizer.encode(episode.prompt)) - 1
    assert episode.acted[-1] == len(episode.tokens) - 1
    assert (np.diff(episode.acted) > 0).all()
    assert (episode.tokens[episode.acted[:-1] + 1] == episode.actions[:-1]).all()
    assert len(episode.log_probs) == len(episode.actions) == len(episode.acted)
