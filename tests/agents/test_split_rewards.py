"""Dense rewards through wrappers: what a buffer learns from is what was paid, where it was paid."""

import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecNormalize
from textgym_testing import letter_env, letter_task, rollout, set_up, tiny_lm

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.split_rewards import DenseRewards, SplitRewards, with_split
from textgym.envs.dense_rewards import fit_split
from textgym.envs.text_env import TextEnv
from textgym.errors import InputError
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.q_policy import TextQPolicy
from textgym.rewards import RewardOutput

SPLIT = {0: np.array([1.0, 2.0]), 2: np.array([3.0, -3.0])}  # the second sums to nothing


def split_rewards():
    return SplitRewards.of(np.array([3.0, 7.0, 0.0], np.float32), dict(SPLIT))


def halved(rewards):
    rewards /= 2
    return rewards


def doubled_in_place(rewards):
    np.multiply(rewards, 2, out=rewards)
    return rewards


AFFINE = {
    "copy": (lambda r: r.copy(), [1, 2], [3, -3]),
    "float64": (lambda r: r.astype(np.float64), [1, 2], [3, -3]),
    "factor": (lambda r: r * 0.5, [0.5, 1], [1.5, -1.5]),
    "factor before": (lambda r: 0.5 * r, [0.5, 1], [1.5, -1.5]),
    "factor of each row": (lambda r: r * np.array([2, 3, 4]), [2, 4], [12, -12]),
    "in place": (halved, [0.5, 1], [1.5, -1.5]),
    "out": (doubled_in_place, [2, 4], [6, -6]),
    "negative": (lambda r: -r, [-1, -2], [-3, 3]),
    "shift": (lambda r: r + 10, [1, 12], [3, 7]),
    "difference": (lambda r: r - 1, [1, 1], [3, -4]),
    "from": (lambda r: 1 - r, [-1, -1], [-3, 4]),
    "standard": (lambda r: (r - 1) / 2, [0.5, 0.5], [1.5, -2]),
    "wide clip": (lambda r: np.clip(r, -9, 9), [1, 2], [3, -3]),
}


@pytest.mark.parametrize("case", AFFINE)
def test_a_split_follows_factors_and_shifts_exactly(case):
    change, first, second = AFFINE[case]
    changed = change(split_rewards())
    assert changed.token_rewards[0].tolist() == first
    assert changed.token_rewards[2].tolist() == second
    for row in (0, 2):
        assert changed.token_rewards[row].sum() == pytest.approx(float(changed[row]))


@pytest.mark.parametrize("change", [lambda r: r[::-1], lambda r: r[:2], lambda r: r > 0, np.flip])
def test_what_is_not_the_rows_in_order_has_no_split(change):
    assert not getattr(change(split_rewards()), "token_rewards", {})


@pytest.mark.parametrize(
    ("paid", "expected"),
    [
        (3.0, [4.0, -1.0]),
        (3.0000001, [4.0, -1.0]),
        (1.5, [2.0, -0.5]),
        (6.0, [8.0, -2.0]),
        (-3.0, [-4.0, 1.0]),
        (0.0, [0.0, 0.0]),
    ],
)
def test_a_split_is_scaled_to_what_was_paid(paid, expected):
    assert fit_split(np.array([4.0, -1.0]), paid) == pytest.approx(np.array(expected))


def test_where_the_parts_cancel_the_difference_goes_to_the_last_token():
    assert fit_split(np.array([5.0, -5.0]), 1.0).tolist() == [5.0, -4.0]
    assert fit_split(np.array([5.0, -4.99]), 1.0) == pytest.approx(np.array([5.0, -4.0]))


def pay_each_letter(prompts, completions):
    """+2 for an a, -1 for any other letter."""
    values = [[2.0 if c == "a" else -1.0 for c in text] for text in completions]
    spans = [[(i, i + 1, v) for i, v in enumerate(row)] for row in values]
    return RewardOutput([sum(row) for row in values], spans=spans)


class Wrapper(VecEnvWrapper):
    """Changes rewards as it is told, and keeps what it handed on."""

    def __init__(self, venv, change):
        super().__init__(venv)
        self.change, self.paid, self.shares = change, [], []

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        rewards = self.change(rewards)
        self.paid.append(np.array(rewards))
        self.shares += [info["token_rewards"] for info in infos if "token_rewards" in info]
        return observations, rewards, dones, infos


def scaled(rewards):
    rewards *= 0.1
    return rewards


def assigned(rewards):
    rewards[:] = [0.1 * reward for reward in rewards.tolist()]
    return rewards


CHANGES = {
    "in place": scaled,
    "product": lambda rewards: rewards * np.float32(0.1),
    "assigned": assigned,
    "clipped": lambda rewards: np.clip(rewards, -0.5, 0.5),
    "sign": np.sign,
}


