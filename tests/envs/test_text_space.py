"""The space of texts under Gymnasium's vectorisations and wrappers: every character passes."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import utils
from hypothesis import given
from hypothesis import strategies as st

import textgym
from textgym.envs.text_space import TextSpace
from textgym.errors import InputError

SPACE = TextSpace(12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PROMPT = "Caf\u00e9 \U0001f642\u2028: "


@given(TEXTS)
def test_a_text_is_flattened_and_comes_back(text):
    row = spaces.flatten(SPACE, text)
    assert row.dtype == np.int32 and row in spaces.flatten_space(SPACE)
    assert row.tolist() == [ord(c) + 1 for c in text] + [0] * (12 - len(text))
    assert spaces.unflatten(SPACE, row) == text
    assert spaces.unflatten(SPACE, row.astype(np.float64)) == text
    assert spaces.flatdim(SPACE) == 12


@given(st.lists(TEXTS, min_size=2, max_size=2), TEXTS)
def test_shared_memory_holds_the_texts_of_the_moment(texts, later):
    memory = utils.create_shared_memory(SPACE, n=2)
    shown = utils.read_from_shared_memory(SPACE, memory, n=2)
    assert shown == ("", "")
    for index, text in enumerate(texts):
        utils.write_to_shared_memory(SPACE, index, text, memory)
    kept = copy.deepcopy(shown)
    assert type(kept) is tuple and kept == shown == tuple(texts)
    utils.write_to_shared_memory(SPACE, 1, later, memory)
    assert kept == tuple(texts) and list(shown) == [texts[0], later] and shown[1] == later
    assert shown in utils.batch_space(SPACE, 2) and pickle.loads(pickle.dumps(shown)) == shown  # noqa: S301


def test_what_the_space_does_not_contain_is_refused():
    memory = utils.create_shared_memory(SPACE, n=1)
    for wrong, what in [("x" * 13, "got 13 characters"), ("\ud800", "surrogates"), (3, "got int")]:
        with pytest.raises(InputError, match=what):
            utils.write_to_shared_memory(SPACE, 0, wrong, memory)


def test_a_copy_is_the_same_space():
    space = pickle.loads(pickle.dumps(TextSpace(9, sample_length=2, seed=1)))  # noqa: S301
    assert space == TextSpace(9) and space.sample_length == 2
    assert utils.batch_space(space, 2).contains(("\u6f22", ""))
    assert utils.concatenate(space, ["a", "\u6f22"], utils.create_empty_array(space, 2)) == (
        "a",
        "\u6f22",
    )


@pytest.fixture(scope="module")
def text_env():
    textgym.register("test/Every-v0", prompts=[PROMPT], reward="length", max_new_tokens=8)
    yield "test/Every-v0"
    gymnasium.registry.pop("test/Every-v0")


@pytest.mark.parametrize(
    ("mode", "keywords"),
    [("sync", {}), ("async", {}), ("async", {"shared_memory": False}), ("async", {"copy": False})],
)
def test_every_vectorisation_shows_every_character(text_env, mode, keywords):
    envs = gymnasium.make_vec(
        text_env, num_envs=2, vectorization_mode=mode, vector_kwargs=keywords, action="text"
    )
    try:
        observations, _ = envs.reset(seed=0)
        assert observations == (PROMPT, PROMPT) and observations in envs.observation_space
        observations, *_ = envs.step(("h\u00e9\x00", "\U0001f642"))
        assert observations == (f"{PROMPT}h\u00e9\x00", f"{PROMPT}\U0001f642")
    finally:
        envs.close()


def test_the_flattened_observation_and_a_dictionary_of_texts(text_env):
    env = gymnasium.wrappers.FlattenObservation(gymnasium.make(text_env, action="text"))
    row, _ = env.reset(seed=0)
    assert row in env.observation_space and row[: len(PROMPT)].tolist() == [
        ord(c) + 1 for c in PROMPT
    ]
    both = spaces.Dict(text=SPACE, number=spaces.Discrete(3))
    assert spaces.unflatten(both, spaces.flatten(both, {"text": "\u6f22", "number": 2})) == {
        "text": "\u6f22",
        "number": 2,
    }


def test_a_prompt_of_more_characters_than_its_tokens_could_stand_for_is_in_the_space():
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers

    backend = Backend(models.BPE(vocab={"<pad>": 0, "<eos>": 1, "a": 2}, merges=[]))
    backend.normalizer = normalizers.Replace(" ", "")
    tokenizer = textgym.Tokenizer(backend, pad_token="<pad>", eos_token="<eos>")
    textgym.register(
        "test/Spaces-v0", prompts=["a" + " " * 99], reward="length", max_new_tokens=2,
        tokenizer=tokenizer,
    )  # fmt: skip
    try:
        env = gymnasium.make("test/Spaces-v0", action="text")
        assert env.reset(seed=0)[0] in env.observation_space
    finally:
        gymnasium.registry.pop("test/Spaces-v0")
