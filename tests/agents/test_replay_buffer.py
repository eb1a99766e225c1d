"""Episodes kept once: what is stored, what is forgotten, what a sample says of it."""

import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecNormalize
from textgym_off_policy import collect, q_agent
from textgym_testing import PAD, letter_env

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer, n_step_returns
from textgym.agents.rollouts.split_rewards import SplitRewards
from textgym.envs.token_row import TokenRow
from textgym.errors import InputError
from textgym.policies.sb3.exchange import Exchange


def new_buffer(size=1000, n_envs=1, width=8, cls=EpisodeReplayBuffer, **keywords):
    space = TokenRow(9, width, PAD)
    Exchange.of(space).reads_segments = True  # as the policies do
    return cls(size, space, spaces.Discrete(9), "cpu", n_envs, **keywords)


def padded(rows, width=8):
    return np.array([[*row, *[PAD] * (width - len(row))] for row in rows])


def play(buffer, rows, actions, rewards, ends="", split=None):
    """One step: token lists, and for each row "." (goes on), "T" (terminated) or "C" (cut)."""
    after = [[*row, action] for row, action in zip(rows, actions, strict=True)]
    width = buffer.observation_space.shape[0]
    ends = ends or "." * len(rows)
    reward = np.array(rewards, dtype=np.float32)
    buffer.add(
        padded(rows, width),
        padded(after, width),
        np.array(actions),
        SplitRewards.of(reward, split) if split else reward,
        np.array([end != "." for end in ends]),
        [{"TimeLimit.truncated": end == "C"} for end in ends],
    )


def play_episode(buffer, prompt, actions, rewards, end="T"):
    row = list(prompt)
    for i, (action, reward) in enumerate(zip(actions, rewards, strict=True)):
        play(buffer, [row], [action], [reward], end if i + 1 == len(actions) else ".")
        row.append(action)


def test_n_step_returns_by_hand():
    rewards = np.array([1.0, 2.0, 4.0, 8.0])
    returns, ends = n_step_returns(rewards, 0.5)
    assert returns.tolist() == [1 + 1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8]
    assert ends.tolist() == [4, 4, 4, 4]
    returns, ends = n_step_returns(rewards, 0.5, 2)
    assert returns.tolist() == [1 + 1, 2 + 2, 4 + 4, 8]
    assert ends.tolist() == [2, 3, 4, 4]
    returns, ends = n_step_returns(rewards, 1.0, 1)
    assert returns.tolist() == rewards.tolist() and ends.tolist() == [1, 2, 3, 4]
    assert n_step_returns(rewards, 1.0, 99)[0].tolist() == [15, 14, 12, 8]


def sample_all(buffer):
    return buffer.sample(buffer.size())


def test_a_sample_by_hand():
    buffer = new_buffer(n_steps=2, gamma=0.5)
    play_episode(buffer, [3, 4], [5, 6, 7], [1.0, 2.0, 4.0])
    samples = sample_all(buffer)
    assert samples.observations.tokens.tolist() == [3, 4, 5, 6]  # the last token is never seen
    assert samples.observations.acted_index.tolist() == [1, 2, 3]
    assert samples.actions.tolist() == [[5], [6], [7]]
    assert samples.rewards.tolist() == [[2.0], [4.0], [4.0]]
    assert samples.discounts.tolist() == [[0.25], [0.25], [0.5]]
    assert samples.dones.tolist() == [[0.0], [1.0], [1.0]]
    following = samples.next_observations
    assert len(following) == 3 and following.tokens.tolist() == [3, 4, 5, 6]
    assert following.acted_index.tolist() == [3] and following.source.tolist() == [0, 1, 1]
    assert samples.actions.dtype == torch.int64 and samples.rewards.dtype == torch.float32


def test_truncation_bootstraps_at_the_last_row_and_termination_nowhere():
    buffer = new_buffer()
    play_episode(buffer, [3, 4], [5, 6], [1.0, 2.0], "C")
    play_episode(buffer, [8], [7, 7], [1.0, 5.0])
    samples = sample_all(buffer)
    order = samples.actions[:, 0].tolist()
    assert order == [5, 6, 7, 7]  # longest first
    assert samples.dones[:, 0].tolist() == [0, 0, 1, 1]
    assert samples.rewards[:, 0].tolist() == [3, 2, 6, 5]
    following = samples.next_observations
    assert following.tokens.tolist() == [3, 4, 5, 6] and following.lengths.tolist() == [4]
    assert following.acted_index.tolist() == [3] and following.source.tolist() == [0, 0, 1, 1]


