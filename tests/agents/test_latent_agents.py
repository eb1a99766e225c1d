"""Agents with latent actions: SB3's own classes find a z that is known in closed form."""

import re

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
from textgym_latents import LetterDecoder

import textgym
from textgym import registry
from textgym.errors import InputError
from textgym.latent_decoders import check_latents
from textgym.tokenizer import Tokenizer

ID = "test/LatentAgents-v0"


class NumberDecoder:
    """Writes z down in figures; the prompt is a number too, and what the encoder sees of it."""

    latent_size, observation_size = 2, 1

    def __init__(self):
        self.tokenizer = Tokenizer.byte()

    def encode_prompts(self, prompts):
        return np.array([[float(prompt.split(":")[0])] for prompt in prompts], np.float32)

    def decode_latents(self, latents, prompts=None, *, rng=None, max_new_tokens):
        rows = check_latents(latents, 2)
        return [self.tokenizer.encode(" ".join(f"{x:.3f}" for x in row)) for row in rows]


def near(prompts, completions):
    """1 - the squared distance to (x, -x/2) of the prompt's number x: best z in closed form, 1."""
    scores = []
    for prompt, completion in zip(prompts, completions, strict=True):
        x = float(prompt.split(":")[0])
        z = np.array([float(part) for part in completion.split()])
        scores.append(1.0 - float(((z - [x, -x / 2]) ** 2).sum()))
    return scores


@pytest.fixture(autouse=True)
def task():
    prompts = [f"{x:.2f}:" for x in (-1.5, -0.75, 0.0, 0.75, 1.5)]
    textgym.register(
        ID, prompts=prompts, reward=near, max_new_tokens=24, tokenizer=NumberDecoder().tokenizer
    )
    yield
    registry.tasks.unregister(ID)


def score_of(agent):
    """The mean reward of the agent's best guesses."""
    env = textgym.make_vec(ID, 20, seed=99, decoder=NumberDecoder())
    z, _ = agent.predict(env.reset(), deterministic=True)
    return float(env.step(z)[1].mean())


@pytest.mark.parametrize(
    ("word", "texts", "bar"), [("sac", 1800, 0.95), ("ppo", 5000, 0.95), ("td3", 1200, 0.98)]
)
def test_a_z_that_is_known_is_found(word, texts, bar):
    agent = textgym.make_agent(word, ID, decoder=NumberDecoder(), seed=0, n_envs=16)
    before = score_of(agent)
    agent.learn(texts)
    assert before < 0.5 and score_of(agent) > bar


def test_without_a_reward_that_says_anything_it_is_not_found():
    rng = np.random.default_rng(0)

    def noise(prompts, completions):
        return rng.normal(size=len(prompts)).tolist()

    agent = textgym.make_agent("ppo", ID, decoder=NumberDecoder(), reward=noise, seed=0, n_envs=16)
    agent.learn(3000)
    assert score_of(agent) < 0.7


@pytest.mark.parametrize("word", registry.latent_agents.names())
def test_every_word_is_the_librarys_own_class_and_learns(word):
    agent = textgym.make_agent(word, ID, decoder=NumberDecoder(), seed=0, n_envs=4)
    home = stable_baselines3 if hasattr(stable_baselines3, type(agent).__name__) else sb3_contrib
    assert type(agent) is getattr(home, type(agent).__name__)
    assert type(agent).__name__.lower() == word
    before = {k: v.clone() for k, v in agent.policy.state_dict().items()}
    agent.learn(320)
    after = agent.policy.state_dict()
    assert any(not np.array_equal(before[k].numpy(), after[k].numpy()) for k in before)


def test_the_same_seed_writes_the_same_texts():
    found = []
    for _ in range(2):
        agent = textgym.make_agent("sac", ID, decoder=NumberDecoder(), seed=3, n_envs=4)
        agent.learn(300)
        found.append(score_of(agent))
    assert found[0] == found[1]


def test_keywords_are_the_algorithms_own():
    agent = textgym.make_agent(
        "td3", ID, decoder=NumberDecoder(), n_envs=2, learning_rate=5e-4, policy_delay=3
    )
    assert agent.policy_delay == 3 and agent.learning_rate == 5e-4
    with pytest.raises(InputError, match=r"'policy_dealy'.*policy_delay"):
        textgym.make_agent("td3", ID, decoder=NumberDecoder(), policy_dealy=3)


@pytest.mark.parametrize(
    ("word", "keywords", "message"),
    [
        ("dqn", {"decoder": LetterDecoder()}, "agent 'dqn' chooses among tokens"),
        ("sac", {}, "agent 'sac' has continuous actions: give decoder"),
        ("sax", {"decoder": LetterDecoder()}, "did you mean 'sac'"),
        ("sac", {"decoder": LetterDecoder(), "policy": "start"}, "policy goes with token actions"),
        ("sac", {"decoder": LetterDecoder(), "out": "runs/x"}, "out goes with token actions"),
        ("sac", {"decoder": LetterDecoder(), "shadow": "length"}, "shadow goes with token"),
    ],
)
def test_what_does_not_go_together_is_one_line(word, keywords, message):
    with pytest.raises(InputError, match=message):
        textgym.make_agent(word, ID, **keywords)


def test_an_environment_that_is_an_object_has_its_actions_already():
    env = textgym.make_vec(ID, 2)
    with pytest.raises(InputError, match=re.escape("decoder goes with an environment's id")):
        textgym.make_agent("sac", env, decoder=NumberDecoder())
