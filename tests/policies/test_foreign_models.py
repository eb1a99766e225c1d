"""Models that only transformers can run, behind the same face: logits, cache, learning, files."""

import json
import shutil
import warnings

import peft
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from textgym_families import GPT2, SMALL
from textgym_testing import rollout, set_up

import textgym
from textgym.errors import InputError
from textgym.policies import CausalLM
from textgym.policies.language_model.adapters import LoRA, add_adapter, write_adapter
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.packing import pack_sequences
from textgym.tokenizer import Tokenizer

FAMILIES = {
    "gpt2": GPT2,
    "gpt_neox": SMALL,
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "falcon": SMALL,
    "starcoder2": {**SMALL, "num_key_value_heads": 2, "sliding_window": 16},
    "mixtral": {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4},
    "bloom": {"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 4},
}
WITHOUT_CACHE = {"bloom"}


def saved(directory, family, **changed):
    """A small random checkpoint as transformers writes it, with bytes as tokens."""
    config = transformers.AutoConfig.for_model(family, **{**FAMILIES.get(family, SMALL), **changed})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():  # distributions that are far from flat
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)
    model.save_pretrained(directory)
    Tokenizer.byte().write_files(directory)
    return model


def opened(directory):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*there is no cache")
        return CausalLM.from_pretrained(directory)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gpt2")
    saved(directory, "gpt2")
    return directory


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_transformers_and_so_are_those_of_decoding(family, tmp_path):
    model, lm = saved(tmp_path, family), opened(tmp_path)
    assert lm.model.is_stepwise == (family not in WITHOUT_CACHE)
    rows = torch.randint(3, 250, (3, 7), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 2, 5])
    with torch.no_grad():
        for row, length, logits in zip(rows, lengths, lm(rows, lengths), strict=True):
            alone = model(input_ids=row[None, :length]).logits[0]
            torch.testing.assert_close(logits[:length], alone, atol=1e-4, rtol=1e-4)
        decoder = CachedDecoder(lm, lm.tokenizer.pad_token_id)
        seen = torch.full((3, 9), lm.tokenizer.pad_token_id)
        for place in range(9):
            stands = place - torch.tensor([0, 3, 1])  # rows begin anew at different times
            seen[stands == 0] = lm.tokenizer.pad_token_id
            stands = stands.clamp(min=0)
            seen[torch.arange(3), stands] = rows[torch.arange(3), stands % 7]
            hidden = decoder(seen)
            expected = lm.packed(*pack_sequences([r[r != 0].tolist() for r in seen]))
            last = (seen != 0).sum(1).cumsum(0) - 1
            torch.testing.assert_close(hidden, expected[last], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "opt", "mixtral"])
def test_what_came_in_goes_out_as_transformers_has_it(family, tmp_path):
    model, lm = saved(tmp_path / "in", family), opened(tmp_path / "in")
    lm.save_pretrained(tmp_path / "out")
    again, back = opened(tmp_path / "out"), transformers.AutoModelForCausalLM
    for name, tensor in lm.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    reopened = back.from_pretrained(tmp_path / "out").eval()
    assert type(reopened) is type(model)
    tokens = torch.arange(5, 15)[None]
    torch.testing.assert_close(reopened(tokens).logits, model(tokens).logits)
    assert again.generate("ab", max_new_tokens=5, seed=0) == lm.generate(
        "ab", max_new_tokens=5, seed=0
    )


