"""An adapter of peft's as a policy: the base with the adapter merged, against peft itself."""

import json

import peft
import pytest
import torch
import transformers
from front_door import ENV, byte_lm, run_cli
from safetensors.torch import load_file, save_file

import textgym
from textgym.errors import InputError
from textgym.policies import CausalLM
from textgym.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
STOP = 2  # of the byte tokenizer
SMALL = {"vocab_size": 300, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": STOP}
BASES = {
    "llama": SMALL | {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 128,
    },
    "gpt2": SMALL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "t5": SMALL | {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "bart": SMALL | {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 128, "decoder_start_token_id": STOP,
    },
}  # fmt: skip
TARGETS = {
    "llama": ["q_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "t5": ["q", "wi"],
    "bart": ["q_proj", "fc1"],
}


def kind_of(family):
    return (
        transformers.AutoModelForSeq2SeqLM
        if family in ("t5", "bart")
        else transformers.AutoModelForCausalLM
    )


def saved(place, family, **settings):
    """A base and an adapter for it, both as transformers and peft write them; peft's model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(family, **BASES[family])
        base = kind_of(family).from_config(config).eval()
        base.save_pretrained(place / "base")
        Tokenizer.byte().write_files(place / "base")
        lora = peft.LoraConfig(
            r=4, lora_alpha=6, target_modules=TARGETS[family], init_lora_weights=False,
            fan_in_fan_out=family == "gpt2", **settings,
        )  # fmt: skip
        model = peft.get_peft_model(base, lora).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "magnitude" in name:
                    weight.mul_(1 + 0.3 * torch.rand(weight.shape))
        model.peft_config["default"].base_model_name_or_path = str(place / "base")
        model.save_pretrained(place / "adapter")
    return model


def logits(model, lm):
    """Of transformers' model and of ours, `[.., v]` each, after the same tokens."""
    words = torch.randint(3, 250, (9,), generator=torch.Generator().manual_seed(0)).tolist()
    with torch.no_grad():
        if not lm.tokenizer.ends_prompts:
            row = torch.tensor([words])
            return model(input_ids=row).logits[0], lm(row)[0]
        prompt, written = torch.tensor([[1, *words[:5], STOP]]), words[5:]
        begun = torch.tensor([[*lm.model.begin, *written]])
        found = lm(torch.tensor([[*prompt[0].tolist(), *written]]))[0]
        return model(input_ids=prompt, decoder_input_ids=begun).logits[0], found[-len(begun[0]) :]


@pytest.mark.parametrize(
    "family, settings",
    [
        ("llama", {}),
        ("llama", {"use_dora": True}),
        ("llama", {"use_rslora": True, "rank_pattern": {"down_proj": 2}}),
        ("gpt2", {}),
        ("gpt2", {"use_dora": True}),
        ("t5", {}),
        ("bart", {"use_dora": True}),
    ],
)
def test_it_is_the_base_as_peft_has_it(family, settings, tmp_path):
    model = saved(tmp_path, family, **settings)
    lm = CausalLM.from_pretrained(tmp_path / "adapter")
    theirs, ours = logits(model, lm)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    plain = logits(model, CausalLM.from_pretrained(tmp_path / "base"))[1]
    assert float((plain - ours).abs().max()) > 0.01
    lm.save_pretrained(tmp_path / "merged")
    alone = kind_of(family).from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(alone, lm)[0], ours, atol=1e-4, rtol=1e-4)


def test_it_is_a_policy_wherever_one_is_named(tmp_path, monkeypatch):
    saved(tmp_path, "llama")
    config = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "base_model_name_or_path": "../base"}))
    words = ["--agent", "ppo", "--timesteps", 16, "--n-envs", 2, "--n-steps", 4, "--kl-coef", 0.1]
    words += ["--no-progress-bar", "--out", tmp_path / "run"]
    code, _, error = run_cli("train", ENV, "--policy", tmp_path / "adapter", *words)
    assert code == 0, error
    code, _, error = run_cli("generate", tmp_path / "adapter", "--prompt", "ab")
    assert code == 0, error


@pytest.mark.parametrize("family", ["own", "t5"])
def test_a_run_with_lora_gives_its_adapter_alone(family, tmp_path):
    if family == "own":
        byte_lm(num_hidden_layers=2).save_pretrained(tmp_path / "base")
    else:
        saved(tmp_path, family)
    textgym.train(
        ENV, agent="ppo", policy=tmp_path / "base", timesteps=64, n_envs=2, n_steps=16, seed=0,
        lora_rank=4, learning_rate=0.05, out=tmp_path / "run", progress_bar=False,
    )  # fmt: skip
    code, _, error = run_cli("export", tmp_path / "run", "--adapter", "--out", tmp_path / "alone")
    assert code == 0, error
    textgym.export(tmp_path / "run", out=tmp_path / "merged")
    names = {path.name for path in (tmp_path / "alone").iterdir()} - {"textgym_manifest.json"}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= names
    assert not any(name.startswith("model") for name in names)
    base = kind_of(family).from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "alone").eval()
    merged = CausalLM.from_pretrained(tmp_path / "merged")
    for lm in (CausalLM.from_pretrained(tmp_path / "alone"), merged):
        expected, found = logits(theirs, lm)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    plain = logits(theirs, CausalLM.from_pretrained(tmp_path / "base"))[1]
    assert float((plain - found).abs().max()) > 1e-3
    with pytest.raises(InputError, match="leave dtype and pad_token out"):
        textgym.export(tmp_path / "run", out=tmp_path / "no", adapter=True, dtype="bfloat16")
    with pytest.raises(InputError, match="holds no adapter: it is no run"):
        textgym.export(tmp_path / "base", out=tmp_path / "no", adapter=True)
    assert not (tmp_path / "no").exists()


