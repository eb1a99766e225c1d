"""Continuing prompts."""

import pytest
import torch
from textgym_testing import EOS, letter_env, letter_tokenizer, tiny_lm

from textgym.agents.evaluation.play import play
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.generation import encode_prompts, generate_tokens
from textgym.policies.language_model.sampling import Sampling
from textgym.tokenizer import Tokenizer

PROMPTS = ["a", "bcd", "dabba"]


def test_greedy_continuations_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    lm = tiny_lm(letter_tokenizer("abcdefghijklmnop"), seed=3, tie_word_embeddings=False)
    lm.save_pretrained(tmp_path / "lm")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=torch.float32)
    ours = lm.generate(PROMPTS, max_new_tokens=12, temperature=0)
    for prompt, text in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([lm.tokenizer.encode(prompt)])
        theirs = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            suppress_tokens=[0, 1],
        )[0, ids.shape[1] :].tolist()
        assert text == lm.tokenizer.decode(theirs)
    assert len(set(ours)) == 3


every_architecture = pytest.mark.parametrize("architecture", ["transformer", "lstm"])


@every_architecture
def test_a_seed_fixes_the_tokens_and_the_global_generator_is_not_used(architecture):
    lm = tiny_lm(spread=3.0, architecture=architecture)
    before = torch.get_rng_state()
    first = lm.generate(PROMPTS, max_new_tokens=20, seed=1)
    assert first == lm.generate(PROMPTS, max_new_tokens=20, seed=1)
    assert first != lm.generate(PROMPTS, max_new_tokens=20, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def constant_lm(tokens):
    """A model whose likeliest next token depends on the last one only: `tokens[last]`."""
    lm = tiny_lm(hidden_size=8, num_attention_heads=1, spread=1.0, tie_word_embeddings=False)
    with torch.no_grad():
        lm.model.embed_tokens.weight.copy_(torch.eye(8)[:7])
        for name, parameter in lm.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                parameter.zero_()
        for last, following in tokens.items():
            lm.lm_head.weight[following, last] = 10.0
    return lm


def test_the_stop_token_ends_a_text_and_the_budget_another():
    a, b, c, d = 3, 4, 5, 6
    lm = constant_lm({a: b, b: c, c: EOS, d: d, EOS: a})
    assert lm.generate(["a", "d", "c"], max_new_tokens=5, temperature=0) == ["bc", "ddddd", ""]
    greedy, generator = Sampling(temperature=0.0), torch.Generator()
    rows = generate_tokens(
        lm, [[a], [d], [c]], max_new_tokens=3, sampling=greedy, generator=generator, batch_size=2
    )
    assert rows == [[b, c], [d, d, d], []]
    assert lm.generate(["a"], max_new_tokens=0) == [""]
    assert lm.generate([], max_new_tokens=3) == []


@every_architecture
def test_batches_do_not_change_a_greedy_text(architecture):
    lm = tiny_lm(seed=1, architecture=architecture)
    together = lm.generate(PROMPTS, max_new_tokens=9, temperature=0)
    alone = [lm.generate([prompt], max_new_tokens=9, temperature=0)[0] for prompt in PROMPTS]
    assert together == alone


def test_top_k_of_one_is_greedy():
    lm = tiny_lm(seed=1)
    assert lm.generate(PROMPTS, max_new_tokens=9, top_k=1) == lm.generate(
        PROMPTS, max_new_tokens=9, temperature=0
    )


def test_prompts_that_cannot_be_continued_are_refused_in_one_line():
    lm = tiny_lm(max_position_embeddings=10)
    with pytest.raises(InputError, match="an empty prompt"):
        lm.generate(["a", ""], max_new_tokens=2)
    assert len(lm.generate(["a" * 8], max_new_tokens=2)) == 1
    message = "prompt 'aaaaaaaaa' has 9 tokens; with max_new_tokens=2 that exceeds .* of 10"
    with pytest.raises(InputError, match=message):
        lm.generate(["a" * 9], max_new_tokens=2)
    with pytest.raises(InputError, match="temperature must be a finite number from 0"):
        lm.generate(["a"], max_new_tokens=2, temperature=-1)
    byte = CausalLM.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    with pytest.raises(InputError, match="an empty prompt"):
        byte.generate([""], max_new_tokens=2)


def test_prompts_start_as_the_tokenizer_starts_texts():
    lm = CausalLM.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    (row,) = encode_prompts(lm, ["é"], 1)
    assert row == [1, *lm.tokenizer.encode("é")] and len(row) == 3


@every_architecture
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7, top_p=0.8), Sampling(0.0)])
def test_generation_and_evaluation_choose_the_same_tokens_for_the_same_seed(sampling, architecture):
    """One random number a row and step, whoever asks, and whatever stands in the other rows."""
    lm = tiny_lm(spread=6.0, architecture=architecture)
    env = letter_env(n_envs=12)
    env.seed(3)  # else the prompts are others each time
    episodes = play(lm, env, 12, sampling=sampling, seed=5)
    prompts = [episode.tokens[: episode.acted[0] + 1].tolist() for episode in episodes]
    played = [episode.tokens[episode.acted + 1].tolist() for episode in episodes]
    generator = torch.Generator().manual_seed(5)
    texts = generate_tokens(lm, prompts, max_new_tokens=6, sampling=sampling, generator=generator)
    assert [[t for t in row if t != EOS] for row in played] == texts
    if sampling.temperature:  # some stop early, and their rows are refilled
        assert len({len(text) for text in texts}) > 1
