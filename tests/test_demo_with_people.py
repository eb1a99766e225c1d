"""`textgym demo --human`: a dozen answers through a real Chromium, and nobody at all."""

import io
import json

import pytest
from browser import chromium  # noqa: F401
from rich.console import Console
from scripted_rater import ScriptedRater

from textgym.demonstration.run import run_demo
from textgym.demonstration.settings import Settings
from textgym.reward_models.people.records import HELD_OUT
from textgym.reward_models.people.store import LabelStore

TINY = Settings(sft_steps=1, timesteps=4 * 4 * 40, prompts=16, rows=4, share=0.01)


def demo(out, person, **keywords):
    """What a quick demo found and printed."""
    console = Console(file=io.StringIO(), width=200)
    if not keywords.get("resume"):
        keywords |= {"settings": TINY, "human": True, "seed": 3}
    figures = run_demo(out=out, person=person, progress_bar=False, console=console, **keywords)
    del figures["seconds"]
    return figures, console.file.getvalue()


def test_a_dozen_answers_on_the_page_are_learned_from_and_others_judge(chromium, tmp_path):  # noqa: F811
    out, rater = tmp_path / "demo", ScriptedRater(chromium, visit=4)
    figures, said = demo(out, rater, answers=8, held_out=8)
    counts = figures["answers"]
    assert counts["fitted"] >= 4 and counts["held_out"] >= 1 and counts["blind"] == 4
    assert 12 <= rater.answers == sum(counts.values())
    assert figures["refits"] >= 1 and figures["before"]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert figures["after"]["kl"] != 0.0
    with LabelStore(out / "labels.db", is_read_only=True) as store:
        assert len(store.events()) == rater.answers
        items = {item.id: item for item in store.items()}
        learned = {n for refit in store.refits() for n in refit.answers}
        asked = {event.id: items[event.item] for event in store.events()}
        assert len({number for number in learned}) == counts["fitted"]
        assert not any(asked[number].query == HELD_OUT for number in learned)
        aside = {item.prompt for item in asked.values() if item.query == HELD_OUT}
        assert not aside & {asked[number].prompt for number in learned}
        blind = [item for item in asked.values() if item.key.startswith("demo/blind/")]
        texts = [json.loads(line) for line in (out / "texts.jsonl").open(encoding="utf-8")]
        pairs = {(row["prompt"], row["before"], row["after"]) for row in texts}
        assert {(i.prompt, i.texts[0].text, i.texts[1].text) for i in blind} <= pairs
    assert f"{counts['fitted']} learned from in" in said and "Asked blind, you chose" in said
    assert f"label {out / 'labels.db'}" in said and f"demo --out {out} --resume" in said

    assert demo(out, None, browser=False, resume=True)[0] == figures


def test_nobody_is_waited_for_and_that_is_said(tmp_path):
    figures, said = demo(tmp_path / "demo", None, browser=False)
    assert "http://127.0.0.1:" in said and "/enter?ticket=" in said
    assert "Nobody answered. The policy was trained on the crowd's taste alone" in said
    assert set(figures["answers"].values()) == {0}
    assert figures["taste"] is None and figures["accuracy"] == {"decided": 0}
    report = json.loads((tmp_path / "demo" / "report.json").read_text(encoding="utf-8"))
    assert report["answers"] == figures["answers"]
