"""Alarms of a training: figures by hand, and a run with and without them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from front_door import byte_lm, read_lines, run_cli

import textgym
from textgym.agents.runs.alarms import (
    Limits,
    Texts,
    gold_fell,
    gold_rose_surely,
    overlap_rose,
    signs,
    text_figures,
)
from textgym.agents.runs.exploits import exploit_of
from textgym.agents.runs.guards import Guards, guards_of
from textgym.agents.runs.held_out import HeldOutText
from textgym.errors import InputError

SMALL = {"n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 1, "seed": 0}


def rows(first, last):
    """Two rollouts of the start and two of now."""
    base = {
        "reward/environment": 0.0,
        "reward/std": 1.0,
        "policy/entropy": 2.0,
        "text/length": 20.0,
        "kl/per_token": 0.1,
        "guards/commonest_word": 0.2,
        "guards/prompt_copied": 0.1,
        "guards/equal_prompts": 0.0,
    }
    return [{**base, **first}] * 2 + [{**base, **last}] * 2


@pytest.mark.parametrize(
    ("last", "kinds"),
    [
        ({}, set()),
        ({"kl/per_token": 1.01}, {"KL"}),
        ({"policy/entropy": 0.39}, {"entropy"}),
        ({"policy/entropy": 0.41}, set()),
        ({"guards/equal_prompts": 0.9}, {"nothing to learn"}),
        ({"reward/std": 0.0}, {"nothing to learn"}),
        ({"text/length": 40.0, "reward/environment": 0.51}, {"length"}),
        ({"text/length": 10.0, "reward/environment": 0.51}, {"length"}),
        ({"text/length": 40.0}, set()),
        ({"guards/commonest_word": 0.6, "reward/environment": 1.0}, {"one word"}),
        ({"guards/prompt_copied": 0.6, "reward/environment": 1.0}, {"words of the prompt"}),
    ],
)
def test_signs_by_hand(last, kinds):
    assert set(signs(rows({}, last), Limits(), gold_is_well=False)) == kinds
    allowed = kinds & {"KL", "nothing to learn"}
    assert set(signs(rows({}, last), Limits(), gold_is_well=True)) == allowed
    assert signs(rows({}, last)[1:], Limits(), gold_is_well=False) == {}


def test_a_policy_far_from_the_reference_whose_gold_rose_surely_is_no_alarm():
    last = {"kl/per_token": 1.01}
    assert not signs(rows({}, last), Limits(), gold_is_well=True, gold_rose=True)
    equal = {**last, "guards/equal_prompts": 0.9}
    found = signs(rows({}, equal), Limits(), gold_is_well=True, gold_rose=True)
    assert set(found) == {"nothing to learn"}


def test_a_figure_that_a_run_does_not_log_raises_nothing():
    assert signs([{"text/length": 5.0}] * 9, Limits(), gold_is_well=False) == {}


def evaluation(step, reward, gold):
    return [
        HeldOutText(step, k, "text", "stop", (4,), (0.0,), (0.0,), 0.0, {"r": a, "g": b})
        for k, (a, b) in enumerate(zip(reward, gold, strict=True))
    ]


def test_gold_fell_needs_both_and_both_surely():
    wobble = np.tile([0.1, -0.1], 8)
    start = evaluation(0, [0.0] * 16, [1.0] * 16)

    def said(rise, fall, unit=1.0):
        now = evaluation(64, rise + wobble, 1.0 - fall - wobble)
        return gold_fell(start, now, reward="r", gold="g", unit=unit, limits=Limits())

    # Standard error 0.1 · √(16/15) / 4 = 0.0258: three of them are 0.0775.
    assert said(0.08, 0.3) and not said(0.07, 0.3)
    assert not said(-0.5, 0.3) and not said(0.5, -0.3)
    assert not said(0.5, 0.24) and said(0.5, 0.26)  # a quarter of the start's spread
    assert said(0.5, 0.08, unit=0.1) and not said(0.5, 0.07, unit=0.1)
    assert "r rose by 0.08 and g fell by 0.3" in said(0.08, 0.3)
    same = evaluation(64, [0.0] * 16, [0.0] * 16)  # a reward that never moves is not gamed
    assert not gold_fell(start, same, reward="r", gold="g", unit=1.0, limits=Limits())


def test_gold_rose_surely_by_hand():
    """Of the standard error .0258 as above, two are .0516; seven prompts are too few."""
    wobble = np.tile([0.1, -0.1], 8)

    def rose(rise, count=16):
        start = evaluation(0, [0.0] * count, [1.0] * count)
        now = evaluation(64, [0.0] * count, 1.0 + rise + wobble[:count])
        return gold_rose_surely(start, now, gold="g", limits=Limits())

    assert rose(0.053) and not rose(0.05) and not rose(-0.08)
    assert rose(0.5, count=8) and not rose(0.5, count=7)


@pytest.mark.parametrize(
    ("means", "is_well"),
    [
        ([1.0, 1.0], True),
        ([1.0, 0.99], False),
        ([1.0, 1.5, 1.26], True),  # .25 standard deviations of 1 below its best at most
        ([1.0, 1.5, 1.24], False),
        ([1.0, 1.5, 1.24, 1.4], True),
        ([1.0], False),
    ],
)
def test_gold_is_well_no_lower_than_at_the_start_and_near_its_best(means, is_well):
    guards = Guards(say=lambda line: None)
    guards.judges = {"r": "reward", "g": "gold"}
    spread = np.tile([1.0, -1.0], 8)  # of deviation 1
    guards.evaluations = {
        step: evaluation(step, [0.0] * 16, mean + spread) for step, mean in enumerate(means)
    }
    assert guards.gold_is_well() == is_well


@pytest.mark.parametrize(("gold", "kinds"), [(1.5, []), (1.0, ["KL"]), (0.9, ["KL"])])
def test_kl_in_an_evaluation_is_an_alarm_unless_gold_rose_surely(gold, kinds):
    guards = Guards(say=lambda line: None)
    guards.judges = {"r": "reward", "g": "gold"}
    guards.model = SimpleNamespace(num_timesteps=64)
    guards.evaluated(evaluation(0, [0.0] * 16, [1.0] * 16))
    later = evaluation(64, [0.0] * 16, [gold] * 16)
    guards.evaluated([replace(t, reference_log_probs=(-2.0,)) for t in later])
    assert [alarm.kind for alarm in guards.alarms] == kinds


class OnMoons(Guards):
    """Every prompt is the word moon."""

    def _texts(self, texts, reward):
        asked = super()._texts(texts, reward)
        return asked._replace(prompts=["moon"] * len(texts))


@pytest.mark.parametrize(("gold", "kinds"), [(0.5, []), (0.0, ["words of the prompt"])])
def test_copies_are_an_alarm_unless_gold_vouches_for_them(gold, kinds):
    guards = OnMoons(say=lambda line: None)
    guards.judges, guards.model = {"r": "reward", "g": "gold"}, SimpleNamespace(num_timesteps=64)
    start = evaluation(0, np.tile([0.1, -0.1], 8), np.tile([1.0, 1.2], 8))
    later = evaluation(64, np.tile([0.9, 0.7], 8), 0.01 + gold + np.tile([1.2, 1.0], 8))
    copies = ["moon moon a", "moon b a"] * 8
    guards.evaluated([replace(t, completion="a b c d") for t in start])
    guards.evaluated([replace(t, completion=c) for t, c in zip(later, copies, strict=True)])
    assert guards.gold_is_well()  # no lower than at the start, but not surely higher
    assert [alarm.kind for alarm in guards.alarms] == kinds


def test_a_prompt_that_is_copied_more_and_more_surely_and_paid_for():
    """Ten prompts of one word; overlap is 0 or 1/2 at the start: mean .25, deviation .25."""
    prompts = ["moon"] * 10
    kept = ["moon a", "b a"] * 5

    def said(texts, paid, before=kept):
        start, now = (
            [
                HeldOutText(step, k, text, "stop", (9,), (0.0,), (0.0,), 0.0, {"r": r})
                for k, (text, r) in enumerate(zip(written, rewards, strict=True))
            ]
            for step, written, rewards in ((0, before, [0.0] * 10), (64, texts, paid))
        )
        return overlap_rose(prompts, start, now, reward="r", limits=Limits())

    rise = [0.9, 1.1] * 5
    assert said(["moon moon"] * 10, rise) == (
        "make up 100% of a text, 25% at the start, and r rose by 1"
    )
    assert not said(["moon moon"] * 10, [-r for r in rise])  # paid less
    assert not said(["moon moon"] * 10, [1.0, -1.0] * 5)  # not surely
    assert not said(kept, rise) and not said(["b a"] * 10, rise)
    one = ["moon moon", *kept[1:]]
    assert not said(one, rise)  # of one prompt alone: within chance
    little = ["moon " * 11 + "a " * 9] * 10  # 55% of all; .05 more than one half
    assert not said(little, rise, before=["moon a"] * 5 + ["moon moon"] * 5)


@pytest.mark.parametrize(
    ("pays", "named"),
    [
        (lambda p, t: len(t), "length"),
        (lambda p, t: t.count("!"), "the sign '!'"),
        (lambda p, t: t.split().count("moon"), "the word 'moon'"),
        (lambda p, t: t.count(p), "copying the prompt"),
    ],
)
def test_the_exploit_is_named(pays, named):
    rng = np.random.default_rng(0)
    words = ["sun", "moon", "rain", "sea", "wind", "ab", "tree"]

    def written(count, extra):
        texts = [" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(count)]
        return [t + extra * int(rng.integers(0, 3)) for t in texts]

    def paid(texts):
        return Texts(["ab"] * len(texts), texts, np.array([float(pays("ab", t)) for t in texts]))

    extra = {"the sign '!'": "!", "the word 'moon'": " moon", "copying the prompt": " ab"}
    now = paid(written(40, extra.get(named, " sea wind")))
    found, place = exploit_of(paid(written(40, "")), now)
    assert (found, place) == (named, int(np.argmax(now.rewards)))
    flat = Texts(now.prompts, now.completions, np.ones(40))
    assert exploit_of(None, flat)[0] == ""


def test_text_figures_by_hand():
    texts = Texts(
        ["a b", "a b", "c"],
        ["a a a b", "a b x y", "one two three"],
        np.array([1.0, 1.0, 0.0]),
    )
    assert text_figures(texts) == pytest.approx(
        {
            "guards/commonest_word": (0.75 + 0.25 + 0) / 3,
            "guards/prompt_copied": (1 + 0.5 + 0) / 3,
            "guards/equal_prompts": 1.0,
        }
    )


def always_one(prompts, completions):
    return [1.0] * len(completions)


def falling(prompts, completions):
    """A gold judge that likes a text less at each call."""
    falling.calls += 1
    noise = [0.01 * (len(text) % 3) for text in completions]
    return [-float(falling.calls) + n for n in noise]


def rising(prompts, completions):
    rising.calls += 1
    return [float(rising.calls) + 0.01 * (len(text) % 5) for text in completions]


def train(out, **keywords):
    lines = []
    agent = textgym.train(
        "textgym/Length-v0",
        policy=byte_lm(),
        out=out,
        progress_bar=False,
        report=lines.append,
        **{"timesteps": 512, **SMALL, **keywords},
    )
    return agent, lines


def test_a_reward_that_is_always_one_raises_an_alarm_and_may_stop(tmp_path):
    agent, lines = train(tmp_path / "warn", reward=always_one, guards="warn")
    alarms = read_lines(tmp_path / "warn" / "alarms.jsonl")
    assert [(a["kind"], a["step"]) for a in alarms] == [("nothing to learn", 512)]
    assert lines[0].startswith("alarm at 512 tokens: nothing to learn")
    metrics = read_lines(tmp_path / "warn" / "metrics.jsonl")
    assert [row["guards/alarms"] for row in metrics] == [0, 0, 0, 1]
    assert {"guards/prompt_copied", "guards/commonest_word"} <= metrics[0].keys()
    agent, lines = train(tmp_path / "stop", reward=always_one, guards="stop", timesteps=1024)
    assert agent.num_timesteps == 512 + 4  # the step at which it ends, of which nothing is learned
    agent, lines = train(tmp_path / "off", reward=always_one)
    assert not (tmp_path / "off" / "alarms.jsonl").exists()
    same = read_lines(tmp_path / "off" / "metrics.jsonl")
    for with_guards, without in zip(metrics, same, strict=True):
        for name in ("reward/total", "policy/entropy", "train/loss"):
            assert with_guards.get(name) == without.get(name)


def test_reward_up_and_gold_down_keeps_the_model_of_the_best_evaluation(tmp_path):
    rising.calls = falling.calls = 0
    guards = Guards(say=lambda line: None)
    train(
        tmp_path / "run",
        reward=rising,
        gold=[falling],
        evaluations=3,
        prompts=[f"prompt {k}" for k in range(12)],
        guards=guards,
    )
    assert "reward up, gold down" in [alarm.kind for alarm in guards.alarms]
    assert not guards.gold_is_well()
    best = textgym.policies.CausalLM.from_pretrained(tmp_path / "run" / "checkpoints" / "best_gold")
    start = textgym.policies.CausalLM.from_pretrained(tmp_path / "run" / "checkpoints" / "start")
    for one, other in zip(best.parameters(), start.parameters(), strict=True):
        assert one.equal(other)


def test_a_run_that_goes_on_has_the_alarms_of_one_that_never_stopped(tmp_path):
    train(tmp_path / "whole", reward=always_one, guards="warn", timesteps=768)
    train(tmp_path / "parts", reward=always_one, guards="warn", timesteps=256)
    assert not (tmp_path / "parts" / "alarms.jsonl").exists()
    train_again = {"timesteps": 768, "reward": always_one, "policy": None}
    textgym.train(
        "textgym/Length-v0",
        out=tmp_path / "parts",
        resume=True,
        progress_bar=False,
        report=lambda line: None,
        **{k: v for k, v in train_again.items() if v is not None},
    )
    whole, parts = (read_lines(tmp_path / run / "alarms.jsonl") for run in ("whole", "parts"))
    assert [(a["kind"], a["step"]) for a in parts] == [(a["kind"], a["step"]) for a in whole]


def test_words_that_are_no_guards_are_refused(tmp_path):
    assert guards_of("off") is None and guards_of("stop").stop
    with pytest.raises(InputError, match="unknown guards 'wran': did you mean 'warn'"):
        guards_of("wran")
    code, _, error = run_cli(
        "train", "textgym/Length-v0", "--out", tmp_path / "run", "--guards", "loud"
    )
    assert code == 2 and "guards 'loud'" in error and not (tmp_path / "run").exists()
