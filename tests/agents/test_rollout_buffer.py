"""Episode segments: how they are cut, packed and counted."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from textgym_testing import PAD, TeeBuffer, letter_env, rollout, set_up, tiny_lm

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer, Segment
from textgym.envs.token_row import TokenRow
from textgym.errors import InputError
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.exchange import Exchange


def new_buffer(steps, n_envs, width=6, cls=EpisodeRolloutBuffer, **keywords):
    space = TokenRow(9, width, PAD)
    Exchange.of(space).reads_segments = True  # as TextActorCriticPolicy does
    return cls(steps, space, spaces.Discrete(9), "cpu", n_envs=n_envs, **keywords)


def play(buffer, rows, starts, rewards=None):
    """Fill a buffer from `rows[step][env]` (token lists) and `starts[step][env]`."""
    buffer.reset()
    width = buffer.observation_space.shape[0]
    for step, (lists, begins) in enumerate(zip(rows, starts, strict=True)):
        obs = np.array([[*row, *[PAD] * (width - len(row))] for row in lists])
        numbers = torch.arange(len(lists)) + 10.0 * step
        reward = np.ones(len(lists)) if rewards is None else np.array(rewards[step], dtype=float)
        actions = (numbers.numpy().astype(int) % 9)[:, None]
        buffer.add(obs, actions, reward, np.array(begins), numbers[:, None], -numbers)
        obs[:] = 7  # the caller may write into its own array


# Row 0: an episode that began before, ends after two steps; a new one goes on past the end.
# Row 1: begins with the rollout and fills it.
ROWS = [
    [[3, 4, 5], [6]],
    [[3, 4, 5, 6], [6, 3]],
    [[8], [6, 3, 4]],
    [[8, 7], [6, 3, 4, 5]],
]
STARTS = [[False, True], [False, False], [True, False], [False, False]]


def test_segments_by_hand():
    buffer = new_buffer(4, 2)
    play(buffer, ROWS, STARTS)
    found = [(s.env, s.start, s.end, s.tokens.tolist()) for s in buffer.segments]
    assert found == [(0, 0, 2, [3, 4, 5, 6]), (0, 2, 4, [8, 7]), (1, 0, 4, [6, 3, 4, 5])]
    assert buffer.full and buffer.lengths.tolist() == [[3, 1], [4, 2], [1, 3], [2, 4]]
    packed = buffer._pack(np.array([2, 0]))
    assert packed.tokens.tolist() == [6, 3, 4, 5, 3, 4, 5, 6]
    assert packed.lengths.tolist() == [4, 4]
    assert packed.acted_index.tolist() == [0, 1, 2, 3, 6, 7]
    assert buffer._flat_index(np.array([2, 0])).tolist() == [1, 3, 5, 7, 0, 2]


def test_a_minibatch_lines_up_with_its_tokens():
    buffer = new_buffer(4, 2)
    play(buffer, ROWS, STARTS)
    buffer.compute_returns_and_advantage(torch.zeros(2), np.array([False, False]))
    (batch,) = buffer.get()
    assert len(batch.observations) == 8
    numbers = -batch.old_log_prob
    assert torch.equal(batch.old_values, numbers)
    assert torch.equal(batch.actions[:, 0], numbers.long() % 9)
    for acted, number in zip(batch.observations.acted_index.tolist(), numbers, strict=True):
        step, env = divmod(int(number), 10)
        assert batch.observations.tokens[acted] == ROWS[step][env][-1]
    flat = buffer.values.flatten()  # what SB3 reads for explained variance: any one order
    assert sorted(flat) == sorted(numbers.tolist())
    assert batch.actions.dtype == torch.int64 and batch.advantages.dtype == torch.float32


def test_advantages_and_returns_are_sb3s():
    keywords = {"gamma": 0.9, "gae_lambda": 0.7}
    ours = new_buffer(4, 2, **keywords)
    theirs = RolloutBuffer(
        4, spaces.Box(0, 8, (6,), np.int64), spaces.Discrete(9), "cpu", n_envs=2, **keywords
    )
    play(ours, ROWS, STARTS, rewards=[[1, 2], [3, 4], [5, 6], [7, 8]])
    play(theirs, ROWS, STARTS, rewards=[[1, 2], [3, 4], [5, 6], [7, 8]])
    for buffer in (ours, theirs):
        buffer.compute_returns_and_advantage(torch.tensor([[2.0], [3.0]]), np.array([False, True]))
    np.testing.assert_array_equal(ours.advantages, theirs.advantages)
    np.testing.assert_array_equal(ours.returns, theirs.returns)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=60), batch_size=st.integers(1, 200))
def test_minibatches_partition_the_segments_nearly_equally(sizes, batch_size):
    buffer = new_buffer(1, 1)
    buffer.segments = [Segment(0, 0, size, np.zeros(0)) for size in sizes]
    order = np.random.default_rng(0).permutation(len(sizes))
    parts = buffer._parts(order, batch_size)
    assert np.concatenate(parts).tolist() == order.tolist()
    assert all(len(part) for part in parts)
    total = sum(sizes)
    count = min(max(1, round(total / batch_size)), len(sizes))
    assert len(parts) == count
    share = total / count
    assert all(
        sum(sizes[i] for i in part) <= share + max(sizes) + count for part in parts
    )  # a part holds its share, one segment more, or what had to be left for the others
    if max(sizes) * 2 <= share:
        counts = [sum(sizes[i] for i in part) for part in parts]
        assert max(abs(c - share) for c in counts) <= max(sizes)


def test_every_epoch_shuffles_anew_from_the_buffers_own_generator():
    buffer = new_buffer(4, 2)
    play(buffer, ROWS, STARTS)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    epochs = [torch.cat([b.old_values for b in buffer.get(3)]) for _ in range(8)]
    assert all(torch.equal(epoch.sort().values, epochs[0].sort().values) for epoch in epochs)
    assert not all(torch.equal(epoch, epochs[0]) for epoch in epochs)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def array_bytes(buffer):
    arrays = [value for value in vars(buffer).values() if isinstance(value, np.ndarray)]
    return sum(a.nbytes for a in arrays) + sum(s.tokens.nbytes for s in buffer.segments)


@pytest.mark.parametrize("width", [6, 600])
def test_memory_is_in_the_tokens_and_not_in_the_rows(width):
    buffer = new_buffer(4, 2, width=width)
    play(buffer, ROWS, STARTS)
    per_step = 8 + 8 + 7 * 4  # action, length; rewards, returns, starts, values, log-probs, ...
    tokens = 8 * (4 + 2 + 4)
    the_last_row = 8 * 2 * width
    three_bookkeeping_numbers = 3 * 2 * 8
    assert (
        array_bytes(buffer) == 4 * 2 * per_step + tokens + the_last_row + three_bookkeeping_numbers
    )
    assert not hasattr(buffer, "observations")


def test_totals_of_finished_episodes_by_hand():
    buffer = new_buffer(4, 2)
    carried = np.array([100.0, 100.0])  # row 1's is stale: its episode begins with the rollout
    per_step = np.arange(8.0).reshape(4, 2)
    play(buffer, ROWS, STARTS)
    totals = buffer.episode_totals(per_step, carried, np.array([False, True]))
    assert totals.tolist() == [100 + 0 + 2, 1 + 3 + 5 + 7]
    assert carried[0] == 4 + 6  # open: goes on
    rows = [[[8, 7, 3], [5]], [[8, 7, 3, 3], [5, 5]], [[4], [5, 5, 5]], [[4, 4], [5, 5, 5, 5]]]
    starts = [[False, True], [False, False], [True, False], [False, False]]
    play(buffer, rows, starts)
    totals = buffer.episode_totals(per_step, carried, np.array([True, False]))
    assert totals.tolist() == [10 + 0 + 2, 4 + 6]
    assert carried[1] == 1 + 3 + 5 + 7


def test_a_row_that_ends_at_every_step():
    buffer = new_buffer(3, 1)
    play(buffer, [[[3]], [[4]], [[5]]], [[True], [True], [True]])
    assert [s.tokens.tolist() for s in buffer.segments] == [[3], [4], [5]]
    totals = buffer.episode_totals(np.ones((3, 1)), np.zeros(1), np.array([True]))
    assert totals.tolist() == [1.0, 1.0, 1.0]
    assert [len(b.observations) for b in buffer.get(1)] == [1, 1, 1]


def test_segments_in_a_real_rollout_are_the_rows_that_sb3_stores():
    agent = set_up(
        PPO(
            TextActorCriticPolicy,
            letter_env(4, max_episode_steps=5),
            n_steps=16,
            batch_size=64,
            policy_kwargs={"model": tiny_lm(spread=6.0)},
            rollout_buffer_class=TeeBuffer,
            device="cpu",
            seed=0,
        )
    )
    for _ in range(3):
        buffer = rollout(agent)
        covered = np.zeros((16, 4), dtype=int)
        for segment in buffer.segments:
            for step in range(segment.start, segment.end):
                covered[step, segment.env] += 1
                length = buffer.lengths[step, segment.env]
                row = buffer.stock.observations[step, segment.env]
                assert row[:length].tolist() == segment.tokens[:length].tolist()
                assert (row[length:] == PAD).all()
            begins = buffer.episode_starts[segment.start : segment.end, segment.env]
            assert not begins[1:].any()
        assert (covered == 1).all()


def test_what_the_buffer_cannot_keep_is_refused():
    discrete = spaces.Discrete(9)
    with pytest.raises(InputError, match=r"rows of token ids: .* norm_obs=False"):
        EpisodeRolloutBuffer(4, spaces.Box(0, 1, (6,)), discrete)
    box = spaces.Box(0, 8, (6,), np.int64)
    with pytest.raises(InputError, match="does not say which token is padding: pass"):
        EpisodeRolloutBuffer(4, box, discrete)
    buffer = EpisodeRolloutBuffer(4, box, discrete, "cpu", pad_token_id=3)
    assert buffer.pad_token_id == 3
    with pytest.raises(InputError, match="which only TextActorCriticPolicy reads"):
        play(buffer, [[[3]]], [[True]])
