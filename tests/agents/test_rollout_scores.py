"""One call of the reward model a rollout: everything is the same number as when asked at once."""

import json

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor, VecNormalize
from textgym_testing import assert_same_weights, letter_task, letter_tokenizer, tiny_lm

import textgym
from textgym.agents import EpisodeReplayBuffer, EpisodeRolloutBuffer
from textgym.agents.building.learning import LearnInRun
from textgym.agents.rollouts.rollout_scores import scores_of
from textgym.agents.rollouts.text_monitor import TextMonitor
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs import scoring
from textgym.envs.replies import Reply
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, RewardError
from textgym.policies import TextActorCriticPolicy, TextQPolicy
from textgym.rewards import RewardOutput

ON_POLICY = ("ppo", "a2c", "trpo", "maskable_ppo", "nlpo")
OFF_POLICY = ("dqn", "qrdqn")
GROUPS = ("grpo", "rloo", "reinforce", "best_of_n", "dpo")
WORDS = (*ON_POLICY, *OFF_POLICY, *GROUPS)
SETTINGS = {"ppo": {"n_steps": 12, "kl_coef": 0.03}, "grpo": {"kl_coef": 0.03}}


class Counting:
    """Scores with many digits, and how many texts were in each call."""

    name = "counting"

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, completions, **columns):
        self.calls.append(len(completions))
        return [
            (text.count("a") + 0.3 * len(text) + len(p) / 7) / 3
            for p, text in zip(prompts, completions, strict=True)
        ]


class Dense(Counting):
    """The same with a share for every letter a, and a component that does not always apply."""

    def __call__(self, prompts, completions, **columns):
        scores = super().__call__(prompts, completions)
        spans = [[(i, i + 1, 0.37) for i, c in enumerate(t) if c == "a"] for t in completions]
        parts = [float(len(t)) if "b" in t else None for t in completions]
        return RewardOutput(scores, {"length where b": parts}, spans)


class Unknown(VecEnvWrapper):
    """A wrapper that nobody knows: it may read the rewards."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        return self.venv.step_wait()


def answer(prompt, turns):
    """Two turns of the player at most."""
    return " b" if len(turns) == 1 else None


def paid_answer(prompt, turns):
    """The same, and each turn is paid by its letters; the last one beside the text's score."""
    paid = 0.1 + turns[-1].count("c") / 3
    return Reply(" b" if len(turns) == 1 else "", reward=paid, terminated=len(turns) > 1)


CASES = {
    "plain": {},
    "dense": {"reward": Dense},
    "truncated": {"max_episode_steps": 4},
    "unfinished": {"unfinished_score": -0.7, "max_new_tokens": 4},
    "multi-turn": {"reply": answer, "max_context": 30},
    "all of it": {
        "reward": Dense,
        "max_episode_steps": 9,
        "max_new_tokens": 12,
        "reply": paid_answer,
        "max_context": 30,
    },
}


def text_env(*, reward=Counting, max_episode_steps=None, num_generations=1, n_envs=8, **fields):
    """An environment as `make_vec` gives it, and its reward model."""
    if "reply" in fields:
        fields["tokenizer"] = letter_tokenizer("abcd ")
    task = letter_task(reward=reward(), **fields)
    rows = TextVectorEnv(
        task, n_envs, max_episode_steps=max_episode_steps, num_generations=num_generations
    )
    return TextMonitor(TextVecEnv(rows))


def reward_of(env):
    return env.get_attr("task")[0].reward


class Look(BaseCallback):
    """What a user's callback sees of the episodes, and how often the reward model was asked."""

    def __init__(self, reward, stop_at=None):
        super().__init__()
        self.reward, self.stop_at = reward, stop_at
        self.infos, self.at_step, self.at_rollout_end, self.calls = [], [], [], []
        self.steps = []

    def _on_rollout_start(self):
        self.asked = len(self.reward.calls)
        self.weights = {k: v.clone() for k, v in self.model.policy.state_dict().items()}

    def _on_step(self):
        ended = [info for info in self.locals["infos"] if "episode" in info]
        self.infos += ended
        self.at_step += [info["episode"]["r"] for info in ended]
        self.steps += [self.n_calls - 1] * len(ended)
        return self.stop_at is None or self.num_timesteps < self.stop_at

    def _on_rollout_end(self):
        self.calls.append(self.reward.calls[self.asked :])
        self.at_rollout_end = [info["episode"]["r"] for info in self.infos]


