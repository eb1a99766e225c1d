"""What constraints cost: an iteration of SB3's PPO without masks, and with those of three kinds.

    python benchmarks/masks.py [--quick] [--threads 2] [--repeats 7] [--clock cpu]

One process, interleaved repetitions after a warm-up, ratios inside a repetition. Texts of one
length on all sides: a regular expression that allows any text of 200 characters and more, a JSON
schema with a text of 700, and a grammar of brackets that close, each of which the budget always
cuts: their masks differ from state to state and still change no length. What is timed is
`collect_rollouts` and `train` of the unmodified agent. Writes `benchmarks/results/masks.md`; the
grammar needs the extra `grammar`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import where
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from token_world import length_of_text

from textgym import constraints
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.constraints import AnyConstraint, GrammarConstraint
from textgym.constraints.automaton import Automaton
from textgym.constraints.grammar_automaton import GrammarAutomaton
from textgym.constraints.token_automaton import TokenAutomaton
from textgym.envs.task import Task
from textgym.envs.tasks.movie_reviews import review_texts
from textgym.envs.vector_env import TextVectorEnv
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.tokenizer import Tokenizer

VOCABULARY, ENVS, COMPLETION = 4096, 32, 48
WALKS, STEPS = 8, 24  # texts, and tokens of each, that the masks of a constraint are timed on
LONG = constraints.regex(r"(?s:.{200,})")
BRACKETS = """
    start: part+
    part: TEXT | "(" part+ ")"
    TEXT: /[^()]+/s
