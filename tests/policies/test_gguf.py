"""GGUF files against the models of transformers' that they were made from, and damaged ones."""

import hashlib
import json
import warnings

import gguf
import numpy as np
import pytest
import torch
import transformers
from front_door import ENV, run_cli
from textgym_checkpoints import END, FURTHER, SPARE, START, read
from textgym_gguf import SHAPE, TEMPLATE, model_of, tokenizer, words, write_gguf

import textgym
from textgym.errors import InputError
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer

KINDS = gguf.GGMLQuantizationType
FAMILIES = {
    "llama": {"tie_word_embeddings": True},
    "llama untied": {"tie_word_embeddings": False, "head_dim": 10},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": False, "head_dim": 12},
}
TEXTS = (
    "the cat sat on the mat",
    "  two  spaces\n\n\ttabs",
    "don't we'll I'M 1999",
    "中文文本，好看！",
    "éè 🤖👩‍👧",
    "x = foo(bar)[0] # c\r\n",
    " leading and trailing ",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A function that gives a GGUF file of a family, and the model in it."""
    made = {}

    def make(name):
        if name not in made:
            model = model_of(name.split()[0], **FAMILIES[name])
            path = tmp_path_factory.mktemp("gguf") / f"{name.replace(' ', '-')}.gguf"
            made[name] = write_gguf(path, model), model
        return made[name]

    return make


@torch.no_grad()
def assert_equal_logits(lm, model):
    """In one pass, packed with shorter rows, and one token at a time against the cache."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 259, (2, 24), generator=generator)
    expected = model(input_ids=tokens).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(lm(tokens), expected, rtol=0, atol=1e-4)
    short = lm(tokens, torch.tensor([24, 5]))[1, :5]
    torch.testing.assert_close(short, expected[1, :5], rtol=0, atol=1e-4)
    rows, decoder = torch.zeros_like(tokens) + lm.tokenizer.pad_token_id, None
    decoder = CachedDecoder(lm.model, lm.tokenizer.pad_token_id)
    for position in range(tokens.shape[1]):
        rows[:, position] = tokens[:, position]
        logits = lm.lm_head(decoder(rows))
        torch.testing.assert_close(logits, expected[:, position], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_gives_the_logits_of_the_model_that_it_was_made_from(files, name, tmp_path):
    path, model = files(name)
    lm = CausalLM.from_pretrained(path)
    assert lm.config.model_type == name.split()[0]
    assert lm.config.tie_word_embeddings == model.config.tie_word_embeddings
    assert lm.config.rope_theta == 5000.0 and lm.config.max_position_embeddings == 64
    assert_equal_logits(lm, model)
    for key, tensor in lm.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key
    lm.save_pretrained(tmp_path / "lm")  # and as a directory of transformers'
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "lm").eval()
    assert_equal_logits(lm, theirs)
    again = CausalLM.from_pretrained(tmp_path / "lm")
    assert again.tokenizer == lm.tokenizer and again.config == lm.config


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_matrices_are_those_that_the_library_gives_back(kind, tmp_path):
    model = model_of("llama")
    path = write_gguf(tmp_path / "m.gguf", model, kind=KINDS[kind])
    state = CausalLM.from_pretrained(path).state_dict()
    for key, tensor in model.state_dict().items():
        expected = tensor.numpy()
        if expected.ndim == 2:  # by rows, so that their order does not matter
            expected = gguf.quants.dequantize(
                gguf.quants.quantize(expected, KINDS[kind]), KINDS[kind]
            )
            assert not np.array_equal(expected, tensor.numpy())
        assert np.array_equal(state[key].numpy(), expected), key


@pytest.mark.parametrize("name, kind", [("llama", "Q4_1"), ("qwen3", "Q8_0")])
def test_transformers_reads_the_same_model_from_a_quantised_file(name, kind, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", model_of(name), kind=KINDS[kind])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file="m.gguf",
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()
    assert_equal_logits(CausalLM.from_pretrained(path), theirs)


def test_llama_3s_stretched_frequencies_are_told_from_their_divisors(tmp_path):
    stretched = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain = model_of("llama", hidden_size=64, rope_theta=500_000.0)
    rope = {**stretched, "rope_theta": 500_000.0}
    model = model_of("llama", hidden_size=64, rope_theta=500_000.0, rope_parameters=rope)
    model.load_state_dict(plain.state_dict())
    theirs = model.model.rotary_emb.inv_freq
    divisors = (plain.model.rotary_emb.inv_freq / theirs).numpy()
    assert divisors.max() == pytest.approx(32.0) and divisors.min() == 1.0
    path = tmp_path / "m.gguf"
    with_extra(path, plain, "rope_freqs.weight", divisors)
    lm = CausalLM.from_pretrained(path)
    assert lm.config.rope_scaling == stretched
    torch.testing.assert_close(lm.model.inv_freq, theirs, rtol=1e-5, atol=0)
    with_extra(path, plain, "rope_freqs.weight", divisors * 2)
    with pytest.raises(InputError, match=r"m\.gguf: rope_freqs\.weight is not Llama 3's"):
        CausalLM.from_pretrained(path)


def with_extra(path, model, name, values):
    """A file with one tensor more."""
    add = gguf.GGUFWriter.add_tensor
    done = []

    def once(writer, key, *arguments, **keywords):
        if not done:
            done.append(True)
            add(writer, name, values.astype(np.float32))
        add(writer, key, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", once)
        write_gguf(path, model, metadata={"llama.rope.freq_base": 500_000.0})


# ---- The tokenizer --------------------------------------------------------------


def learned_words():
    """A vocabulary with merges, of which the last two tokens are special."""
    source = Tokenizer.train_bpe([*TEXTS, "don't do that, 19 cats and 99 mats"] * 9, vocab_size=300)
    state = json.loads(source.to_json())
    tokens, types, _ = words(source)
    for name in (SPARE, START, END, FURTHER):
        tokens.append(name)
        types.append(3)
    return tokens, types, [" ".join(merge) for merge in state["model"]["merges"]]


def write_words(path, *, pre="gpt-2", vocab=None, **metadata):
    """A file whose tokenizer has merges."""
    tokens, types, merges = vocab or learned_words()
    model = model_of("llama", vocab_size=len(tokens))
    ids = {"eos": END, "bos": START, "padding": SPARE}
    roles = {f"tokenizer.ggml.{k}_token_id": tokens.index(v) for k, v in ids.items()}
    keys = {"tokenizer.ggml.pre": pre, **roles, **metadata}
    return write_gguf(path, model, vocab=(tokens, types, merges), metadata=keys)


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2", "llama-bpe"])
def test_tokens_are_those_of_transformers_on_the_same_file(pre, tmp_path):
    path = write_words(tmp_path / "m.gguf", pre=pre)
    ours = Tokenizer.load(path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in TEXTS:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ours.encode(text)) == text
    assert len(ours.encode("the cat sat")) < len("the cat sat")  # merges apply
    assert (ours.eos_token, ours.bos_token, ours.pad_token) == (END, START, SPARE)
    messages = [{"role": "user", "content": "hi"}]
    ours.save(tmp_path / "saved")
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved.apply_chat_template(messages, tokenize=False) == "<|im_start|>hi<|im_end|>"
    start = [ours.bos_token_id] if pre == "llama-bpe" else []  # which says so in no other way
    assert ours.start_ids == start
    for text in TEXTS:
        assert saved(text)["input_ids"] == start + ours.encode(text)


def test_smollms_tokenizer_takes_each_digit_alone(tmp_path):
    vocab = learned_words()
    assert "99" in vocab[0]
    as_gpt2 = Tokenizer.load(write_words(tmp_path / "a.gguf", vocab=vocab))
    as_smollm = Tokenizer.load(write_words(tmp_path / "b.gguf", vocab=vocab, pre="smollm"))
    assert len(as_gpt2.encode("99")) == 1
    assert [as_smollm.decode([i]) for i in as_smollm.encode("99")] == ["9", "9"]
    assert as_smollm.encode("the cat") == as_gpt2.encode("the cat")


def test_roles_beyond_the_three_are_read(tmp_path):
    tokens = learned_words()[0]
    keys = {"tokenizer.ggml.eot_token_id": tokens.index(FURTHER)}
    path = write_words(tmp_path / "m.gguf", **keys, **{"tokenizer.ggml.add_bos_token": True})
    loaded = Tokenizer.load(path)
    assert loaded.eos_token_ids == (tokens.index(END), tokens.index(FURTHER))
    assert loaded.start_ids == [tokens.index(START)]
    assert Tokenizer.load(path, pad_token="<|pad|>").pad_token == "<|pad|>"
    ours = CausalLM.from_pretrained(path)
    ours.save_pretrained(tmp_path / "lm")
    stops = [tokens.index(END), tokens.index(FURTHER)]
    assert read(tmp_path / "lm" / "generation_config.json")["eos_token_id"] == stops
    assert read(tmp_path / "lm" / "tokenizer_config.json")["chat_template"] == TEMPLATE


def test_unused_tokens_at_the_end_are_rows_that_no_token_has(tmp_path):
    tokens, types, merges = learned_words()
    vocab = ([*tokens, "[PAD304]", "[PAD305]"], [*types, 5, 5], merges)
    lm = CausalLM.from_pretrained(write_words(tmp_path / "m.gguf", vocab=vocab))
    assert lm.tokenizer.vocab_size == len(tokens) == lm.config.vocab_size - 2


# ---- As a policy ----------------------------------------------------------------


def test_verbs_take_a_file_as_the_policy_and_the_reference(files, tmp_path):
    path, _ = files("llama")
    code, out, error = run_cli("generate", path, "--prompt", "a", "--max-new-tokens", 3)
    assert code == 0 and out.startswith("a"), error
    words = ["train", ENV, "--policy", path, "--timesteps", 8, "--n-envs", 2, "--n-steps", 4]
    out = tmp_path / "run"
    code, _, error = run_cli(*words, "--kl-coef", 0.1, "--no-progress-bar", "--out", out)
    assert code == 0, error
    assert CausalLM.from_pretrained(out).tokenizer.eos_token == END
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read(out / "provenance.json")["start"]["policy"] == {str(path): digest}
    agent = textgym.make_agent("ppo", ENV, policy=str(path), seed=0, n_envs=2)
    assert agent.policy.lm.config.model_type == "llama"


# ---- What is wrong with a file ---------------------------------------------------


def refused(path, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as caught:
            CausalLM.from_pretrained(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_is_none_is_refused_in_one_line(files, tmp_path):
    refused(tmp_path / "nowhere.gguf", r"nowhere\.gguf: cannot be read \(No such file")
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    refused(path, "not a GGUF file that can be read")
    path.write_bytes(b"not at all" * 100)
    refused(path, "not a GGUF file that can be read")
    content = files("llama")[0].read_bytes()
    for length in (100, 2000, len(content) - 5000):
        path.write_bytes(content[:length])
        refused(path, "not a GGUF file that can be read")


@pytest.mark.parametrize(
    "metadata, message",
    [
        ({"llama.block_count": None}, "the key 'llama.block_count' is missing"),
        ({"llama.block_count": 3}, "calls for 44,480 weights .* hold at most 35,424"),
        ({"llama.block_count": 1}, r"unexpected weights, 'blk\.1\."),
        ({"llama.feed_forward_length": 63}, "has shape .*, but its configuration calls for"),
        ({"llama.attention.head_count": 3}, "must be a multiple of num_key_value_heads"),
        ({"llama.expert_count": 4}, "mixtures of experts are not supported"),
        ({"llama.rope.scaling.type": "yarn"}, "rope type 'yarn' is not supported"),
        ({"llama.rope.dimension_count": 4}, "partial rotary positions, are not supported"),
        (
            {"tokenizer.ggml.model": "t5"},
            "of the kind 't5'; of a GGUF file byte-level BPE .*and Sent",
        ),
        ({"tokenizer.ggml.pre": "tekken"}, r"cuts texts \('tekken'\) is not known here, only gpt"),
        ({"tokenizer.ggml.eos_token_id": 9999}, "eos_token_id must be a whole number from 0 to"),
        ({"tokenizer.ggml.eos_token_id": None}, "names no eos token"),
    ],
)
def test_metadata_that_do_not_fit_are_named(metadata, message, tmp_path):
    refused(write_gguf(tmp_path / "m.gguf", model_of("llama"), metadata=metadata), message)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", model_of("llama"), leave_out=["blk.1.ffn_norm.weight"])
    refused(path, r"weights lack 'model\.layers\.1\.post_attention_layernorm\.weight'")
    path = write_gguf(tmp_path / "n.gguf", model_of("llama"), leave_out=["token_embd.weight"])
    refused(path, "weights lack 'token_embd.weight', the embeddings")


def test_another_architecture_is_named_with_those_that_open(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path / "m.gguf", "architecture 'gpt2' is not supported; expected one of llama")


def test_a_quantisation_that_cannot_be_undone_is_named(tmp_path):
    path = tmp_path / "m.gguf"
    add = gguf.GGUFWriter.add_tensor

    def packed(writer, name, values, *arguments, **keywords):
        if name == "blk.1.ffn_up.weight":  # 8-bit sums, which are no format of weights
            blocks = np.zeros((64, 292), dtype=np.uint8)
            add(writer, name, blocks, raw_dtype=KINDS.Q8_K)
        else:
            add(writer, name, values, *arguments, **keywords)

    model = model_of("llama", hidden_size=256, intermediate_size=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_tensor", packed)
        write_gguf(path, model)
    refused(path, r"'blk\.1\.ffn_up\.weight' is quantised as Q8_K, which cannot be undone here")


def test_values_that_are_not_finite_are_refused(tmp_path):
    def spoil(name, values):
        return values * np.float32("nan") if name == "blk.0.attn_v.weight" else values

    path = write_gguf(tmp_path / "m.gguf", model_of("llama"), change=spoil)
    refused(path, r"'model\.layers\.0\.self_attn\.v_proj\.weight' are not finite")


def test_a_file_without_the_library_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(InputError, match=r"needs gguf.*pip install 'textgym\[gguf\]'"):
        CausalLM.from_pretrained(files("llama")[0])


def test_shapes_in_the_support_fit_the_blocks_of_every_kind():
    assert SHAPE["hidden_size"] % 32 == 0 and SHAPE["intermediate_size"] % 32 == 0
    assert tokenizer().vocab_size == 263
