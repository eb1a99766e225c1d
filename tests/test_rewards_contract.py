"""The seam between a reward model and everything else: what passes, and what is refused how."""

import decimal
import functools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import InputError, RewardError
from textgym.rewards import RewardOutput, call_reward, check_reward, reward_name, shorten

PROMPTS, COMPLETIONS = ["One: ", "Two: "], ["a", "bb"]


def ask(answer, **keywords):
    def bad_model(prompts, completions, **columns):
        return answer

    return call_reward(bad_model, PROMPTS, COMPLETIONS, {}, **keywords)


@pytest.mark.parametrize(
    "answer",
    [
        [1.0, 2.0],
        (1, 2),
        np.array([1.0, 2.0], dtype=np.float32),
        np.array([1, 2]),
        [np.float32(1.0), np.float64(2.0)],
        torch.tensor([1.0, 2.0], requires_grad=True),
        [torch.tensor(1.0), torch.tensor(2.0)],
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        RewardOutput([1.0, 2.0]),
    ],
)
def test_real_numbers_of_every_kind_become_float64(answer):
    scores = ask(answer).scores
    assert isinstance(scores, np.ndarray) and scores.dtype == np.float64
    assert scores.tolist() == [1.0, 2.0]


BAD_RETURNS = {
    "total none": ([1.0, None], r"None as the total of a text.*'Two:'"),
    "nan": ([float("nan"), 1.0], r"not finite \(nan\).*'One:'"),
    "infinity": ([1.0, float("inf")], r"not finite \(inf\).*'Two:'"),
    "minus infinity": (np.array([1.0, -np.inf]), r"not finite \(-inf\).*'Two:'"),
    "too large an integer": ([10**400, 1], r"not finite"),
    "string in the list": ([1.0, "2.0"], r"score of type str, expected a float.*'Two:'"),
    "a string": ("12", "returned a str, expected a list"),
    "bytes": (b"12", "returned a bytes, expected a list"),
    "nothing": (None, "returned a NoneType, expected a list"),
    "one number": (1.0, "returned a float, expected a list"),
    "too few": ([1.0], "returned 1 scores for 2 texts"),
    "too many": ([1.0] * 3, "returned 3 scores for 2 texts"),
    "none at all": ([], "returned 0 scores for 2 texts"),
    "complex": ([1.0, 2.0 + 0j], "score of type complex"),
    "complex array": (np.array([1.0, 2.0j]), "score of type complex"),
    "bool": ([True, False], r"score True: write float\(\.\.\.\)"),
    "numpy bool": (np.array([True, False]), r"write float\(\.\.\.\)"),
    "generator": ((float(i) for i in range(2)), "returned a generator"),
    "dict": ({"a": 1.0, "b": 2.0}, "returned a dict"),
    "set": ({1.0, 2.0}, "returned a set"),
    "tensor [b, 1]": (torch.ones(2, 1), r"scores of shape \(2, 1\)"),
    "tensor []": (torch.tensor(1.0), r"scores of shape \(\)"),
    "matrix": (np.ones((2, 2)), r"scores of shape \(2, 2\)"),
    "lists in a list": ([[1.0], [2.0]], "score of type list"),
    "1-d tensors in a list": ([torch.ones(1), torch.ones(1)], "score of type Tensor"),
    "decimal": ([decimal.Decimal(1), 1.0], "score of type Decimal"),
    "component too short": (
        RewardOutput([1.0, 2.0], {"style": [1.0]}),
        "returned 1 style scores for 2 texts",
    ),
    "component infinite": (
        RewardOutput([1.0, 2.0], {"style": [1.0, np.inf]}),
        "a style score that is not finite",
    ),
    "components no mapping": (RewardOutput([1.0, 2.0], [1.0, 2.0]), "components of type list"),
    "span outside": (
        RewardOutput([1.0, 2.0], spans=[[(0, 2, 1.0)], []]),
        r"span \(0, 2, 1.0\) for a completion of 1 characters",
    ),
    "span no triple": (RewardOutput([1.0, 2.0], spans=[[(0, 1)], []]), r"the span \(0, 1\)"),
    "spans too few": (RewardOutput([1.0, 2.0], spans=[[]]), "spans as a list of 2 lists"),
}


