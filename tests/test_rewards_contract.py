"""The seam between a reward model and everything else: what passes, and what is refused how."""

import asyncio
import copy
import decimal
import functools
import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import InputError, RewardError, RewardFailure
from textgym.reward_answers import shorten
from textgym.rewards import (
    RewardOutput,
    call_reward,
    check_arguments,
    check_reward,
    reward_name,
)

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
    "huge": ([1.0, 1e300], r"score 1e\+300, beyond ±1e\+15.*scale scores to about 1.*'Two:'"),
    "huge in float32": (np.array([1.0, -1e38], np.float32), r"score -1e\+38, beyond"),
    "huge span": (
        RewardOutput([1.0, 2.0], spans=[[(0, 1, 1e300), (0, 1, -1e300)], []]),
        r"a finite amount up to ±1e\+15",
    ),
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

    with pytest.raises(RewardError, match=r"'needs' asks for 'label', which nobody supplies"):
        call_reward(needs, PROMPTS, COMPLETIONS, {})
    with pytest.raises(
        InputError, match=r"'needs' asks for 'label'.*column of the prompts \('tag'"
    ):
        check_arguments(needs, ["tag"])
    check_arguments(needs, ["label"])


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
    if all(abs(value) <= 1e15 for value in values):
        output = call_reward(lambda p, c: values, texts, texts, {})
        assert output.scores.tolist() == values
    else:
        with pytest.raises(RewardError, match=r"not finite|beyond ±1e"):
            call_reward(lambda p, c: values, texts, texts, {})


@given(st.text())
def test_a_shortened_text_is_one_short_line(text):
    short = shorten(text)
    assert len(short) <= 60 and "\n" not in short


def test_arguments_are_matched_by_name_whatever_their_order():
    ids = [[5, 2], [5, 5, 2]]
    seen = []

    def reversed_order(completions, prompts):
        return seen.append((prompts, completions)) or [0.0, 0.0]

    def tokens(prompts, completion_ids, **more):  # as TRL's documentation counts tokens
        return seen.append((prompts, more["completions"])) or [
            float(len(i)) for i in completion_ids
        ]

    class Counter:
        def __call__(self, completion_ids):
            return [float(len(i)) for i in completion_ids]

        def count(self, *, completion_ids=None):
            return self(completion_ids)

    def everything(**given):
        assert sorted(given) == ["completions", "prompts"]
        return seen.append((given["prompts"], given["completions"])) or [0, 0]

    def arguments_only(*given):
        return seen.append(given) or [0, 0]

    def first_and_list(p, *given):
        return seen.append((p, *given)) or [0, 0]

    for reward in (reversed_order, everything, arguments_only, first_and_list):
        assert call_reward(reward, PROMPTS, COMPLETIONS, {}).scores.tolist() == [0, 0]
    for reward in (tokens, Counter(), Counter().count, functools.partial(tokens)):
        output = call_reward(reward, PROMPTS, COMPLETIONS, {}, completion_ids=ids)
        assert output.scores.tolist() == [2, 3]
    assert len(seen) == 6 and all(both == (PROMPTS, COMPLETIONS) for both in seen)


@pytest.mark.parametrize(
    ("reward", "missing"),
    [
        (lambda prompts, labels: labels, "'labels'"),  # once the texts, passed as the labels
        (lambda completion_ids: completion_ids, "'completion_ids'"),  # nobody played
        (lambda texts: texts, "'texts'"),
        (lambda p, c, label: label, "'p', 'c', 'label'"),
        (lambda label, completions, trainer_state: label, "'label', 'trainer_state'"),
        (len, "'obj'"),
    ],
)
def test_a_name_that_nobody_supplies_never_gets_something_else(reward, missing):
    with pytest.raises(RewardError, match=f"asks for {missing}, which nobody supplies"):
        call_reward(reward, PROMPTS, COMPLETIONS, {})


def test_a_column_keeps_its_name_against_the_token_ids():
    def reward(completions, completion_ids):
        return completion_ids

    columns = {"completion_ids": [7.0, 8.0]}
    output = call_reward(reward, PROMPTS, COMPLETIONS, columns, completion_ids=[[1], [2]])
    assert output.scores.tolist() == [7, 8]


def test_a_reward_gets_copies_of_everything():
    columns = {"words": [["a"], ["b"]], "array": [np.zeros(2), np.zeros(2)]}
    prompts, completions, ids = list(PROMPTS), list(COMPLETIONS), [[1], [2]]

    def greedy(prompts, completions, completion_ids, words, array):
        for row in (*words, *completion_ids, prompts, completions):
            row.pop()
        array[0] += 1
        return [0.0, 0.0]

    call_reward(greedy, prompts, completions, columns, completion_ids=ids)
    assert (prompts, completions, ids) == (PROMPTS, COMPLETIONS, [[1], [2]])
    assert columns["words"] == [["a"], ["b"]] and columns["array"][0].tolist() == [0, 0]


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize(
    "error", [SystemExit(0), GeneratorExit(), type("Panic", (BaseException,), {})]
)
def test_whatever_it_raises_is_one_line(error, timeout):
    def ends_the_process(prompts, completions):
        raise error

    with pytest.raises(RewardFailure, match=r"raised (SystemExit: 0|GeneratorExit: |Panic: )"):
        call_reward(ends_the_process, PROMPTS, COMPLETIONS, {}, timeout=timeout)


