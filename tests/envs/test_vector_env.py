"""Native, synchronous and single environments: one game, the same trajectories."""

import copy
import pickle

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, RewardError
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

PAD, EOS = 0, 2
A, B = Tokenizer.byte().encode("AB")


def reward(prompts, completions, label):
    """A number that depends on all that a reward model sees, one text at a time."""
    totals = [
        len(p) + 10.0 * c.count("A") - c.count("B") + x
        for p, c, x in zip(prompts, completions, label, strict=True)
    ]
    spans = [[(0, len(c), 1.0)] for c in completions]
    return RewardOutput(totals, {"a": [float(c.count("A")) for c in completions]}, spans)


def zero(prompts, completions):
    return [0.0] * len(prompts)


def task(**fields):
    prompts = [{"prompt": "p" * (i + 1), "label": i} for i in range(5)]
    defaults = {"prompts": prompts, "reward": reward, "max_new_tokens": 4}
    return Task(id="test/Vector-v0", **{**defaults, **fields})


def sync(played, n):
    return SyncVectorEnv([lambda: TextEnv(played)] * n, autoreset_mode=AutoresetMode.SAME_STEP)


ACTIONS = st.lists(
    st.lists(st.sampled_from([A, B, PAD, EOS]), min_size=3, max_size=3), min_size=1, max_size=25
)
FIELDS = st.fixed_dictionaries(
    {
        "max_new_tokens": st.integers(1, 6),
        "unfinished_score": st.sampled_from([None, -1.0]),
        "stop": st.sampled_from([None, "AB", ["BB", "A"]]),
        "max_context": st.sampled_from([None, 9]),
    }
)


@settings(max_examples=40, deadline=None)
@given(ACTIONS, FIELDS, st.integers(0, 2**31))
def test_native_synchronous_and_single_environments_play_the_same_game(moves, fields, seed):
    played = task(**fields)
    native, reference = TextVectorEnv(played, 3), sync(played, 3)
    singles = [TextEnv(played) for _ in range(3)]
    first = native.reset(seed=seed)
    assert data_equivalence(first, reference.reset(seed=seed), exact=True)
    for i, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=seed + i)[0], first[0][i])
    for move in moves:
        actions = np.array(move)
        ours, theirs = native.step(actions), reference.step(actions)
        assert data_equivalence(ours, theirs, exact=True)
        for i, env in enumerate(singles):
            row, value, terminated, truncated, info = env.step(move[i])
            assert (value, terminated, truncated) == tuple(part[i] for part in ours[1:4])
            if terminated or truncated:
                np.testing.assert_array_equal(ours[4]["final_obs"][i], row)
                assert ours[4]["final_info"]["completion"][i] == info["completion"]
                row, _ = env.reset()
            np.testing.assert_array_equal(ours[0][i], row)


def test_an_outer_limit_truncates_as_time_limit_does():
    generator = np.random.default_rng(0)
    native = TextVectorEnv(task(), 3, max_episode_steps=3)
    makers = [lambda: TimeLimit(TextEnv(task()), 3)] * 3
    reference = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    native.reset(seed=1), reference.reset(seed=1)
    reasons = set()
    for _ in range(60):
        actions = generator.choice([A, B, EOS], size=3)
        ours, theirs = native.step(actions), reference.step(actions)
        assert data_equivalence(ours[:4], theirs[:4], exact=True)
        is_cut = ours[3] & ~ours[2]
        assert not ours[1][is_cut].any()  # what is truncated is not scored
        if is_cut.any():
            reasons |= set(ours[4]["final_info"]["finish_reason"][is_cut])
    assert reasons == {"truncated"}


def test_the_reward_model_is_asked_once_for_all_that_end_together():
    asked = []

    def batched(prompts, completions):
        asked.append(list(completions))
        return [float(i) for i in range(len(completions))]

    env = TextVectorEnv(task(prompts=["p"], reward=batched), 3)
    env.reset(seed=0)
    env.step(np.array([A, B, A]))
    _, rewards, terminated, _, infos = env.step(np.array([EOS, A, EOS]))
    assert asked == [["A", "A"]]
    assert rewards.tolist() == [0.0, 0.0, 1.0] and terminated.tolist() == [True, False, True]
    assert infos["_final_info"].tolist() == [True, False, True]


def test_a_reward_error_leaves_all_rows_as_they_were():
    answers = [[1.0, float("inf")], [1.0, 2.0]]
    played = task(prompts=["p", "qq"], reward=lambda p, c: answers.pop(0))
    env = TextVectorEnv(played, 3, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([A, A, A]))
    before = env.observations(), env.render(), copy.deepcopy(env.np_random)
    with pytest.raises(RewardError, match="not finite"):
        env.step(np.array([EOS, B, EOS]))
    np.testing.assert_array_equal(env.observations(), before[0])
    assert env.render() == before[1]
    states = [generator.bit_generator.state for generator in env.np_random]
    assert states == [generator.bit_generator.state for generator in before[2]]
    assert env.step(np.array([EOS, B, EOS]))[1].tolist() == [1.0, 0.0, 2.0]


