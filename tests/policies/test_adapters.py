"""Adapters of peft on our decoder, against a naive LoRA and against peft on transformers' model."""

import copy
import json

import peft
import pytest
import torch
from front_door import byte_lm
from torch.func import functional_call
from transformers import AutoModelForCausalLM

from textgym.errors import InputError
from textgym.policies.language_model.adapters import LoRA, adapter_state, add_adapter, write_adapter
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.language_model import LanguageModel
from textgym.tokenizer import Tokenizer

# What peft asks of transformers' model is going away there.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
TOKENS = torch.randint(0, 250, (3, 12), generator=torch.Generator().manual_seed(0))
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def model():
    return byte_lm(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)


def adapted(*, moved=True, **keywords):
    """A model with an adapter whose B is not zero any more."""
    lm = model()
    add_adapter(lm, LoRA.of(4, **keywords), seed=1)
    if moved:
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, weight in adapter_state(lm).items():
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(0.05 * noise if "lora_" in name else 0.0)
    return lm


def naive_loss(lm, base, matrices):
    """Cross-entropy of the model whose weights are W + 2 B A, written out."""
    weights = dict(base.named_parameters())
    for name in [n for n in weights if n.rpartition(".")[0].rpartition(".")[2] in PROJECTIONS]:
        path = name.removesuffix(".weight")
        a, b = matrices[f"{path}.lora_A.default.weight"], matrices[f"{path}.lora_B.default.weight"]
        weights[name] = weights[name] + 2.0 * b @ a
    return loss_of(functional_call(base, weights, (TOKENS,)))


def loss_of(logits):
    flat = logits[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, TOKENS[:, 1:].flatten())


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_new_adapter_changes_no_logit(use_dora):
    lm = adapted(moved=False, use_dora=use_dora)
    assert torch.equal(lm(TOKENS), model()(TOKENS))


def test_gradients_are_those_of_a_lora_written_out():
    lm = adapted()
    loss = loss_of(lm(TOKENS))
    loss.backward()
    found = {n: w for n, w in lm.named_parameters() if w.requires_grad}
    matrices = {n: w.detach().clone().requires_grad_() for n, w in found.items()}
    assert len(matrices) == 2 * 7 * 2 and all("lora_" in name for name in matrices)
    expected = naive_loss(lm, lm.without_adapter(), matrices)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    for name, weight in found.items():
        torch.testing.assert_close(weight.grad, matrices[name].grad, rtol=1e-5, atol=1e-7)
    frozen = [w for n, w in lm.named_parameters() if n not in found]
    assert frozen and all(weight.grad is None for weight in frozen)


def storages(*models):
    return {w.untyped_storage().data_ptr() for m in models for w in m.parameters()}


def test_without_its_adapter_it_is_the_same_weights_and_no_second_copy():
    lm = adapted()
    base = lm.without_adapter()
    assert type(base) is type(lm) and base.adapter is None
    assert torch.equal(base(TOKENS), model()(TOKENS)) and not torch.equal(lm(TOKENS), base(TOKENS))
    assert storages(lm, base) == storages(lm)
    assert sum(w.numel() for w in base.parameters()) == sum(w.numel() for w in model().parameters())
    frozen = lm.frozen_reference()  # a copy, of the adapter alone
    assert len(storages(lm, frozen) - storages(lm)) == len(adapter_state(lm))
    before = frozen(TOKENS)
    with torch.no_grad():
        for weight in adapter_state(lm).values():
            weight.add_(0.1)
    assert torch.equal(frozen(TOKENS), before) and not torch.equal(lm(TOKENS), before)


@pytest.mark.parametrize("use_dora", [False, True])
def test_peft_opens_the_adapter_and_transformers_the_merged_model(use_dora, tmp_path):
    lm = adapted(use_dora=use_dora)
    logits = lm(TOKENS)
    lm.without_adapter().save_pretrained(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    write_adapter(lm, tmp_path / "adapter")
    lm.save_pretrained(tmp_path / "merged")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with_adapter = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ours = CausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(with_adapter(TOKENS).logits, logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(alone(TOKENS).logits, logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours(TOKENS), logits, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["r"] == 4 and config["lora_alpha"] == 8 and config["use_dora"] is use_dora
    assert sorted(config["target_modules"]) == sorted(PROJECTIONS)


def test_a_merged_model_is_whole_and_leaves_the_adapter_as_it_was():
    lm = adapted()
    before = copy.deepcopy(lm.state_dict())
    merged, own = lm.merged(), lm.trainable_copy()
    assert merged.adapter is None and own.adapter is None
    assert all(weight.requires_grad for weight in own.parameters())
    assert merged.state_dict().keys() == model().state_dict().keys()
    assert not storages(own) & storages(lm)
    assert all(torch.equal(before[name], weight) for name, weight in lm.state_dict().items())


def test_targets_are_chosen_by_name():
    lm = model()
    add_adapter(lm, LoRA.of(4, lora_targets="q_proj, v_proj", lora_alpha=4), seed=0)
    assert len(adapter_state(lm)) == 2 * 2 * 2
    assert {name.split(".")[4] for name in adapter_state(lm)} == {"q_proj", "v_proj"}
    again = model()
    add_adapter(again, LoRA.of(4, lora_targets="q_proj,v_proj", lora_alpha=4), seed=0)
    assert all(map(torch.equal, adapter_state(lm).values(), adapter_state(again).values()))


def test_the_global_generator_is_as_it_was():
    before = torch.get_rng_state()
    adapted(moved=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_makes_no_sense_is_refused_in_a_line():
    there = "there are: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    with pytest.raises(InputError, match=f"called 'c_attn'; {there}"):
        add_adapter(model(), LoRA.of(4, lora_targets="q_proj,c_attn"), seed=0)
    lstm = CausalLM.new(Tokenizer.byte(), architecture="lstm", hidden_size=16)
    with pytest.raises(InputError, match="no linear layers, so it takes no adapter"):
        add_adapter(lstm, LoRA.of(4), seed=0)
    with pytest.raises(InputError, match="are of an adapter: give lora_rank too"):
        LoRA.of(None, use_dora=True)
    with pytest.raises(InputError, match="lora_targets must be 'all-linear' or names"):
        LoRA.of(4, lora_targets=" , ")
    with pytest.raises(InputError, match="lora_rank must be a whole number from 1"):
        LoRA.of(0)
    with pytest.raises(InputError, match="use_dora must be True or False, got 3"):
        LoRA.of(4, use_dora=3)


def test_a_model_of_another_class_takes_one_too():
    class Mine(CausalLM):
        pass

    lm = Mine.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    expected = lm(TOKENS)
    add_adapter(lm, LoRA.of(2), seed=0)
    assert isinstance(lm.without_adapter(), Mine) and isinstance(lm, LanguageModel)
    assert torch.equal(lm(TOKENS), expected)


def test_half_precision_keeps_its_adapter_in_float32():
    lm = model().to(torch.bfloat16)
    expected = lm(TOKENS)
    add_adapter(lm, LoRA.of(2), seed=0)
    assert {weight.dtype for weight in adapter_state(lm).values()} == {torch.float32}
    assert lm.dtype == torch.bfloat16 and torch.equal(lm(TOKENS), expected)
