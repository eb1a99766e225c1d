"""The reply function of a task, asked and checked: what the environment says in a dialogue.

Its arguments are matched by name, as a reward model's are: `prompt`, `turns` (the texts so far, the
player's first), `state` (a dictionary of the episode's own, empty at its start), `np_random` (the
generator of the episode's row) and the columns of the prompt. Two arguments in front with other
names are the prompt and the turns. A function that names `prompts` is asked once for all rows that
wait for words; each of its arguments is then a list, one entry a row, and so is its answer.

The function gets copies of the state and of the generator. What it did to them counts only once the
whole step has succeeded, so that a step which failed can be repeated.
"""

import copy
import inspect
import json
import numbers
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from textgym.chat_templates import ChatTemplate
from textgym.constraints.automaton import Automaton
from textgym.envs.texts.prompts import Prompt, fresh_columns
from textgym.errors import InputError
from textgym.reward_answers import LARGEST_SCORE, shorten
from textgym.reward_arguments import Signature, match_arguments, signature_of
from textgym.states import exact_json
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_context import clean_unicode

ReplyFunction = Callable[..., Any]

DIALOGUE_COLUMNS = ("turns", "state")
"""What a reward model may ask for beside the columns of the prompts."""

REPLY_ARGUMENTS = ("turns", "state", "np_random")
"""What a reply function may ask for beside the prompt and its columns."""

_BATCH = "prompts"
_IN_FRONT = ("prompt", "turns")


@dataclass(frozen=True)
class Reply:
    """What a reply function may return instead of a text.

    :param text: the environment's next words, or its last ones.
    :param reward: paid at the last token of the turn that has just ended.
    :param terminated: the game is over, won or lost.
    """

    text: str = ""
    reward: float = 0.0
    terminated: bool = False


class Question(NamedTuple):
    """A row that waits for the environment's words.

    :param turns: the texts so far, the turn that has just ended included.
    :param is_stopped: a stop token ended it, and not a stop string.
    """

    prompt: Prompt
    turns: list[str]
    state: dict[str, Any]
    generator: np.random.Generator
    is_stopped: bool


class Answer(NamedTuple):
    """What a row gets.

    :param ids: the token ids of the reply's text.
    :param state: the episode's state from now on.
    :param generator: as the row's generator is from now on; None: unchanged.
    """

    reply: Reply
    ids: list[int]
    state: dict[str, Any]
    generator: np.random.Generator | None


