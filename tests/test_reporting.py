"""`textgym report`, `rescore` and `diff`, as they are typed."""

import json
import os
import shutil

import pytest
from front_door import read_lines, run_cli
from made_studies import made_study, write_made_study
from torch.utils.tensorboard import SummaryWriter

import textgym
from textgym.agents.comparison.reading import read_study
from textgym.agents.comparison.study import scores_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made") / "cmp"
    study = made_study((("ppo", "crowd"), ("grpo", "crowd")), seeds=2, prompts=4, evaluations=2)
    write_made_study(study, place)
    return place


@pytest.fixture
def out(made, tmp_path):
    shutil.copytree(made, tmp_path / "比较")
    return tmp_path / "比较"


def files(place):
    """Every file below a directory and what it holds."""
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


# ---- report -----------------------------------------------------------------


def test_report_writes_its_files_and_leaves_the_runs_alone(out, monkeypatch):
    before = files(out)
    monkeypatch.chdir(out.parent)
    code, shown, error = run_cli("report", "比较")
    assert (code, error) == (0, "")
    after = files(out)
    assert {path: after[path] for path in before} == before
    new = {path.relative_to(out).parts[0] for path in after.keys() - before.keys()}
    assert new == {"report.html", "report.md", "report.tex", "report.json", "tensorboard"}
    assert not [path for path in out.rglob("*") if path.name.startswith((".tmp", ".tensorboard"))]
    assert "report.html" in shown
    run_cli("report", "比较")  # again, over its own files
    again = files(out)
    assert {p.name for p in again if p.parent == out} == {p.name for p in after if p.parent == out}


def test_report_json_has_the_figures_of_every_run(out):
    textgym.report(out)
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    study = read_study(out)
    assert content["cells"][0] == {
        "label": "grpo",
        "settings": {"agent": "grpo"},
        "reward": "crowd",
    }
    assert content["judges"] == dict(study.judges)
    for row, run in zip(content["runs"], study.runs, strict=True):
        assert (row["name"], row["cell"], row["seed"]) == (run.name, run.cell, run.seed)
        assert row["steps"] == [0, 40_000]
        assert row["held_out"]["held_out/judges/critic"] == pytest.approx(
            scores_of(run, "critic").mean(axis=1).tolist()
        )


def test_a_study_that_nobody_can_write_to_is_reported_elsewhere(out, tmp_path, monkeypatch):
    before = files(out)
    monkeypatch.chdir(tmp_path)
    code, _, error = run_cli("report", out, "--out", "elsewhere/report")
    assert (code, error) == (0, "")
    assert files(out) == before
    assert (tmp_path / "elsewhere" / "report" / "report.html").is_file()
    refuse_writing(monkeypatch)
    code, _, error = run_cli("report", out)
    assert code == 3 and "cannot be written" in error and error.count("\n") == 1
    assert files(out) == before


def refuse_writing(monkeypatch):
    """As for a user who is not root."""
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)


def test_runs_made_one_at_a_time_are_reported_together(out, tmp_path):
    """Moved, without a study's files, and without held-out evaluations."""
    runs = []
    for place in sorted(out.glob("cells/*/seed-0")):
        runs.append(tmp_path / place.parent.name)
        shutil.move(place, runs[-1])
        for file in runs[-1].glob("held_out*"):
            file.unlink()
    code, shown, error = run_cli("report", *runs, "--out", tmp_path / "together")
    assert (code, error) == (0, "")
    text = (tmp_path / "together" / "report.md").read_text(encoding="utf-8")
    assert "their sample texts are shown, without scores" in text
    assert "their sample texts are shown" in " ".join(shown.split())
    assert (tmp_path / "together" / "report.html").is_file()


def test_what_failed_and_what_runs_alone_is_said(out, tmp_path):
    run = out / "cells" / "ppo-crowd" / "seed-1" / "held_out.jsonl"
    run.write_text("".join(run.read_text().splitlines(keepends=True)[:-1]))
    with SummaryWriter(str(tmp_path / "sb3" / "A2C_1")) as writer:
        writer.add_scalar("rollout/ep_rew_mean", 0.5, 1000)
    code, shown, error = run_cli("report", out, tmp_path / "sb3", "--out", tmp_path / "all")
    assert (code, error) == (0, "")
    for text in (shown, (tmp_path / "all" / "report.md").read_text(encoding="utf-8")):
        words = " ".join(text.split())
        assert "broke off: 1 of 2 evaluations" in words
        assert "event files alone" in words


