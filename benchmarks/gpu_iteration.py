"""GRPO on a GPU: an iteration beside a floor that replays CUDA graphs, and TRL without vLLM.

    python benchmarks/gpu_iteration.py [--rows 64] [--completion 128] [--repeats 5] [--float32]
    python benchmarks/gpu_iteration.py --paths

Random weights of SmolLM2-135M's shape, bfloat16 by autocast unless `--float32`, one epoch of one
optimizer step; ours with `cuda_graphs=True` and without. `--paths` runs each way to train on the
card once, on a tiny model, and holds its log-probabilities against the processor's. Where torch
finds no card it says so in one line; with `--device cpu` the steps run without a graph. Writes
`benchmarks/results/gpu_iteration.md`.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from floor import finish
from gpu_paths import paths_table
from grpo_iteration import GENERATIONS, GRPOFloor, agent_iteration, make_agent
from machine import where
from token_world import ENVS, PROMPT, SHAPES, Shape
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from trl_trainers import run_trl

from textgym.agents.algorithms.grpo import GRPO

PEAK = 989.0  # teraflops of an H100 or H200 in bfloat16, dense
CEILING, TRL_FLOOR = 1.3, 3.0


class GraphFloor(GRPOFloor):
    """The floor, each of whose decoding steps replays one CUDA graph.

    All shapes stand still: a step attends to the whole cache under a bias, at a position that is a
    tensor. On a processor the steps run one by one.

    :param half: decode and learn under bfloat16 autocast.
    """

    def __init__(
        self, shape: Shape, prompts: Tensor, epochs: int, completion: int, *, half: bool
    ) -> None:
        super().__init__(shape, prompts, epochs, completion=completion, has_reference=False)
        self.half, device, rows = half, prompts.device, len(prompts)
        if half:
            self.caches = [(k.bfloat16(), v.bfloat16()) for k, v in self.caches]
        self.places = torch.arange(len(self.cos), device=device)
        self.token = torch.zeros(rows, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.uniform = torch.zeros(rows, 1, device=device)
        self.drawn, self.log_prob = (
            torch.zeros_like(self.token),
            torch.zeros(rows, 1, device=device),
        )
        self.replay: Callable[[], None] | None = None

    def iteration(self) -> None:
        """Rollout and update."""
        with torch.autocast(self.prompts.device.type, torch.bfloat16, enabled=self.half):
            self.rollout()
            self.update()

    @torch.no_grad()
    def rollout(self) -> None:
        """See `Floor`; the prompts in one pass, then a replay a token."""
        p = self.prompts.shape[1]
        if self.replay is None:
            self.replay = self._captured()
        self.tokens = torch.cat(
            [self.prompts, self.prompts.new_zeros(len(self.prompts), self.completion)], 1
        )
        hidden = self._decode(self.prompts, 0)
        self.log_probs = hidden.new_zeros(len(hidden), self.completion, dtype=torch.float32)
        self.uniform.uniform_(generator=self.generator)
        self._choose(hidden)
        for end in range(p, p + self.completion):
            if end > p:
                self.position.fill_(end - 1)
                self.uniform.uniform_(generator=self.generator)
                self.replay()
            self.tokens[:, end] = self.drawn
            self.log_probs[:, end - p] = self.log_prob[:, 0]
            self.token.copy_(self.drawn)
        self.values = torch.zeros_like(self.log_probs)

    def _captured(self) -> Callable[[], None]:
        """The step as a graph; on a processor the step itself."""
        if self.prompts.device.type != "cuda":
            return self._step
        cuda: Any = torch.cuda
        aside = cuda.Stream()
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):  # kernels are chosen and memory is taken before the capture
            for _ in range(3):
                self._step()
        cuda.current_stream().wait_stream(aside)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            self._step()
        replay: Callable[[], None] = graph.replay
        return replay

    def _step(self) -> None:
        """From `token` at `position` to `drawn` and `log_prob`, all in place."""
        bias = torch.zeros(len(self.places), device=self.places.device)
        bias = bias.masked_fill(self.places > self.position, float("-inf"))[None, None, None]
        cos, sin = self.cos[self.position], self.sin[self.position]
        x = self.lm.model.embed_tokens(self.token)[:, None]
        for block, (keys, values) in zip(self.lm.model.layers, self.caches, strict=True):
            query, key, value = self._project(block, x, cos, sin)
            keys.index_copy_(2, self.position, key.to(keys.dtype))
            values.index_copy_(2, self.position, value.to(values.dtype))
            rows, heads, _, width = query.shape
            grouped = query.to(keys.dtype).reshape(rows, keys.shape[1], -1, width)
            out = scaled_dot_product_attention(grouped, keys, values, attn_mask=bias.to(keys.dtype))
            x = finish(block, x, out.reshape(rows, heads, 1, width))
        self._choose(self._norm(x[:, -1]))

    def _choose(self, hidden: Tensor) -> None:
        log_probs = self._logits(hidden).float().log_softmax(-1)
        cumulative = log_probs.exp().cumsum(-1)
        found = torch.searchsorted(cumulative, self.uniform * cumulative[:, -1:], right=True)
        self.drawn.copy_(found[:, 0].clamp(max=log_probs.shape[1] - 1))
        self.log_prob.copy_(log_probs.gather(1, self.drawn[:, None]))


def measured(
    cases: dict[str, Callable[[], None]], arguments: argparse.Namespace, shape: Shape
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each case's iterations, and the most memory of each in gigabytes."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    memory: dict[str, float] = {}
    is_cuda = arguments.device.startswith("cuda")

    def run_all() -> None:
        for name, iteration in cases.items():
            if is_cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            iteration()
            if is_cuda:
                torch.cuda.synchronize()
                memory[name] = torch.cuda.max_memory_allocated() / 1e9
            seconds[name].append(time.perf_counter() - start)

    if importlib.util.find_spec("trl") is not None and not arguments.without_trl:
        seconds["TRL"] = run_trl(
            "grpo",
            shape,
            1,
            GENERATIONS,
            arguments.repeats,
            run_all,
            device=arguments.device,
            half=not arguments.float32,
            rows=arguments.rows,
            completion=arguments.completion,
        )
    else:
        for _ in range(arguments.repeats + 1):
            run_all()
    return {name: values[1:] for name, values in seconds.items()}, memory


def page(
    header: list[str],
    seconds: dict[str, list[float]],
    memory: dict[str, float],
    arguments: argparse.Namespace,
    weights: int,
) -> str:
    """Ratios against their bars; tokens a second, use of the card, memory."""
    lines = ["# An iteration of GRPO on a GPU", "", *header, ""]
    lines += ["| what | ratio | range | bar | |", "|---|---|---|---|---|"]
    for above, below, bar, sign in (
        ("textgym", "floor", CEILING, "≤"),
        ("TRL", "textgym", TRL_FLOOR, "≥"),
    ):
        if above in seconds:
            ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
            median = statistics.median(ratios)
            is_met = median <= bar if sign == "≤" else median >= bar
            lines.append(
                f"| {above} / {below} | {median:.2f} | {min(ratios):.2f} to {max(ratios):.2f} | "
                f"{sign} {bar:g} | {'pass' if is_met else '**fail**'} |"
            )
    lines += ["", "| case | seconds (median) | completion tokens/s | use of the card | GB |"]
    lines += ["|---|---:|---:|---:|---:|"]
    rows, completion = arguments.rows, arguments.completion
    # 2 flops a weight and token where a model reads, 6 where it learns: one of each.
    flops = 8.0 * weights * rows * (PROMPT + completion)
    for name, values in seconds.items():
        median = statistics.median(values)
        share = flops / median / (arguments.peak_teraflops * 1e12)
        gigabytes = f"{memory[name]:.1f}" if name in memory else ""
        speed = rows * completion / median
        lines.append(f"| {name} | {median:.3f} | {speed:,.0f} | {share:.1%} | {gigabytes} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure, print and write."""
    arguments = _arguments()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "gpu_iteration.py: torch finds no CUDA device here, so there is nothing to measure; "
            "run it on a machine with a GPU and a CUDA build of torch"
        )
        return 1
    header = where(1)
    if arguments.device.startswith("cuda"):
        header.append(f"- card: {torch.cuda.get_device_name()}")
    shape = SHAPES[arguments.shape]
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, shape.vocabulary, (arguments.rows, PROMPT), generator=generator)
    if arguments.paths:
        text = paths_table(header, arguments.device)
    else:
        half, completion = not arguments.float32, arguments.completion
        floor = GraphFloor(shape, prompts.to(arguments.device), 1, completion, half=half)
        weights = sum(p.numel() for p in floor.parameters)
        cases = {"floor": floor.iteration}
        for name, is_static in (("textgym", True), ("textgym, kernel by kernel", False)):
            agent = make_agent(
                GRPO,
                shape,
                1,
                0.0,
                device=arguments.device,
                half=half,
                rows=arguments.rows,
                completion=completion,
                cuda_graphs=is_static,
            )
            cases[name] = agent_iteration(agent)
        seconds, memory = measured(cases, arguments, shape)
        header.append(
            f"- model: {shape}, random weights; prompt {PROMPT}, {arguments.rows} rows, completion "
            f"{completion}, {'bfloat16 by autocast' if half else 'float32'}; use of the card: of "
            f"{arguments.peak_teraflops:g} teraflops"
        )
        text = page(header, seconds, memory, arguments, weights)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=list(SHAPES), default="smollm2")
    parser.add_argument("--rows", type=int, default=2 * ENVS)
    parser.add_argument("--completion", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--peak-teraflops", type=float, default=PEAK)
    parser.add_argument("--paths", action="store_true", help="each way to train, once")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        name = "gpu_paths" if arguments.paths else "gpu_iteration"
        arguments.out = Path(__file__).resolve().parent / "results" / f"{name}.md"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
