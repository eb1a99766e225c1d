"""`textgym demo --human`: nobody at all, and a dozen answers through a real Chromium."""

import io
import json
import shutil

import pytest
from browser import chromium  # noqa: F401
from rich.console import Console
from scripted_rater import ScriptedRater

from textgym.demonstration.run import run_demo
from textgym.demonstration.settings import Settings
from textgym.reward_models.people.records import HELD_OUT
from textgym.reward_models.people.store import LabelStore

TINY = Settings(sft_steps=1, timesteps=4 * 4 * 40, prompts=16, rows=4, share=0.01)


def demo(out, **keywords):
    """What a demo found and printed."""
    console = Console(file=io.StringIO(), width=200)
    figures = run_demo(out=out, progress_bar=False, console=console, browser=False, **keywords)
    del figures["seconds"]
    return figures, console.file.getvalue()


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    """A demo that nobody answered."""
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, *demo(out, human=True, answers=8, held_out=8, seed=3, settings=TINY)


def test_nobody_is_waited_for_and_that_is_said(nobody):
    out, figures, said = nobody
    assert "http://127.0.0.1:" in said and "/enter?ticket=" in said
    assert "Nobody answered. The policy was trained on the crowd's taste alone" in said
    assert set(figures["answers"].values()) == {0}
    assert figures["taste"] is None and figures["accuracy"] == {"decided": 0}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["answers"] == figures["answers"]
    assert figures["before"]["kl"] == pytest.approx(0.0, abs=1e-4) != figures["after"]["kl"]
    with LabelStore(out / "labels.db", is_read_only=True) as store:
        waiting = [item for item in store.items() if item.is_open]
    assert len(waiting) == 4 and all("blind" in item.key for item in waiting)


def test_a_dozen_answers_on_the_page_are_learned_from_and_others_judge(chromium, nobody, tmp_path):  # noqa: F811
    out, rater = tmp_path / "run", ScriptedRater(chromium, visit=4)
    left_out = shutil.ignore_patterns("policy", "labels.db*", "texts.jsonl", "report.json")
    shutil.copytree(nobody[0], out, ignore=left_out)  # as stopped after its first parts
    figures, said = demo(out, resume=True, person=rater)
    assert "is there already" in said
    counts = figures["answers"]
    assert counts["fitted"] >= 4 and counts["held_out"] >= 1 and counts["blind"] == 4
    assert 12 <= rater.answers == sum(counts.values()) and figures["refits"] >= 1
    with LabelStore(out / "labels.db", is_read_only=True) as store:
        items = {item.id: item for item in store.items()}
        asked = {event.id: items[event.item] for event in store.events()}
        learned = {number for refit in store.refits() for number in refit.answers}
    assert len(asked) == rater.answers and len(learned) == counts["fitted"]
    aside = {item.prompt for item in asked.values() if item.query == HELD_OUT}
    assert not aside & {asked[number].prompt for number in learned}
    blind = [item for item in asked.values() if item.key.startswith("demo/blind/")]
    lines = (out / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    pairs = {(row["prompt"], row["before"], row["after"]) for row in rows}
    assert {(i.prompt, i.texts[0].text, i.texts[1].text) for i in blind} <= pairs
    assert f"{counts['fitted']} learned from in" in said and "Asked blind, you chose" in said
    assert f"label {out / 'labels.db'}" in said and f"demo --out {out} --resume" in said

    assert demo(out, resume=True)[0] == figures  # all are answered: nobody is waited for
