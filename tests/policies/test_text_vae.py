"""The text variational autoencoder: its rows, its cache, its face for environments, its files."""

import numpy as np
import pytest
import torch
from textgym_testing import BOS, EOS, letter_tokenizer

from textgym.errors import InputError
from textgym.policies import TextVAE
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.packing import pack_sequences
from textgym.tokenizer import Tokenizer

ARCHITECTURES = ("lstm", "transformer")
both = pytest.mark.parametrize("architecture", ARCHITECTURES)


def tiny_vae(architecture="lstm", tokenizer=None, *, spread=8.0, **config):
    """A fresh autoencoder over four letters, whose distributions are far from flat."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "latent_size": 3, "seed": 1}
    shape |= {"mean_scale": 0.0}
    vae = TextVAE.new(
        tokenizer or letter_tokenizer(),
        **{"architecture": architecture, "max_position_embeddings": 32, **shape, **config},
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            if parameter.ndim == 2:
                parameter.mul_(spread)
    return vae


def some_latents(rows, size=3, seed=0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 2


@both
@pytest.mark.parametrize("prompts", [None, ["a", "bcd", "abcda", "dd", "c", "b"]])
def test_a_row_does_not_depend_on_the_others(architecture, prompts):
    vae, z = tiny_vae(architecture), some_latents(6)
    together = vae.decode_tokens(z, prompts, max_new_tokens=12)
    alone = [
        vae.decode_tokens(z[i : i + 1], prompts and prompts[i : i + 1], max_new_tokens=12)[0]
        for i in range(6)
    ]
    assert together == alone
    assert len({tuple(row) for row in together}) > 1  # z matters


@both
def test_decoding_is_the_argmax_of_plain_passes(architecture):
    """No cache: the whole row is read anew for every token."""
    vae, z = tiny_vae(architecture), some_latents(3)
    for latent, written in zip(z, vae.decode_tokens(z, max_new_tokens=8), strict=True):
        row = [BOS] if vae.tokenizer.start_ids else [EOS]
        start = len(row)
        for _ in range(8):
            tokens, lengths = pack_sequences([row])
            logits = vae.lm_head(vae.writer.packed(tokens, lengths, latent[None]))[-1]
            logits[[0, BOS]] = -torch.inf  # padding and start are never written
            token = int(logits.argmax())
            if token == EOS:
                break
            row.append(token)
        assert written == row[start:]


@both
def test_a_token_does_not_see_the_one_behind_it(architecture):
    vae, z = tiny_vae(architecture), some_latents(2)
    lengths = torch.tensor([4, 4])
    tokens = torch.tensor([3, 4, 5, 6, 6, 5, 4, 3])
    changed = tokens.clone()
    changed[3] = 3
    one, other = (vae.writer.packed(t, lengths, z) for t in (tokens, changed))
    assert torch.equal(one[:3], other[:3]) and torch.equal(one[4:], other[4:])
    assert not torch.equal(one[3], other[3])
    moved = vae.writer.packed(tokens, lengths, z + torch.tensor([[0.0], [1.0]]))
    assert torch.allclose(one[:4], moved[:4], atol=1e-6)
    assert (one[4:] - moved[4:]).abs().amin(1).amax() > 0  # z of the second, at every token


def test_encoding_gives_mean_and_log_variance():
    vae = tiny_vae()
    mean, log_variance = vae.encode(["abc", "d", "abc"])
    assert mean.shape == log_variance.shape == (3, 3)
    assert mean.dtype == torch.float32
    assert torch.equal(mean[0], mean[2]) and not torch.equal(mean[0], mean[1])
    hidden = vae.reader(torch.tensor([3, 4, 5, EOS]), torch.tensor([4]))
    expected = hidden @ vae.to_posterior.weight.T + vae.to_posterior.bias
    assert torch.allclose(torch.cat([mean[0], log_variance[0]]), expected[0], atol=1e-6)
    assert [part.shape for part in vae.encode([])] == [(0, 3), (0, 3)]


def test_a_conditional_one_reads_the_prompt_too():
    vae = tiny_vae(conditional=True)
    one, other = (vae.encode(["abc"], [prompt])[0] for prompt in ("a", "bd"))
    assert not torch.equal(one, other)
    with pytest.raises(InputError, match="conditional: encode needs prompts"):
        vae.encode(["abc"])
    with pytest.raises(InputError, match="conditional: decode needs prompts"):
        vae.decode(some_latents(1), max_new_tokens=2)
    with pytest.raises(InputError, match="not conditional: encode texts without prompts"):
        tiny_vae().encode(["abc"], ["a"])
    with pytest.raises(InputError, match="a prompt for each of 1 rows, got 2"):
        vae.encode(["abc"], ["a", "b"])


@both
def test_the_face_for_environments_is_numpy(architecture):
    vae = tiny_vae(architecture)
    assert vae.latent_size == vae.observation_size == 3
    seen = vae.encode_prompts(["ab", "d"])
    assert seen.shape == (2, 3) and seen.dtype == np.float32
    assert np.allclose(seen[0], vae.encode(["ab"])[0][0].numpy(), atol=1e-6)
    z = some_latents(2)
    rows = vae.decode_latents(z.numpy(), ["a", "b"], max_new_tokens=5)
    assert rows == vae.decode_tokens(z, ["a", "b"], max_new_tokens=5)
    assert all(isinstance(token, int) for row in rows for token in row)

    def drawn(seed):
        rng = np.random.default_rng(seed)
        return vae.decode_latents(z.numpy(), ["a", "b"], rng=rng, max_new_tokens=20)

    assert drawn(0) == drawn(0)
    assert len({str(drawn(seed)) for seed in range(8)}) > 1


def test_latents_that_are_none_are_refused():
    vae = tiny_vae()
    with pytest.raises(
        InputError, match=r"latents must be numbers of shape \[b, 3\], got \(2, 4\)"
    ):
        vae.decode_latents(np.zeros((2, 4), np.float32), max_new_tokens=2)
    with pytest.raises(InputError, match=r"of shape \[b, 3\], got \(3,\)"):
        vae.decode(torch.zeros(3), max_new_tokens=2)
    with pytest.raises(InputError, match="latents must be finite numbers, got NaN"):
        vae.decode_latents(np.array([[0, np.nan, 0]]), max_new_tokens=2)
    with pytest.raises(InputError, match=r"latents must be numbers"):
        vae.decode_latents("abc", max_new_tokens=2)
    with pytest.raises(InputError, match="a prompt for each of 2 rows, got 1"):
        vae.decode(torch.zeros(2, 3), ["a"], max_new_tokens=2)
    with pytest.raises(InputError, match="an empty prompt"):
        vae.decode(torch.zeros(1, 3), [""], max_new_tokens=2)
    with pytest.raises(InputError, match="exceed the autoencoder's context of 32: shorten one"):
        vae.decode(torch.zeros(1, 3), ["abcd"], max_new_tokens=30)
    with pytest.raises(InputError, match="pass a generator"):
        vae.decode(torch.zeros(1, 3), max_new_tokens=2, temperature=1.0)
    with pytest.raises(InputError, match="an empty text"):
        vae.encode(["ab", ""])
    with pytest.raises(InputError, match=r"the text 'abcd.* is 42 tokens .* the context is 32"):
        vae.encode(["abcd" * 10])


@both
def test_saved_and_loaded_it_is_the_same_to_the_bit(architecture, tmp_path):
    is_lstm = architecture == "lstm"
    vae = tiny_vae(architecture, conditional=is_lstm, mean_scale=0.5 if is_lstm else 0.0)
    if is_lstm:
        vae.fixed_scale.running_mean.fill_(0.25)
    vae.save_pretrained(tmp_path / "vae")
    again = TextVAE.from_pretrained(tmp_path / "vae", tokenizer=vae.tokenizer)
    assert again.config == vae.config and again.tokenizer == vae.tokenizer
    first, second = vae.state_dict(), again.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    z, prompts = some_latents(4), ["a", "b", "cd", "d"]
    assert again.decode_tokens(z, prompts, max_new_tokens=9) == vae.decode_tokens(
        z, prompts, max_new_tokens=9
    )


def test_files_from_before_the_scale_of_z_decode_as_they_did(tmp_path):
    vae, z = tiny_vae(latent_scale=1.0), some_latents(6)
    vae.save_pretrained(tmp_path)
    shape = tmp_path / "vae.json"
    (tmp_path / "manifest.json").unlink()
    text = shape.read_text()
    assert ',\n  "latent_scale": 1.0' in text
    shape.write_text(text.replace(',\n  "latent_scale": 1.0', ""))
    again = TextVAE.from_pretrained(tmp_path)
    written = vae.decode_tokens(z, max_new_tokens=9)
    assert again.decode_tokens(z, max_new_tokens=9) == written
    other = tiny_vae()
    other.load_state_dict(vae.state_dict())
    assert other.decode_tokens(5 * z, max_new_tokens=9) == written  # 0.2 · 5
    assert other.decode_tokens(z, max_new_tokens=9) != written


def test_directories_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"not there; `textgym pretrain-vae` makes one"):
        TextVAE.from_pretrained(tmp_path / "nowhere")
    CausalLM.new(letter_tokenizer(), hidden_size=16, num_hidden_layers=1).save_pretrained(
        tmp_path / "lm"
    )
    with pytest.raises(InputError, match=r"holds no vae.json, so it is no text autoencoder"):
        TextVAE.from_pretrained(tmp_path / "lm")
    vae = tiny_vae()
    vae.save_pretrained(tmp_path / "vae")
    message = (
        "no checkpoint of a language model: it holds a text autoencoder, which goes with decoder"
    )
    with pytest.raises(InputError, match=message):
        CausalLM.from_pretrained(tmp_path / "vae")
    with pytest.raises(InputError, match=r"another vocabulary \(7 tokens\) than .* \(259\)"):
        TextVAE.from_pretrained(tmp_path / "vae", tokenizer=Tokenizer.byte())
    shape = tmp_path / "vae" / "vae.json"
    (tmp_path / "vae" / "manifest.json").unlink()
    text = shape.read_text()
    for before, after, message in (
        ('"latent_size": 3', '"latent_size": 4', r"'to_posterior.bias' has shape \(6,\)"),
        ('"hidden_size": 16', '"hidden_size": 9999', "calls for .* weights, but their file has"),
        ('"architecture": "lstm"', '"architecture": "rnn"', "must be one of lstm, transformer"),
        ('"latent_size": 3', '"latent_size": true', "a whole number"),
        ('"latent_size": 3', '"size": 3', "latent_size"),
    ):
        assert before in text
        shape.write_text(text.replace(before, after))
        with pytest.raises(InputError, match=message):
            TextVAE.from_pretrained(tmp_path / "vae")


def test_new_models_follow_their_seed_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    one, same, other = (tiny_vae(seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])
    assert not torch.equal(
        one["writer.lstm.layers.0.weight_hh"], other["writer.lstm.layers.0.weight_hh"]
    )
    with pytest.raises(
        InputError, match="architecture must be one of lstm, transformer, got 'gru'"
    ):
        TextVAE.new(letter_tokenizer(), architecture="gru")
    with pytest.raises(InputError, match="latent_size must be a whole number"):
        TextVAE.new(letter_tokenizer(), latent_size=0)
    with pytest.raises(InputError, match="259 tokens, but the autoencoder only 7"):
        TextVAE.new(Tokenizer.byte(), vocab_size=7)


def language_model(**config):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 48, "seed": 3}
    return CausalLM.new(letter_tokenizer(), **{**shape, **config})


@pytest.mark.parametrize("is_tied", [True, False])
def test_one_that_begins_as_a_language_model_writes_as_it_does_where_z_says_nothing(is_tied):
    lm = language_model(tie_word_embeddings=is_tied, attention_bias=True, num_key_value_heads=1)
    vae = TextVAE.from_language_model(lm, latent_size=3, max_position_embeddings=32, seed=5)
    tokens, lengths = pack_sequences([[BOS, 4, 5, 6], [BOS, 5, 5]])
    nothing = torch.zeros(2, 3)
    hidden = vae.writer.packed(tokens, lengths, nothing)
    torch.testing.assert_close(vae.lm_head(hidden), lm.lm_head(lm.packed(tokens, lengths)))
    read = lm.packed(tokens, lengths, lengths.cumsum(0) - 1)
    torch.testing.assert_close(vae.reader(tokens, lengths), read)
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    added = vae.writer.latent_proj(drawn).detach()
    size = float(lm.model.embed_tokens.weight.detach().std())
    assert float(added.std()) == pytest.approx(size, rel=0.4)  # few weights: 48
    with torch.no_grad():  # copies: the language model is as it was
        vae.lm_head.weight.zero_()
        vae.writer.model.embed_tokens.weight.zero_()
    assert lm.lm_head.weight.any() and vae.config.max_position_embeddings == 32


def test_the_language_models_shape_comes_back_from_the_file(tmp_path):
    lm = language_model(attention_bias=True, model_type="qwen2", num_key_value_heads=1)
    vae = TextVAE.from_language_model(lm, latent_size=3, conditional=True)
    vae.save_pretrained(tmp_path / "vae")
    again = TextVAE.from_pretrained(tmp_path / "vae")
    assert again.config == vae.config and again.config.max_position_embeddings == 48
    assert again.config.language_model.attention_bias
    assert again.config.language_model.num_key_value_heads == 1
    for name, tensor in vae.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    recurrent = CausalLM.new(letter_tokenizer(), architecture="lstm", hidden_size=16)
    with pytest.raises(
        InputError, match="policy must be a transformer, got LSTMTrunk: z is mapped"
    ):
        TextVAE.from_language_model(recurrent)
