"""What a reader of a study must know of its runs: not whole, not there, made otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from textgym.agents.comparison.comparable import few
from textgym.agents.comparison.found_runs import Found, FoundRun
from textgym.agents.comparison.study import Failure
from textgym.agents.comparison.written_study import WrittenStudy, slug_of_run
from textgym.counts import count_of
from textgym.run_files import CELLS


def failures_of(
    recorded: Sequence[FoundRun],
    labels: Mapping[str, str],
    found: Found,
    written: WrittenStudy | None,
) -> list[Failure]:
    """Runs without their last evaluation, and those that a comparison never began.

    :param recorded: the runs that make held-out evaluations.
    :param labels: the cell of every run, by its name.
    """
    told = {} if written is None else written.failures
    failures = []
    for run in recorded:
        if not run.is_whole:
            failure = Failure(run.name, labels[run.name], run.seed, _how_far(run))
            if run.name in told and not run.is_going_on:
                before = told[run.name]
                reason = f"{before.reason} ({failure.reason})"
                failure = replace(failure, reason=reason, lines=before.lines)
            failures.append(failure)
    there = {run.name for run in found.runs}
    for name, (cell, seed) in ({} if written is None else written.ordered).items():
        if name not in there:
            why = found.unread.get(name)
            reason = "was never begun" if why is None else f"cannot be read: {why}"
            failure = Failure(name, cell.label, seed, reason)
            failures.append(failure if why is not None else told.get(name, failure))
    return failures


def without_dropped(found: Found, written: WrittenStudy) -> tuple[Found, list[str]]:
    """The runs of the cells that the last comparison ordered, and a note for each other cell.

    Runs that nobody ordered here, copied from another machine, say, stay.
    """
    left_out: dict[str, int] = {}
    for run in found.runs:
        slug = slug_of_run(run.name)
        if slug in written.dropped:
            left_out[slug] = left_out.get(slug, 0) + 1
    runs = [run for run in found.runs if slug_of_run(run.name) not in written.dropped]
    notes = [
        f"{CELLS}/{slug}: left out ({count_of(count, 'run')}), since the last `textgym "
        f"compare` here did not name this cell; a report on {CELLS} alone compares all that is "
        "there"
        for slug, count in left_out.items()
    ]
    return replace(found, runs=runs), notes


def notes_of(found: Found, runs: Sequence[FoundRun]) -> list[str]:
    """What was torn or passed over, and settings that differ.

    :param runs: those that are compared.
    """
    notes = [*found.passed_over, *(torn for run in found.runs for torn in run.torn)]
    is_scored = runs[0].record is not None
    without = [run.name for run in found.runs if run.record is None]
    if is_scored and without:
        notes.append(
            f"{few(without)}: no held-out evaluations (train with --evaluations), so left out"
        )
    if is_scored:
        return notes + _different_settings(runs)
    notes.append("no run made held-out evaluations: their sample texts are shown, without scores")
    halfway = [f"{run.name} ({run.step:,} tokens)" for run in runs if not run.is_whole]
    return notes + ([f"not at their end: {few(halfway)}"] if halfway else [])


def _how_far(run: FoundRun) -> str:
    assert run.record is not None
    done = len(run.record.steps)
    if run.record.lost and not run.is_going_on:
        steps = ", ".join(f"{step:,}" for step in run.record.lost)
        return f"has a damaged record: the evaluation at {steps} tokens is not whole"
    state = "is still going on" if run.is_going_on else "broke off"
    return f"{state}: {done} of {run.record.settings.evaluations} evaluations"


def _different_settings(runs: Sequence[FoundRun]) -> list[str]:
    """How texts were drawn and by whom they were judged, where that differs."""
    settings = {run.name: run.record.settings for run in runs if run.record is not None}
    notes = []
    for name in ("max_new_tokens", "temperature", "top_k", "top_p", "evaluations"):
        values = {run: getattr(own, name) for run, own in settings.items()}
        if len(set(values.values())) > 1:
            told = [
                f"{value} in {few([run for run, v in values.items() if v == value])}"
                for value in dict.fromkeys(values.values())
            ]
            notes.append(f"held-out texts differ in {name}: {'; '.join(told)}")
    judges = dict.fromkeys(judge for own in settings.values() for judge in own.judges)
    for judge in judges:
        without = [run for run, own in settings.items() if judge not in own.judges]
        if without:
            by = next(own.judges[judge] for own in settings.values() if judge in own.judges)
            flag = "--gold" if by.role == "gold" else "--reward"
            words = f"textgym rescore RUN {flag} {by.spec or judge}"
            notes.append(f"{judge} has not scored {few(without)}: {words}")
        silent = [run.name for run in runs if _is_silent_somewhere(run, judge)]
        if silent:
            notes.append(
                f"{judge} gives some evaluations of {few(silent)} no score at all: it failed there "
                "(the run's log says how), or says nothing of such texts"
            )
    return notes


def _is_silent_somewhere(run: FoundRun, judge: str) -> bool:
    """Whether a judge of a run's record scored no text of some evaluation."""
    if run.record is None or judge not in run.record.settings.judges:
        return False
    evaluations = run.record.texts.values()
    return any(all(text.scores.get(judge) is None for text in texts) for texts in evaluations)
