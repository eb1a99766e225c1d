"""The recurrent language model: decoding beside the transformer, and PPO beside plain torch.

    python benchmarks/recurrent.py [--quick] [--threads 1] [--repeats 5] [--hidden 256] [--layers 4]

Processor time, so use one thread where others use the machine too; medians over interleaved
repetitions after a warm-up. `decode` is `generate` of 32 texts of 48 tokens behind 16; `floor` is
the ratio of an iteration of unmodified PPO on the LSTM to the same learning in plain torch, with
torch's own LSTM and no framework. Prints a table; writes nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from cases import Case, ppo_case
from floor import Floor
from machine import where
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from token_world import (
    COMPLETION,
    CONTEXT,
    ENVS,
    EPOCHS,
    MINIBATCH,
    PROMPT,
    make_env,
    make_tokenizer,
)
from torch import Tensor, nn
from torch.optim import Adam

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.generation import generate_tokens
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


def make_model(architecture: str, hidden: int, layers: int) -> CausalLM:
    """Random weights, 4,096 words, untied head."""
    return CausalLM.new(
        make_tokenizer(stop="<end>", start="<stop>"),
        architecture=architecture,
        hidden_size=hidden,
        num_hidden_layers=layers,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )


class LSTMFloor(Floor):
    """PPO on torch's LSTM without a framework; norms and residuals as the trunk has them."""

    def __init__(self, lm: CausalLM, prompts: Tensor) -> None:
        self.lm, self.prompts, self.completion = lm, prompts, COMPLETION
        self.epochs, self.minibatches = EPOCHS, ENVS * COMPLETION // MINIBATCH
        hidden, self.blocks = lm.config.hidden_size, list(lm.model.layers)
        self.stack = nn.ModuleList(nn.LSTM(hidden, hidden, batch_first=True) for _ in self.blocks)
        self.value = nn.Linear(hidden, 1)
        norms = [weight for name, weight in lm.named_parameters() if ".lstm." not in name]
        self.parameters = [*norms, *self.stack.parameters(), *self.value.parameters()]
        self.optimizer = Adam(self.parameters, lr=3e-4, eps=1e-5)
        self.generator = torch.Generator().manual_seed(0)
        self.excluded_ids = torch.tensor([lm.tokenizer.pad_token_id, lm.tokenizer.bos_token_id])
        self.states: list[Any] = []

    def _forward(self, tokens: Tensor) -> Tensor:
        return self._run(tokens, [None] * len(self.blocks))

    def _decode(self, tokens: Tensor, start: int) -> Tensor:
        return self._run(tokens, self.states if start else [None] * len(self.blocks))[:, -1]

    def _run(self, tokens: Tensor, states: list[Any]) -> Tensor:
        x = self.lm.model.embed_tokens(tokens)
        self.states = []
        for block, lstm, state in zip(self.blocks, self.stack, states, strict=True):
            out, after = lstm(block.norm(x), state)
            self.states.append(after)
            x = x + out
        return self._norm(x)


def make_agent(lm: CausalLM) -> PPO:
    """The unmodified PPO of `ppo_iteration.py` on a given model."""
    agent = PPO(
        TextActorCriticPolicy,
        make_env(),
        n_steps=COMPLETION,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        rollout_buffer_class=EpisodeRolloutBuffer,
        policy_kwargs={"model": lm},
        seed=0,
        device="cpu",
    )
    agent.set_logger(configure(None, []))
    return agent


def decode(lm: CausalLM, prompts: Tensor) -> Callable[[], None]:
    """32 texts, none of which ends early but by chance."""
    rows, generator = prompts.tolist(), torch.Generator().manual_seed(0)

    def run() -> None:
        generate_tokens(
            lm, rows, max_new_tokens=COMPLETION, sampling=Sampling(), generator=generator
        )

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4, help="of the transformer")
    parser.add_argument("--lstm-layers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="decoding only, 3 repetitions")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = torch.randint(
        3, 4096, (ENVS, PROMPT), generator=torch.Generator().manual_seed(0), dtype=torch.int64
    )
    lstm = make_model("lstm", arguments.hidden, arguments.lstm_layers)
    transformer = make_model("transformer", arguments.hidden, arguments.layers)
    runs = {
        "decode, lstm": decode(lstm, prompts),
        "decode, transformer": decode(transformer, prompts),
    }
    if not arguments.quick:
        plain = LSTMFloor(make_model("lstm", arguments.hidden, arguments.lstm_layers), prompts)
        cases = {
            "ppo, lstm": ppo_case(make_agent(lstm)),
            "floor, lstm": Case(plain.rollout, plain.update, ENVS * COMPLETION),
        }
        for name, case in cases.items():
            runs[f"{name}, rollout"], runs[f"{name}, update"] = case.rollout, case.update
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(1 + (3 if arguments.quick else arguments.repeats)):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if repetition:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    print("\n".join(where(arguments.threads)))
    print(
        f"\nlstm {arguments.lstm_layers} × {arguments.hidden}, transformer {arguments.layers} × "
        f"{arguments.hidden}; {ENVS} rows, {PROMPT} + {COMPLETION} tokens, vocabulary 4,096\n"
    )
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name}: {median:.3f} s, {1e6 * median / (ENVS * COMPLETION):.0f} µs a token")
    ratio = _ratio(seconds["decode, lstm"], seconds["decode, transformer"])
    print(f"decoding, lstm over transformer: {ratio:.2f}")
    if not arguments.quick:
        ours = _sums(seconds["ppo, lstm, rollout"], seconds["ppo, lstm, update"])
        least = _sums(seconds["floor, lstm, rollout"], seconds["floor, lstm, update"])
        print(f"an iteration of PPO over the floor: {_ratio(ours, least):.2f}")


def _ratio(first: list[float], second: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def _sums(first: list[float], second: list[float]) -> list[float]:
    return [a + b for a, b in zip(first, second, strict=True)]


if __name__ == "__main__":
    main()
