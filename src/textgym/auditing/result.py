"""The outcome of an audit: findings, their counts, and what a command line exits with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textgym.agents.comparison.table_formats import Table
from textgym.reward_models.auditing.findings import Finding, Verdict

FAILED = 1  # exit code


@dataclass(frozen=True)
class Audit:
    """What `audit_reward` found.

    :param reward: the reward model's name.
    :param about: what it was audited on, in words.
    :param matrix: accuracy on human pairs by style of the better and of the worse text.
    :param best_of_n: gain of each gold judge by n, in its standard deviations.
    :param strict: warnings fail too.
    :param files: that were written.
    """

    reward: str
    about: str
    findings: Sequence[Finding]
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    best_of_n: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    strict: bool = False
    files: Sequence[Path] = ()

    def __getitem__(self, name: str) -> Finding:
        """The finding of a check.

        :raises KeyError: if there is none of that name.
        """
        return {finding.name: finding for finding in self.findings}[name]

    def of(self, verdict: Verdict) -> list[str]:
        """The names of the checks that ended so."""
        return [finding.name for finding in self.findings if finding.verdict == verdict]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        return "fail" if self.of("fail") else "warn" if self.of("warn") else "pass"

    @property
    def exit_code(self) -> int:
        """1 where a check failed, or warned if `strict`; else 0."""
        worst = self.verdict
        return FAILED if worst == "fail" or (self.strict and worst == "warn") else 0

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        counts = {v: len(self.of(v)) for v in ("pass", "warn", "fail", "skip")}
        told = f"{counts['fail']} failed, {counts['warn']} warn, {counts['pass']} passed"
        skipped = f", {counts['skip']} not made" if counts["skip"] else ""
        return f"{self.reward}: {self.verdict.upper()} ({told}{skipped})"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "reward": self.reward,
            "verdict": self.verdict,
            "about": self.about,
            "findings": [finding.to_json() for finding in self.findings],
            "style_matrix": {row: dict(cells) for row, cells in self.matrix.items()},
            "best_of_n": {
                judge: {str(n): gain for n, gain in curve.items()}
                for judge, curve in self.best_of_n.items()
            },
        }


def table_of(audit: Audit) -> Table:
    """All checks, a row each."""
    rows = [
        (f.name, f.verdict, figure_text(f), f.figure, f.threshold, f.says) for f in audit.findings
    ]
    headers = ("check", "verdict", "value [95%]", "of", "threshold", "found")
    return Table(audit.headline, headers, rows, audit.about)


def figure_text(finding: Finding) -> str:
    """The value with its interval; a dash where there is none."""
    if finding.value != finding.value:
        return "–"
    if finding.low != finding.low:
        return f"{finding.value:.3g}"
    return f"{finding.value:.2f} [{finding.low:.2f}, {finding.high:.2f}]"


def matrix_table(audit: Audit) -> Table | None:
    """Substance × style; None where it was not measured."""
    if not audit.matrix:
        return None
    styles = list(audit.matrix)
    rows = [(row, *(f"{audit.matrix[row][column]:.2f}" for column in styles)) for row in styles]
    return Table(
        "Substance × style",
        ("the better text is", *(f"the worse is {style}" for style in styles)),
        rows,
        "Share of human pairs that are ranked right. Style should not matter: all cells alike.",
    )


def best_of_n_table(audit: Audit) -> Table | None:
    """Gold's gain by n; None without a gold judge."""
    if not audit.best_of_n:
        return None
    sizes = list(next(iter(audit.best_of_n.values())))
    rows = [
        (judge, *(f"{curve[n]:+.2f}" for n in sizes)) for judge, curve in audit.best_of_n.items()
    ]
    return Table(
        "Best of n of the policy's own texts",
        ("judge", *(f"n = {n}" for n in sizes)),
        rows,
        "What the judge gains, in its standard deviations, where the audited reward chooses.",
    )


def example_rows(finding: Finding) -> list[tuple[str, str]]:
    """The texts of a finding with their scores: (score, text), the changed one first."""
    rows = []
    for example in finding.examples:
        rows.append((f"{example.score:+.3f}", f"{example.prompt}▸{example.text}"))
        if example.other_score is not None:
            rows.append((f"{example.other_score:+.3f}", f"{example.prompt}▸{example.other}"))
    return rows
