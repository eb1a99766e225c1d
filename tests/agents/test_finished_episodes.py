"""Whole episodes and groups: how they are collected from rows, packed and cut into minibatches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textgym_testing import PAD

from textgym.agents.rollouts.episode_collector import (
    CollectedEpisode,
    EpisodeCollector,
    collate_episodes,
    minibatches,
    pack_episodes,
)
from textgym.errors import InputError

WIDTH = 9


def step(collector, rows, actions, log_probs, ends=None, prompts=("p", "p")):
    """One step of every row; `ends` maps a row to its reward and its group."""
    ends = ends or {}
    obs = np.array([[*row, *[PAD] * (WIDTH - len(row))] for row in rows])
    rewards = np.array([ends.get(i, (0.0, None))[0] for i in range(len(rows))], dtype=np.float32)
    dones = np.array([i in ends for i in range(len(rows))])
    infos = [{} for _ in rows]
    for i, (_, group) in ends.items():
        infos[i] = {"prompt": prompts[i], "completion": f"text {i}"}
        infos[i] |= {} if group is None else {"group": group}
    collector.add(obs, np.array(actions), np.array(log_probs, np.float32), rewards, dones, infos)
    obs[:] = 7  # the caller may write into its own array


def contents(episode):
    arrays = (episode.tokens, episode.acted, episode.actions, episode.log_probs)
    return [array.tolist() for array in arrays]


# ---- collecting ------------------------------------------------------------


def test_episodes_by_hand():
    collector = EpisodeCollector(2, 2, PAD)
    step(collector, [[3, 4], [5]], [6, 3], [-1, -2])
    step(collector, [[3, 4, 6], [5, 3]], [2, 4], [-3, -4], {0: (7.0, 0)})
    step(collector, [[3, 4], [5, 3, 4]], [2, 2], [-5, -6], {0: (8.0, 0), 1: (9.0, 1)})
    assert collector.whole_groups == 1
    first, second = collector.take(1)
    assert contents(first) == [[3, 4, 6], [1, 2], [6, 2], [-1, -3]]
    assert contents(second) == [[3, 4], [1], [2], [-5]]
    assert (first.reward, second.reward, first.group, second.group) == (7.0, 8.0, 0, 0)
    assert (first.prompt, first.completion) == ("p", "text 0")
    assert first.tokens.dtype == np.int64 and first.log_probs.dtype == np.float32
    assert collector.whole_groups == 0 and collector.take(1) == []


def test_what_is_paid_on_the_way_counts():
    """A wrapper may pay at every step; a reset forgets what an open episode got."""
    collector = EpisodeCollector(1, 1, PAD)
    for rewards, done in ([[-0.5], False], [[4.0], True], [[-0.25], False]):
        obs, is_done = np.array([[3, 4, *[PAD] * (WIDTH - 2)]]), np.array([done])
        zeros = np.zeros(1, np.float32)
        collector.add(obs, np.array([5]), zeros, np.array(rewards, np.float32), is_done, [{}])
    collector.forget_open_rows()
    step(collector, [[3, 4]], [5], [-1], {0: (1.0, None)})
    assert [episode.reward for episode in collector.take(2)] == [3.5, 1.0]


def test_what_the_environment_says_in_between_is_seen_and_not_learned_from():
    """A dialogue: the environment's words 7 7 stand between two turns of the policy."""
    collector = EpisodeCollector(1, 1, PAD)
    step(collector, [[3]], [4], [-1])
    step(collector, [[3, 4]], [2], [-2])
    step(collector, [[3, 4, 2, 7, 7]], [5], [-3])
    step(collector, [[3, 4, 2, 7, 7, 5]], [2], [-4], {0: (1.0, None)})
    (episode,) = collector.take(1)
    assert contents(episode) == [[3, 4, 2, 7, 7, 5], [0, 1, 4, 5], [4, 2, 5, 2], [-1, -2, -3, -4]]


