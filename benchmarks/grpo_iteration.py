"""What an iteration of GRPO and RLOO costs, against plain torch and (if installed) TRL's trainers.

    python benchmarks/grpo_iteration.py [--threads 2] [--repeats 7] [--without-trl]
    python benchmarks/grpo_iteration.py --shape smollm2 --epochs 1 --only grpo --without-kl
    python benchmarks/grpo_iteration.py --bfloat16  # where the processor has the instructions

One process; every repetition runs all variants in turn, once beside each of TRL's trainers. All
have the same model (random weights), prompts, lengths and minibatches: 32 completions of 48
tokens, groups of 8, one optimizer step an epoch unless `--minibatches` says more. Writes
`benchmarks/results/grpo_iteration.md`, for another shape a page of its own.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from floor import Floor
from machine import where
from stable_baselines3.common.logger import configure
from token_world import COMPLETION, ENVS, EPOCHS, PROMPT, SHAPES, Shape, make_model, make_task
from torch import nn
from trl_trainers import run_trl

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.algorithms.rloo import RLOO
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

GENERATIONS = 8
ALGORITHMS: dict[str, type[CriticFreeAlgorithm]] = {"grpo": GRPO, "rloo": RLOO}
CEILING = 1.05
HALF_CEILINGS = {"": 0.75, ": update": 0.65}  # of bfloat16, beside the floor in float32
TRL_FLOORS = {"small": 1.7, "smollm2": 1.15, "tiny": 0.0}


class GRPOFloor(Floor):
    """GRPO without a framework: decode, and forward-backward passes without a value head.

    RLOO does the same work.

    :param has_reference: one forward pass of a second model over the rollout, for a KL term.
    """

    def __init__(
        self,
        shape: Shape,
        prompts: torch.Tensor,
        epochs: int,
        *,
        has_reference: bool,
        completion: int = COMPLETION,
        minibatches: int = 1,
    ) -> None:
        lm = make_model(shape)
        super().__init__(lm, prompts, completion, epochs=epochs, minibatches=minibatches)
        self.parameters = list(self.lm.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=3e-4, eps=1e-5)
        self.value = lambda hidden: hidden[:, :1]  # type: ignore[assignment]  # a view, costs nothing
        self.has_reference = has_reference

    def iteration(self) -> None:
        """Rollout, reference pass if any, update."""
        self.play()
        self.update()

    def play(self) -> None:
        """Rollout and reference pass if any."""
        self.rollout()
        if self.has_reference:
            with torch.no_grad():
                p = self.prompts.shape[1]
                hidden = self._forward(self.tokens[:, :-1])[:, p - 1 :].flatten(0, 1)
                log_probs = self._logits(hidden).log_softmax(-1)
                log_probs.gather(1, self.tokens[:, p:].reshape(-1, 1))

    def update(self) -> None:
        """GRPO's epochs over the last rollout."""
        p = self.prompts.shape[1]
        advantages = torch.randn(
            len(self.tokens), 1, generator=self.generator, device=self.prompts.device
        )
        rows = torch.arange(len(self.tokens), device=self.prompts.device)
        for _ in range(self.epochs):
            for part in rows.tensor_split(self.minibatches):
                hidden = self._forward(self.tokens[part, :-1])[:, p - 1 :].flatten(0, 1)
                chosen = self.tokens[part, p:].reshape(-1, 1)
                log_prob = self._logits(hidden).log_softmax(-1).gather(1, chosen)[:, 0]
                ratio = (log_prob - self.log_probs[part].flatten()).exp().view(len(part), -1)
                advantage = advantages[part]
                loss = -torch.min(advantage * ratio, advantage * ratio.clamp(0.8, 1.2)).mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 0.5)
                self.optimizer.step()


