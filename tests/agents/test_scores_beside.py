"""A reward model that is asked while the rollout goes on: the same numbers, and no waiting."""

import asyncio
import copy
import pickle
import threading

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from textgym_testing import assert_same_weights, letter_task, tiny_lm

import textgym
from textgym.agents.rollouts.text_monitor import TextMonitor
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import RewardError

WORDS = ("ppo", "dqn", "grpo")


def scores(prompts, completions):
    return [(text.count("a") + 0.3 * len(text)) / 7 for text in completions]


async def later(prompts, completions):
    await asyncio.sleep(0)
    return scores(prompts, completions)


def agent_on(word, reward, *, num_generations=2, **fields):
    groups = num_generations if word == "grpo" else 1
    rows = TextVectorEnv(letter_task(reward=reward, **fields), 8, num_generations=groups)
    keywords = {"num_generations": groups} if word == "grpo" else {}
    env = TextMonitor(TextVecEnv(rows))
    return textgym.make_agent(word, env, policy=tiny_lm(spread=6.0), seed=1, **keywords)


@pytest.mark.parametrize("word", WORDS)
def test_threads_and_event_loops_change_no_number(word):
    agent = agent_on(word, scores)
    agent.learn(200)
    for reward, fields in (
        (scores, {"reward_workers": 3}),
        (later, {}),
        (later, {"reward_workers": 0}),
    ):
        other = agent_on(word, reward, **fields)
        other.learn(200)
        assert_same_weights(agent.policy, other.policy)
        assert [e["r"] for e in agent.ep_info_buffer] == [e["r"] for e in other.ep_info_buffer]


class LetGo(BaseCallback):
    """Lets the reward model answer only once the rollout has gone on for some steps."""

    def __init__(self, may_answer, has_begun):
        super().__init__()
        self.may_answer, self.has_begun, self.at_end = may_answer, has_begun, []

    def _on_step(self):
        ended = [info for info in self.locals["infos"] if "episode" in info]
        if ended:
            assert self.has_begun.wait(30), "nobody is asked while the rollout goes on"
            assert all(np.isnan(info["episode"]["r"]) for info in ended)
            self.steps_since = 0
        if self.has_begun.is_set() and self.n_calls % 10 == 0:
            self.may_answer.set()
        return True

    def _on_rollout_end(self):
        assert not any(np.isnan(e["r"]) for e in self.model.ep_info_buffer)
        self.at_end.append(len(self.model.ep_info_buffer))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("is_async", [False, True])
def test_the_rollout_goes_on_while_the_reward_model_thinks(word, is_async):
    may_answer, has_begun = threading.Event(), threading.Event()

    def blocks(prompts, completions):
        has_begun.set()
        assert may_answer.wait(30), "the rollout waits for the score"
        return scores(prompts, completions)

    async def pauses(prompts, completions):
        has_begun.set()
        while not may_answer.is_set():
            await asyncio.sleep(0.001)
        return scores(prompts, completions)

    agent = agent_on(word, pauses if is_async else blocks, reward_workers=2, max_new_tokens=12)
    callback = LetGo(may_answer, has_begun)
    agent.learn(300, callback=callback)
    assert callback.at_end and max(callback.at_end) > 4


@pytest.mark.parametrize("word", WORDS)
def test_what_fails_beside_the_rollout_names_its_text_and_the_weights_stay(word):
    def fails(prompts, completions):
        if any("db" in text for text in completions):
            raise ValueError("db")
        return scores(prompts, completions)

    agent = agent_on(word, fails, reward_workers=2, prompts=["ab", "cd", "bc"])
    seen = []

    class Look(BaseCallback):
        def _on_rollout_start(self):
            self.weights = {k: v.clone() for k, v in self.model.policy.state_dict().items()}

        def _on_step(self):
            for info in self.locals["infos"]:
                if "db" in info.get("completion", ""):
                    seen.append(f"(prompt {info['prompt']!r}) at step {self.n_calls - 1}")
            return True

    look = Look()
    with pytest.raises(RewardError, match="raised ValueError: db") as caught:
        agent.learn(2000, callback=look)
    assert str(caught.value).split(": db ")[1] == seen[0]
    for name, value in agent.policy.state_dict().items():
        assert value.equal(look.weights[name]), name


