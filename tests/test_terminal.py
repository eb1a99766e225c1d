"""What a terminal obeys is shown to it and not sent: in generated texts, in tables, in errors."""

import io
import json
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from textgym.agents.evaluation.report import EvaluationReport, Interval
from textgym.command_line.cli import main
from textgym.command_line.output import show_result
from textgym.demonstration.report import texts_table
from textgym.envs.rendering import TextPrinter
from textgym.terminal import visible

BAD = "a\x1b[2J\x1b]0;title\x07b\rc\x9bd\u202ee"
SHOWN = r"a\x1b[2J\x1b]0;title\x07b\rc\x9bd\u202ee"


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self):
        return True


both = pytest.mark.parametrize(
    "stream, shown", [(Terminal(), SHOWN), (io.StringIO(), BAD)], ids=["terminal", "pipe"]
)


def printed(monkeypatch, stream, function, *arguments):
    """What a function prints on a stream."""
    stream.seek(0)
    stream.truncate()
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", stream)
        function(*arguments)
    return stream.getvalue()


@pytest.mark.parametrize(
    "text, shown",
    [
        (BAD, SHOWN),
        ("tab\tand\nline", "tab\tand\nline"),
        ("naïve 手机 👩‍👧 नमस्ते", "naïve 手机 👩‍👧 नमस्ते"),
        ("\u200f\u2066x\u2069\u2028", r"\u200f\u2066x\u2069\u2028"),
        ("half \ud83d", r"half \ud83d"),
        (r"\x1b", r"\x1b"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text, shown):
    assert visible(text) == shown


@both
def test_generate_prints_what_was_written_and_obeys_nothing(monkeypatch, stream, shown):
    given = ("generate", [BAD], {"prompt": [BAD]}, {})
    assert printed(monkeypatch, stream, show_result, *given) == f"{shown}{shown}\n"


@both
def test_a_human_reads_no_commands(monkeypatch, stream, shown):
    def write():
        printer = TextPrinter()
        printer.begin("P")
        printer.grow(f"P{BAD}", is_over=True)

    assert printed(monkeypatch, stream, write) == f"P{shown}\n"


def report():
    one = Interval(1.0, 0.0)
    return EvaluationReport(
        episodes=[SimpleNamespace(prompt="P\x1b", completion=BAD, reward=1.0)],
        reward=one,
        judges={"J\x1b[1m": one},
        perplexity=None,
        kl=None,
        distinct_2=1.0,
        length=one,
        repetition=0.0,
        duplicates=0.0,
        bigram_share=0.0,
        made_up=None,
        finish={},
    )


def test_tables_hold_no_commands_anywhere(monkeypatch):
    given = ("evaluate", report(), {}, {"json": False, "samples": 1})
    shown = printed(monkeypatch, io.StringIO(), show_result, *given)
    assert "\x1b" not in shown and "\r" not in shown
    assert r"judge J\x1b[1m" in shown and r"title\x07b\rc\x9b" in shown
    console = Console(file=io.StringIO(), width=200)
    console.print(texts_table({"before": report(), "after": report()}))
    assert "\x1b" not in console.file.getvalue() and SHOWN in console.file.getvalue()


def test_json_is_the_text_itself(capsys):
    show_result("evaluate", report(), {}, {"json": True, "samples": 1})
    assert "J\x1b[1m" in json.loads(capsys.readouterr().out)["judges"]


def test_an_error_holds_no_commands(capsys):
    assert main(["generate", "no\x1b[2J\u202e\rsuch", "--prompt", "a"]) == 2
    error = capsys.readouterr().err
    assert r"no\x1b[2J\u202e\rsuch" in error and error.count("\n") == 1