"""
LONG_FIELD = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 700}},
    "required": ["text"],
}
FREE = "without"
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 40},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"enum": ["good", "bad", "long"]}, "maxItems": 3},
    },
    "required": ["title", "stars"],
}


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    tokenizer = Tokenizer.train_bpe(review_texts(), vocab_size=VOCABULARY)
    prompts = [f"{letter}: a film that" for letter in "abcdefgh"]
    shape = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    if arguments.tiny:
        shape = {"hidden_size": 32, "num_hidden_layers": 1}
    lm = CausalLM.new(tokenizer, seed=0, **shape)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    kinds = {
        FREE: None,
        "regular expression": LONG,
        "JSON schema": constraints.json_schema(LONG_FIELD),
        "grammar": constraints.grammar(BRACKETS),
    }
    agents = {name: _agent(lm, prompts, constraint) for name, constraint in kinds.items()}
    seconds: dict[str, list[float]] = {
        f"{name} {part}": [] for part in ("rollout", "update") for name in agents
    }
    for repetition in range(-1, arguments.repeats):  # the first warms up
        for name in list(agents)[:: -1 if repetition % 2 else 1]:
            agent, callback = agents[name]
            start = clock()
            agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
            between = clock()
            agent.train()
            if repetition >= 0:
                seconds[f"{name} rollout"].append(between - start)
                seconds[f"{name} update"].append(clock() - between)
        print(f"{repetition + 1}/{arguments.repeats}", flush=True)
    header.append(
        f"- {arguments.repeats} interleaved repetitions after a warm-up; {arguments.clock} time; "
        f"{ENVS} rows, completion {COMPLETION}, vocabulary {tokenizer.vocab_size}, 4 epochs, "
        f"{shape['num_hidden_layers']} layers × {shape['hidden_size']}"
    )
    met = {name: agents[name][0].policy.masks.states_kept for name in list(agents)[1:]}
    text = page(header, seconds, met, compiling(tokenizer, prompts, clock))
    print(text)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def _agent(lm: CausalLM, prompts: list[str], constraint: AnyConstraint | None) -> tuple[Any, Any]:
    task = Task(
        id="benchmark/Masks-v0",
        prompts=prompts,
        reward=length_of_text,
        tokenizer=lm.tokenizer,
        max_new_tokens=COMPLETION,
        constraint=constraint,
    )
    agent = PPO(
        TextActorCriticPolicy,
        TextVecEnv(TextVectorEnv(task, ENVS)),
        policy_kwargs={"model": lm},
        n_steps=COMPLETION,
        batch_size=ENVS * COMPLETION // 4,
        n_epochs=4,
        rollout_buffer_class=EpisodeRolloutBuffer,
        device="cpu",
        seed=0,
    )
    stop = lm.tokenizer.eos_token_id  # on neither side may a text end early
    agent.policy.excluded_ids = torch.cat([agent.policy.excluded_ids, torch.tensor([stop])])
    agent.set_logger(configure(None, []))
    return agent, agent._setup_learn(10**9, None)[1]


def compiling(
    tokenizer: Tokenizer, prompts: list[str], clock: Callable[[], float]
) -> list[tuple[str, str, float, float]]:
    """For some constraints: states, seconds to compile, milliseconds for a token and a mask."""
    rows = []
    words = sorted({word for text in review_texts() for word in text.split()})
    for name, constraint in (
        ("any text of 200 characters and more", LONG),
        ("a JSON schema of three properties", constraints.json_schema(SCHEMA)),
        ("2,000 words, joined by spaces", constraints.words(words[:2000], separator=" ")),
        ("a grammar: brackets that close", constraints.grammar(BRACKETS)),
    ):
        ids = [tokenizer.encode(prompt, add_special_tokens=True) for prompt in prompts]
        is_grammar = isinstance(constraint, GrammarConstraint)
        kind: type[Automaton] = GrammarAutomaton if is_grammar else TokenAutomaton
        start = clock()
        automaton = kind(constraint, tokenizer, prompts=ids)
        compiled = clock() - start
        states = f"{automaton.n_states:,}" if isinstance(automaton, TokenAutomaton) else "a text's"
        rows.append((name, states, compiled, 1e3 * walking(automaton, clock)))
    return rows


def walking(automaton: Automaton, clock: Callable[[], float]) -> float:
    """Seconds for a token and the mask after it, each met once, over texts drawn evenly."""
    rng, spent, count = np.random.default_rng(0), 0.0, 0
    for _ in range(WALKS):
        state = automaton.start
        is_legal = automaton.is_legal(state)
        for _ in range(STEPS):
            legal = np.setdiff1d(np.flatnonzero(is_legal), automaton.stop_token_ids)
            if not len(legal):
                break  # only stopping is left
            token_id = int(rng.choice(legal))
            start = clock()
            state = automaton.advance(state, token_id)
            is_legal = automaton.is_legal(state)
            spent, count = spent + clock() - start, count + 1
    return spent / count


def page(
    header: list[str],
    seconds: dict[str, list[float]],
    met: dict[str, int],
    compiled: list[tuple[str, str, float, float]],
) -> str:
    """The results as Markdown.

    :param met: states whose masks the run worked out, by kind of constraint.
    """
    times = {
        (name, part): np.array(seconds[f"{name} {part}"])
        for name in (FREE, *met)
        for part in ("rollout", "update")
    }
    times |= {(n, "iteration"): times[n, "rollout"] + times[n, "update"] for n in (FREE, *met)}
    rows = [f"| | {FREE} | {' | '.join(met)} |", "|---" * (2 + len(met)) + "|"]
    for part in ("rollout", "update", "iteration"):
        free = times[FREE, part]
        cells = [f"{np.median(free):.2f}"]
        for name in met:
            ratios = np.sort(times[name, part] / free)
            spread = f"{ratios[0]:.2f}–{ratios[-1]:.2f}"
            cells.append(
                f"{np.median(times[name, part]):.2f}: × {np.median(ratios):.2f} ({spread})"
            )
        rows.append(f"| {part}, seconds | {' | '.join(cells)} |")
    table = ["| constraint | states | to compile, s | a token and the mask after it, once, ms |"]
    table += ["|---|---|---|---|"]
    table += [f"| {name} | {n} | {s:.2f} | {ms:.2f} |" for name, n, s, ms in compiled]
    note = (
        "Medians; × is the median ratio to the same repetition without masks, and its range. "
        f"States met by the run: {', '.join(f'{name} {count:,}' for name, count in met.items())}; "
        "each mask was worked out once."
    )
    return "\n".join(["# Masks", "", *header, "", *rows, "", note, "", *table]) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 repetitions: a look, not a figure")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for one thread on a machine that others use too",
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model: does the script run?")
    default = Path(__file__).resolve().parent / "results" / "masks.md"
    parser.add_argument("--out", default=str(default))
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu is for --threads 1")
    arguments.repeats = 2 if arguments.quick else arguments.repeats
    return arguments


if __name__ == "__main__":
    main()
