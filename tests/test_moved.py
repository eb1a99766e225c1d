"""What was imported from a module that has moved still comes, and says where it is now."""

import importlib
import subprocess
import sys

import pytest

from textgym.moved import MOVED


@pytest.fixture
def forgotten():
    """Old names are imported anew, whoever imported them before."""
    for old in MOVED:
        sys.modules.pop(f"textgym.{old}", None)


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_gives_what_the_new_one_holds(old, forgotten):
    with pytest.warns(DeprecationWarning, match=rf"^textgym\.{old} is textgym\.") as warned:
        module = importlib.import_module(f"textgym.{old}")
    assert len(warned) == 1
    for place in MOVED[old].split():
        new = importlib.import_module(f"textgym.{place}")
        public = [name for name in vars(new) if not name.startswith("_")]
        assert public
        assert all(getattr(module, name) is not None for name in public if vars(new)[name])
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_ours'"):
        _ = module.nothing_of_ours


def test_an_import_statement_names_the_line_that_it_stands_on(forgotten):
    with pytest.warns(DeprecationWarning, match=r"textgym\.text_metrics\.metrics now") as warned:
        from textgym.reward_models.metrics import distinct_n
    assert warned[0].filename == __file__
    assert distinct_n(["a b c", "a b d"]) == 0.75  # (a b), (b c), (b d) of four bigrams


def test_names_that_went_elsewhere_are_found(forgotten):
    with pytest.warns(DeprecationWarning, match="labelled_rows now"):
        from textgym.envs.corpus import Preference, read_texts
    from textgym.envs import texts

    assert Preference is texts.Preference and read_texts is texts.read_texts
    with pytest.raises(ImportError, match="nowhere"), pytest.warns(DeprecationWarning):
        from textgym.envs.records import nowhere  # noqa: F401


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"textgym\.envs\.rhymes"):
        importlib.import_module("textgym.envs.rhymes")


def test_the_console_script_of_an_older_installation_starts():
    command = [sys.executable, "-c", "from textgym.cli import main; raise SystemExit(main())"]
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("textgym ")