def test_only_whole_groups_are_handed_out_in_the_order_in_which_they_became_whole():
    collector = EpisodeCollector(3, 2, PAD)
    rows, actions, log_probs = [[3], [4], [5]], [2, 2, 2], [-1, -1, -1]
    more = ("p", "p", "p")
    step(collector, rows, actions, log_probs, {0: (0.0, 4), 1: (1.0, 5)}, more)
    assert collector.whole_groups == 0
    step(collector, rows, actions, log_probs, {1: (2.0, 5), 0: (3.0, 6)}, more)
    step(collector, rows, actions, log_probs, {0: (4.0, 6), 2: (5.0, 4)}, more)
    assert collector.whole_groups == 3
    assert [(e.group, e.reward) for e in collector.take(2)] == [(5, 1), (5, 2), (6, 3), (6, 4)]
    assert [(e.group, e.reward) for e in collector.take(2)] == [(4, 0), (4, 5)]


def test_an_open_episode_keeps_its_tokens_and_their_old_log_probabilities():
    collector = EpisodeCollector(2, 1, PAD)
    step(collector, [[3], [4]], [5, 2], [-0.25, -1.0], {1: (1.0, None)})
    collector.take(1)  # the policy is updated here
    step(collector, [[3, 5], [4]], [6, 5], [-0.5, -2.0])
    step(collector, [[3, 5, 6], [4, 5]], [2, 5], [-0.75, -3.0], {0: (2.0, None)})
    (episode,) = collector.take(1)
    assert contents(episode) == [[3, 5, 6], [0, 1, 2], [5, 6, 2], [-0.25, -0.5, -0.75]]


def test_after_a_reset_open_rows_are_forgotten_and_whole_groups_are_not():
    collector = EpisodeCollector(2, 2, PAD)
    step(collector, [[3], [4]], [2, 2], [-1, -2], {0: (1.0, 0), 1: (2.0, 0)})
    step(collector, [[5], [6]], [2, 5], [-3, -4], {0: (3.0, 1)})  # half of group 1; row 1 is open
    collector.forget_open_rows()
    assert collector.whole_groups == 1
    # Another environment counts from 0 again; nothing of it joins what came before.
    step(collector, [[3], [4]], [2, 2], [-5, -6], {0: (5.0, 1), 1: (6.0, 0)})
    step(collector, [[3], [4]], [2, 2], [-7, -8], {0: (7.0, 0), 1: (8.0, 1)})
    taken = collector.take(3)
    assert [episode.reward for episode in taken] == [1, 2, 6, 7, 5, 8]
    assert all(len(episode.actions) == 1 for episode in taken)


def test_without_groups_each_episode_is_one():
    collector = EpisodeCollector(2, 1, PAD)
    step(collector, [[3], [4]], [2, 2], [-1, -2], {0: (1.0, None), 1: (2.0, None)})
    step(collector, [[3], [4]], [2, 2], [-1, -2], {1: (3.0, None)})
    assert [episode.group for episode in collector.take(3)] == [0, 1, 2]


def test_groups_larger_than_asked_for_are_cut():
    collector = EpisodeCollector(1, 2, PAD)
    for reward in range(4):
        step(collector, [[3]], [2], [-1], {0: (float(reward), 0)})
    assert [episode.reward for episode in collector.take(2)] == [0, 1, 2, 3]


def test_an_environment_without_groups_or_with_small_ones_is_refused():
    collector = EpisodeCollector(2, 2, PAD)
    message = r"deals no groups: make it with num_generations=2, as textgym\.make_vec"
    with pytest.raises(InputError, match=message):
        step(collector, [[3], [4]], [2, 2], [-1, -1], {0: (1.0, None)})
    collector = EpisodeCollector(2, 3, PAD)
    message = "groups never reach 3 episodes: make it with num_generations=3"
    with pytest.raises(InputError, match=message):  # else the rollout would never end
        for group in range(20):
            step(collector, [[3], [4]], [2, 2], [-1, -1], {0: (1.0, group), 1: (1.0, group)})


