"""A pretraining that is killed anywhere goes on from what was saved last, and ends the same."""

import shutil

import pytest
from front_door import read_lines
from textgym_testing import assert_same_weights

import textgym
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import load_trainer_state
from textgym.policies.pretraining import loop as pretraining

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "context": 64, "tokenizer": "byte"}
SMALL = {**TINY, "heldout": 0.2, "batch_size": 4, "dropout": 0.1, "evaluate_every": 4, "steps": 10}
QUIET = {"progress_bar": False, "report": lambda line: None}


class Killed(BaseException):
    """What no handler of ours expects."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus and a run of it that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    texts = [f"{i} bottles of {i * 37 % 101} beers on wall {i * 53 % 89}" for i in range(60)]
    (folder / "c.txt").write_text("\n".join(texts))
    textgym.pretrain(folder / "c.txt", out=folder / "run", **SMALL, **QUIET)
    return folder


def assert_ends_alike(run, whole):
    for name in ("best", "last"):
        ours, theirs = (
            CausalLM.from_pretrained(folder / "checkpoints" / name)
            for folder in (run, whole / "run")
        )
        assert_same_weights(ours, theirs)
    assert read_lines(run / "metrics.jsonl") == read_lines(whole / "run" / "metrics.jsonl")


def killed(monkeypatch, name, is_time):
    """Have a method of the loop raise where `is_time(loop, arguments)` says so, once."""
    method = getattr(pretraining._Loop, name)

    def kill(self, *arguments):
        if is_time(self, arguments):
            monkeypatch.setattr(pretraining._Loop, name, method)
            raise Killed
        return method(self, *arguments)

    monkeypatch.setattr(pretraining._Loop, name, kill)


@pytest.mark.parametrize("step", [1, 3, 6, 9])
def test_a_save_by_the_clock_is_enough_and_changes_nothing(tmp_path, whole, monkeypatch, step):
    run = tmp_path / "run"
    killed(monkeypatch, "step", lambda loop, _: loop.report.steps == step)
    with pytest.raises(Killed):
        textgym.pretrain(whole / "c.txt", out=run, checkpoint_seconds=0, **SMALL, **QUIET)
    state = load_trainer_state(
        run / "checkpoints" / "last", CausalLM.from_pretrained(run / "checkpoints" / "last")
    )
    assert state["report"]["steps"] == step
    textgym.pretrain(out=run, resume=True, **QUIET)
    assert_ends_alike(run, whole)


def test_without_it_the_last_evaluation_is_what_is_there(tmp_path, whole, monkeypatch):
    run = tmp_path / "run"
    killed(monkeypatch, "step", lambda loop, _: loop.report.steps == 6)
    with pytest.raises(Killed):
        textgym.pretrain(whole / "c.txt", out=run, **SMALL, **QUIET)
    assert [row["step"] for row in read_lines(run / "metrics.jsonl")] == [4]
    textgym.pretrain(out=run, resume=True, **QUIET)
    assert_ends_alike(run, whole)


@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_a_kill_between_the_last_and_the_best_checkpoint(tmp_path, whole, monkeypatch, evaluation):
    run, found = tmp_path / "run", []

    def is_time(loop, arguments):
        found.extend(arguments[:1])
        return found.count("best") == evaluation

    killed(monkeypatch, "_save", is_time)
    with pytest.raises(Killed):
        textgym.pretrain(whole / "c.txt", out=run, **SMALL, **QUIET)
    assert (run / "checkpoints" / "last").is_dir()
    assert (run / "checkpoints" / "best").is_dir() == (evaluation > 1)
    textgym.pretrain(out=run, resume=True, **QUIET)
    ours, theirs = (CausalLM.from_pretrained(folder) for folder in (run, whole / "run"))
    assert_same_weights(ours, theirs)


def test_a_run_with_nothing_but_its_best_can_go_on(tmp_path, whole):
    run = shutil.copytree(whole / "run", tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "last")
    (run / "metrics.jsonl").unlink()
    textgym.pretrain(out=run, resume=True, **QUIET)
    assert_ends_alike(run, whole)
