"""Agreement with people: hand-computed accuracies, an interval that covers, judges of pairs."""

from types import SimpleNamespace

import numpy as np
import pytest

from textgym.errors import InputError
from textgym.reward_models.human_agreement import agreement_with_people
from textgym.rewards import check_reward


def preference(prompt, chosen, rejected, is_tie=False):
    return SimpleNamespace(prompt=prompt, chosen=chosen, rejected=rejected, is_tie=is_tie)


ROWS = [
    preference("a", "44", "1"),
    preference("b", "333", "22"),
    preference("c", "1", "22"),
    preference("d", "22", "33"),
    preference("e", "1", "22", is_tie=True),
]


def by_length(prompts, completions):
    return [float(len(text)) for text in completions]


def test_preferences_are_counted_by_hand():
    """Right, right, wrong, equal; the tie counts for nothing."""
    result = agreement_with_people(by_length, ROWS, baseline=lambda p, c: [-len(t) for t in c])
    assert result.accuracy == 2.5 / 4 and result.baseline == 1.5 / 4
    assert (result.pairs, result.equal, result.abstained) == (4, 0.25, 0)
    assert np.isnan(result.rater_vs_rater)
    assert ("pair accuracy of by_length", "0.625 (0.116 to 0.955)") == result.rows()[0]


class PairJudge:
    """Prefers the longer text; answers None where they are equally long."""

    name, is_pairwise = "longer", True

    def __init__(self):
        self.asked = []

    async def __call__(self, prompts, completions):
        raise AssertionError("a judge of pairs is asked about pairs")

    async def prefer(self, prompts, first, second):
        self.asked += zip(prompts, first, second, strict=True)
        signs = [np.sign(len(a) - len(b)) for a, b in zip(first, second, strict=True)]
        return [None if sign == 0 else (1 + sign) / 2 for sign in signs]


@pytest.mark.parametrize("wrap", [lambda judge: judge, check_reward])
def test_a_judge_of_pairs_is_asked_about_the_pairs_themselves(wrap):
    judge = PairJudge()
    result = agreement_with_people(wrap(judge), ROWS)
    assert sorted(judge.asked) == [
        ("a", "44", "1"),
        ("b", "333", "22"),
        ("c", "1", "22"),
        ("d", "22", "33"),
    ]
    assert result.accuracy == pytest.approx(2 / 3) and result.abstained == 1 and result.pairs == 3


def test_rated_texts_have_a_ceiling_and_few_texts_are_whole_blocks():
    """Two blocks in which both raters like the longer text."""
    rows = [
        SimpleNamespace(text="x" * n, ratings=(n, n + 1.0), block=block)
        for block in range(6)
        for n in (1, 2, 3)
    ]
    result = agreement_with_people(by_length, rows)
    assert (result.accuracy, result.rater_vs_rater, result.texts, result.pairs) == (1, 1, 18, 18)
    few = agreement_with_people(by_length, rows, texts=6)
    assert (few.accuracy, few.texts, few.pairs) == (1, 6, 6)
    with pytest.raises(InputError, match="no usable pairs for 'nothing'"):
        nothing = type("Nothing", (), {"name": "nothing", "__call__": lambda s, p, c: [None] * 6})
        agreement_with_people(nothing(), rows, texts=6)
