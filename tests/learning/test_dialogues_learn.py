"""A game with a secret number is learned from what the environment says and pays, turn by turn."""

import gymnasium
import pytest

import textgym
from textgym import Reply, constraints, registry
from textgym.policies import CausalLM

ID, LYING = "test/Number-v0", "test/Liar-v0"
NUMBERS, GUESSES = 7, 3
BY_CHANCE = GUESSES / NUMBERS  # what three different guesses win that no answer has led to


def draw(np_random):
    return {"prompt": "?", "secret": str(np_random.integers(NUMBERS))}


def answer(turns, secret):
    """The last words of a game are paid where they say that the guess was right."""
    if turns[-1] == secret:
        return Reply("=", reward=1.0, terminated=True)
    if len(turns) == 2 * GUESSES - 1:
        return None
    return "+?" if turns[-1] < secret else "-?"


def lie(turns, secret, np_random):
    """The same, but for the direction."""
    truth = answer(turns, secret)
    return truth if truth not in ("+?", "-?") else "+-"[int(np_random.integers(2))] + "?"


def nothing(prompts, completions):
    return [0.0] * len(completions)


@pytest.fixture(scope="module")
def tokenizer():
    letters = textgym.Tokenizer.character("0123456+-=?")
    for name, reply in ((ID, answer), (LYING, lie)):
        textgym.register(
            name,
            prompts=draw,
            reward=nothing,
            reply=reply,
            tokenizer=letters,
            constraint=constraints.regex("[0-6]", after="?"),
            max_prompt_tokens=4,
            max_new_tokens=2 * GUESSES,
            max_context=16,
        )
    yield letters
    for name in (ID, LYING):
        registry.tasks.unregister(name)
        gymnasium.registry.pop(name)


def won(lm, game):
    """The share of games that the likeliest guesses win."""
    return textgym.evaluate(game, policy=lm, n_episodes=300, temperature=0.0).reward.mean


SETTINGS = {
    "ppo": ({"n_steps": 12, "n_epochs": 8, "batch_size": 256, "learning_rate": 4e-3}, 24_000),
    "grpo": (
        {
            "num_generations": 16,
            "n_groups": 14,
            "n_epochs": 4,
            "batch_size": 300,
            "learning_rate": 6e-3,
        },
        40_000,
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_guessing_a_secret_number_is_learned(name, tokenizer):
    keywords, tokens = SETTINGS[name]
    lm = CausalLM.new(
        tokenizer, seed=0, hidden_size=32, num_hidden_layers=1, max_position_embeddings=16
    )
    assert won(lm, ID) < 1.2 * BY_CHANCE
    agent = textgym.make_agent(
        name, ID, policy=lm, n_envs=64, seed=0, final_learning_rate=0.0, **keywords
    )
    learned = CausalLM.from_agent(agent.learn(tokens))
    assert won(learned, ID) > 0.65  # 1 is the best; who does not listen wins 3 of 7
    assert won(learned, LYING) < 0.55  # what it has learned is to listen
