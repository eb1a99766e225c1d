"""Trained on A, scored by B: the numbers, the order, and what nobody says anything about."""

from dataclasses import replace

import numpy as np
import pytest
from made_studies import made_study

from textgym.agents.comparison.cross_scores import changes, cross_scores, judge_spread

CELLS = (("ppo", "crowd"), ("ppo", "lexicon"), ("grpo", "crowd"))
# The made scores of five prompts at the start are −1/2, −1/4, 0, 1/4, 1/2 and a constant.
SPREAD = (0.125) ** 0.5
EFFECTS = {
    "ppo · crowd": {"crowd": 1.0, "lexicon": 0.25, "critic": -0.5},
    "ppo · lexicon": {"crowd": 0.5, "lexicon": 3.0, "critic": 0.25},
    "grpo · crowd": {"crowd": 0.5, "lexicon": 0.0, "critic": 0.5},
}
JUDGES = {"critic": "gold", "lexicon": "reward", "length": "shadow", "crowd": "reward"}


def study_of(**options):
    known = {"seeds": 2, "prompts": 5, "evaluations": 2, "noise": 0, "seed_spread": 0}
    return made_study(CELLS, judges=JUDGES, effects=EFFECTS, **{**known, **options})


def without_scores(study, judge, prompts):
    """The same study, where a judge says nothing of some prompts."""
    for run in study.runs:
        for texts in run.record.texts.values():
            for k in prompts:
                texts[k] = replace(texts[k], scores={**texts[k].scores, judge: None})
    return study


def test_changes_are_in_standard_deviations_of_the_start():
    study = study_of()
    assert judge_spread(study, "critic") == pytest.approx(SPREAD)
    found = changes(study, study.cells[0], "critic", judge_spread(study, "critic"))
    assert found.shape == (2, 5) and found == pytest.approx(np.full((2, 5), -0.5 / SPREAD))


def test_the_matrix_puts_over_optimisation_on_top():
    """Own − gold: lexicon 3 − 1/4, ppo on crowd 1 + 1/2, grpo on crowd 1/2 − 1/2."""
    matrix = cross_scores(study_of())
    labels = [cell.label for cell in matrix.cells]
    assert labels == ["ppo · lexicon", "ppo · crowd", "grpo · crowd"]
    assert matrix.judges == ["lexicon", "crowd", "length", "critic"]
    assert matrix.excess * SPREAD == pytest.approx([2.75, 1.5, 0.0])
    gains = [[3.0, 0.5, 0.5, 0.25], [0.25, 1.0, 0.5, -0.5], [0.0, 0.5, 0.5, 0.5]]
    assert matrix.mean * SPREAD == pytest.approx(np.array(gains))
    assert matrix.lower == pytest.approx(matrix.mean) == matrix.upper  # nothing varies


def test_the_intervals_hold_the_mean():
    matrix = cross_scores(study_of(noise=0.2, seed_spread=0.2, seeds=3))
    assert (matrix.lower < matrix.mean).all() and (matrix.mean < matrix.upper).all()


def test_what_a_judge_does_not_speak_of_is_left_out():
    study = without_scores(study_of(), "critic", [0, 4])
    assert judge_spread(study, "critic") == pytest.approx((0.125 / 3) ** 0.5)
    matrix = cross_scores(study)
    expected = 0.25 / (0.125 / 3) ** 0.5
    assert matrix.mean[0, matrix.judges.index("critic")] == pytest.approx(expected)


def test_a_judge_that_says_nothing_is_no_number():
    matrix = cross_scores(without_scores(study_of(), "critic", range(5)))
    assert np.isnan(matrix.mean[:, matrix.judges.index("critic")]).all()
    assert np.isnan(matrix.excess).all()


def test_scores_that_are_all_the_same_keep_their_unit():
    study = study_of(prompts=1)
    assert judge_spread(study, "critic") == 1.0
    assert changes(study, study.cells[0], "critic", judge_spread(study, "critic")) == pytest.approx(
        np.full((2, 1), -0.5)
    )


def test_there_is_none_without_held_out_evaluations():
    study = study_of()
    assert cross_scores(replace(study, runs=[replace(r, record=None) for r in study.runs])) is None
