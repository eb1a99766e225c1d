"""What an iteration of GRPO costs, against plain torch and (if installed) TRL's GRPOTrainer.

    python benchmarks/grpo_iteration.py [--threads 2] [--repeats 7] [--without-trl]

One process; every repetition runs all variants in turn. All have the same model, prompts, lengths
and one optimizer step an epoch: 4 epochs over 32 completions of 48 tokens, groups of 8. Writes
`benchmarks/results/grpo_iteration.md`.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import Floor
from machine import where
from stable_baselines3.common.logger import configure
from token_world import (
    COMPLETION,
    ENVS,
    EPOCHS,
    PROMPT,
    VOCABULARY,
    Shape,
    length_of_text,
    make_model,
    make_task,
)
from torch import nn

from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

GENERATIONS = 8
BARS = {"textgym": 1.10, "textgym, KL": 1.10}


class GRPOFloor(Floor):
    """GRPO without a framework: decode, and forward-backward passes without a value head.

    :param has_reference: one forward pass of a second model over the rollout, for a KL term.
    """

    def __init__(self, shape: Shape, prompts: torch.Tensor, *, has_reference: bool) -> None:
        super().__init__(make_model(shape), prompts, COMPLETION, epochs=EPOCHS, minibatches=1)
        self.parameters = list(self.lm.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=3e-4, eps=1e-5)
        self.value = lambda hidden: hidden[:, :1]  # type: ignore[assignment]  # a view, costs nothing
        self.has_reference = has_reference

    def iteration(self) -> None:
        """Rollout, reference pass if any, update."""
        self.rollout()
        if self.has_reference:
            with torch.no_grad():
                p = self.prompts.shape[1]
                hidden = self._forward(self.tokens[:, :-1])[:, p - 1 :].flatten(0, 1)
                log_probs = self._logits(hidden).log_softmax(-1)
                log_probs.gather(1, self.tokens[:, p:].reshape(-1, 1))
        self.update()

    def update(self) -> None:
        """GRPO's epochs over the last rollout."""
        p = self.prompts.shape[1]
        advantages = torch.randn(len(self.tokens), 1, generator=self.generator)
        chosen = self.tokens[:, p:].reshape(-1, 1)
        for _ in range(self.epochs):
            hidden = self._forward(self.tokens[:, :-1])[:, p - 1 :].flatten(0, 1)
            log_prob = self._logits(hidden).log_softmax(-1).gather(1, chosen)[:, 0]
            ratio = (log_prob - self.log_probs.flatten()).exp().view(len(self.tokens), -1)
            loss = -torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters, 0.5)
            self.optimizer.step()


def make_grpo(shape: Shape, kl_coef: float) -> GRPO:
    """Our GRPO on the benchmark's world; with `kl_coef=0` no reference pass."""
    env = TextVecEnv(TextVectorEnv(make_task(COMPLETION), ENVS, num_generations=GENERATIONS))
    model = make_model(shape)
    agent = GRPO(
        TextActorCriticPolicy,
        env,
        policy_kwargs={"model": model},
        num_generations=GENERATIONS,
        n_epochs=EPOCHS,
        kl=KLPenalty(model, kl_coef) if kl_coef else None,
        device="cpu",
        seed=0,
    )
    agent.set_logger(configure(None, []))
    return agent


def grpo_iteration(agent: GRPO) -> Callable[[], None]:
    """One rollout and update, as `learn` calls them."""
    _, callback = agent._setup_learn(10**9, None)
    passes = [0]

    def count(module: object, arguments: object, output: object) -> None:
        passes[0] += 1

    agent.policy.lm.model.register_forward_hook(count)

    def iteration() -> None:
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 1)
        before = passes[0]
        agent.train()
        assert passes[0] - before == EPOCHS  # one causal pass an epoch

    return iteration


