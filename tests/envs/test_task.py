"""What a task refuses before anything is played."""

import copy
import pickle
import threading

import pytest

from textgym.envs.task import Task, check_fields
from textgym.errors import InputError, UnknownNameError


def zero(prompts, completions):
    return [0.0] * len(completions)


async def waits(prompt, turns):
    return None


def task(**fields):
    return Task(**{"id": "test/Task-v0", "prompts": ["a", "bcd"], "reward": zero, **fields})


def test_defaults_make_a_task():
    plain = task()
    source = plain.prompt_source()
    assert plain.tokenizer.vocab_size == 259 and plain.stop_strings == ()
    assert plain.width(source) == 1 + 3 + 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"max_new_tokens": 0},
            "max_new_tokens must be a whole number from 1 .* got 0",
        ),
        ({"max_new_tokens": None}, "max_new_tokens must be"),
        ({"max_new_tokens": True}, "max_new_tokens must be"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be .* got 2.5"),
        ({"max_prompt_tokens": -1}, "max_prompt_tokens must be"),
        ({"max_context": 0}, "max_context must be"),
        ({"stop": ""}, "stop must be a text or a list of texts"),
        ({"stop": ["\n", 3]}, "stop must be a text or a list of texts"),
        ({"unfinished_score": float("nan")}, "unfinished_score must be a number up to ±1e"),
        ({"unfinished_score": True}, "unfinished_score must be a number up to ±1e"),
        ({"reward_timeout": 0}, "reward_timeout must be a finite number above 0"),
        ({"reward_retries": -1}, "reward_retries must be a whole number from 0"),
        ({"truncate_prompt": "yes"}, "truncate_prompt must be true or false, got 'yes'"),
        ({"stop": 5}, "stop must be a text or a list of texts, got 5"),
        ({"reply": "yes", "max_context": 9}, "reply must be a function, got 'yes'"),
        (
            {"reply": waits, "max_context": 9},
            "reply must be an ordinary function, got the async def <function waits .*: write def",
        ),
        ({"reply": lambda prompt, turns: None}, "a task with reply needs max_context"),
        ({"reward": "length"}, "reward must be a function or an object"),
        ({"tokenizer": "byte"}, "tokenizer must be a textgym.Tokenizer, got str"),
        ({"prompts": 3}, "prompts must be a list of texts, a path, a dataset or a function"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        task(**fields)


def test_a_prompt_must_leave_room_in_the_context():
    assert task(max_context=6).prompt_source().max_tokens == 5
    with pytest.raises(InputError, match="expected at most 3 tokens, the prompt 'bcd' has 4"):
        task(max_context=4).prompt_source()
    with pytest.raises(InputError, match="max_context must be a whole number from 2"):
        task(max_context=1).prompt_source()


def test_an_unknown_field_proposes_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'max_tokens': did you mean 'max_new_tokens'"):
        check_fields(["prompts", "max_tokens"])
    check_fields(["prompts", "reply", "tokenizer"])


class Locked:
    name = "locked"

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, prompts, completions):
        return [0.0] * len(completions)


def test_copies_share_the_reward_model():
    original = task(reward=Locked())
    assert copy.deepcopy(original).reward is original.reward
    assert pickle.loads(pickle.dumps(task())).reward is zero  # noqa: S301