def test_an_adapter_on_an_adapter_is_not_given_away_alone(tmp_path):
    """What would be written names no base that opens; the whole model is the way."""
    byte_lm().save_pretrained(tmp_path / "base")

    def run(policy, out):
        textgym.train(
            ENV, agent="grpo", policy=policy, timesteps=32, n_envs=4, lora_rank=2,
            out=out, progress_bar=False,
        )  # fmt: skip

    run(tmp_path / "base", tmp_path / "first")
    textgym.export(tmp_path / "first", out=tmp_path / "alone", adapter=True)
    run(tmp_path / "alone", tmp_path / "second")
    with pytest.raises(InputError, match=r"an adapter itself, .* leave adapter out, and the whole"):
        textgym.export(tmp_path / "second", out=tmp_path / "no", adapter=True)
    assert not (tmp_path / "no").exists()
    textgym.export(tmp_path / "second", out=tmp_path / "whole")
    one, other = (CausalLM.from_pretrained(tmp_path / name) for name in ("second", "whole"))
    assert torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_what_cannot_be_is_one_line(tmp_path):
    saved(tmp_path, "llama")
    adapter = tmp_path / "adapter"
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"
    content, tensors = json.loads(config.read_text()), load_file(weights)

    def refused(text, **changed):
        config.write_text(json.dumps({**content, **changed}))
        with pytest.raises(InputError) as caught:
            CausalLM.from_pretrained(adapter)
        assert text in str(caught.value) and "\n" not in str(caught.value)
        assert str(adapter) in str(caught.value)

    refused("names no base model", base_model_name_or_path=None)
    refused("names no base model", base_model_name_or_path=7)
    refused("its base model: ", base_model_name_or_path=str(tmp_path / "nowhere"))
    refused("is an adapter itself", base_model_name_or_path=str(adapter))
    refused("peft_type 'IA3' is not supported", peft_type="IA3")
    refused("changes the base itself", init_lora_weights="pissa_niter_16")
    refused("modules_to_save is not supported", modules_to_save=["embed_tokens"])
    refused("is of rank 4, but adapter_config.json says 8", r=8)
    refused("r must be a whole number", r="4")
    refused("lora_alpha must be a finite number", lora_alpha=None)
    refused("lacks lora_magnitude_vector", use_dora=True)
    first, *others = sorted(tensors)
    name = first.removesuffix(".lora_A.weight")
    for changed, text in (
        ({name: tensors[name] for name in others}, "lacks lora_A.weight"),
        ({**tensors, f"{name}9.lora_A.weight": tensors[first]}, "lacks lora_B.weight"),
        ({k.replace("layers", "blocks"): t for k, t in tensors.items()}, "has no linear layer"),
        ({k.replace("mlp.down_proj", "input_layernorm"): t for k, t in tensors.items()}, "linear"),
        ({k: t[..., :-1].contiguous() for k, t in tensors.items()}, "another base?"),
        ({**tensors, "base_model.model.x.lora_embedding_A": tensors[first]}, "no matrix of LoRA"),
        ({k: t * float("nan") for k, t in tensors.items()}, "are not finite"),
        ({k: t.long() for k, t in tensors.items()}, "must be floating point"),
        ({}, "holds no adapter of any layer"),
    ):
        save_file({name: tensor.clone() for name, tensor in changed.items()}, weights)
        refused(text)
    weights.unlink()
    refused("holds no weights of the adapter: expected adapter_model.safetensors")
    (adapter / "adapter_model.bin").touch()
    refused("holds pickled weights only (adapter_model.bin)")
    refused("adapter_model.safetensors")


def test_an_adapter_does_not_name_a_base_that_is_not_there(tmp_path, monkeypatch):
    """A run holds its policy as it was given, seen from the folder of the training."""
    byte_lm().save_pretrained(tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    textgym.train(
        ENV, agent="grpo", policy="base", timesteps=32, n_envs=4, lora_rank=2,
        out="run", progress_bar=False,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="began as base, which is not there as seen from this"):
        textgym.export(tmp_path / "run", out="alone", adapter=True)
    assert not list((tmp_path / "elsewhere").iterdir())
    monkeypatch.chdir(tmp_path)
    textgym.export("run", out="alone", adapter=True)
    content = json.loads((tmp_path / "alone" / "adapter_config.json").read_text())
    assert content["base_model_name_or_path"] == str(tmp_path / "base")