@pytest.mark.parametrize("case", BAD_RETURNS)
def test_a_bad_return_is_refused_by_name(case):
    answer, message = BAD_RETURNS[case]
    with pytest.raises(RewardError, match=message) as caught:
        ask(answer, step=7)
    assert str(caught.value).startswith("reward model 'bad_model' ")
    assert str(caught.value).endswith(" at step 7") and "\n" not in str(caught.value)


def test_an_exception_becomes_one_line_and_keeps_its_cause():
    def broken(prompts, completions):
        raise KeyError("first\nsecond")

    with pytest.raises(RewardError, match=r"'broken' raised KeyError: .*'One:'\)$") as caught:
        call_reward(broken, PROMPTS, COMPLETIONS, {})
    assert isinstance(caught.value.__cause__, KeyError) and "\n" not in str(caught.value)


def test_a_reward_that_hangs_is_given_up():
    release = threading.Event()

    def slow(prompts, completions):
        release.wait(30)
        return [0.0, 0.0]

    with pytest.raises(RewardError, match=r"'slow' gave no answer within 0.05 s"):
        call_reward(slow, PROMPTS, COMPLETIONS, {}, timeout=0.05)
    release.set()


def test_with_a_time_limit_answers_and_errors_are_the_same():
    def lengths(prompts, completions):
        return [float(len(c)) for c in completions]

    def broken(prompts, completions):
        raise ValueError("no")

    assert call_reward(lengths, PROMPTS, COMPLETIONS, {}, timeout=30).scores.tolist() == [1, 2]
    with pytest.raises(RewardError, match="raised ValueError: no"):
        call_reward(broken, PROMPTS, COMPLETIONS, {}, timeout=30)


def test_columns_reach_those_who_name_them():
    columns = {"label": [3, 4], "source": ["x", "y"]}

    def none(prompts, completions):
        return [0.0, 0.0]

    def one(prompts, completions, label):
        return label

    def every(completions, **others):  # as TRL's examples write it
        assert sorted(others) == ["label", "prompts", "source"]
        return [0, 0]

    def by_position(p, c, label):
        assert (p, c) == (PROMPTS, COMPLETIONS)
        return label

    class Model:
        name = "model"

        def __call__(self, prompts, completions, *, label, **columns):
            assert columns == {"source": ["x", "y"]}
            return label

    expected = [(none, [0, 0]), (one, [3, 4]), (every, [0, 0]), (by_position, [3, 4])]

    def positional_only(prompts, completions, /, label):
        return label

    @functools.wraps(one)
    def wrapped(*arguments, **keywords):
        return one(*arguments, **keywords)

    expected += [(positional_only, [3, 4]), (wrapped, [3, 4])]
    expected += [(Model(), [3, 4]), (functools.partial(one), [3, 4])]
    for reward, scores in expected:
        assert call_reward(reward, PROMPTS, COMPLETIONS, columns).scores.tolist() == scores


def test_a_column_that_the_reward_needs_and_the_prompts_lack_is_an_error():
    def needs(prompts, completions, label):
        return label

    with pytest.raises(RewardError, match=r"raised TypeError: .*missing .* 'label'"):
        call_reward(needs, PROMPTS, COMPLETIONS, {})


def test_components_are_checked_arrays_and_may_not_apply():
    output = ask(RewardOutput([1.0, 2.0], {"style": [0.5, None]}, [[(0, 1, 1)], []]))
    assert output.components["style"].dtype == np.float64
    assert output.components["style"][0] == 0.5 and np.isnan(output.components["style"][1])
    assert output.spans == [[(0, 1, 1.0)], []]


def test_names():
    class Named:
        name = "named"

        def __call__(self, prompts, completions):
            return []

    assert reward_name(Named()) == "named"
    assert reward_name(test_names) == "test_names"
    assert reward_name(functools.partial(test_names)) == "partial"


@pytest.mark.parametrize("wrong", ["length", None, 3, RewardOutput])
def test_what_cannot_be_called_is_no_reward(wrong):
    with pytest.raises(InputError, match="reward must be a function or an object with __call__"):
        check_reward(wrong)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_what_passes_is_finite_and_equal(values):
    texts = ["t"] * len(values)
    if all(np.isfinite(values)):
        output = call_reward(lambda p, c: values, texts, texts, {})
        assert output.scores.tolist() == values
    else:
        with pytest.raises(RewardError, match="not finite"):
            call_reward(lambda p, c: values, texts, texts, {})


@given(st.text())
def test_a_shortened_text_is_one_short_line(text):
    short = shorten(text)
    assert len(short) <= 60 and "\n" not in short
