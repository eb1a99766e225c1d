"""The evidence lower bound: its terms by hand, against quadrature, and that training uses z."""

import math

import numpy as np
import pytest
import torch
from textgym_testing import BOS, EOS, PAD, letter_tokenizer
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import cross_entropy

from textgym.errors import InputError
from textgym.policies import TextVAE
from textgym.policies.language_model.packing import pack_sequences
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.vae.documents import (
    LatentDocument,
    autoencoding_documents,
    collate_latent,
    conditional_documents,
    translation_documents,
)
from textgym.policies.vae.figures import (
    active_units,
    bound_parts,
    importance_weighted,
    importance_weighted_perplexity,
    mutual_information,
)
from textgym.policies.vae.gaussian import (
    draw_latents,
    free_bits,
    kl_to_prior,
    log_density,
    prior_log_density,
    squared_covariances,
)
from textgym.policies.vae.objective import PLAIN, AgainstCollapse, EvidenceLowerBound
from textgym.policies.vae.schedules import kl_weight
from textgym.policies.vae.specimens import specimens


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny_vae(architecture="lstm", *, spread=6.0, **config):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "latent_size": 2, "seed": 1}
    shape |= {"mean_scale": 0.0}
    vae = TextVAE.new(
        letter_tokenizer(),
        **{"architecture": architecture, "max_position_embeddings": 32, **shape, **config},
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            if parameter.ndim == 2:
                parameter.mul_(spread)
    return vae


def documents_of(*texts):
    return list(autoencoding_documents(texts, letter_tokenizer(), context=32))


# ---- the Gaussian --------------------------------------------------------------


def test_the_kl_term_is_that_of_torch_distributions():
    mean, log_variance = torch.randn(2, 5, 3, generator=seeded())
    posterior = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0))
    assert torch.allclose(kl_to_prior(mean, log_variance), expected, atol=1e-6)
    z = torch.randn(5, 3, generator=seeded(1))
    assert torch.allclose(
        log_density(z, mean, log_variance), Independent(posterior, 1).log_prob(z), atol=1e-5
    )
    assert torch.allclose(prior_log_density(z), Normal(0.0, 1.0).log_prob(z).sum(-1), atol=1e-5)
    assert kl_to_prior(torch.zeros(2), torch.zeros(2)).tolist() == [0.0, 0.0]


def test_draws_have_the_mean_and_deviation_and_pass_gradients_on():
    mean = torch.tensor([1.0, -2.0], requires_grad=True)
    log_variance = torch.tensor([0.0, math.log(4.0)], requires_grad=True)
    z = draw_latents(mean.expand(20_000, 2), log_variance.expand(20_000, 2), seeded())
    assert z.mean(0).tolist() == pytest.approx([1.0, -2.0], abs=0.05)
    assert z.std(0).tolist() == pytest.approx([1.0, 2.0], abs=0.05)
    z.mean(0).sum().backward()
    assert mean.grad.tolist() == pytest.approx([1.0, 1.0])


def test_free_bits_are_free_below_and_the_mean_above():
    kl = torch.tensor([[0.1, 1.0], [0.3, 2.0]], requires_grad=True)
    least = free_bits(kl, 0.3)  # means 0.2 and 1.5
    assert float(least.detach()) == pytest.approx(0.3 + 1.5)
    least.backward()
    assert kl.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]  # the closed one gains nothing by closing
    assert float(free_bits(kl.detach(), 0.0)) == pytest.approx(0.2 + 1.5)


def test_dimensions_that_say_the_same_by_hand():
    mean = torch.tensor([[1.0, 2.0, 5.0], [-1.0, -2.0, 5.0]])  # covariances 2, 0 and 0
    assert float(squared_covariances(mean)) == pytest.approx(2 * 2.0**2)
    apart = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(squared_covariances(apart)) == 0.0
    assert float(squared_covariances(mean[:1])) == 0.0  # one row says nothing of it


