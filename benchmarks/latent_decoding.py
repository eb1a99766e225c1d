"""What decoding 32 latents costs beside 32 texts of a language model of the same shape.

    python benchmarks/latent_decoding.py [--rows 32] [--new-tokens 48] [--repeats 15]

Bar: at most 1.1 times. Both are untrained, greedy, and interleaved in one process; no
text ends before its budget.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from machine import where  # the module beside this one

from textgym.policies import CausalLM, Sampling, TextVAE
from textgym.policies.language_model.generation import generate_tokens
from textgym.tokenizer import Tokenizer

BAR = 1.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(*where(options.threads), sep="\n")

    tokenizer = Tokenizer.byte()
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 64}
    vae = TextVAE.new(tokenizer, architecture="transformer", **shape)
    lm = CausalLM.new(tokenizer, **shape).eval()
    with torch.no_grad():  # the stop token is never the likeliest
        for head in (vae.lm_head, lm.lm_head):
            head.weight[tokenizer.eos_token_id] = 0.0
    z = np.random.default_rng(0).standard_normal((options.rows, vae.latent_size), np.float32)
    rows = [tokenizer.start_ids or [tokenizer.eos_token_id]] * options.rows

    def latents() -> list[list[int]]:
        return vae.decode_latents(z, max_new_tokens=options.new_tokens)

    def texts() -> list[list[int]]:
        return generate_tokens(
            lm,
            rows,
            max_new_tokens=options.new_tokens,
            sampling=Sampling(temperature=0.0),
            generator=torch.Generator(),
        )

    times: dict[str, list[float]] = {"latents": [], "texts": []}
    for turn in range(options.repeats + 2):
        for name, run in (("latents", latents), ("texts", texts)):
            start = time.perf_counter()
            written = run()
            seconds = time.perf_counter() - start
            if turn >= 2:
                times[name].append(seconds / sum(map(len, written)))
    per_token = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratio = per_token["latents"] / per_token["texts"]
    print(
        f"{1e6 * per_token['latents']:.0f} µs a token of {options.rows} latents, "
        f"{1e6 * per_token['texts']:.0f} of {options.rows} texts: {ratio:.3f} "
        f"(at most {BAR}: {'held' if ratio <= BAR else 'MISSED'})"
    )


if __name__ == "__main__":
    main()
