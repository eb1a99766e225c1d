"""sb3-contrib's MaskablePPO, unmodified, on the text policy and the episode buffer."""

import re
from collections import Counter

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from textgym_agents import SGD, settings
from textgym_testing import (
    assert_same_weights,
    count_a,
    letter_env,
    letter_task,
    letter_tokenizer,
    set_up,
    tiny_lm,
)

import textgym
from textgym import constraints, registry
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.maskable_rollout_buffer import MaskableEpisodeRolloutBuffer
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.constraints.token_automaton import TokenAutomaton
from textgym.envs.text_env import TextEnv
from textgym.errors import InputError
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.maskable import MaskableTextPolicy

PATTERN = "(a|bc){1,2}d?|c"
ID = "test/Masked-v0"


def maskable(env=None, *, lm=None, policy=None, buffer=None, cls=MaskablePPO, **changes):
    is_maskable = cls is MaskablePPO
    agent = cls(
        MaskableTextPolicy if is_maskable else TextActorCriticPolicy,
        env or letter_env(constraint=PATTERN),
        policy_kwargs={"model": lm or tiny_lm(spread=6.0), **SGD, **(policy or {})},
        rollout_buffer_class=(
            MaskableEpisodeRolloutBuffer if is_maskable else EpisodeRolloutBuffer
        ),
        rollout_buffer_kwargs=buffer,
        **settings(PPO, **changes),
    )
    # The two build policy and buffer in different order, so SB3's seed gives them other draws.
    agent.policy.seed, agent.rollout_buffer.rng = 5, np.random.default_rng(6)
    return agent


@pytest.mark.parametrize("constraint", [None, PATTERN], ids=["free", "constrained"])
@pytest.mark.parametrize("has_kl", [False, True])
def test_it_trains_exactly_as_ppo_does(constraint, has_kl):
    def final(cls):
        kl = KLPenalty(tiny_lm(spread=5.0, seed=8), 0.3) if has_kl else None
        env = letter_env(constraint=constraint, max_episode_steps=5)
        return maskable(env, cls=cls, buffer={"kl": kl}).learn(24 * 3)

    one, other = final(MaskablePPO), final(PPO)
    assert type(one) is MaskablePPO
    assert_same_weights(one.policy, other.policy)
    assert np.array_equal(one.rollout_buffer.actions, other.rollout_buffer.actions)
    with pytest.raises(AssertionError):
        assert_same_weights(one.policy.lm, tiny_lm(spread=6.0), 1e-3)


def test_nothing_in_the_buffer_is_as_wide_as_the_vocabulary():
    agent = maskable()
    agent.learn(24)
    buffer = agent.rollout_buffer
    assert isinstance(buffer, EpisodeRolloutBuffer)
    largest = max(v.size for v in vars(buffer).values() if isinstance(v, np.ndarray))
    assert largest <= 8 * 3 + 3 * 11  # steps × rows, or the rows as they stand
    assert not hasattr(buffer, "action_masks")
    batch = next(buffer.get(8))
    assert batch.action_masks is None and len(batch.observations) == len(batch.actions)


def test_use_masking_is_no_matter():
    """The constraint is the task's; sb3-contrib's switch only says who is asked."""
    agents = [maskable() for _ in range(2)]
    agents[0].learn(48)
    agents[1].learn(48, use_masking=False)
    assert_same_weights(agents[0].policy, agents[1].policy)


