"""What an agent's defaults do to a real language model: nothing is said but task, word and policy.

    python benchmarks/model_defaults.py --policy start [--agents ppo grpo] [--seeds 3]

Each run is `textgym train textgym/MovieReview-v0 --policy ... --agent WORD`, all else at its
default, against the crowd's taste; texts before and after continue prompts of movies that nothing
has read, judged by a critic that never trains here and by the guards of docs/demo.md. `--before`
makes the run as it was before defaults knew the model: rate 3e-4, no KL term. Runs that are done
(`--runs`) are not made again, so that a table grows run by run. Some three minutes a run of the
start on one core, a quarter of an hour and more with SmolLM2-135M.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo_seeds import text_bars, titled

ENVIRONMENT = "textgym/MovieReview-v0"
BEFORE = {"learning_rate": 3e-4, "kl_coef": 0.0}


def trained(arguments: argparse.Namespace, agent: str, seed: int) -> Path:
    """The directory of a run, which is made now unless it is whole."""
    import textgym
    from textgym.envs.tasks.movie_reviews import test_prompts

    name = f"{Path(arguments.policy).name}-{agent}-{seed}{'-before' if arguments.before else ''}"
    out: Path = arguments.runs / name
    if not is_whole(out, 2 * arguments.prompts):
        textgym.train(
            ENVIRONMENT,
            agent=agent,
            policy=arguments.policy,
            timesteps=arguments.timesteps,
            out=out,
            seed=seed,
            evaluations=2,
            prompts=test_prompts(arguments.prompts),
            gold=("critic",),
            progress_bar=False,
            report=lambda line: None,
            **(BEFORE if arguments.before else {}),
        )
    return out


def is_whole(run: Path, texts: int) -> bool:
    """Whether a run has written all its held-out texts, the last of which come at its end."""
    file = run / "held_out.jsonl"
    return file.exists() and len(file.read_text("utf-8").splitlines()) >= texts


def column(run: Path) -> list[tuple[str, str, bool]]:
    """The bars of one run, with a figure each and whether it holds."""
    from textgym.agents.comparison.reading import read_study
    from textgym.agents.evaluation.readers import review_reader
    from textgym.demonstration.record import known_words, recorded_report

    study_run, words, reader = read_study(run).runs[0], known_words(), review_reader()
    before, after = (
        recorded_report(study_run, evaluation, vocabulary=words, reader=reader).figures()
        for evaluation in (0, -1)
    )
    settings = study_run.config
    return [
        ("rate", f"{settings['learning_rate']:g}", True),
        ("β", f"{settings['kl_coef']:g}", True),
        ("reward", f"{before['reward'][0]:.2f} → {after['reward'][0]:.2f}", True),
        *text_bars(before, after),
        ("KL, nats per text", f"{after['kl'][0]:.2f}", True),
    ]


def bars_table(columns: Mapping[str, Sequence[tuple[str, str, bool]]]) -> list[str]:
    """Runs side by side: a row for each bar, with what is missed marked."""
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row in zip(*columns.values(), strict=True):
        cells = [value if holds else f"{value} **missed**" for _, value, holds in row]
        lines.append(f"| {' | '.join([row[0][0], *cells])} |")
    return lines


def main() -> int:
    """Train what is not there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="start")
    parser.add_argument("--agents", nargs="+", default=["ppo", "grpo"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--timesteps", type=int, default=40_000)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--before", action="store_true", help="with the rate and β of before")
    parser.add_argument("--runs", type=Path, default=Path("runs/model_defaults"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    columns = {
        f"{agent} {seed}": column(trained(arguments, agent, seed))
        for agent in arguments.agents
        for seed in arguments.seeds
    }
    name = Path(arguments.policy).name
    title = f"Defaults on {name}, {arguments.timesteps:,} tokens, {arguments.prompts} prompts"
    text = titled(title, bars_table(columns), 1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
