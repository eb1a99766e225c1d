"""Adam whose two moments are kept in 8 bits, of the library bitsandbytes.

Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization": each moment is an index into a
table of 256 numbers, times the largest of its block of 256. That is 2 bytes a weight instead of 8.
The library keeps weights of fewer than 4,096 elements (norms, biases, a value head) in float32.

It is imported where such an optimizer is made, and nowhere else.
"""

from typing import Any

import torch
from torch import Tensor

from textgym.extras import import_extra

BLOCK = 256  # bitsandbytes'
_TABLES = ("qmap1", "qmap2")  # of 256 numbers, the same for all weights
_LARGEST_STEP = 2**31 - 1


class Adam8bit(torch.optim.Optimizer):
    """`bitsandbytes.optim.Adam8bit`, with a state that goes into a checkpoint and comes back.

    Its weight decay is AdamW's. Keywords are the library's.

    :raises InputError: if bitsandbytes is not installed.
    """

    args: Any
    name2qmap: dict[str, Tensor]

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Adam8bit":
        """An object of a class of this name that has the library's as its last base."""
        library = import_extra("bitsandbytes", extra="bitsandbytes", what="Adam in 8 bits")
        base = library.optim.Adam8bit
        if issubclass(cls, base):  # a copy
            return object.__new__(cls)
        named = {"__module__": cls.__module__, "__doc__": cls.__doc__}
        joined: type[Adam8bit] = type(cls.__name__, (cls, base), named)
        return object.__new__(joined)

    def state_dict(self) -> dict[str, Any]:
        """The state of each weight as `check_moments` has it, without the library's tables."""
        state = torch.optim.Optimizer.state_dict(self)
        state["state"] = {
            index: {name: value for name, value in moments.items() if name not in _TABLES}
            for index, moments in state["state"].items()
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state of `state_dict`."""
        super().load_state_dict(state_dict)
        for parameter, moments in self.state.items():
            if moments["state1"].dtype == torch.uint8:
                for table, name in zip(_TABLES, ("dynamic", "udynamic"), strict=True):
                    moments[table] = self.name2qmap[name].to(parameter.device)

    def check_moments(self, parameter: Tensor, moments: Any) -> None:
        """Raises unless they are the saved state of a weight, to the last shape and dtype.

        :param moments: `step`, a count; `state1` and `state2`, the moments, uint8 of the weight's
            shape (float32 for a small one); `absmax1` and `absmax2`, float32, one for each block.
        :raises ValueError: saying what is another one.
        """
        is_small = parameter.numel() < self.args.min_8bit_size
        dtype = torch.float32 if is_small else torch.uint8
        wanted = {name: (dtype, parameter.shape) for name in ("state1", "state2")}
        if not is_small:
            blocks = torch.Size([-(-parameter.numel() // BLOCK)])
            wanted |= {name: (torch.float32, blocks) for name in ("absmax1", "absmax2")}
        if not isinstance(moments, dict) or moments.keys() != {"step", *wanted}:
            raise ValueError("these are no moments in 8 bits")
        step = moments["step"]
        if type(step) is not int or not 0 < step <= _LARGEST_STEP:
            raise ValueError(f"step is no count: {step!r:.40}")
        for name, kind in wanted.items():
            value = moments[name]
            if not isinstance(value, Tensor) or (value.dtype, value.shape) != kind:
                raise ValueError(f"{name} must be {kind[0]} of the shape {[*kind[1]]}")
            may_be_negative = name == "state1"
            if not bool((value.isfinite() & (may_be_negative | (value >= 0))).all()):
                raise ValueError(f"{name} has numbers that are not finite, or below 0")
