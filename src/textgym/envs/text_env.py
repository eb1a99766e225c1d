"""The Gymnasium environment (`gymnasium.Env`): one token a step, or one utterance a step."""

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from textgym.constraints.automaton import Automaton
from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.rendering import METADATA, TextPrinter, check_render_mode
from textgym.envs.step_result import StepResult
from textgym.envs.task import Task
from textgym.envs.text_space import TextSpace
from textgym.envs.token_row import TokenRow
from textgym.errors import InputError, unknown_name
from textgym.tokenizer import Tokenizer

Action = Literal["token", "text"]
ACTIONS = ("token", "text")


class TextEnv(gymnasium.Env[Any, Any]):
    """One episode of a task at a time.

    With `action="token"` an action is a token id (`Discrete(vocabulary)`) and the observation one
    right-padded int64 row, prompt then completion. With `action="text"` an action is a whole
    utterance, which is encoded and played token by token with a stop token after it, so that the
    same words earn the same reward; the observation is the text so far.

    At an episode's end the info holds `finish_reason` ("stop", "length", "context"), `prompt`,
    `prompt_length`, `completion`, `completion_length` (tokens of the player, the stop token
    counted), `reward_components`, the prompt's `columns` if it has any, `prompt_cut` (tokens) if it
    was cut at its start, `token_rewards` (a list of floats, one for each token of the player) if
    the reward model gave spans, and in a dialogue `turns` (a list of dictionaries with `who` and
    `text`) and the `state` that its replies left. A step that ends a turn pays what the reply says.

    :param task: what is played.
    :param render_mode: "ansi": `render` returns the text so far. "human": `reset` and `step` print
        what is new in it.
    :raises InputError: for an unknown action or render mode, or see `EpisodeRows`.
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self, task: Task, action: Action = "token", render_mode: str | None = None
    ) -> None:
        if action not in ACTIONS:
            raise unknown_name("action", str(action), ACTIONS)
        check_render_mode(render_mode)
        self.task = task
        self.action = action
        self.render_mode = render_mode
        self._printer = TextPrinter()
        self._episode = EpisodeRows(task, 1)
        if action == "token":
            self.observation_space, self.action_space = token_spaces(
                task, self._episode.width, self.automaton
            )
        else:
            prompts = [len(prompt.text) for prompt in self._episode.source.all()]
            self.observation_space, self.action_space = text_spaces(
                task, self._episode.width, max(prompts, default=0)
            )

    @property
    def tokenizer(self) -> Tokenizer:
        """The task's tokenizer."""
        return self.task.tokenizer

    @property
    def automaton(self) -> Automaton | None:
        """The task's constraint, compiled; None without one."""
        return self._episode.automaton

    def action_masks(self) -> np.int64:
        """The state of the completion in the constraint's automaton: a number, not a mask.

        `automaton.is_legal(state)` is the mask. Policies of textgym need neither; sb3-contrib's
        MaskablePPO asks for this. 0 without a constraint.
        """
        return np.int64(self._episode.constraint_states()[0])

    def utterance(self, ids: Sequence[int]) -> str:
        """The text of token ids, up to the first stop token, as the player's next words."""
        stops = self.tokenizer.eos_token_ids
        end = next((i for i, token_id in enumerate(ids) if token_id in stops), len(ids))
        return self._episode.continued(0, ids[:end])

    @property
    def width(self) -> int:
        """Columns of a row of token ids: the longest prompt and the budget."""
        return self._episode.width

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw a prompt and begin. The info holds `prompt`, `prompt_length` and its columns."""
        super().reset(seed=seed)
        info = self._episode.reset([0], [self.np_random])[0]
        if self.render_mode == "human":
            self._printer.begin(self._episode.text(0))
        return self._observation(), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Write one token, or one utterance.

        :raises InputError: for an action outside the space, or if the episode is over.
        :raises RewardError: from the reward model. In both cases nothing has changed.
        """
        if self.action == "token":
            ids = np.asarray(action)
            if ids.size != 1:
                raise InputError(f"expected one token id, got an array of shape {ids.shape}")
            result = self._episode.step(ids.reshape(1))
        else:
            result = self._play(action)
        info = result.endings.get(0, {})
        if isinstance(self.observation_space, TokenRow):
            self.observation_space.split_rows = int("token_rewards" in info)
        if self.render_mode == "human":
            text = info["prompt"] + info["completion"] if info else self._episode.text(0)
            self._printer.grow(text, is_over=bool(info))
        return (
            self._observation(info),
            float(result.rewards[0]),
            bool(result.is_terminated[0]),
            bool(result.is_truncated[0]),
            info,
        )

    def _play(self, utterance: object) -> StepResult:
        """The tokens of an utterance and a stop token, until the turn or the episode ends."""
        if not isinstance(utterance, str):
            raise InputError(f"expected a text as the action, got {type(utterance).__name__}")
        before = self._episode.text(0)
        ids = self.tokenizer.encode_continuation(before, utterance)
        ids.append(self.tokenizer.eos_token_id)
        episode, saved, turns = self._episode, self._episode.save(), self._episode.turn_count(0)
        try:
            for token_id in ids:
                result = episode.step(np.array([token_id]))
                if result.endings or episode.turn_count(0) > turns:
                    break
        except BaseException:
            episode.restore(saved)
            raise
        return result

    def _observation(self, ending: dict[str, Any] | None = None) -> Any:
        if self.action == "token":
            return self._episode.tokens[0].copy()
        if ending:
            return ending["prompt"] + ending["completion"]
        return self._episode.text(0)

    def render(self) -> str | None:
        """The text so far, prompt included, with "ansi"; else None ("human" has printed it)."""
        return self._episode.text(0) if self.render_mode == "ansi" else None


def token_spaces(
    task: Task, width: int, automaton: Automaton | None = None
) -> tuple[TokenRow, spaces.Discrete]:
    """Observation and action space of token actions: a row of ids, and one id."""
    size = task.tokenizer.vocab_size
    row = TokenRow(size, width, task.tokenizer.pad_token_id, automaton)
    return row, spaces.Discrete(size)


def text_spaces(task: Task, width: int, longest_prompt: int = 0) -> tuple[TextSpace, TextSpace]:
    """Observation and action space of text actions, in characters.

    A token that is written stands for at most as many characters as its own name in the vocabulary
    has; a prompt may have more where the tokenizer normalizes. An utterance may be longer than the
    budget: it is cut there.
    """
    longest = max(map(len, task.tokenizer.backend.get_vocab()))
    action = TextSpace(16 * task.max_new_tokens, sample_length=task.max_new_tokens)
    room = max(longest * width, longest_prompt + longest * task.max_new_tokens)
    return TextSpace(room), action
