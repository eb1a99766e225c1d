"""The made studies of the tests are what they say they are."""

import numpy as np
from made_studies import base_score, expected_score, made_study, write_made_study

from textgym.agents.comparison.study import kl_of, scores_of
from textgym.agents.runs.held_out import read_held_out
from textgym.agents.runs.run import open_run


def test_scores_are_known_without_noise():
    study = made_study(noise=0, seed_spread=0, effects={"ppo · crowd": {"critic": -0.25}})
    run = study.runs_of("ppo · crowd")[1]
    found = scores_of(run, "critic")
    assert found.shape == (4, 8)
    assert found[0].tolist() == [base_score(k, "critic") for k in range(8)]
    assert found[3].tolist() == [expected_score(k, "critic", -0.25, 1.0) for k in range(8)]
    assert scores_of(run, "crowd")[3, 0] == base_score(0, "crowd") + 1.0
    np.testing.assert_allclose(kl_of(run)[[0, 3]].mean(1), [0, 6], atol=0.6)


def test_all_runs_start_from_the_same_texts_and_the_study_is_the_same_every_time():
    one, two = made_study(), made_study()
    assert one.runs[-1].record == two.runs[-1].record
    starts = [run.record.texts[0] for run in one.runs]
    assert all(start == starts[0] for start in starts)
    assert one.runs[0].record.texts[40_000] != one.runs[1].record.texts[40_000]


def test_the_directories_hold_the_same_record(tmp_path):
    study = made_study(seeds=2, evaluations=2)
    places = write_made_study(study, tmp_path / "study")
    assert [run.directory for run in open_run(tmp_path / "study").children()] == sorted(places)
    for run, place in zip(study.runs, places, strict=True):
        record = read_held_out(place)
        assert record.settings == run.record.settings
        assert record.texts == run.record.texts
        assert open_run(place).samples() == list(run.samples)
