"""Text actions for agents that only know arrays: an utterance as a fixed row of token ids."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from textgym.envs.text_env import TextEnv, token_spaces
from textgym.errors import InputError


class UtteranceTokens(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A `TextEnv` with text actions, played with rows of ids.

    An action is `MultiDiscrete([vocabulary] * budget)`; the ids up to the first stop token are
    decoded to the utterance. The observation is the text so far as a right-padded row of ids. Both
    are encoded from text, so here (and only here) ids are not kept as they were written: what
    matters is the words. Stable-Baselines3 has no text spaces; this is what its `check_env` sees.

    :param env: made with `action="text"`.
    :raises InputError: for another environment.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        inner = env.unwrapped
        if not isinstance(inner, TextEnv) or inner.action != "text":
            raise InputError('UtteranceTokens wraps a TextEnv made with action="text"')
        super().__init__(env)
        self._inner, self._tokenizer = inner, inner.tokenizer
        observation_space, action = token_spaces(inner.task, inner.width)
        self.observation_space = observation_space
        self.action_space = spaces.MultiDiscrete([int(action.n)] * inner.task.max_new_tokens)

    def reset(self, **keywords: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """As the inner environment's, with the observation encoded."""
        text, info = self.env.reset(**keywords)
        return self._row(text), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Decode the ids up to the first stop token, say the words, encode what stands there."""
        utterance = self._inner.utterance(np.asarray(action).tolist())
        text, reward, terminated, truncated, info = self.env.step(utterance)
        return self._row(text), reward, terminated, truncated, info

    def _row(self, text: str) -> np.ndarray:
        space = self.observation_space
        assert isinstance(space, spaces.Box)
        ids = self._tokenizer.encode(text, add_special_tokens=True)[: space.shape[0]]
        row = np.full(space.shape, self._tokenizer.pad_token_id, dtype=np.int64)
        row[: len(ids)] = ids
        return row
