"""What held-out evaluations cost: an evaluation, those of a run, and a shadow in training.

    python benchmarks/held_out_evaluation.py [--quick] [--threads 1] [--repeats 5] [--clock cpu]

One process; in every repetition each thing is done in turn, after a warm-up, and ratios are taken
inside a repetition. The policy is the bundled start model on `textgym/MovieReview-v0` with its own
held-out prompts, judged by `crowd`, `lexicon` and `critic`.

(a) An evaluation, against doing as much plainly: `generate_tokens` on the same prompts, the
log-probabilities of as many tokens under the start in one pass, and one call of each judge. Both
per token, since the texts differ.
(b) The default number of evaluations of a run of 40,000 tokens, against its PPO iterations.
(c) A PPO iteration with `lexicon` as a shadow, against the shadow's own calls in it.

Writes `benchmarks/results/held_out_evaluation.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import where
from stable_baselines3.common.logger import configure

import textgym
from textgym.agents.evaluation.held_out_callback import DEFAULT_EVALUATIONS
from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts, listed_prompts
from textgym.agents.evaluation.held_out_texts import HeldOutTexts
from textgym.agents.evaluation.judging import PlayedTexts, ask_judge
from textgym.agents.evaluation.report import episode_log_probs
from textgym.environments_by_id import get_task
from textgym.policies import CausalLM
from textgym.policies.language_model.generation import generate_tokens
from textgym.policies.language_model.sampling import Sampling
from textgym.rewards import Reward
from textgym.rewards_by_name import named_rewards

ENV, JUDGES, SHADOW = "textgym/MovieReview-v0", ("crowd", "lexicon", "critic"), "lexicon"
RUN_TOKENS, ROWS = 40_000, 64
BARS = {"evaluation": 1.2, "run": 0.1, "shadow": 0.02}
Clock = Callable[[], float]


class Evaluation:
    """Evaluations of an agent, and as much work done plainly."""

    def __init__(self, agent: Any, start: CausalLM) -> None:
        self.policy, self.start = agent.policy, start.frozen_reference()
        task = get_task(ENV, tokenizer=start.tokenizer)
        source = get_task(ENV, tokenizer=start.tokenizer, prompts=task.heldout_prompts)
        prompts = listed_prompts(source.prompt_source(), most=1, label=ENV)
        self.prompts = HeldOutPrompts(prompts, 0, task.max_new_tokens)
        self.judges = named_rewards(JUDGES)
        shifts = -(-len(prompts) // ROWS)
        env = textgym.make_vec(
            ENV,
            -(-len(prompts) // shifts),
            seed=0,
            tokenizer=start.tokenizer,
            prompts=self.prompts,
            max_prompt_tokens=self.prompts.longest,
            reward=lambda prompts, completions: [0.0] * len(completions),
        )
        self.texts = HeldOutTexts(env, self.prompts, self.judges, self.start)
        self.played = self.texts.play(self.policy)  # what is scored plainly
        self.budget = task.max_new_tokens

    def evaluate(self, clock: Clock) -> tuple[float, int]:
        """Seconds and tokens of an evaluation."""
        begun = clock()
        texts = self.texts.write(self.policy, 0)
        return clock() - begun, sum(text.length for text in texts)

    def plainly(self, clock: Clock) -> tuple[float, float, int]:
        """Seconds of generating and of scoring, and tokens."""
        rows = [prompt.ids.tolist() for prompt in self.prompts.prompts]
        tokens = sum(len(episode.acted) for episode in self.played)
        texts = PlayedTexts.of(self.played)
        begun = clock()
        written = generate_tokens(
            self.policy.lm,
            rows,
            max_new_tokens=self.budget,
            sampling=Sampling(),
            generator=torch.Generator().manual_seed(0),
        )
        generated = clock() - begun
        # The stop token, which is left out of the rows, was paid for too.
        own = sum(min(len(row) + 1, self.budget) for row in written)
        begun = clock()
        episode_log_probs(self.start, self.played, Sampling())
        for judge in self.judges.values():
            ask_judge(judge, texts)
        return generated * tokens / own, clock() - begun, tokens


class Clocked:
    """A reward model with the time that it took."""

    def __init__(self, reward: Reward, clock: Clock, name: str) -> None:
        self.reward, self.clock, self.name, self.seconds = reward, clock, name, 0.0

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> Any:
        """As the reward model's."""
        begun = self.clock()
        answer = self.reward(prompts, completions, **columns)
        self.seconds += self.clock() - begun
        return answer


