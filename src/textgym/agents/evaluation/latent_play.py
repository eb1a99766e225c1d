"""Playing prompts with latent actions: what a policy's z, or any other z, makes a decoder write."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.evaluation.play import Episode
from textgym.tokenizer import Tokenizer

# From observations, float32 [n, o], to latents, float [n, l], in standard deviations of the prior.
Choose = Callable[[np.ndarray], np.ndarray]


def play_latents(choose: Choose, env: VecEnv, count: int) -> list[Episode]:
    """Play `count` episodes: the first that start, in their order.

    :param choose: is called once a step, for all rows, those beyond the last episode too.
    :param env: with latent actions; its prompts should come from `SequentialPrompts`, or any
        source.
    :return: their tokens are the text encoded again, without the environment's own ids; a
        log-probability is NaN, since no distribution over tokens was drawn from.
    """
    tokenizer = env.get_attr("task")[0].tokenizer
    observations = env.reset()
    number = np.arange(env.num_envs)  # which episode a row plays
    begun = env.num_envs
    done: dict[int, Episode] = {}
    while len(done) < count:
        observations, rewards, dones, infos = env.step(choose(observations))  # type: ignore[arg-type]
        for i in np.flatnonzero(dones).tolist():
            if number[i] < count:
                done[int(number[i])] = _episode(infos[i], float(rewards[i]), tokenizer)
            number[i] = begun
            begun += 1
    return [done[i] for i in range(count)]


def policy_latents(agent: BaseAlgorithm, *, deterministic: bool = True) -> Choose:
    """The z of an agent.

    :param deterministic: the one that it takes for its best; False: drawn, where it draws any.
    """

    def choose(observations: np.ndarray) -> np.ndarray:
        return agent.predict(observations, deterministic=deterministic)[0]

    return choose


def prior_latents(latent_size: int, seed: int) -> Choose:
    """z drawn from the prior, a standard normal distribution, whatever is observed."""
    rng = np.random.default_rng(seed)

    def choose(observations: np.ndarray) -> np.ndarray:
        return rng.standard_normal((len(observations), latent_size), np.float32)

    return choose


def constant_latents(z: np.ndarray) -> Choose:
    """One and the same z for every prompt.

    :param z: float [l].
    """

    def choose(observations: np.ndarray) -> np.ndarray:
        return np.tile(np.asarray(z, np.float32), (len(observations), 1))

    return choose


def _episode(info: Mapping[str, Any], reward: float, tokenizer: Tokenizer) -> Episode:
    start = tokenizer.encode(info["prompt"], add_special_tokens=True)
    ids = tokenizer.encode_continuation(info["prompt"], info["completion"])
    if info["finish_reason"] == "stop":
        ids = [*ids, tokenizer.eos_token_id]
    return Episode(
        prompt=info["prompt"],
        completion=info["completion"],
        reward=reward,
        finish_reason=info["finish_reason"],
        tokens=np.array([*start, *ids], dtype=np.int64),
        acted=np.arange(len(start) - 1, len(start) + len(ids) - 1, dtype=np.int64),
        log_probs=np.full(len(ids), np.nan, dtype=np.float32),
        info=info,
    )
