"""Every built-in reward model: a text's score depends on no other text and on no order (R21)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textgym_testing import tiny_lm

from textgym.agents.evaluation.readers import ModelReader
from textgym.reward_models import rules
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.ngram_reader import NgramReader
from textgym.reward_models.learned.ngrams import NgramLogistic
from textgym.reward_models.length_penalties import ShortnessPenalty
from textgym.reward_models.rules.lexicon import Lexicon
from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
from textgym.reward_models.wrappers import Clip, Normalize, Squash
from textgym.rewards import call_reward
from textgym.tokenizer import Tokenizer

JUDGE = NgramLogistic.fit(["good film", "warm", "bad film", "cold"], [1, 1, 0, 0])
CORPUS = ["a good film, a very good film", "not a bad film but a VERY good one", "电影 good 电影"]
# What a row has in each column, by its number.
COLUMNS: dict[str, list[Any]] = {
    "reference": ["good film", ["电影", "very bad"], "not good", "film film film"],
    "answer": ["1", "2 good", ["3"], "4"],
    "number": [1, "2", 3.5, "film 4"],
    "schema": [True, {"type": "string"}, '{"type": "number"}', {"minLength": 2}],
}
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
    rules.JsonSchema(),
    rules.JsonSchema({"type": "string"}, parsed=0.5),
    rules.ExactMatch(),
    rules.NumericAnswer(column="number"),
    rules.Bleu(),
    rules.Chrf(),
    rules.Rouge(),
    rules.WordErrorRate(),
    rules.CharacterErrorRate(),
    rules.ChineseSentiment(),
    rules.Readability(),
    rules.Rhyme("AA"),
    rules.Syllables("2-2"),
    rules.Quatrain(),
    rules.QuatrainForm(5),
    rules.QuatrainRhyme(first=True),
    rules.QuatrainTones(include_prompt=True),
    rules.Toxicity(),
    rules.Fluency(ModelReader(tiny_lm(Tokenizer.byte(), max_position_embeddings=512))),
    rules.Fluency(NgramReader(CORPUS)),
    rules.Novelty(CORPUS, n=2),
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
    def score(rows: list[int]) -> np.ndarray[Any, Any]:
        columns = {name: [values[row % 4] for row in rows] for name, values in COLUMNS.items()}
        batch = [texts[row] for row in rows]
        return np.asarray(call_reward(reward, ["The"] * len(batch), batch, columns).scores)

    together = score([*range(len(texts))])
    assert together.shape == (len(texts),)
    order = data.draw(st.permutations(range(len(texts))))
    assert score(list(order)) == pytest.approx(together[list(order)], abs=1e-5)
    alone = [float(score([row])[0]) for row in range(len(texts))]
    assert alone == pytest.approx(together.tolist(), abs=1e-5)