@pytest.mark.parametrize(
    ("schedule", "progress", "expected"),
    [
        ("linear", 0.0, 0.0),
        ("linear", 0.1, 0.25),
        ("linear", 0.4, 1.0),
        ("linear", 0.9, 1.0),
        ("cyclical", 0.0, 0.0),
        ("cyclical", 0.05, 0.25),  # halves of the training, 0.4 of each to grow
        ("cyclical", 0.3, 1.0),
        ("cyclical", 0.5, 0.0),
        ("cyclical", 0.6, 0.5),
        ("cyclical", 1.0, 1.0),
        ("constant", 0.0, 1.0),
    ],
)
def test_the_weight_of_the_kl_term_by_hand(schedule, progress, expected):
    weight = kl_weight(progress, schedule=schedule, warmup=0.4, cycles=2)
    assert weight == pytest.approx(expected, abs=1e-9)


def test_schedules_that_there_are_not():
    with pytest.raises(InputError, match="must be one of cyclical, linear, constant, got 'cosine'"):
        AgainstCollapse(kl_schedule="cosine")
    with pytest.raises(InputError, match="free_bits must be a finite number"):
        AgainstCollapse(free_bits=-1.0)
    with pytest.raises(InputError, match="word_dropout must be a finite number from 0, below 1"):
        AgainstCollapse(word_dropout=1.0)
    assert kl_weight(0.0, warmup=0.0) == 1.0


# ---- what is read and written --------------------------------------------------


def test_documents_by_hand():
    tokenizer = letter_tokenizer()  # which adds nothing to a text's start: eos stands in for it
    assert documents_of("ab") == [LatentDocument([EOS, 3, 4, EOS], 1, [3, 4, EOS])]
    conditional = conditional_documents([("ab", "c")], tokenizer, context=32)
    assert list(conditional) == [LatentDocument([3, 4, 5, EOS], 2, [3, 4, 5, EOS])]
    translated = translation_documents([("ab", "ba")], tokenizer, context=32)
    assert list(translated) == [LatentDocument([EOS, 4, 3, EOS], 1, [3, 4, EOS])]
    batch = collate_latent(documents_of("ab", "c"))
    assert batch.targets.tolist() == [3, 4, EOS, 5, EOS]
    assert batch.rows.tolist() == [0, 0, 0, 1, 1]
    assert batch.read_tokens.tolist() == [3, 4, EOS, 5, EOS]
    assert batch.read_lengths.tolist() == [3, 2]
    assert BOS not in batch.tokens


def test_texts_that_cannot_be_learned():
    tokenizer = letter_tokenizer()
    with pytest.raises(InputError, match="an empty text: an autoencoder needs at least a char"):
        documents_of("ab", "")
    with pytest.raises(InputError, match=r"the text 'a{10}' is 12 tokens .* context is 8: raise"):
        list(autoencoding_documents(["a" * 10], tokenizer, context=8))
    with pytest.raises(InputError, match=r"prompt 'aaaaa' and its completion is 9 tokens"):
        list(conditional_documents([("aaaaa", "bbb")], tokenizer, context=8))
    with pytest.raises(InputError, match="an empty prompt"):
        list(conditional_documents([("", "b")], tokenizer, context=8))
    with pytest.raises(InputError, match="an empty completion of the prompt 'a'"):
        list(conditional_documents([("a", "")], tokenizer, context=8))


# ---- the bound -----------------------------------------------------------------


