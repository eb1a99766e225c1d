"""Runs that are killed at random moments, and resumed: do they end as runs that were not?

    python benchmarks/kill_and_resume.py [--moments 20] [--only ppo,grpo,dqn,dpo] [--no-cost]

Each of the algorithms trains a tiny model on a rule and on a learned reward, in a process that is
killed with SIGKILL at a moment drawn uniformly over the run; then `resume=True` goes on. Compared
with a run that was left alone are the digests of weights and optimizer, every row of
`metrics.jsonl` but what a clock measured, `samples.jsonl`, and TensorBoard. Then what a state
costs: the start model under PPO, on the movie reviews. Writes
`benchmarks/results/kill_and_resume.md`.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from machine import where

ENVIRONMENT = "textgym/Length-v0"
TOKENS, EVERY = 6_000, 600  # of a run, and between two checkpoints
N_ENVS, BUDGET = 8, 12
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 24, "batch_size": 64, "n_epochs": 2, "kl_coef": 0.05, "kl_target": 1.0},
    "grpo": {"num_generations": 4, "n_epochs": 2, "batch_size": 64, "kl_coef": 0.05},
    "dqn": {"train_freq": 16, "batch_size": 64, "gradient_steps": 2, "buffer_size": 2_000,
            "target_update_interval": 300},
    "dpo": {"num_generations": 2, "n_groups": 8},
}  # fmt: skip


def prepare(folder: Path) -> None:
    """The model that all runs begin with, and a reward model fitted to made-up judgements."""
    import textgym
    from textgym.policies.language_model.causal_lm import CausalLM

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 64}
    lm = CausalLM.new(textgym.Tokenizer.byte(), seed=0, **shape)
    lm.save_pretrained(folder / "lm")
    rng, rows = random.Random(0), []
    for block in range(240):
        text = "".join(rng.choice("abcdefgxyz ") for _ in range(20))
        merit = text.count("a") - text.count("b")
        rows.append(
            {"text": text, "ratings": [merit + rng.randint(-1, 1)] * 3, "block": block // 4}
        )
    (folder / "ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quiet = {"progress_bar": False, "report": lambda line: None}
    out = folder / "rm"
    textgym.fit_reward(folder / "ratings.jsonl", policy=folder / "lm", out=out, steps=20, **quiet)


def train(word: str, reward: str | None, out: Path, folder: Path, *, resume: bool) -> None:
    """A run, or the rest of one."""
    import textgym

    textgym.train(
        ENVIRONMENT,
        agent=word,
        policy=folder / "lm",
        reward=reward,
        timesteps=TOKENS,
        out=out,
        n_envs=N_ENVS,
        env_kwargs={"max_new_tokens": BUDGET},
        checkpoint_tokens=EVERY,
        resume=resume,
        progress_bar=False,
        report=lambda line: None,
        learning_rate=3e-3,
        **SETTINGS[word],
    )


def start(task: Any) -> int:
    """A child process that does a task; the imports of this one are paid already."""
    child = os.fork()
    if child == 0:
        try:
            task()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def ended_well(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def kill_after(child: int, seconds: float) -> bool:
    """Kill a child after some time; whether it was still at work then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def outcome(out: Path) -> dict[str, Any]:
    """What is compared of two runs, each part as a digest."""
    last = out / "checkpoints" / "last"
    rows = {name: _rows(out / f"{name}.jsonl") for name in ("metrics", "samples")}
    steps = [row["step"] for row in rows["metrics"]]
    return {
        "weights": _digest((last / "model.safetensors").read_bytes()),
        "optimizer and state": _digest(_without_clock(last)),
        **{name: _digest(json.dumps(found).encode()) for name, found in rows.items()},
        "TensorBoard": _digest(json.dumps(_tensorboard(out), sort_keys=True).encode()),
        "no step twice": len(steps) == len(set(steps)),
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]


def _without_clock(last: Path) -> bytes:
    """The trainer's tensors but the times at which episodes ended."""
    from safetensors.torch import load_file

    tensors = load_file(last / "trainer.safetensors")
    kept = {name: t for name, t in tensors.items() if not name.endswith("episodes.times")}
    return b"".join(name.encode() + t.numpy().tobytes() for name, t in sorted(kept.items()))


