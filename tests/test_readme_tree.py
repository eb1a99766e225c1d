"""The README's tree names every source file, nothing else, and says what each is for."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "textgym"


def tree():
    """`{path: phrase}` of the README's tree, folders included (they end with a slash)."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## What is where", 1)[1]
    block = re.search(r"^```text\n(.*?)^```$", section, re.M | re.S).group(1)
    entries, folders = {}, []
    for line in filter(str.strip, block.splitlines()):
        indent = len(line) - len(line.lstrip())
        name, _, phrase = line.strip().partition(" ")
        folders = [(depth, folder) for depth, folder in folders if depth < indent]
        path = "".join(folder for _, folder in folders) + name
        assert path not in entries, f"{path} twice"
        entries[path] = phrase.strip()
        if name.endswith("/"):
            folders.append((indent, name))
    return entries


def test_every_source_file_is_in_the_tree_and_nothing_else():
    listed = {path for path in tree() if path.startswith("src/textgym/") and path.endswith(".py")}
    present = {f"src/textgym/{path.relative_to(SOURCES)}" for path in SOURCES.rglob("*.py")}
    assert listed == present


def test_every_entry_exists_and_has_one_phrase():
    for path, phrase in tree().items():
        assert (ROOT / path).exists(), path
        assert 8 <= len(phrase) <= 90, f"{path}: {phrase!r}"
        assert "\n" not in phrase and not phrase.endswith(".")


def test_the_other_folders_are_in_the_tree():
    assert {"tests/", "examples/", "benchmarks/", "recipes/", "docs/"} <= tree().keys()
