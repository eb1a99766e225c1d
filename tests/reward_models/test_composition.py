"""Weighted sums, shadows, None, and the floor under the length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from textgym.errors import InputError, RewardError
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.length_penalties import ShortnessPenalty
from textgym.reward_models.wrappers import Clip
from textgym.rewards import RewardOutput, call_reward

P, C = ["p", "q"], ["one", "three words here"]


def words(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    return [float(len(c.split())) for c in completions]


def only_long(prompts: Sequence[str], completions: Sequence[str]) -> list[float | None]:
    return [10.0 if len(c) > 5 else None for c in completions]


def never(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[None]:
    return [None] * len(completions)


def labelled(prompts: Sequence[str], completions: Sequence[str], label: Sequence[int]) -> list[int]:
    return list(label)


def ask(reward: Any, **columns: Any) -> RewardOutput:
    return call_reward(reward, P, C, columns)


def test_sum_logs_every_part_raw_and_weighted() -> None:
    output = ask(WeightedSum({"w": (words, 2.0), "long": (only_long, 0.5)}))
    assert list(output.scores) == [2.0, 11.0]
    assert list(output.components["w"]) == [1.0, 3.0]
    assert list(output.components["w/weighted"]) == [2.0, 6.0]
    assert np.isnan(output.components["long"][0])
    assert output.components["long"][1] == 10.0
    assert list(output.components["long/weighted"]) == [0.0, 5.0]


def test_weighted_components_add_up_to_the_total() -> None:
    output = ask(WeightedSum([(words, 0.3), (only_long, -1.5), (labelled, 1.0)]), label=[4, 7])
    weighted = [v for k, v in output.components.items() if k.endswith("/weighted")]
    assert np.sum(weighted, axis=0) == pytest.approx(np.asarray(output.scores))


def test_a_shadow_is_scored_and_logged_but_never_counts() -> None:
    output = ask(WeightedSum({"w": words, "shadow": (only_long, 0.0)}))
    assert list(output.scores) == [1.0, 3.0]
    assert output.components["shadow"][1] == 10.0
    assert list(output.components["shadow/weighted"]) == [0.0, 0.0]


def test_where_no_part_applies_the_total_is_refused_at_the_seam() -> None:
    total = WeightedSum({"n": (never, 1.0), "w": (words, 0.0)})
    assert list(total(P, C).scores) == [None, None]
    with pytest.raises(RewardError, match="None as the total"):
        ask(total)


def test_sums_nest_and_keep_their_parts_names() -> None:
    inner = WeightedSum({"w": (words, 2.0)}, name="inner")
    output = ask(WeightedSum([(inner, 3.0)]))
    assert list(output.scores) == [6.0, 18.0]
    assert list(output.components["inner"]) == [2.0, 6.0]
    assert list(output.components["inner/w"]) == [1.0, 3.0]


def test_spans_are_weighted() -> None:
    def dense(prompts: Sequence[str], completions: Sequence[str]) -> RewardOutput:
        return RewardOutput([1.0] * len(completions), spans=[[(0, 2, 1.0)] for _ in completions])

    output = ask(WeightedSum([(dense, 2.0), (words, 1.0)]))
    assert output.spans == [[(0, 2, 2.0)], [(0, 2, 2.0)]]
    assert ask(WeightedSum([words])).spans is None


@pytest.mark.parametrize(
    "answer", [[1.0], [float("nan"), 1.0], ["a", 1.0], 1.0, [1j, 1.0], {"a": 1}, [True, 1.0]]
)
def test_a_bad_part_is_named(answer: Any) -> None:
    def broken(prompts: Sequence[str], completions: Sequence[str]) -> Any:
        return answer

    for weight in (1.0, 0.0):
        with pytest.raises(RewardError, match="'broken'"):
            ask(WeightedSum([(words, 1.0), (broken, weight)]))


def test_a_sum_refuses_doubles_nothing_and_odd_weights() -> None:
    with pytest.raises(InputError, match="different names"):
        WeightedSum([words, words])
    with pytest.raises(InputError, match="different names"):
        WeightedSum([])
    with pytest.raises(InputError, match="'words' must be a finite number, got nan"):
        WeightedSum([(words, float("nan"))])


def test_shortness_costs_one_per_divisor_of_missing_words() -> None:
    penalty = ShortnessPenalty(words=14, divisor=7)
    texts = ["", "one, two!", "w " * 13, "w " * 14, "w " * 40]
    assert penalty([""] * 5, texts) == [-2.0, -12 / 7, -1 / 7, 0.0, 0.0]
    with pytest.raises(InputError, match="above 0"):
        ShortnessPenalty(divisor=0)


def test_no_component_overwrites_another_of_its_name() -> None:
    def style(prompts: Sequence[str], completions: Sequence[str]) -> RewardOutput:
        own = {"weighted": [5.0] * len(completions), "raw": [6.0] * len(completions)}
        return RewardOutput([2.0] * len(completions), own)

    parts = {"a": (style, 3.0), "a/weighted": (words, 1.0), "a/raw": (words, 0.0)}
    components = ask(WeightedSum(parts)).components
    first = {name: values[0] for name, values in components.items()}
    assert first == {
        "a": 2.0,
        "a/weighted": 1.0,  # the part of that name
        "a/raw": 1.0,
        "a/weighted_2": 5.0,  # the component of `style`
        "a/raw_2": 6.0,
        "a/weighted_3": 6.0,  # 2 · 3
        "a/weighted/weighted": 1.0,
        "a/raw/weighted": 0.0,
    }
    nested = ask(Clip(Clip(style, -1.0, 1.0), -0.5, 0.5)).components
    assert {name: values[0] for name, values in nested.items()} == {
        "weighted": 5.0,
        "raw": 6.0,  # of `style` itself
        "raw_2": 2.0,
        "raw_3": 1.0,
    }


def test_parts_get_token_ids_by_name_and_copies_of_the_columns() -> None:
    def count(prompts: Sequence[str], completion_ids: Sequence[list[int]]) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    def use_up(completions: Sequence[str], wanted: list[list[str]]) -> list[float]:
        return [float(len([row.pop() for _ in range(len(row))])) for row in wanted]

    total = WeightedSum({"ids": Clip(count, 0, 9), "once": use_up, "again": use_up})
    columns = {"wanted": [["x"], ["y", "z"]]}
    output = call_reward(total, P, C, columns, completion_ids=[[1], [1, 2, 3]])
    assert list(output.scores) == [1 + 1 + 1, 3 + 2 + 2]
    with pytest.raises(RewardError, match="'count' asks for 'completion_ids'"):
        call_reward(total, P, C, columns)
