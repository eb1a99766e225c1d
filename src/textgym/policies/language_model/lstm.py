"""Long short-term memory with variational dropout: one mask a sequence, the same at every token.

The cell of Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, gates in
torch's order (input, forget, cell, output). Dropout as in Gal and Ghahramani 2016 ("A Theoretically
Grounded Application of Dropout in Recurrent Neural Networks", equation 7, tied weights): what a
layer reads, the state that it reads back, and what the last layer gives out are masked by a draw
that is made once for each sequence.

Ragged sequences are laid end to end, as everywhere here, and run through step by step with only
those rows that still go on, so padding costs nothing. A state is one tensor `[..., l, 2, d]`: for
each layer the hidden state and the cell.

Legend: `N` flat tokens, `B` sequences, `n` rows, `e` input size, `d` hidden size, `l` layers.
"""

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from textgym.policies.language_model.packing import positions_of


class VariationalLSTM(nn.Module):
    """Layers of long short-term memory, each of which reads what the one below gives out.

    :param input_size: e.
    :param hidden_size: d.
    :param num_layers: l.

    `drop` is the share that dropout puts to zero, from 0 to below 1; active in training mode only,
    and never in `step` and `states`, which decode.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layers = nn.ModuleList(
            LSTMLayer(hidden_size if i else input_size, hidden_size) for i in range(num_layers)
        )
        self.drop = 0.0

    def _stack(self) -> list["LSTMLayer"]:
        return [layer for layer in self.layers if isinstance(layer, LSTMLayer)]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, from torch's global generator if none is given."""
        for layer in self._stack():
            layer.reset_parameters(generator)

    def initial_state(self, rows: int) -> Tensor:
        """`[rows, l, 2, d]` of zeros: before any token."""
        weight = next(self.parameters())
        return weight.new_zeros(rows, len(self.layers), 2, self.hidden_size)

    def forward(
        self, inputs: Tensor, state: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Right-padded rows.

        :param inputs: `[b, t, e]`.
        :param state: `[b, l, 2, d]`, before the first token; None: zeros.
        :param lengths: `[b]` int64; None: all rows are full.
        :return: what the last layer gives out, `[b, t, d]`, zero at the padding, and the state
            after the last token of each row.
        """
        b, t = inputs.shape[:2]
        if lengths is None:
            lengths = torch.full((b,), t, device=inputs.device)
        is_token = torch.arange(t, device=inputs.device) < lengths[:, None]
        flat, state = self.packed(inputs[is_token], lengths, state)
        padded = flat.new_zeros(b, t, flat.shape[-1])
        return padded.masked_scatter(is_token[..., None], flat), state

    def packed(
        self, inputs: Tensor, lengths: Tensor, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sequences laid end to end, none of which sees another.

        :param inputs: `[N, e]`.
        :param lengths: `[B]` int64, which sum to N.
        :param state: `[B, l, 2, d]`, before the first tokens; None: zeros.
        :return: what the last layer gives out, `[N, d]`, and the state after each sequence.
        """
        state = self.initial_state(len(lengths)) if state is None else state
        if not len(inputs):
            return inputs.new_zeros(0, self.hidden_size), state
        by_time = _ByTime(lengths)
        drop = self.drop if self.training else 0.0
        x, after = by_time.sort(inputs), []
        for i, layer in enumerate(self._stack()):
            before = state[by_time.order, i, 0], state[by_time.order, i, 1]
            if drop:
                x = x * by_time.spread(_mask(x, len(lengths), drop))
                x, last = layer.scan(x, by_time, before, _mask(before[0], len(lengths), drop))
            else:
                x, last = layer.fused(x, by_time, before)
            after.append(torch.stack(last, 1)[by_time.rank])
        if drop:
            x = x * by_time.spread(_mask(x, len(lengths), drop))
        return by_time.unsort(x), torch.stack(after, 1)

    def states(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """The state after every token of sequences laid end to end, from zeros, without dropout.

        :param inputs: `[N, e]`.
        :param lengths: `[B]` int64.
        :return: `[N, l, 2, d]`; what the last layer gives out is `[:, -1, 0]`.
        """
        by_time = _ByTime(lengths)
        before = self.initial_state(len(lengths))[:, 0]
        x, found = by_time.sort(inputs), []
        for layer in self._stack():
            hidden, cell = layer.scan_all(x, by_time, (before[:, 0], before[:, 1]))
            found.append(torch.stack([hidden, cell], 1))
            x = hidden
        return by_time.unsort(torch.stack(found, 1))

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """One token for every row, without dropout.

        :param inputs: `[n, e]`.
        :param state: `[n, l, 2, d]`, before it.
        :return: the state after it; what the last layer gives out is `[:, -1, 0]`.
        """
        x, after = inputs, []
        for i, layer in enumerate(self._stack()):
            x, cell = layer.cell(x, state[:, i, 0], state[:, i, 1])
            after.append(torch.stack([x, cell], 1))
        return torch.stack(after, 1)


class LSTMLayer(nn.Module):
    """One layer: `weight_ih [4d, e]`, `weight_hh [4d, d]`, `bias [4d]`, gates in torch's order."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """U(-1/√d, 1/√d); biases 0, but 1 of the forget gate (Jozefowicz et al. 2015)."""
        size = self.weight_hh.shape[1]
        bound = 1 / math.sqrt(size)
        self.weight_ih.uniform_(-bound, bound, generator=generator)
        self.weight_hh.uniform_(-bound, bound, generator=generator)
        self.bias.zero_()[size : 2 * size] = 1.0

    def cell(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """`[n, e]`, `[n, d]`, `[n, d]` → hidden state and cell after one token, both `[n, d]`."""
        gates = linear(x, self.weight_ih, self.bias)
        return _advance(gates + linear(hidden, self.weight_hh), cell)

    def fused(
        self, x: Tensor, by_time: "_ByTime", before: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """torch's own loop over `[N, e]` by time → `[N, d]`, and the last state of each row.

        :param before: hidden states and cells `[B, d]`, longest sequence first, as are those given
            back.
        """
        count = by_time.sizes[0]  # a sequence without a token stays where it was
        first = [part[None, :count].contiguous() for part in before]
        # torch has two biases, where one is enough.
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        with _plain_kernel(x):
            out, hidden, cell = torch.lstm(
                x, torch.tensor(by_time.sizes), first, weights, True, 1, 0.0, False, False
            )
        ends = [torch.cat([a[0], b[count:]]) for a, b in zip((hidden, cell), before, strict=True)]
        return out, (ends[0], ends[1])

    def scan(
        self, x: Tensor, by_time: "_ByTime", before: tuple[Tensor, Tensor], keep: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `fused`, with the state that is read back masked.

        :param keep: `[B, d]`, what the hidden state is multiplied with, longest sequence first.
        """
        hidden, cell = self.scan_all(x, by_time, before, keep)
        count, last = by_time.sizes[0], by_time.last
        ends = [
            torch.cat([a[last], b[count:]]) for a, b in zip((hidden, cell), before, strict=True)
        ]
        return hidden, (ends[0], ends[1])

    def scan_all(
        self,
        x: Tensor,
        by_time: "_ByTime",
        before: tuple[Tensor, Tensor],
        keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and cells `[N, d]` after every token, by time."""
        hidden, cell = before
        found = []
        for gates in torch.split(linear(x, self.weight_ih, self.bias), by_time.sizes):
            n = len(gates)
            read = hidden[:n] if keep is None else hidden[:n] * keep[:n]
            hidden, cell = _advance(gates + linear(read, self.weight_hh), cell[:n])
            found.append((hidden, cell))
        hiddens, cells = zip(*found, strict=True)
        return torch.cat(hiddens), torch.cat(cells)


class _ByTime:
    """Flat tokens by time instead of by sequence: all first ones, then all second ones …

    Within one time the longest sequence comes first, so those that go on are always in front.

    :param lengths: `[B]` int64, not all zero.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.order = lengths.argsort(descending=True, stable=True)
        self.rank = self.order.argsort()
        rows, positions = positions_of(lengths)
        self.index = (positions * len(lengths) + self.rank[rows]).argsort()
        self.back = self.index.argsort()
        self.sizes: list[int] = positions.bincount().tolist()  # sequences that go on at each time
        # The place of each sequence's last token, longest first, of those that have one.
        ends = (lengths.cumsum(0) - 1)[self.order][: self.sizes[0]]
        self.last = self.back[ends]

    def sort(self, flat: Tensor) -> Tensor:
        """`[N, …]` by sequence → by time."""
        return flat.index_select(0, self.index)

    def unsort(self, flat: Tensor) -> Tensor:
        """`[N, …]` by time → by sequence."""
        return flat.index_select(0, self.back)

    def spread(self, rows: Tensor) -> Tensor:
        """`[B, …]`, longest sequence first → `[N, …]` by time, each row at all of its tokens."""
        return torch.cat([rows[:size] for size in self.sizes])


def _advance(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and cell `[n, d]` from the four gates `[n, 4d]` before their nonlinearity."""
    into, forget, new, out = gates.chunk(4, -1)
    cell = forget.sigmoid() * cell + into.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _mask(like: Tensor, rows: int, drop: float) -> Tensor:
    """`[rows, width]`: 0 with probability `drop`, else 1 / (1 - drop)."""
    return dropout(like.new_ones(rows, like.shape[-1]), drop)


def _plain_kernel(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """torch's loop by a kernel that is there and can be differentiated.

    cuDNN's cannot be differentiated twice, as TRPO does, nor at all outside training. A CPU without
    bfloat16 instructions has none in bfloat16, so under autocast the loop stays in float32 there.
    """
    if x.is_cuda:
        return torch.backends.cudnn.flags(enabled=False)
    return torch.autocast("cpu", enabled=False)
