"""An encoder with a decoder learns to write words backwards, also words that it never saw.

Of two letters out of ten a guess is right once in a hundred; a decoder that does not see what the
encoder read can do no better.
"""

import itertools

import numpy as np
import pytest
import torch
import transformers

import textgym
from textgym import registry
from textgym.policies import CausalLM
from textgym.tokenizer import Tokenizer

WORDS = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=2)]
ORDER = np.random.default_rng(0).permutation(len(WORDS))
SEEN, UNSEEN = [WORDS[i] for i in ORDER[:80]], [WORDS[i] for i in ORDER[80:]]


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    """A small random BART with bytes as tokens."""
    place = tmp_path_factory.mktemp("bart")
    config = transformers.BartConfig(
        vocab_size=300, d_model=48, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=0,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BartForConditionalGeneration(config)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.mul_(4)
    model.save_pretrained(place)
    Tokenizer.byte().write_files(place)
    return place


def fine_tuned(bart, out, steps):
    pairs = [{"prompt": word, "completion": word[::-1]} for word in SEEN]
    textgym.sft(
        pairs, policy=bart, out=out, steps=steps, heldout=0.1, batch_size=40, learning_rate=3e-3,
        patience=None, evaluate_every=steps, progress_bar=False, report=lambda line: None,
    )  # fmt: skip
    return CausalLM.from_pretrained(out)


def share_backwards(lm, words):
    texts = lm.generate(words, max_new_tokens=4, temperature=0)
    return np.mean([text == word[::-1] for text, word in zip(texts, words, strict=True)])


def test_fine_tuning_learns_what_to_do_with_the_prompt(bart, tmp_path):
    assert share_backwards(CausalLM.from_pretrained(bart), UNSEEN) <= 0.05
    assert share_backwards(fine_tuned(bart, tmp_path / "run", 100), UNSEEN) >= 0.8


def letters_in_place(prompts, completions):
    """Half a point for each letter that stands where it should; half a point off for the length."""
    return [
        sum(a == b for a, b in zip(completion, prompt[::-1], strict=False)) / 2
        - 0.5 * (len(completion) != len(prompt))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def test_reinforcement_learning_goes_on_from_there(bart, tmp_path):
    start = fine_tuned(bart, tmp_path / "run", 40)
    before = share_backwards(start, UNSEEN)
    name = "test/Backwards-v0"
    textgym.register(name, prompts=SEEN, reward=letters_in_place, max_new_tokens=4)
    try:
        agent = textgym.make_agent("grpo", name, policy=start, seed=0, learning_rate=3e-3)
        agent.learn(4000)
    finally:
        registry.tasks.unregister(name)
    after = CausalLM.from_agent(agent)
    assert share_backwards(after, UNSEEN) >= before + 0.15
    assert share_backwards(after, SEEN) >= 0.4
