"""The environment's dynamics for a batch of rows: the rules of the game, on which all play.

A row is one episode: prompt, then completion, right-padded, with an explicit length, because any id
of the vocabulary (pad included) may be written. One `step` appends a token to every row, in NumPy;
Python looks at single rows only where an episode or a turn ends, and asks the reward model once for
all of them. A step that fails (a reward model that raises, hangs or lies) leaves the rows as they
were.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from textgym.checks import check_memory
from textgym.envs.episode_infos import add_dialogue, ending_info, finish_reason, start_info
from textgym.envs.grouped_prompts import GroupedPrompts
from textgym.envs.legal_tokens import compile_constraint
from textgym.envs.replies import DIALOGUE_COLUMNS, Answer, Question, Replies
from textgym.envs.scoring import FinishedText, Scores
from textgym.envs.step_result import StepResult
from textgym.envs.stopping import StopRule
from textgym.envs.task import Task
from textgym.envs.texts.prompts import Prompt
from textgym.envs.turns import Replied, Turn
from textgym.errors import InputError
from textgym.tokenizer_decoding import Ids

# What each row has of its own: arrays whose first dimension it is, and lists.
_ARRAYS = (
    "tokens",
    "lengths",
    "_used",
    "_turn_starts",
    "_is_over",
    "_group_of",
    "_states",
    "_states_at",
    "_turn_rewards",
)
_LISTS = ("_prompts", "_game_states")


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
        self.scores = Scores(task)
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
        self._replies: Replies | None = None
        if task.reply is not None:
            chat = task.chat_template()
            self._replies = Replies(task.id, task.reply, task.tokenizer, chat, self.automaton)
        task.check_arguments(self.source)
        self._states = np.zeros(n, dtype=np.int64)
        self._states_at = np.zeros(n, dtype=np.int64)  # tokens of the row that a state knows of
        self._rows = np.arange(n)
        self.tokens = np.full((n, self.width), task.tokenizer.pad_token_id, dtype=np.int64)
        self.lengths = np.zeros(n, dtype=np.int64)
        self._used = np.zeros(n, dtype=np.int64)
        self._turn_starts = np.zeros(n, dtype=np.int64)
        self._is_over = np.ones(n, dtype=bool)
        self._prompts: list[Prompt | None] = [None] * n
        self._turns: list[list[Turn]] = [[] for _ in range(n)]
        self._game_states: list[dict[str, Any]] = [{} for _ in range(n)]
        self._turn_rewards = np.zeros(n)  # what the episode's turns were paid so far
        self.generators: list[np.random.Generator | None] = [None] * n  # what a reply draws from
        self._steps = 0

    # ---- starting ----------------------------------------------------------

    def reset(
        self, rows: Sequence[int], generators: Sequence[np.random.Generator]
    ) -> list[dict[str, Any]]:
        """Start new episodes in some rows.

        :param generators: one for each of `rows`; each draws its row's prompt.
        :return: the info of each: prompt, prompt_length and the prompt's columns.
        """
        dealt = [self.groups.next_prompt(generator) for generator in generators]
        if self.automaton is not None and self.automaton.constraint.after is not None:
            for prompt, _ in dealt:
                self.automaton.check_prompt(prompt.ids)
        pad, start = self.task.tokenizer.pad_token_id, 0
        if self.automaton is not None:
            start = self.automaton.start
        # Number by number: for the few rows that start in a step that is quicker than arrays.
        for row, generator, (prompt, group) in zip(rows, generators, dealt, strict=True):
            length = len(prompt.ids)
            self.generators[row] = generator
            self._group_of[row] = group
            tokens = self.tokens[row]
            tokens[:length] = prompt.ids
            tokens[length:] = pad
            self.lengths[row] = self._turn_starts[row] = self._states_at[row] = length
            self._states[row] = start
            self._used[row] = 0
            self._is_over[row] = False
            self._prompts[row] = prompt
            self._turns[row] = []
            self._game_states[row] = {}
            self._turn_rewards[row] = 0.0
        return [start_info(prompt) for prompt, _ in dealt]

    # ---- playing -----------------------------------------------------------

    def step(self, actions: np.ndarray) -> StepResult:
        """Append one token to every row.

        :param actions: int [n], ids of the vocabulary.
        :raises InputError: for another id, if an episode is over, or from the reply function;
            nothing has changed then.
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
        for row, reply in replies.items():
            self._keep_reply(row, reply)
        for row in result.endings:
            self._is_over[row] = True
        self.scores.await_scores(result.waiting)
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

    def _keep_reply(self, row: int, reply: Replied) -> None:
        """What a reply changes, once the step has succeeded."""
        self._game_states[row] = reply.answer.state
        self._turn_rewards[row] += reply.answer.reply.reward
        generator = self.generators[row]
        if reply.answer.generator is not None and generator is not None:
            generator.bit_generator.state = reply.answer.generator.bit_generator.state
        if reply.is_laid:
            start = int(self.lengths[row])
            ids = reply.answer.ids[: self.width - start]  # last words may have too little room
            self.tokens[row, start : start + len(ids)] = ids
            self.lengths[row] = self._turn_starts[row] = start + len(ids)
            self._turns[row] += reply.turns
            if self.automaton is not None:
                self._states[row] = self.automaton.start
                self._states_at[row] = self.lengths[row]

    def _judge(self, actions: np.ndarray) -> tuple[StepResult, dict[int, Replied]]:
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
        rewards = np.zeros(len(used))
        replies: dict[int, Replied] = {}
        if self._replies is not None and is_stop.any():
            for row, (own, answer) in self._ask(self._replies, is_stop, cuts).items():
                rewards[row] = answer.reply.reward
                is_stop[row] = answer.reply.terminated  # else the turn ended, not the dialogue
                is_terminated[row] = is_stop[row] or is_spent[row]
                is_full[row] = ends[row] + len(answer.ids) >= self.width and not is_terminated[row]
                replies[row] = Replied(own, answer, is_laid=not is_full[row])
        is_truncated = is_full & ~is_terminated
        if self.max_episode_steps is not None:
            is_truncated |= used >= self.max_episode_steps
        result = StepResult(rewards, is_terminated, is_truncated, {}, {})
        rows = np.flatnonzero(is_terminated | is_truncated).tolist()
        if rows:
            reasons = [
                finish_reason(is_terminated[row], is_stop[row], is_full[row]) for row in rows
            ]
            self._end(rows, reasons, cuts, result, replies)
        return result, replies

    def _ask(
        self, replies: Replies, is_stop: np.ndarray, cuts: dict[int, int]
    ) -> dict[int, tuple[Turn, Answer]]:
        """The turns that have just ended, and what the environment says to them."""
        rows = np.flatnonzero(is_stop).tolist()
        own = self._own_turns(rows, cuts)
        questions = []
        for row, turn in zip(rows, own, strict=True):
            generator = self.generators[row]
            assert generator is not None
            texts = [*(said.text for said in self._turns[row]), turn.text]
            state = self._game_states[row]
            is_stopped = bool(self._stop.is_stop_token[self.tokens[row, self.lengths[row]]])
            questions.append(Question(self._prompt(row), texts, state, generator, is_stopped))
        answers = replies.ask(questions)
        return dict(zip(rows, zip(own, answers, strict=True), strict=True))

    # ---- ending ------------------------------------------------------------

    def _end(
        self,
        rows: list[int],
        reasons: list[str],
        cuts: dict[int, int],
        result: StepResult,
        replies: dict[int, Replied],
    ) -> None:
        """Score the texts of `rows`; fill `result.endings` and add to `result.rewards`."""
        unfinished = [row for row in rows if row not in replies]
        own = dict(zip(unfinished, self._own_turns(unfinished, cuts), strict=True))
        turns = [
            [*self._turns[row], *(replies[row].turns if row in replies else [own[row]])]
            for row in rows
        ]
        for row, reason, parts in zip(rows, reasons, turns, strict=True):
            group = int(self._group_of[row]) if self.groups.size > 1 else None
            length = int(self._used[row]) + 1
            ending = ending_info(self._prompt(row), parts, reason, length, group)
            if self._replies is not None:
                state = replies[row].answer.state if row in replies else self._game_states[row]
                paid = float(self._turn_rewards[row] + result.rewards[row])
                add_dialogue(ending, parts, state, paid)
            result.endings[row] = ending
        asked = []
        for i, (row, reason) in enumerate(zip(rows, reasons, strict=True)):
            if reason == "length" and self.task.unfinished_score is not None:
                result.rewards[row] += self.task.unfinished_score
            elif result.is_terminated[row]:
                asked.append(i)
        if asked:
            self._score([rows[i] for i in asked], [turns[i] for i in asked], result)

    def _score(self, rows: list[int], turns: list[list[Turn]], result: StepResult) -> None:
        texts = []
        for row, parts in zip(rows, turns, strict=True):
            ending, columns = result.endings[row], self._prompt(row).columns
            if self._replies is not None:
                columns = {name: ending[name] for name in DIALOGUE_COLUMNS} | columns
            text = FinishedText(
                ending,
                ending["prompt"],
                ending["completion"],
                columns,
                parts,
                self._steps,
                float(result.rewards[row]),
            )
            texts.append(text)
        if self.scores.is_open:
            result.rewards[rows] = 0.0
            for row, text in zip(rows, texts, strict=True):
                text.keep_ids()
                result.waiting[row] = text
            return
        self.scores.ask(texts)
        result.rewards[rows] = [text.reward for text in texts]

    def _own_turns(self, rows: list[int], cuts: dict[int, int]) -> list[Turn]:
        """The player's current turn in each row, the token just written included."""
        before = [self.tokens[row, : self._turn_starts[row]] for row in rows]
        ids = [
            self.tokens[row, self._turn_starts[row] : self.lengths[row] + 1].tolist()
            for row in rows
        ]
        said = self._stop.without_stop_token(ids)
        texts = self.task.tokenizer.decode_continuations(before, said)
        return [
            Turn(text[: cuts.get(row, len(text))], own, start)
            for row, text, own, start in zip(rows, texts, ids, before, strict=True)
        ]

    # ---- looking -----------------------------------------------------------

    def _prompt(self, row: int) -> Prompt:
        prompt = self._prompts[row]
        if prompt is None:
            raise InputError("the episode has not begun: call reset() first")
        return prompt

    def start_infos(self) -> dict[int, dict[str, Any]]:
        """The reset info of each row that has begun."""
        begun = enumerate(self._prompts)
        return {row: start_info(prompt) for row, prompt in begun if prompt is not None}

    def turn_count(self, row: int) -> int:
        """How many turns of the row's dialogue are finished, the environment's included."""
        return len(self._turns[row])

    def text(self, row: int) -> str:
        """Prompt and completion so far, as text."""
        own = self.continued(row, self.tokens[row, self._turn_starts[row] : self.lengths[row]])
        return "".join([self._prompt(row).text, *(turn.text for turn in self._turns[row]), own])

    def continued(self, row: int, ids: Ids) -> str:
        """The text of token ids as the player's current turn in a row."""
        own = self._stop.without_stop_token([list(map(int, ids))])
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
        parts = {name: getattr(self, name).copy() for name in (*_ARRAYS, *_LISTS)}
        turns = [list(turns) for turns in self._turns]
        drawn = [g and copy.deepcopy(g.bit_generator.state) for g in self.generators]
        return parts | {"_turns": turns, "_steps": self._steps, "generators": drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        own = dict(state)
        for generator, drawn in zip(self.generators, own.pop("generators", ()), strict=False):
            if generator is not None:
                generator.bit_generator.state = drawn
        self.__dict__.update(own)

    def step_some(self, rows: Sequence[int], actions: np.ndarray) -> StepResult:
        """As `step`, for some rows while the others stand still.

        :param rows: their numbers, different ones.
        :param actions: int [len(rows)].
        :return: of all n rows; 0 and False where a row stood still.
        :raises InputError, RewardError: as `step`; nothing has changed then.
        """
        part, chosen = copy.copy(self), np.asarray(rows, np.int64)
        part._rows = np.arange(len(chosen))
        for name in _ARRAYS:
            setattr(part, name, getattr(self, name)[chosen])
        for name in (*_LISTS, "_turns", "generators"):
            setattr(part, name, [getattr(self, name)[row] for row in rows])
        result = part.step(actions)
        for name in _ARRAYS:
            getattr(self, name)[chosen] = getattr(part, name)
        for name in (*_LISTS, "_turns"):
            for row, value in zip(rows, getattr(part, name), strict=True):
                getattr(self, name)[row] = value
        self._steps = part._steps
        return result.among(rows, len(self._rows))