class Training:
    """PPO iterations with a shadow."""

    def __init__(self, start: CausalLM, rows: int, clock: Clock) -> None:
        self.clock = clock
        self.shadow = Clocked(named_rewards([SHADOW])[SHADOW], clock, SHADOW)
        self.agent: Any = textgym.make_agent(
            "ppo", ENV, policy=start, seed=0, n_envs=rows, shadow=self.shadow
        )
        self.agent.set_logger(configure(None, []))
        _, self.callback = self.agent._setup_learn(10**9, None)

    def run(self) -> tuple[float, float, int]:
        """Seconds of an iteration, of the shadow in it, and tokens."""
        agent, self.shadow.seconds = self.agent, 0.0
        begun = self.clock()
        agent.collect_rollouts(agent.env, self.callback, agent.rollout_buffer, agent.n_steps)
        agent.train()
        return self.clock() - begun, self.shadow.seconds, agent.n_steps * agent.n_envs


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    start = CausalLM.from_pretrained("start")
    training = Training(start, 4 if arguments.tiny else 32, clock)
    evaluation = Evaluation(training.agent, start)
    found: dict[str, list[float]] = {name: [] for name in (*BARS, "of plain", "ms", "iteration")}
    repeats = 1 if arguments.tiny else 2 if arguments.quick else arguments.repeats
    for repetition in range(-1, repeats):
        seconds, tokens = evaluation.evaluate(clock)
        generated, scored, plain_tokens = evaluation.plainly(clock)
        iteration, shadow, iteration_tokens = training.run()
        if repetition < 0:
            continue  # warm-up
        each = seconds / tokens
        found["evaluation"].append(each / ((generated + scored) / plain_tokens))
        found["of plain"].append(each / (generated / plain_tokens))
        found["run"].append(
            DEFAULT_EVALUATIONS * seconds / (iteration * RUN_TOKENS / iteration_tokens)
        )
        found["shadow"].append(shadow / iteration)
        found["ms"].append(1000 * each)
        found["iteration"].append(1000 * iteration / iteration_tokens)
        print(f"{repetition + 1}/{repeats}", flush=True)
    count, tokens = len(evaluation.prompts.prompts), sum(len(e.acted) for e in evaluation.played)
    header.append(
        f"- {repeats} interleaved repetitions after a warm-up; {arguments.clock} time; the start "
        f"model; {count} prompts, {tokens / count:.0f} tokens a text; judges "
        f"{', '.join(JUDGES)}; PPO with {training.agent.n_envs} rows and its defaults"
    )
    text = page(header, found, count)
    print(text)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def page(header: list[str], found: dict[str, list[float]], prompts: int) -> str:
    """The results as Markdown."""

    def row(what: str, name: str, form: str, bar: str = "") -> str:
        values = found[name]
        middle = statistics.median(values)
        verdict = "" if name not in BARS else "pass" if middle <= BARS[name] else "FAIL"
        span = f"{min(values):{form}} to {max(values):{form}}"
        return f"| {what} | {middle:{form}} | {span} | {bar} | {verdict} |"

    table = [
        "| what | median | range | bar | |",
        "|---|---|---|---|---|",
        row("(a) an evaluation / generating and scoring plainly", "evaluation", ".3f", "≤ 1.2"),
        row("(a) an evaluation / generating alone", "of plain", ".3f"),
        row("(a) an evaluation, ms a token", "ms", ".3f"),
        row(
            f"(b) {DEFAULT_EVALUATIONS} evaluations of {prompts} prompts / a ppo run of "
            f"{RUN_TOKENS:,} tokens",
            "run",
            ".1%",
            "≤ 10%",
        ),
        row(f"(c) `{SHADOW}` as a shadow / an iteration", "shadow", ".2%", "≤ 2%"),
        row("ppo, ms a token", "iteration", ".3f"),
    ]
    title = "# What held-out evaluations cost"
    note = (
        "Scoring is one pass of the start over as many tokens, and a call of each judge. In (c) "
        "the shadow's calls are timed inside the iteration: a difference of two iterations would "
        "be smaller than their spread."
    )
    return "\n".join([title, "", *header, "", *table, "", note]) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2 repetitions: a look, not a figure")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--tiny", action="store_true", help="does the script run?")
    parser.add_argument("--out", default="benchmarks/results/held_out_evaluation.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