def test_without_a_truncation_there_is_nothing_to_follow():
    buffer = new_buffer()
    play_episode(buffer, [8], [7, 7], [1.0, 5.0])
    following = sample_all(buffer).next_observations
    assert len(following) == 2 and len(following.tokens) == len(following.acted_index) == 0
    assert following.source.tolist() == [0, 0]


def test_rows_end_at_different_times_and_only_finished_ones_are_there():
    buffer = new_buffer(n_envs=2)
    play(buffer, [[3], [4, 5]], [6, 7], [0, 0])
    play(buffer, [[3, 6], [4, 5, 7]], [8, 2], [0, 1], ".T")
    play(buffer, [[3, 6, 8], [5]], [2, 6], [3, 0], "T.")
    play(buffer, [[4], [5, 6]], [3, 3], [9, 9])
    found = [(e.tokens.tolist(), e.seen.tolist(), e.actions.tolist()) for e in buffer.episodes]
    assert found == [([4, 5, 7, 2], [2, 3], [7, 2]), ([3, 6, 8, 2], [1, 2, 3], [6, 8, 2])]
    assert [e.rewards.tolist() for e in buffer.episodes] == [[0, 1], [0, 0, 3]]
    assert buffer.size() == 5


def test_a_pad_that_was_written_is_an_action_like_any_other():
    buffer = new_buffer()
    play_episode(buffer, [3], [PAD, 4], [0.0, 1.0])
    (episode,) = buffer.episodes
    assert episode.seen.tolist() == [1, 1] and episode.actions.tolist() == [PAD, 4]
    assert episode.tokens.tolist() == [3, PAD, 4]


def test_an_episode_left_by_a_reset_is_forgotten():
    buffer = new_buffer(n_envs=2)
    play(buffer, [[3], [4]], [5, 6], [0, 0])
    play(buffer, [[7], [4, 6]], [8, 8], [1, 2], "TT")  # row 0 begins anew without an end
    found = [(e.tokens.tolist(), e.rewards.tolist()) for e in buffer.episodes]
    assert found == [([7, 8], [1]), ([4, 6, 8], [0, 2])]


@pytest.mark.parametrize(
    ("split", "expected"),
    [([0.5, 0.25, 2.0], [0.5, 0.25, 2.0]), ([1.0, 0.5, 0.25, 2.0], [1.5, 0.25, 2.0])],
)
def test_dense_rewards_are_spread(split, expected):
    buffer = new_buffer()
    play(buffer, [[3]], [4], [0])
    play(buffer, [[3, 4]], [5], [0])
    play(buffer, [[3, 4, 5]], [6], [sum(split)], "T", split={0: np.array(split)})
    assert buffer.episodes[0].rewards.tolist() == expected
    assert sample_all(buffer).rewards.sum() == sum(i * r for i, r in enumerate(expected, 1))


def test_the_oldest_episodes_go_first_and_one_stays_in_any_case():
    buffer = new_buffer(size=5)
    for first, length in ((3, 2), (4, 2), (5, 1), (6, 2)):
        play_episode(buffer, [first], [7] * length, [0.0] * length)
    assert [e.tokens[0] for e in buffer.episodes] == [4, 5, 6] and buffer.size() == 5
    play_episode(buffer, [8], [7] * 6, [0.0] * 6)
    assert [e.tokens[0] for e in buffer.episodes] == [8] and buffer.size() == 6


def filled(lengths, **keywords):
    """A buffer of episodes with these numbers of actions; each action has a reward of its own."""
    buffer = new_buffer(width=40, gamma=1.0, n_steps=1, **keywords)
    number = 0
    for length in lengths:
        play_episode(buffer, [3], [4] * length, np.arange(number, number + length))
        number += length
    return buffer


@pytest.mark.parametrize("batch_size", [1, 7, 24, 25, 60])
def test_a_sample_has_exactly_as_many_rows_as_asked_for(batch_size):
    buffer = filled([3, 1, 8, 2, 10])
    samples = buffer.sample(batch_size)
    numbers = samples.rewards[:, 0].tolist()
    assert all(len(part) == batch_size for part in samples)
    if batch_size <= 24:
        assert len(set(numbers)) == batch_size  # none twice while there are others
    else:
        assert min(numbers.count(i) for i in range(24)) >= batch_size // 24


def test_every_transition_is_drawn_as_often_as_any_other():
    buffer = filled([2, 9, 4, 1])
    counts = np.zeros(16)
    draws = 2000
    for _ in range(draws):
        counts[buffer.sample(5).rewards[:, 0].long().numpy()] += 1
    # Each count is binomial with p = 5/16: 16 cells at 4.5 standard deviations fail by chance in 1
    # of 9,000 runs.
    deviation = np.sqrt(draws * 5 / 16 * 11 / 16)
    assert np.abs(counts - draws * 5 / 16).max() < 4.5 * deviation
    assert counts.sum() == 5 * draws