@pytest.mark.parametrize("family", ["gpt2", "bloom"])
def test_the_first_ratio_is_one(family, tmp_path):
    """Tokens drawn row by row have the probabilities that the update gives them."""
    saved(tmp_path, family)
    agent = textgym.make_agent(
        "ppo", "textgym/Length-v0", policy=opened(tmp_path), n_envs=4, n_steps=40, seed=0
    )
    for batch in rollout(set_up(agent)).get(64):
        log_prob = agent.policy.evaluate_actions(batch.observations, batch.actions.flatten())[1]
        torch.testing.assert_close(log_prob, batch.old_log_prob, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's
@pytest.mark.parametrize("use_dora", [False, True])
def test_gpt2_takes_an_adapter_that_peft_opens(use_dora, gpt2, tmp_path):
    """Its linear layers are `Conv1D`, with weights that stand the other way."""
    lm = opened(gpt2)
    add_adapter(lm, LoRA.of(4, use_dora=use_dora), seed=1)
    assert lm.adapter.targets == ("c_attn", "c_proj", "c_fc")
    tokens = torch.tensor([[5, 9, 7, 30]])
    before = lm(tokens)
    torch.testing.assert_close(before, opened(gpt2)(tokens))
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    found = lm(tokens)
    assert (found - before)[..., :259].abs().max() > 0.1
    write_adapter(lm, tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt2)
    theirs = peft.PeftModel.from_pretrained(model, str(tmp_path))(input_ids=tokens).logits
    torch.testing.assert_close(found[..., 3:259], theirs[..., 3:259], rtol=0, atol=1e-5)
    lm.without_adapter().save_pretrained(tmp_path / "base")
    torch.testing.assert_close(lm.without_adapter()(tokens), before)
    lm.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(opened(tmp_path / "merged")(tokens), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("agent", ["ppo", "grpo"])
def test_agents_learn_with_them_and_come_back(agent, gpt2, tmp_path):
    keywords = {"n_envs": 4, "seed": 0, "learning_rate": 1e-3, "kl_coef": 0.05, "policy": gpt2}
    made = textgym.make_agent(agent, "textgym/Length-v0", out=tmp_path / "run", **keywords)
    before = opened(gpt2).state_dict()
    made.learn(600)
    after = CausalLM.from_agent(made)
    changed = {k for k, v in after.state_dict().items() if not torch.equal(v, before[k])}
    assert {"model.body.wte.weight", "model.body.h.1.attn.c_attn.weight"} <= changed
    again = textgym.load_agent(tmp_path / "run")
    for name, tensor in made.policy.state_dict().items():
        assert torch.equal(tensor, again.policy.state_dict()[name]), name
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    tokens = torch.arange(5, 15)[None]
    torch.testing.assert_close(model(tokens).logits, after(tokens))


def test_fine_tuning_goes_on_with_its_weights(gpt2, tmp_path):
    rows = [{"prompt": f"ask {i}", "completion": " say it"} for i in range(8)]
    report = textgym.sft(
        rows, policy=gpt2, out=tmp_path / "run", steps=30, heldout=0.25, batch_size=4,
        optimizer="adamw", learning_rate=3e-3, dropout=0.0, progress_bar=False, report=print,
    )  # fmt: skip
    losses = [loss for _, loss in report.heldout]
    assert losses[-1] < 0.5 * losses[0]
    assert type(opened(tmp_path / "run").model).__name__ == "ForeignTrunk"


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path, gpt2):
    def refused(text, directory):
        with pytest.raises(InputError) as caught:
            CausalLM.from_pretrained(directory)
        assert text in str(caught.value) and "\n" not in str(caught.value)
        assert str(directory) in str(caught.value)

    config = transformers.AutoConfig.for_model("cohere", **SMALL)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "cohere")
    Tokenizer.byte().write_files(tmp_path / "cohere")
    refused("capping, scaling", tmp_path / "cohere")
    lm = tmp_path / "lm"
    for key, value, text in (
        ("model_type", "gpt9", "neither our decoder nor transformers"),
        ("auto_map", {"AutoConfig": "code.Config"}, "code of its own (auto_map)"),
        ("quantization_config", {"bits": 4}, "quantized (quantization_config)"),
        ("n_layer", 10**9, "expected from 1 to 1024 layers, got 1000000000"),
        ("n_layer", 3, "missing weights, transformer.h.2."),
        ("n_layer", 1, "unexpected weights, transformer.h.1."),
        ("n_positions", 32, "'transformer.wpe.weight' has shape (64, 32), but its"),
        ("n_embd", 2**20, "its configuration calls for"),
        ("n_head", 5, "transformers cannot"),
        ("n_head", -1, "a gpt2 model cannot be run here"),
    ):
        shutil.copytree(gpt2, lm)
        config = json.loads((lm / "config.json").read_text())
        (lm / "config.json").write_text(json.dumps({**config, key: value}))
        refused(text, lm)
        shutil.rmtree(lm)
    shutil.copytree(gpt2, lm)
    (lm / "model.safetensors").rename(lm / "pytorch_model.bin")
    refused("holds pickled weights only (pytorch_model.bin)", lm)
    with pytest.raises(InputError, match=r"dropout=0.1 is not there for a gpt2 model"):
        textgym.sft(
            [{"prompt": "a", "completion": "b"}], policy=gpt2, out=tmp_path / "o", dropout=0.1
        )


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
def test_weights_that_are_not_what_the_configuration_says(family, tmp_path):
    """A head under `tie_word_embeddings`, whole numbers, NaN: for both kinds of trunk."""
    saved(tmp_path, family, tie_word_embeddings=True)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good, said = load_file(file), json.loads(config.read_text())
    embeddings = next(name for name in good if name.endswith(("embed_tokens.weight", "wte.weight")))
    size = good[embeddings].shape
    other = torch.randn(size, generator=torch.Generator().manual_seed(3))

    def opens(tensors, **changed):
        save_file(tensors, file, metadata={"format": "pt"})
        config.write_text(json.dumps({**said, **changed}))
        return opened(tmp_path)

    apart = {**good, "lm_head.weight": other}
    with pytest.raises(InputError, match="hold a head of its own, but config"):
        opens(apart)
    lm = opens(apart, tie_word_embeddings=False)
    assert torch.equal(lm.lm_head.weight, other)
    tokens = torch.tensor([[5, 9, 7]])
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=tokens).logits
    torch.testing.assert_close(lm(tokens, torch.tensor([3]))[..., 3:259], expected[..., 3:259])
    lm = opens({**good, "lm_head.weight": good[embeddings].clone()})  # the same twice
    assert lm.lm_head.weight is lm.model.embed_tokens.weight
    whole_numbers = {**good, embeddings: (9 * good[embeddings]).to(torch.int8)}
    with pytest.raises(InputError, match=f"{embeddings}' must be floating point, found I8"):
        opens(whole_numbers)
    good[embeddings][3, 1] = torch.nan
    with pytest.raises(InputError, match="are not finite"):
        opens(good)
    with pytest.raises(InputError, match=r"quantized \(quantization_config\)"):
        opens(apart, quantization_config={"quant_method": "fp8"})