def run_trl(shape: Shape, repeats: int, between: Callable[[], None]) -> list[float]:
    """Seconds of TRL's iterations; `between` runs our variants after each of them."""
    import datasets
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    generator = np.random.default_rng(0)
    words = generator.integers(VOCABULARY - 3, size=(256, PROMPT))
    prompts = [" ".join(f"w{i}" for i in row) for row in words]
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        start = 0.0

        def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if state.global_step % EPOCHS:
                return
            seconds.append(time.perf_counter() - self.start)
            between()
            self.start = time.perf_counter()

    with tempfile.TemporaryDirectory() as directory:
        make_model(shape).save_pretrained(f"{directory}/model")
        model = AutoModelForCausalLM.from_pretrained(f"{directory}/model", dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=f"{directory}/model/tokenizer.json",
            pad_token="<pad>",
            eos_token="<end>",
            padding_side="left",
        )
        trainer = GRPOTrainer(
            model,
            reward_funcs=lambda prompts, completions, **columns: length_of_text(
                prompts, completions
            ),
            args=GRPOConfig(
                output_dir=f"{directory}/out",
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=ENVS,
                num_generations=GENERATIONS,
                max_completion_length=COMPLETION,
                generation_kwargs={"min_new_tokens": COMPLETION},
                num_iterations=EPOCHS,
                max_steps=EPOCHS * (repeats + 1),
                beta=0.0,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                learning_rate=3e-4,
                optim="adamw_torch",
                gradient_checkpointing=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return seconds


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    shape = Shape(layers=2, hidden=64, heads=2, intermediate=160) if arguments.tiny else Shape()
    prompts = torch.randint(
        3, VOCABULARY, (ENVS, PROMPT), generator=torch.Generator().manual_seed(0)
    )
    cases: dict[str, Callable[[], None]] = {
        "floor": GRPOFloor(shape, prompts, has_reference=False).iteration,
        "textgym": grpo_iteration(make_grpo(shape, 0.0)),
        "floor, KL": GRPOFloor(shape, prompts, has_reference=True).iteration,
        "textgym, KL": grpo_iteration(make_grpo(shape, 0.05)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}

    def run_all() -> None:
        for name, iteration in cases.items():
            start = time.perf_counter()
            iteration()
            seconds[name].append(time.perf_counter() - start)

    if importlib.util.find_spec("trl") is not None and not arguments.without_trl:
        seconds["TRL"] = run_trl(shape, arguments.repeats, run_all)
        from importlib.metadata import version

        header.append(f"- trl {version('trl')}, transformers {version('transformers')}")
    else:
        for _ in range(arguments.repeats + 1):
            run_all()
    text = report(header, {name: values[1:] for name, values in seconds.items()})
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(f"written to {arguments.out}")


def report(header: list[str], seconds: dict[str, list[float]]) -> str:
    """The page: medians over the repetitions of the ratio inside a repetition."""
    lines = ["# An iteration of GRPO", "", *header, ""]
    lines += ["| what | ratio | range | bar | |", "|---|---|---|---|---|"]
    pairs = [("textgym", "floor", 1.10, "≤"), ("textgym, KL", "floor, KL", 1.10, "≤")]
    if "TRL" in seconds:
        pairs += [("TRL", "textgym", 1.2, "≥"), ("TRL", "floor", None, "")]
    for above, below, bar, sign in pairs:
        ratios = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        median = statistics.median(ratios)
        verdict = ""
        if bar is not None:
            is_met = median <= bar if sign == "≤" else median >= bar
            verdict = "pass" if is_met else "**fail**"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        shown = "" if bar is None else f"{sign} {bar:g}"
        lines.append(f"| {above} / {below} | {median:.3f} | {spread} | {shown} | {verdict} |")
    lines += ["", "| case | seconds an iteration (median) | completion tokens/s |", "|---|---|---|"]
    for name, values in seconds.items():
        median = statistics.median(values)
        lines.append(f"| {name} | {median:.3f} | {ENVS * COMPLETION / median:,.0f} |")
    lines += [
        "",
        f"{len(seconds['floor'])} interleaved repetitions after a warm-up; prompt {PROMPT}, "
        f"completion {COMPLETION}, {ENVS} environments, groups of {GENERATIONS}, {EPOCHS} epochs "
        "of one optimizer step each, float32, Adam. The floor decodes with a cache, then makes the "
        "forward-backward passes, with no value head and no entropy; with KL one more forward "
        "pass.",
    ]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a tiny model: does the script run?")
    default = Path(__file__).resolve().parent / "results" / "grpo_iteration.md"
    parser.add_argument("--out", type=Path, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
