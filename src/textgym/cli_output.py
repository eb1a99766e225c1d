"""What the verbs print after they have done their work."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.agents.evaluation import EvaluationReport
from textgym.storage import json_text

if TYPE_CHECKING:
    from textgym.agents.evaluation import Interval


def show_result(verb: str, result: Any, values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Print the outcome of a verb, or where to look next.

    :param values: the flags that were given.
    :param extra: the flags that are the command line's own.
    """
    if verb == "evaluate":
        show_evaluation(result, as_json=extra["json"], samples=extra["samples"])
    elif verb == "generate":
        prompts = values["prompt"]
        for prompt, text in zip(prompts, result, strict=True):
            print(f"{prompt}{text}")
    elif "out" in values:
        for line in next_steps(verb, str(values["out"]), values):
            print(line)


def next_steps(verb: str, out: str, values: dict[str, Any]) -> list[str]:
    """The commands that make sense after a verb."""
    opens_in_transformers = (
        f"transformers opens it too: AutoModelForCausalLM.from_pretrained({out!r})"
    )
    out = shlex.quote(out)
    if verb in ("pretrain", "sft"):
        return [
            "go on with:",
            f"  textgym tensorboard {out}",
            f'  textgym generate {out} --prompt "The film"',
            f"  textgym train textgym/MovieReview-v0 --policy {out} --out {_beside(out, 'ppo')}",
            opens_in_transformers,
        ]
    if verb == "fit-reward":
        return [
            "go on with:",
            f"  textgym train textgym/MovieReview-v0 --policy {values.get('policy')} "
            f"--reward {out} --out {_beside(out, 'ppo')}",
        ]
    if verb == "train":
        env = values.get("env") or _env_of(out)
        return [
            "go on with:",
            f"  textgym tensorboard {out}",
            f"  textgym evaluate {env} --policy {out}",
            f'  textgym generate {out} --prompt "The film"',
            opens_in_transformers,
        ]
    return []


def _env_of(out: str) -> str:
    from textgym.agents.run_settings import read_config

    return str(read_config(out).get("env", "ENV"))


def _beside(out: str, name: str) -> str:
    return str(Path(out).parent / name)


def show_evaluation(report: EvaluationReport, *, as_json: bool, samples: int) -> None:
    """The figures of an evaluation as a table or as JSON, and a few of its texts."""
    if as_json:
        print(json_text(report.figures(), indent=2))
        return
    console = Console(width=None if Console().is_terminal else 100, highlight=False)
    table = Table(title=f"{len(report.episodes)} texts (means with 95% intervals)")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for label, value in evaluation_rows(report):
        table.add_row(escape(label), value)
    console.print(table)
    if samples > 0 and report.episodes:
        texts = Table(title="samples", show_lines=True)
        for column in ("prompt", "continuation", "reward"):
            texts.add_column(column, overflow="fold")
        for episode in report.episodes[:samples]:
            texts.add_row(
                escape(episode.prompt), escape(episode.completion), f"{episode.reward:.3f}"
            )
        console.print(texts)


def evaluation_rows(report: EvaluationReport) -> list[tuple[str, str]]:
    """Label and value of every figure that is known."""

    def share(value: float | None) -> str | None:
        return None if value is None else f"{value:.3f}"

    def interval(value: "Interval | None") -> str | None:
        return None if value is None else str(value)

    rows = [
        ("reward", interval(report.reward)),
        *((f"judge {name}", interval(score)) for name, score in report.judges.items()),
        ("perplexity under the reference", share(report.perplexity)),
        ("KL to the reference, nats per text", interval(report.kl)),
        ("bits per character, read", interval(report.bits_per_character)),
        ("distinct-2", share(report.distinct_2)),
        ("repetition", share(report.repetition)),
        ("duplicates", share(report.duplicates)),
        ("commonest bigram per text", share(report.bigram_share)),
        ("made-up words", share(report.made_up)),
        ("length, tokens", interval(report.length)),
        *((f"ended by {reason}", share(part)) for reason, part in report.finish.items()),
        ("prompts cut at their start", share(report.prompts_cut or None)),
    ]
    return [(label, value) for label, value in rows if value is not None]
