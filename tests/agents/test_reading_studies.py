"""A study from the directories of its runs: moved, merged, torn, going on, and not comparable."""

import json
import shutil
from dataclasses import replace

import pytest
import yaml
from made_studies import made_study, write_made_study
from torch.utils.tensorboard import SummaryWriter

from textgym.agents.comparison.reading import read_study
from textgym.agents.comparison.study import scores_of
from textgym.agents.runs.held_out import prompts_digest
from textgym.agents.runs.later_scores import LaterScores, texts_digest, write_later_scores
from textgym.errors import InputError
from textgym.storage import run_lock

CELLS = (("ppo", "crowd"), ("grpo", "crowd"))


def small(cells=CELLS, **keywords):
    return made_study(cells, **{"seeds": 2, "prompts": 3, "evaluations": 3, **keywords})


@pytest.fixture
def out(tmp_path):
    write_made_study(small(), tmp_path / "cmp")
    return tmp_path / "cmp"


def change(run, **settings):
    """Settings of a run, as if it had been made with these."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text()) | settings
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))


def change_record(run, **settings):
    path = run / "held_out.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def written(out, *, failures=(), **more):
    """What `textgym compare` writes of a study."""
    cells = [
        {"label": agent, "settings": {"agent": agent}, "slug": f"{agent}-crowd", "reward": "crowd"}
        for agent in ("ppo", "grpo")
    ]
    content = {"cells": cells, "seeds": [0, 1], "timesteps": 40_000, "notes": ["seed 1 was anew"]}
    (out / "study.json").write_text(json.dumps({**content, "failures": list(failures), **more}))


def labels(study):
    return [cell.label for cell in study.cells]


# ---- what is found ----------------------------------------------------------


def test_all_comes_back_as_it_was_written(out):
    before, study = small(), read_study(out)
    assert study.env == before.env
    assert study.prompts == before.prompts
    assert study.judges == before.judges
    assert sorted(run.name for run in study.runs) == sorted(run.name for run in before.runs)
    assert not study.failures
    for run in study.runs:
        same = next(r for r in before.runs if r.name == run.name)
        assert run.record == same.record
        assert (run.seed, run.timesteps, run.figures) == (same.seed, 40_000, same.figures)
        assert run.samples == same.samples


def test_cells_are_what_the_settings_differ_in(out):
    study = read_study(out)
    assert labels(study) == ["grpo", "ppo"]  # the reward is the same for all
    assert [cell.reward for cell in study.cells] == ["crowd", "crowd"]
    for cell in ("ppo", "grpo"):
        assert [run.seed for run in study.runs_of(cell)] == [0, 1]
        assert {run.config["agent"] for run in study.runs_of(cell)} == {cell}


def test_what_compare_wrote_of_its_cells_counts(out):
    written(out)
    study = read_study(out)
    assert labels(study) == ["ppo", "grpo"]
    assert "seed 1 was anew" in study.notes
    assert not study.failures


def test_but_not_where_other_runs_stand_beside(out, tmp_path):
    """Folders merged from two machines, of which each has a study.json of its own cells."""
    written(out)
    other = small((("ppo", "lexicon"),))
    other = replace(other, runs=[replace(r, name=f"cells/x/seed-{r.seed}") for r in other.runs])
    write_made_study(other, tmp_path / "b")
    shutil.copytree(tmp_path / "b" / "cells" / "x", out / "cells" / "x")
    assert labels(read_study(out)) == ["grpo · crowd", "ppo · crowd", "ppo · lexicon"]


def test_keywords_tell_cells_apart_and_only_where_they_differ(tmp_path):
    study = small((("ppo", "crowd"), ("ppo,kl_coef=0.1", "crowd")), seeds=1)
    write_made_study(study, tmp_path)
    a, b = (tmp_path / run.name for run in study.runs)
    change(b, kl_coef=0.1, seed=0, n_steps=64)
    change(a, n_steps=64, out="elsewhere", checkpoint_seconds=5)
    read = read_study(tmp_path)
    assert labels(read) == ["ppo,kl_coef=0.05", "ppo,kl_coef=0.1"]
    assert [cell.settings for cell in read.cells] == [{"kl_coef": 0.05}, {"kl_coef": 0.1}]


def test_a_policy_counts_by_what_it_held_not_by_its_path(out):
    runs = sorted((out / "cells").glob("*/seed-*"))
    for place, run in enumerate(runs):
        change(run, policy=f"/home/{place}/lm")
        start = {"policy": {f"/home/{place}/lm": "a" * 64}}
        (run / "provenance.json").write_text(json.dumps({"start": start}))
    assert labels(read_study(out)) == ["grpo", "ppo"]
    for run in runs[:2]:  # the same name, but another model
        start = {"policy": {"/home/0/lm": "b" * 64}}
        (run / "provenance.json").write_text(json.dumps({"start": start}))
    assert labels(read_study(out)) == ["/home/0/lm · grpo", "/home/2/lm · ppo"]
    change(runs[2], policy="/home/0/lm")
    change(runs[3], policy="/home/0/lm")
    assert labels(read_study(out)) == [
        "/home/0/lm (aaaaaaaa) · ppo",
        "/home/0/lm (bbbbbbbb) · grpo",
    ]


def test_a_run_counts_once_however_it_is_reached(out, tmp_path):
    (tmp_path / "链接").symlink_to(out / "cells")
    (out / "cells" / "loop").symlink_to(out)
    study = read_study([out, out / "cells" / "ppo-crowd", tmp_path / "链接"])
    assert len(study.runs) == 4
    assert len({run.name for run in study.runs}) == 4


def test_names_do_not_depend_on_where_one_stands(out, tmp_path, monkeypatch):
    names = [run.name for run in read_study(out).runs]
    monkeypatch.chdir(out.parent)
    assert [run.name for run in read_study("cmp").runs] == names
    monkeypatch.chdir(out)
    assert [run.name for run in read_study(".").runs] == names
    shutil.move(out, tmp_path / "搬家")
    assert [run.name for run in read_study(tmp_path / "搬家").runs] == names


def test_runs_made_one_at_a_time_are_compared_by_their_samples(out):
    runs = sorted((out / "cells").glob("*/seed-*"))
    for run in runs:
        for file in run.glob("held_out*"):
            file.unlink()
        change(run, timesteps=40_000)
    study = read_study(runs)
    assert [run.record for run in study.runs] == [None] * 4
    assert [row["prompt"] for row in study.prompts] == [r["prompt"] for r in small().prompts]
    assert study.judges == {}
    assert "their sample texts are shown" in " ".join(study.notes)


def test_event_files_alone_show_up_beside_ours(out, tmp_path):
    logs = tmp_path / "sb3" / "PPO_1"
    with SummaryWriter(str(logs)) as writer:
        for step, value in ((100, 0.25), (200, 0.5)):
            writer.add_scalar("rollout/ep_rew_mean", value, step)
    torn = next(logs.glob("events*"))
    torn.write_bytes(torn.read_bytes() + b"\x18\0\0\0torn")
    study = read_study([out, tmp_path / "sb3"])
    run = next(run for run in study.runs if run.record is None)
    assert (run.name, run.cell) == ("sb3/PPO_1", "sb3/PPO_1")
    assert run.figures == {"rollout/ep_rew_mean": 0.5}
    assert run.timesteps == 200
    assert [run.name for run in read_study(tmp_path / "sb3").runs] == ["PPO_1"]


# ---- what is not whole ------------------------------------------------------


def test_a_run_without_its_last_evaluation_is_named_and_left_out(out):
    run = out / "cells" / "ppo-crowd" / "seed-1"
    rows = (run / "held_out.jsonl").read_text().splitlines()
    (run / "held_out.jsonl").write_text("\n".join(rows[:7]) + "\n" + rows[7][:40])
    study = read_study(out)
    assert len(study.runs) == 3
    (failure,) = study.failures
    assert (failure.name, failure.cell, failure.seed) == ("cells/ppo-crowd/seed-1", "ppo", 1)
    assert failure.reason == "broke off: 2 of 3 evaluations"
    assert "cells/ppo-crowd/seed-1: held_out.jsonl: 1 torn line(s) left out" in study.notes
    with run_lock(run):
        (failure,) = read_study(out).failures
    assert failure.reason == "is still going on: 2 of 3 evaluations"


def test_a_torn_last_line_costs_nothing_where_a_run_wrote_it_again(out):
    path = out / "cells" / "ppo-crowd" / "seed-1" / "held_out.jsonl"
    last = path.read_text().splitlines()[-1]
    path.write_text(path.read_text() + last[:30])
    study = read_study(out)
    assert len(study.runs) == 4 and not study.failures
    assert any("1 torn line" in note for note in study.notes)


def test_runs_that_a_comparison_ordered_and_nobody_made_are_named(out):
    shutil.rmtree(out / "cells" / "ppo-crowd" / "seed-0")
    shutil.rmtree(out / "cells" / "ppo-crowd" / "seed-1")
    told = {"name": "cells/ppo-crowd/seed-1", "cell": "ppo", "seed": 1, "reason": "reward raised"}
    written(out, failures=[told])
    failures = {failure.name: failure.reason for failure in read_study(out).failures}
    assert failures == {
        "cells/ppo-crowd/seed-0": "was never begun",
        "cells/ppo-crowd/seed-1": "reward raised",
    }


@pytest.mark.parametrize(("torn", "lost"), [(1, "0"), (4, "20,000"), (slice(0, 3), "0")])
def test_a_run_whose_record_lacks_an_earlier_evaluation_is_left_out(out, torn, lost):
    path = out / "cells" / "ppo-crowd" / "seed-1" / "held_out.jsonl"
    rows = path.read_text().splitlines()
    rows[torn] = [] if isinstance(torn, slice) else rows[torn][:40]
    path.write_text("\n".join(rows) + "\n")
    study = read_study(out)
    assert [run.record.steps[0] for run in study.runs] == [0, 0, 0]
    (failure,) = study.failures
    assert failure.name == "cells/ppo-crowd/seed-1"
    assert failure.reason == (f"has a damaged record: the evaluation at {lost} tokens is not whole")


def test_a_run_that_is_there_and_cannot_be_read_is_not_said_to_be_missing(out):
    written(out)
    run = out / "cells" / "ppo-crowd" / "seed-1"
    (run / "config.yaml").write_text("verb: [")
    (failure,) = read_study(out).failures
    assert (failure.name, failure.cell, failure.seed) == ("cells/ppo-crowd/seed-1", "ppo", 1)
    assert failure.reason.startswith("cannot be read: config.yaml, line 1: not valid YAML")


def test_cells_that_compare_dropped_are_left_out_and_said_to_be(out):
    ppo = {"label": "ppo", "settings": {}, "slug": "ppo-crowd", "reward": "crowd"}
    written(out, cells=[ppo], dropped=["grpo-crowd"])
    study = read_study(out)
    assert labels(study) == ["ppo"] and [run.cell for run in study.runs] == ["ppo", "ppo"]
    assert study.notes == [
        "seed 1 was anew",
        "cells/grpo-crowd: left out (2 runs), since the last `textgym compare` here did not name "
        "this cell; a report on cells alone compares all that is there",
    ]
    assert len(read_study(out / "cells").runs) == 4


def test_a_judge_that_said_nothing_of_an_evaluation_is_a_note(out):
    path = out / "cells" / "ppo-crowd" / "seed-1" / "held_out.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:2]:
        row["scores"]["length"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_study(out).notes == []  # of one text it spoke
    rows[2]["scores"]["length"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (note,) = read_study(out).notes
    assert note.startswith(
        "length gives some evaluations of cells/ppo-crowd/seed-1 no score at all: it failed there"
    )


def test_a_study_file_that_no_one_can_read_is_a_note(out):
    (out / "study.json").write_text('{"cells": [')
    study = read_study(out)
    assert labels(study) == ["grpo", "ppo"] and len(study.runs) == 4
    (note,) = study.notes
    assert note.startswith("study.json: not valid JSON (")
    assert note.endswith("; the cells are what the settings of the runs differ in")


def test_a_run_that_no_one_can_read_is_a_note(out):
    run = out / "cells" / "ppo-crowd" / "seed-1"
    (run / "held_out_prompts.jsonl").write_text('{"prompt": "another"}\n')
    study = read_study(out)
    assert len(study.runs) == 3
    assert any("seed-1: held_out_prompts.jsonl: not the prompts" in note for note in study.notes)
    (run / "config.yaml").write_text("verb: [")
    assert any("seed-1: config.yaml, line" in note for note in read_study(out).notes)


def test_a_missing_or_torn_event_file_does_not_matter(out):
    run = out / "cells" / "ppo-crowd" / "seed-0"
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.out.tfevents.1").write_bytes(b"\x18\0\0")
    assert len(read_study(out).runs) == 4


# ---- what is not comparable -------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda run: change(run, env="textgym/Length-v0"),
            r"different environments .*textgym/MovieReview-v0: cells/grpo-crowd/seed-0, .*"
            r"textgym/Length-v0: cells/ppo-crowd/seed-1\)",
        ),
        (
            lambda run: change(run, timesteps=20_000),
            r"unequal budgets .*40,000 tokens: .*20,000 tokens: cells/ppo-crowd/seed-1\)",
        ),
        (
            lambda run: change(run, seed=0),
            r"ppo-crowd/seed-0 and cells/ppo-crowd/seed-1 are the same cell and seed \(ppo, seed 0",
        ),
        (
            lambda run: change_record(run, judges={"critic": {"role": "reward", "spec": "critic"}}),
            "critic is a gold judge of cells/grpo-crowd/seed-0, but cells/ppo-crowd/seed-1 is",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(out, spoil, message):
    spoil(out / "cells" / "ppo-crowd" / "seed-1")
    with pytest.raises(InputError, match=message) as caught:
        read_study(out)
    assert "\n" not in str(caught.value)


def test_other_prompts_are_told_apart_by_their_hash(out):
    run = out / "cells" / "ppo-crowd" / "seed-1"
    prompts = [{"prompt": "another", "sentiment": str(k)} for k in range(3)]
    (run / "held_out_prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    digest = prompts_digest(prompts)
    change_record(run, prompts_sha256=digest)
    with pytest.raises(InputError, match=f"3 prompts {digest[:8]}: cells/ppo-crowd/seed-1"):
        read_study(out)


def test_nothing_to_read_is_refused(tmp_path, out):
    with pytest.raises(InputError, match="no such directory"):
        read_study(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no run"):
        read_study([out, tmp_path / "empty"])
    for run in (out / "cells").glob("*/*"):
        (run / "held_out.jsonl").unlink()
    with pytest.raises(InputError, match=r"no run is whole yet: .*ppo-crowd/seed-0 broke off: 0 "):
        read_study(out)


# ---- scores that came later -------------------------------------------------


def test_later_scores_are_among_the_scores_of_their_texts(out):
    run = out / "cells" / "ppo-crowd" / "seed-0"
    record = next(r for r in small().runs if r.name == "cells/ppo-crowd/seed-0").record
    rows = [
        LaterScores(
            "new", "gold", "new,x=1", step, texts_digest([t.completion for t in texts]), scores
        )
        for step, texts, scores in zip(
            record.steps,
            record.texts.values(),
            ([1.0, None, 3.0], [4.0, 5.0, 6.0], [7, 8, 9]),
            strict=True,
        )
    ]
    other = replace(rows[1], texts_sha256="0" * 64)  # of texts that are not there
    write_later_scores(run, [rows[0], other, rows[2]])
    study = read_study(out)
    scored = next(r for r in study.runs if r.name == "cells/ppo-crowd/seed-0")
    nan = float("nan")
    assert scores_of(scored, "new").tolist() == [
        pytest.approx([1.0, nan, 3.0], nan_ok=True),
        pytest.approx([nan] * 3, nan_ok=True),
        [7.0, 8.0, 9.0],
    ]
    assert (
        scores_of(scored, "crowd").tolist()
        == scores_of(next(r for r in small().runs if r.name == scored.name), "crowd").tolist()
    )
    assert study.judges["new"] == "gold"
    assert any("new has not scored" in n and "--gold new,x=1" in n for n in study.notes)
