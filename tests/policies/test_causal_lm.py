"""The language model against transformers' own, and checkpoints that are wrong."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from textgym_families import FAMILY_SHAPES, LLAMA3
from textgym_testing import letter_tokenizer, tiny_lm

from textgym.errors import InputError
from textgym.manifest import MANIFEST
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

THEIRS = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "llama untied, grouped": ("LlamaConfig", {"tie_word_embeddings": False}),
    "llama 3 rope": ("LlamaConfig", {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}}),
    "mistral": ("MistralConfig", {"head_dim": 6, "sliding_window": 48}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 10}),
    "smollm3": ("SmolLM3Config", {"num_hidden_layers": 5, "pad_token_id": 0}),
    "gemma": ("GemmaConfig", {"head_dim": 12}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {"num_hidden_layers": 7, "head_dim": 10, "query_pre_attn_scalar": 24, "sliding_window": 48},
    ),
    "gemma3_text of the hub": (
        "Gemma3TextConfig",
        {
            "num_hidden_layers": 3,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A function that gives a directory written by transformers, and the model in it."""
    made = {}

    def make(name):
        if name not in made:
            directory = tmp_path_factory.mktemp("theirs")
            cls, fields = THEIRS[name]
            config = getattr(transformers, cls)(
                vocab_size=272,  # more rows than the tokenizer has tokens, as in Qwen's
                **{
                    "hidden_size": 32,
                    "intermediate_size": 48,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "max_position_embeddings": 64,
                    "initializer_range": 0.3,
                    **fields,
                },
            )
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = transformers.AutoModelForCausalLM.from_config(config).eval()
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(1)
                for key, parameter in model.named_parameters():
                    if key.endswith("bias") or "norm" in key:
                        parameter.add_(torch.randn_like(parameter) / 5)
            model.save_pretrained(directory)
            Tokenizer.byte().save(directory)
            made[name] = directory, model
        return made[name]

    return make


def tokens_and_lengths(vocab_size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, vocab_size, (3, 40), generator=generator)
    return tokens, torch.tensor([40, 7, 1])


@torch.no_grad()
def their_logits(model, tokens, lengths):
    is_token = torch.arange(tokens.shape[1]) < lengths[:, None]
    return model(input_ids=tokens, attention_mask=is_token.long()).logits


@torch.no_grad()
def assert_equal_logits(lm, model):
    """Full rows, padded rows, and one token at a time against the cache."""
    tokens, lengths = tokens_and_lengths(lm.tokenizer.vocab_size)
    expected = model(input_ids=tokens).logits
    assert expected.std() > 0.3  # else every model would pass
    torch.testing.assert_close(lm(tokens), expected, rtol=0, atol=1e-4)
    padded, ours = their_logits(model, tokens, lengths), lm(tokens, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(ours[row, :length], padded[row, :length], rtol=0, atol=1e-4)
        assert bool((ours[row, length:] == 0).all())
    rows = torch.full_like(tokens, lm.tokenizer.pad_token_id)
    decoder = CachedDecoder(lm.model, lm.tokenizer.pad_token_id)
    for position in range(tokens.shape[1]):
        rows[:, position] = tokens[:, position]
        logits = lm.lm_head(decoder(rows))
        torch.testing.assert_close(logits, expected[:, position], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", THEIRS)
def test_a_checkpoint_of_transformers_gives_the_same_logits(theirs, name):
    directory, model = theirs(name)
    lm = CausalLM.from_pretrained(directory)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in lm.parameters())
    tied = lm.lm_head.weight is lm.model.embed_tokens.weight
    assert tied == model.config.tie_word_embeddings
    assert_equal_logits(lm, model)


@pytest.mark.parametrize("name", FAMILY_SHAPES)
def test_transformers_opens_ours_with_the_same_logits(name, tmp_path):
    lm = tiny_lm(Tokenizer.byte(), hidden_size=32, num_attention_heads=4, **FAMILY_SHAPES[name])
    with torch.no_grad():
        for key, parameter in lm.named_parameters():
            if key.endswith("bias"):
                parameter.add_(0.3)
    lm.save_pretrained(tmp_path / "lm")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "lm", dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.model_type == name.split()[0]
    assert_equal_logits(lm, model.eval())
    again = CausalLM.from_pretrained(tmp_path / "lm")
    assert again.config == CausalLMConfig(**{**vars(lm.config), "model_type": name.split()[0]})
    assert again.tokenizer == lm.tokenizer
    for key, tensor in lm.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])


