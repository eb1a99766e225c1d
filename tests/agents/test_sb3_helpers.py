"""Stable-Baselines3's own helpers take an id of ours, as they take any other."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from front_door import read_lines
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.agents import EpisodeReplayBuffer, EpisodeRolloutBuffer
from textgym.agents.runs.recording import recorder_of
from textgym.errors import InputError
from textgym.policies import TextActorCriticPolicy, TextQPolicy

ENV = "test/Helpers-v0"
BYTE = textgym.Tokenizer.byte()
C, D = BYTE.encode("CD")


@pytest.fixture(autouse=True)
def registered():
    """A byte task, with four bytes to write."""
    textgym.register(ENV, prompts=["p", "qq"], reward="length", max_new_tokens=4)


def test_make_vec_env_takes_an_id(tmp_path):
    env = make_vec_env(ENV, n_envs=2, seed=0, monitor_dir=str(tmp_path))
    env.reset()
    for _ in range(4):
        infos = env.step(np.array([C, D]))[3]
    assert [info["completion"] for info in infos] == ["CCCC", "DDDD"]
    assert [info["episode"]["l"] for info in infos] == [4, 4]
    env.close()
    assert len(list(tmp_path.glob("*.monitor.csv"))) == 2


def test_make_vec_env_passes_our_own_keywords_and_render_mode():
    env = make_vec_env(ENV, env_kwargs={"max_new_tokens": 2, "render_mode": "ansi"})
    env.reset()
    env.step(np.array([C]))
    assert env.envs[0].render() in ("pC", "qqC")
    assert env.step(np.array([C]))[2].tolist() == [True]


def test_sb3s_agents_take_an_id():
    mlp = PPO(
        "MlpPolicy", ENV, n_steps=8, batch_size=8, device="cpu", policy_kwargs={"net_arch": [8]}
    )
    mlp.learn(8)
    assert mlp.num_timesteps == 8
    own = PPO(
        TextActorCriticPolicy,
        ENV,
        n_steps=8,
        batch_size=8,
        device="cpu",
        rollout_buffer_class=EpisodeRolloutBuffer,
        policy_kwargs={"model": tiny_lm(BYTE)},
    )
    own.learn(8)
    assert own.num_timesteps == 8
    mean, _ = evaluate_policy(own, make_vec_env(ENV), n_eval_episodes=2)
    assert -50 < mean <= 1


@pytest.mark.parametrize(("cls", "policy"), [(PPO, TextActorCriticPolicy), (DQN, TextQPolicy)])
def test_without_a_model_a_policy_makes_a_fresh_one_that_fits(cls, policy):
    textgym.register("test/Long-v0", prompts=["p"], reward="length", max_new_tokens=300)
    agent = cls(policy, "test/Long-v0", device="cpu")
    assert agent.policy.lm.config.max_position_embeddings == 302
    assert agent.policy.lm.tokenizer.vocab_size == agent.action_space.n


@pytest.mark.parametrize(("cls", "policy"), [(PPO, TextActorCriticPolicy), (DQN, TextQPolicy)])
def test_without_a_model_other_tokenizers_need_one(cls, policy):
    textgym.register(
        "test/Letters2-v0", prompts=["a"], reward="length", tokenizer=letter_tokenizer()
    )
    with pytest.raises(InputError, match=r"knows only bytes .* pass policy_kwargs="):
        cls(policy, "test/Letters2-v0", device="cpu")


def as_rl_zoo(text):
    """A configuration as RL-Zoo 2.9 reads it: YAML, with some of its strings made into objects."""
    [settings] = yaml.safe_load(text).values()
    for name in ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs"):
        if isinstance(settings.get(name), str):
            settings[name] = eval(settings[name])  # noqa: S307, as the Zoo does
    module, _, name = settings["policy"].rpartition(".")
    settings["policy"] = getattr(importlib.import_module(module), name)
    return settings


def documented(part):
    """The code block of docs/agents.md that holds a text."""
    page = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
    [block] = [b for b in re.findall(r"^```\w+\n(.*?)^```$", page, re.M | re.S) if part in b]
    return block


def test_rl_zoos_yaml_names_our_policy_and_replay_buffer():
    settings = as_rl_zoo(documented("textgym/Length-v0:"))
    count, steps = settings.pop("n_envs"), settings.pop("n_timesteps")
    settings |= {"policy_kwargs": {"model": tiny_lm(BYTE)}, "device": "cpu"}
    agent = DQN(env=make_vec_env(ENV, count), **settings)
    assert steps > 0 and type(agent.replay_buffer) is EpisodeReplayBuffer
    agent.learn(32)


def test_rl_zoos_python_configuration_names_our_rollout_buffer():
    names = {}
    exec(documented("hyperparams = {"), names)
    [settings] = names["hyperparams"].values()
    module, _, name = settings["policy"].rpartition(".")
    settings["policy"] = getattr(importlib.import_module(module), name)
    count = settings.pop("n_envs")
    assert settings.pop("n_timesteps") > 0
    assert settings["policy_kwargs"]["model"] == "start"
    settings |= {"policy_kwargs": {"model": tiny_lm(BYTE)}, "device": "cpu", "n_steps": 8}
    agent = PPO(env=make_vec_env(ENV, count), **settings | {"batch_size": 8})
    assert type(agent.rollout_buffer) is EpisodeRolloutBuffer
    agent.learn(8 * count)


def normalised(**keywords):
    return VecNormalize(textgym.make_vec(ENV, 4, seed=0), norm_obs=False, **keywords)


def small_agent(env, **keywords):
    return textgym.make_agent("ppo", env, policy=tiny_lm(BYTE), seed=0, **keywords)


@pytest.mark.parametrize("wrap", [lambda env: env, VecMonitor], ids=["normalised", "monitored"])
def test_evaluation_gets_the_statistics_of_normalised_rewards(tmp_path, wrap):
    training, held_out = normalised(), normalised(training=False, norm_reward=False)
    agent = small_agent(wrap(training), out=tmp_path, n_steps=8, batch_size=8)
    callback = EvalCallback(wrap(held_out), eval_freq=8, n_eval_episodes=2, verbose=0)
    agent.learn(64, callback=callback)
    assert held_out.ret_rms.mean == pytest.approx(training.ret_rms.mean, rel=0.5) != 0
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "text/length" in row] == [32, 64]
    training.save(tmp_path / "statistics.pkl")
    agent.set_env(wrap(training))
    agent.learn(64, callback=callback, reset_num_timesteps=False)
    more = read_lines(tmp_path / "metrics.jsonl")[len(rows) :]
    assert [row["step"] for row in more if "text/length" in row] == [96, 128]


def test_an_evaluation_on_the_agents_own_environment_is_not_part_of_its_record():
    agent = small_agent(ENV, n_envs=4, n_steps=8, batch_size=8)
    recorder = recorder_of(agent)
    for _ in range(2):
        before, _ = evaluate_policy(agent, agent.get_env(), n_eval_episodes=4, deterministic=False)
        assert -1 <= before <= 1 and recorder.episodes == []
        agent.learn(32)