def test_local_attention_ends_the_context(tmp_path):
    saved(tmp_path, "starcoder2")
    assert opened(tmp_path).config.max_position_embeddings == 16


def test_numbers_are_as_the_model_has_them(gpt2):
    lm = opened(gpt2)
    assert (lm.config.vocab_size, lm.config.hidden_size) == (300, 32)
    assert lm.config.max_position_embeddings == 64 and lm.config.tie_word_embeddings
    assert lm.lm_head.weight is lm.model.embed_tokens.weight
    assert lm.config.parameter_count == sum(p.numel() for p in lm.parameters())


def test_a_reward_model_on_one_takes_the_same_settings_however_it_is_given(tmp_path):
    saved(tmp_path / "lm", "gpt2")
    pairs = [{"prompt": f"{i}: ", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(40)]
    used = {}
    for name, policy in (("directory", tmp_path / "lm"), ("model", opened(tmp_path / "lm"))):
        textgym.fit_reward(
            pairs,
            policy=policy,
            out=tmp_path / name,
            freeze=True,
            progress_bar=False,
            report=lambda text: None,
        )
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text(encoding="utf-8"))
        used[name] = [config[key] for key in ("optimizer", "learning_rate", "muon_learning_rate")]
    assert used == {"directory": ["adamw", 5e-5, None], "model": ["adamw", 5e-5, None]}