# ---- packing ---------------------------------------------------------------


def episode(tokens, acted, actions, log_probs, reward=0.0):
    arrays = (np.array(tokens), np.array(acted), np.array(actions))
    return CollectedEpisode(*arrays, np.array(log_probs, dtype=np.float32), reward, 0)


SHORT = episode([3, 4], [1], [2], [-1.0])
LONG = episode([5, 6, 7, 3, 4], [0, 1, 4], [6, 2, 2], [-2.0, -3.0, -4.0])
MIDDLE = episode([4, 4, 4], [1, 2], [4, 3], [-5.0, -6.0])


def test_a_batch_lines_up_with_its_tokens_longest_first():
    reference = [np.array([0.5]), np.array([1.5, 2.5, 3.5]), np.array([4.5, 5.5])]
    batch = collate_episodes([SHORT, LONG, MIDDLE], np.array([10.0, 20.0, 30.0]), reference)
    packed = batch.observations
    assert packed.tokens.tolist() == [5, 6, 7, 3, 4, 4, 4, 4, 3, 4]
    assert packed.lengths.tolist() == [5, 3, 2]
    assert packed.acted_index.tolist() == [0, 1, 4, 6, 7, 9]
    assert batch.actions.tolist() == [6, 2, 2, 4, 3, 2]
    assert batch.old_log_prob.tolist() == [-2, -3, -4, -5, -6, -1]
    assert batch.advantages.tolist() == [20, 20, 20, 30, 30, 10]
    assert batch.reference_log_prob.tolist() == [1.5, 2.5, 3.5, 4.5, 5.5, 0.5]
    assert batch.episode_of.tolist() == [0, 0, 0, 1, 1, 2] and batch.lengths.tolist() == [3, 2, 1]
    dtypes = (batch.actions.dtype, batch.advantages.dtype, batch.old_log_prob.dtype)
    assert dtypes == (torch.int64, torch.float32, torch.float32)


def test_sums_over_episodes_come_in_the_order_that_was_given():
    batch = collate_episodes([SHORT, LONG, MIDDLE], np.zeros(3))
    per_token = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], requires_grad=True)
    sums = batch.episode_sums(per_token)
    assert sums.tolist() == [32.0, 7.0, 24.0]
    sums[1].backward()
    assert per_token.grad.tolist() == [1, 1, 1, 0, 0, 0]
    assert batch.reference_log_prob is None


def test_episodes_are_packed_in_the_order_given():
    packed = pack_episodes([SHORT, MIDDLE])
    assert packed.tokens.tolist() == [3, 4, 4, 4, 4]
    assert packed.lengths.tolist() == [2, 3] and packed.acted_index.tolist() == [1, 3, 4]


# ---- minibatches -----------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=50), batch_size=st.integers(1, 200))
def test_minibatches_hold_every_episode_once_and_nearly_equal_counts_of_tokens(sizes, batch_size):
    episodes = [episode([3] * n, range(n), [3] * n, [0.0] * n) for n in sizes]
    parts = list(minibatches(episodes, batch_size, np.random.default_rng(0)))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(sizes)))
    total = sum(sizes)
    count = min(max(1, round(total / batch_size)), len(sizes))
    assert 1 <= len(parts) <= count and all(len(part) for part in parts)
    share = total / count
    for part in parts:
        assert sum(sizes[i] for i in part) <= share + max(sizes)
    if batch_size >= total:
        assert len(parts) == 1


def test_minibatches_are_shuffled_by_the_generator_that_is_given():
    episodes = [episode([3], [0], [3], [0.0]) for _ in range(8)]
    orders = [
        np.concatenate(list(minibatches(episodes, 2, np.random.default_rng(seed)))).tolist()
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    rng = np.random.default_rng(0)
    epochs = [np.concatenate(list(minibatches(episodes, 2, rng))).tolist() for _ in range(2)]
    assert epochs[0] == orders[0] != epochs[1]
