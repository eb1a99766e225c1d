"""The variants that `ppo_iteration.py` times, each as a rollout and an update to call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from floor import Floor
from naive_policy import NaivePolicy, OneMinibatch
from stable_baselines3 import PPO
from token_world import (
    COMPLETION,
    ENVS,
    EPOCHS,
    MINIBATCH,
    PROMPT,
    Shape,
    make_env,
    make_model,
    make_ppo,
)

LENGTHS = (16, 32, 64, 128)
SHORTEST = 8


@dataclass
class Case:
    """One variant.

    :param rollout, update: run one.
    :param acted: tokens that the policy chooses in a rollout.
    :param tokens: tokens that went through the trunk so far (0 where nobody counts).
    :param scale: what the time of `update` is multiplied by.
    """

    rollout: Callable[[], None]
    update: Callable[[], None]
    acted: int
    tokens: Callable[[], int] = lambda: 0
    scale: float = 1.0


def agent_cases(shape: Shape, groups: Sequence[str], epochs: int = EPOCHS) -> dict[str, Case]:
    """The unmodified PPO with the text policy: base case, lengths, mixed lengths, optimizers."""
    env = make_env(vocabulary=shape.vocabulary)
    cases = {"base": ppo_case(make_ppo(shape, env, COMPLETION, n_epochs=epochs))}
    if "lengths" in groups:
        for length in LENGTHS:
            cases[f"length {length}"] = ppo_case(make_ppo(shape, make_env(length), length))
    if "mixed" in groups:
        long = 4 * COMPLETION
        cases["equal, long"] = ppo_case(make_ppo(shape, make_env(), long))
        for name, n_steps in (("mixed", COMPLETION), ("mixed, long", long)):
            cases[name] = ppo_case(make_ppo(shape, make_env(shortest=SHORTEST), n_steps))
    if "bfloat16" in groups:
        env = make_env(vocabulary=shape.vocabulary)  # of its own: agents would refill one's rows
        half = make_ppo(shape, env, COMPLETION, n_epochs=epochs, dtype="bfloat16")
        cases["bfloat16"] = ppo_case(half)
    if "variants" in groups:
        fused = {"fused": True, "eps": 1e-5}
        agent = make_ppo(shape, make_env(), COMPLETION, optimizer_kwargs=fused)
        cases["fused Adam"] = ppo_case(agent)
        agent = make_ppo(shape, make_env(), COMPLETION)
        agent.ent_coef = 0.01
        cases["entropy bonus"] = ppo_case(agent)
    return cases


def ppo_case(agent: PPO) -> Case:
    """Rollout and update as `learn` calls them."""
    _, callback = agent._setup_learn(10**9, None)
    count = [0]

    def add(module: object, arguments: tuple[torch.Tensor, ...], output: object) -> None:
        count[0] += len(arguments[0])

    decoder = getattr(agent.policy.lm, "model")  # noqa: B009
    decoder.register_forward_hook(add)

    def rollout() -> None:
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)  # type: ignore[arg-type]

    return Case(rollout, agent.train, agent.n_steps * ENVS, lambda: count[0])


def naive_case(shape: Shape) -> Case:
    """SB3's buffer and one forward per token; one minibatch is timed and stands for all."""
    agent = make_ppo(
        shape, make_env(), COMPLETION, policy=NaivePolicy, buffer=OneMinibatch, n_epochs=1
    )
    case = ppo_case(agent)
    case.scale = EPOCHS * ENVS * COMPLETION / MINIBATCH
    return case


def floor_case(shape: Shape, epochs: int = EPOCHS) -> Case:
    """Plain torch."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, shape.vocabulary, (ENVS, PROMPT), generator=generator)
    floor = Floor(
        make_model(shape),
        prompts,
        COMPLETION,
        epochs=epochs,
        minibatches=ENVS * COMPLETION // MINIBATCH,
    )
    return Case(floor.rollout, floor.update, ENVS * COMPLETION)
