"""The observation space that knows its padding."""

import copy
import pickle

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from textgym.envs.token_row import TokenRow


def test_it_is_a_box_of_token_ids():
    space = TokenRow(7, 4, pad_token_id=2)
    assert space == spaces.Box(0, 6, (4,), np.int64) and space.pad_token_id == 2
    assert space.contains(np.array([0, 6, 3, 2])) and not space.contains(np.array([0, 7, 3, 2]))
    assert batch_space(space, 3).shape == (3, 4)


def test_copies_keep_the_padding():
    space = TokenRow(7, 4, pad_token_id=2)
    space.seed(5)
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):  # noqa: S301
        assert type(other) is TokenRow and other == space and other.pad_token_id == 2
        assert np.array_equal(other.sample(), copy.deepcopy(space).sample())
