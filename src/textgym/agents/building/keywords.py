"""The keywords that `make_agent` takes for an algorithm: whose they are, and what they do.

They come from three signatures: the algorithm's class, its policy's, and `build_agent`'s own. The
command line makes its flags of them.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgym.agents.building.specs import AgentSpec
from textgym.agents.rollouts.kl import KLPenalty
from textgym.errors import InputError, unknown_name
from textgym.signatures import constructors, texts_of

_FILLED_IN = frozenset({"self", "policy", "env", "seed", "kl", "_init_setup_model"})
_BUFFERS = frozenset({"rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class"})


@dataclass(frozen=True)
class Keyword:
    """A keyword of an algorithm.

    :param parameter: as its signature has it, with annotation and default.
    :param help: what its docstring says of it; "" where there is nothing.
    """

    parameter: inspect.Parameter
    help: str


def keywords_of(spec: AgentSpec, builder: Callable[..., Any]) -> dict[str, Keyword]:
    """All keywords by name, those of the algorithm first.

    :param builder: `build_agent`, which has keywords of its own.
    """
    own = keywords_of_classes(constructors(spec.algorithm_class), leaving_out=_FILLED_IN | _BUFFERS)
    policys = keywords_of_classes(constructors(spec.policy_class))
    ours = _of_function(builder, texts_of(builder, KLPenalty))
    return {
        **own,
        **{name: policys[name] for name in spec.policy_keywords if name in policys},
        **{name: ours[name] for name in spec.builder_keywords},
    }


def check_keywords(
    name: str, spec: AgentSpec, builder: Callable[..., Any], given: Iterable[str]
) -> None:
    """Raises unless an algorithm knows the keywords.

    :param name: its word, for the error.
    :raises UnknownNameError: naming the first that it does not know, and the nearest that it does.
    :raises InputError: for a buffer, which `make_agent` fills in.
    """
    given = list(given)
    reserved = _BUFFERS & {*given}
    if reserved:
        raise InputError(
            f"{min(reserved)} is what make_agent fills in: for another buffer write the long "
            "form with the algorithm's own class"
        )
    known = keywords_of(spec, builder)
    for keyword in given:
        if keyword not in known:
            raise unknown_name(f"keyword of agent {name!r}:", keyword, known)


def keywords_of_classes(
    classes: Sequence[type], *, leaving_out: Collection[str] = frozenset({"self"})
) -> dict[str, Keyword]:
    """Of constructors that pass keywords on: the nearest wins, but where it says no type.

    :param classes: as `textgym.signatures.constructors` gives them, the nearest first.
    """
    found: dict[str, Keyword] = {}
    for cls in reversed(classes):
        constructor = vars(cls)["__init__"]
        for name, keyword in _of_function(constructor, texts_of(constructor, *classes)).items():
            parameter = keyword.parameter
            if name in found and parameter.annotation in (parameter.empty, Any, "Any"):
                annotation = found[name].parameter.annotation
                keyword = Keyword(parameter.replace(annotation=annotation), keyword.help)
            found[name] = keyword
    return {name: keyword for name, keyword in found.items() if name not in leaving_out}


def _of_function(function: Callable[..., Any], texts: Mapping[str, str]) -> dict[str, Keyword]:
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: Keyword(p, texts.get(p.name, ""))
        for p in parameters
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