def test_a_part_of_a_sum_may_be_async():
    from textgym.reward_models import WeightedSum

    total = WeightedSum({"now": (scores, 0.5), "later": (later, 0.5)})
    assert total(["p", "p"], ["aa", "b"]).scores == pytest.approx(scores("pp", ["aa", "b"]))


BESIDE = [(later, {}), (scores, {"reward_workers": 2})]


@pytest.mark.parametrize(("reward", "fields"), BESIDE)
def test_a_copied_environment_goes_on_equally(reward, fields):
    single = TextEnv(letter_task(reward=reward, **fields))
    many = TextMonitor(TextVecEnv(TextVectorEnv(letter_task(reward=reward, **fields), 3)))
    many.seed(0)
    single.reset(seed=0)
    many.reset()
    rng = np.random.default_rng(0)
    size = single.action_space.n
    single.step(int(rng.integers(size)))
    many.step(rng.integers(size, size=3))
    for env, shape in ((single, None), (many, 3)):
        twins = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]  # noqa: S301
        paid = 0.0
        for _ in range(30):
            actions = rng.integers(size, size=shape)
            expected = env.step(actions)
            paid += float(np.sum(expected[1]))
            for twin in twins:
                got = twin.step(actions)
                np.testing.assert_array_equal(got[0], expected[0])
                assert np.array_equal(got[1], expected[1]) and np.array_equal(got[2], expected[2])
            if env is single and (expected[2] or expected[3]):
                for one in (env, *twins):
                    one.reset()
        assert paid > 0


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(("reward", "fields"), [*BESIDE, (scores, {})])
def test_a_copied_agent_learns_on_equally(word, reward, fields):
    agent = agent_on(word, reward, **fields)
    agent.learn(100)
    twin = copy.deepcopy(agent)
    for one in (agent, twin):
        one.learn(100, reset_num_timesteps=False)
    assert_same_weights(agent.policy, twin.policy)


class CopyInMidRollout(BaseCallback):
    """Copies the agent while texts wait, and has the copy score them."""

    twin = None
    is_compared = False

    def _on_step(self):
        scores = self.model.env.unwrapped.scores
        if self.twin is None and len(scores.waiting) > 3 and self.n_calls > 5:
            self.held = held_by(self.model)
            before = paid(self.held)
            self.twin = copy.deepcopy(self.model)
            own = self.twin.env.unwrapped.scores
            own.settle()
            assert not own.waiting
            self.expected = paid(held_by(self.twin))
            assert np.isfinite(self.expected).all() and self.expected.any()
            np.testing.assert_array_equal(paid(self.held), before)
            assert all(np.isnan(text.reward) for text in scores.waiting)
        return True

    def _on_rollout_end(self):
        if self.twin is not None and not self.is_compared:
            np.testing.assert_array_equal(paid(self.held), self.expected)
            self.is_compared = True


def held_by(agent):
    """What has the rewards of a rollout so far: arrays, or episodes."""
    if agent.rollout_buffer is not None:
        return [agent.rollout_buffer.rewards[: agent.rollout_buffer.pos]]
    collector = agent._collector
    return [e for group in [*collector._whole, *collector._waiting.values()] for e in group]


def paid(held):
    return np.concatenate([np.ravel(getattr(one, "reward", one)) for one in held])


@pytest.mark.parametrize("word", ["ppo", "grpo"])
@pytest.mark.parametrize(("reward", "fields"), [*BESIDE, (scores, {})])
def test_a_copy_made_while_texts_wait_asks_again_and_pays_itself_alone(word, reward, fields):
    agent = agent_on(word, reward, **fields)
    callback = CopyInMidRollout()
    agent.learn(200, callback=callback)
    assert callback.is_compared
