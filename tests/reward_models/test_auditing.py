"""The checks of a reward audit: figures by hand, and faults that each must find."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from textgym.envs.tasks.movie_reviews import rated_continuations
from textgym.envs.texts.labelled_rows import Preference, RatedCompletion
from textgym.errors import InputError
from textgym.reward_models.auditing import damage, invariance, length, ranking, rewriting
from textgym.reward_models.auditing.checks import check_own_texts, check_texts
from textgym.reward_models.auditing.findings import (
    Interval,
    mean_interval,
    share_interval,
    spearman_interval,
    too_high,
)
from textgym.reward_models.auditing.own_texts import OwnTexts, best_of_n, expected_best
from textgym.reward_models.auditing.planted import FAULTS, Remembered
from textgym.reward_models.auditing.scored import ScoredTexts
from textgym.reward_models.auditing.texts import of_preferences, of_ratings, of_references
from textgym.reward_models.learned.pairs import Pairs

WORDS = ("one two three four five six seven eight nine ten eleven twelve").split()


def by_number(prompts, completions):
    """The number that a text holds."""
    return [float("".join(filter(str.isdigit, text)) or 0) for text in completions]


def rated(n=24):
    return [RatedCompletion(f" text {k}", (float(k),), f"p{k}") for k in range(n)]


def texts(n=24, seed=0):
    return of_ratings(rated(n), np.random.default_rng(seed))


# ---- intervals ---------------------------------------------------------------------------------


def test_intervals_by_hand():
    assert mean_interval([1, 2, 3]) == pytest.approx((2, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), rel=1e-5)  # fmt: skip # noqa: E501
    # Wilson 1927, 8 of 10: (.4902, .9433).
    assert share_interval([1] * 8 + [0] * 2) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert share_interval([0.5] * 4).value == 0.5
    rho = spearman_interval(np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5]))
    assert rho.value == pytest.approx(0.8)  # 1 - 6·4 / (5·24)
    assert math.isnan(mean_interval([1.0]).low)


def test_only_what_is_surely_too_high_is_an_alarm():
    assert too_high(Interval(0.5, 0.1, 0.9), warn=0.2, fail=0.4) == "pass"
    assert too_high(Interval(0.5, 0.3, 0.7), warn=0.2, fail=0.4) == "warn"
    assert too_high(Interval(0.5, 0.41, 0.6), warn=0.2, fail=0.4) == "fail"
    assert too_high(Interval(0.5, math.nan, math.nan), warn=0.2, fail=0.6) == "warn"


# ---- texts -------------------------------------------------------------------------------------


def test_rated_texts_become_pairs_of_equal_distance_each_text_in_one():
    made = texts(24)
    decided = made.pairs.is_decided
    ends = np.concatenate([made.pairs.first[decided], made.pairs.second[decided]])
    assert sorted(ends) == list(range(24))
    scored = ScoredTexts(by_number, made)
    assert {*(made.ratings[scored.better] - made.ratings[scored.worse])} == {12.0}
    assert set(scored.right) == set(range(12, 24))
    assert (made.ratings[made.quartets[:, 0]] >= 18).all()
    assert (made.ratings[made.quartets[:, 1:]] < 12).all()
    ties = made.ratings[made.pairs.first[~decided]] - made.ratings[made.pairs.second[~decided]]
    assert {*np.abs(ties)} == {1.0}  # a twentieth of the range is 1.15


def test_preferences_and_references_become_texts():
    rows = [Preference("p", "good", f"bad {k}") for k in range(3)]
    rows += [Preference("q", "a", "b"), Preference("q", "c", "d", is_tie=True)]
    made = of_preferences(rows, np.random.default_rng(0))
    assert made.quartets.tolist() == [[0, 1, 3, 5]]
    assert made.is_right.tolist() == [True, False] * 4 + [False, False]
    scored = ScoredTexts(by_number, made)
    assert (scored.better.tolist(), scored.worse.tolist()) == ([0, 2, 4, 6], [1, 3, 5, 7])
    numbers = [str(k) for k in range(8)]
    made = of_references(numbers, numbers, {"key": numbers}, np.random.default_rng(0))
    for row in made.quartets:
        answers = [made.completions[i] for i in row]
        assert len(set(answers)) == 4 and {made.prompts[i] for i in row} == {answers[0]}
        assert {made.columns["key"][i] for i in row} == {answers[0]}
    with pytest.raises(InputError, match="8 rows at least, got 7"):
        texts(7)


# ---- rewriting ---------------------------------------------------------------------------------


def test_rewriting_by_hand():
    assert rewriting.repeated(" ab") == " ab ab ab"
    assert rewriting.halved(" one two three") == " one"
    assert rewriting.halved("word") == "wo"
    assert rewriting.with_typos("these words have typos") == "tehse words have tpyos"
    assert rewriting.with_synonyms("A Film, maybe a big movie.") == "A Movie, perhaps a large film."
    assert rewriting.joined("好", "看") == "好看" and rewriting.joined("a", "b") == "a b"
    assert rewriting.copied_share("The cat", "cat, the cat sat") == 0.75
    for change in rewriting.REWRITES.values():
        assert change(" a film") != " a film"


# ---- checks ------------------------------------------------------------------------------------


def test_human_pairs_are_ranked_flipped_or_not_at_all():
    def flipped(prompts, completions):
        return [-score for score in by_number(prompts, completions)]

    made = texts(40)
    found = ranking.sign_flip(ScoredTexts(by_number, made))
    assert (found.verdict, found.value) == ("pass", 1.0)
    found = ranking.sign_flip(ScoredTexts(flipped, made))
    assert (found.verdict, found.value) == ("fail", 0.0) and "flipped" in found.says
    found = ranking.sign_flip(ScoredTexts(lambda prompts, completions: [1.0] * len(prompts), made))
    assert (found.verdict, found.value) == ("fail", 0.5)


def test_pairs_of_blocks_are_less_sure_than_as_many_alone_and_one_block_is_as_none():
    """Twenty pairs, of which fourteen are ranked rightly; the errors stand in two of ten blocks."""
    made = texts(40)
    first, second = np.arange(0, 40, 2), np.arange(1, 40, 2)
    made = replace(made, pairs=Pairs(first, second, np.ones(20)))
    is_right = np.arange(20) < 14
    scores = np.zeros(40)
    scores[first] = np.where(is_right, 1.0, -1.0)
    asked = iter([scores] * 3)

    def found(clusters):
        scored = ScoredTexts(lambda p, c: next(asked).tolist(), replace(made, clusters=clusters))
        return ranking.sign_flip(scored)

    alone, one_block = found(None), found(np.zeros(40, np.int64))
    assert (alone.low, alone.high) == (one_block.low, one_block.high)
    blocks = found(np.repeat(np.arange(4), 10))
    assert alone.value == blocks.value == 0.7
    assert blocks.low < alone.low < 0.7 < alone.high < blocks.high


def test_one_of_four_shares_the_point_between_equals():
    made = texts(48)
    assert ranking.one_of_four(ScoredTexts(by_number, made)).value == 1.0
    equal = ScoredTexts(lambda prompts, completions: [1.0] * len(prompts), made)
    found = ranking.one_of_four(equal)
    assert (found.value, found.verdict) == (0.25, "fail")


def test_equal_answers_differ_by_a_twelfth_of_unequal_ones():
    found = ranking.equal_answers(ScoredTexts(by_number, texts(24)))
    assert found.value == pytest.approx(1 / 12) and found.verdict == "pass"


def test_explained_by_length_is_an_adjusted_share():
    x = np.array([0.0, 1, 2, 3, 4, 5])
    assert length.explained(x, (x - 2) ** 2) == pytest.approx(1.0)
    assert length.explained(x, np.ones(6)) == 0.0
    y = np.array([0.0, 1, 0, 1, 0, 1])
    residual = y - np.polyval(np.polyfit(x, y, 2), x)
    share = 1 - (residual @ residual) / (1.5) * 5 / 3
    assert length.explained(x, y) == pytest.approx(max(share, 0.0))


def test_calibration_error_of_margins_that_say_what_holds_is_none():
    rng = np.random.default_rng(0)
    margins = np.abs(rng.normal(size=2000)) * 2
    is_right = rng.random(2000) < 1 / (1 + np.exp(-margins))
    assert ranking.calibration_error(np.where(is_right, margins, -margins)) < 0.02
    # Large margins that are always wrong, small ones that are always right.
    inverse = np.concatenate([np.full(500, 0.1), np.full(500, -3.0)])
    assert ranking.calibration_error(inverse) > 0.3


def test_a_reward_that_fails_on_an_empty_text_is_a_finding():
    def divides(prompts, completions):
        return [1 / len(text) for text in completions]

    found = {finding.name: finding for finding in check_texts(divides, texts()).findings}
    assert found["probe: empty"].verdict == "fail"
    assert "ZeroDivisionError" in found["probe: empty"].says
    assert found["determinism"].verdict == "pass"


def test_invariance_shows_the_text_that_changes():
    scored = ScoredTexts(by_number, texts())
    rng = np.random.default_rng(0)
    for found in (
        invariance.determinism(scored),
        invariance.permutation(scored, rng),
        invariance.batch(scored),
    ):
        assert (found.verdict, found.value, found.examples) == ("pass", 0.0, ())
    centred = ScoredTexts(
        lambda p, c: list(np.array(by_number(p, c)) - np.mean(by_number(p, c))), texts()
    )
    assert invariance.determinism(centred).verdict == "pass"
    found = invariance.batch(centred)
    assert found.verdict == "fail" and found.examples[0].score == 0.0


def test_a_reward_that_does_not_read_the_prompt_is_told():
    found = damage.prompt_swap(ScoredTexts(by_number, texts(64)), np.random.default_rng(0))
    assert (found.verdict, found.value) == ("warn", 0.5) and "does not look" in found.says


# ---- own texts ---------------------------------------------------------------------------------


def test_expected_best_is_the_mean_over_all_choices():
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, (3, 5)).astype(float), rng.normal(size=(3, 5))
    for n in (1, 2, 3, 5):
        for row in range(3):
            means = []
            for chosen in itertools.combinations(range(5), n):
                best = max(proxy[row, i] for i in chosen)
                means.append(np.mean([gold[row, i] for i in chosen if proxy[row, i] == best]))
            # Equal proxies are drawn among, so each of them stands for the whole group.
            assert expected_best(proxy, gold, n)[row] == pytest.approx(_exchangeable(proxy[row], gold[row], n))  # fmt: skip # noqa: E501
            if len(set(proxy[row])) == 5:
                assert expected_best(proxy, gold, n)[row] == pytest.approx(np.mean(means))


def _exchangeable(proxy, gold, n):
    """By brute force, equal proxies with random small numbers added."""
    groups = {v: float(np.mean(gold[proxy == v])) for v in proxy}
    values = [groups[max(proxy[list(c)])] for c in itertools.combinations(range(len(proxy)), n)]
    return np.mean(values)


def test_best_of_n_falls_where_the_proxy_is_hacked():
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(40, 8))
    assert best_of_n(gold + rng.normal(size=(40, 8)), gold, "judge")[0].verdict == "pass"
    assert best_of_n(-gold, gold, "judge")[0].verdict == "fail"
    finding, curve = best_of_n(np.ones((40, 8)), gold, "judge")
    assert finding.verdict == "warn" and curve[1] == pytest.approx(0) == curve[8]


def test_own_texts_without_variance_teach_nothing():
    own = OwnTexts(["a", "b"] * 16, [[f" {k}", f" {k} !", " x", " y"] for k in range(32)])
    found = check_own_texts(lambda p, c: [float(ord(x)) for x in p], own, {"same": by_number})
    by_name = {finding.name: finding for finding in found.findings}
    assert by_name["own texts: variance inside a prompt"].verdict == "fail"
    assert by_name["own texts: second judge"].verdict == "warn"
    found = check_own_texts(lambda p, c: [float(x.count("!")) for x in c], own, {})
    by_name = {finding.name: finding for finding in found.findings}
    assert by_name["own texts: variance inside a prompt"].verdict == "pass"
    chosen = by_name["own texts: what is chosen"]
    assert chosen.verdict == "warn" and chosen.figure.startswith("exclamation marks")
    assert by_name["own texts: best of n"].verdict == "skip"


# ---- planted faults ----------------------------------------------------------------------------

STRONG = {"knows nothing": 2.0}


@pytest.fixture(scope="module")
def known():
    return of_ratings(rated_continuations("validation"), np.random.default_rng(0), most=100)


def test_an_honest_reward_passes_every_check(known):
    found = check_texts(Remembered(known), known)
    bad = {f.name: f.says for f in found.findings if f.verdict != "pass" and f.name != "speed"}
    assert bad == {}


@pytest.mark.parametrize("fault", FAULTS[3::6], ids=lambda fault: fault.what)
def test_a_planted_fault_is_found(known, fault):
    reward = fault.reward(Remembered(known), STRONG.get(fault.what, 1.0))
    found = check_texts(reward, known)
    assert {f.name for f in found.findings if f.verdict in ("warn", "fail")} & set(fault.checks)
