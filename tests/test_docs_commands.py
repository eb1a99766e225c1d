"""The commands of the documents name verbs and flags that there are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from textgym.command_line.verbs import VERBS, verb_flags

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(?:shell|bash|text|sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `textgym` of each command in the blocks of a page."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split("  #")[0].strip().removeprefix("$ ")
            if words.startswith("textgym "):
                yield shlex.split(words, comments=True)[1:]


def wrong_words(words: list[str]) -> list[str]:
    """What in a command is no verb or no flag of its verb, and what is no name of a task."""
    verb, *rest = words
    if verb not in VERBS:
        return []
    flags = {flag.option for flag in verb_flags(verb, rest)}
    named = [word.split("=")[0] for word in rest if word.startswith("--") and word != "--"]
    wrong = [n for n in named if n not in flags and n.replace("--no-", "--", 1) not in flags]
    return [*wrong, *(word for word in rest if re.match(r"[\w/]+\.py:", word))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_flags_of_its_commands_are_there(page):
    for words in commands(page):
        assert wrong_words(words) == [], shlex.join(words)


def test_the_check_finds_what_is_not_there():
    told = "train my_task.py:ID --agent ppo --import my_task --kl-coef 1 --no-resume"
    assert wrong_words(told.split()) == ["--import", "my_task.py:ID"]
    assert sum(len(list(commands(page))) for page in PAGES) > 60
