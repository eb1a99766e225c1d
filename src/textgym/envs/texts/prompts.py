"""Where an environment's prompts come from: a list, a file, or a function of a NumPy generator.

A prompt is a text, or a mapping with the key "prompt" whose other keys are columns: they reach the
reward model by name, and the player never sees them. Everything is read, encoded and checked when
the environment is made, so that a bad line is an error at the start and not in the middle of a run.
"""

import contextlib
import copy
import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from textgym.chat_templates import ChatTemplate
from textgym.envs.texts.records import given_rows, read_records, text_format
from textgym.errors import InputError, TextGymError
from textgym.rewards import fresh
from textgym.tokenizer import Tokenizer

PromptFunction = Callable[[np.random.Generator], "str | Mapping[str, Any] | Prompt"]
Prompts = Sequence[str] | Sequence[Mapping[str, Any]] | str | Path | PromptFunction

# Names of the reward contract, and keys beside the columns in an info of Gymnasium's.
RESERVED_COLUMNS = frozenset({"prompts", "completions", "prompt_length", "final_obs", "final_info"})


class Prompt(NamedTuple):
    """One prompt as the environment uses it.

    :param text: what the player sees and the reward model gets.
    :param ids: int64 [p], with the tokenizer's start token where it has one, and with what a chat
        template writes around the text.
    :param columns: the further columns.
    :param cut: tokens that were cut off its start.
    """

    text: str
    ids: np.ndarray
    columns: dict[str, Any]
    cut: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Prompt":
        """Itself: a prompt never changes, and its source knows it by identity."""
        return self