def make_agent(
    algorithm: type[CriticFreeAlgorithm],
    shape: Shape,
    epochs: int,
    kl_coef: float,
    *,
    device: str = "cpu",
    half: bool = False,
    rows: int = ENVS,
    completion: int = COMPLETION,
    minibatches: int = 1,
    cuda_graphs: bool = False,
) -> CriticFreeAlgorithm:
    """Ours on the benchmark's world; with `kl_coef=0` no reference pass.

    :param half: bfloat16 by autocast.
    :param cuda_graphs: decode by steps of one shape.
    """
    task = make_task(completion, shape.vocabulary)
    env = TextVecEnv(TextVectorEnv(task, rows, num_generations=GENERATIONS))
    model = make_model(shape)
    agent = algorithm(
        TextActorCriticPolicy,
        env,
        policy_kwargs={
            "model": model,
            "dtype": "bfloat16" if half else "float32",
            "cuda_graphs": cuda_graphs,
        },
        num_generations=GENERATIONS,
        n_epochs=epochs,
        batch_size=rows * completion // minibatches,
        kl=KLPenalty(model, kl_coef) if kl_coef else None,
        device=device,
        seed=0,
    )
    agent.set_logger(configure(None, []))
    return agent


def agent_phases(
    agent: CriticFreeAlgorithm, minibatches: int = 1
) -> tuple[Callable[[], None], Callable[[], None]]:
    """One rollout, and the update after it, as `learn` calls them."""
    _, callback = agent._setup_learn(10**9, None)
    passes = [0]

    def count(module: object, arguments: object, output: object) -> None:
        passes[0] += 1

    agent.policy.lm.model.register_forward_hook(count)

    def rollout() -> None:
        agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, 1)

    def update() -> None:
        before = passes[0]
        agent.train()
        assert passes[0] - before == agent.n_epochs * minibatches  # a causal pass for each

    return rollout, update


def agent_iteration(agent: CriticFreeAlgorithm, minibatches: int = 1) -> Callable[[], None]:
    """Both of `agent_phases`."""
    rollout, update = agent_phases(agent, minibatches)

    def iteration() -> None:
        rollout()
        update()

    return iteration


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    shape, epochs = SHAPES[arguments.shape], arguments.epochs
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    prompts = torch.randint(
        3, shape.vocabulary, (ENVS, PROMPT), generator=torch.Generator().manual_seed(0)
    )
    minibatches = arguments.minibatches

    Phases = tuple[Callable[[], None], Callable[[], None]]

    def floor(*, has_reference: bool) -> Phases:
        plain = GRPOFloor(
            shape, prompts, epochs, has_reference=has_reference, minibatches=minibatches
        )
        return plain.play, plain.update

    def ours(name: str, kl_coef: float, *, half: bool = False) -> Phases:
        algorithm = ALGORITHMS[name]
        agent = make_agent(algorithm, shape, epochs, kl_coef, half=half, minibatches=minibatches)
        return agent_phases(agent, minibatches)

    cases = {"floor": floor(has_reference=False), **{w: ours(w, 0.0) for w in arguments.only}}
    if arguments.bfloat16:
        cases |= {f"{w}, bfloat16": ours(w, 0.0, half=True) for w in arguments.only}
    if not arguments.without_kl:
        cases |= {"floor, KL": floor(has_reference=True), "grpo, KL": ours("grpo", 0.05)}
    seconds: dict[str, list[float]] = {f"{c}{p}": [] for c in cases for p in ("", ": update")}

    def run_all() -> None:
        for name, (rollout, update) in cases.items():
            start = clock()
            rollout()
            middle = clock()
            update()
            end = clock()
            seconds[name].append(end - start)
            seconds[f"{name}: update"].append(end - middle)

    rounds: list[dict[str, list[float]]] = []
    has_trl = importlib.util.find_spec("trl") is not None and not arguments.without_trl
    repeats = arguments.repeats
    for name in arguments.only if has_trl else ():
        for values in seconds.values():
            values.clear()
        theirs = run_trl(
            name, shape, epochs, GENERATIONS, repeats, run_all, clock, minibatches=minibatches
        )
        rounds.append({**{k: v[1:] for k, v in seconds.items()}, f"TRL {name}": theirs[1:]})
    if not rounds:
        for _ in range(repeats + 1):
            run_all()
        rounds.append({k: v[1:] for k, v in seconds.items()})
    else:
        from importlib.metadata import version

        header.append(f"- trl {version('trl')}, transformers {version('transformers')}")
    header.append(
        f"- model: {shape}, random weights; prompt {PROMPT}, completion {COMPLETION}, {ENVS} "
        f"environments, groups of {GENERATIONS}, epochs: {epochs}, optimizer steps of each: "
        f"{minibatches}; float32 unless said, Adam; {arguments.clock} time"
    )
    text = report(header, rounds, TRL_FLOORS[arguments.shape])
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(f"written to {arguments.out}")


