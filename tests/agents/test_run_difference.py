"""How two runs differ: settings, figures, paired scores, and which texts most."""

import io
import json

import numpy as np
import pytest
import yaml
from made_studies import made_study, write_made_study
from rich.console import Console
from scipy import stats

from textgym.agents.comparison.difference import compare_runs, final_figures
from textgym.agents.comparison.found_runs import read_pair
from textgym.command_line.run_difference import diff_text, show_difference
from textgym.errors import InputError


@pytest.fixture
def runs(tmp_path):
    study = made_study((("ppo", "crowd"), ("grpo", "crowd")), seeds=1, prompts=6, evaluations=2)
    places = write_made_study(study, tmp_path / "cmp")
    return study, places


def change(run, **settings):
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


def test_scores_are_paired_by_prompt(runs):
    study, (a, b) = runs
    difference = compare_runs(*read_pair(a, b))
    assert difference.names == ("ppo-crowd/seed-0", "grpo-crowd/seed-0")
    assert difference.steps == (40_000, 40_000)
    assert [row.judge for row in difference.scores] == ["critic", "crowd", "lexicon", "length"]
    for row in difference.scores:
        one, two = (
            [text.scores[row.judge] for text in run.record.texts[40_000]] for run in study.runs
        )
        assert (row.a, row.b) == (pytest.approx(np.mean(one)), pytest.approx(np.mean(two)))
        test = stats.ttest_rel(two, one)
        low, high = test.confidence_interval(0.95)
        assert (row.difference, row.low, row.high) == pytest.approx(
            (np.mean(two) - np.mean(one), low, high)
        )


def test_an_interval_needs_two_prompts_and_both_scores(runs):
    _, (a, b) = runs
    rows = [json.loads(line) for line in (b / "held_out.jsonl").read_text().splitlines()]
    for row in rows[-6:]:
        row["scores"]["critic"] = None if row["prompt"] else 2.0
        row["scores"]["crowd"] = None
    (b / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    critic, crowd = compare_runs(*read_pair(a, b)).scores[:2]
    assert critic.difference == 2.0 - critic.a
    assert np.isnan([critic.low, critic.high, crowd.a, crowd.difference, crowd.low]).all()


def test_texts_come_by_the_largest_difference_of_the_chosen_judge(runs):
    study, (a, b) = runs
    one, two = (run.record.texts[40_000] for run in study.runs)
    for judge, expected in (("lexicon", "lexicon"), (None, "critic")):
        difference = compare_runs(*read_pair(a, b), judge=judge)
        assert difference.judge == expected
        gaps = [abs(y.scores[expected] - x.scores[expected]) for x, y in zip(one, two, strict=True)]
        order = sorted(range(6), key=lambda k: -gaps[k])
        assert [pair.a for pair in difference.texts] == [one[k].completion for k in order]
        assert [pair.b for pair in difference.texts] == [two[k].completion for k in order]
    with pytest.raises(InputError, match="unknown judge of both runs 'lexikon': did you mean 'lex"):
        compare_runs(*read_pair(a, b), judge="lexikon")


def test_settings_that_differ_are_named_and_paths_count_by_what_they_held(runs):
    _, (a, b) = runs
    change(a, policy="/one/lm", env_kwargs={"max_new_tokens": 8}, out="x")
    change(b, policy="/two/lm", out="y")
    for run, digest in ((a, "a"), (b, "a")):
        (run / "provenance.json").write_text(
            json.dumps({"start": {"policy": {"p": digest * 64}}, "inputs": {}})
        )
    rows = {s.name: (s.a, s.b) for s in compare_runs(*read_pair(a, b)).settings}
    assert rows == {
        "agent": ("ppo", "grpo"),
        "kl_coef": ("0.05", "0.1"),
        "max_new_tokens": ("8", None),
    }
    (b / "provenance.json").write_text(json.dumps({"start": {"policy": {"p": "b" * 64}}}))
    rows = {s.name: (s.a, s.b) for s in compare_runs(*read_pair(a, b)).settings}
    assert rows["policy"] == ("/one/lm (aaaaaaaa)", "/two/lm (bbbbbbbb)")


def test_figures_have_label_unit_and_direction():
    rows = final_figures(
        {"reward/total": 1.0, "reward_components/tone": 0.5, "step": 9.0},
        {"reward/total": 3.0, "time/fps": 7.0},
    )
    assert [(row.tag, row.better) for row in rows] == [
        ("reward/total", "higher"),
        ("reward_components/tone", "higher"),
        ("time/fps", "higher"),
    ]
    assert rows[0].title == "optimised reward, reward per text"
    assert (rows[0].a, rows[0].b) == (1.0, 3.0)
    assert "tone" in rows[1].title and np.isnan(rows[1].b)


def test_runs_without_a_record_show_their_samples(runs):
    _, (a, b) = runs
    for file in a.glob("held_out*"):
        file.unlink()
    difference = compare_runs(*read_pair(a, b))
    assert difference.scores == [] and difference.judge == ""
    assert len(difference.texts) == 6
    assert (
        "ppo-crowd/seed-0: no held-out evaluations, so sample texts are shown" in difference.notes
    )


def test_prompts_that_only_one_has_are_left_out(runs, tmp_path):
    _, (a, _) = runs
    study = made_study((("ppo", "crowd"),), seeds=1, prompts=4, evaluations=2)
    (other,) = write_made_study(study, tmp_path / "other")
    difference = compare_runs(*read_pair(a, other))
    assert len(difference.texts) == 4
    assert "2 of 6 prompts are not in both, and left out" in difference.notes


def test_other_environments_and_the_same_run_are_refused(runs, tmp_path):
    _, (a, b) = runs
    change(b, env="textgym/Length-v0")
    with pytest.raises(InputError, match=r"different environments .*ppo-crowd/seed-0: textgym/Mov"):
        compare_runs(*read_pair(a, b))
    (tmp_path / "link").symlink_to(a)
    with pytest.raises(InputError, match="are the same run"):
        read_pair(a, tmp_path / "link")
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        read_pair(a, tmp_path)


def shown(difference, **keywords):
    file = io.StringIO()
    console = Console(width=120, file=file, **keywords)
    show_difference(difference, samples=6, console=console)
    return file.getvalue()


def test_a_terminal_shows_texts_and_does_not_obey_them(runs):
    _, (a, b) = runs
    for run in (a, b):
        rows = [json.loads(line) for line in (run / "held_out.jsonl").read_text().splitlines()]
        for row in rows:
            row["completion"] = f"\x1b[2J[bold]{row['completion']}"
        (run / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = shown(compare_runs(*read_pair(a, b)))
    assert "\x1b" not in text and "\\x1b[2J[bold]" in text
    assert "非常好看" in text
    coloured = shown(compare_runs(*read_pair(a, b)), force_terminal=True, color_system="standard")
    assert "\x1b[2J" not in coloured and "\x1b[4;32m" in coloured


def test_a_diff_without_colours_is_marked():
    assert diff_text("a fine film", "a dull film", has_colours=False).plain == (
        "a [-fine-]{+dull+} film"
    )
    coloured = diff_text("a fine film", "a dull film", has_colours=True)
    assert coloured.plain == "a finedull film"
    assert [str(span.style) for span in coloured.spans if span.style] == [
        "red strike",
        "green underline",
    ]