def test_an_interrupt_of_the_user_passes_but_not_one_of_the_models_thread():
    def interrupted(prompts, completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_reward(interrupted, PROMPTS, COMPLETIONS, {})
    with pytest.raises(RewardFailure, match="raised KeyboardInterrupt"):
        call_reward(interrupted, PROMPTS, COMPLETIONS, {}, timeout=30)


def test_the_working_directory_is_set_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def wanders(prompts, completions):
        os.chdir("elsewhere")
        return [0.0, 0.0]

    with pytest.warns(UserWarning, match="'wanders' changed the working directory to .*elsewhere"):
        call_reward(wanders, PROMPTS, COMPLETIONS, {})
    assert os.getcwd() == str(tmp_path)


def test_retries_ask_again_with_fresh_columns_after_a_failure_and_not_after_a_wrong_answer():
    asked = []

    def flaky(prompts, completions, words):
        asked.append([len(row) for row in words])
        words[0].clear()
        if len(asked) < 3:
            raise ConnectionError("busy")
        return [1.0, 2.0]

    columns = {"words": [["a"], ["b"]]}
    with pytest.warns(UserWarning, match=r"ConnectionError: busy.*asked again \((1|2) of 2\)"):
        output = call_reward(flaky, PROMPTS, COMPLETIONS, columns, retries=2)
    assert output.scores.tolist() == [1, 2] and asked == [[1, 1]] * 3

    def wrong(prompts, completions):
        asked.append(None)
        return [1.0]

    with pytest.raises(RewardError, match="returned 1 scores for 2 texts"):
        call_reward(wrong, PROMPTS, COMPLETIONS, {}, retries=2)
    assert len(asked) == 4


async def later(prompts, completions, *, label):
    await asyncio.sleep(0)
    LOOPS.append(asyncio.get_running_loop())
    return [float(len(text) + part) for text, part in zip(completions, label, strict=True)]


class Later:
    """An object whose call is a coroutine."""

    name = "later"

    async def __call__(self, prompts, completions, label):
        return await later(prompts, completions, label=label)


LOOPS = []


@pytest.mark.parametrize("reward", [later, Later(), functools.partial(later)])
def test_an_async_reward_is_one_that_waits_in_a_loop_that_stays(reward):
    LOOPS.clear()
    waits = check_reward(reward)
    assert check_reward(waits) is waits
    for _ in range(2):
        output = call_reward(waits, PROMPTS, COMPLETIONS, {"label": [0.5, 1.5]})
        expected = [len(text) + part for text, part in zip(COMPLETIONS, [0.5, 1.5], strict=True)]
        assert output.scores.tolist() == expected
    assert LOOPS[0] is LOOPS[1]
    copied = copy.deepcopy(waits)
    call_reward(copied, PROMPTS, COMPLETIONS, {"label": [0.5, 1.5]})
    assert LOOPS[2] is not LOOPS[0]
    with pytest.raises(RewardError, match="asks for 'label', which nobody supplies"):
        call_reward(waits, PROMPTS, COMPLETIONS, {})


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_an_async_reward_raises_is_its_failure_and_the_loop_goes_on(error):
    async def fails(prompts, completions):
        if completions == ["bad"]:
            raise error
        return [1.0 for _ in completions]

    waits = check_reward(fails)
    with pytest.raises(RewardFailure, match=f"'fails' raised .*{error}"):
        call_reward(waits, ["p"], ["bad"], {})
    assert call_reward(waits, ["p"], ["good"], {}).scores.tolist() == [1.0]


def test_an_async_reward_that_hangs_is_given_up_in_time():
    async def hangs(prompts, completions):
        await asyncio.sleep(60)

    with pytest.raises(RewardFailure, match=r"gave no answer within 0\.05 s"):
        call_reward(check_reward(hangs), ["p"], ["text"], {}, timeout=0.05)


@pytest.mark.parametrize("has_gradients", [True, False])
def test_gradients_that_a_reward_model_switches_are_set_back(has_gradients):
    def switches(prompts, completions):
        torch.set_grad_enabled(not has_gradients)
        return [0.0] * len(prompts)

    with torch.set_grad_enabled(has_gradients):
        with pytest.warns(UserWarning, match="'switches' left torch's gradients switched"):
            call_reward(switches, PROMPTS, COMPLETIONS, {})
        assert torch.is_grad_enabled() == has_gradients
