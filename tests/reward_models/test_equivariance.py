"""Every built-in reward model: a text's score depends on no other text and on no order (R21)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.ngrams import NgramLogistic
from textgym.reward_models.length_penalties import ShortnessPenalty
from textgym.reward_models.rules.lexicon import Lexicon
from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
from textgym.reward_models.wrappers import Clip, Normalize, Squash
from textgym.rewards import call_reward

JUDGE = NgramLogistic.fit(["good film", "warm", "bad film", "cold"], [1, 1, 0, 0])
REWARDS: list[Any] = [
    Length(5),
    Length(5, unit="characters"),
    Regex("[aeiou]"),
    Keyword("film"),
    Repetition(1),
    Lexicon(),
    ShortnessPenalty(),
    JUDGE,
    Normalize(JUDGE, 0.1, 2.0),
    WeightedSum([(Squash(Clip(JUDGE)), 1.0), (ShortnessPenalty(), 0.5), (Length(4), 0.0)]),
]
WORDS = st.sampled_from(["good", "not", "VERY", "film", "film,", "bad!", "电影", "\n", "é", "but"])
TEXTS = st.lists(
    st.one_of(st.text(max_size=15), st.lists(WORDS, max_size=8).map(" ".join)), max_size=6
)


@pytest.mark.parametrize("reward", REWARDS, ids=lambda reward: type(reward).__name__)
@given(texts=TEXTS, data=st.data())
@settings(max_examples=25, deadline=None)
def test_batch_invariant_and_permutation_equivariant(
    reward: Any, texts: list[str], data: st.DataObject
) -> None:
    def score(batch: list[str]) -> np.ndarray[Any, Any]:
        return np.asarray(call_reward(reward, ["The"] * len(batch), batch, {}).scores)

    together = score(texts)
    assert together.shape == (len(texts),)
    order = data.draw(st.permutations(range(len(texts))))
    assert score([texts[k] for k in order]) == pytest.approx(together[list(order)], abs=1e-5)
    alone = [float(score([text])[0]) for text in texts]
    assert alone == pytest.approx(together.tolist(), abs=1e-5)
