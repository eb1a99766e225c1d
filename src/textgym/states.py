"""What a run that is resumed depends on: states that JSON and arrays hold.

An object with a state has `state_dict()`, which gives a nest of tables, lists, JSON values and
NumPy arrays, and `load_state_dict(state)`, which goes on from one. What a checkpoint holds may come
from anybody, so `load_state_dict` checks types, shapes and ranges and raises `InputError`.
"""

import json
import math
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


def comes_back_from_json(value: Any) -> bool:
    """Whether JSON brings a value back as it is."""
    return exact_json(value) is not None


def exact_json(value: Any) -> str | None:
    """The JSON of a value, or None where JSON does not bring it back as it is."""
    try:
        text = json_text(value)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def state_of(thing: object, where: str = "it") -> Any:
    """The state of what a user gave (a reward, a function), or None where it says of none.

    A torch module's weights are no state of that kind: it is fitted, and stays as it is.

    :param where: what an error names.
    :raises NoStateError: if a checkpoint cannot bring it back, or `state_dict` raises.
    """
    is_module = hasattr(thing, "parameters") and hasattr(thing, "named_buffers")
    if is_module or isinstance(thing, type) or not isinstance(thing, Stateful):
        return None
    try:
        state = thing.state_dict()
    except NoStateError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NoStateError(f"{where}: its state_dict raised {reason:.80}") from error
    return savable(state, f"{where}: state_dict")


def has_state(thing: object, where: str = "it") -> bool:
    """Whether something, or a part of it, goes on from a state; see `state_of`."""

    def holds_anything(state: Any) -> bool:
        if isinstance(state, dict):
            return any(map(holds_anything, state.values()))
        return state is not None

    return holds_anything(state_of(thing, where))


def load_state_of(thing: object, state: Any, where: object) -> None:
    """Go on from what `state_of` gave.

    :param where: what an error names.
    :raises InputError: if there is a state and the thing takes none, or the other way round.
    """
    takes = state_of(thing, str(where)) is not None
    if takes != (state is not None):
        raise InputError(f"{where}: the checkpoint has {'no' if takes else 'a'} state of it")
    if takes and isinstance(thing, Stateful):
        try:
            thing.load_state_dict(loaded(state))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where}: not its state ({' '.join(str(error).split()):.80})"
            ) from None


def savable(state: Any, where: str) -> Any:
    """A user's state as a checkpoint brings it back; numbers that are not finite, as arrays.

    :param where: what an error names.
    :raises NoStateError: for anything but tables with names, lists, numbers, texts and arrays.
    """
    if isinstance(state, np.generic):
        state = state.item()
    if state is None or isinstance(state, bool | int | str):
        return state
    if isinstance(state, float):
        return state if math.isfinite(state) else np.array(state)
    if isinstance(state, dict) and all(isinstance(key, str) for key in state):
        return {key: savable(value, f"{where}[{key!r}]") for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [savable(value, f"{where}[{place}]") for place, value in enumerate(state)]
    if isinstance(state, np.ndarray) and state.dtype.kind in "biuf" and state.itemsize <= 8:
        return state.copy()
    got = f"an array of {state.dtype}" if isinstance(state, np.ndarray) else type(state).__name__
    raise NoStateError(
        f"{where}: expected tables with names, lists, numbers, texts or NumPy arrays of numbers, "
        f"which a checkpoint brings back, got {got}"
    )


def loaded(state: Any) -> Any:
    """What `savable` was given: numbers that are not finite are numbers again."""
    if isinstance(state, dict):
        return {key: loaded(value) for key, value in state.items()}
    if isinstance(state, list):
        return [loaded(value) for value in state]
    is_number = isinstance(state, np.ndarray) and state.shape == () and state.dtype == np.float64
    return float(state) if is_number and not np.isfinite(state) else state
