"""`textgym label` without its server: items from files, runs and studies, import and export."""

import json

import pytest
from made_studies import made_study, write_made_study

from textgym.counts import count_of
from textgym.errors import InputError
from textgym.labelling.sources import read_items
from textgym.labelling.verb import label
from textgym.reward_models.people.records import Reply, Text
from textgym.reward_models.people.store import LabelStore


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_preference_file_makes_pairs_that_are_added_once(tmp_path, capsys):
    rows = [{"prompt": f"p{n}", "chosen": "x", "rejected": "y"} for n in range(2)]
    texts = [written(tmp_path / "pairs.jsonl", rows)]
    for _ in range(2):
        assert label(tmp_path / "labels.db", texts=texts, raters=3, serve=False) == 0
    said = capsys.readouterr().out
    assert "2 items added, of 2 read" in said and "stays" not in said
    label(tmp_path / "labels.db", raters=2, serve=False)
    assert "raters stays 3, as chosen when it was made" in capsys.readouterr().out
    with LabelStore(tmp_path / "labels.db", is_read_only=True) as store:
        assert [item.prompt for item in store.items()] == ["p0", "p1"]
        assert store.items()[0].texts == (Text("x"), Text("y"))
        assert store.settings.raters == 3


def test_sides_may_be_gold(tmp_path):
    rows = [
        {"prompt": "p", "a": "x", "b": "y", "gold": "b"},
        {"prompt": "q", "a": "x", "b": "y"},
    ]
    items = read_items(written(tmp_path / "pairs.jsonl", rows))
    assert [item.gold for item in items] == ["second", None]
    with pytest.raises(InputError, match=r"pairs.jsonl, line 1: gold must be a, b, tie"):
        read_items(written(tmp_path / "pairs.jsonl", [rows[0] | {"gold": "x"}]))


def test_texts_of_a_prompt_make_pairs_or_stand_alone(tmp_path):
    rows = [{"prompt": "p", "completion": text, "model": text} for text in "xyz"]
    path = written(tmp_path / "texts.jsonl", [*rows, {"prompt": "q", "completion": "x"}])
    pairs = read_items(path)
    assert [[text.text for text in item.texts] for item in pairs] == [
        ["x", "y"],
        ["x", "z"],
        ["y", "z"],
    ]
    assert pairs[0].texts[1].source == {"model": "y"}
    assert len(read_items(path, kind="rating")) == 4
    with pytest.raises(InputError, match="two different texts of a prompt"):
        read_items(written(tmp_path / "texts.jsonl", rows[:1]))


def test_a_run_gives_its_first_texts_against_its_last(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    rows = [
        {"step": step, "prompt": "p", "completion": f"text {step}", "finish_reason": "length"}
        for step in (0, 100, 200)
    ]
    written(tmp_path / "samples.jsonl", rows)
    (item,) = read_items(tmp_path)
    assert [text.text for text in item.texts] == ["text 0", "text 200"]
    assert [text.source["step"] for text in item.texts] == [0, 200]
    assert item.texts[0].is_cut


def test_a_study_gives_the_texts_of_two_cells_and_one_seed(tmp_path):
    study = made_study(seeds=2, prompts=3, evaluations=2, timesteps=2000)
    write_made_study(study, tmp_path / "study")
    one, other = study.cells[0].label, study.cells[2].label
    items = read_items(tmp_path / "study", cells=[one, other])
    assert 0 < len(items) <= 6
    for item in items:
        first, second = (text.source for text in item.texts)
        assert (first["cell"], second["cell"]) == (one, other)
        assert first["seed"] == second["seed"] and first["step"] == second["step"] == 2000
        (run,) = [run for run in study.runs_of(one) if run.seed == first["seed"]]
        assert item.texts[0].text in [text.completion for text in run.record.texts[2000]]
    with pytest.raises(InputError, match="cells must be two of"):
        read_items(tmp_path / "study", cells=[one, "none"])


def test_answers_go_out_and_come_in_again(tmp_path, capsys):
    rows = [{"prompt": f"p{n}", "chosen": "x", "rejected": "y"} for n in range(3)]
    store, out = tmp_path / "labels.db", tmp_path / "out.jsonl"
    label(store, texts=[written(tmp_path / "pairs.jsonl", rows)], serve=False)
    with LabelStore(store) as opened:
        for showing, choice in zip(opened.next("anna", 3), "ab", strict=False):
            opened.answer("anna", Reply(showing.id, f"key {showing.id}", choice))
        winners = {event.item: event.winner for event in opened.events()}
    assert label(store, export=out) == 0
    assert "2 lines" in capsys.readouterr().out
    for added in (2, 0):
        assert label(tmp_path / "other.db", import_=out, serve=False) == 0
        assert f"{count_of(added, 'answer')} added, of 2 read" in capsys.readouterr().out
    with LabelStore(tmp_path / "other.db", is_read_only=True) as other:
        chosen = {item.id: item.texts[0].text for item in other.items()}
        assert [event.winner for event in other.events()] == ["first", "first"]
        assert [event.rater for event in other.events()] == ["anna", "anna"]
    wanted = [{"first": "x", "second": "y"}[winner] for winner in winners.values()]
    assert list(chosen.values()) == wanted


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"kind": "best"}, "kind must be among pair, rating, edit"),
        ({"scale": "1 to 5"}, "scale must be two whole numbers like 1-5"),
        ({"scale": "5-1"}, "scale must rise"),
        ({"raters": 0}, "raters must be a whole number from 1"),
        ({"host": "0.0.0.0"}, "add --public"),
        ({"texts": ["none.jsonl"]}, "none.jsonl"),
        ({"port": 70_000}, "port"),
        ({"export": "out.jsonl"}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_makes_no_store(tmp_path, monkeypatch, flags, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match):
        label("labels.db", **flags)
    assert list(tmp_path.iterdir()) == []