@pytest.mark.parametrize("name", THEIRS)
def test_saving_what_was_loaded_changes_nothing(theirs, name, tmp_path):
    lm = CausalLM.from_pretrained(theirs(name)[0])
    lm.save_pretrained(tmp_path / "lm")
    again = CausalLM.from_pretrained(tmp_path / "lm")
    assert again.config == lm.config
    tokens, lengths = tokens_and_lengths(259)
    assert torch.equal(again(tokens, lengths), lm(tokens, lengths))
    for key, tensor in theirs(name)[1].state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)
    opened = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "lm").eval()
    with torch.no_grad():
        expected = theirs(name)[1](input_ids=tokens).logits
        torch.testing.assert_close(opened(input_ids=tokens).logits, expected, rtol=0, atol=1e-4)


def test_a_sliding_window_limits_the_context(theirs):
    assert CausalLM.from_pretrained(theirs("mistral")[0]).config.max_position_embeddings == 48


def test_half_precision_on_disk_comes_back_as_float32(tmp_path):
    from textgym.policies.language_model.checkpoint import save_pretrained

    lm = tiny_lm()
    save_pretrained(lm, tmp_path / "lm", dtype=torch.bfloat16)
    stored = load_file(tmp_path / "lm" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in stored  # tied
    again = CausalLM.from_pretrained(tmp_path / "lm")
    weight = again.model.embed_tokens.weight
    assert torch.equal(weight, lm.model.embed_tokens.weight.bfloat16().float())


def test_fresh_weights_follow_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    first, same, other = (tiny_lm(seed=seed, spread=1.0) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, dict(same.named_parameters())[name])
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert float(first.lm_head.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    branch = first.model.layers[0].mlp.down_proj.weight
    assert float(branch.detach().std()) == pytest.approx(0.02 / 2, rel=0.2)  # 1 / √(2 · 2 layers)


def test_a_copy_is_independent_and_stays_tied():
    lm = tiny_lm()
    other = copy.deepcopy(lm)
    assert other.lm_head.weight is other.model.embed_tokens.weight
    with torch.no_grad():
        other.lm_head.weight.add_(1.0)
    assert not torch.equal(lm.lm_head.weight, other.lm_head.weight)


def test_shapes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"\(3\) must be a multiple of num_key_value_heads \(2\)"):
        CausalLMConfig(9, num_attention_heads=3, num_key_value_heads=2)
    with pytest.raises(InputError, match="must be even for rotary positions, got 5"):
        CausalLMConfig(9, head_dim=5)
    with pytest.raises(InputError, match="exclude each other"):
        CausalLMConfig(9, attention_bias=True, qk_norm=True)
    with pytest.raises(InputError, match="tokenizer has 259 tokens, but the model only 7"):
        CausalLM(CausalLMConfig(7), Tokenizer.byte())


@pytest.fixture
def saved(tmp_path):
    """A checkpoint without a manifest, free to be damaged, and a function to edit its config."""
    directory = tmp_path / "lm"
    tiny_lm().save_pretrained(directory)
    (directory / MANIFEST).unlink()

    def edit(**changes):
        path = directory / "config.json"
        content = json.loads(path.read_text())
        content = {k: v for k, v in {**content, **changes}.items() if v != "delete"}
        path.write_text(json.dumps(content))

    return directory, edit


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "gpt9"}, "model_type 'gpt9' is not supported: neither our decoder nor"),
        ({"model_type": "gpt2"}, "missing weights, lm_head.weight among 29"),
        ({"model_type": "gemma2"}, r"'gemma2' is not supported \(it caps attention scores by a ta"),
        ({"model_type": "gemma3"}, r"not supported \(it reads pictures too; .* is gemma3_text\)"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is not supported"),
        ({"model_type": "gemma", "hidden_act": "gelu"}, "'gelu' is not supported, only gelu_pyt"),
        ({"model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers must be a list of 2"),
        ({"model_type": "gemma3_text", "hidden_act": None, "layer_types": [1, 2]}, "layer_types m"),
        ({"hidden_size": "delete"}, "the key 'hidden_size' is missing"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"attention_bias": True}, "attention_bias=true is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type 'linear' is not supp"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope type 'longrope' is not supported"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "llama3 rope lacks 'factor'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial rotary positions"),
        ({"vocab_size": 5}, "tokenizer has 7 tokens, but the model only 5"),
        ({"vocab_size": 9}, r"'model.embed_tokens.weight' has shape \(7, 16\), but .* \(9, 16\)"),
        ({"num_hidden_layers": 3}, r"weights lack 'model\.layers\.2\.[a-z_.]+', which its config"),
        ({"num_hidden_layers": 1}, r"unexpected weights, 'model\.layers\.1\.[a-z_.]+' among 9"),
        ({"tie_word_embeddings": False}, r"no head of their own, but config\.json says tie"),
        ({"head_dim": 7}, "head_dim must be even"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_one_line(saved, changes, message):
    directory, edit = saved
    edit(**changes)
    with pytest.raises(InputError, match=message) as caught:
        CausalLM.from_pretrained(directory)
    assert "\n" not in str(caught.value) and str(directory) in str(caught.value)


def test_damaged_and_missing_files_name_themselves(saved, tmp_path):
    directory, _ = saved
    with pytest.raises(InputError, match="nowhere: no such directory"):
        CausalLM.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        CausalLM.from_pretrained(tmp_path)
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file"):
        CausalLM.from_pretrained(directory)
    weights.unlink()
    with pytest.raises(InputError, match=r"holds no weights: expected model\.safetensors, or"):
        CausalLM.from_pretrained(directory)
    (directory / "config.json").write_text("{")
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json: not valid JSON"):
        CausalLM.from_pretrained(directory)


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    tiny_lm().save_pretrained(tmp_path / "lm")
    weights = tmp_path / "lm" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged \(SHA-256 differs\)"):
        CausalLM.from_pretrained(tmp_path / "lm")


def test_pickles_are_never_opened(saved):
    directory, _ = saved
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"holds pickled weights only \(pytorch_model\.bin\)"):
        CausalLM.from_pretrained(directory)


def test_weights_in_shards_and_old_rotary_buffers_are_read(saved):
    directory, _ = saved
    lm = CausalLM.from_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, directory / shard)
    index = directory / "model.safetensors.index.json"
    weight_map = {key: shard for shard, keys in shards.items() for key in keys}
    index.write_text(json.dumps({"weight_map": weight_map}))
    again = CausalLM.from_pretrained(directory)
    tokens, lengths = tokens_and_lengths(7)
    assert torch.equal(again(tokens, lengths), lm(tokens, lengths))
    index.write_text(json.dumps({"weight_map": {"x": "../a.safetensors"}}))
    with pytest.raises(InputError, match="names files outside the checkpoint"):
        CausalLM.from_pretrained(directory)
    index.write_text("[]")
    with pytest.raises(InputError, match="expected a weight_map"):
        CausalLM.from_pretrained(directory)


def test_shards_of_transformers_are_read_and_a_missing_one_is_named(theirs, tmp_path):
    _, model = theirs("gemma3_text")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    Tokenizer.byte().write_files(tmp_path)
    shards = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert_equal_logits(CausalLM.from_pretrained(tmp_path), model)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(InputError, match=rf"the shard {shards[1]} is missing \(1 of {len(shards)}"):
        CausalLM.from_pretrained(tmp_path)


def test_a_slow_tokenizer_alone_says_what_writes_a_fast_one(saved):
    directory, _ = saved
    (directory / "tokenizer.json").rename(directory / "tokenizer.model")
    with pytest.raises(InputError, match=r"slow tokenizer only \(tokenizer\.m.*AutoTokenizer"):
        CausalLM.from_pretrained(directory)


def test_a_run_directory_stands_for_its_best_model_even_after_a_crash(tmp_path):
    lm = tiny_lm(seed=5)
    best = tmp_path / "checkpoints" / "best"
    lm.save_pretrained(best)
    tiny_lm(seed=6).save_pretrained(tmp_path / "checkpoints" / "last")
    aside = best.parent / ".tmp-old-best-abcdefgh"
    shutil.move(best, aside / "best")  # a crash between the two renames of a replacement
    again = CausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.lm_head.weight, lm.lm_head.weight)


def test_hidden_states_are_what_the_head_reads_and_zero_at_the_padding():
    lm = tiny_lm(letter_tokenizer(), tie_word_embeddings=False)
    tokens, lengths = torch.tensor([[3, 4, 5], [6, 0, 0]]), torch.tensor([3, 1])
    hidden = lm.hidden_states(tokens, lengths)
    assert hidden.shape == (2, 3, 16) and bool((hidden[1, 1:] == 0).all())
    torch.testing.assert_close(lm.lm_head(hidden), lm(tokens, lengths))
    alone = lm.hidden_states(tokens[1:, :1])
    torch.testing.assert_close(hidden[1:, :1], alone)


def test_a_checkpoint_can_be_read_by_everybody(tmp_path):
    tiny_lm().save_pretrained(tmp_path / "lm")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "lm").iterdir()}
    assert set(modes.values()) == {"0o644"}, modes
