"""Normalize, clip, squash: the arithmetic, and what happens to None."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import textgym.reward_models
from textgym.errors import InputError
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.wrappers import Clip, Normalize, Squash
from textgym.rewards import RewardOutput, call_reward


def number(prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
    return [None if c == "-" else float(c) for c in completions]


def ask(reward: Any, *completions: str) -> RewardOutput:
    return call_reward(reward, [""] * len(completions), completions, {})


def test_clip_and_squash() -> None:
    assert list(ask(Clip(number, -1, 2), "-5", "0.5", "7").scores) == [-1, 0.5, 2]
    squashed = ask(Squash(number, 2.0), "1", "-1", "50")
    assert squashed.scores[0] == pytest.approx(2 * np.tanh(0.5))
    assert squashed.scores[1] == -squashed.scores[0]
    assert squashed.scores[2] == pytest.approx(2.0)
    assert list(squashed.components["raw"]) == [1, -1, 50]
    assert Squash(number).name == "number"


def test_none_passes_through_to_a_sum() -> None:
    output = ask(WeightedSum({"a": Squash(number), "b": (number, 0.0), "c": lambda p, c: [2.0] * len(c)}), "-", "3")  # fmt: skip # noqa: E501
    assert output.scores[0] == 2.0
    assert output.scores[1] == pytest.approx(2.0 + 2 * np.tanh(1.5))
    assert output.components["a/raw"][1] == 3.0


def test_normalise_with_given_and_fitted_statistics() -> None:
    assert list(ask(Normalize(number, 10, 2), "14", "10").scores) == [2.0, 0.0]
    fitted = Normalize(number).fit([""] * 3, ["1", "3", "-"])
    assert (fitted.mean, fitted.std) == (2.0, 1.0)
    assert list(ask(fitted, "4").scores) == [2.0]
    assert list(ask(fitted, "4").scores) == [2.0]


@given(st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=6), min_size=1, max_size=6))
def test_running_statistics_equal_those_of_all_scores_so_far(batches: list[list[int]]) -> None:
    running = Normalize(number, running=True)
    for batch in batches:
        running([""] * len(batch), [str(value) for value in batch])
    everything = np.array([value for batch in batches for value in batch], float)
    assert running.mean == pytest.approx(everything.mean(), abs=1e-9)
    if len(everything) > 1:
        assert running.std == pytest.approx(max(everything.std(), 1e-6), abs=1e-6)


def test_running_scores_are_those_after_the_batch_and_stop_at_freeze() -> None:
    running = Normalize(number, running=True)
    assert list(ask(running, "0", "2").scores) == [-1.0, 1.0]
    assert list(ask(running.freeze(), "5").scores) == [4.0]
    assert running.mean == 1.0


def test_state_round_trip() -> None:
    first, second = Normalize(number, running=True), Normalize(number, running=True)
    ask(first, "1", "2", "5")
    second.load_state_dict(first.state_dict())
    assert list(ask(second, "7", "8").scores) == list(ask(first, "7", "8").scores)
    with pytest.raises(InputError, match="the key 'running' is missing"):
        second.load_state_dict({"count": 1})


def test_a_state_inside_wrappers_and_sums_comes_back() -> None:
    def made():
        return WeightedSum({"a": (Clip(Normalize(number, running=True), -9, 9), 1.0), "b": number})

    first, second = made(), made()
    ask(first, "1", "2", "5")
    second.load_state_dict(first.state_dict())
    assert list(ask(second, "7", "8").scores) == list(ask(first, "7", "8").scores)
    with pytest.raises(InputError, match="weighted_sum: the key 'a' is missing"):
        second.load_state_dict({})
    with pytest.raises(InputError, match="a: the checkpoint has no state of it"):
        second.load_state_dict({"a": None, "b": None})


def test_wrappers_refuse() -> None:
    with pytest.raises(InputError, match="low < high"):
        Clip(number, 1, 1)
    with pytest.raises(InputError, match="positive"):
        Squash(number, 0)
    with pytest.raises(InputError, match="std must be positive"):
        Normalize(number, 0.0, 0.0)
    with pytest.raises(InputError, match="together"):
        Normalize(number, mean=1.0)
    with pytest.raises(InputError, match="nothing to normalize with"):
        ask(Normalize(number), "1")
    with pytest.raises(InputError, match="different scores"):
        Normalize(number).fit(["", ""], ["1", "1"])


def test_the_old_name_warns():
    with pytest.warns(DeprecationWarning, match="Normalise is .*Normalize now"):
        assert textgym.reward_models.Normalise is Normalize
