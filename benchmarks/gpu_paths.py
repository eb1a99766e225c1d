"""Each way to train on a GPU, once: what `gpu_iteration.py --paths` runs on tiny models.

A way's model gives the same log-probabilities of the same tokens on the card and on the processor,
then its agent plays and learns one rollout there: with all weights and with an adapter, in float32
and bfloat16, with layers computed again, in parts, with a KL term, by
CUDA graphs, on our decoder, an LSTM and
models that transformers runs. The same runs with the device `cpu` in a test.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure
from token_world import SHAPES, make_model, make_task, make_tokenizer

import textgym
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.log_probs import token_log_probs
from textgym.policies.language_model.packing import pack_segments
from textgym.policies.language_model.precision import autocast
from textgym.policies.language_model.sampling import Sampling

VOCABULARY, BUDGET, ROWS = 64, 8, 8
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo": ("decoder", "ppo", {}),
    "grpo": ("decoder", "grpo", {"num_generations": 4}),
    "a KL term": ("decoder", "ppo", {"kl_coef": 0.1}),
    "bfloat16": ("decoder", "grpo", {"num_generations": 4, "dtype": "bfloat16"}),
    "an adapter": ("decoder", "ppo", {"lora_rank": 4, "kl_coef": 0.1}),
    "an adapter, bfloat16": ("decoder", "ppo", {"lora_rank": 4, "dtype": "bfloat16"}),
    "layers again": ("decoder", "ppo", {"gradient_checkpointing": True}),
    "parts": ("decoder", "ppo", {"micro_batch_tokens": 32}),
    "graphs": ("decoder", "grpo", {"num_generations": 4, "cuda_graphs": True}),
    "graphs, an adapter, bfloat16": (
        "decoder",
        "ppo",
        {"lora_rank": 4, "dtype": "bfloat16", "cuda_graphs": True},
    ),
    "dqn": ("decoder", "dqn", {}),
    "lstm": ("lstm", "ppo", {}),
    "gpt2": ("gpt2", "ppo", {}),
    "t5": ("t5", "ppo", {}),
}


def tiny_model(kind: str, folder: Path) -> CausalLM:
    """Random weights of a kind; those of transformers come out of a directory of its own."""
    if kind == "decoder":
        shape = SHAPES["tiny"]
        return make_model(type(shape)(**{**vars(shape), "vocabulary": VOCABULARY}))
    tokenizer = make_tokenizer(stop="<stop>", vocabulary=VOCABULARY)
    if kind == "lstm":
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 64}
        return CausalLM.new(tokenizer, architecture="lstm", **sizes)
    import transformers

    ids = {"pad_token_id": 0, "eos_token_id": 1, "vocab_size": VOCABULARY}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **ids)
            model: Any = transformers.GPT2LMHeadModel(config)
        else:
            sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
            config = transformers.T5Config(decoder_start_token_id=0, **sizes, **ids)
            model = transformers.T5ForConditionalGeneration(config)
    place = folder / kind
    model.save_pretrained(place)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend, pad_token="<pad>", eos_token="<stop>"
    ).save_pretrained(place)
    return CausalLM.from_pretrained(place)


def farthest(lm: CausalLM, device: str, *, dtype: str) -> float:
    """The largest difference of a log-probability, in a dtype, to the processor's in float32."""
    generator = np.random.default_rng(0)
    sequences, acted, actions = [], [], []
    for _ in range(4):
        prompt = [*generator.integers(2, VOCABULARY, 4), *(lm.tokenizer.prompt_end_ids or [])]
        written = generator.integers(2, VOCABULARY, BUDGET)
        sequences.append(np.array([*prompt, *written[:-1]]))
        acted.append(np.arange(len(prompt) - 1, len(sequences[-1])))
        actions.append(torch.as_tensor(written))
    packed, chosen = pack_segments(sequences, acted), torch.cat(actions)
    exact = token_log_probs(lm.to("cpu"), packed, chosen, Sampling())
    with autocast(torch.device(device), getattr(torch, dtype)):
        found = token_log_probs(lm.to(device), packed.to(device), chosen.to(device), Sampling())
    return float((found.cpu() - exact).abs().max())


def walked(kind: str, word: str, keywords: dict[str, Any], device: str, folder: Path) -> str:
    """A row of the table: the difference of log-probabilities, and what learning says."""
    dtype = keywords.get("dtype", "float32")
    difference = farthest(tiny_model(kind, folder), device, dtype=dtype)
    lm = tiny_model(kind, folder)
    task = replace(make_task(BUDGET, VOCABULARY), tokenizer=lm.tokenizer)
    group = keywords.get("num_generations", 1)
    agent = textgym.make_agent(
        word,
        TextVectorEnv(task, ROWS, num_generations=group),
        policy=lm,
        device=device,
        seed=0,
        **keywords,
    )
    agent.set_logger(logger := configure(None, []))
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent.learn(4 * ROWS * BUDGET)
    moved = any(
        not torch.equal(a, b.detach())
        for a, b in zip(before, agent.policy.parameters(), strict=True)
    )
    loss = next((v for k, v in logger.name_to_value.items() if k.endswith("/loss")), math.nan)
    cells = [f"{difference:.1e}", f"{loss:.3f}", "yes" if moved else "no"]
    is_right = difference <= TOLERANCE[dtype] and moved and math.isfinite(loss)
    return " | ".join([*cells, "pass" if is_right else "**fail**"])


def paths_table(header: list[str], device: str) -> str:
    """All ways, one after the other."""
    lines = [f"# Each way to train, on {device}", "", *header, ""]
    lines += ["| way | log-probabilities differ by | loss | weights moved | |"]
    lines += ["|---|---:|---:|---|---|"]
    with tempfile.TemporaryDirectory() as directory:
        for name, (kind, word, keywords) in WAYS.items():
            try:
                row = walked(kind, word, keywords, device, Path(directory))
            except (RuntimeError, InputError) as error:
                row = f" | | | **{' '.join(str(error).split())[:200]}**"
            lines.append(f"| {name} | {row} |")
    return "\n".join([*lines, ""])
