"""The SB3 VecEnv: the same episodes as the native vector environment, in SB3's terms."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import A2C
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor
from textgym_testing import tiny_lm

import textgym
from textgym.agents.rollouts.vec_env import TextVecEnv, environment_seed
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, RewardError
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

EOS, A, B = 2, *Tokenizer.byte().encode("AB")


def count_a(prompts, completions):
    return [float(c.count("A")) for c in completions]


def dense_a(prompts, completions):
    spans = [[(i, i + 1, 1.0) for i, x in enumerate(c) if x == "A"] for c in completions]
    return RewardOutput(count_a(prompts, completions), spans=spans)


def task(**fields):
    defaults = {"prompts": ["p", "qq", "rrr"], "reward": count_a, "max_new_tokens": 4}
    return Task(id="test/Vec-v0", **{**defaults, **fields})


def test_episodes_equal_those_of_single_environments_in_sb3s_own_dummy():
    n, generator = 3, np.random.default_rng(0)
    ours = TextVecEnv(TextVectorEnv(task(), n))
    theirs = DummyVecEnv([lambda: TextEnv(task())] * n)
    ours.seed(5)
    theirs.seed(environment_seed(5))
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    for _ in range(60):
        actions = generator.choice([0, EOS, A, B], size=n)
        a, b = ours.step(actions), theirs.step(actions)
        for mine, reference in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(mine, reference)
            assert mine.dtype == reference.dtype
        for mine, reference in zip(a[3], b[3], strict=True):
            if not mine:
                assert reference == {"TimeLimit.truncated": False}
                continue
            final = mine.pop("terminal_observation")
            np.testing.assert_array_equal(final, reference.pop("terminal_observation"))
            assert mine == reference
        assert ours.reset_infos == theirs.reset_infos


def test_what_is_returned_is_the_callers_own():
    env = TextVecEnv(TextVectorEnv(task(), 2))
    first = env.reset()
    kept = first.copy()
    second, rewards, dones, infos = env.step(np.array([A, B]))
    np.testing.assert_array_equal(first, kept)  # not written into by the step
    second[:], rewards[:], dones[:] = 99, 99.0, True
    infos[0]["mine"] = 1
    third, rewards, dones, infos = env.step(np.array([A, B]))
    assert 99 not in third and rewards.tolist() == [0.0, 0.0] and not dones.any()
    assert infos == [{}, {}] and infos[0] is not infos[1]


def test_the_info_of_an_ending():
    env = TextVecEnv(TextVectorEnv(task(prompts=["p"], reward=dense_a), 1))
    env.reset()
    for token in (B, A):
        env.step(np.array([token]))
    observations, rewards, dones, (info,) = env.step(np.array([EOS]))
    assert rewards.tolist() == [1.0] and dones.tolist() == [True]
    assert info["finish_reason"] == "stop" and info["TimeLimit.truncated"] is False
    assert (info["prompt"], info["completion"], info["completion_length"]) == ("p", "BA", 3)
    assert info["terminal_observation"].tolist()[2:6] == [B, A, EOS, 0]
    assert isinstance(info["token_rewards"], np.ndarray)
    assert info["token_rewards"].tolist() == [0.0, 1.0, 0.0]
    assert observations[0, 2:].tolist() == [0] * 4  # the next prompt, nothing written yet


def test_an_outer_limit_truncates_and_is_not_scored():
    env = textgym.make_vec("textgym/Length-v0", n_envs=2, reward=count_a, max_episode_steps=2)
    env.reset()
    env.step(np.array([A, A]))
    _, rewards, dones, infos = env.step(np.array([A, EOS]))
    assert dones.tolist() == [True, True] and rewards.tolist() == [0.0, 1.0]
    assert infos[0]["TimeLimit.truncated"] and infos[0]["finish_reason"] == "truncated"
    assert not infos[1]["TimeLimit.truncated"] and infos[1]["finish_reason"] == "stop"
    assert infos[0]["episode"]["l"] == 2 and infos[1]["episode"]["r"] == 1.0


def test_seeds_are_used_once():
    env = textgym.make_vec("textgym/Length-v0", n_envs=4, seed=3, reward=count_a)
    first = env.reset()
    others = [env.reset() for _ in range(3)]
    env.seed(3)
    np.testing.assert_array_equal(env.reset(), first)
    assert any((other != first).any() for other in others)
    plain = gymnasium.make_vec("textgym/Length-v0", num_envs=4, reward=count_a)
    np.testing.assert_array_equal(plain.reset(seed=environment_seed(3))[0], first)


def drawn(generator):
    """A prompt that names the row's generator."""
    return f"{generator.integers(10**12)}"


def streams(env, count=3):
    """The first prompts of each row, a set for all rows: `count` episodes each."""
    env.reset()
    prompts = [info["prompt"] for info in env.reset_infos]
    for _ in range(count - 1):
        env.step(np.full(env.num_envs, EOS))
        prompts += [info["prompt"] for info in env.reset_infos]
    return set(prompts)


