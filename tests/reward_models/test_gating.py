"""A reward behind a condition, and rewards in strict order."""

import itertools

import numpy as np
import pytest

from textgym.errors import InputError, RewardError
from textgym.reward_models import Gate, Lexicographic, Normalize, Ranked, WeightedSum
from textgym.reward_models.composition import score_part
from textgym.rewards import RewardOutput, call_reward

PROMPTS, TEXTS = ["p"] * 4, ["a", "bb!", "ccc", "dddd!"]


def exclaims(prompts, completions, **columns):
    return [float(text.endswith("!")) for text in completions]


class Length:
    """Remembers what it was asked about; spans pay the first character."""

    name = "length"

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, completions, *, bonus=None, **columns):
        self.asked += completions
        numbers = [float(len(text)) for text in completions]
        scores = [n + m for n, m in zip(numbers, bonus or [0.0] * len(numbers), strict=True)]
        parts = {"half": [n / 2 for n in numbers]}
        extra = {"text": list(completions)}
        return RewardOutput(scores, parts, [[(0, 1, n)] for n in scores], extra)


def test_a_gate_by_hand():
    length = Length()
    bonus = {"bonus": [10.0, 20.0, 30.0, 40.0]}
    output = call_reward(Gate(length, exclaims, otherwise=-1.0), PROMPTS, TEXTS, bonus)
    assert length.asked == ["bb!", "dddd!"]
    assert output.scores.tolist() == [-1.0, 23.0, -1.0, 45.0]
    nan = float("nan")
    expected = {
        "exclaims": [0.0, 1.0, 0.0, 1.0],
        "length": [nan, 23.0, nan, 45.0],
        "length/half": [nan, 1.5, nan, 2.5],
        "exclaims/weighted": [-1.0, 0.0, -1.0, 0.0],
        "length/weighted": [0.0, 23.0, 0.0, 45.0],
    }
    assert output.components.keys() == expected.keys()
    for name, values in expected.items():
        assert output.components[name].tolist() == pytest.approx(values, nan_ok=True), name
    assert output.spans == [[], [(0, 1, 23.0)], [], [(0, 1, 45.0)]]
    assert output.extra == {"text": [None, "bb!", None, "dddd!"]}


def test_where_nothing_passes_the_reward_is_not_asked():
    length = Length()
    output = call_reward(Gate(length, exclaims), ["p"], ["a"], {})
    assert output.scores.tolist() == [0.0] and length.asked == []


def test_a_gate_may_say_nothing():
    gate = Gate(Length(), exclaims, otherwise=None)
    with pytest.raises(RewardError, match="'length' returned None"):
        call_reward(gate, PROMPTS, TEXTS, {})
    total = WeightedSum({"gate": (gate, 1.0), "base": (lambda prompts, completions: [0.5] * 4, 1)})
    assert call_reward(total, PROMPTS, TEXTS, {}).scores.tolist() == [0.5, 3.5, 0.5, 5.5]


def test_a_condition_that_says_nothing_does_not_pass():
    gate = Gate(Length(), lambda prompts, completions: [None, 1.0, 0.5, 0.4])
    assert score_part(gate, PROMPTS, TEXTS, {}).scores.tolist() == [0.0, 3.0, 3.0, 0.0]


def test_a_gate_keeps_the_states_of_both():
    gate = Gate(Normalize(Length(), running=True), exclaims)
    before = call_reward(gate, PROMPTS, TEXTS, {})
    other = Gate(Normalize(Length(), running=True), exclaims)
    other.load_state_dict(gate.state_dict())
    assert before.scores.tolist() == [0.0, -1.0, 0.0, 1.0]
    again = [call_reward(g, PROMPTS, ["!", "!!", "c", "!!!!!"], {}) for g in (gate, other)]
    assert again[0].scores.tolist() == again[1].scores.tolist()
    assert again[0].scores[0] < -1.0


def digits(place):
    def digit(prompts, completions, **columns):
        return [float(text[place]) / 10 for text in completions]

    digit.__name__ = f"digit_{place}"
    return digit


def test_lexicographic_order_is_that_of_tuples():
    texts = ["".join(word) for word in itertools.product("0369", repeat=3)]
    order = Lexicographic({str(n): Ranked(digits(n), 0, 1, levels=10) for n in range(3)})
    output = call_reward(order, ["p"] * len(texts), texts, {})
    assert sorted(range(len(texts)), key=output.scores.__getitem__) == list(range(len(texts)))
    assert output.scores.tolist() == pytest.approx([int(text) / 999 for text in texts])
    weighted = sum(output.components[f"{n}/weighted"] for n in range(3))
    assert weighted.tolist() == output.scores.tolist()
    assert output.components["1"].tolist() == [float(text[1]) / 10 for text in texts]


def test_levels_are_cut_at_both_ends():
    part = Ranked(exclaims, low=-1, high=1, levels=4)
    scores = np.array([-5.0, -1.0, -0.51, -0.5, 0.49, 0.5, 1.0, 9.0])
    assert part.level(scores).tolist() == [0, 0, 0, 1, 2, 3, 3, 3]


def test_a_text_of_which_a_part_says_nothing_has_no_score():
    silent = Ranked(lambda prompts, completions: [None, 1.0, 1.0, 1.0])
    order = Lexicographic({"silent": silent, "mark": Ranked(exclaims)})
    scored = score_part(order, PROMPTS, TEXTS, {})
    assert scored.scores.tolist() == pytest.approx([float("nan"), 1, 2 / 3, 1], nan_ok=True)
    assert scored.components["mark/weighted"].tolist() == pytest.approx([0, 1 / 3, 0, 1 / 3])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Gate(exclaims, exclaims, threshold=float("nan")), "threshold must be a finite"),
        (lambda: Gate(exclaims, exclaims, otherwise="0"), "otherwise must be a finite number"),
        (lambda: Gate(exclaims, None), "reward must be a function"),
        (lambda: Ranked(exclaims, 1, 1), "low < high, got 1 and 1"),
        (lambda: Ranked(exclaims, levels=1), "levels must be a whole number, at least 2"),
        (lambda: Lexicographic({"one": Ranked(exclaims)}), "at least two parts"),
        (lambda: Lexicographic({"one": exclaims, "two": exclaims}), "at least two parts"),
        (
            lambda: Lexicographic({n: Ranked(exclaims, levels=10**5) for n in "ab"}),
            "10,000,000,000 different totals",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(made, message):
    with pytest.raises(InputError, match=message):
        made()
