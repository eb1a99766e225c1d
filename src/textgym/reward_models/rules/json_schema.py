"""Is a completion JSON, and does it fit a schema? Checked with the library jsonschema."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.paths import expand
from textgym.reward_models.rules.columns import check_texts, column_values, needed, refusal
from textgym.storage import read_json

_FENCE = re.compile(r"\A```(?:json)?[ \t]*\n(.*?)\n?```\Z", re.DOTALL)
_EXPECTED = "expected a JSON schema as a table, as JSON text or, in schema=, as a file"


class JsonSchema:
    """1 if the completion is JSON that fits the schema, `parsed` if it is other JSON, else 0.

    JSON as its standard has it: NaN and Infinity are none. Spaces at the two ends do not count. The
    dialect is what the schema's "$schema" says, else 2020-12. A "$ref" to another document is not
    fetched: it is an error.

    :param schema: a table, JSON text, or a file; None: each row brings its own.
    :param column: the column that holds it, a table or JSON text.
    :param parsed: in [0, 1], for JSON that does not fit: a first step for a policy that writes none
        yet.
    :param fences: take what stands between ```json and ``` where the completion is that alone.
    :raises InputError: without jsonschema, for what is no schema, or `parsed` outside [0, 1].
    """

    name = "json_schema"

    def __init__(
        self,
        schema: Mapping[str, Any] | bool | str | Path | None = None,
        *,
        column: str = "schema",
        parsed: float = 0.0,
        fences: bool = False,
    ) -> None:
        if not 0 <= parsed <= 1:
            raise InputError(f"parsed must be from 0 to 1, got {parsed!r}")
        self.column, self.parsed, self.fences = column, float(parsed), fences
        what = "the json_schema reward"
        self._library = import_extra("jsonschema", extra="metrics", what=what)
        # An empty registry: by itself the library fetches what a "$ref" names.
        self._documents = import_extra("referencing", extra="metrics", what=what).Registry()
        self._unresolvable = import_extra(
            "referencing.exceptions", extra="metrics", what=what
        ).Unresolvable
        self._kept: dict[str, Callable[[Any], bool]] = {}
        try:
            self._fixed = None if schema is None else self._fits(_content(schema))
        except ValueError as error:
            raise InputError(f"json_schema: {error}") from None

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The column, where nothing is given for all rows."""
        return needed(self.column, self._fixed)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: 0, `parsed` or 1 per completion.

        :raises RewardError: naming the prompt, if a schema is missing or is none.
        """
        check_texts(self.name, prompts, completions)
        fits = column_values(
            self.name,
            prompts,
            completions,
            columns,
            self.column,
            self._read,
            fixed=self._fixed,
            instead="schema",
        )
        scores = []
        for row, (text, fit) in enumerate(zip(completions, fits, strict=True)):
            try:
                scores.append(self._score(text, fit))
            except self._unresolvable as error:
                what = f"cannot follow a reference of the schema ({_line(error)}): put it inside"
                raise refusal(self.name, prompts, row, what) from None
        return scores

    def _score(self, text: str, fits: Callable[[Any], bool]) -> float:
        text = text.strip()
        fence = _FENCE.match(text) if self.fences else None
        try:
            value = json.loads(text if fence is None else fence[1], parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return 0.0
        try:
            return 1.0 if fits(value) else self.parsed
        except RecursionError:  # nested deeper than Python goes
            return self.parsed

    def _read(self, value: Any) -> Callable[[Any], bool]:
        if isinstance(value, Path):
            raise ValueError(_EXPECTED)
        return self._fits(_parse(value) if isinstance(value, str) else value)

    def _fits(self, schema: Any) -> Callable[[Any], bool]:
        """The check of a schema, kept: a dataset has few of them.

        :raises ValueError: saying what is wrong with it.
        """
        if not isinstance(schema, Mapping | bool):
            raise ValueError(f"{_EXPECTED}, got {type(schema).__name__}")
        try:
            key = json.dumps(schema, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            raise ValueError(f"{_EXPECTED}, got a table that JSON cannot hold") from None
        if key not in self._kept:
            if len(self._kept) >= 256:
                self._kept.clear()
            self._kept[key] = self._validator(json.loads(key))
        return self._kept[key]

    def _validator(self, schema: Any) -> Callable[[Any], bool]:
        library = self._library
        cls = library.validators.validator_for(schema, default=library.Draft202012Validator)
        try:
            cls.check_schema(schema)
            fits: Callable[[Any], bool] = cls(schema, registry=self._documents).is_valid
            fits(None)  # finds many a reference that leads nowhere
        except library.exceptions.SchemaError as error:
            raise ValueError(f"no JSON schema: {_line(error.message)}: mend it") from None
        except (self._unresolvable, RecursionError) as error:
            what = "a JSON schema whose references cannot be followed"
            raise ValueError(f"{what}: {_line(error)}: put what they name inside it") from None
        return fits


def _content(schema: Any) -> Any:
    """A schema that was given in Python or on the command line.

    :raises ValueError: for a file that cannot be read or is no JSON.
    """
    if isinstance(schema, str) and schema.lstrip().startswith("{"):
        return _parse(schema)
    if not isinstance(schema, str | Path):
        return schema
    return read_json(expand(schema))


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_EXPECTED}; this text is no JSON ({_line(error)})") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _line(error: object) -> str:
    return f"{' '.join(str(error).split()):.120}"
