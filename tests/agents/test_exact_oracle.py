"""The oracle's sums against numbers worked out by hand, and against one pass for each prefix."""

import itertools
import math

import pytest
import torch
from textgym_testing import EOS, letter_task, letter_tokenizer, tiny_lm

from textgym import Reply, constraints
from textgym.agents.evaluation.oracle import (
    Oracle,
    expected_reward,
    kl_divergence,
    list_completions,
    log_probs,
    optimum,
    total_variation,
)
from textgym.errors import InputError
from textgym.policies.language_model.sampling import Sampling

A, B = 3, 4
HALF = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)


def two_letters(**fields):
    fields = {"prompts": ["a", "bab"], "max_new_tokens": 2, **fields}
    return letter_task(letter_tokenizer("ab"), **fields)


def test_the_optimum_by_hand():
    # Weights ½·e^(0), ¼·e^(log 4), ¼·e^(log 2) = ½, 1, ½ with rewards β·(0, log 4, log 2).
    rewards = 0.3 * torch.tensor([0.0, math.log(4), math.log(2)], dtype=torch.float64)
    best = optimum(HALF.log(), rewards, beta=0.3).exp()
    torch.testing.assert_close(best, torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64))
    flat = optimum(HALF.log(), torch.full((3,), 7.0), beta=0.01).exp()
    torch.testing.assert_close(flat, HALF)  # what is paid for everything changes nothing


def test_measures_by_hand():
    other = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    assert total_variation(HALF, other) == pytest.approx(0.25)
    expected = 0.5 * math.log(2) - 0.25 * math.log(2)
    assert kl_divergence(HALF.log(), other.log()) == pytest.approx(expected)
    assert expected_reward(HALF.log(), torch.tensor([1.0, 2.0, 4.0])) == pytest.approx(2.0)
    sure = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert kl_divergence(sure.log(), HALF.log()) == pytest.approx(math.log(2))
    assert kl_divergence(HALF.log(), sure.log()) == math.inf


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_a_price_that_is_not_positive_is_refused(beta):
    with pytest.raises(InputError, match="beta must be positive"):
        optimum(HALF.log(), HALF, beta)


def test_all_completions_by_hand():
    first, second = list_completions(two_letters(), [EOS, A, B])
    assert (first.prompt.text, second.prompt.text) == ("a", "bab")
    tokens = [(EOS,), (A, EOS), (A, A), (A, B), (B, EOS), (B, A), (B, B)]
    for completions in (first, second):
        assert completions.tokens == tokens
        assert completions.texts == ["", "a", "aa", "ab", "b", "ba", "bb"]
        assert completions.rewards.tolist() == [0, 1, 2, 1, 0, 1, 0]  # letters a
    (three, _) = list_completions(two_letters(max_new_tokens=3), [EOS, A, B])
    lengths = [len(text) for text in three.texts]
    assert [lengths.count(n) for n in range(4)] == [1, 2, 4, 8]


def test_the_environment_ends_and_pays():
    """Stop strings, an unfinished text's score and columns are the environment's, not a copy's."""

    def pay(prompts, completions, bonus):
        return [len(text) + x for text, x in zip(completions, bonus, strict=True)]

    task = two_letters(
        prompts=[{"prompt": "a", "bonus": 10.0}, {"prompt": "b", "bonus": 20.0}],
        reward=pay,
        stop="b",
        unfinished_score=-1.0,
    )
    first, second = list_completions(task, [EOS, A, B])
    assert first.texts == ["", "", "a", "aa", "a"]
    assert first.tokens == [(EOS,), (B,), (A, EOS), (A, A), (A, B)]
    assert first.rewards.tolist() == [10, 10, 11, -1, 11]
    assert second.rewards.tolist() == [20, 20, 21, -1, 21]


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.7, top_k=2)])
def test_log_probabilities_equal_one_pass_for_each_prefix(sampling):
    lm = tiny_lm(letter_tokenizer("ab"), spread=6.0)
    for completions in list_completions(two_letters(), [EOS, A, B]):
        together = log_probs(lm, completions, sampling)
        assert together.dtype == torch.float64
        assert float(together.exp().sum()) == pytest.approx(1.0)
        for tokens, mine in zip(completions.tokens, together.tolist(), strict=True):
            row, expected = completions.prompt.ids.tolist(), 0.0
            for token in tokens:
                with torch.no_grad():
                    logits = lm(torch.tensor([row]))[0, -1, [EOS, A, B]] / sampling.temperature
                if sampling.top_k:
                    logits[logits.argmin()] = -math.inf
                expected += float(logits.log_softmax(-1)[[EOS, A, B].index(token)])
                row = [*row, token]
            assert mine == pytest.approx(expected, abs=1e-5)


def test_what_an_oracle_says_hangs_together():
    """J(π) = β log Z - β KL(π ‖ π*), with every part summed over texts one by one."""
    reference, lm = (tiny_lm(letter_tokenizer("ab"), spread=6.0, seed=seed) for seed in (0, 1))
    oracle = Oracle(two_letters(), reference, 0.4)
    assert oracle.highest_reward == 2.0
    gaps, objectives, distances = [], [], []
    for completions in oracle.completions:
        p = [math.exp(x) for x in log_probs(lm, completions).tolist()]
        q = [math.exp(x) for x in log_probs(reference, completions).tolist()]
        r = completions.rewards.tolist()
        z = sum(b * math.exp(c / 0.4) for b, c in zip(q, r, strict=True))
        best = [b * math.exp(c / 0.4) / z for b, c in zip(q, r, strict=True)]
        kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        objectives.append(sum(a * c for a, c in zip(p, r, strict=True)) - 0.4 * kl)
        gaps.append(0.4 * sum(a * math.log(a / b) for a, b in zip(p, best, strict=True)))
        distances.append(sum(abs(a - b) for a, b in zip(p, best, strict=True)) / 2)
    assert oracle.objective(lm) == pytest.approx(sum(objectives) / 2)
    assert oracle.highest_objective - oracle.objective(lm) == pytest.approx(sum(gaps) / 2)
    assert oracle.distance(lm) == pytest.approx(max(distances))
    assert oracle.kl(reference) == pytest.approx(0.0, abs=1e-12)
    assert oracle.objective(reference) == pytest.approx(oracle.reward(reference))