def test_report_refuses_in_one_line(out, monkeypatch):
    monkeypatch.chdir(out.parent)
    run = "比较/cells/ppo-crowd/seed-0"
    for words, message in (
        (["nowhere"], "nowhere: no such directory"),
        ([run], "say with --out where their report goes"),
        ([run, "比较/cells/grpo-crowd"], "say with --out where their report goes"),
        ([run, "--out", run], "is the directory of a run"),
        ([run, "--out", f"{run}/config.yaml"], "is a file; --out names a directory"),
        ([f"{run}/config.yaml"], "config.yaml: is a file; expected the directory of a study"),
        ([], "missing RUNS"),
    ):
        before = files(out)
        code, shown, error = run_cli("report", *words)
        assert (code, shown) == (2, "")
        assert error.count("\n") == 1 and message in error
        assert files(out) == before


# ---- rescore ----------------------------------------------------------------


def test_rescore_adds_judges_and_changes_nothing_else(out, monkeypatch):
    before = files(out)
    monkeypatch.chdir(out.parent)
    code, shown, error = run_cli(
        *("rescore", "比较", "--reward", "keyword,words=the", "--gold", "regex,pattern=film")
    )
    assert (code, error) == (0, "")
    assert shown.count("keyword") == shown.count("regex") == 4
    after = files(out)
    assert {path.name for path in after.keys() - before.keys()} == {"held_out_scores.jsonl"}
    assert {path: after[path] for path in before} == before
    study = read_study(out)
    assert (study.judges["keyword"], study.judges["regex"]) == ("shadow", "gold")
    row = read_lines(out / "cells" / "ppo-crowd" / "seed-0" / "held_out_scores.jsonl")[0]
    assert (row["judge"], row["spec"], row["step"]) == ("keyword", "keyword,words=the", 0)
    run = next(run for run in study.runs if run.name == "cells/ppo-crowd/seed-0")
    assert scores_of(run, "keyword")[0].tolist() == row["scores"]


def test_rescore_refuses_in_one_line(out, monkeypatch):
    monkeypatch.chdir(out.parent)
    (out.parent / "judge_module.py").write_text(
        "from textgym.reward_models import Length, Normalize\n"
        "running = Normalize(Length(12), running=True)\n"
        "running.name = 'running'\n"
        "def ids(completions, completion_ids): return [0.0] * len(completions)\n"
    )
    run = "比较/cells/ppo-crowd/seed-0"
    for words, message in (
        ([run], "reward or gold is missing"),
        ([run, "--reward", "lenght"], "did you mean 'length'"),
        ([run, "--reward", "judge_module:running"], "keeps a running state"),
        ([run, "--reward", "judge_module:ids"], "asks for completion_ids, which no record holds"),
        ([run, "--reward", "length"], "scored these texts in training"),
        (["nowhere", "--reward", "length"], "nowhere: no such directory"),
    ):
        before = files(out)
        code, shown, error = run_cli("rescore", *words)
        assert (code, shown) == (2, "")
        assert error.startswith("textgym: error: ") and error.count("\n") == 1
        assert message in error
        assert files(out) == before


def test_rescore_says_where_it_cannot_write(out, monkeypatch):
    run = out / "cells" / "ppo-crowd" / "seed-0"
    (run / "held_out_scores.jsonl").mkdir()
    code, _, error = run_cli("rescore", run, "--reward", "keyword,words=the")
    assert code == 3 and "held_out_scores.jsonl: cannot be written" in error


# ---- diff -------------------------------------------------------------------


def test_diff_shows_settings_figures_scores_and_texts(out, monkeypatch):
    monkeypatch.chdir(out / "cells")
    code, shown, error = run_cli(
        *("diff", "ppo-crowd/seed-0", "../cells/grpo-crowd/seed-0", "--samples", "2")
    )
    assert (code, error) == (0, "")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "│ kl_coef │ 0.05 │ 0.1 │" in lines
    assert any(line.startswith("│ KL to the reference, │ 5 │ 5 │ +0 │ lower") for line in lines)
    assert any(line.startswith("│ critic (gold)") for line in lines)
    assert (
        "the most different texts, by critic: [-ppo-crowd/seed-0-] {+grpo-crowd/seed-0+}" in lines
    )
    difference = textgym.diff("ppo-crowd/seed-0", "grpo-crowd/seed-0")
    for pair in difference.texts[:2]:
        assert any(line.startswith(pair.prompt) for line in lines)


def test_diff_refuses_in_one_line(out):
    runs = out / "cells" / "ppo-crowd"
    for words, message in (
        ([out, runs / "seed-0"], "expected a run of train, found one of compare"),
        ([runs / "seed-0", runs], "holds no config.yaml"),
        ([runs / "seed-0", runs / "seed-0"], "are the same run"),
        ([runs / "seed-0", runs / "seed-1", "--judge", "critc"], "did you mean 'critic'"),
        ([runs / "seed-0"], "missing RUN_B"),
    ):
        code, shown, error = run_cli("diff", *words)
        assert (code, shown) == (2, "")
        assert error.count("\n") == 1 and message in error
