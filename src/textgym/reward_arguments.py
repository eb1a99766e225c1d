"""What a reward model is called with: its arguments are matched by name, as TRL matches them.

A name means what it says: `prompts`, `completions`, `completion_ids`, or a column of the prompts.
Two names in front that mean nothing, such as `(p, c)`, are the contract's two texts. Any other
name that nobody supplies is refused, and never gets something else in its place.
"""

import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from textgym.errors import InputError

TEXTS = ("prompts", "completions")
TOKEN_IDS = "completion_ids"
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature(NamedTuple):
    """What a callable can be given.

    :param positional: names in order; the first `unnamed` of them cannot be given by name.
    :param keyword_only: the names after them.
    :param required: those of both without a default.
    :param takes_list: it has `*arguments`; `takes_more`: it has `**columns`.
    """

    positional: tuple[str, ...]
    unnamed: int
    keyword_only: tuple[str, ...]
    required: frozenset[str]
    takes_list: bool
    takes_more: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return self.positional + self.keyword_only


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function, or of an object's `__call__` without its `self`.

    One that Python cannot tell (some written in C) counts as `(*arguments)`.
    """
    is_function = isinstance(function, types.FunctionType)
    code = function if is_function else vars(type(function)).get("__call__")
    is_plain = isinstance(code, types.FunctionType) and "__wrapped__" not in vars(code)
    if is_plain and not hasattr(function, "__signature__"):
        assert isinstance(code, types.FunctionType)
        return _of_code(code, skip=0 if is_function else 1)  # `inspect` takes 25 µs a batch
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Signature((), 0, (), frozenset(), takes_list=True, takes_more=False)
    kinds = [p.kind for p in parameters]
    unnamed = kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    named = [p for p in parameters if p.kind in _BY_NAME]
    keyword_only = tuple(p.name for p in named if p.kind is p.KEYWORD_ONLY)
    single = [*parameters[:unnamed], *named]
    return Signature(
        tuple(p.name for p in single if p.kind is not p.KEYWORD_ONLY),
        unnamed,
        keyword_only,
        frozenset(p.name for p in single if p.default is p.empty),
        takes_list=inspect.Parameter.VAR_POSITIONAL in kinds,
        takes_more=inspect.Parameter.VAR_KEYWORD in kinds,
    )


def _of_code(function: types.FunctionType, skip: int) -> Signature:
    """The same from the compiled function, without its first `skip` arguments."""
    code = function.__code__
    names, count = code.co_varnames, code.co_argcount
    keyword_only = names[count : count + code.co_kwonlyargcount]
    with_default = len(function.__defaults__ or ())
    required = {*names[skip : count - with_default], *keyword_only}
    return Signature(
        names[skip:count],
        max(0, code.co_posonlyargcount - skip),
        keyword_only,
        frozenset(required.difference(function.__kwdefaults__ or ())),
        takes_list=bool(code.co_flags & inspect.CO_VARARGS),
        takes_more=bool(code.co_flags & inspect.CO_VARKEYWORDS),
    )


def match_arguments(
    signature: Signature, supplied: Mapping[str, Any], texts: Sequence[str] = TEXTS
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments for a call.

    :param supplied: `prompts`, `completions`, the columns, and maybe `completion_ids`, by name.
    :param texts: what `*arguments` gets.
    :raises InputError: as `meanings`.
    """
    meaning = meanings(signature, supplied)
    more: dict[str, Any] = {}
    if signature.takes_more:
        taken = {*meaning.values(), *signature.names}
        more = {name: value for name, value in supplied.items() if name not in taken}
    if signature.takes_list and not meaning.keys() & {*signature.positional}:
        arguments = [supplied[name] for name in texts if name not in meaning]
        more = {name: value for name, value in more.items() if name not in texts}
    else:
        in_order = signature.positional[: signature.unnamed]
        arguments = [supplied[meaning[name]] for name in in_order if name in meaning]
    by_name = signature.names[signature.unnamed :]
    return arguments, {k: supplied[meaning[k]] for k in by_name if k in meaning} | more


def meanings(signature: Signature, supplied: Collection[str]) -> dict[str, str]:
    """Which of the names supplied each argument gets.

    :raises InputError: for a required argument that nobody supplies: half a sentence.
    """
    named = {name: name for name in signature.names if name in supplied}
    free = [name for name in signature.names if name in signature.required and name not in named]
    if len(free) == 2 and tuple(free) == signature.positional[:2] and not named.keys() & {*TEXTS}:
        return dict(zip(free, TEXTS, strict=True)) | named
    if free and not (signature.takes_list and tuple(free) == signature.positional):
        columns = sorted({*supplied} - {*TEXTS, TOKEN_IDS})
        raise InputError(
            f"asks for {', '.join(map(repr, free))}, which nobody supplies: expected prompts, "
            "completions, completion_ids (where an episode was played) or a column of the prompts "
            f"({', '.join(map(repr, columns)) or 'there are none'}): rename the argument, add the "
            "column, or give it a default"
        )
    return named
