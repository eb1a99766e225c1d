"""What the verbs print after they have done their work."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from textgym.agents.comparison.rescoring import Rescored
from textgym.agents.evaluation.report import EvaluationReport
from textgym.agents.runs.settings import read_config
from textgym.auditing.terminal import show_audit
from textgym.command_line.run_difference import show_difference
from textgym.counts import count_of
from textgym.envs.texts.preparation.split import TRAIN
from textgym.policies.language_model.lstm_config import is_lstm
from textgym.reporting import Report
from textgym.storage import json_text, read_json
from textgym.terminal import for_output, visible

MOVIE_REVIEW, ITS_TOKENS = "textgym/MovieReview-v0", 81  # of a prompt and the budget


def show_result(verb: str, result: Any, values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Print the outcome of a verb, or where to look next.

    :param values: the flags that were given.
    :param extra: the flags that are the command line's own.
    """
    if verb == "evaluate":
        show_evaluation(result, as_json=extra["json"], samples=extra["samples"])
    elif verb == "generate":
        between = "\n" if values.get("chat") else ""  # an answer is no continuation
        for prompt, text in zip(values["prompt"], result, strict=True):
            print(for_output(f"{prompt}{between}{text}"))
    elif verb == "report":
        show_report(result)
    elif verb == "compare":
        if result is not None and result.report is not None:
            show_report(result.report)
    elif verb == "rescore":
        show_rescored(result)
    elif verb == "audit-reward":
        if extra["json"]:
            print(json_text(result.to_json(), indent=2))
        else:
            show_audit(result, _console())
    elif verb == "prepare":
        file = result.files.get(TRAIN) or next(iter(result.files.values()))
        column = values.get("column") or result.recipe.column
        flags = "" if column == "text" else f" --column {shlex.quote(column)}"
        print("go on with:")
        print(f"  textgym pretrain {shlex.quote(os.path.relpath(file))}{flags} --out runs/lm")
    elif verb == "diff":
        show_difference(result, samples=extra["samples"], console=_console())
    elif "out" in values:
        for line in next_steps(verb, str(values["out"]), values):
            print(line)


def next_steps(verb: str, out: str, values: dict[str, Any]) -> list[str]:
    """The commands that make sense after a verb.

    :param values: the flags that were given; those of a run that was gone on with are in `out`.
    """
    if verb == "pretrain-vae":
        here, beside = shlex.quote(out), shlex.quote(str(Path(out).parent / "sac"))
        opened = f"TextVAE.from_pretrained({os.path.expanduser(out)!r})"
        train = f"  textgym train {_task(values)} --decoder {here} --agent sac --out {beside}"
        return ["go on with:", f"  textgym tensorboard {here}", train, f"  in Python: {opened}"]
    if verb not in ("pretrain", "sft", "fit-reward", "train"):
        return []
    if values.get("resume") or values.get("force_resume"):
        values = {**read_config(out), **values}
    here, beside = shlex.quote(out), shlex.quote(str(Path(out).parent / "ppo"))
    generate = f'  textgym generate {here} --prompt "The film"'
    opened = f"from_pretrained({os.path.expanduser(out)!r})"
    transformers = f"transformers opens it too: AutoModelForCausalLM.{opened}"
    config = Path(out).expanduser() / "config.json"
    if config.is_file() and is_lstm(read_json(config)):
        transformers = f"it is an lstm, which only textgym opens: CausalLM.{opened}"
    lines, chat = ["go on with:"], _chat_flags(values)
    if verb == "fit-reward":
        policy = shlex.quote(str(values.get("policy") or "POLICY"))  # an object in Python has none
        rest = f"--policy {policy} --reward {here} --out {beside}"
        return [*lines, f"  textgym train {MOVIE_REVIEW} {rest}"]
    lines.append(f"  textgym tensorboard {here}")
    if verb == "train" and values.get("decoder") is not None:
        env, flags = shlex.quote(str(values.get("env") or "ENV")), _task_flags(values)
        return [*lines, " ".join([f"  textgym evaluate {env} --policy {here}", *flags])]
    if verb == "train":
        env, flags = shlex.quote(str(values.get("env") or "ENV")), _task_flags(values)
        evaluate = " ".join([f"  textgym evaluate {env} --policy {here}", *flags, *chat])
        return [*lines, evaluate, " ".join([generate, *chat]), transformers]
    train = f"  textgym train {_task(values)} --policy {here} --out {beside}"
    return [*lines, *(" ".join([words, *chat]) for words in (generate, train)), transformers]


def _task(values: dict[str, Any]) -> str:
    """A task to begin with, which a model has room for."""
    context = values.get("context")
    return "ENV" if context is not None and context < ITS_TOKENS else MOVIE_REVIEW


def _chat_flags(values: dict[str, Any]) -> list[str]:
    """The flags with which a policy is asked as it learned."""
    fields = {**(values.get("env_kwargs") or {}), **values}
    system = [f"--system {shlex.quote(fields['system'])}"] if fields.get("system") else []
    return ["--chat", *system] if fields.get("chat") is True else []


def _task_flags(values: dict[str, Any]) -> list[str]:
    """The flags that make the same task again: its reward, and the fields that were replaced."""
    reward, fields = values.get("reward"), dict(values.get("env_kwargs") or {})
    flags = [f"--reward {shlex.quote(str(reward))}"] if reward is not None else []
    if fields.get("chat") is True:  # which has flags of its own
        fields = {k: v for k, v in fields.items() if k not in ("chat", "system")}
    for name, value in fields.items():
        text = value if isinstance(value, str) else json_text(value)
        flags.append(f"--env-kwargs {shlex.quote(f'{name}={text}')}")
    return flags


def show_evaluation(report: EvaluationReport, *, as_json: bool, samples: int) -> None:
    """The figures of an evaluation as a table or as JSON, and a few of its texts."""
    if as_json:
        print(json_text(report.figures(), indent=2))
        return
    console = _console()
    table = Table(title=f"{count_of(len(report.episodes), 'text')} (means with 95% intervals)")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("better")
    for figure, title, value in report.rows():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(_cell(title), text, figure.better)
    console.print(table)
    if samples > 0 and report.episodes:
        texts = Table(title="samples", show_lines=True)
        for column in ("prompt", "continuation", "reward"):
            texts.add_column(column, overflow="fold")
        for episode in report.episodes[:samples]:
            texts.add_row(_cell(episode.prompt), _cell(episode.completion), f"{episode.reward:.3f}")
        console.print(texts)


def show_report(report: Report) -> None:
    """The verdict, what a reader must know of the study, and where its report stands."""
    study = report.study
    report.verdict.print(_console())
    for failure in study.failures:
        print(visible(f"not among the figures: {failure.name} {failure.reason}"))
    for note in study.notes:
        print(visible(f"note: {note}"))
    print("written:")
    for path in report.files:
        print(f"  {visible(os.path.relpath(path))}")


def show_rescored(rows: Sequence[Rescored]) -> None:
    """Mean scores at the start and at the end, by run and judge."""
    table = Table(title="mean scores of the held-out texts")
    table.add_column("run")
    table.add_column("judge")
    for column in ("start", "end", "difference"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = (f"{row.start:.3f}", f"{row.end:.3f}", f"{row.end - row.start:+.3f}")
        table.add_row(_cell(row.run), _cell(row.judge), *numbers)
    _console().print(table)


def _console() -> Console:
    return Console(width=None if Console().is_terminal else 100, highlight=False)


def _cell(text: str) -> str:
    """A text as a cell of a table, in which nothing acts."""
    return escape_markup(visible(text))