def test_the_loss_is_reconstruction_and_weighted_kl():
    vae = tiny_vae()
    batch = collate_latent(documents_of("abc", "d"))
    loss = EvidenceLowerBound(vae, PLAIN).loss(batch, 0.0, seeded(5))
    mean, log_variance = vae.encode(["abc", "d"])
    z = draw_latents(mean, log_variance, seeded(5))
    expected = 0.0
    for text, latent in zip(([3, 4, 5, EOS], [6, EOS]), z, strict=True):
        tokens, lengths = pack_sequences([[EOS, *text[:-1]]])
        logits = vae.lm_head(vae.writer.packed(tokens, lengths, latent[None]))
        expected += float(cross_entropy(logits, torch.tensor(text), reduction="sum").detach())
    kl = float(kl_to_prior(mean, log_variance).sum())
    assert float(loss.detach()) == pytest.approx(expected + kl, rel=1e-5)
    half = AgainstCollapse(kl_warmup=0.5, free_bits=0.0, decorrelation=0.0)
    loss = EvidenceLowerBound(vae, half).loss(batch, 0.25, seeded(5))
    assert float(loss.detach()) == pytest.approx(expected + kl / 2, rel=1e-5)
    least = AgainstCollapse(kl_schedule="constant", free_bits=50.0, decorrelation=0.0)
    loss = EvidenceLowerBound(vae, least).loss(batch, 0.0, seeded(5))
    assert float(loss.detach()) == pytest.approx(expected + 2 * 2 * 50.0, rel=1e-5)
    apart = AgainstCollapse(kl_schedule="constant", free_bits=0.0, decorrelation=30.0)
    loss = EvidenceLowerBound(vae, apart).loss(batch, 0.0, seeded(5))
    covariance = float(torch.cov(mean.T, correction=0)[0, 1])
    squares = 2 * covariance**2  # of both orders
    assert float(loss.detach()) == pytest.approx(expected + kl + 2 * 30.0 * squares, rel=1e-5)
    assert 2 * 30.0 * squares > 1e-3 * float(loss.detach())  # so that there is something to see


def test_the_bounds_are_in_order_below_the_log_likelihood():
    """latent_size 1, so that log p(text) is an integral over a line."""
    vae = tiny_vae(latent_size=1, spread=14.0)
    with torch.no_grad():
        vae.to_posterior.weight.zero_()
        vae.to_posterior.bias.copy_(torch.tensor([0.8, -0.3]))
    (document,) = documents_of("abcd")
    grid = torch.linspace(-8, 8, 1601)
    copies = collate_latent([document] * len(grid))
    with torch.no_grad():
        hidden = vae.writer.packed(copies.tokens, copies.lengths, grid[:, None], copies.source)
        losses = cross_entropy(vae.lm_head(hidden), copies.targets, reduction="none")
        given = -losses.view(len(grid), -1).sum(1).double()  # log p(text | z)
        mean, log_variance = vae.encode(["abcd"])
    step = 16 / 1600
    log_p = float((given + Normal(0.0, 1.0).log_prob(grid.double())).logsumexp(0)) + math.log(step)
    posterior = Normal(mean.double(), (0.5 * log_variance.double()).exp())
    inside = posterior.log_prob(grid.double()[:, None])[:, 0].exp()
    bound = float((inside * given).sum() * step - kl_to_prior(mean, log_variance).sum())
    repeated = [document] * 200
    one, few, many = (
        float(importance_weighted(vae, repeated, seeded(), k=k).mean()) for k in (1, 5, 100)
    )
    assert one == pytest.approx(bound, abs=0.15)
    assert bound < log_p - 0.2  # so that there is something to see
    assert bound < few < many < log_p + 0.03  # the mean of 200 estimates
    assert many == pytest.approx(log_p, abs=0.1)
    parts = bound_parts(vae, repeated, seeded())
    assert parts.figures(seeded())["bound"] == pytest.approx(bound, abs=0.15)
    perplexity = importance_weighted_perplexity(vae, [document], seeded(), k=2000)
    assert perplexity == pytest.approx(math.exp(-log_p / 5), rel=0.02)


def test_active_units_vary_with_the_text():
    mean = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.15], [0.0, 0.0, 0.05]])
    assert active_units(mean) == 1  # variances 0, 0.67 and 0.0039
    assert active_units(mean * 2) == 2
    assert active_units(mean[:0]) == 0


