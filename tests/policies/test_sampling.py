"""The distribution that is sampled from, and the draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textgym_testing import BOS, EOS, PAD, letter_tokenizer, tiny_lm

from textgym.errors import InputError
from textgym.policies.language_model.generation import never_sampled
from textgym.policies.language_model.sampling import Sampling, draw, log_prob_and_entropy

INF = float("inf")


def probabilities(logits, **options):
    keywords = {k: options.pop(k) for k in ("excluded_ids", "keep") if k in options}
    logits = torch.log(torch.tensor(logits))
    return Sampling(**options).filter(logits, **keywords).softmax(-1)


P = [[0.1, 0.4, 0.2, 0.3]]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.3}, [0, 1, 0, 0]),
        ({"top_p": 0.69}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_k": 3, "top_p": 0.7}, [0, 4 / 7, 0, 3 / 7]),  # top-p of what top-k left
        ({"excluded_ids": torch.tensor([1])}, [1 / 6, 0, 2 / 6, 3 / 6]),
        ({"excluded_ids": torch.tensor([1]), "top_k": 1}, [0, 0, 0, 1]),
        ({"top_k": 1, "keep": torch.tensor([2])}, [0, 4 / 6, 2 / 6, 0]),
        ({"top_p": 0.3, "keep": torch.tensor([1])}, [0, 1, 0, 0]),
    ],
)
def test_filters_by_hand(options, expected):
    torch.testing.assert_close(probabilities(P, **options), torch.tensor([expected]).float())


def test_ties_with_the_k_th_token_stay_in():
    torch.testing.assert_close(
        probabilities([[0.25, 0.25, 0.1, 0.4]], top_k=2),
        torch.tensor([[0.25, 0.25, 0.0, 0.4]]) / 0.9,
    )


def test_greedy_leaves_the_order_alone_and_nothing_changes_its_argument():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    before = logits.clone()
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.5}, {"temperature": 3.0}):
        assert int(Sampling(**options).filter(logits, torch.tensor([0])).argmax()) == 1
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"temperature": -1.0}, "temperature must be .* from 0 .* got -1"),
        ({"temperature": math.nan}, "temperature must be .* got nan"),
        ({"top_k": -1}, "top_k must be a whole number from 0"),
        ({"top_p": 0.0}, "top_p must be .* above 0, at most 1 .* got 0"),
        ({"top_p": 1.5}, "top_p must be .* got 1.5"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        Sampling(**options)


@pytest.mark.parametrize("size", [5, 1000])
def test_frequencies_of_draws_are_the_probabilities(size):
    """Pearson's chi-square, 200,000 draws: with the seed fixed it is the same each time.

    Over random seeds a right sampler would fail with probability 1e-6 per size: the bound is the
    Wilson-Hilferty approximation of that quantile (z = 4.75).
    """
    n = 200_000
    generator = torch.Generator().manual_seed(size)
    weights = torch.rand(size, generator=generator) + 0.1
    weights[::4] = 0.0
    p = weights / weights.sum()
    counts = torch.zeros(size)
    for _ in range(20):
        tokens = draw(p.log().expand(n // 20, -1), generator)
        counts += torch.bincount(tokens, minlength=size)
    assert bool((counts[p == 0] == 0).all())
    expected = n * p[p > 0].double()
    statistic = float(((counts[p > 0] - expected).square() / expected).sum())
    degrees = len(expected) - 1
    spread = 2 / (9 * degrees)
    assert statistic < degrees * (1 - spread + 4.75 * math.sqrt(spread)) ** 3
    biased = expected * torch.where(torch.arange(len(expected)) % 2 == 0, 1.1, 0.9)
    wrong = float(((counts[p > 0] - biased).square() / biased).sum())
    assert wrong > degrees * (1 - spread + 4.75 * math.sqrt(spread)) ** 3


class Fixed:
    """Stands for torch.rand: the ends of its range."""

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, **keywords):
        return torch.full(shape, self.value)


@pytest.mark.parametrize("value", [0.0, 1 - 2**-24])
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 300))
def test_the_ends_of_the_uniform_range_never_give_an_excluded_token(value, seed, size):
    rng = np.random.default_rng(seed)
    logits = torch.as_tensor(rng.normal(0, 3, (4, size)), dtype=torch.float32)
    is_excluded = torch.as_tensor(rng.random((4, size)) < 0.6)
    is_excluded[:, int(rng.integers(size))] = False
    log_probs = logits.masked_fill(is_excluded, -INF).log_softmax(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", Fixed(value))
        tokens = draw(log_probs, torch.Generator())
    assert not bool(is_excluded.gather(1, tokens[:, None]).any())


def test_the_draw_uses_only_the_generator_it_is_given():
    log_probs = torch.zeros(8, 50).log_softmax(-1)
    before = torch.get_rng_state()
    first = draw(log_probs, torch.Generator().manual_seed(1))
    assert torch.equal(first, draw(log_probs, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, draw(log_probs, torch.Generator().manual_seed(2)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
@pytest.mark.parametrize("excluded", [0, 3])
def test_log_prob_entropy_and_gradients_equal_autograd(entropy_weight, excluded):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 9, dtype=torch.float64, generator=generator)
    actions = torch.randint(excluded, 9, (6,), generator=generator)
    weights = torch.randn(6, dtype=torch.float64, generator=generator)
    ours, theirs = (logits.clone().requires_grad_(True) for _ in range(2))
    excluded_ids = torch.arange(excluded)
    distribution = torch.distributions.Categorical(logits=theirs.index_fill(1, excluded_ids, -INF))
    expected = distribution.log_prob(actions), distribution.entropy()
    got = log_prob_and_entropy(Sampling().filter(ours, excluded_ids), actions)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    for log_prob, entropy in (got, expected):
        ((weights * log_prob).sum() + entropy_weight * entropy.sum()).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert bool((ours.grad[:, :excluded] == 0).all())


def test_gradients_pass_the_numerical_check():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    actions = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda x: log_prob_and_entropy(x, actions), (logits,))


def test_entropy_of_certainty_is_zero_and_of_ignorance_log_n():
    logits = torch.tensor([[0.0, -INF, -INF], [1.0, 1.0, 1.0], [200.0, 0.0, 0.0]])
    log_prob, entropy = log_prob_and_entropy(logits, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(log_prob, torch.tensor([0.0, -math.log(3), 0.0]))
    torch.testing.assert_close(entropy, torch.tensor([0.0, math.log(3), 0.0]))


def test_padding_start_and_rows_past_the_tokenizer_are_never_sampled():
    assert never_sampled(tiny_lm()).tolist() == [PAD, BOS]
    lm = tiny_lm(letter_tokenizer(), vocab_size=9)
    assert lm.tokenizer.vocab_size == 7
    assert never_sampled(lm).tolist() == [PAD, BOS, 7, 8]
    with torch.no_grad():
        lm.lm_head.weight[[PAD, BOS, 7, 8]] *= 100
    texts = lm.generate(["a"] * 50, max_new_tokens=20)
    assert set("".join(texts)) <= set("abcd") and EOS not in never_sampled(lm)
