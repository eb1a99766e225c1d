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
    :param log_probs: float32, nats, of each under the distribution that it was drawn from.
    """

    prompt: str
    completion: str
    reward: float
    finish_reason: str
    tokens: np.ndarray
    acted: np.ndarray
    log_probs: np.ndarray
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
    choose = NextTokens(lm, sampling=sampling, generator=generator, masks=masks_of(env))
    return play_with(choose, env, count)


def play_with(
    choose: NextTokens, env: VecEnv, count: int, numbers: np.ndarray | None = None
) -> list[Episode]:
    """As `play`, with the tokens that `choose` chooses.

    :param numbers: float32 [count, t] in [0, 1), what each token of an episode is drawn with; None:
        the generator's of `choose`.
    """
    rows = torch.as_tensor(env.reset(), device=choose.lm.device)
    number = np.arange(env.num_envs)  # which episode a row plays
    begun = env.num_envs
    acted: list[list[int]] = [[] for _ in number]
    drawn: list[list[float]] = [[] for _ in number]
    done: dict[int, Episode] = {}
    while len(done) < count:
        states = None
        if choose.masks is not None:
            states = [int(s) for s in env.env_method("action_masks")]
        actions = choose(rows, states, None if numbers is None else _next(numbers, number, acted))
        lasts, log_probs = (choose.lengths - 1).tolist(), choose.log_probs.tolist()
        for places, chosen, last, log_prob in zip(acted, drawn, lasts, log_probs, strict=True):
            places.append(last)
            chosen.append(log_prob)
        observations, rewards, dones, infos = env.step(actions.cpu().numpy())
        for i in np.flatnonzero(dones).tolist():
            if number[i] < count:
                done[int(number[i])] = _episode(infos[i], float(rewards[i]), acted[i], drawn[i])
            number[i], acted[i], drawn[i] = begun, [], []
            begun += 1
        rows = torch.as_tensor(observations, device=choose.lm.device)
    return [done[i] for i in range(count)]


def _next(numbers: np.ndarray, number: np.ndarray, acted: list[list[int]]) -> torch.Tensor:
    """Float32 [n]: what each row's next token is drawn with; rows beyond the last episode, any."""
    places = np.array([len(places) for places in acted])
    return torch.from_numpy(numbers[np.minimum(number, len(numbers) - 1), places])


def masks_of(env: VecEnv) -> TokenMasks | None:
    """The masks of an environment's constraint, for its states; None without one."""
    automaton = env.get_attr("automaton")[0] if env.has_attr("automaton") else None
    return None if automaton is None else TokenMasks(automaton)


def _episode(
    info: dict[str, Any], reward: float, acted: list[int], log_probs: list[float]
) -> Episode:
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
        log_probs=np.array(log_probs, dtype=np.float32),
        info=info,
    )