def _tensorboard(out: Path) -> dict[str, list[Any]]:
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    [place] = (out / "tensorboard").iterdir()
    events = EventAccumulator(str(place), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, e.tensor_proto.SerializeToString().hex()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if not tag.startswith("time/")
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def kill_and_compare(
    word: str, reward: str | None, moments: int, folder: Path, rng: random.Random
) -> dict[str, Any]:
    """One line of the table."""
    whole = folder / f"{word}-whole"
    shutil.rmtree(whole, ignore_errors=True)
    began = time.monotonic()
    assert ended_well(start(partial(train, word, reward, whole, folder, resume=False)))
    seconds, expected = time.monotonic() - began, outcome(whole)
    figures: dict[str, Any] = {"kills": 0, "anew": 0, "same": 0, "lost": [], "wrong": []}
    while figures["kills"] < moments:
        out = folder / f"{word}-killed"
        shutil.rmtree(out, ignore_errors=True)
        child = start(partial(train, word, reward, out, folder, resume=False))
        if not kill_after(child, rng.uniform(0, seconds)):
            continue
        figures["kills"] += 1
        saved, written = _saved_step(out), _written_step(out)
        figures["anew"] += saved is None
        if saved is not None:
            figures["lost"].append(written - saved)
        resume = saved is not None  # else it is begun anew
        child = start(partial(train, word, reward, out, folder, resume=resume))
        found = outcome(out) if ended_well(child) else {}
        differing = [name for name in expected if found.get(name) != expected[name]]
        figures["same"] += not differing
        figures["wrong"] += differing
    return figures


def _saved_step(out: Path) -> int | None:
    """Tokens after which the last checkpoint was taken; None if there is none."""
    from textgym.agents.building.checkpoint import read_agent
    from textgym.errors import InputError

    try:
        return int(read_agent(out)[2]["num_timesteps"])
    except InputError:
        return None


def _written_step(out: Path) -> int:
    path = out / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except ValueError:
            continue
    return 0


def cost() -> list[str]:
    """What a state costs: the start model under PPO with its defaults, on the movie reviews."""
    import textgym
    from textgym.agents.building.checkpoint import agent_state

    with tempfile.TemporaryDirectory() as folder:
        agent = textgym.make_agent(
            "ppo",
            "textgym/MovieReview-v0",
            policy="start",
            kl_coef=0.1,
            seed=0,
            out=f"{folder}/run",
        )
        began = time.monotonic()
        agent.learn(3 * agent.n_steps * agent.n_envs)
        iteration = (time.monotonic() - began) / 3
        taken, written = [], []
        for _ in range(5):
            began = time.monotonic()
            agent_state(agent)
            taken.append(time.monotonic() - began)
            began = time.monotonic()
            vars(agent)["_init_callback"].save()
            written.append(time.monotonic() - began)
        size = sum(p.stat().st_size for p in Path(f"{folder}/run/checkpoints/last").rglob("*"))
    state, save = statistics.median(taken), statistics.median(written)
    return [
        "| | |",
        "|---|---|",
        f"| an iteration (rollout and update) | {iteration:.1f} s |",
        f"| the state at the start of a rollout, in memory | {1000 * state:.1f} ms, "
        f"{100 * state / iteration:.2f}% of an iteration |",
        f"| a checkpoint on the disk ({size / 1e6:.0f} MB, flushed) | {save:.2f} s, "
        f"{100 * save / 300:.2f}% of a run at the default interval of 300 s |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--only", default=",".join(SETTINGS))
    parser.add_argument("--no-cost", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    results = Path(__file__).parent / "results" / "kill_and_resume.md"
    parser.add_argument("--out", type=Path, default=results)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heading = where(1)
    lines = [
        "# Killed and resumed",
        "",
        f"{TOKENS:,} tokens of a tiny model on {ENVIRONMENT}, a checkpoint every {EVERY}; each run "
        "is killed with SIGKILL at a random moment and resumed. The same are weights, optimizer "
        "and state, every row of `metrics.jsonl` (but the clock's) and `samples.jsonl`, and what "
        "TensorBoard shows.",
        "",
        "| agent | reward | kills | before any checkpoint | ended the same | tokens lost at most |",
        "|---|---|---|---|---|---|",
    ]
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert ended_well(start(partial(prepare, folder)))
        import textgym  # before the children, which then start at once

        assert textgym.train
        for word in arguments.only.split(","):
            for reward in (None, str(folder / "rm")):
                found = kill_and_compare(word, reward, arguments.moments, folder, rng)
                kind = "rule" if reward is None else "learned"
                same = f"{found['same']} of {found['kills']}"
                wrong = f" ({', '.join(sorted(set(found['wrong'])))} differ)" * bool(found["wrong"])
                lost = max(found["lost"], default=0)
                cells = (word, kind, found["kills"], found["anew"], same + wrong, lost)
                lines.append(f"| {' | '.join(map(str, cells))} |")
                print(lines[-1], flush=True)
    if not arguments.no_cost:
        lines += ["", "## What a state costs", "", "The start model under `ppo`, defaults.", ""]
        lines += cost()
    arguments.out.write_text("\n".join([*lines, "", *heading]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
