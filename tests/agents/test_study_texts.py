"""The tables of texts: which columns, which evaluation, and which prompts come first."""

from dataclasses import replace

import pytest
from made_studies import made_study

from textgym.agents.comparison.study import Failure
from textgym.agents.comparison.study_texts import (
    about,
    columns_at,
    evaluation_steps,
    most_regressed,
    sample_table,
    shown_runs,
    verdict_text,
)
from textgym.agents.comparison.verdict import Verdict
from textgym.agents.runs.held_out import HeldOutRecord

CELLS = (("ppo", "crowd"), ("grpo", "lexicon"))
QUIET = {"noise": 0, "seed_spread": 0, "strange": False, "chinese": False}


def rescored(run, judge, gains):
    """The run with other last scores: the first ones and `gains`, by prompt."""
    record = run.record
    first, last = record.texts[record.steps[0]], record.texts[record.steps[-1]]
    scores = [
        replace(text, scores={**text.scores, judge: start.scores[judge] + gain})
        for text, start, gain in zip(last, first, gains, strict=True)
    ]
    texts = {**record.texts, record.steps[-1]: scores}
    return replace(run, record=HeldOutRecord(record.settings, record.prompts, texts))


def moved(run, factor):
    """The run with its evaluations at other steps."""
    record = run.record
    texts = {round(step * factor): record.texts[step] for step in record.steps}
    return replace(run, record=HeldOutRecord(record.settings, record.prompts, texts))


def test_a_run_shows_its_evaluation_nearest_to_the_step():
    """Steps 0, 20,000 and 40,000 of one cell beside 0, 20,400 and 40,800 of the other."""
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=3, **QUIET)
    study = replace(study, runs=[study.runs[0], moved(study.runs[1], 1.02)])
    runs = shown_runs(study)
    assert evaluation_steps(runs) == [0, 20_000, 40_000]
    tokens = [[c.tokens for c in columns_at(study, runs, step)] for step in (0, 20_000, 40_000)]
    assert tokens == [[0, 0, 0], [0, 20_000, 20_400], [0, 40_000, 40_800]]


def test_every_policy_that_is_compared_has_a_start_of_its_own():
    study = made_study((("ppo", "crowd"), ("grpo", "crowd"), ("rloo", "crowd")), seeds=1, **QUIET)
    policies = ("runs/a", "runs/b", "runs/a")
    cells = [
        replace(cell, settings={**cell.settings, "policy": policy})
        for cell, policy in zip(study.cells, policies, strict=True)
    ]
    study = replace(study, cells=cells)
    labels = [column.label for column in columns_at(study, shown_runs(study), 0)]
    own = ["ppo · crowd", "grpo · crowd", "rloo · crowd"]
    assert labels == ["start: runs/a", "start: runs/b", *own]


def test_the_most_regressed_prompts_come_first():
    """Mean over two seeds of the gold judge's change: −2, 0.5 and −1; 0.204 is the start's SD."""
    study = made_study(CELLS, seeds=2, prompts=3, evaluations=2, **QUIET)
    gains = ([-1.0, 0.5, -2.0], [-3.0, 0.5, 0.0])
    of_cell = study.runs_of("ppo · crowd")
    runs = [rescored(run, "critic", gain) for run, gain in zip(of_cell, gains, strict=True)]
    study = replace(study, runs=[*runs, *study.runs_of("grpo · lexicon")])
    head, _, _, _, *rows = most_regressed(study, study.cells[0]).split("\n")
    assert head.startswith("**ppo · crowd**: worse than the start on 2 of 3 prompts, by critic;")
    numbers = [int(row[2:].partition("&#46;")[0]) for row in rows]
    assert numbers == [1, 3, 2]
    spread = (1 / 24) ** 0.5  # of −1/2, −1/4 and 0
    for row, change, seed in zip(rows, (-2.0, -1.0, 0.5), (1, 0, 0), strict=True):
        wanted = f"{change / spread:+.2f} SD; seed {seed}:"
        for plain in "+-.;:":
            wanted = wanted.replace(plain, f"\0{ord(plain)}\1")
        assert wanted.replace("\0", "&#").replace("\1", ";") in row
    assert len(most_regressed(study, study.cells[0], n=1).split("\n")) == 5


def test_without_gold_the_own_reward_is_no_judge_of_what_was_lost():
    judges = {"crowd": "reward", "lexicon": "reward"}
    study = made_study(CELLS, seeds=1, prompts=3, evaluations=2, judges=judges, **QUIET)
    head = most_regressed(study, study.cells[0]).split("\n")[0]
    assert "by lexicon; mean over 1 seed," in head
    alone = replace(study, judges={"crowd": "reward"})
    assert most_regressed(alone, study.cells[0]).startswith("No judge but its own reward")


def test_samples_stand_side_by_side_by_prompt():
    study = made_study(CELLS, seeds=1, prompts=2, evaluations=2, **QUIET)
    first = [{"step": 0, "prompt": "a", "completion": "x"}]
    first += [{"step": 90, "prompt": p, "completion": f"{p}1"} for p in "ab"]
    second = [{"step": 100, "prompt": p, "completion": f"{p}2"} for p in "bc"]
    runs = [replace(study.runs[0], samples=first), replace(study.runs[1], samples=second)]
    assert sample_table(runs, 100).split("\n") == [
        "| prompt | ppo · crowd | grpo · lexicon |",
        "| --- | --- | --- |",
        "| a | a1 |  |",
        "| b | b1 | b2 |",
        "| c |  | c2 |",
    ]


@pytest.mark.parametrize("said", ["a <b>note</b>", "[a link](https://example.com)"])
def test_what_a_reader_must_know_is_escaped(said):
    study = made_study(CELLS, seeds=2, prompts=2, evaluations=2, **QUIET)
    failure = Failure("cells/x/seed-1", "x", 1, said)
    text = about(replace(study, title=said, notes=[said], failures=[failure]))
    assert "<b>" not in text and "](" not in text
    assert text.count("note" if "note" in said else "a link") == 3


def test_a_verdict_is_its_sentence_and_a_point_for_each_caution():
    verdict = Verdict("t", "a <b>wins</b>", (), cautions=["two seeds", "longer [texts](x)"])
    first, blank, *points = verdict_text(verdict).split("\n")
    assert "a " in first and "<b>" not in first and blank == ""
    assert points[0] == "- two seeds" and points[1].startswith("- longer ")
    assert len(points) == 2 and "](" not in points[1]
