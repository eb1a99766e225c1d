"""The learned reward model: loss, pooling, batching, dropout, saving."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from textgym.errors import InputError
from textgym.manifest import write_manifest
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel, bradley_terry_loss
from textgym.reward_models.learned.fitting import fit_bradley_terry
from textgym.tokenizer import Tokenizer


class TinyTrunk(nn.Module):
    """Embeddings and a running sum: causal, so padding on the right changes nothing before it."""

    def __init__(self, vocab_size: int, hidden_size: int = 8, context: int = 64) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=hidden_size, max_position_embeddings=context)
        weight = torch.randn(vocab_size, hidden_size, generator=torch.Generator().manual_seed(1))
        self.embed = nn.Embedding.from_pretrained(weight, freeze=False)

    def hidden_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return torch.tanh(self.embed(tokens).cumsum(dim=1))

    def save_pretrained(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "trunk.txt").write_text("here")


def build(**arguments: object) -> BradleyTerryRewardModel:
    tokenizer = Tokenizer.byte()
    trunk = TinyTrunk(tokenizer.vocab_size)
    return BradleyTerryRewardModel(trunk, tokenizer, **arguments)  # type: ignore[arg-type]


def test_loss_by_hand() -> None:
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    label = torch.tensor([1.0, 0.5])
    first = math.log(1 + math.exp(-2))
    second = 0.5 * math.log(1 + math.exp(1)) + 0.5 * math.log(1 + math.exp(-1))
    assert bradley_terry_loss(a, b, label).item() == pytest.approx((first + second) / 2)


def test_loss_gradient_by_hand_and_its_optimum() -> None:
    label = torch.tensor([0.8, 0.3, 0.5], dtype=torch.float64)
    a = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    b = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    bradley_terry_loss(a, b, label).backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    expected = (torch.sigmoid(-b) - label) / 3
    assert torch.allclose(a.grad, expected)
    # setting the derivative to zero: a - b = log(label / (1 - label))
    best = (b + torch.log(label / (1 - label))).requires_grad_(True)
    bradley_terry_loss(best, b, label).backward()  # type: ignore[no-untyped-call]
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-12


def test_raw_score_is_the_head_on_the_mean_hidden_state() -> None:
    model = build()
    ids = torch.tensor([model.encode(["abc"])[0]])
    hidden = model.trunk.hidden_states(ids, torch.tensor([ids.shape[1]]))[0].mean(dim=0)
    expected = (hidden @ model.head_weight + model.head_bias).item()
    assert model.raw(["abc"]) == pytest.approx([expected], abs=1e-6)


def test_scores_do_not_depend_on_the_batch_or_its_order() -> None:
    texts = ["a", "", "long text " * 9, "电影", "a", "zz"]
    whole = build().raw(texts)
    assert build(batch_size=2).raw(texts[::-1])[::-1] == pytest.approx(whole, abs=1e-6)
    assert [build().raw([text])[0] for text in texts] == pytest.approx(whole.tolist(), abs=1e-6)


def test_long_texts_are_scored_by_their_end() -> None:
    model = build()
    assert model.raw(["x" * 99 + "y" * 64]) == pytest.approx(model.raw(["y" * 64]))


def test_scoring_leaves_mode_and_gradients_alone() -> None:
    model = build().train()
    assert model.raw(["a"]).tolist() == model.raw(["a"]).tolist()
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_comes_from_the_callers_generator_only() -> None:
    model = build(dropout=0.5)
    batch = model.batch(model.encode(["abc", "de"]))
    before = torch.get_rng_state()
    one, two, other = (
        model.forward(*batch, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    # kept entries are scaled up, so the mean over draws is the score without dropout
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([model.forward(*batch, generator=generator) for _ in range(2000)])
    plain = model.forward(*batch)
    assert torch.allclose(draws.mean(0), plain, atol=0.05)


def test_contract_joins_prompt_and_completion_and_standardises() -> None:
    model = build().standardise(["one", "two", "three"])
    assert np.mean(model(["", "", ""], ["one", "two", "three"])) == pytest.approx(0, abs=1e-6)
    assert model(["on"], ["e"], label=[1]) == pytest.approx(model(["o"], ["ne"]))
    alone = build(include_prompt=False)
    assert alone(["on"], ["e"]) == pytest.approx(alone.raw(["e"]).tolist())
    with pytest.raises(InputError, match="different scores"):
        model.standardise(["same", "same"])


def test_save_and_load(tmp_path: Path) -> None:
    model = build(name="mine", dropout=0.2).standardise(["one", "two", "three"])
    model.save_pretrained(tmp_path / "rm")
    assert (tmp_path / "rm" / "trunk" / "trunk.txt").read_text() == "here"
    loaded = BradleyTerryRewardModel.from_pretrained(tmp_path / "rm", model.trunk, Tokenizer.byte())
    assert loaded(["a "], ["text"]) == model(["a "], ["text"])
    assert (loaded.name, loaded.dropout) == ("mine", 0.2)


def test_checkpoints_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path / "rm")
    wider = TinyTrunk(300, hidden_size=16)
    with pytest.raises(InputError, match=r"head for a trunk of hidden size 16, found .*\(8,\)"):
        BradleyTerryRewardModel.from_pretrained(tmp_path / "rm", wider, Tokenizer.byte())
    (tmp_path / "rm" / "head.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"head\.safetensors: damaged"):
        BradleyTerryRewardModel.from_pretrained(tmp_path / "rm", wider, Tokenizer.byte())
    write_manifest(tmp_path / "rm")
    with pytest.raises(InputError, match=r"head\.safetensors: not a safetensors file"):
        BradleyTerryRewardModel.from_pretrained(tmp_path / "rm", wider, Tokenizer.byte())


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"dropout=1\.0"):
        build(dropout=1.0)


def test_on_a_real_language_model_fitted_saved_and_opened_again(tmp_path: Path) -> None:
    lm = CausalLM.new(
        Tokenizer.byte(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    model = BradleyTerryRewardModel(lm)
    rows = [SimpleNamespace(prompt=f"{k} ", chosen="aaaa", rejected="bbbb") for k in range(24)]
    report = fit_bradley_terry(model, rows, epochs=6, learning_rate=0.01)
    assert report.pair_accuracy == 1.0
    model.save_pretrained(tmp_path / "rm")
    trunk = CausalLM.from_pretrained(tmp_path / "rm" / "trunk")
    loaded = BradleyTerryRewardModel.from_pretrained(tmp_path / "rm", trunk)
    texts = ["aaaa", "", "bbbb bbbb", "x" * 50]
    with pytest.warns(UserWarning, match="1 of 4 texts are longer than its context of 32 tokens"):
        scores = loaded([""] * 4, texts)
        assert scores == pytest.approx(model([""] * 4, texts), abs=1e-5)
    alone = [loaded([""], [text])[0] for text in texts]
    assert alone == pytest.approx(scores, abs=1e-4)


def test_texts_beyond_the_context_are_counted_and_said_once() -> None:
    model = build()
    context = model.context
    texts = ["a" * (context - 2), "b" * context, "c" * (2 * context)]
    assert model.count_cut(texts) == 2 and model.cut_count == 0
    with pytest.warns(UserWarning, match=f"2 of 3 texts are longer than its context of {context}"):
        scores = model([""] * 3, texts)
    assert model([""] * 3, texts) == scores  # and no second warning
    assert model.cut_count == 4
