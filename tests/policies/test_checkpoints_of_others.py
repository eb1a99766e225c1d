"""Directories of transformers' that are read otherwise than they seem, or say too little."""

import json
import sys
import warnings

import peft
import pytest
import torch
import transformers
from front_door import small_agent
from textgym_families import GPT2, SMALL

from textgym.errors import InputError
from textgym.policies import CausalLM
from textgym.policies.language_model.adapters import LoRA, add_adapter, write_adapter
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.tokenizer import Tokenizer

MAMBA2 = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_heads": 8,
    "head_dim": 8,
    "state_size": 8,
    "n_groups": 1,
}


def saved(directory, family, *, shards="1GB", **config):
    """A small random checkpoint as transformers writes it, with bytes as tokens."""
    config = transformers.AutoConfig.for_model(family, **config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(directory, max_shard_size=shards)
    Tokenizer.byte().write_files(directory)
    return model


def changed(directory, **changes):
    """Change keys of `config.json`; None takes one out."""
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def refused(directory, text):
    with pytest.raises(InputError) as caught:
        CausalLM.from_pretrained(directory)
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize(
    ("family", "config", "text"),
    [
        ("llama", SMALL, "is_causal=false (it looks at the tokens that come after)"),
        ("gpt2", GPT2, "this gpt2 model looks at the tokens that come after"),
    ],
)
def test_a_model_that_looks_ahead_writes_nothing(family, config, text, tmp_path):
    saved(tmp_path, family, **config)
    CausalLM.from_pretrained(tmp_path)
    changed(tmp_path, is_causal=False)
    refused(tmp_path, text)


def test_infinity_in_a_configuration_is_what_transformers_writes_for_it(tmp_path):
    model = saved(tmp_path, "mamba2", **MAMBA2)
    assert "__float__" in (tmp_path / "config.json").read_text()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*there is no cache")
        lm = CausalLM.from_pretrained(tmp_path)
    tokens = torch.arange(5, 25)[None]
    torch.testing.assert_close(lm(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)
    lm.save_pretrained(tmp_path / "out")
    assert "__float__" in (tmp_path / "out" / "config.json").read_text()


def test_the_decoder_of_a_pair_alone_is_refused(tmp_path):
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("layers", 1),)}
    saved(tmp_path, "bart", vocab_size=300, d_model=32, **sizes, is_decoder=True)
    changed(tmp_path, is_encoder_decoder=False)
    refused(tmp_path, "transformers cannot make such a model")


def test_mistral_that_names_no_window_has_that_of_transformers(tmp_path):
    model = saved(
        tmp_path, "mistral", **{**SMALL, "num_key_value_heads": 4, "max_position_embeddings": 8192}
    )
    assert model.config.sliding_window == 4096
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["sliding_window"]
    path.write_text(json.dumps(config))
    assert CausalLM.from_pretrained(tmp_path).config.max_position_embeddings == 4096
    path.write_text(json.dumps({**config, "sliding_window": None}))
    assert CausalLM.from_pretrained(tmp_path).config.max_position_embeddings == 8192


def test_weights_that_are_not_there_say_what_to_bring(tmp_path):
    saved(tmp_path, "llama", shards="20KB", **SMALL)
    (tmp_path / "model.safetensors.index.json").unlink()
    refused(tmp_path, "but not model.safetensors.index.json, which says what stands in which")
    for shard in tmp_path.glob("model-*"):
        shard.unlink()
    refused(tmp_path, "holds no weights: expected model.safetensors, or shards with their")


@pytest.mark.parametrize(("family", "config"), [("llama", SMALL), ("gpt2", GPT2)])
def test_a_head_that_the_weights_lack_is_tied(family, config, tmp_path):
    saved(tmp_path, family, **config, tie_word_embeddings=True)
    changed(tmp_path, tie_word_embeddings=False)
    refused(tmp_path, "hold no head of their own, but config.json says tie_word_embeddings=false")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
def test_an_adapter_of_mamba_is_one_that_peft_opens(tmp_path):
    """peft refuses `out_proj`, whose weights kernels read past an adapter."""
    saved(tmp_path / "base", "mamba", **SMALL, state_size=4, eos_token_id=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*there is no cache")
        lm = CausalLM.from_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match=r"'out_proj' of a mamba model takes no adapter.*in_proj"):
        add_adapter(lm, LoRA.of(2, lora_targets="out_proj"), seed=0)
    add_adapter(lm, LoRA.of(2), seed=0)
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    write_adapter(lm, tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    tokens = torch.arange(5, 15)[None]
    torch.testing.assert_close(lm(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)


def test_layers_of_a_model_that_transformers_runs_are_not_computed_again(tmp_path):
    saved(tmp_path, "gpt2", **GPT2)
    with pytest.raises(InputError, match=r"a gpt2 model, which transformers runs, .*micro_batch_t"):
        CausalLM.from_pretrained(tmp_path).compute_layers_again()


def test_a_tokenizer_that_names_no_stop_token_says_where_to_write_one(tmp_path):
    saved(tmp_path, "llama", **SMALL, eos_token_id=None)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    changed(tmp_path, eos_token_id=None)
    refused(tmp_path, 'add "eos_token" to its tokenizer_config.json, or open it with Tokenizer')


YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "rope_theta": 1e4,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
PAIRS = {**SMALL, "num_key_value_heads": 2}
BEYOND = {
    "biases of attention": ("llama", {"attention_bias": True}, "attention_bias=true"),
    "biases of the MLP": ("llama", {"mlp_bias": True}, "mlp_bias=true"),
    "another activation": ("mistral", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
    "yarn": ("qwen2", {"rope_parameters": YARN}, "rope type 'yarn'"),
    "linear": ("llama", {"rope_parameters": LINEAR}, "rope type 'linear'"),
    "dynamic": ("qwen3", {"rope_parameters": {**LINEAR, "rope_type": "dynamic"}}, "'dynamic'"),
}


@torch.no_grad()
@pytest.mark.parametrize("name", BEYOND)
def test_what_our_decoder_does_not_compute_transformers_runs(name, tmp_path, monkeypatch):
    family, changes, said = BEYOND[name]
    model = saved(tmp_path / "in", family, **PAIRS, **changes)
    lm = CausalLM.from_pretrained(tmp_path / "in")
    assert isinstance(lm.config, ForeignConfig)
    tokens = torch.arange(3, 63)[None]
    torch.testing.assert_close(lm(tokens), model(tokens).logits, atol=1e-4, rtol=1e-4)
    decoder = CachedDecoder(lm, lm.tokenizer.pad_token_id)
    pad = lm.tokenizer.pad_token_id
    for length in range(1, 64, 9):  # token by token over the whole context
        row = torch.full((1, 64), pad)
        row[0, :length] = tokens[0, :length]
        hidden = decoder(row)
        expected = lm.packed(tokens[0, :length], torch.tensor([length]))[-1:]
        torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)
    lm.save_pretrained(tmp_path / "out")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(again) is type(model)
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits)

    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(tmp_path / "in", f"{said} is not supported")
    refused(tmp_path / "in", "pip install 'textgym[transformers]'")


def test_an_agent_learns_with_a_llama_that_has_biases(tmp_path):
    saved(tmp_path, "llama", **PAIRS, attention_bias=True)
    agent = small_agent(lm=CausalLM.from_pretrained(tmp_path), learning_rate=1e-3)
    bias = next(w for n, w in agent.policy.lm.named_parameters() if n.endswith("q_proj.bias"))
    before = bias.detach().clone()
    agent.learn(2 * 128)
    assert not torch.equal(before, bias.detach())