class Replies:
    """Asks a task's reply function.

    :param task_id: for errors.
    :param chat: the template that writes replies, as it writes prompts; None: they stand as they
        are.
    :param automaton: the compiled constraint; every reply that the player answers must then end
        with the constraint's `after`.
    """

    def __init__(
        self,
        task_id: str,
        function: ReplyFunction,
        tokenizer: Tokenizer,
        chat: ChatTemplate | None,
        automaton: Automaton | None,
    ) -> None:
        self._label, self._chat = _label(task_id), chat
        self._function, self._tokenizer, self._automaton = function, tokenizer, automaton
        self._signature = signature_of(function)
        self._is_batched = _BATCH in self._signature.names

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to some rows; nothing of the questions changes.

        :raises InputError: in one line that names a prompt, if the function raises or returns what
            is no reply, or leaves a state that JSON cannot hold.
        """
        supplied = [self._supplied(question) for question in questions]
        if self._is_batched:
            together = {
                name: [arguments.get(name) for arguments in supplied]
                for name in dict.fromkeys(name for arguments in supplied for name in arguments)
            }
            values = self._call(together, questions[0])
            if not isinstance(values, list | tuple) or len(values) != len(questions):
                got = f"{len(values)}" if isinstance(values, list | tuple) else repr(values)[:60]
                raise self._error(
                    f"returned {got}, expected a list of {len(questions)} replies, one for each "
                    "prompt",
                    questions[0],
                )
            for arguments, state in zip(supplied, together.get("state", ()), strict=False):
                arguments["state"] = state  # which may stand there in the place of the one given
        else:
            values = [self._call(a, q) for a, q in zip(supplied, questions, strict=True)]
        rows = zip(values, supplied, questions, strict=True)
        return [self._answer(value, arguments, question) for value, arguments, question in rows]

    def _supplied(self, question: Question) -> dict[str, Any]:
        signature = self._signature
        supplied: dict[str, Any] = fresh_columns(question.prompt)
        supplied[_BATCH if self._is_batched else "prompt"] = question.prompt.text
        supplied["turns"] = list(question.turns)
        for name, value in (("state", question.state), ("np_random", question.generator)):
            if name in signature.names or signature.takes_more:
                supplied[name] = copy.deepcopy(value)
        return supplied

    def _call(self, supplied: dict[str, Any], question: Question) -> Any:
        _name_those_in_front(self._signature, supplied)
        if what := _lacking(self._signature, supplied, question.prompt.columns):
            raise self._error(what, question)
        try:
            arguments, keywords = match_arguments(self._signature, supplied, _IN_FRONT)
            value = self._function(*arguments, **keywords)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: it would end the run without a word
            message = " ".join(str(error).split())[:300]
            raise self._error(f"failed with {type(error).__name__}: {message}", question) from error
        if inspect.iscoroutine(value):  # of an ordinary function that calls an async one
            value.close()  # else Python warns that nobody waited for it
            raise self._error(
                "returned a coroutine, which nobody waits for: write asyncio.run(...) around it",
                question,
            )
        return value

    def _answer(self, value: Any, arguments: dict[str, Any], question: Question) -> Answer:
        reply = self._checked(value, question)
        said = [question.prompt.text, *question.turns]
        try:
            if self._chat is None:
                ids = self._tokenizer.encode_continuation("".join(said), reply.text)
            else:
                said = [*said, clean_unicode(reply.text)]
                ids = self._chat.encode_reply(said, is_stopped=question.is_stopped)
        except InputError as error:
            raise self._error(f"returned {reply.text!r:.60}: {error}", question) from error
        ends = None if self._automaton is None else self._automaton.ends
        if ends is not None and not reply.terminated and ends.find(ids) != len(ids):
            assert self._automaton is not None
            raise self._error(
                f"returned {reply.text!r:.60}, expected words that end with the constraint's "
                f"after={self._automaton.constraint.after!r:.40} and hold it only there",
                question,
            )
        state = arguments.get("state", question.state)
        if state is not question.state:
            state = self._as_json(state, question)
        return Answer(reply, ids, state, arguments.get("np_random"))

    def _checked(self, value: Any, question: Question) -> Reply:
        if value is None:
            return Reply(terminated=True)
        if isinstance(value, str):
            return Reply(value)
        if not isinstance(value, Reply) or not isinstance(value.text, str):
            raise self._error(
                f"returned {value!r:.60}, expected a text, a textgym.Reply or None", question
            )
        reward = value.reward
        is_number = isinstance(reward, numbers.Real) and not isinstance(reward, bool | np.bool_)
        if not is_number or not abs(float(reward)) <= LARGEST_SCORE:
            raise self._error(
                f"returned the reward {reward!r:.40}, expected a number up to ±{LARGEST_SCORE:g}",
                question,
            )
        if not isinstance(value.terminated, bool | np.bool_):
            raise self._error(
                f"returned terminated={value.terminated!r:.40}, expected true or false", question
            )
        return Reply(value.text, float(reward), bool(value.terminated))

    def _as_json(self, state: Any, question: Question) -> dict[str, Any]:
        """The state as a run's saved state would bring it back."""
        text = exact_json(state) if isinstance(state, dict) else None
        if text is None:
            raise self._error(
                f"left the state {state!r:.60}, expected what JSON holds: texts, finite numbers, "
                "true, false, None, lists, and dictionaries with texts as keys",
                question,
            )
        return dict(json.loads(text))  # with NumPy's numbers as plain ones

    def _error(self, what: str, question: Question) -> InputError:
        return InputError(f"{self._label} {what} (prompt {shorten(question.prompt.text)!r})")


def check_reply_arguments(task_id: str, function: ReplyFunction, columns: Iterable[str]) -> None:
    """Raises unless everything that a reply function asks for is there, before it is first called.

    :param columns: names of the prompts' columns.
    :raises InputError: naming what it asks for.
    """
    signature = signature_of(function)
    own = (_BATCH if _BATCH in signature.names else "prompt", *REPLY_ARGUMENTS)
    supplied = dict.fromkeys((*columns, *own))
    _name_those_in_front(signature, supplied)
    if what := _lacking(signature, supplied, columns):
        raise InputError(f"{_label(task_id)} {what}")


def _lacking(signature: Signature, supplied: Container[str], columns: Iterable[str]) -> str:
    """Half a sentence about what nobody supplies; "" if there is nothing."""
    lacking = [n for n in signature.names if n in signature.required and n not in supplied]
    if not lacking:
        return ""
    own = (_BATCH if _BATCH in signature.names else "prompt", *REPLY_ARGUMENTS)
    return (
        f"asks for {', '.join(map(repr, lacking))}, which nobody supplies: expected "
        f"{', '.join(own)} or a column of the prompts "
        f"({', '.join(map(repr, sorted(columns))) or 'there are none'})"
    )


def _label(task_id: str) -> str:
    return f"the reply function of {task_id!r}"


def _name_those_in_front(signature: Signature, supplied: dict[str, Any]) -> None:
    """Give the prompt and the turns to arguments in front that have names of their own."""
    for name, meant in zip(signature.positional, _IN_FRONT, strict=False):
        if name in signature.required and name not in supplied and meant in supplied:
            supplied[name] = supplied[meant]