def test_mutual_information_between_its_ends_and_where_it_is_known():
    far = torch.arange(16.0)[:, None] * 100
    assert mutual_information(far, torch.full((16, 1), -4.0), seeded()) == pytest.approx(
        math.log(16), abs=1e-4
    )
    same = torch.zeros(16, 2)
    assert mutual_information(same, same, seeded()) == pytest.approx(0.0, abs=1e-5)
    # Means N(0, 3/4) and variance 1/4 make z a standard normal: I = 1/2 log 4.
    mean = torch.randn(2000, 1, generator=seeded(3)) * math.sqrt(0.75)
    found = mutual_information(mean, torch.full((2000, 1), math.log(0.25)), seeded())
    assert found == pytest.approx(0.5 * math.log(4), abs=0.06)
    assert mutual_information(same[:0], same[:0], seeded()) == 0.0


# ---- against collapse ----------------------------------------------------------


def test_a_recurrent_mask_is_drawn_once_a_sequence():
    vae = tiny_vae(hidden_size=32)
    vae.set_dropout(0.5)
    vae.train()
    tokens, lengths = pack_sequences([[3, 4, 5, 6], [3, 4, 5, 6]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = vae.writer.packed(tokens, lengths, torch.zeros(2, 2)).view(2, 4, 32)
    is_dropped = hidden == 0
    assert 4 < int(is_dropped[0, 0].sum()) < 28
    assert bool((is_dropped == is_dropped[:, :1]).all())  # the same at every token
    assert not torch.equal(is_dropped[0], is_dropped[1])  # another one for each sequence
    vae.eval()
    assert int((vae.writer.packed(tokens, lengths, torch.zeros(2, 2)) == 0).sum()) == 0


def test_the_kl_term_of_fixed_means_has_a_floor():
    vae = tiny_vae(mean_scale=0.6).train()
    batch = collate_latent(documents_of("abcd", "dcba", "aa", "bbb", "c", "dd"))
    mean, log_variance = vae.posterior(batch.read_tokens, batch.read_lengths)
    assert mean.std(0, correction=0).tolist() == pytest.approx([0.6, 0.6], abs=1e-2)
    assert float(kl_to_prior(mean, log_variance).mean(0).min().detach()) > 0.6**2 / 2 - 1e-2
    assert active_units(mean.detach()) == 2


def test_word_dropout_hides_words_from_the_decoder_alone():
    objective = EvidenceLowerBound(tiny_vae(), AgainstCollapse(word_dropout=0.5))
    pairs = [("ab", "cdcd"), ("a", "bcd")] * 40
    batch = collate_latent(list(conditional_documents(pairs, letter_tokenizer(), context=32)))
    seen = objective._without_words(batch, seeded())
    is_hidden = seen == PAD
    starts = batch.lengths.cumsum(0) - batch.lengths
    assert not is_hidden[starts].any()
    assert not is_hidden[starts[::2] + 1].any()  # the prompt's second letter
    assert torch.equal(seen[~is_hidden], batch.tokens[~is_hidden])
    words = torch.zeros_like(is_hidden)
    words[batch.source + 1] = True
    assert 0.4 < float(is_hidden[words].float().mean()) < 0.6
    assert torch.equal(seen, objective._without_words(batch, seeded()))


# ---- training ------------------------------------------------------------------

TEXTS = ["abcd", "dcba", "aabb", "ccdd", "adad", "bcbc", "abba", "dbca"]


@pytest.mark.parametrize(("architecture", "rate"), [("lstm", 2e-2), ("transformer", 1e-2)])
def test_eight_texts_are_remembered_by_z_alone(architecture, rate):
    vae = TextVAE.new(
        letter_tokenizer(),
        architecture=architecture,
        hidden_size=32,
        num_hidden_layers=1,
        latent_size=4,
        max_position_embeddings=8,
        mean_scale=0.0,
    )
    documents = documents_of(*TEXTS)
    report = train_language_model(
        EvidenceLowerBound(vae, AgainstCollapse(kl_warmup=1.0, free_bits=1.0, decorrelation=0.0)),
        documents * 2,
        steps=250,
        batch_size=16,
        optimizer="adamw",
        learning_rate=rate,
        evaluate_every=125,
        progress_bar=False,
    )
    assert report.steps == 250 and not vae.training
    mean, _ = vae.encode(TEXTS)
    assert vae.decode(mean, max_new_tokens=6) == TEXTS
    assert len(set(vae.decode(torch.zeros(8, 4), max_new_tokens=6))) == 1
    figures = bound_parts(vae, documents, seeded()).figures(seeded())
    assert figures["mutual_information"] > math.log(8) - 0.3
    # Two texts are told apart with no loss by log 8 nats of z: the bound stays above what the
    # decoder could do without it.
    found = specimens(vae, documents, max_new_tokens=6, count=3)
    assert [s.kind for s in found] == ["prior"] * 3 + ["reconstruction"] * 3 + ["interpolation"] * 5
    assert all(s.written == s.given for s in found if s.kind == "reconstruction")
    walk = [s.written for s in found if s.kind == "interpolation"]
    assert (walk[0], walk[-1]) == (TEXTS[0], TEXTS[1])


class Interrupted(EvidenceLowerBound):
    """Ctrl-C in the middle of the seventh step."""

    count = 0

    def loss(self, *arguments):
        self.count += 1
        if self.count == 7:
            raise KeyboardInterrupt
        return super().loss(*arguments)


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
def test_a_resumed_training_ends_with_the_same_bits(architecture, tmp_path):
    documents = documents_of(*TEXTS, *(text[::-1] + "a" for text in TEXTS))
    measures = AgainstCollapse(kl_schedule="cyclical", word_dropout=0.3)
    options = {"steps": 12, "evaluate_every": 4, "dropout": 0.2, "batch_size": 4, "seed": 3}
    options |= {"heldout": documents[:4], "progress_bar": False, "optimizer": "muon"}
    shape = {"spread": 1.0, "mean_scale": 0.6}
    straight = tiny_vae(architecture, **shape)
    whole = train_language_model(EvidenceLowerBound(straight, measures), documents, **options)

    first = Interrupted(tiny_vae(architecture, **shape), measures)
    report = train_language_model(first, documents, checkpoints=tmp_path, **options)
    assert report.interrupted and report.steps == 6
    again = tiny_vae(architecture, seed=9, **shape)
    report = train_language_model(
        EvidenceLowerBound(again, measures),
        documents,
        checkpoints=tmp_path,
        resume=True,
        **options,
    )
    assert report.steps == 12
    assert [pair for pair in report.heldout if pair[0] != 6] == whole.heldout
    same = {k: v.clone() for k, v in again.state_dict().items()}
    assert all(torch.equal(same[name], value) for name, value in straight.state_dict().items())
    best = TextVAE.from_pretrained(tmp_path / "best").state_dict()
    assert all(torch.equal(same[name], value) for name, value in best.items())


def test_the_figures_of_an_evaluation_are_recorded():
    rows = []
    documents = documents_of(*TEXTS)
    vae = tiny_vae(spread=1.0)
    train_language_model(
        EvidenceLowerBound(vae),
        documents,
        heldout=documents,
        steps=2,
        evaluate_every=1,
        progress_bar=False,
        record=rows.append,
    )
    last = rows[-1]
    total = last["reconstruction"] + last["kl"]
    assert last["bound"] == pytest.approx(-total)
    assert last["heldout_loss"] == pytest.approx(total * len(TEXTS) / (5 * len(TEXTS)), rel=1e-5)
    assert last["heldout_perplexity"] == pytest.approx(math.exp(last["heldout_loss"]))
    assert rows[0]["kl_weight"] == 0.0 and last["kl_weight"] == 1.0
    assert 0 <= last["active_units"] <= 2 and np.isfinite(last["mutual_information"])