class PromptSource:
    """Draws prompts, each already encoded.

    :param prompts: list of texts or of mappings with "prompt"; a dataset of the library `datasets`
        with the column "prompt"; a path (.txt: a prompt a line;
        .jsonl: an object a line; .csv: with a header; each also .gz; blank lines are skipped); or
        a function of a NumPy generator that gives a text or a mapping (or a `Prompt` of another
        source, which stays as it is).
    :param max_prompt_tokens: the longest prompt allowed; a function needs it.
    :param truncate_prompt: cut a longer prompt at its start instead of refusing it, and count it in
        `truncated_count`. The player and the reward model then see the rest. The first such prompt
        of a function warns; `warn_of_cuts` speaks of a list or file.
    :param chat: each prompt is a user's message: its ids are those of the chat template, its text
        stays as it is, and only the message is cut.
    :param reserved: names that no column may have here: those of a dialogue's own.
    :raises InputError: naming file and line or index: no prompts, an empty or over-long one, one
        that cannot be encoded, columns that differ.
    """

    def __init__(
        self,
        prompts: Prompts,
        tokenizer: Tokenizer,
        *,
        max_prompt_tokens: int | None = None,
        truncate_prompt: bool = False,
        chat: ChatTemplate | None = None,
        reserved: Collection[str] = (),
    ) -> None:
        self._tokenizer, self._chat = tokenizer, chat
        self._limit = max_prompt_tokens
        self._truncate = truncate_prompt
        self._reserved = frozenset(reserved)
        self.truncated_count = 0
        self._function: PromptFunction | None = None
        self._prompts: list[Prompt] = []
        self._places: dict[int, int] = {}
        if callable(prompts):
            if max_prompt_tokens is None:
                raise InputError(
                    "prompts given as a function need max_prompt_tokens: the width of the "
                    "observation must be known beforehand"
                )
            self._function, self.max_tokens = prompts, max_prompt_tokens
            return
        rows = [(where, *_split_row(row, where, self._reserved)) for where, row in _rows(prompts)]
        if not rows:
            source = prompts if isinstance(prompts, str | Path) else "the list"
            raise InputError(f"no prompts: expected at least one in {source}")
        _check_columns(rows)
        self._prompts = self._encode(rows)
        self._places = _places(self._prompts)
        longest = max(len(prompt.ids) for prompt in self._prompts)
        self.max_tokens = longest if max_prompt_tokens is None else max_prompt_tokens

    def __len__(self) -> int:
        """How many prompts there are; 0 for a function, which has no end."""
        return len(self._prompts)

    def all(self) -> list[Prompt]:
        """The prompts of a list or file, in order."""
        return list(self._prompts)

    def at(self, place: int) -> Prompt:
        """A prompt of a list or file by its place."""
        return self._prompts[place]

    def place(self, prompt: Prompt) -> int | None:
        """The place of one of the list's or file's own prompts; None for others."""
        return self._places.get(id(prompt))

    @property
    def vocab_size(self) -> int:
        """Tokens that a prompt may be made of."""
        return self._tokenizer.vocab_size

    @property
    def function(self) -> PromptFunction | None:
        """What gives the prompts, where it is a function."""
        return self._function

    def draw(self, generator: np.random.Generator) -> Prompt:
        """One prompt, uniformly from a list or file."""
        if self._function is None:
            return self._prompts[int(generator.integers(len(self._prompts)))]
        where = "prompt function"
        try:
            row = self._function(generator)
        except (TextGymError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit too: it would end the run without a word
            message = " ".join(str(error).split())
            raise InputError(
                f"the {where} raised {type(error).__name__}: {message:.300}; it must return a text "
                "or a mapping with 'prompt'"
            ) from error
        if isinstance(row, Prompt):
            return row
        text, columns = _split_row(row, where, self._reserved)
        prompt = self._encode([(where, text, columns)])[0]
        if prompt.cut and self.truncated_count == 1:
            warnings.warn(
                f"{where}: a prompt of more than {self._limit} tokens lost {prompt.cut} at its "
                "start (truncate_prompt); later ones are cut too and counted as text/prompts_cut",
                stacklevel=2,
            )
        return prompt

    def warn_of_cuts(self, task: str) -> None:
        """Say how many prompts of a list or file were cut, if any."""
        if self._prompts and self.truncated_count:
            warnings.warn(
                f"{task}: {self.truncated_count} of {len(self._prompts)} prompts are longer than "
                f"{self._limit} tokens and are cut at their start (truncate_prompt): the player "
                "and the reward model see the rest",
                stacklevel=3,
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "PromptSource":
        """A copy that shares the prompts, which never change."""
        return copy.copy(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _places=_places(state["_prompts"]))

    def _encode(self, rows: list[tuple[str, str, dict[str, Any]]]) -> list[Prompt]:
        for where, text, _ in rows:
            _check_unicode(text, where)
        texts = [text for _, text, _ in rows]
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=True)
        decoded = self._tokenizer.decode_batch(encoded)
        return [
            self._checked(where, text, columns, ids, back)
            for (where, text, columns), ids, back in zip(rows, encoded, decoded, strict=True)
        ]

    def _checked(
        self, where: str, text: str, columns: dict[str, Any], ids: list[int], decoded: str
    ) -> Prompt:
        if not ids or (text != decoded and _is_lossy(self._tokenizer, text, ids, decoded)):
            raise InputError(
                f"{where}: the tokenizer lacks characters of {text[:60]!r}: remove them "
                "or use the byte tokenizer"
            )
        if self._chat is not None:
            with _naming(where):
                ids = self._chat.encode_prompt(text)
        cut = 0 if self._limit is None else max(0, len(ids) - self._limit)
        if self._limit is not None and cut:
            if not self._truncate:
                around = "" if self._chat is None else ", chat template included"
                raise InputError(
                    f"{where}: expected at most {self._limit} tokens, the prompt {text[:40]!r} has "
                    f"{len(ids)}{around}: shorten it, raise max_prompt_tokens or set "
                    "truncate_prompt=True"
                )
            self.truncated_count += 1
            if self._chat is None:
                ids = _keep_end(ids, self._limit, self._tokenizer.start_ids)
                text = self._tokenizer.decode(ids)
            else:
                with _naming(where):
                    text, ids, cut = self._chat.fit_prompt(text, self._limit)
        return Prompt(text, np.array(ids, dtype=np.int64), columns, cut)


def _places(prompts: list[Prompt]) -> dict[int, int]:
    return {id(prompt): place for place, prompt in enumerate(prompts)}


def fresh_columns(prompt: Prompt) -> dict[str, Any]:
    """The columns of a prompt, copied so that an info's owner may change them."""
    return {name: fresh(value) for name, value in prompt.columns.items()}


def check_source(prompts: object, name: str = "prompts") -> None:
    """The cheap checks of a source, before anything is read or encoded.

    :param name: what an error calls it.
    :raises InputError: for another type, a file that is not there, or one of another format.
    """
    if isinstance(prompts, str | Path):
        text_format(prompts)
    elif not callable(prompts) and not isinstance(prompts, list | tuple):
        if not hasattr(prompts, "column_names") or isinstance(prompts, Mapping):
            raise InputError(
                f"{name} must be a list of texts, a path, a dataset or a function, got "
                f"{type(prompts).__name__}{_way_out(prompts)}"
            )


def check_rows(prompts: Sequence[object], name: str) -> None:
    """Raises unless a list holds prompts, each a text or a mapping with "prompt".

    :param name: what an error calls it.
    :raises InputError: naming the first that is none.
    """
    if not prompts:
        raise InputError(f"{name}: no prompts: expected at least one in the list")
    for i, row in enumerate(prompts):
        _split_row(row, f"{name}[{i}]", ())


def _way_out(prompts: object) -> str:
    if isinstance(prompts, Mapping):
        return ": pass one of its splits (dataset['train'])"
    return ": pass table.to_dict('records')" if hasattr(prompts, "iloc") else ""


def _rows(prompts: object) -> Iterator[tuple[str, object]]:
    """(where, row) of every row of a list or file."""
    check_source(prompts)
    if isinstance(prompts, str | Path):
        is_plain = text_format(prompts) == ".txt"
        for record in read_records(prompts):
            values = record.values
            yield f"{prompts}, line {record.line}", values["text"] if is_plain else values
    else:
        rows = given_rows(prompts, "prompts")
        yield from ((f"prompts[{i}]", row) for i, row in enumerate(rows))


def _split_row(row: object, where: str, reserved: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Text and columns of one row."""
    columns: dict[str, Any] = {}
    if isinstance(row, Mapping):
        columns = {key: value for key, value in row.items() if key != "prompt"}
        if "prompt" not in row:
            raise InputError(f"{where}: expected the key 'prompt', got {list(row)!r:.80}")
        for key in columns:
            if not isinstance(key, str) or key in RESERVED_COLUMNS or key.startswith("_"):
                raise InputError(f"{where}: {key!r} cannot be the name of a column: rename it")
            if key in reserved:
                raise InputError(
                    f"{where}: {key!r} cannot be the name of a column in a dialogue, where the "
                    "reply gets the game's own by that name: rename the column"
                )
        columns = {
            key: _copied(value, f"{where}, column {key!r}") for key, value in columns.items()
        }
        row = row["prompt"]
    if not isinstance(row, str):
        raise InputError(
            f"{where}: expected a text, or a mapping with 'prompt', got {type(row).__name__}"
        )
    if not row:
        raise InputError(f"{where}: empty prompt: expected at least one character; remove the line")
    return row, columns


def _copied(value: Any, where: str) -> Any:
    """A column's value as it is now; everybody who is given it later gets a copy of that.

    :raises InputError: for one that cannot be copied, such as an open file.
    """
    try:
        return fresh(value)
    except Exception as error:
        raise InputError(
            f"{where}: a {type(value).__name__} cannot be copied ({error!s:.60}), but whoever "
            "sees a column gets a copy: put a path, a number or a text there"
        ) from None


def _check_columns(rows: Iterable[tuple[str, str, dict[str, Any]]]) -> None:
    expected: list[str] | None = None
    for where, _, columns in rows:
        names = sorted(columns)
        if expected is None:
            expected = names
        elif names != expected:
            raise InputError(
                f"{where}: expected the columns of the first prompt, {expected}, got {names}"
            )


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """An error of a chat template says at which prompt."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: a lone surrogate at character {error.start} cannot be encoded: {text!r:.60}"
        ) from None


def written_whole(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Those of the texts that a tokenizer has all characters of, as a prompt has to be."""
    encoded = tokenizer.encode_batch(texts, add_special_tokens=True)
    decoded = tokenizer.decode_batch(encoded)
    return [
        text
        for text, ids, back in zip(texts, encoded, decoded, strict=True)
        if ids and (text == back or not _is_lossy(tokenizer, text, ids, back))
    ]


def _is_lossy(tokenizer: Tokenizer, text: str, ids: list[int], decoded: str) -> bool:
    """Whether characters were lost, not only normalized (case, accents, spaces)."""
    unknown = getattr(tokenizer.backend.model, "unk_token", None)
    if unknown is not None and tokenizer.token_to_id(unknown) in ids:
        return True
    return len(_skeleton(decoded)) < len(_skeleton(text))


def _skeleton(text: str) -> str:
    """The characters that no usual normalizer removes."""
    folded = unicodedata.normalize("NFKD", text)
    return "".join(c for c in folded if not unicodedata.category(c).startswith(("M", "Z", "C")))


def _keep_end(ids: list[int], limit: int, start: list[int]) -> list[int]:
    """The last `limit` ids, the start tokens kept in front of them where there is room."""
    kept = start if len(start) < limit else []
    return [*kept, *ids[len(ids) - limit + len(kept) :]]
