"""What the benchmarks of the loop with people make of its record, by hand; and that they run."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from front_door import byte_lm
from scripted_rater import likes_questions_and_people

from textgym.reward_models.rules.rules import Length

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def load():
    """A script of `benchmarks`, by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))

    def loaded(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    yield loaded
    sys.path.remove(str(ROOT / "benchmarks"))


def row(rule, seed, gain):
    labels = [0, 20, 40]
    found = {"labels": labels, "gain": gain, "kl": [0.0, 1.0, 2.0], "agreement": 0.75}
    return {"rule": rule, "seed": seed, "processor seconds": 3, **found}


def test_the_curve_of_the_synthetic_loop(load):
    loop = load("synthetic_loop")
    text = lambda score, kl: SimpleNamespace(scores={"critic": score}, kl=kl)  # noqa: E731
    record = SimpleNamespace(
        steps=[0, 50, 100],
        texts={
            0: [text(1.0, 0.0), text(2.0, 0.0)],
            50: [text(2.0, 1.0), text(2.0, 2.0)],
            100: [text(3.0, 4.0), text(5.0, 2.0)],
        },
    )
    found = loop.curve(record, [(40, 20), (50, 31), (90, 40), (120, 70)])
    assert found == {"labels": [0, 31, 40], "gain": [0.0, 0.5, 2.5], "kl": [0.0, 1.5, 3.0]}


def test_the_page_of_the_synthetic_loop(load):
    loop = load("synthetic_loop")
    rows = [
        row("disagreement", 0, [0.0, 0.2, 0.4]), row("random", 0, [0.0, 0.1, 0.5]),
        row("disagreement", 1, [0.0, 0.4, 0.8]), row("random", 1, [0.0, 0.3, 0.5]),
    ]  # fmt: skip
    assert loop.difference(rows) == pytest.approx([-0.1, 0.3])
    page = loop.page(rows, loop.Size(seeds=2), ["- machine"])
    assert "| disagreement | 2 | 0 answers: +0.00 (+0.00 to +0.00) | 20 answers: +0.30" in page
    assert "40 answers: +0.60 (+0.40 to +0.80) |" in page
    assert "seed by seed: -0.10, +0.30. At the end the policies are 2.0 nats" in page
    assert "0.75 by disagreement" in page


def test_a_run_of_the_synthetic_loop(load, tmp_path):
    """Its judge wants long texts: two rollouts of a small model, and answers to both."""
    loop = load("synthetic_loop")
    lm = tmp_path / "lm"
    byte_lm().save_pretrained(lm)
    size = loop.Size(rollouts=3, rows=4, prompts=3, evaluations=2, answers=30)
    found = loop.run("disagreement", 0, size, tmp_path, policy=lm, judge=Length(target=30))
    assert found["labels"][0] == 0 and len(found["gain"]) == 2 and found["gain"][0] == 0.0


def test_what_the_scripted_rater_says_of_held_out_texts(load):
    demo = load("demo_human")
    assert likes_questions_and_people("Do you like it?") > likes_questions_and_people("a b")
    assert likes_questions_and_people("a b") > likes_questions_and_people("a b c")
    rows = [
        {"before": "a b c", "after": "a b"}, {"before": "is it?", "after": "it is."},
        {"before": "I am.", "after": "so am we?"}, {"before": "a b", "after": "b a"},
    ]  # fmt: skip
    assert demo.preferences(rows) == {"before": 1, "after": 2, "tie": 1}
    assert demo.share(2, 3).startswith("2 of 3: 67% [21%, 94%]")
    assert demo.share(0, 0) == "none decided"
