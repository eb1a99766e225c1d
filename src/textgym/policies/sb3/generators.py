"""The generators of the text policies, as a checkpoint holds them."""

from typing import Any

import numpy as np
import torch

from textgym.policies.sb3.text_policy import TextPolicy
from textgym.saved_fields import SavedFields

_NAMES = ("generator", "predict_generator")


def generators_state(policy: TextPolicy) -> dict[str, Any]:
    """The states of both generators (uint8 arrays, None for one that nobody asked), the seed."""
    states: dict[str, Any] = {"seed": policy.seed}
    for name in _NAMES:
        generator: torch.Generator | None = getattr(policy, name)
        states[name] = None if generator is None else generator.get_state().numpy().copy()
    states["answered_step"] = getattr(policy, "_answered_step", None)
    return states


def load_generators_state(policy: TextPolicy, state: Any) -> None:
    """Go on from a state of `generators_state`.

    :raises InputError: if it is none.
    """
    fields = SavedFields(state, "state of the policy")
    restored: dict[str, torch.Generator | None] = {}
    for name in _NAMES:
        restored[name] = None
        if fields.has(name):
            restored[name] = torch.Generator(policy.lm.device)
            saved = torch.from_numpy(np.array(fields.array(name, "uint8", (None,))))
            try:
                restored[name].set_state(saved)  # type: ignore[union-attr]
            except (RuntimeError, TypeError):
                raise fields.error(name, "the state of a generator") from None
    policy.seed = fields.whole("seed")
    for name, generator in restored.items():
        setattr(policy, name, generator)
    if hasattr(policy, "_answered_step"):
        policy._answered_step = fields.whole("answered_step", -1)
