"""A task with a right answer: SmolLM2 writes words backwards, fine-tuned first, then by GRPO.

    python benchmarks/reverse_text.py --policy smollm2 --seeds 0 1 2 --sft 0 --shuffled 0

A short fine-tuning shows some right answers; GRPO then sees other words and what an answer is worth
(`graded`), never the right one. Beside it, where asked for: as much computing spent on showing the
right answers to the words that GRPO plays (`--sft`), and GRPO with each reward given to another
text (`--shuffled`). All are read on words that nothing has seen. Runs that are done
(`--runs`) are not made again. Some five minutes of one core a run, and one and a half to read it.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_policy import cell
from demo_seeds import titled, write
from reversed_words import KINDS, LETTERS, graded, kind, letters, row, shuffled, similarity, splits

import textgym
from textgym.agents.evaluation.report import Interval
from textgym.envs.tasks.movie_reviews import review_texts
from textgym.rewards import Reward

ID = "bench/Reverse-v0"
SFT = {"batch_size": 16, "learning_rate": 5e-4, "lora_rank": 8, "heldout": 0.03}
SFT |= {"patience": None, "evaluate_every": 1_000_000}
GRPO = {
    "n_envs": 64,
    "num_generations": 8,
    "n_groups": 8,
    "batch_size": 256,
    "n_epochs": 2,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "kl_coef": 0.0,  # an answer is right or not: nothing to game
    "lora_rank": 8,
}
Make = Callable[[Path], None]  # fills a run's folder
SHOWN = 24  # words whose answers the page shows


def register(words: Sequence[str], reward: Reward = similarity) -> None:
    """The task under its id, with words to play and a reward."""
    prompts = [row(word) for word in words]
    textgym.register(ID, prompts=prompts, reward=reward, max_new_tokens=LETTERS[1] + 2)


def fine_tuned(policy: str | Path, words: Sequence[str], out: Path, **budget: Any) -> None:
    """A run that shows a policy the answers to some words."""
    pairs = [{**row(word), "completion": " " + row(word)["answer"]} for word in words]
    settings = {**SFT, **budget, "progress_bar": False, "report": lambda line: None}
    textgym.sft(pairs, policy=policy, out=out, **settings)


def reinforced(policy: Path, out: Path, **settings: Any) -> None:
    """A run of GRPO on what is registered."""
    textgym.train(
        ID,
        agent="grpo",
        policy=policy,
        out=out,
        checkpoint_seconds=1e6,
        progress_bar=False,
        report=lambda line: None,
        **GRPO,
        **settings,
    )


def read(policy: Path, words: Sequence[str], start: Path | None = None) -> dict[str, Any]:
    """What a policy answers to words, drawn at temperature 1 and at its likeliest.

    :param start: of the KL, in nats per text.
    :returns: "drawn" and "likeliest", a mean and the half-width of its 95% interval each for
        similarity and exact match, the share of each kind of answer, and the answers.
    """
    register(words)
    found: dict[str, Any] = {}
    for name, temperature in (("drawn", 1.0), ("likeliest", 0.0)):
        report = textgym.evaluate(
            ID,
            policy=policy,
            prompts=[row(word) for word in words],
            gold="exact_match",
            reference=start if temperature else None,
            temperature=temperature,
        )
        answers = [letters(episode.completion) for episode in report.episodes]
        kinds = Counter(kind(a, word[::-1]) for a, word in zip(answers, words, strict=True))
        exact = report.judges["exact_match"]
        found[name] = {
            "similarity": [report.reward.mean, report.reward.half_width],
            "exact": [exact.mean, exact.half_width],
            "kinds": {label: kinds[label] / len(words) for label in KINDS},
            "answers": answers,
        }
        if report.kl is not None:
            found["kl"] = [report.kl.mean, report.kl.half_width]
    return found


class Runs:
    """What each run answers to the words of a split; runs and answers that are there stay."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.folder = arguments, arguments.runs
        self.words = splits(review_texts())
        self.read_on = self.words[arguments.split][: arguments.words]

    def start(self) -> dict[str, Any]:
        """The model after the short fine-tuning, one for all seeds."""
        words, steps = self.words["sft"], self.arguments.start_steps
        return self._figures(
            "start", lambda out: fine_tuned(self.arguments.policy, words, out, steps=steps), None
        )

    def sft(self, seed: int) -> dict[str, Any]:
        """The start fine-tuned further, on the words that GRPO plays."""
        start, words, steps = self.folder / "start", self.words["rl"], self.arguments.sft_steps
        return self._figures(
            f"sft-{seed}", lambda out: fine_tuned(start, words, out, steps=steps, seed=seed), start
        )

    def grpo(self, seed: int, *, is_shuffled: bool = False) -> dict[str, Any]:
        """The start after GRPO."""
        start, timesteps = self.folder / "start", self.arguments.timesteps

        def make(out: Path) -> None:
            register(self.words["rl"], shuffled(seed) if is_shuffled else graded)
            dtype = self.arguments.dtype
            reinforced(start, out, seed=seed, timesteps=timesteps, dtype=dtype)

        return self._figures(f"{'shuffled' if is_shuffled else 'grpo'}-{seed}", make, start)

    def _figures(self, name: str, make: Make, start: Path | None) -> dict[str, Any]:
        """From the run's files, or of a run that is made now."""
        folder = self.folder / name
        cost = folder / "seconds.json"
        path = folder / f"{self.arguments.split}-{len(self.read_on)}.json"
        if not cost.exists():
            began = time.process_time()
            make(folder)
            cost.write_text(json.dumps({"seconds": time.process_time() - began}), encoding="utf-8")
        if not path.exists():
            path.write_text(json.dumps(read(folder, self.read_on, start)), encoding="utf-8")
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures | json.loads(cost.read_text(encoding="utf-8"))


