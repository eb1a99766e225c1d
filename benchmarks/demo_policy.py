"""The demo with SmolLM2 and several seeds against the demo's bars; its texts as they came.

    python benchmarks/demo_policy.py --seeds 0 1 2 --prompts 500
    python benchmarks/demo_policy.py --reports runs/demo_policy/*/report.json \\
        --pairs runs/demo_policy/0 --pairs-out docs/demo-smollm2-texts.md

Only the run with the larger β is made: the other is a process of its own and changes nothing in it.
Settings were chosen on the validation prompts; this reads the test prompts.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from demo_seeds import arguments_of, page, run_or_read, write

from textgym.demonstration.settings import PolicySettings

PAIRS = 40


def pairs_page(run: Path, count: int = PAIRS) -> str:
    """The first prompts of a demo with both texts, one after the other, nothing left out."""
    rows = [json.loads(line) for line in (run / "texts.jsonl").read_text("utf-8").splitlines()]
    lines = [
        "# SmolLM2 before and after RL: forty pairs as they came",
        "",
        f"The first {count} held-out prompts of the demo with SmolLM2, seed 0, and both texts of",
        "each, by `benchmarks/demo_policy.py`; none is chosen, none is left out. What they show:",
        "[demo.md](demo.md#with-a-model-that-writes-whole-sentences).",
        "",
        "| prompt | before | after |",
        "|---|---|---|",
    ]
    for row in rows[:count]:
        lines.append(
            "| " + " | ".join(cell(row[key]) for key in ("prompt", "before", "after")) + " |"
        )
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text in a cell of a table."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def main() -> int:
    """Run or read, and write both pages."""
    parser = arguments_of(__doc__.splitlines()[0], "demo_policy")
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--timesteps", type=int, default=PolicySettings().timesteps)
    parser.add_argument("--kl-coef", type=float, default=PolicySettings().kl_coef)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo_smollm2.md"))
    parser.add_argument("--pairs", type=Path, help="run whose texts are shown")
    parser.add_argument("--pairs-out", type=Path, default=Path("docs/demo-smollm2-texts.md"))
    arguments = parser.parse_args()
    settings = replace(
        PolicySettings(),
        prompts=arguments.prompts,
        timesteps=arguments.timesteps,
        kl_coef=arguments.kl_coef,
        small_kl_coef=None,
    )
    reports = run_or_read(arguments, policy=arguments.policy, settings=asdict(settings))
    write(page(reports, torch.get_num_threads(), "The demo with SmolLM2"), arguments.out)
    if arguments.pairs:
        write(pairs_page(arguments.pairs), arguments.pairs_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