def agent_on(env, cls=PPO, **keywords):
    buffers = {"rollout_buffer_class": EpisodeRolloutBuffer, "n_steps": 16, "batch_size": 16}
    policy = TextActorCriticPolicy
    if cls is DQN:
        buffers = {"replay_buffer_class": EpisodeReplayBuffer, "learning_starts": 10**6}
        buffers |= {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
        policy = TextQPolicy
    model = tiny_lm(env.get_attr("tokenizer")[0])
    return cls(
        policy, env, policy_kwargs={"model": model}, seed=0, device="cpu", **buffers, **keywords
    )


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_rollout_learns_from_what_a_wrapper_paid(change):
    env = Wrapper(letter_env(3, reward=pay_each_letter), change)
    agent = agent_on(env)
    set_up(agent)
    buffer = rollout(agent)
    for row in range(3):
        paid = np.array([step[row] for step in env.paid])
        assert paid.any()
        assert buffer.rewards[:, row].sum() == pytest.approx(paid.sum(), abs=1e-4)
    assert (buffer.rewards != 0).sum() > (np.array(env.paid) != 0).sum()  # still spread


def test_normalised_rewards_stay_dense():
    env = VecNormalize(letter_env(3, reward=pay_each_letter), norm_obs=False, gamma=1.0)
    agent = agent_on(env)
    set_up(agent)
    buffer = rollout(agent)
    is_letter = buffer.actions[..., 0] > env.get_attr("tokenizer")[0].eos_token_id
    for segment in buffer.segments:
        if segment.end == buffer.buffer_size:
            continue  # still open
        steps = slice(segment.start, segment.end)
        rewards = buffer.rewards[steps, segment.env]
        assert (rewards[is_letter[steps, segment.env]] != 0).all()
        letters = rewards[rewards != 0]
        assert set(np.round(letters / np.abs(letters).min(), 3)) <= {-1.0, 2.0}


def test_a_split_that_a_wrapper_lost_is_refused_or_put_back():
    plain = Wrapper(letter_env(3, reward=pay_each_letter), lambda r: 0.1 * np.array(r))
    agent = agent_on(plain)
    set_up(agent)
    with pytest.raises(InputError, match=r"a wrapper lost their split.*agents\.DenseRewards"):
        rollout(agent)
    other = Wrapper(letter_env(3, reward=pay_each_letter), lambda r: 0.1 * np.array(r))
    agent = agent_on(DenseRewards(other))
    set_up(agent)
    buffer = rollout(agent)
    assert buffer.rewards.sum() == pytest.approx(np.sum(other.paid), abs=1e-4)
    assert (buffer.rewards != 0).sum() > (np.array(other.paid) != 0).sum()


@pytest.mark.parametrize("is_put_back", [False, True])
def test_gymnasiums_own_wrappers_and_vector_environment(is_put_back):
    def make():
        return TransformReward(TextEnv(letter_task(reward=pay_each_letter)), lambda r: 0.5 * r)

    env = DummyVecEnv([make] * 2)
    agent = agent_on(DenseRewards(env) if is_put_back else env)
    set_up(agent)
    if not is_put_back:
        with pytest.raises(InputError, match="lost their split"):
            rollout(agent)
        return
    buffer = rollout(agent)
    amounts = set(np.unique(buffer.rewards))
    assert amounts & {1.0, -0.5} and amounts <= {0.0, 1.0, -0.5, 1.5, 0.5, -1.0, 2.0}


@pytest.mark.parametrize("change", [*CHANGES.values(), lambda r: 0.1 * np.array(r)])
def test_a_replay_buffer_keeps_what_a_wrapper_paid(change):
    env = Wrapper(letter_env(3, reward=pay_each_letter), change)
    agent = agent_on(env, DQN, train_freq=24, buffer_size=1000)
    agent.learn(72)
    kept = [episode.rewards for episode in agent.replay_buffer.episodes]
    assert sum(part.sum() for part in kept) == pytest.approx(np.sum(env.paid), abs=1e-3)
    assert sum((part != 0).sum() for part in kept) > (np.array(env.paid) != 0).sum()


@pytest.mark.parametrize("cls", [PPO, DQN])
def test_what_a_wrapper_pays_at_every_step_stays_there(cls):
    """A price of each token, beside the split: both are learned from."""
    env = Wrapper(letter_env(3, reward=pay_each_letter), lambda r: 2 * r - np.float32(0.25))
    keywords = {"train_freq": 24, "buffer_size": 1000} if cls is DQN else {}
    agent = agent_on(env, cls, **keywords)
    if cls is DQN:
        agent.learn(72)
        found = np.concatenate([e.rewards for e in agent.replay_buffer.episodes])
        paid = np.sum(env.paid) + 0.25 * (np.size(env.paid) - len(found))  # of open episodes
    else:
        set_up(agent)
        found, paid = rollout(agent).rewards, np.sum(env.paid)
    assert found.sum() == pytest.approx(paid, abs=1e-3)
    letters = {-2.25, 3.75}  # twice a letter's own, less the price
    assert {-0.25, *letters} >= set(np.unique(found).tolist()) >= letters


def test_splits_come_from_the_infos_of_rows_that_ended():
    infos = [{"token_rewards": [1.0, 2.0]}, {"token_rewards": [4.0]}]
    found = with_split(np.array([3.0, 0.0]), np.array([True, False]), infos)
    assert {row: split.tolist() for row, split in found.token_rewards.items()} == {0: [1.0, 2.0]}
    plain = np.zeros(2)
    assert with_split(plain, np.array([True, True]), [{}, {}]) is plain
