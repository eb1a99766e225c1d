"""Playing prompts with a language model: what it writes in an environment, episode by episode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from textgym.envs.texts.prompts import Prompt
from textgym.policies.language_model.generation import NextTokens
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.language_model.token_masks import TokenMasks


@dataclass(frozen=True)
class Episode:
    """One finished episode.

    :param tokens: int64, the terminal row without its padding.
    :param acted: int64, for each chosen token the position of the last token before it.
    """

    prompt: str
    completion: str
    reward: float
    finish_reason: str
    tokens: np.ndarray
    acted: np.ndarray
    info: Mapping[str, Any] = field(repr=False)


class SequentialPrompts:
    """A source of prompts that gives each once, in order, and then the last one again and again.

    :param prompts: texts, mappings with the key `prompt` and columns, or those of a `PromptSource`.
    """

    def __init__(self, prompts: Sequence[str | Mapping[str, Any] | Prompt]) -> None:
        self.prompts, self.next = list(prompts), 0

    def __call__(self, np_random: np.random.Generator) -> str | Mapping[str, Any] | Prompt:
        """The next prompt, with its columns."""
        index = self.next
        self.next += 1
        return self.prompts[min(index, len(self.prompts) - 1)]


def play(
    lm: LanguageModel, env: VecEnv, count: int, *, sampling: Sampling, seed: int = 0
) -> list[Episode]:
    """Play `count` episodes: the first that start, so that short ones are not favoured.

    :param env: its prompts should come from `SequentialPrompts`, or any source.
    :param sampling: temperature 0 takes the likeliest token.
    """
    generator = torch.Generator(lm.device).manual_seed(seed)
    masks = masks_of(env)
    choose = NextTokens(lm, sampling=sampling, generator=generator, masks=masks)
    rows = torch.as_tensor(env.reset(), device=lm.device)
    number = list(range(env.num_envs))  # which episode a row plays
    begun = env.num_envs
    acted: list[list[int]] = [[] for _ in number]
    done: dict[int, Episode] = {}
    while len(done) < count:
        states = None if masks is None else [int(s) for s in env.env_method("action_masks")]
        actions = choose(rows, states)
        for env_index, last in enumerate((choose.lengths - 1).tolist()):
            acted[env_index].append(last)
        observations, rewards, dones, infos = env.step(actions.cpu().numpy())
        for i in np.flatnonzero(dones):
            if number[i] < count:
                done[number[i]] = _episode(infos[i], float(rewards[i]), acted[i], int(actions[i]))
            number[i], acted[i] = begun, []
            begun += 1
        rows = torch.as_tensor(observations, device=lm.device)
    return [done[i] for i in range(count)]


def masks_of(env: VecEnv) -> TokenMasks | None:
    """The masks of an environment's constraint, for its states; None without one."""
    automaton = env.get_attr("automaton")[0] if env.has_attr("automaton") else None
    return None if automaton is None else TokenMasks(automaton)


def _episode(info: dict[str, Any], reward: float, acted: list[int], last: int) -> Episode:
    positions = np.array(acted, dtype=np.int64)
    end = int(positions[-1]) + 2  # the last chosen token stands one past what was seen
    tokens = np.array(info["terminal_observation"][:end], dtype=np.int64)
    return Episode(
        prompt=info["prompt"],
        completion=info["completion"],
        reward=reward,
        finish_reason=info["finish_reason"],
        tokens=tokens,
        acted=positions,
        info=info,
    )
