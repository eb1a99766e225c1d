"""The rules of the game, for a batch of rows at once. Every environment of textgym plays on this.

A row is one episode: prompt, then completion, right-padded, with an explicit length, because any id
of the vocabulary (pad included) may be written. One `step` appends a token to every row, in NumPy;
Python looks at single rows only where an episode or a turn ends, and asks the reward model once for
all of them. A step that fails (a reward model that raises, hangs or lies) leaves the rows as they
were.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from textgym.checks import check_memory
from textgym.envs.dense_rewards import token_rewards
from textgym.envs.grouped_prompts import GroupedPrompts
from textgym.envs.legal_tokens import compile_constraint
from textgym.envs.stopping import StopRule
from textgym.envs.task import Task
from textgym.envs.texts.prompts import Prompt, fresh_columns
from textgym.errors import InputError
from textgym.reward_arguments import TOKEN_IDS, signature_of
from textgym.rewards import call_reward, check_arguments, shorten
from textgym.tokenizer import Ids


class StepResult(NamedTuple):
    """What one step did to n rows.

    :param rewards: float64 [n].
    :param is_terminated: bool [n]: stopped, or met the budget.
    :param is_truncated: bool [n]: met an outer limit or a full context; such a text is not scored.
    :param endings: the info of each row that ended.
    """

    rewards: np.ndarray
    is_terminated: np.ndarray
    is_truncated: np.ndarray
    endings: dict[int, dict[str, Any]]


class _Turn(NamedTuple):
    """A finished part of a dialogue.

    :param ids: the player's; None where the environment spoke.
    :param before: the ids of the row in front of the player's.
    """

    text: str
    ids: list[int] | None
    before: Ids = ()


class EpisodeRows:
    """n episodes of one task.

    :param max_episode_steps: an outer limit in tokens; meeting it truncates.
    :param num_generations: episodes of each prompt that is drawn: it goes to the next so many rows
        that start. They make a group, whose number is `info["group"]`; with 1 there is no such key.
    :raises InputError: see `PromptSource` and `StopRule`.
    """

    def __init__(
        self,
        task: Task,
        n: int,
        max_episode_steps: int | None = None,
        num_generations: int = 1,
    ) -> None:
        self.task = task
        self.source = task.prompt_source()
        self.source.warn_of_cuts(task.id)
        self._wants_ids = TOKEN_IDS in signature_of(task.reward).names
        if len(self.source):  # a function's columns are known only when it is called
            check_arguments(task.reward, self.source.all()[0].columns)
        self.width = task.width(self.source)
        check_memory(
            n * (32 * self.width + 1000),  # the tokens and their copies; Python's part of a row
            f"n_envs={n} with rows of {self.width} tokens (prompt and max_new_tokens)",
            "take fewer rows, or shorter ones",
        )
        self.max_episode_steps = max_episode_steps
        self.groups = GroupedPrompts(self.source, num_generations)
        self._group_of = np.zeros(n, dtype=np.int64)
        self._stop = StopRule(task)
        self.automaton = compile_constraint(task, self.source, self._stop)
        self._states = np.zeros(n, dtype=np.int64)
        self._states_at = np.zeros(n, dtype=np.int64)  # tokens of the row that a state knows of
        self._rows = np.arange(n)
        self.tokens = np.full((n, self.width), task.tokenizer.pad_token_id, dtype=np.int64)
        self.lengths = np.zeros(n, dtype=np.int64)
        self._used = np.zeros(n, dtype=np.int64)
        self._turn_starts = np.zeros(n, dtype=np.int64)
        self._is_over = np.ones(n, dtype=bool)
        self._prompts: list[Prompt | None] = [None] * n
        self._turns: list[list[_Turn]] = [[] for _ in range(n)]
        self._steps = 0

    # ---- starting ----------------------------------------------------------

    def reset(
        self, rows: Sequence[int], generators: Sequence[np.random.Generator]
    ) -> list[dict[str, Any]]:
        """Start new episodes in some rows.

        :param generators: one for each of `rows`; each draws its row's prompt.
        :return: the info of each: prompt, prompt_length and the prompt's columns.
        """
        dealt = [self.groups.deal(generator) for generator in generators]
        drawn = [prompt for prompt, _ in dealt]
        if self.automaton is not None and self.automaton.constraint.after is not None:
            for prompt in drawn:
                self.automaton.check_prompt(prompt.ids)
        self._group_of[list(rows)] = [group for _, group in dealt]
        pad = self.task.tokenizer.pad_token_id
        for row, prompt in zip(rows, drawn, strict=True):
            length = len(prompt.ids)
            self.tokens[row, :length] = prompt.ids
            self.tokens[row, length:] = pad
            self.lengths[row] = self._turn_starts[row] = self._states_at[row] = length
            self._states[row] = 0 if self.automaton is None else self.automaton.start
            self._used[row] = 0
            self._is_over[row] = False
            self._prompts[row] = prompt
            self._turns[row] = []
        return [_start_info(prompt) for prompt in drawn]

    # ---- playing -----------------------------------------------------------

    def step(self, actions: np.ndarray) -> StepResult:
        """Append one token to every row.

        :param actions: int [n], ids of the vocabulary.
        :raises InputError: for another id, or if an episode is over; nothing has changed then.
        :raises RewardError: from the reward model; nothing has changed then either.
        """
        actions = self._checked(actions)
        self.tokens[self._rows, self.lengths] = actions
        try:
            result, replies = self._judge(actions)
        except BaseException:
            self.tokens[self._rows, self.lengths] = self.task.tokenizer.pad_token_id
            raise
        self.lengths += 1
        self._used += 1
        self._steps += 1
        for row, (own, words, ids) in replies.items():
            start = self.lengths[row]
            self.tokens[row, start : start + len(ids)] = ids
            self.lengths[row] = self._turn_starts[row] = start + len(ids)
            self._turns[row] += [own, _Turn(words, None)]
        for row in result.endings:
            self._is_over[row] = True
        return result

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.shape != self._rows.shape or actions.dtype.kind not in "iu":
            raise InputError(
                f"expected {len(self._rows)} token ids (integers), got an array of "
                f"{actions.dtype} with shape {actions.shape}"
            )
        size = len(self._stop.is_stop_token)
        if actions.min() < 0 or actions.max() >= size:
            wrong = actions[(actions < 0) | (actions >= size)][0]
            raise InputError(f"expected token ids from 0 to {size - 1}, got {wrong}")
        if self._is_over.any():
            raise InputError("the episode is over or has not begun: call reset() before step()")
        return actions

    def _judge(
        self, actions: np.ndarray
    ) -> tuple[StepResult, dict[int, tuple[_Turn, str, list[int]]]]:
        """What the tokens just written lead to, without changing anything yet."""
        used, ends = self._used + 1, self.lengths + 1
        is_stop = self._stop.is_stop_token[actions]
        cuts: dict[int, int] = {}
        if self._stop.strings:
            cuts = self._stop.string_cuts(self.tokens, self._turn_starts, ends, ~is_stop)
            is_stop[list(cuts)] = True
        is_spent = used >= self.task.max_new_tokens
        is_terminated = is_stop | is_spent
        is_full = ends >= self.width
        replies: dict[int, tuple[_Turn, str, list[int]]] = {}
        if self.task.reply is not None:
            for row in np.flatnonzero(is_stop & ~is_spent).tolist():
                reply = self._ask_reply(row, cuts)
                if reply is None:
                    continue  # the dialogue is over
                is_terminated[row] = False
                is_full[row] = ends[row] + len(reply[2]) >= self.width
                if not is_full[row]:
                    replies[row] = reply
        is_truncated = is_full & ~is_terminated
        if self.max_episode_steps is not None:
            is_truncated |= used >= self.max_episode_steps
        result = StepResult(np.zeros(len(used)), is_terminated, is_truncated, {})
        rows = np.flatnonzero(is_terminated | is_truncated).tolist()
        if rows:
            reasons = [_reason(is_terminated[row], is_stop[row], is_full[row]) for row in rows]
            self._end(rows, reasons, cuts, result)
        return result, replies

    def _ask_reply(self, row: int, cuts: dict[int, int]) -> tuple[_Turn, str, list[int]] | None:
        """The player's finished turn, the environment's words, and their ids; None at the end."""
        assert self.task.reply is not None
        own = self._own_turns([row], cuts)[0]
        turns = [turn.text for turn in self._turns[row]] + [own.text]
        prompt = self._prompt(row).text
        try:
            words = self.task.reply(prompt, list(turns))
            if words is None:
                return None
            ids = self.task.tokenizer.encode_continuation("".join([prompt, *turns]), words)
            return own, words, ids
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: it would end the run without a word
            message = " ".join(str(error).split())[:300]
            raise InputError(
                f"the reply function of {self.task.id!r} failed with {type(error).__name__}: "
                f"{message} (prompt {shorten(prompt)!r}); it must return a text or None"
            ) from error

    # ---- ending ------------------------------------------------------------

    def _end(
        self, rows: list[int], reasons: list[str], cuts: dict[int, int], result: StepResult
    ) -> None:
        """Score the texts of `rows` and fill `result.rewards` and `result.endings`."""
        own = self._own_turns(rows, cuts)
        turns = [[*self._turns[row], turn] for row, turn in zip(rows, own, strict=True)]
        for row, reason, parts in zip(rows, reasons, turns, strict=True):
            prompt = self._prompt(row)
            result.endings[row] = {
                "finish_reason": reason,
                "prompt": prompt.text,
                "prompt_length": len(prompt.ids),
                "completion": "".join(part.text for part in parts),
                "completion_length": int(self._used[row]) + 1,
                "reward_components": {},
            }
            if prompt.cut:
                result.endings[row]["prompt_cut"] = prompt.cut
            if self.groups.size > 1:
                result.endings[row]["group"] = int(self._group_of[row])
            if prompt.columns:
                result.endings[row]["columns"] = fresh_columns(prompt)
        asked = []
        for i, (row, reason) in enumerate(zip(rows, reasons, strict=True)):
            if reason == "length" and self.task.unfinished_score is not None:
                result.rewards[row] = self.task.unfinished_score
            elif result.is_terminated[row]:
                asked.append(i)
        if asked:
            self._score([rows[i] for i in asked], [turns[i] for i in asked], result)

    def _score(self, rows: list[int], turns: list[list[_Turn]], result: StepResult) -> None:
        endings = [result.endings[row] for row in rows]
        prompts = [self._prompt(row) for row in rows]
        names = {name: None for prompt in prompts for name in prompt.columns}
        output = call_reward(
            self.task.reward,
            [ending["prompt"] for ending in endings],
            [ending["completion"] for ending in endings],
            {name: [prompt.columns.get(name) for prompt in prompts] for name in names},
            completion_ids=[_own_ids(parts) for parts in turns] if self._wants_ids else None,
            step=self._steps,
            timeout=self.task.reward_timeout,
            retries=self.task.reward_retries,
        )
        result.rewards[rows] = output.scores
        for name, values in output.components.items():
            for ending, value in zip(endings, values, strict=True):
                if value == value:  # NaN: the part does not apply to this text
                    ending["reward_components"][name] = float(value)
        if output.spans is not None:
            for row, ending, spans, parts in zip(rows, endings, output.spans, turns, strict=True):
                total = float(result.rewards[row])
                said = [(part.text, part.ids) for part in parts]
                before = [part.before for part in parts]
                ending["token_rewards"] = token_rewards(
                    total, spans, said, self.task.tokenizer, before
                )

    def _own_turns(self, rows: list[int], cuts: dict[int, int]) -> list[_Turn]:
        """The player's current turn in each row, the token just written included."""
        before = [self.tokens[row, : self._turn_starts[row]] for row in rows]
        ids = [
            self.tokens[row, self._turn_starts[row] : self.lengths[row] + 1].tolist()
            for row in rows
        ]
        texts = self.task.tokenizer.decode_continuations(before, self._without_stop(ids))
        return [
            _Turn(text[: cuts.get(row, len(text))], own, start)
            for row, text, own, start in zip(rows, texts, ids, before, strict=True)
        ]

    def _without_stop(self, rows: list[list[int]]) -> list[list[int]]:
        """Rows of ids without the stop token at their end, which is no text even if it looks so."""
        return [ids[:-1] if ids and self._stop.is_stop_token[ids[-1]] else ids for ids in rows]

    # ---- looking -----------------------------------------------------------

    def _prompt(self, row: int) -> Prompt:
        prompt = self._prompts[row]
        if prompt is None:
            raise InputError("the episode has not begun: call reset() first")
        return prompt

    def start_infos(self) -> dict[int, dict[str, Any]]:
        """The reset info of each row that has begun."""
        begun = enumerate(self._prompts)
        return {row: _start_info(prompt) for row, prompt in begun if prompt is not None}

    def turn_count(self, row: int) -> int:
        """How many turns of the row's dialogue are finished, the environment's included."""
        return len(self._turns[row])

    def text(self, row: int) -> str:
        """Prompt and completion so far, as text."""
        own = self.continued(row, self.tokens[row, self._turn_starts[row] : self.lengths[row]])
        return "".join([self._prompt(row).text, *(turn.text for turn in self._turns[row]), own])

    def continued(self, row: int, ids: Ids) -> str:
        """The text of token ids as the player's current turn in a row."""
        own = self._without_stop([list(map(int, ids))])
        return self.task.tokenizer.decode_continuations(
            [self.tokens[row, : self._turn_starts[row]]], own
        )[0]

    def constraint_states(self) -> np.ndarray:
        """int64 [n]: where each completion stands in the automaton; 0 without a constraint.

        Rows are read on from where they were read last, so nobody pays who does not ask.
        """
        if self.automaton is not None:
            for row in self._rows.tolist():
                state, end = int(self._states[row]), int(self.lengths[row])
                for token_id in self.tokens[row, self._states_at[row] : end].tolist():
                    state = self.automaton.advance(state, token_id)
                self._states[row], self._states_at[row] = state, end
        return self._states.copy()

    def save(self) -> dict[str, Any]:
        """The state of all rows, for `restore`."""
        names = ["tokens", "lengths", "_used", "_turn_starts", "_is_over", "_group_of"]
        names += ["_states", "_states_at"]
        arrays = {name: getattr(self, name).copy() for name in names}
        turns = [list(turns) for turns in self._turns]
        return arrays | {"_turns": turns, "_steps": self._steps, "_prompts": list(self._prompts)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.__dict__.update(state)


def _start_info(prompt: Prompt) -> dict[str, Any]:
    return {"prompt": prompt.text, "prompt_length": len(prompt.ids), **fresh_columns(prompt)}


def _own_ids(turns: list[_Turn]) -> list[int]:
    """The token ids of a dialogue that the player wrote."""
    return [int(i) for turn in turns if turn.ids is not None for i in turn.ids]


def _reason(is_terminated: bool, is_stop: bool, is_full: bool) -> str:
    if is_terminated:
        return "stop" if is_stop else "length"
    return "context" if is_full else "truncated"