def report(header: list[str], rounds: list[dict[str, list[float]]], trl_floor: float) -> str:
    """The page: medians over the repetitions of the ratio inside a repetition.

    :param rounds: seconds of each variant, of as many repetitions as there are; all variants but
        TRL's are in every round.
    :param trl_floor: times that a trainer of TRL should take as long as ours.
    """
    lines = ["# An iteration of GRPO and RLOO", "", *header, ""]
    lines += ["| what | ratio | range | bar | |", "|---|---|---|---|---|"]
    pairs: list[tuple[str, str, float | None, str]] = [
        ("grpo", "floor", CEILING, "≤"),
        ("rloo", "floor", CEILING, "≤"),
        ("grpo, KL", "floor, KL", CEILING, "≤"),
    ]
    for name in ALGORITHMS:
        for phase, bar in HALF_CEILINGS.items():
            pairs.append((f"{name}, bfloat16{phase}", f"floor{phase}", bar, "≤"))
    for name in ALGORITHMS:
        pairs += [(f"TRL {name}", name, trl_floor, "≥"), (f"TRL {name}", "floor", None, "")]
    for above, below, bar, sign in pairs:
        ratios = [
            a / b
            for seconds in rounds
            if {above, below} <= seconds.keys()
            for a, b in zip(seconds[above], seconds[below], strict=True)
        ]
        if not ratios:
            continue
        median = statistics.median(ratios)
        verdict = ""
        if bar is not None:
            is_met = median <= bar if sign == "≤" else median >= bar
            verdict = "pass" if is_met else "**fail**"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        shown = "" if bar is None else f"{sign} {bar:g}"
        lines.append(f"| {above} / {below} | {median:.3f} | {spread} | {shown} | {verdict} |")
    lines += ["", "| case | seconds an iteration (median) | completion tokens/s |", "|---|---|---|"]
    names = dict.fromkeys(name for seconds in rounds for name in seconds)
    for name in (name for name in names if not name.endswith(": update")):
        values = [value for seconds in rounds for value in seconds.get(name, [])]
        median = statistics.median(values)
        lines.append(f"| {name} | {median:.3f} | {ENVS * COMPLETION / median:,.0f} |")
    lines += [
        "",
        f"{len(rounds[0]['floor'])} interleaved repetitions after a warm-up, beside each of TRL's "
        "trainers. The floor decodes with a cache, then makes the forward-backward passes, with no "
        "value head and no entropy; with KL one more forward pass.",
    ]
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--minibatches", type=int, default=1, help="that divide 32")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: with --threads 1"
    )
    parser.add_argument("--only", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--bfloat16", action="store_true", help="ours in bfloat16 beside")
    parser.add_argument("--without-trl", action="store_true")
    parser.add_argument("--without-kl", action="store_true", help="for a machine of little memory")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        name = "grpo_iteration" + ("" if arguments.shape == "small" else f"_{arguments.shape}")
        arguments.out = Path(__file__).resolve().parent / "results" / f"{name}.md"
    return arguments


if __name__ == "__main__":
    main()