def test_neighbouring_seeds_share_no_prompt_stream():
    textgym.register(
        "test/Drawn-v0", prompts=drawn, reward=count_a, max_prompt_tokens=13, max_new_tokens=4
    )
    lm = tiny_lm(Tokenizer.byte())
    made = [textgym.make_vec("test/Drawn-v0", 8, seed=seed) for seed in range(4)]
    prompts = [streams(env.unwrapped) for env in made]
    assert [len(p) for p in prompts] == [24] * 4
    assert len(set.union(*prompts)) == 4 * 24
    agents = [
        textgym.make_agent("ppo", "test/Drawn-v0", policy=lm, n_envs=8, seed=s) for s in (0, 1)
    ]
    played = [streams(agent.env.unwrapped) for agent in agents]  # Stable-Baselines3 seeds again
    assert played == prompts[:2]


def test_the_native_environment_keeps_gymnasiums_seeds():
    env = TextVectorEnv(task(prompts=drawn, max_prompt_tokens=13), 3)
    env.reset(seed=7)
    assert env.np_random_seed == (7, 8, 9)


def test_a_runs_seed_gives_the_same_streams_on_every_machine():
    first, second, last = 2440950710608614359, 2021340933837429789, 3124152081918690395
    assert [environment_seed(seed) for seed in (0, 1, 2**32 - 1)] == [first, second, last]
    assert environment_seed(None) != environment_seed(None)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "0"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match=r"seed must be a whole number from 0 to 4,294,967,295"):
        textgym.make_vec("textgym/Length-v0", 2, seed=seed)


def test_attributes_are_common_to_the_rows():
    env = textgym.make_vec("textgym/Length-v0", n_envs=3, reward=count_a, render_mode="ansi")
    assert isinstance(env, VecMonitor) and isinstance(env.unwrapped, TextVecEnv)
    env.reset()
    tokenizers = env.get_attr("tokenizer")
    assert len(tokenizers) == 3 and tokenizers[0] is tokenizers[2]
    assert env.get_attr("task", [1])[0].id == "textgym/Length-v0"
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 3
    assert len(env.env_method("observations", indices=0)) == 1
    env.set_attr("note", "x")
    assert env.get_attr("note") == ["x"] * 3
    with pytest.raises(InputError, match="common to all rows"):
        env.set_attr("note", "y", indices=0)
    with pytest.raises(InputError, match="'task' is fixed"):
        env.set_attr("task", None)
    assert len(env.unwrapped.render()) == 3 and env.unwrapped.get_images() == [None] * 3
    env.close()


def test_stepping_without_actions_is_an_error():
    with pytest.raises(InputError, match="call step_async"):
        TextVecEnv(TextVectorEnv(task(), 1)).step_wait()


def test_a_reward_error_leaves_the_rows_as_they_were():
    answers = [[float("nan")], [2.0]]
    env = TextVecEnv(TextVectorEnv(task(reward=lambda p, c: answers.pop(0)), 1))
    env.reset()
    before = env.step(np.array([A]))[0]
    with pytest.raises(RewardError, match="not finite"):
        env.step(np.array([EOS]))
    np.testing.assert_array_equal(env.vector_env.observations(), before)
    assert env.step(np.array([EOS]))[1].tolist() == [2.0]


def test_an_unmodified_sb3_agent_trains_on_it():
    env = VecCheckNan(textgym.make_vec("textgym/Length-v0", 2, seed=0, reward=count_a))
    agent = A2C("MlpPolicy", env, n_steps=8, seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    before = agent.policy.state_dict()["action_net.weight"].clone()
    agent.learn(64)
    assert agent.num_timesteps == 64
    assert (agent.policy.state_dict()["action_net.weight"] != before).any()
    assert agent.ep_info_buffer and agent.ep_info_buffer[0]["l"] <= 32


def test_sb3s_own_check_passes_on_a_single_environment():
    check_env(TextEnv(task()))


def test_rendering_in_sb3s_way(capsys):
    env = TextVecEnv(TextVectorEnv(task(prompts=["p"]), 2))
    env.reset()
    env.step(np.array([A, B]))
    assert env.render() is None and env.render("ansi") == ("pA", "pB")
    assert capsys.readouterr().out == ""
    env.render("human")
    assert capsys.readouterr().out == "[0] pA\n[1] pB\n"
    with pytest.raises(TypeError, match="unknown render mode 'rgb_array'"):
        env.render("rgb_array")
    shown = TextVecEnv(TextVectorEnv(task(prompts=["p"]), 2, render_mode="human"))
    assert shown.render_mode == "human"
    shown.reset()
    shown.step(np.array([EOS, A]))
    shown.render("human")
    assert capsys.readouterr().out == "[0] p\n"
