"""Words written backwards: the benchmark's splits, rewards and page by hand; and that it runs."""

import json
import sys

import pytest
from front_door import byte_lm

SMALL = ("--timesteps", "8", "--start-steps", "1", "--sft-steps", "1")


def test_no_split_has_a_word_of_another_or_its_beginning(load_benchmark):
    said_twice = "garden gardens stop pots level house houses table tables movie river"
    texts = [said_twice, said_twice, "once", "ten ten elevenish elevenish"]
    found = load_benchmark("reversed_words").splits(texts, {"test": 1, "rl": 2})
    assert [len(found[name]) for name in ("test", "rl")] == [1, 2]
    words = [word for part in found.values() for word in part]
    assert len(set(words)) == len(words)
    # once: said once; ten, elevenish: of the wrong length; the others: words backwards too.
    assert not set(words) & {"once", "ten", "elevenish", "stop", "pots", "level"}
    assert set(words) <= set(said_twice.split())
    beginnings = [{word[:3] for word in part} for part in found.values()]
    assert not (beginnings[0] & beginnings[1] or beginnings[2] & (beginnings[0] | beginnings[1]))


def test_what_an_answer_earns(load_benchmark):
    words = load_benchmark("reversed_words")
    assert words.row("tea") == {
        "prompt": "Reverse: t e a ->",
        "answer": "a e t",
        "reference": "aet",
    }
    # "ae" of "aet" in "aex": 2 · 2 / 6; of "taet" the block "aet": 2 · 3 / 7.
    given = [" a e t", "aex", " t a e t", ""]
    assert words.similarity(given, ["aet"] * 4) == pytest.approx([1, 2 / 3, 6 / 7, 0])


def test_what_grpo_is_paid(load_benchmark):
    words = load_benchmark("reversed_words")
    # One letter of three replaced, left out or put in costs a third; half is for the answer itself.
    given = [" a e t", "aex", "ae", " t a e t", "ate", "", "xyzabc"]
    assert words.graded(given, ["aet"] * 7) == pytest.approx(
        [1, 1 / 3, 1 / 3, 1 / 3, 1 / 6, 0, 0]
    )  # to "ate" two are replaced; "xyzabc" is six away, further than the answer is long
    assert [words.edits(*pair) for pair in (("kitten", "sitting"), ("", "ab"), ("ab", ""))] == [
        3, 2, 2,
    ]  # fmt: skip


def test_shuffled_rewards_are_the_same_ones_and_nobody_keeps_his_own(load_benchmark):
    words = load_benchmark("reversed_words")
    given = ["tenretni", "tenretn", "tenrtn", "tenrn", "tnrn", ""]
    true = words.graded(given, ["tenretni"] * 6)
    assert len(set(true)) == 6
    reward = words.shuffled(0)
    for _ in range(20):
        wrong = reward(given, ["tenretni"] * 6)
        assert sorted(wrong) == sorted(true)
        assert all(a != b for a, b in zip(wrong, true, strict=True))


def test_what_is_wrong_with_an_answer(load_benchmark):
    kind = load_benchmark("reversed_words").kind
    assert [kind(text, "aet") for text in (" a e t", "ate", "ae", "aett", "aex", "")] == [
        "right", "wrong order", "letters missing", "letters too many", "other letters",
        "letters missing",
    ]  # fmt: skip


def figures(similarity, exact):
    part = {"similarity": [similarity, 0.05], "exact": [exact, 0.05]}
    return {"drawn": part, "likeliest": part}


def test_the_bars(load_benchmark):
    bars = load_benchmark("reverse_text").bars
    start, risen, equal = figures(0.6, 0.2), figures(0.8, 0.29), figures(0.6, 0.2)
    lines = bars(start, [risen, risen], [equal])
    assert lines[0] == (
        "- similarity, drawn: 2 of 2 seeds above the start ✓; with shuffled rewards 0 of 1 ✓"
    )
    assert lines[1].startswith("- exact, drawn: 0 of 2 seeds above the start **missed**;")
    assert bars(start, [equal], [risen])[0].endswith("with shuffled rewards 1 of 1 **missed**")


def test_the_gain_is_of_the_same_words(load_benchmark):
    start = {"drawn": {"answers": ["aet", "xyz"]}}
    run = {"drawn": {"answers": ["aet", "eus"]}}
    # Differences 0 and 1 - 0: mean .5, deviation .7071, 1.96 · .7071 / √2 = .98.
    gain = load_benchmark("reverse_text").gain
    assert gain(run, start, ["tea", "sue"], "drawn", "similarity") == "+0.500 ± 0.980"
    run["drawn"]["answers"] = ["aet", "uus"]  # nearer, not right
    assert gain(run, start, ["tea", "sue"], "drawn", "exact") == "+0.000 ± 0.000"


def test_it_runs_and_makes_no_run_twice(load_benchmark, tmp_path, monkeypatch):
    script = load_benchmark("reverse_text")
    policy, runs, out = tmp_path / "lm", tmp_path / "runs", tmp_path / "page.md"
    byte_lm().save_pretrained(policy)
    flags = f"--policy {policy} --runs {runs} --out {out} --seeds 0 --sft 0 --shuffled 0 --words 5"
    monkeypatch.setattr(sys, "argv", ["x", *flags.split(), *SMALL])
    assert script.main() == 0
    first = out.read_text(encoding="utf-8")
    assert "| | start | GRPO 0 | more SFT 0 | shuffled 0 |" in first
    found = json.loads((runs / "grpo-0" / "test-5.json").read_text(encoding="utf-8"))
    assert len(found["drawn"]["answers"]) == 5 and len(found["kl"]) == 2
    monkeypatch.setattr(script, "fine_tuned", None)
    monkeypatch.setattr(script, "reinforced", None)
    assert script.main() == 0
    assert out.read_text(encoding="utf-8").splitlines()[:20] == first.splitlines()[:20]
