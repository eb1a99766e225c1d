"""What an environment says of a completion is what stands behind its prompt, in every tokenizer."""

import numpy as np
import pytest
from textgym_tokenizers import byte_level, sentencepiece_bpe, unigram, wordpiece
from tokenizers import processors

from textgym.envs.dense_rewards import character_ends
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.texts.prompts import PromptSource
from textgym.envs.utterance_tokens import UtteranceTokens
from textgym.envs.vector_env import TextVectorEnv
from textgym.rewards import RewardOutput
from textgym.tokenizer import Tokenizer

TOKENIZERS = {
    "sentencepiece": sentencepiece_bpe(),
    "sentencepiece, first": sentencepiece_bpe("first"),
    "unigram": unigram(),
    "wordpiece": wordpiece(),
    "byte-level": byte_level(add_prefix_space=True),
}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
PROMPT, GOOD = "The film", " is good"


class Heard:
    """A reward that keeps what it was asked, and pays the characters of the first word."""

    name = "heard"

    def __init__(self):
        self.texts = []

    def __call__(self, prompts, completions):
        self.texts += [p + c for p, c in zip(prompts, completions, strict=True)]
        spans = [[(0, min(3, len(text)), 3.0)] for text in completions]
        return RewardOutput([3.0 for _ in completions], spans=spans)


def task(name, **fields):
    defaults = {"prompts": [PROMPT], "reward": Heard(), "max_new_tokens": 12}
    return Task(id="test/Film-v0", **{**defaults, "tokenizer": TOKENIZERS[name], **fields})


def ids_of(name, text, prompt=PROMPT):
    return TOKENIZERS[name].encode_continuation(prompt, text)


def write(env, ids):
    for token_id in ids:
        result = env.step(token_id)
    return result


@every_tokenizer
def test_reward_info_and_rendering_are_the_text_of_all_ids(name):
    played = task(name)
    env = TextEnv(played, render_mode="ansi")
    env.reset(seed=0)
    for i, token_id in enumerate(ids_of(name, GOOD), start=1):
        env.step(token_id)
        row, prompt_length = env._episode.tokens[0], env._episode._turn_starts[0]
        whole = played.tokenizer.decode(row[: prompt_length + i].tolist())
        assert env.render() == whole.removeprefix(" ")  # GPT-2's puts a space in front of prompts
    *_, info = env.step(played.tokenizer.eos_token_id)
    assert info["completion"] == GOOD
    assert played.reward.texts == [PROMPT + GOOD] == [env.render()]


@every_tokenizer
def test_an_utterance_is_written_where_it_stands(name):
    played = task(name)
    env = TextEnv(played, action="text")
    env.reset(seed=0)
    text, *_, info = env.step(GOOD)
    stop = played.tokenizer.eos_token_id
    expected = [*ids_of(name, GOOD), stop]
    start = info["prompt_length"]
    assert env._episode.tokens[0, start : start + len(expected)].tolist() == expected
    assert text == PROMPT + GOOD and info["completion"] == GOOD
    rows = UtteranceTokens(TextEnv(played, action="text"))
    rows.reset(seed=0)
    action = np.full(12, stop)
    action[: len(expected)] = expected
    observation, *_, info = rows.step(action)
    assert info["completion"] == GOOD
    whole = played.tokenizer.encode(PROMPT + GOOD, add_special_tokens=True)
    assert observation[: len(whole)].tolist() == whole


@every_tokenizer
def test_a_stop_string_may_begin_with_the_space(name):
    ids = ids_of(name, " is good good")
    for stop, completion in ((" is", ""), (" good", " is")):
        env = TextEnv(task(name, stop=stop))
        env.reset(seed=0)
        for token_id in ids:
            _, _, terminated, _, info = env.step(token_id)
            if terminated:
                break
        assert (info["completion"], info["finish_reason"]) == (completion, "stop")
    batch = TextVectorEnv(task(name, stop=" good"), 3)
    batch.reset(seed=0)
    for token_id in ids:
        _, _, terminated, _, infos = batch.step(np.full(3, token_id))
        if terminated.any():
            break
    assert terminated.all() and infos["final_info"]["completion"].tolist() == [" is"] * 3


@every_tokenizer
def test_turns_of_a_dialogue_are_laid_end_to_end(name):
    """The environment's words are encoded behind the player's, and the player's behind them."""
    heard = []

    def reply(prompt, turns):
        heard.append(list(turns))
        return " and it" if len(turns) == 1 else None

    played = task(name, reply=reply, max_context=40)
    tokenizer = played.tokenizer
    env = TextEnv(played, render_mode="ansi")
    env.reset(seed=0)
    write(env, [*ids_of(name, GOOD), tokenizer.eos_token_id])
    words = tokenizer.encode_continuation(PROMPT + GOOD, " and it")
    start, end = env._episode._turn_starts[0] - len(words), env._episode._turn_starts[0]
    assert env._episode.tokens[0, start:end].tolist() == words
    *_, info = write(env, [*ids_of(name, GOOD), tokenizer.eos_token_id])
    assert info["completion"] == " is good and it is good"
    assert heard == [[" is good"], [" is good", " and it", " is good"]]
    row = env._episode.tokens[0, : env._episode.lengths[0]].tolist()
    assert tokenizer.decode(row).strip() == PROMPT + info["completion"] == env.render()


def test_a_prompt_that_is_cut_keeps_all_its_start_tokens():
    tokenizer = wordpiece()
    backend = tokenizer.backend
    two = [(name, backend.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    template = "[CLS] [SEP] $A [SEP] [SEP]"
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=two)
    again = Tokenizer(backend, pad_token="[PAD]", eos_token="[SEP]", bos_token="[CLS]")
    source = PromptSource(["a long film"], again, max_prompt_tokens=4, truncate_prompt=True)
    [prompt] = source.all()
    starts = [tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")]
    assert prompt.ids.tolist() == [*starts, *again.encode("a long film")[-2:]]


@every_tokenizer
def test_dense_rewards_count_the_space_as_a_character(name):
    played = task(name)
    tokenizer = played.tokenizer
    before, ids = tokenizer.encode(PROMPT), ids_of(name, GOOD)
    ends = character_ends(ids, tokenizer, before).tolist()
    texts = [tokenizer.decode_continuation(before, ids[: i + 1]) for i in range(len(ids))]
    assert ends == [len(text) for text in texts] and ends[-1] == len(GOOD)
    env = TextEnv(played)
    env.reset(seed=0)
    *_, info = write(env, [*ids, tokenizer.eos_token_id])
    paid = np.diff(np.minimum([0, *ends], 3)).tolist()  # a point a character, up to " is"
    assert info["token_rewards"] == pytest.approx([*paid, 0.0])
