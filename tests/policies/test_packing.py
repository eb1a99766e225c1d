"""Lengths of rows, and the two ways in which segments are divided."""

import numpy as np
import torch

from textgym.policies.language_model.packing import (
    array_row_lengths,
    budget_groups,
    equal_parts,
    row_lengths,
)


def test_a_row_ends_at_its_last_token_even_if_padding_stands_inside():
    rows = np.array([[3, 0, 4, 0], [5, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert array_row_lengths(rows, 0).tolist() == [3, 1, 0, 4]
    assert row_lengths(torch.as_tensor(rows), 0).tolist() == [3, 1, 0, 4]


def test_parts_are_cut_where_the_counts_come_closest_to_equal_shares():
    def parts(sizes, batch_size):
        return [part.tolist() for part in equal_parts(np.array(sizes), batch_size)]

    assert parts([2, 2, 2, 2], 4) == [[0, 1], [2, 3]]
    assert parts([3, 1, 1, 3], 4) == [[0, 1], [2, 3]]
    # Three shares of 4: the middle of the long one lies in the second, and no part stays empty.
    assert parts([1, 1, 10], 4) == [[0], [1], [2]]
    assert parts([10, 1, 1], 4) == [[0], [1], [2]]
    assert parts([1, 10, 1, 1, 1], 4) == [[0], [1], [2], [3, 4]]  # four shares of 3.5
    assert parts([5], 2) == [[0]]
    assert parts([2, 3], 100) == [[0, 1]]


def test_groups_hold_a_budget_of_tokens_longest_first():
    assert budget_groups([3, 9, 1, 4, 3], 8) == [[1], [3, 0], [4, 2]]
    assert budget_groups([2, 2], 4) == [[0, 1]]
    assert budget_groups([], 4) == []
