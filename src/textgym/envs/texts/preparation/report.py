"""The report of a preparation for people: a table of the steps, and texts before and after."""

from collections.abc import Mapping

from textgym.envs.texts.preparation.pipeline import PreparationReport
from textgym.envs.texts.preparation.rows import StepCount


def markdown(report: PreparationReport, encodings: Mapping[str, str]) -> str:
    """A page in Markdown.

    :param encodings: what each input was read as, by its path.
    """
    lines = ["# Preparation", ""]
    lines += [f"- `{path}`, read as {name}" for path, name in encodings.items()]
    blank = f" ({report.blank:,} blank ones were left out)" if report.blank else ""
    lines += ["", f"{report.read:,} texts were read{blank}, {report.kept:,} written."]
    if report.parts:
        lines += ["", ", ".join(f"{part}: {n:,}" for part, n in report.parts.items()) + "."]
    lines += ["", "| step | changed | removed | added | reasons |", "|---|---:|---:|---:|---|"]
    for count in report.steps:
        reasons = ", ".join(f"{name} {n:,}" for name, n in count.reasons.most_common())
        figures = f"{count.changed:,} | {count.removed:,} | {count.added:,}"
        lines.append(f"| {count.name} | {figures} | {reasons} |")
    for count in report.steps:
        lines += _samples(count)
    return "\n".join(lines) + "\n"


def terminal(report: PreparationReport, samples: int) -> str:
    """The report's table, and the first texts of each step, before and after.

    :param samples: texts of a step at most.
    """
    lines = [str(report)]
    for count in report.steps:
        for before, after in count.samples[:samples]:
            lines.append(f"{count.name}: {before!r} {_arrow(after)}")
    if report.parts:
        lines.append("parts: " + ", ".join(f"{p} {n:,}" for p, n in report.parts.items()))
    return "\n".join(lines)


def _arrow(after: str | None) -> str:
    return "removed" if after is None else f"-> {after!r}"


def _samples(count: StepCount) -> list[str]:
    if not count.samples:
        return []
    lines = ["", f"## {count.name}", ""]
    for before, after in count.samples:
        lines.append(f"- `{_code(before)}`" + ("" if after is None else f" → `{_code(after)}`"))
        lines[-1] += " removed" if after is None else ""
    return lines


def _code(text: str) -> str:
    """A text between backquotes, in one line."""
    return repr(text)[1:-1].replace("`", "'")