def test_a_model_with_another_tokenizer_is_refused():
    oracle = Oracle(two_letters(), tiny_lm(letter_tokenizer("ab")), 0.4)
    with pytest.raises(InputError, match=r"reference's 5 tokens, but .* another tokenizer, of 6"):
        oracle.distance(tiny_lm(letter_tokenizer("abc")))


def test_under_a_constraint_only_legal_texts_are_listed():
    lm = tiny_lm(letter_tokenizer("ab"), spread=6.0)
    oracle = Oracle(two_letters(constraint=r"a?b"), lm, 0.4)
    for completions, log_prob in zip(oracle.completions, oracle.log_reference, strict=True):
        assert sorted(completions.texts) == ["ab", "b"]
        assert float(log_prob.exp().sum()) == pytest.approx(1.0)


def test_a_dialogue_by_hand():
    """Two turns of one letter: the environment doubles an a, pays for it, and then ends."""

    def reply(turns):
        if turns[-1] == "a" and len(turns) == 1:
            return Reply("aa", reward=0.25)
        return None

    def ends_with_b(prompts, completions):
        return [float(text.endswith("b")) for text in completions]

    task = two_letters(
        prompts=["b"], reply=reply, reward=ends_with_b, max_new_tokens=4, max_context=12
    )
    [completions] = list_completions(task, [EOS, A, B])
    found = dict(zip(completions.tokens, completions.rewards.tolist(), strict=True))
    assert found[A, EOS, B, EOS] == 1.25 and found[A, EOS, EOS] == 0.25
    assert found[B, EOS] == 1.0 and found[A, A, B, EOS] == 1.0 and found[EOS,] == 0.0
    place = completions.tokens.index((A, EOS, B, EOS))
    assert completions.texts[place] == "aaab"
    assert completions.seen[place].tolist() == [B, A, EOS, A, A, B]
    assert completions.acted[place].tolist() == [0, 1, 4, 5]
    # Of four tokens 1 + 2 + 4 + 8·3 texts; "a" and a stop, one of them, is followed by up to two
    # more: 1 + 2·3 texts.
    assert len(completions.texts) == 31 - 1 + 7
    lm = tiny_lm(letter_tokenizer("ab"), spread=6.0)
    log_prob = log_probs(lm, completions)
    assert float(log_prob.exp().sum()) == pytest.approx(1.0)
    row, expected = [B], 0.0
    for token, words in ((A, []), (EOS, [A, A]), (B, []), (EOS, [])):
        with torch.no_grad():
            logits = lm(torch.tensor([row]))[0, -1, [EOS, A, B]]
        expected += float(logits.log_softmax(-1)[[EOS, A, B].index(token)])
        row += [token, *words]
    assert float(log_prob[place]) == pytest.approx(expected, abs=1e-5)


def test_a_dialogue_under_a_constraint_is_listed_turn_by_turn():
    def reply(turns):
        return Reply("bc", 1.0) if len(turns) == 1 else None

    task = letter_task(
        prompts=["c"],
        reply=reply,
        max_new_tokens=6,
        max_context=16,
        constraint=constraints.regex("a|ab", after="c"),
    )
    oracle = Oracle(task, tiny_lm(spread=6.0), 0.5)
    [completions] = oracle.completions
    expected = sorted(f + "bc" + s for f in ("a", "ab") for s in ("a", "ab"))
    assert sorted(completions.texts) == expected
    assert float(oracle.log_reference[0].exp().sum()) == pytest.approx(1.0)


def test_a_model_of_bytes_makes_a_larger_list():
    """The oracle lists what the model can write, on its own tokenizer."""
    from textgym.tokenizer import Tokenizer

    lm = tiny_lm(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    oracle = Oracle(two_letters(max_new_tokens=1), lm, 1.0)
    assert [len(c.tokens) for c in oracle.completions] == [257, 257]
    for completions in oracle.completions:
        paid = itertools.compress(completions.texts, completions.rewards.tolist())
        assert list(paid) == ["a"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {
                "reply": lambda turns, np_random: "ab"[int(np_random.integers(2))],
                "max_context": 20,
            },
            "its reply function draws from np_random, so what follows a turn cannot be listed",
        ),
        ({"prompts": lambda rng: "a", "max_prompt_tokens": 3}, "give whole prompts in a list"),
        ({"max_prompt_tokens": 2, "truncate_prompt": True}, "cut at their start"),
        ({"max_new_tokens": 5}, r"test/Letters-v0: more than 50 completions of one prompt: lower"),
        ({"prompts": ["a"], "max_context": 2}, "a full context cuts texts off"),
    ],
)
def test_what_cannot_be_listed_is_refused(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        list_completions(two_letters(**{"prompts": ["a", "bab"], **fields}), [EOS, A, B], most=50)
    assert "\n" not in str(caught.value)
