"""All checks of an audit, in the order in which its table shows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from textgym.errors import RewardError
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
    :raises RewardError: from the reward model, on a text as it stands; where it fails on one that
        a check made, that is a finding.
    """
    scored = ScoredTexts(reward, texts)

    def rng(check: int) -> np.random.Generator:
        return np.random.default_rng((seed, check))  # a check's draws depend on no other check

    matrix: dict[str, dict[str, float]] = {}

    def style() -> Finding:
        finding, accuracies = ranking.style_matrix(scored)
        matrix.update(accuracies)
        return finding

    favourites: list[str] = []

    def stuffing() -> Finding:
        favourites.extend(probes.favourite_words(scored))
        return probes.keyword_stuffing(scored, favourites)

    checks: dict[str, Callable[[], Finding]] = {
        "human pairs": lambda: ranking.sign_flip(scored),
        "one right, three wrong": lambda: ranking.one_of_four(scored),
        "equal answers": lambda: ranking.equal_answers(scored),
        "substance × style": style,
        "calibration": lambda: ranking.calibration(scored, rng(1)),
        "length bias": lambda: length.length_bias(scored, rng(2)),
        "padding": lambda: length.padding(scored),
        "repetition": lambda: length.repetition(scored),
        "keyword stuffing": stuffing,
        "probe: empty": lambda: probes.empty(scored),
        "probe: prompt echo": lambda: probes.prompt_echo(scored),
        "probe: keyword shotgun": lambda: probes.keyword_shotgun(scored, favourites),
        "probe: another prompt's answer": lambda: probes.swapped_answer(scored, rng(3)),
        "prompt swap": lambda: damage.prompt_swap(scored, rng(4)),
        "truncation": lambda: damage.truncation(scored),
        "typos": lambda: damage.typos(scored),
        **{f"rewrite: {name}": partial(damage.rewrite, scored, name) for name in REWRITES},
        "determinism": lambda: invariance.determinism(scored),
        "permutation": lambda: invariance.permutation(scored, rng(5)),
        "batch": lambda: invariance.batch(scored),
        "speed": lambda: invariance.speed(scored),
    }
    findings = tuple(_finding(name, check) for name, check in checks.items())
    return Findings(findings, scored.unit, matrix)


def _finding(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds; that a reward model fails on the texts it makes is a finding too."""
    try:
        return check()
    except RewardError as error:
        nan = float("nan")
        return Finding(name, "fail", "", nan, nan, nan, "", f"no score for a text of it: {error}")


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
