"""The built-in tasks, as the fields that `textgym.register` takes.

Each function gives the fields of one task, reward models by name. `Length-v0` and `Keyword-v0` are
toys: short texts and cheap rewards, on which an algorithm shows within seconds whether it learns.
"""

from typing import Any

from textgym.envs.tasks.movie_reviews import training_prompts, validation_prompts

HELD_OUT = 64  # prompts of other movies: five evaluations stay well under 10% of a short run


def movie_review() -> dict[str, Any]:
    """Go on with the first words of a movie review, to please the people who rated reviews."""
    return {
        "prompts": training_prompts(),
        "heldout_prompts": validation_prompts(HELD_OUT),
        "reward": "floored_crowd",
        "max_new_tokens": 40,
    }


def length() -> dict[str, Any]:
    """Write some 24 characters: the reward falls off on both sides."""
    return {
        "prompts": ["Once upon a time ", "The weather today ", "I would like ", "In the end "],
        "heldout_prompts": ["Last summer ", "My old friend ", "She told me ", "On the table "],
        "reward": "length,target=24,unit=characters",
        "max_new_tokens": 32,
    }


def keyword() -> dict[str, Any]:
    """Write a text that holds the word asked for; the word is a column of the prompt."""
    return {
        "prompts": _say("sun", "rain", "tea", "cat"),
        "heldout_prompts": _say("moon", "snow", "milk", "dog"),
        "reward": "keyword",
        "max_new_tokens": 24,
    }


def _say(*words: str) -> list[dict[str, str]]:
    return [{"prompt": f"Say {word}: ", "keyword": word} for word in words]
