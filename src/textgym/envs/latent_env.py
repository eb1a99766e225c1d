"""The environments with latent actions: one text, or turn, a step, written by a decoder.

Stable-Baselines3's continuous algorithms play on them with the policies that they come with.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.latent_rows import LatentRows
from textgym.envs.rendering import METADATA, TextPrinter, check_render_mode
from textgym.envs.step_result import StepResult
from textgym.envs.task import Task
from textgym.envs.vector_env import TextVectorEnv
from textgym.latent_decoders import LatentDecoder
from textgym.saved_fields import SavedFields
from textgym.tokenizer import Tokenizer


class LatentEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One episode of a task at a time; an action is a point z of the decoder's latent space.

    The action is `Box(-latent_limit, latent_limit, [latent_size])` in standard deviations of the
    prior, cut to that range; the observation is what the decoder's encoder makes of the text so
    far, `Box(-10, 10, [observation_size])`. A step writes the text, and ends the episode; in a
    dialogue it writes the player's next turn. Infos are those of `TextEnv`. After an episode's end
    the observation is still that of the text in front of the action, unless it was truncated:
    nobody acts on a text that is over.

    :param task: with the decoder's tokenizer.
    :param settings: `limit`, `decoding` and `prior_coef` of `LatentRows`.
    :param render_mode: as `TextEnv`'s.
    :raises InputError: see `LatentRows` and `EpisodeRows`.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        task: Task,
        decoder: LatentDecoder,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        check_render_mode(render_mode)
        self.task, self.action, self.render_mode = task, "latent", render_mode
        self._latents = LatentRows(EpisodeRows(task, 1), decoder, **settings)
        self._printer = TextPrinter()
        self.observation_space: spaces.Space[Any] = self._latents.observation_space
        self.action_space: spaces.Space[Any] = self._latents.action_space
        self._seen = np.zeros(0, np.float32)

    @property
    def tokenizer(self) -> Tokenizer:
        """The task's tokenizer."""
        return self.task.tokenizer

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a prompt and begin. The info holds `prompt`, `prompt_length` and its columns."""
        super().reset(seed=seed)
        info = self._latents.episodes.reset([0], [self.np_random])[0]
        if self.render_mode == "human":
            self._printer.begin(self._latents.episodes.text(0))
        self._seen = self._latents.observations([0])[0]
        return self._seen.copy(), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Write a text, or a turn.

        :param action: float [latent_size].
        :raises InputError: for an action of another shape or that is not finite, or if the episode
            is over.
        :raises RewardError: from the reward model. In both cases nothing has changed.
        """
        result = self._latents.step(np.asarray(action)[None], self.np_random)
        info = result.endings.get(0, {})
        if not info or result.is_truncated[0]:
            self._seen = self._latents.observations([0])[0]
        if self.render_mode == "human":
            text = info["prompt"] + info["completion"] if info else self._latents.episodes.text(0)
            self._printer.grow(text, is_over=bool(info))
        return (
            self._seen.copy(),
            float(result.rewards[0]),
            bool(result.is_terminated[0]),
            bool(result.is_truncated[0]),
            info,
        )

    def render(self) -> str | None:
        """The text so far, prompt included, with "ansi"; else None ("human" has printed it)."""
        return self._latents.episodes.text(0) if self.render_mode == "ansi" else None


class LatentVectorEnv(TextVectorEnv):
    """n rows of one task, whose texts a decoder writes together; a row that ends starts anew.

    It plays as `SyncVectorEnv` over `LatentEnv` with `autoreset_mode=SAME_STEP` does, with one
    pass of the decoder and one call of the reward model for all rows. Where texts are drawn
    ("sampled"), all of them are drawn from the first row's generator.

    :param settings: as `LatentEnv`'s.
    :raises InputError: see `LatentRows` and `TextVectorEnv`.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        decoder: LatentDecoder,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(task, num_envs, render_mode=render_mode)
        self._latents = LatentRows(self._episodes, decoder, **settings)
        self.single_observation_space = self._latents.observation_space
        self.single_action_space = self._latents.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seen: dict[int, np.ndarray] = {}  # observations of the texts as they stand

    def reset_rows(self, seed: Any, options: dict[str, Any] | None) -> dict[int, dict[str, Any]]:
        """As `TextVectorEnv.reset_rows`."""
        infos = super().reset_rows(seed, options)
        self._look(list(infos))
        return infos

    def observations(self) -> np.ndarray:
        """Float32 [n, observation_size]: of the texts as they stand."""
        self._look([row for row in range(self.num_envs) if row not in self._seen])
        return np.stack([self._seen[row] for row in range(self.num_envs)])

    def final_observations(self, result: StepResult) -> dict[int, np.ndarray]:
        """As `LatentEnv` says; forgets what the rows that start anew looked like."""
        cut = [row for row in result.endings if result.is_truncated[row]]
        self._look(cut)
        return {row: self._seen.pop(row) for row in result.endings}

    def advance(self, actions: np.ndarray) -> StepResult:
        """Write a text, or a turn, in every row.

        :param actions: float [n, latent_size].
        """
        result = self._latents.step(actions, self.np_random[0])
        for row in range(self.num_envs):
            if row not in result.endings:
                del self._seen[row]
        return result

    def state_dict(self) -> dict[str, Any]:
        """As `TextVectorEnv.state_dict`, with the observations: rows alone read otherwise."""
        return {**super().state_dict(), "seen": self.observations()}

    def load_state_dict(self, state: Any) -> list[str]:
        """As `TextVectorEnv.load_state_dict`."""
        shape = (self.num_envs, *(self.single_observation_space.shape or ()))
        seen = SavedFields(state, f"state of {self.task.id!r}").array("seen", "float32", shape)
        differences = super().load_state_dict(state)
        self._seen = dict(enumerate(seen.copy()))
        return differences

    def _look(self, rows: list[int]) -> None:
        """Encode the texts of some rows as they stand, all at once."""
        if rows:
            self._seen.update(zip(rows, self._latents.observations(rows), strict=True))
