"""Average the weights of checkpoints of one course: the start model is such a mean.

    python recipes/average_checkpoints.py CHECKPOINT... --out build/start_model/average

Checkpoints of one course lie in one valley of the loss, and their mean lies lower (Izmailov et al.
2018, "Averaging Weights Leads to Wider Optima and Better Generalization"). Prints bits per
character of the validation reviews, and with `--test` of the test reviews.
"""

import argparse
import sys
from pathlib import Path

import torch
from start_model import bits_per_character

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import save_pretrained


def main() -> int:
    """Average, write in bfloat16, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", action="store_true", help="read the test reviews too")
    arguments = parser.parse_args()
    models = [CausalLM.from_pretrained(path).float() for path in arguments.checkpoints]
    mean = models[0]
    states = [model.state_dict() for model in models]
    mean.load_state_dict({k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]})
    save_pretrained(mean, arguments.out, dtype=torch.bfloat16)
    shipped = CausalLM.from_pretrained(arguments.out)
    for split in ("validation", "test") if arguments.test else ("validation",):
        bits = bits_per_character(shipped, review_texts(split))  # type: ignore[arg-type]
        print(f"{split}: {bits:.4f} bits per character")
    return 0


if __name__ == "__main__":
    sys.exit(main())
