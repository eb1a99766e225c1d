"""What the reward model costs in the demo's PPO iteration: asked once a rollout, and at once.

    python benchmarks/reward_calls.py [--quick] [--threads 1] [--repeats 7] [--clock cpu]

One process; every repetition plays and learns from one rollout with each of the two agents, in
turn, after a warm-up, and ratios are taken inside a repetition. They differ in nothing but a
wrapper around the environment that nobody knows, for which texts are scored step by step. The
policy is the bundled start model, and so is the reward model's trunk; its weights are not fitted,
which takes nothing from its time. Writes `benchmarks/results/reward_calls.md`.
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
from stable_baselines3.common.vec_env import VecEnvWrapper

import textgym
from textgym.agents.evaluation.bundled_rewards import with_a_floor
from textgym.demonstration.settings import MAX_NEW_TOKENS, Settings
from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.policies import CausalLM
from textgym.reward_models import BradleyTerryRewardModel
from textgym.rewards import Reward

TOGETHER, AT_ONCE = "once a rollout", "at once"
BAR = 0.05


class Clocked:
    """A reward model, with the time that it took and the texts of each call."""

    def __init__(self, reward: Reward, clock: Callable[[], float], name: str) -> None:
        self.reward, self.clock, self.name = reward, clock, name
        self.seconds, self.calls = 0.0, list[int]()

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> Any:
        """As the reward model's."""
        self.calls.append(len(completions))
        start = self.clock()
        answer = self.reward(prompts, completions, **columns)
        self.seconds += self.clock() - start
        return answer


class Unknown(VecEnvWrapper):
    """A wrapper that may read the rewards on their way."""

    def reset(self) -> Any:
        """As the wrapped environment's."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """As the wrapped environment's."""
        return self.venv.step_wait()


class Case:
    """An agent of the demo, and what an iteration of it took."""

    def __init__(self, is_at_once: bool, rows: int, clock: Callable[[], float]) -> None:
        start = CausalLM.from_pretrained("start")
        texts = [review.text for review in load_movie_reviews("judge")[:64]]
        trunk = BradleyTerryRewardModel(start.trainable_copy(), seed=0).standardise(texts)
        self.trunk = Clocked(trunk, clock, "trunk")
        self.reward = Clocked(with_a_floor(self.trunk), clock, "all of it")
        self.clock, settings = clock, Settings()
        env = textgym.make_vec(
            "textgym/MovieReview-v0",
            rows,
            seed=0,
            tokenizer=start.tokenizer,
            reward=self.reward,
            max_new_tokens=MAX_NEW_TOKENS,
        )
        self.agent: Any = textgym.make_agent(
            "ppo",
            Unknown(env) if is_at_once else env,
            policy=start,
            seed=0,
            kl_coef=settings.kl_coef,
            temperature=settings.temperature,
            learning_rate=settings.learning_rate,
            n_steps=MAX_NEW_TOKENS,
            batch_size=rows * MAX_NEW_TOKENS // 2,
        )
        self.agent.set_logger(configure(None, []))
        _, self.callback = self.agent._setup_learn(10**9, None)
        self.iteration, self.shares, self.trunk_shares = list[float](), list[float](), list[float]()
        self.reward_seconds, self.counts, self.texts = list[float](), list[int](), list[int]()

    def run(self) -> None:
        """One rollout and its update."""
        for clocked in (self.reward, self.trunk):
            clocked.seconds, clocked.calls = 0.0, []
        agent, start = self.agent, self.clock()
        agent.collect_rollouts(agent.env, self.callback, agent.rollout_buffer, agent.n_steps)
        agent.train()
        taken = self.clock() - start
        self.iteration.append(taken)
        self.shares.append(self.reward.seconds / taken)
        self.trunk_shares.append(self.trunk.seconds / taken)
        self.reward_seconds.append(self.reward.seconds)
        self.counts.append(len(self.reward.calls))
        self.texts.append(sum(self.reward.calls))

    def forget(self) -> None:
        """Leave the warm-up out."""
        for figures in (self.iteration, self.shares, self.trunk_shares, self.reward_seconds):
            figures.clear()
        self.counts.clear()
        self.texts.clear()


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    repeats = 2 if arguments.quick else arguments.repeats
    rows = 4 if arguments.tiny else Settings().rows
    cases = {name: Case(name == AT_ONCE, rows, clock) for name in (TOGETHER, AT_ONCE)}
    for case in cases.values():
        case.run()
        case.forget()
    for repetition in range(repeats):
        for name in (TOGETHER, AT_ONCE) if repetition % 2 else (AT_ONCE, TOGETHER):
            cases[name].run()
        print(f"{repetition + 1}/{repeats}", flush=True)
    header.append(
        f"- {repeats} interleaved repetitions, after a warm-up; {arguments.clock} time; "
        f"{rows} rows; rollouts of {MAX_NEW_TOKENS} steps; the demo's reward, with a trunk of "
        "3.4 million parameters that is not fitted"
    )
    text = page(header, cases)
    print(text)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def page(header: list[str], cases: dict[str, Case]) -> str:
    """The results as Markdown."""
    table = [
        "| texts are scored | calls a rollout | texts a call | reward's share of the iteration | "
        "its trunk alone | iteration, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in cases.items():
        calls = statistics.mean(case.counts)
        share, trunk = statistics.median(case.shares), statistics.median(case.trunk_shares)
        table.append(
            f"| {name} | {calls:.1f} | {sum(case.texts) / sum(case.counts):.1f} | "
            f"{share:.1%} ({min(case.shares):.1%}–{max(case.shares):.1%}) | {trunk:.1%} | "
            f"{statistics.median(case.iteration):.2f} |"
        )
    together, at_once = cases[TOGETHER], cases[AT_ONCE]
    pairs = zip(at_once.reward_seconds, together.reward_seconds, strict=True)
    ratios = sorted(one / other for one, other in pairs)
    share = statistics.median(together.shares)
    verdict = "holds" if share < BAR else "does not hold"
    lines = [
        f"The reward model takes {statistics.median(ratios):.1f} times as long when it is asked at "
        f"once ({ratios[0]:.1f}–{ratios[-1]:.1f}).",
        "",
        f"Bar: asked once a rollout, the reward takes under {BAR:.0%} of the iteration: "
        f"{share:.1%}, {verdict}.",
    ]
    title = "# The reward model in the demo's PPO iteration"
    return "\n".join([title, "", *header, "", *table, "", *lines]) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 repetitions: a look, not a figure")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--tiny", action="store_true", help="does the script run?")
    parser.add_argument("--out", default="benchmarks/results/reward_calls.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