def array_bytes(buffer):
    arrays = [value for value in vars(buffer).values() if isinstance(value, np.ndarray)]
    episodes = [v for e in buffer.episodes for v in vars(e).values() if isinstance(v, np.ndarray)]
    return sum(array.nbytes for array in arrays), sum(array.nbytes for array in episodes)


@pytest.mark.parametrize("length", [5, 50, 500])
def test_memory_is_sixteen_bytes_a_token_however_long_the_episode(length):
    buffer = new_buffer(width=length + 1, size=10**6)
    for _ in range(3):
        play_episode(buffer, [3], [4] * length, [0.0] * length)
    open_rows, stored = array_bytes(buffer)
    assert stored == 3 * (16 * length + 4)  # and the prompt's one token
    assert open_rows == (3 + 1) * 4 * (length + 1) + 8  # one open row, its last tokens, its count
    for name in ("observations", "next_observations", "dones", "timeouts"):
        assert not hasattr(buffer, name)


def test_it_draws_from_its_own_generator():
    buffer = filled([3, 1, 8, 2, 10])
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second = (buffer.sample(12).rewards for _ in range(2))
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_sb3s_reward_normalisation_comes_before_the_sum():
    env = VecNormalize(letter_env(), norm_obs=False, clip_reward=1.0)
    env.ret_rms.var = np.array(4.0)
    buffer = new_buffer()
    play_episode(buffer, [3], [4, 5], [1.0, 7.0])
    rewards = buffer.sample(2, env=env).rewards[:, 0].tolist()
    assert rewards == pytest.approx([0.5 + 1.0, 1.0], abs=1e-6)


def test_it_is_pickled_without_the_agent_that_records():
    buffer = filled([2, 3])
    buffer.recorder = lambda: None  # cannot be pickled
    again = pickle.loads(pickle.dumps(buffer))  # noqa: S301
    buffer.recorder = None
    assert again.recorder is None and again.size() == 5
    assert torch.equal(again.sample(5).rewards, buffer.sample(5).rewards)


def test_memory_optimisation_is_accepted_and_changes_nothing():
    buffer = new_buffer(optimize_memory_usage=True)
    play_episode(buffer, [3], [4], [1.0])
    assert buffer.pos == 0 and not buffer.full  # SB3 would write into arrays that are not there
    buffer.reset()
    assert buffer.size() == 0 and buffer.episodes == []


def test_what_cannot_work_is_refused_in_one_line():
    def refused(message, run):
        with pytest.raises(InputError, match=message) as caught:
            run()
        assert "\n" not in str(caught.value)

    refused("n_steps must be at least 1", lambda: new_buffer(n_steps=0))
    refused(r"gamma must be in \(0, 1\], got 0", lambda: new_buffer(gamma=0.0))
    refused("no episode has ended yet.*train_freq", lambda: new_buffer().sample(3))
    box, row = spaces.Box(0, 1, (4,)), spaces.Box(0, 8, (4,), np.int64)
    tokens = spaces.Discrete(9)
    refused("one-dimensional integer Box", lambda: EpisodeReplayBuffer(9, box, tokens))
    refused("replay_buffer_kwargs", lambda: EpisodeReplayBuffer(9, row, tokens))
    other = DQN("MlpPolicy", letter_env(), replay_buffer_class=EpisodeReplayBuffer, device="cpu")
    refused("only TextQPolicy and TextQuantilePolicy read", lambda: other.learn(8))
    hasty = q_agent(train_freq=1, env={"prompts": ["ab"], "max_new_tokens": 6})
    hasty.policy.network.register_buffer("excluded_ids", torch.tensor([0, 1, 2]), persistent=False)
    refused("set train_freq to the budget", lambda: hasty.learn(24))


def test_what_sb3_tells_is_what_is_kept():
    agent = q_agent(env={"max_episode_steps": 4})
    buffer = collect(agent, 30)
    assert len(buffer.episodes) == len(buffer.told) > 20
    for episode, told in zip(buffer.episodes, buffer.told, strict=True):
        for t, (row, action, reward, *_) in enumerate(told):
            assert episode.tokens[: episode.seen[t]].tolist() == row[row != PAD].tolist()
            assert (episode.actions[t], episode.rewards[t]) == (action, reward)
        *_, after, is_cut = told[-1]
        assert episode.tokens.tolist() == after[after != PAD].tolist()
        assert episode.is_truncated == is_cut
    assert {episode.is_truncated for episode in buffer.episodes} == {True, False}