def test_evaluations_of_sb3_contrib():
    agent = maskable()
    env = letter_env(2, constraint=PATTERN)
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=6, deterministic=False)
    assert 0 <= mean <= 2
    callback = MaskableEvalCallback(env, eval_freq=8, n_eval_episodes=3, verbose=0)
    agent.learn(24, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    env.reset()
    observation = env.reset()
    masks = np.stack(env.env_method("action_masks"))
    actions, _ = agent.predict(observation, action_masks=masks)
    assert set(actions.tolist()) <= {3, 4, 5}
    single = TextEnv(letter_task(constraint=PATTERN))
    row, _ = single.reset(seed=0)
    action, _ = agent.predict(row, action_masks=single.action_masks())
    assert action.shape == () and int(action) in (3, 4, 5)


def test_a_dummy_env_of_single_environments_works_too():
    task = letter_task(constraint=PATTERN)
    agent = maskable(DummyVecEnv([lambda: Monitor(TextEnv(task))] * 3))
    agent.learn(48)
    assert agent.num_timesteps == 48


def test_an_environment_of_another_constraint_is_noticed():
    other = TokenAutomaton(
        constraints.regex("(a|b)*c"), letter_tokenizer(), prompts=[[3], [4, 5, 6], [5, 6, 3, 4, 4]]
    )
    agent = maskable(policy={"masks": TokenMasks(other)})
    with pytest.raises(InputError, match="mean different constraints: make the policy with this"):
        agent.learn(48)


def test_vocabulary_wide_masks_are_refused():
    def all_legal(env):
        return np.ones(7, dtype=bool)

    task = letter_task(constraint=PATTERN)
    env = DummyVecEnv([lambda: ActionMasker(Monitor(TextEnv(task)), all_legal)] * 3)
    with pytest.raises(InputError, match="give the task a constraint instead of wrapping it in an"):
        maskable(env).learn(24)


def test_get_distribution_and_evaluate_take_the_keyword():
    agent = set_up(maskable())
    rows = torch.as_tensor(agent._last_obs)
    states = np.stack(agent.env.env_method("action_masks"))
    with torch.no_grad():
        actions, values, log_probs = agent.policy(rows, action_masks=states)
        again, chosen, _ = agent.policy.evaluate_actions(rows, actions, action_masks=states)
        distribution = agent.policy.get_distribution(rows, action_masks=states)
    torch.testing.assert_close(chosen, log_probs, rtol=0, atol=1e-5)
    torch.testing.assert_close(again, values, rtol=0, atol=1e-5)
    torch.testing.assert_close(distribution.log_prob(actions), log_probs, rtol=0, atol=1e-5)


# ---- By its word --------------------------------------------------------------------------------


@pytest.fixture
def task_id():
    textgym.register(
        ID,
        prompts=["a", "bcd", "cdabb"],
        reward=count_a,
        max_new_tokens=6,
        tokenizer=letter_tokenizer(),
    )
    yield ID
    registry.tasks.unregister(ID)


def test_by_its_word_with_a_run_directory_and_back(task_id, tmp_path):
    schema = constraints.regex(PATTERN)
    made = textgym.make_agent(
        "maskable_ppo",
        task_id,
        policy=tiny_lm(spread=6.0),
        n_envs=4,
        n_steps=16,
        seed=0,
        kl_coef=0.1,
        env_kwargs={"constraint": schema},
        out=tmp_path / "run",
    )
    assert type(made) is MaskablePPO and made.rollout_buffer.kl.masks is made.policy.masks
    made.learn(128)
    lines = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    assert lines and all(
        re.fullmatch(PATTERN, re.search(r'"completion": "(\w*)"', line)[1]) for line in lines
    )
    save_agent(made, tmp_path / "saved", environment=made.text_environment)
    assert made.text_environment["env_kwargs"] == {"constraint": vars(schema)}
    again = textgym.load_agent(tmp_path / "saved")
    assert type(again) is MaskablePPO and again.policy.masks.automaton.constraint == schema
    assert_same_weights(again.policy, made.policy)
    again.learn(64)


def test_evaluate_obeys_as_well(task_id):
    """Also prompts that the task does not have: the environment knows where they end."""
    report = textgym.evaluate(
        task_id,
        policy=tiny_lm(spread=6.0),
        reference=tiny_lm(spread=6.0, seed=4),
        prompts=["dd", "ca"],
        env_kwargs={"constraint": "(a|bc)d"},
        n_envs=2,
    )
    assert {e.completion for e in report.episodes} <= {"ad", "bcd"} and report.kl is not None
    drawn = textgym.evaluate(
        task_id, policy=tiny_lm(spread=1.0), n_episodes=60, env_kwargs={"constraint": "(a|bc)d"}
    )
    counts = Counter(e.completion for e in drawn.episodes)
    assert counts.keys() == {"ad", "bcd"} and drawn.finish == {"stop": 1.0}


def test_the_kl_of_an_evaluation_is_that_of_masked_distributions(task_id):
    played, other = tiny_lm(spread=6.0), tiny_lm(spread=6.0)
    with torch.no_grad():  # the two differ in the letter d alone, which nobody may write
        other.lm_head.weight[6] += 3.0

    def kl(constraint):
        settings = {"constraint": constraint, "max_new_tokens": 3}
        report = textgym.evaluate(
            task_id, policy=played, reference=other, prompts=["a"] * 40, env_kwargs=settings
        )
        return report.kl.mean

    assert kl("[abc]{1,3}") == pytest.approx(0.0, abs=1e-6)
    assert abs(kl(None)) > 0.01


def test_sb3_contribs_own_policy_takes_the_masks(task_id):
    def mask(env):
        env = env.unwrapped
        return env.automaton.is_legal(int(env.action_masks()))

    env = ActionMasker(Monitor(gymnasium.make(task_id, constraint=PATTERN)), mask)
    agent = MaskablePPO("MlpPolicy", env, n_steps=16, batch_size=8, policy_kwargs={"net_arch": [4]})
    agent.learn(16)
    assert agent.rollout_buffer.action_masks.sum(-1).max() < env.action_space.n
