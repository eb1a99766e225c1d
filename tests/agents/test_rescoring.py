"""Stored texts scored by other reward models: what they say is written down, and nothing else."""

import numpy as np
import pytest
from made_studies import made_study, write_made_study

from textgym.agents.comparison.found_runs import find_runs
from textgym.agents.comparison.reading import read_study
from textgym.agents.comparison.rescoring import rescore_runs
from textgym.agents.comparison.study import scores_of
from textgym.agents.runs.held_out import Judge, read_held_out
from textgym.errors import InputError, RewardError
from textgym.reward_models.wrappers import Normalize
from textgym.storage import run_lock

SHADOW = Judge("shadow", "")


@pytest.fixture
def out(tmp_path):
    study = made_study((("ppo", "crowd"),), seeds=2, prompts=5, evaluations=2)
    write_made_study(study, tmp_path / "cmp")
    return tmp_path / "cmp"


def everything(out):
    """All files of all runs, but for the later scores."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "held_out_scores.jsonl"]
    return {path: path.read_bytes() for path in files}


def rescore(out, *rewards, judge=SHADOW, **keywords):
    return rescore_runs(find_runs([out]).runs, [(r, judge) for r in rewards], **keywords)


def kindness(prompts, completions, sentiment):
    """By hand: a column, the prompt and the text."""
    return [
        len(text) + (100 if mood == "positive" else 0) + 1000 * len(prompt)
        for prompt, text, mood in zip(prompts, completions, sentiment, strict=True)
    ]


def test_scores_join_the_record_with_the_prompts_and_their_columns(out):
    before = everything(out)
    result = rescore(out, kindness)
    assert everything(out) == before
    study = read_study(out)
    assert study.judges["kindness"] == "shadow"
    for run in study.runs:
        expected = [
            [
                len(text.completion) + 100 * (k % 2) + 1000 * len(study.prompts[k]["prompt"])
                for k, text in enumerate(run.record.texts[step])
            ]
            for step in run.record.steps
        ]
        assert scores_of(run, "kindness").tolist() == expected
        row = next(r for r in result if r.run == run.name)
        assert (row.start, row.end) == (np.mean(expected[0]), np.mean(expected[1]))


def test_what_says_nothing_of_a_text_has_no_score_there(out):
    def english(prompts, completions, **columns):
        return [1.0 if prompt.isascii() else None for prompt in prompts]

    rescore(out, english)
    run = read_study(out).runs[0]
    expected = [1.0 if row["prompt"].isascii() else np.nan for row in run.record.prompts]
    np.testing.assert_array_equal(scores_of(run, "english"), [expected] * 2)


def test_a_running_state_is_refused(out):
    def letters(prompts, completions, **columns):
        return [float(len(text)) for text in completions]

    with pytest.raises(InputError, match="'letters' keeps a running state, or draws"):
        rescore(out, Normalize(letters, running=True))

    def relative(prompts, completions, **columns):
        return [len(text) / max(map(len, completions)) for text in completions]

    with pytest.raises(InputError, match="'relative' keeps a running state"):
        rescore(out, relative)

    class Counting:
        name = "counting"

        def __init__(self):
            self.calls = 0

        def __call__(self, prompts, completions, **columns):
            self.calls += 1
            return [0.0] * len(completions)

        def state_dict(self):
            return {"calls": self.calls}

        def load_state_dict(self, state):
            self.calls = state["calls"]

    with pytest.raises(InputError, match="'counting' keeps a running state"):
        rescore(out, Counting())
    assert not list(out.rglob("held_out_scores.jsonl"))
    frozen = Normalize(letters, mean=10.0, std=2.0)
    rescore(out, frozen)
    run = read_study(out).runs[0]
    lengths = [len(text.completion) for text in run.record.texts[0]]
    np.testing.assert_allclose(scores_of(run, "letters")[0], (np.array(lengths) - 10) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("completion_ids, **columns", "'asks' asks for completion_ids, which no record holds"),
        ("turns, **columns", "'asks' asks for turns, which no record holds"),
        ("gold_answer", "seed-0: reward model 'asks' asks for 'gold_answer', which nobody supplie"),
    ],
)
def test_what_asks_for_more_than_there_is_is_refused(out, arguments, message):
    names = {}
    exec(f"def asks(prompts, completions, {arguments}): return [0.0] * len(prompts)", names)
    with pytest.raises(InputError, match=message):
        rescore(out, names["asks"])


def test_a_name_that_is_taken_is_refused(out):
    rescore(out, kindness)
    with pytest.raises(InputError, match="kindness has scored these texts; --force"):
        rescore(out, kindness)

    def other(prompts, completions, **columns):
        return [7.0] * len(completions)

    other.__name__ = "kindness"
    rescore(out, other, force=True)
    assert (scores_of(read_study(out).runs[0], "kindness") == 7).all()
    other.__name__ = "critic"
    with pytest.raises(InputError, match="critic scored these texts in training"):
        rescore(out, other, force=True)
    with pytest.raises(InputError, match="crowd is what cells/ppo-crowd/seed-0 is trained on"):
        other.__name__ = "crowd"
        rescore(out, other, judge=Judge("gold", ""))
    with pytest.raises(InputError, match="new is given twice"):
        other.__name__ = "new"
        rescore(out, other, other)


def test_scores_of_evaluations_that_came_since_need_no_force(out):
    run = out / "cells" / "ppo-crowd" / "seed-0" / "held_out.jsonl"
    rows = run.read_text().splitlines(keepends=True)
    run.write_text("".join(rows[:5]))
    rescore(out, kindness)
    run.write_text("".join(rows))
    assert np.isnan(scores_of(read_study(out).runs[0], "kindness")[1]).all()
    rescore(out / "cells" / "ppo-crowd" / "seed-0", kindness)
    assert not np.isnan(scores_of(read_study(out).runs[0], "kindness")).any()


def test_an_error_in_the_last_run_leaves_nothing_behind(out):
    texts = [t.completion for t in read_study(out).runs[1].record.texts[40_000]]

    def fails(prompts, completions, **columns):
        if list(completions) == texts:
            raise RuntimeError("out of luck")
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match="'fails' raised RuntimeError: out of luck"):
        rescore(out, fails)
    assert not list(out.rglob("held_out_scores.jsonl"))


def test_runs_without_texts_or_still_going_on_are_refused(out):
    run = out / "cells" / "ppo-crowd" / "seed-1"
    with run_lock(run), pytest.raises(InputError, match="seed-1: is still going on"):
        rescore(out, kindness)
    (run / "held_out.json").unlink()
    with pytest.raises(InputError, match="seed-1: has no held-out texts to score"):
        rescore(out, kindness)


def test_a_torn_row_of_scores_costs_that_evaluation_only(out):
    rescore(out, kindness)
    run = out / "cells" / "ppo-crowd" / "seed-0"
    path = run / "held_out_scores.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.warns(UserWarning, match="torn"):
        record = read_held_out(run)
    scored = [["kindness" in text.scores for text in texts] for texts in record.texts.values()]
    assert scored == [[True] * 5, [False] * 5]
