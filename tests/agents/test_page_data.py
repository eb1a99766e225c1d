"""What the page holds of a study, opened in Python again and held against the record."""

import base64
import dataclasses
import gzip
import json
import re

import numpy as np
import pytest
from made_studies import STRANGE, made_study

from textgym.agents.comparison.page import run_blocks
from textgym.agents.comparison.page.overview import configuration_differences
from textgym.agents.comparison.page.packing import pack
from textgym.agents.comparison.page.write import write_page
from textgym.agents.comparison.study import Failure, kl_of, scores_of


def read_page(path):
    """`{name: value}` of the data in a page."""
    found = re.findall(
        r'<script type="application/gzip\+base64" id="([\w-]+)">([^<]*)</script>',
        path.read_text(encoding="utf-8"),
    )
    return {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in found}


def test_every_text_and_score_of_the_record_is_in_the_page(tmp_path):
    study = made_study(seeds=2, evaluations=3)
    data = read_page(write_page(study, tmp_path / "report.html"))
    assert data["overview"]["prompts"] == [row["prompt"] for row in study.prompts]
    for index, run in enumerate(study.runs):
        block = data[f"run-{index}"]
        assert data["overview"]["runs"][index]["steps"] == run.record.steps
        texts = [[t.completion for t in run.record.texts[step]] for step in run.record.steps]
        assert block["texts"] == texts
        for judge in study.judges:
            expected = scores_of(run, judge)
            np.testing.assert_allclose(block["scores"][judge], expected, rtol=5e-5)
        np.testing.assert_allclose(block["kl"], kl_of(run), rtol=5e-5)
        assert block["length"][2] == [t.length for t in run.record.texts[run.record.steps[2]]]


def test_no_text_stands_in_the_page_as_markup(tmp_path):
    page = write_page(made_study(), tmp_path / "report.html").read_text(encoding="utf-8")
    assert not any(text in page for text in STRANGE)
    assert page.count("</script>") == page.count("<script") == 1 + 1 + 9  # code, overview, runs
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_title_and_names_are_escaped_in_the_template(tmp_path):
    study = dataclasses.replace(made_study(prompts=4), title="</title><script>alert(1)</script>")
    page = write_page(study, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.count("&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 2


def test_letters_of_tokens():
    assert run_blocks.letters_of_ends([1, 4, 4, 90, 250]) == ")+(x.xx("
    values = [[-9, -1, 0, 0.125], [], [1, float("nan")]]
    assert run_blocks.letters_of_levels(values, 1.0) == ["AAIJ", "", "Q."]


def test_token_scales_are_the_98th_percentile_of_all_runs():
    study = made_study(seeds=1, evaluations=2)
    ratios = [
        a - b
        for run in study.runs
        for texts in run.record.texts.values()
        for text in texts
        for a, b in zip(text.log_probs, text.reference_log_probs, strict=True)
    ]
    scales = run_blocks.token_scales(study)
    assert set(scales) == {"ratio", "reward:lexicon"}
    assert scales["ratio"] == pytest.approx(np.percentile(np.abs(ratios), 98), rel=5e-3)


def test_scores_that_are_missing_are_null(tmp_path):
    study = made_study(seeds=1, evaluations=2)
    record = study.runs[0].record
    texts = record.texts[0]
    texts[0] = dataclasses.replace(texts[0], scores={**texts[0].scores, "critic": None})
    data = read_page(write_page(study, tmp_path / "report.html"))
    assert data["run-0"]["scores"]["critic"][0][0] is None
    assert data["run-0"]["scores"]["critic"][0][1] is not None


def test_a_page_too_large_leaves_later_seeds_out_and_says_so(tmp_path):
    study = made_study(seeds=4)
    sizes = [
        len(pack(run_blocks.run_block(study, run, [0, 1, 2, 3], run_blocks.token_scales(study))))
        for run in study.runs
    ]
    limit = run_blocks.TEMPLATE_BYTES + max(sizes) * 7
    data = read_page(write_page(study, tmp_path / "report.html", limit=limit))
    held = [run["seed"] for run in data["overview"]["runs"] if run["held"]]
    assert 7 <= len(held) < 12 and held.count(0) == held.count(1) == 3
    assert f"run-{study.runs.index(study.runs_of('grpo · crowd')[3])}" not in data
    assert "leaves out the texts of" in data["overview"]["notes"][-1]
    assert "grpo · crowd seed 3" in data["overview"]["notes"][-1]
    assert len(data["overview"]["curves"]["critic"][0]["seeds"]) == 4  # all runs


def test_a_page_too_large_for_one_seed_of_every_cell_leaves_evaluations_out(tmp_path):
    study = made_study(seeds=1, evaluations=9)
    whole = read_page(write_page(study, tmp_path / "whole.html"))
    sizes = [len(pack(whole[f"run-{k}"])) for k in range(3)]
    limit = run_blocks.TEMPLATE_BYTES + sum(sizes) * 7 // 10
    data = read_page(write_page(study, tmp_path / "report.html", limit=limit))
    assert [run["steps"] for run in data["overview"]["runs"]] == [
        [0, 10_000, 20_000, 30_000, 40_000]
    ] * 3
    assert "one evaluation in 2" in data["overview"]["notes"][-1]


def test_runs_with_samples_alone_are_shown(tmp_path):
    study = made_study(seeds=1, prompts=8)
    runs = [dataclasses.replace(run, record=None) for run in study.runs]
    study = dataclasses.replace(study, runs=runs, judges={}, prompts=[])
    data = read_page(write_page(study, tmp_path / "report.html"))
    assert len(data["overview"]["prompts"]) == 8
    assert data["overview"]["matrix"] is None
    rows = [r for r in runs[1].samples if r["step"] == 40_000]
    assert data["run-1"]["texts"][3] == [row["completion"] for row in rows]


def test_configuration_differences_are_those_between_cells():
    study = made_study(seeds=2)
    rows = {row["key"]: row["values"] for row in configuration_differences(study)}
    assert rows == {
        "reward": ["crowd", "lexicon", "crowd"],
        "agent": ["ppo", "ppo", "grpo"],
        "kl_coef": ["0.05", "0.05", "0.1"],
    }


def test_failures_and_notes_are_in_the_page(tmp_path):
    failure = Failure("cells/x/seed-1", "ppo · crowd", 1, "RewardError: no answer")
    study = dataclasses.replace(made_study(), failures=[failure], notes=["a note"])
    overview = read_page(write_page(study, tmp_path / "report.html"))["overview"]
    assert overview["failures"][0]["reason"] == "RewardError: no answer"
    assert overview["notes"] == ["a note"]


def test_the_same_study_makes_the_same_file(tmp_path):
    one = write_page(made_study(), tmp_path / "one.html").read_bytes()
    assert one == write_page(made_study(), tmp_path / "two.html").read_bytes()
