"""All checks of an audit, in the order in which its table shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from textgym.reward_models.auditing import damage, invariance, length, own_texts, probes, ranking
from textgym.reward_models.auditing.findings import Finding, skipped
from textgym.reward_models.auditing.own_texts import OwnTexts
from textgym.reward_models.auditing.rewriting import REWRITES
from textgym.reward_models.auditing.scored import ScoredTexts
from textgym.reward_models.auditing.texts import AuditTexts
from textgym.rewards import Reward


@dataclass(frozen=True)
class Findings:
    """What all checks of a kind found.

    :param matrix: accuracy by style of the better and of the worse text; empty where not measured.
    :param best_of_n: gold's gain by n, by judge.
    """

    findings: tuple[Finding, ...]
    unit: float = 1.0
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    best_of_n: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


def check_texts(reward: Reward, texts: AuditTexts, *, seed: int = 0) -> Findings:
    """Every check on given texts.

    :param seed: of what is drawn (other prompts, bootstraps); the reward model draws for itself.
    :raises RewardError: from the reward model, on a text as it stands; where it fails on a probe,
        that is a finding.
    """
    scored = ScoredTexts(reward, texts)

    def rng(check: int) -> np.random.Generator:
        return np.random.default_rng((seed, check))  # a check's draws depend on no other check

    favourites = probes.favourite_words(scored)
    style, matrix = ranking.style_matrix(scored)
    findings = (
        ranking.sign_flip(scored),
        ranking.one_of_four(scored),
        ranking.equal_answers(scored),
        style,
        ranking.calibration(scored, rng(1)),
        length.length_bias(scored, rng(2)),
        length.padding(scored),
        length.repetition(scored),
        probes.keyword_stuffing(scored, favourites),
        probes.empty(scored),
        probes.prompt_echo(scored),
        probes.keyword_shotgun(scored, favourites),
        probes.swapped_answer(scored, rng(3)),
        damage.prompt_swap(scored, rng(4)),
        damage.truncation(scored),
        damage.typos(scored),
        *(damage.rewrite(scored, name) for name in REWRITES),
        invariance.determinism(scored),
        invariance.permutation(scored, rng(5)),
        invariance.batch(scored),
        invariance.speed(scored),
    )
    return Findings(findings, scored.unit, matrix)


def check_own_texts(
    reward: Reward, texts: OwnTexts, gold: Mapping[str, Reward], *, unit: float | None = None
) -> Findings:
    """Every check on a policy's own texts.

    :param gold: independent judges by name.
    :param unit: standard deviation of the scores of people's texts; None: of these.
    :raises RewardError: from a reward model.
    """
    proxy = texts.scores(reward)
    unit = (float(proxy.std()) or 1.0) if unit is None else unit
    found = [
        own_texts.variance_inside_prompts(texts, proxy, unit),
        own_texts.best_of_n_biases(texts, proxy),
    ]
    curves = {}
    for name, judge in gold.items():
        scores = texts.scores(judge)
        finding, curves[name] = own_texts.best_of_n(proxy, scores, name)
        found += [finding, own_texts.second_judge(proxy, scores, name)]
    if not gold:
        why = "no independent judge was given (--gold)"
        found += [skipped("own texts: best of n", why), skipped("own texts: second judge", why)]
    return Findings(tuple(found), unit, best_of_n=curves)
