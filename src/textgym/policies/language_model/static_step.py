"""A decoding step of which nothing changes but numbers in buffers: what a CUDA graph can replay.

A small model's step on a GPU is some hundreds of kernels that take longer to launch than to run. A
CUDA graph launches all of them at once, if no shape, address or branch depends on a number: so the
step attends to every position of the cache under a bias, and writes where a tensor says. On a
processor the same step runs as it is. Legend: `n` slots, `d` hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textgym.policies.language_model.attention import Attention, CachedAttention, KVCache

Step = Callable[[], None]
Capture = Callable[[Step, torch.device], Step]
Decode = Callable[[Tensor, Tensor, Attention], Tensor]


class StaticCache(KVCache):
    """A cache with the step of one decoder on it.

    There is a new one after every update: what was captured holds the addresses of the weights that
    it was captured with.

    :param decoder: whose cache it is: from tokens, positions and attention to hidden states.
    :param capture: makes of a step what is called instead of it, again and again.
    :param shape, places: those of `KVCache`.
    """

    def __init__(self, decoder: Decode, capture: Capture, *shape: int, **places: Any) -> None:
        super().__init__(*shape, **places)
        self.decoder, self.capture = decoder, capture
        self.device = self.keys[0].device
        self.tokens = torch.zeros(self.slots, dtype=torch.int64, device=self.device)
        self.positions = torch.zeros_like(self.tokens)
        self.hidden = torch.empty(0)
        self.replay: Step | None = None

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """`tokens [n]`, `positions [n]` int64 → the hidden states `[n, d]` at these tokens."""
        self.tokens.copy_(tokens)
        self.positions.copy_(positions)
        if self.replay is None:
            self._step()  # takes the memory that `hidden` stays in
            self.replay = self.capture(self._step, self.device)
        self.replay()
        return self.hidden.clone()

    def _step(self) -> None:
        kind = self.device.type
        nothing = self.positions[:0]
        attention = CachedAttention(self, self.positions, nothing, nothing, is_static=True)
        # Weights that autocast keeps converted would be gone when the graph is replayed.
        with torch.autocast(
            kind,
            torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        ):
            hidden = self.decoder(self.tokens, self.positions, attention)
        if self.hidden.shape != hidden.shape:
            self.hidden = torch.empty_like(hidden)
        self.hidden.copy_(hidden)


def cuda_graph(step: Step, device: torch.device) -> Step:
    """A step as a CUDA graph; on any other device the step itself.

    See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs for what is asked of it.
    """
    if device.type != "cuda":
        return step
    cuda: Any = torch.cuda
    with cuda.device(device):
        aside = cuda.Stream()
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):  # kernels are chosen and memory is taken before the capture
            for _ in range(3):
                step()
        cuda.current_stream().wait_stream(aside)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            step()
    replay: Step = graph.replay
    return replay