def run(word, directory, *, at_once, **fields):
    """An agent after some updates, its callback and its record without the clock."""
    groups = 2 if word in GROUPS and word != "reinforce" else 1
    env = text_env(num_generations=groups, **fields)
    look = Look(reward_of(env))
    tokenizer = env.get_attr("tokenizer")[0]
    agent = textgym.make_agent(
        word,
        Unknown(env) if at_once else env,
        policy=tiny_lm(tokenizer, spread=6.0),
        seed=1,
        out=directory,
        **({"num_generations": groups} if word in GROUPS else {}),
        **SETTINGS.get(word, {}),
    )
    agent.learn(240, callback=look)
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    rows = [
        {k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines
    ]
    return agent, look, rows


EVERY = [(word, "all of it") for word in WORDS]
SINGLE = [("dqn", "plain"), ("grpo", "plain"), *(("ppo", case) for case in [*CASES][:-1])]


@pytest.mark.parametrize(("word", "case"), [*EVERY, *SINGLE])
def test_scores_in_one_call_and_at_once_are_the_same_to_the_last_digit(
    word, case, tmp_path, monkeypatch
):
    monkeypatch.setattr(LearnInRun, "save", lambda self: None)  # which takes its time
    agent, look, rows = run(word, tmp_path / "together", at_once=False, **CASES[case])
    other, other_look, other_rows = run(word, tmp_path / "at_once", at_once=True, **CASES[case])
    assert_same_weights(agent.policy, other.policy)
    assert rows == other_rows and len(rows) > 1
    ours = [(info["r"], info["l"]) for info in agent.ep_info_buffer]
    assert ours == [(info["r"], info["l"]) for info in other.ep_info_buffer] and ours
    assert look.at_rollout_end == other_look.at_rollout_end == other_look.at_step
    for info, other_info in zip(look.infos, other_look.infos, strict=True):
        assert info.keys() == other_info.keys()
        assert info["reward_components"] == other_info["reward_components"]
        split = info.get("token_rewards", np.zeros(0))
        np.testing.assert_array_equal(split, other_info.get("token_rewards", np.zeros(0)))
    assert max(map(len, look.calls)) == 1 < max(map(len, other_look.calls))
    assert [sum(calls) for calls in look.calls] == [sum(calls) for calls in other_look.calls]


def test_a_text_is_nan_until_it_is_scored_and_the_same_dictionary_is_filled_in():
    env = text_env(max_episode_steps=4)
    look = Look(reward_of(env))
    agent = textgym.make_agent("ppo", env, policy=tiny_lm(spread=6.0), seed=1, n_steps=12)
    agent.learn(96, callback=look)
    is_scored = [info["finish_reason"] != "truncated" for info in look.infos]
    assert any(is_scored) and not all(is_scored)
    assert [bool(np.isnan(r)) for r in look.at_step] == is_scored
    for info, scored in zip(look.infos, is_scored, strict=True):
        prompt, text = info["prompt"], info["completion"]
        expected = (text.count("a") + 0.3 * len(text) + len(prompt) / 7) / 3 if scored else 0.0
        assert info["episode"]["r"] == np.float32(expected)


def long_form(cls=PPO, env=None, **keywords):
    """Stable-Baselines3's own class with our buffer, as the docs write it."""
    policy = {"model": tiny_lm(spread=6.0)}
    if cls is DQN:
        return DQN(
            TextQPolicy,
            env,
            policy_kwargs=policy,
            replay_buffer_class=EpisodeReplayBuffer,
            learning_starts=0,
            train_freq=8,
            seed=0,
            **keywords,
        )
    return PPO(
        TextActorCriticPolicy,
        env,
        policy_kwargs=policy,
        rollout_buffer_class=EpisodeRolloutBuffer,
        n_steps=12,
        batch_size=24,
        seed=0,
        **keywords,
    )


@pytest.mark.parametrize("cls", [PPO, DQN])
def test_the_long_form_asks_once_a_rollout_too(cls):
    agents, looks = [], []
    for wrap in (lambda env: env, Unknown):
        env = text_env()
        looks.append(Look(reward_of(env)))
        agents.append(long_form(cls, wrap(env)))
        agents[-1].learn(100, callback=looks[-1], log_interval=1)
    assert_same_weights(agents[0].policy, agents[1].policy)
    assert {len(calls) for calls in looks[0].calls} == {1}
    assert max(len(calls) for calls in looks[1].calls) > 2
    assert looks[0].at_rollout_end == looks[1].at_step


@pytest.mark.parametrize("word", ["ppo", "dqn", "grpo", "long form"])
def test_a_rollout_that_a_callback_stops_scores_what_waits(word):
    env = text_env(num_generations=2 if word == "grpo" else 1)
    look = Look(reward_of(env), stop_at=32)
    if word == "long form":
        agent = long_form(PPO, env)
    else:
        keywords = {"num_generations": 2, "n_groups": 40} if word == "grpo" else {}
        keywords |= {"train_freq": 40} if word == "dqn" else {}
        lm = tiny_lm(spread=6.0)
        agent = textgym.make_agent(word, env, policy=lm, seed=1, **keywords)
    agent.learn(1000, callback=look)
    assert agent.num_timesteps == 32 and len(look.calls) == 0
    assert np.isnan(look.at_step).all() and len(look.at_step) > 2
    assert not np.isnan([info["episode"]["r"] for info in look.infos]).any()
    assert len(reward_of(env).calls) == 1
    assert not np.isnan([info["r"] for info in agent.ep_info_buffer]).any()
    env.reset()
    play(env)
    assert len(reward_of(env).calls) > 1, "whoever steps the environment gets scores at once"


def play(env, steps=30):
    """Random letters; the returns of the episodes that end."""
    rng = np.random.default_rng(0)
    infos = [info for _ in range(steps) for info in env.step(rng.integers(2, 7, env.num_envs))[3]]
    return [float(info["episode"]["r"]) for info in infos if "episode" in info]


def test_a_plain_environment_and_evaluation_in_mid_rollout_score_at_once(tmp_path):
    env, eval_env = text_env(), text_env()
    env.reset()
    returns = play(env)
    assert returns and not np.isnan(returns).any()
    look = Look(reward_of(env))
    evaluate = EvalCallback(
        eval_env, n_eval_episodes=3, eval_freq=5, log_path=str(tmp_path), verbose=0
    )
    agent = textgym.make_agent("ppo", env, policy=tiny_lm(spread=6.0), seed=1, n_steps=12)
    agent.learn(96, callback=[look, evaluate])
    results = np.load(tmp_path / "evaluations.npz")["results"]
    assert results.size and not np.isnan(results).any()
    assert {len(calls) for calls in look.calls} == {1}


def test_a_reset_by_somebody_else_scores_at_once_what_ends_later():
    env = text_env()
    scores = scores_of(env)
    env.reset()
    scores.open()
    first = play(env)
    assert len(first) > 2 and np.isnan(first).all()
    env.reset()
    later = play(env)
    assert later and not np.isnan(later).any()
    waiting = list(scores.waiting)
    scores.settle()
    assert len(waiting) == len(first) and not scores.waiting
    assert not np.isnan([text.reward for text in waiting]).any()


def test_dense_rewards_without_a_monitor_are_the_same_too():
    agents = [long_form(PPO, wrap(text_env(reward=Dense).venv)) for wrap in (lambda e: e, Unknown)]
    for agent in agents:
        agent.learn(96)
    assert agents[0].rollout_buffer.scores and agents[1].rollout_buffer.scores is None
    np.testing.assert_array_equal(*(agent.rollout_buffer.rewards for agent in agents))
    assert_same_weights(agents[0].policy, agents[1].policy)


WRAPPERS = {
    "nothing": (lambda env, tmp: env, True),
    "an unknown wrapper": (lambda env, tmp: Unknown(env), False),
    "VecNormalize": (lambda env, tmp: VecNormalize(env, norm_obs=False), False),
    "SB3's own monitor": (lambda env, tmp: VecMonitor(env.venv), False),
    "a monitor's file": (lambda env, tmp: TextMonitor(env.venv, str(tmp / "monitor.csv")), False),
    "no monitor": (lambda env, tmp: env.venv, True),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_who_reads_rewards_on_their_way_gets_them_at_once(name, tmp_path):
    wrap, waits = WRAPPERS[name]
    env = text_env()
    reward = reward_of(env)
    wrapped = wrap(env, tmp_path)
    assert (scores_of(wrapped) is not None) == waits
    look = Look(reward)
    textgym.make_agent("ppo", wrapped, policy=tiny_lm(spread=6.0), seed=1, n_steps=24).learn(
        96, callback=look
    )
    wrapped.close()
    assert np.isnan(look.at_step).any() == waits
    assert (len(look.calls[0]) == 1) == waits


class Failing(Counting):
    """Raises for a text with "db" in it, or answers NaN for it."""

    how = "raise"

    def __call__(self, prompts, completions, **columns):
        scores = super().__call__(prompts, completions)
        for i, text in enumerate(completions):
            if "db" in text:
                if self.how == "raise":
                    raise ValueError(f"no {text}")
                scores[i] = float("nan")
        return scores


@pytest.mark.parametrize("how", ["raise", "nan"])
@pytest.mark.parametrize("word", ["ppo", "dqn", "grpo"])
def test_a_reward_that_fails_in_a_batch_names_its_own_text_and_step(word, how):
    env = text_env(
        reward=Failing,
        num_generations=2 if word == "grpo" else 1,
        prompts=[f"{'abcd'[i]}{'abcd'[j]}" for i in range(4) for j in range(4)],
    )
    reward_of(env).how = how
    lm = tiny_lm(spread=6.0)
    keywords = {"num_generations": 2, "n_groups": 8} if word == "grpo" else {}
    agent = textgym.make_agent(word, env, policy=lm, seed=1, **keywords)
    look = Look(reward_of(env))
    with pytest.raises(RewardError) as caught:
        agent.learn(1000, callback=look)
    at_fault = [i for i, info in enumerate(look.infos) if "db" in info["completion"]]
    first = look.infos[at_fault[0]]
    assert at_fault[0] > 0 and f"(prompt {first['prompt']!r})" in str(caught.value)
    assert str(caught.value).endswith(f"at step {look.steps[at_fault[0]]}")
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, look.weights[name]), name


def test_after_a_failure_the_texts_are_asked_about_again_and_a_reset_gives_them_up():
    env = text_env(reward=Failing)
    agent = textgym.make_agent("ppo", env, policy=tiny_lm(spread=6.0), seed=1, n_steps=12)
    with pytest.raises(RewardError, match="raised ValueError"):
        agent.learn(500)
    reward_of(env).how = "recovered"
    failed = [info for info in agent.ep_info_buffer if np.isnan(info["r"])]
    reward_of(env).__class__ = Counting
    agent.learn(48, reset_num_timesteps=False)
    assert failed and not np.isnan([info["r"] for info in failed]).any()


def test_much_text_is_scored_before_the_rollout_is_over(monkeypatch):
    monkeypatch.setattr(scoring, "MOST_WAITING", 60)
    env = text_env()
    look = Look(reward_of(env))
    agent = textgym.make_agent("ppo", env, policy=tiny_lm(spread=6.0), seed=1, n_steps=24)
    agent.learn(96, callback=look)
    assert 1 < len(look.calls[0]) < 5
    monkeypatch.undo()
    env = text_env()
    other = textgym.make_agent("ppo", env, policy=tiny_lm(spread=6.0), seed=1, n_steps=24)
    other.learn(96)
    assert_same_weights(agent.policy, other.policy)


def test_agents_are_saved_without_what_scores_them(tmp_path):
    env = text_env()
    agent = long_form(PPO, env)
    agent.learn(96)
    agent.save(tmp_path / "agent")
    again = PPO.load(tmp_path / "agent", env=env)
    look = Look(reward_of(env))
    again.learn(96, callback=look)
    assert {len(calls) for calls in look.calls} == {1}
    q_agent = long_form(DQN, text_env())
    q_agent.learn(64)
    q_agent.save_replay_buffer(tmp_path / "replay")
    q_agent.load_replay_buffer(tmp_path / "replay")
    q_agent.learn(64)


def test_a_buffer_made_by_hand_scores_at_once():
    env = text_env()
    buffer = EpisodeRolloutBuffer(4, env.observation_space, env.action_space, n_envs=4)
    assert buffer.scores is None
    with pytest.raises(InputError):
        buffer.add(env.reset(), *[np.zeros(4)] * 5)