def test_a_copy_made_in_mid_episode_goes_on_equally():
    generator = np.random.default_rng(0)
    env = TextVectorEnv(task(), 3)
    env.reset(seed=2)
    for _ in range(7):
        env.step(generator.choice([A, B, EOS], size=3))
    twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]  # noqa: S301
    for _ in range(200):
        actions = generator.choice([A, B, EOS], size=3)
        expected = env.step(actions)
        assert all(data_equivalence(twin.step(actions), expected, exact=True) for twin in twins)


def test_some_rows_can_be_reset():
    native, reference = TextVectorEnv(task(), 3), sync(task(), 3)
    native.reset(seed=0), reference.reset(seed=0)
    native.step(np.array([A, A, A])), reference.step(np.array([A, A, A]))
    mask = np.array([False, True, False])
    ours = native.reset(seed=[None, 9, None], options={"reset_mask": mask})
    theirs = reference.reset(seed=[None, 9, None], options={"reset_mask": mask.copy()})
    assert data_equivalence(ours, theirs, exact=True)
    assert native.np_random_seed == reference.np_random_seed == (0, 9, 2)
    assert native.np_random[1].bit_generator.state == reference.np_random[1].bit_generator.state


def test_without_a_seed_rows_differ_from_one_another():
    env = TextVectorEnv(task(prompts=[f"{i:02d}" for i in range(99)], reward=zero), 8)
    assert len(set(env.reset()[1]["prompt"])) > 1 and len(set(env.np_random_seed)) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([True, True, True], "must be a NumPy array of bool"),
        (np.zeros(3, dtype=bool), "one True at least"),
        (np.ones(2, dtype=bool), r"must have shape \(3,\)"),
    ],
)
def test_a_bad_reset_mask_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        TextVectorEnv(task(), 3).reset(options={"reset_mask": options})


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="num_envs must be a whole number, at least 1, got 0"):
        TextVectorEnv(task(), 0)
    with pytest.raises(InputError, match="max_episode_steps must be"):
        TextVectorEnv(task(), 1, max_episode_steps=0)
    env = TextVectorEnv(task(), 3)
    with pytest.raises(InputError, match="expected 3 seeds, one for each row, got 2"):
        env.reset(seed=[1, 2])
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"expected 3 token ids .* shape \(2,\)"):
        env.step(np.array([A, A]))
    with pytest.raises(InputError, match="array of float64"):
        env.step(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(InputError, match="expected token ids from 0 to 258, got 259"):
        env.step(np.array([A, 259, A]))


def test_what_is_returned_is_the_callers_own():
    env = TextVectorEnv(task(), 2)
    first, _ = env.reset(seed=0)
    first[:] = 77
    second = env.step(np.array([A, A]))[0]
    assert 77 not in second
    second[:] = 77
    assert 77 not in env.step(np.array([A, A]))[0]


def test_spaces_and_metadata():
    env = TextVectorEnv(task(), 4)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.single_observation_space == TextEnv(task()).observation_space
    assert env.observation_space.shape == (4, 1 + 5 + 4)
    assert env.action_space.nvec.tolist() == [259] * 4
    env.action_space.seed(0)
    assert env.reset(seed=0)[0] in env.observation_space
    assert env.step(env.action_space.sample())[0] in env.observation_space
    assert env.render() is None


def test_a_human_reads_each_text_when_it_is_finished(capsys):
    env = TextVectorEnv(task(prompts=[{"prompt": "p", "label": 0}]), 2, render_mode="human")
    env.reset(seed=0)
    env.step(np.array([A, EOS]))
    assert capsys.readouterr().out == "[1] p\n"
    env.step(np.array([B, A]))
    assert capsys.readouterr().out == "" and env.render() is None
    env.step(np.array([EOS, EOS]))
    assert capsys.readouterr().out == "[0] pAB\n[1] pA\n"


def test_columns_of_any_kind_reach_the_infos_as_they_are():
    """Gymnasium's own merging makes 0 of 0.5, one dictionary of two, and dies of the others."""
    values = [1, 0.5, None, 2**80, {"a": 1}, [1, 2], np.arange(3), "x"]
    prompts = [{"prompt": f"{i}", "final": value} for i, value in enumerate(values)]
    env = TextVectorEnv(task(prompts=prompts, reward=zero, max_new_tokens=1), 8)
    for seed in range(3):
        _, infos = env.reset(seed=seed)
        starts = list(zip(infos["prompt"], infos["final"], strict=True))
        ended = env.step(np.full(8, A))[4]["final_info"]
        ends = list(zip(ended["prompt"], ended["columns"]["final"], strict=True))
        for prompt, value in starts + ends:
            expected = values[int(prompt)]
            np.testing.assert_equal(value, expected)
            assert type(value) is type(expected)
        assert ended["columns"]["_final"].all()
