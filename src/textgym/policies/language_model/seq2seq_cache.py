"""What an encoder with a decoder keeps of each row: prompts that were read, and what was written.

transformers' decoders count positions once for a whole batch. Here rows stand at places of their
own, so while one token a row is decoded the decoder's positions are looked up by these places.

Legend: `n` slots, `k` of them, `t` tokens, `h` heads, `c` their width, `d` hidden size.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from textgym.extras import import_extra
from textgym.policies.language_model.foreign_trunk import RowCache


class WrittenCache(RowCache):
    """Keys and values of what was written."""

    is_sliding = is_linear = is_dummy = (False,)  # what some decoders ask before they mask


class PromptCache:
    """Keys and values of the prompts, which the decoder's cross-attention looks at.

    :param slots: rows.
    :param capacity: tokens of a prompt at most.
    """

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.rows, self.end = torch.empty(0), 0

    def expect(self, rows: Tensor | None, end: int) -> None:
        """Say whose prompts the next pass brings; None: it looks at all that are there.

        :param rows: `[k]` int64 slots.
        :param end: the longest prompt.
        """
        self.end = end
        if rows is not None:
            self.rows = rows

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """What a layer brings of its prompts, `[k, h, t, c]`, is kept and given back."""
        for kept, states in ((self.keys, key_states), (self.values, value_states)):
            if layer_idx not in kept:
                shape = (self.slots, states.shape[1], self.capacity, states.shape[3])
                kept[layer_idx] = states.new_zeros(shape)
            kept[layer_idx][self.rows, :, : states.shape[2]] = states.to(kept[layer_idx].dtype)
        return key_states, value_states

    @property
    def layers(self) -> dict[int, Any]:
        """Of each layer `keys` and `values` of all slots, `[n, h, end, c]`."""
        return {
            layer: SimpleNamespace(
                keys=keys[:, :, : self.end], values=self.values[layer][:, :, : self.end]
            )
            for layer, keys in self.keys.items()
        }


class Seq2SeqCache:
    """One slot a row; transformers gets `pair` as its cache.

    `source` are the prompts' tokens, right-padded, and `prompts` how many each has.

    :param slots: rows.
    :param capacity: positions of a row, prompt and completion.
    :param begin: tokens that the decoder begins with.
    :param device: where the lengths are kept.
    """

    def __init__(self, slots: int, capacity: int, begin: int, device: torch.device) -> None:
        self.source = torch.zeros(slots, capacity, dtype=torch.int64, device=device)
        self.prompts = torch.zeros(slots, dtype=torch.int64, device=device)
        self.written = WrittenCache(slots, capacity + begin)
        self.read = PromptCache(slots, capacity)
        module = import_extra("transformers", extra="transformers", what="this model")
        pair = module.EncoderDecoderCache
        self.pair = pair.__new__(pair)  # its constructor wants caches of transformers' own
        self.pair.self_attention_cache = self.written
        self.pair.cross_attention_cache = self.read
        self.pair.is_updated = {}

    def expect(self, rows: Tensor | None, places: Tensor) -> None:
        """Say where the next pass writes; where it is for some rows, it brings their prompts.

        :param rows: `[k]` int64 slots; None: all of them, whose prompts are there.
        :param places: `[k, t]` int64, of the decoder's tokens.
        """
        self.written.expect(rows, places)
        self.read.expect(rows, int(self.prompts.max()))
        self.pair.is_updated = {} if rows is not None else dict.fromkeys(self.read.keys, True)


class RowsAnew:
    """For a family whose decoder takes no such cache: tokens, and what the encoder made of prompts.

    :param slots: rows.
    :param capacity: positions of a row.
    :param begin: tokens that the decoder begins with.
    :param like: `[.., d]`, has dtype, device and width of the encoder's hidden states.
    """

    def __init__(self, slots: int, capacity: int, begin: int, like: Tensor) -> None:
        shape = (slots, capacity + begin)
        self.tokens = torch.zeros(shape, dtype=torch.int64, device=like.device)
        self.source = torch.zeros(slots, capacity, dtype=torch.int64, device=like.device)
        self.prompts = torch.zeros(slots, dtype=torch.int64, device=like.device)
        self.encoded = like.new_zeros(slots, capacity, like.shape[-1])


@contextmanager
def at_places(decoder: nn.Module, places: Tensor, end: int) -> Iterator[None]:
    """Within, the decoder's positions are those of each row: tables, or biases of attention.

    :param places: `[k, t]` int64.
    :param end: places that are looked at.
    """
    with ExitStack() as undone:
        for name, module in decoder.named_modules():
            if name.endswith("embed_positions"):
                hook = module.register_forward_hook(_positions(places))
                undone.callback(hook.remove)
            elif getattr(module, "has_relative_attention_bias", False):
                module.compute_bias = _biases(module, places, end)  # beside the class's own
                undone.callback(delattr, module, "compute_bias")
        yield


def _positions(places: Tensor) -> Callable[..., Tensor]:
    """A hook on a table of positions: rows `[k, t, d]` of it."""

    def replaced(table: Any, *_: Any) -> Tensor:
        if hasattr(table, "weights"):  # M2M100's, which stand behind the pad token's
            return table.weights[places + table.padding_idx + 1]  # type: ignore[no-any-return]
        return nn.functional.embedding(places + getattr(table, "offset", 0), table.weight)

    return replaced


def _biases(module: Any, places: Tensor, end: int) -> Callable[..., Tensor]:
    """T5's biases of attention by distance, `[k, h, t, end]`, in place of a batch's one table."""

    def replaced(*_: Any, **__: Any) -> Tensor:
        whole: Tensor = type(module).compute_bias(module, end, end)[0]  # [h, end, end]
        return whole[:, places].transpose(0, 1)

    return replaced
