"""The bundled quatrains: their form, their splits by poet, and the two tasks."""

import re
from collections import Counter

import gymnasium
import numpy as np
import pytest

import textgym
from textgym.envs.tasks.quatrains import (
    Quatrain,
    heldout_first_lines,
    load_quatrains,
    quatrain_texts,
    quatrain_tokenizer,
)
from textgym.errors import UnknownNameError
from textgym.near_copies import near_copy_groups
from textgym.reward_models import Quatrain as QuatrainReward


def lines(text: str) -> list[str]:
    return re.findall("[^，。]+", text)


def test_every_poem_has_its_form_and_keeps_all_rules() -> None:
    for form, syllables in (("wujue", 5), ("qijue", 7)):
        texts = quatrain_texts(form)
        assert {tuple(map(len, lines(text))) for text in texts} == {(syllables,) * 4}
        assert set(QuatrainReward(syllables)([""] * len(texts), texts).scores) == {1.0}


def test_characters_at_random_are_paid_what_the_page_says() -> None:
    """docs/reward-models.md: .3 for rhyme and .66 for tones."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(list("".join(lines("".join(quatrain_texts("wujue", "train"))))), (1000, 20))
    texts = ["{}，{}。{}，{}。".format(*map("".join, row.reshape(4, 5))) for row in drawn]
    parts = QuatrainReward()([""] * len(texts), texts).components
    assert set(parts["form"]) == {1.0}
    assert np.mean(parts["rhyme"]) == pytest.approx(0.3, abs=0.02)
    assert np.mean(parts["tones"]) == pytest.approx(0.66, abs=0.02)


def test_simplified_they_keep_all_rules_too() -> None:
    convert = pytest.importorskip("opencc").OpenCC("t2s").convert
    texts = [convert(text) for text in quatrain_texts(split="test")]
    parts = QuatrainReward()([""] * len(texts), texts).components
    assert np.mean(parts["rhyme"]) > 0.995 and np.mean(parts["tones"]) > 0.999


def test_the_splits_are_those_that_the_page_says() -> None:
    counts = Counter((q.form, q.split) for q in load_quatrains())
    assert counts == {
        ("wujue", "train"): 4113, ("wujue", "judge"): 2019,
        ("wujue", "validation"): 188, ("wujue", "test"): 466,
        ("qijue", "train"): 6862, ("qijue", "judge"): 3062,
        ("qijue", "validation"): 569, ("qijue", "test"): 945,
    }  # fmt: skip


def test_no_poet_no_line_and_no_near_copy_is_in_two_splits() -> None:
    poems = load_quatrains()
    for parts in (lambda q: [q.author], lambda q: lines(q.text)):
        splits: dict[str, set[str]] = {}
        for quatrain in poems:
            for part in parts(quatrain):
                splits.setdefault(part, set()).add(quatrain.split)
        assert all(len(found) == 1 for found in splits.values())
    assert len(set(near_copy_groups([q.text for q in poems]).tolist())) == len(poems)


def test_heldout_first_lines_are_of_many_poets_and_unseen() -> None:
    chosen = heldout_first_lines("qijue", "test", 100)
    assert chosen[:10] == heldout_first_lines("qijue", "test", 10) and len(set(chosen)) == 100
    poet = {q.first_line: q.author for q in load_quatrains("qijue", "test")}
    assert len({poet[line] for line in chosen}) == 100
    assert not {q.first_line for q in load_quatrains("qijue", "train")} & set(chosen)
    size = quatrain_tokenizer().encode("".join(chosen))
    assert len(size) == sum(map(len, chosen))  # no character falls into bytes


@pytest.mark.parametrize(("name", "syllables"), [("Wujue", 5), ("Qijue", 7)])
def test_a_poem_from_the_corpus_is_paid_in_full_and_fits(name: str, syllables: int) -> None:
    env = gymnasium.make(f"textgym/{name}-v0", action="text")
    _, info = env.reset(seed=0)
    prompt = info["prompt"]
    assert len(prompt) == syllables + 1 and prompt[-1] == "，"
    poem = next(q for q in load_quatrains(split="train") if q.first_line == prompt)
    rest = poem.text[len(prompt) :]
    assert env.step(rest)[1] == 1.0
    env.reset(seed=0)
    assert env.step("x")[1] < 0.5
    task = textgym.get_task(f"textgym/{name}-v0")
    assert task.max_new_tokens == len(task.tokenizer.encode(rest)) + 1
    assert len(task.heldout_prompts) == 64 and not set(task.prompts) & set(task.heldout_prompts)


def test_a_first_line_is_the_prompt() -> None:
    poem = Quatrain("白日依山盡，黃河入海流。", "t", "a", "tang", "wujue", "train")
    assert poem.first_line == "白日依山盡，"


def test_an_unknown_split_or_form_is_named() -> None:
    with pytest.raises(UnknownNameError, match="split 'tests': did you mean 'test'"):
        load_quatrains(split="tests")
    with pytest.raises(UnknownNameError, match="form 'wujie': did you mean 'wujue'"):
        load_quatrains("wujie")
