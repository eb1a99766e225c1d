"""What a run that is resumed depends on: states that JSON and arrays hold.

An object with a state has `state_dict()`, which gives a nest of tables, lists, JSON values and
NumPy arrays, and `load_state_dict(state)`, which goes on from one. What a checkpoint holds may come
from anybody, so `load_state_dict` checks types, shapes and ranges and raises `InputError`.
"""

import json
from typing import Any, Protocol, runtime_checkable

import numpy as np

from textgym.errors import InputError
from textgym.storage import json_text

_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


@runtime_checkable
class Stateful(Protocol):
    """Whatever goes on from where it was, in another process too."""

    def state_dict(self) -> Any:
        """Tables, lists, JSON values and NumPy arrays; taking them changes nothing."""

    def load_state_dict(self, state: Any) -> Any:
        """Go on from a state.

        :raises InputError: if it is the state of something else.
        """


class NoStateError(InputError):
    """Something has a state that a checkpoint cannot hold, so that going on is not exact."""


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of one of NumPy's generators."""
    return dict(generator.bit_generator.state)


def load_generator_state(generator: np.random.Generator, state: Any, where: object) -> None:
    """Go on from a state of `generator_state`.

    :param where: what an error names.
    :raises InputError: if it is not the state of a generator of this kind.
    """
    try:
        if not isinstance(state, dict) or state.get("bit_generator") not in _GENERATORS:
            raise ValueError("no state of a generator")
        generator.bit_generator.state = state
    except (KeyError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(
            f"{where}: not the state of a generator ({' '.join(str(error).split()):.80})"
        ) from None


def is_json(value: Any) -> bool:
    """Whether JSON brings a value back as it is."""
    try:
        return bool(json.loads(json_text(value)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def state_of(thing: object) -> Any:
    """The state of what a user gave (a reward, a function), or None where it says of none.

    A torch module's weights are no state of that kind: it is fitted, and stays as it is.
    """
    is_module = hasattr(thing, "parameters") and hasattr(thing, "named_buffers")
    if is_module or isinstance(thing, type) or not isinstance(thing, Stateful):
        return None
    return thing.state_dict()


def load_state_of(thing: object, state: Any, where: object) -> None:
    """Go on from what `state_of` gave.

    :param where: what an error names.
    :raises InputError: if there is a state and the thing takes none, or the other way round.
    """
    takes = state_of(thing) is not None
    if takes != (state is not None):
        raise InputError(f"{where}: the checkpoint has {'no' if takes else 'a'} state of it")
    if takes and isinstance(thing, Stateful):
        try:
            thing.load_state_dict(state)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where}: not its state ({' '.join(str(error).split()):.80})"
            ) from None
