"""Make what comes along for SmolLM2 in `textgym demo --policy smollm2`.

    textgym fetch smollm2
    python recipes/smollm2_demo.py --out src/textgym/demonstration/smollm2

An adapter of rank 8 is fine-tuned on the reviews of the splits reward_model and judge, and a head
is fitted on the first 15 of the base's 30 layers, which stay as they are. Both are written as
`textgym.demonstration.shipped` opens them, with `--card` as their README.
"""

import argparse
import sys
from pathlib import Path

import torch

from textgym.demonstration.any_policy import fine_tuned
from textgym.demonstration.reward import fit_on_frozen
from textgym.demonstration.settings import PolicySettings
from textgym.demonstration.shipped import write_shipped
from textgym.policies.language_model.causal_lm import CausalLM

STEPS = 60
SHARE = 0.47  # of the ratings: what a quarter of an hour reads


def main() -> int:
    """Train, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="README (default: the one that is there)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    card = (arguments.card or arguments.out / "README.md").read_text(encoding="utf-8")
    base = CausalLM.from_pretrained("smollm2")
    settings = PolicySettings(sft_steps=arguments.steps)
    tuned, report = fine_tuned(base, settings, seed=0, progress_bar=True)
    print("held-out loss, nats per completion token:", report.heldout)
    crowd = fit_on_frozen(base, share=arguments.share, seed=0, progress_bar=True)
    print(crowd.report)
    write_shipped(arguments.out, base, tuned, crowd, card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
