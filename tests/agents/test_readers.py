"""Readers: bits per character in reports, by n-grams of held-out reviews or a language model."""

import math
import random

import numpy as np
import pytest
import torch
from front_door import ENV, SHAPE, byte_lm, run_cli
from textgym_tokenizers import sentencepiece_bpe

import textgym
from textgym.agents.evaluation.readers import ModelReader, resolve_reader, review_reader
from textgym.agents.evaluation.report import Interval
from textgym.envs.tasks import movie_reviews
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM


def test_a_model_reads_a_completion_after_its_prompt():
    lm = byte_lm()
    prompts, texts = ["ab", "c", "abc", "x"], ["cde", "", "f", "yyyyyyyy"]
    bits = ModelReader(lm, batch_size=2).bits(prompts, texts)
    for prompt, text, found in zip(prompts, texts, bits, strict=True):
        ids, before = lm.tokenizer.encode_batch([prompt + text, prompt], add_special_tokens=True)
        log_probs = lm(torch.tensor([ids])).log_softmax(-1)[0].detach()
        expected = -sum(
            float(log_probs[place - 1, ids[place]]) for place in range(len(before), len(ids))
        )
        assert found == pytest.approx(expected / math.log(2), rel=1e-5)
    assert bits[1] == 0.0
    with pytest.raises(InputError, match="are 121 tokens, but the reader's context is 96"):
        ModelReader(lm).bits(["a" * 60], ["b" * 60])


def test_a_completion_is_read_where_it_stands():
    """With a tokenizer that begins texts by a space: "filming", not "film ing"."""
    lm = CausalLM.new(sentencepiece_bpe(), seed=1, **SHAPE)
    for prompt, text in (("The film", "ing took years."), ("The film", " is good"), ("A", " long")):
        ids, before = lm.tokenizer.encode_batch([prompt, prompt], add_special_tokens=True)
        ids = ids + lm.tokenizer.encode_continuation(prompt, text)
        assert lm.tokenizer.decode(ids) == prompt + text
        log_probs = lm(torch.tensor([ids])).log_softmax(-1)[0].detach()
        chosen = [float(log_probs[i - 1, ids[i]]) for i in range(len(before), len(ids))]
        assert ModelReader(lm).bits([prompt], [text])[0] == pytest.approx(
            -sum(chosen) / math.log(2), rel=1e-5
        )


def test_the_held_out_reviews_tell_order_from_disorder():
    """On texts that it was not fitted on; the split of the judge stands for them."""
    reader = review_reader()
    pairs = [t.split(" ", 3) for t in movie_reviews.review_texts("judge")[:150]]
    pairs = [(" ".join(p[:3]), " " + p[3]) for p in pairs if len(p) == 4]
    shuffle, prompts = random.Random(0), [prompt for prompt, _ in pairs]
    real = [text for _, text in pairs]
    mixed = []
    for text in real:
        words = text.split()
        shuffle.shuffle(words)
        mixed.append(" " + " ".join(words))
    letters = ["".join(shuffle.sample(text, len(text))) for text in real]
    sizes = [float(len(text)) for text in real]
    ordered, disordered, noise = (
        Interval.of_ratio(reader.bits(prompts, texts), sizes) for texts in (real, mixed, letters)
    )
    assert ordered.mean + ordered.half_width < disordered.mean - disordered.half_width
    assert 2 < ordered.mean < 3 < noise.mean
    assert review_reader() is reader


def test_a_ratio_of_sums_and_its_interval_by_hand():
    """Σ6 / Σ4 = 1.5; the residuals are 0.5, -1, 0.5, so s = .866 and 1.96 · s · 3/4 / √3."""
    found = Interval.of_ratio([2.0, 2.0, 2.0], [1.0, 2.0, 1.0])
    assert found.mean == 1.5
    assert found.half_width == pytest.approx(1.96 * np.sqrt(0.75) * 0.75 / np.sqrt(3))
    assert math.isnan(Interval.of_ratio([0.0, 0.0], [0.0, 0.0]).mean)


def test_evaluate_reads_when_it_is_asked_to(tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    byte_lm(seed=1).save_pretrained(tmp_path / "reader")
    common = {"policy": tmp_path / "lm", "n_episodes": 8, "env_kwargs": {"max_new_tokens": 8}}
    assert textgym.evaluate(ENV, **common).bits_per_character is None
    report = textgym.evaluate(ENV, **common, reader=tmp_path / "reader")
    reader = ModelReader(byte_lm(seed=1))
    texts = [e.completion for e in report.episodes]
    bits = reader.bits([e.prompt for e in report.episodes], texts)
    expected = bits.sum() / sum(map(len, texts))
    assert report.bits_per_character.mean == pytest.approx(expected, rel=1e-6)
    assert report.figures()["bits_per_character"][0] == report.bits_per_character.mean
    flags = ("--policy", tmp_path / "lm", "--n-episodes", 4, "--reader", "reviews")
    code, text, error = run_cli("evaluate", ENV, *flags)
    assert (code, error) == (0, "") and "bits per character, read" in text
    code, _, error = run_cli("evaluate", ENV, *flags[:-1], tmp_path / "none")
    assert code == 2 and str(tmp_path / "none") in error


def test_a_reader_is_a_model_a_directory_or_reviews():
    assert resolve_reader("reviews") is review_reader()
    assert isinstance(resolve_reader(byte_lm()), ModelReader)
    with pytest.raises(InputError, match="reader must be 'reviews', a language model"):
        resolve_reader(3)
