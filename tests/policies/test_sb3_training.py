"""What users do with Stable-Baselines3: train, evaluate in between, save, load, mix."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from textgym_agents import HOT, SGD, settings, text_agent
from textgym_testing import (
    assert_same_weights,
    letter_env,
    letter_task,
    letter_tokenizer,
    tiny_lm,
)

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.vec_env import environment_seed
from textgym.envs.text_env import TextEnv
from textgym.errors import InputError
from textgym.optimization import ScaledAdam
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_sb3s_own_buffer_and_dummy_env_give_the_same_training(cls):
    lm = tiny_lm(spread=6.0)
    whole = {"batch_size": 24, "n_epochs": 1} if cls is PPO else {}

    def final(env, **keywords):
        kwargs = {"model": lm, **SGD}
        agent = cls(
            TextActorCriticPolicy, env, policy_kwargs=kwargs, **settings(cls, **whole), **keywords
        )
        env.seed(environment_seed(3) if isinstance(env, DummyVecEnv) else 3)
        agent.policy.seed = 5  # our buffer and SB3's draw differently from SB3's seed before it
        return agent.learn(24 * 3).policy

    task = letter_task()
    dummy = DummyVecEnv([lambda: Monitor(TextEnv(task))] * 3)
    slow = final(dummy)
    fast = final(letter_env(), rollout_buffer_class=EpisodeRolloutBuffer)
    assert_same_weights(slow, fast, 2e-5)
    with pytest.raises(AssertionError):
        assert_same_weights(slow.lm, lm, 1e-3)


def test_what_cannot_work_is_refused_in_one_line():
    def refused(message, policy=TextActorCriticPolicy, env=None, model=None, learn=False, **other):
        keywords = {} if isinstance(policy, str) else {"model": model or tiny_lm(), **other}
        with pytest.raises(InputError, match=message) as caught:
            agent = PPO(
                policy,
                env or letter_env(),
                policy_kwargs=keywords,
                rollout_buffer_class=EpisodeRolloutBuffer,
                **settings(PPO),
            )
            agent.learn(24)
        assert "\n" not in str(caught.value)

    refused("which only TextActorCriticPolicy reads", policy="MlpPolicy")
    refused("norm_obs=False", env=VecNormalize(letter_env()))
    refused(
        "tokenizer has 9 tokens, but the environment has 7 actions",
        model=tiny_lm(letter_tokenizer("abcdef")),
    )
    refused(
        "take 11 tokens, but the model's context is 10", model=tiny_lm(max_position_embeddings=10)
    )
    refused("value_trunk must be 'shared' or 'own'", value_trunk="both")
    refused("temperature must be positive", temperature=0.0)
    refused("top_p must be a finite number above 0, at most 1", top_p=2.0)
    refused("mean nothing to Adam: pass optimizer_class=.*ScaledAdam", value_lr_scale=2.0)
    with pytest.raises(InputError, match=r"knows only bytes .* environment has 7: pass policy_kw"):
        PPO(TextActorCriticPolicy, letter_env(), **settings(PPO))
    box = spaces.Box(0, 9, (4,), np.int64)
    for observation, action, message in (
        (box, spaces.Box(0, 1, (2,)), "expected Discrete actions from 0"),
        (box, spaces.Discrete(7, start=1), "expected Discrete actions from 0"),
        (spaces.Box(0, 1, (4,)), spaces.Discrete(7), "one-dimensional integer Box"),
        (spaces.Box(0, 9, (4, 4), np.int64), spaces.Discrete(7), "one-dimensional integer Box"),
    ):
        with pytest.raises(InputError, match=message):
            TextActorCriticPolicy(observation, action, lambda _: 0.1, model=tiny_lm())


def test_reward_normalisation_alone_is_fine():
    env = VecNormalize(letter_env(), norm_obs=False)
    agent = PPO(
        TextActorCriticPolicy,
        env,
        policy_kwargs={"model": tiny_lm(), **SGD},
        rollout_buffer_class=EpisodeRolloutBuffer,
        **settings(PPO),
    )
    agent.learn(48)
    assert env.ret_rms.count > 40


def test_a_given_model_is_copied_and_a_path_is_opened(tmp_path):
    lm = tiny_lm()
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    text_agent(lm=lm).learn(48)
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())
    lm.save_pretrained(tmp_path / "lm")
    assert_same_weights(text_agent(lm=tmp_path / "lm").policy.lm, lm)


def test_the_export_of_an_agent_is_a_copy():
    agent = text_agent()
    lm = CausalLM.from_agent(agent)
    assert_same_weights(lm, agent.policy.lm)
    with torch.no_grad():
        lm.model.norm.weight.add_(1)
    assert not torch.equal(lm.model.norm.weight, agent.policy.lm.model.norm.weight)
    with pytest.raises(InputError, match="expected an agent whose policy is a text policy"):
        CausalLM.from_agent(PPO("MlpPolicy", letter_env(), **settings(PPO)))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("value_trunk", ["shared", "own"])
def test_saving_and_loading_as_sb3_does_keeps_every_prediction(tmp_path, value_trunk, padded):
    lm = tiny_lm(spread=6.0, **({"vocab_size": 9} if padded else {}))
    agent = text_agent(lm=lm, policy={"value_trunk": value_trunk, **HOT})
    agent.learn(48)
    rows = torch.as_tensor(agent._last_obs)
    agent.save(tmp_path / "agent.zip")
    agent.policy.save(tmp_path / "policy.pth")
    again = PPO.load(tmp_path / "agent.zip", env=letter_env(), device="cpu")
    policies = [again.policy, TextActorCriticPolicy.load(tmp_path / "policy.pth", device="cpu")]
    for policy in policies:
        assert_same_weights(policy, agent.policy)
        assert policy.sampling == agent.policy.sampling
        with torch.no_grad():
            assert torch.equal(policy.predict_values(rows), agent.policy.predict_values(rows))
            expected = agent.policy.get_distribution(rows).distribution.probs
            assert torch.equal(policy.get_distribution(rows).distribution.probs, expected)
    again.learn(48)


class CountPredictions(BaseCallback):
    """Calls the policy in every step of a rollout, as a curious callback might."""

    def __init__(self, deterministic):
        super().__init__()
        self.deterministic = deterministic

    def _on_step(self):
        rows = self.locals["new_obs"]
        self.model.predict(rows, deterministic=self.deterministic)
        with torch.no_grad():
            self.model.policy.predict_values(torch.as_tensor(rows[:2]))
        return True


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("env", [{}, {"max_episode_steps": 3}])
def test_evaluating_in_mid_rollout_changes_nothing(env, deterministic):
    def final(*callbacks):
        agent = text_agent(env=env, learning_rate=0.05)
        return agent.learn(24 * 3, callback=list(callbacks)).policy

    evaluation = EvalCallback(
        letter_env(2),
        n_eval_episodes=4,
        eval_freq=5,
        deterministic=deterministic,
        verbose=0,
    )
    alone, watched = final(), final(evaluation, CountPredictions(deterministic))
    assert evaluation.n_calls == 24 and np.isfinite(evaluation.last_mean_reward)
    assert_same_weights(alone, watched)


def test_after_construction_no_global_generator_is_touched():
    agent = text_agent()
    before = torch.get_rng_state(), np.random.get_state()
    agent.learn(24 * 3)
    agent.predict(agent._last_obs)
    after = torch.get_rng_state(), np.random.get_state()
    assert torch.equal(before[0], after[0])
    assert before[1][2] == after[1][2] and np.array_equal(before[1][1], after[1][1])


def test_the_seed_of_the_agent_fixes_the_training():
    first, same, other = (text_agent(seed=seed).learn(48).policy for seed in (1, 1, 2))
    assert_same_weights(first, same)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other, 1e-4)


def test_learning_rates_of_trunk_and_head():
    agent = text_agent(
        policy={"optimizer_class": ScaledAdam, "value_lr_scale": 7.0, "trunk_start_step": 6},
        learning_rate=0.01,
    )
    before = copy.deepcopy(agent.policy)
    agent.learn(24)  # one rollout: 2 epochs × 3 minibatches
    assert_same_weights(agent.policy.lm, before.lm)
    assert not torch.equal(agent.policy.value_net.weight, before.value_net.weight)
    agent.learn(24, reset_num_timesteps=False)
    with pytest.raises(AssertionError):
        assert_same_weights(agent.policy.lm, before.lm, 1e-3)
    trunk, head = agent.policy.optimizer.param_groups
    assert trunk["lr_scale"] == 1.0 and head["lr_scale"] == 7.0