def table(columns: dict[str, dict[str, Any]], words: Sequence[str]) -> list[str]:
    """A row per figure, a column per run; the first is the start."""
    runs = list(columns.values())
    plus = "{0[0]:.3f} ± {0[1]:.3f}".format
    rows: list[tuple[str, list[str]]] = []
    for how in ("drawn", "likeliest"):
        for what, label in (("similarity", "similarity"), ("exact", "exact match")):
            rows.append((f"{label}, {how}", [plus(run[how][what]) for run in runs]))
    for how in ("drawn", "likeliest"):
        for what, label in (("similarity", "similarity"), ("exact", "exact match")):
            gains = [gain(run, runs[0], words, how, what) for run in runs[1:]]
            rows.append((f"{label} above the start's, word by word, {how}", ["", *gains]))
    rows.append(("KL, nats per text", [plus(run["kl"]) if "kl" in run else "" for run in runs]))
    for label in KINDS:
        shares = [f"{run['likeliest']['kinds'][label]:.3f}" for run in runs]
        rows.append((f"likeliest: {label}", shares))
    rows.append(("processor seconds", [f"{run['seconds']:.0f}" for run in runs]))
    return [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(f"| {' | '.join([label, *cells])} |" for label, cells in rows),
    ]


def gain(
    run: dict[str, Any], start: dict[str, Any], words: Sequence[str], how: str, what: str
) -> str:
    """What is above the start's over the same words: mean ± half of the 95% interval.

    :param how: "drawn" or "likeliest".
    :param what: "similarity" or "exact".
    """
    rights = [word[::-1] for word in words]
    after, before = (_scores(r[how]["answers"], rights, what) for r in (run, start))
    difference = Interval.of(after - before)
    return f"{difference.mean:+.3f} ± {difference.half_width:.3f}"


def _scores(answers: Sequence[str], rights: Sequence[str], what: str) -> np.ndarray:
    """Of each answer."""
    if what == "similarity":
        return np.array(similarity(answers, rights))
    return (np.array(answers) == np.array(rights)).astype(float)


def bars(
    start: dict[str, Any], grpo: Sequence[dict[str, Any]], shuffled: Sequence[dict[str, Any]]
) -> list[str]:
    """Lines: whether GRPO's intervals lie above the start's, and those of shuffled rewards do not.

    "Likeliest" is the stricter half: a policy that only grew surer of itself gains nothing there.
    """
    lines = []
    for how in ("drawn", "likeliest"):
        for what in ("similarity", "exact"):
            above = [is_above(run[how][what], start[how][what]) for run in grpo]
            ok = "✓" if above and all(above) else "**missed**"
            line = f"- {what}, {how}: {sum(above)} of {len(above)} seeds above the start {ok}"
            wrong = [is_above(run[how][what], start[how][what]) for run in shuffled]
            if wrong:
                ok = "**missed**" if any(wrong) else "✓"
                line += f"; with shuffled rewards {sum(wrong)} of {len(wrong)} {ok}"
            lines.append(line)
    return lines


def is_above(after: Sequence[float], before: Sequence[float]) -> bool:
    """Whether two 95% intervals, each a mean and its half-width, lie apart, `after` above."""
    return after[0] - after[1] > before[0] + before[1]


def answers(words: Sequence[str], columns: dict[str, dict[str, Any]], count: int) -> list[str]:
    """The likeliest answers to the first words, as they came."""
    lines = [f"| word | right | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for place, word in enumerate(words[:count]):
        given = [run["likeliest"]["answers"][place] for run in columns.values()]
        cells = [cell(a) + (" ✓" if a == word[::-1] else "") for a in given]
        lines.append(f"| {' | '.join([word, word[::-1], *cells])} |")
    return lines


def main() -> int:
    """Make what is not there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of GRPO")
    parser.add_argument("--sft", type=int, nargs="*", default=[], help="seeds of more fine-tuning")
    parser.add_argument("--shuffled", type=int, nargs="*", default=[], help="seeds of the control")
    parser.add_argument("--timesteps", type=int, default=7_000, help="completion tokens of GRPO")
    parser.add_argument("--dtype", default="bfloat16", help="of GRPO; see docs/memory.md")
    parser.add_argument("--start-steps", type=int, default=32, help="of 16 words")
    parser.add_argument("--sft-steps", type=int, default=120, help="of 16 words: of more")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--words", type=int, default=300, help="that the figures are of")
    parser.add_argument("--runs", type=Path, default=Path("runs/reverse_text"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reverse_text.md"))
    arguments = parser.parse_args()
    runs = Runs(arguments)
    start = runs.start()
    grpo = {f"GRPO {seed}": runs.grpo(seed) for seed in arguments.seeds}
    control = {f"shuffled {s}": runs.grpo(s, is_shuffled=True) for s in arguments.shuffled}
    more = {f"more SFT {seed}": runs.sft(seed) for seed in arguments.sft}
    columns = {"start": start, **grpo, **more, **control}
    lines = [
        *table(columns, runs.read_on),
        "",
        "Bars (95% intervals apart):",
        "",
        *bars(start, list(grpo.values()), list(control.values())),
        "",
        "The likeliest answers to the first words, as they came:",
        "",
        *answers(runs.read_on, columns, SHOWN),
    ]
    title = f"Words backwards, {len(runs.read_on)} {arguments.split} words"
    write(titled(title, lines, torch.get_num_threads()), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
