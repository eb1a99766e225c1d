"""The known mistakes of `benchmarks/mutations.py` still fit the source that they are made in."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(name):
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up, and one imports the other
    spec.loader.exec_module(module)
    return module


BREAKAGES = (*load("breakages").BREAKAGES, *load("reverted_mends").REVERTED_MENDS)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.what)
def test_a_breakage_finds_what_it_changes(breakage):
    source = (ROOT / "src" / "textgym" / breakage.file).read_text(encoding="utf-8")
    for before, after in breakage.edits:
        assert source.count(before) == 1, before
        assert before != after
    for test in breakage.tests:
        assert (ROOT / test.partition("::")[0]).exists(), test
