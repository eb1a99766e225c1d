"""`textgym.report`, `rescore` and `diff`: runs that are there, looked at again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textgym.errors import InputError
from textgym.paths import absolute
from textgym.rewards import Reward
from textgym.rewards_by_name import resolve_reward

if TYPE_CHECKING:
    from textgym.agents.comparison.difference import RunDifference
    from textgym.agents.comparison.rescoring import Rescored
    from textgym.agents.comparison.study import Study
    from textgym.agents.comparison.verdict import Verdict
    from textgym.agents.runs.held_out import Judge


@dataclass(frozen=True)
class Report:
    """What `report` made of some runs.

    :param verdict: which cell is better, by the gold judges.
    :param files: the files and folders that it wrote.
    """

    study: "Study"
    verdict: "Verdict"
    files: Sequence[Path]


def report(runs: Sequence[str | Path] | str | Path, *, out: str | Path | None = None) -> Report:
    """Say which of several runs did best, and write the report: page, tables, TensorBoard's files.

    Everything comes from what the runs recorded; they are not changed.

    :param runs: directories of studies or of runs, also of those made one at a time.
    :param out: where the report goes; without it, into the directory of the study.
    :raises InputError: for runs that cannot be compared, or none that is whole.
    :raises StorageError: if the report cannot be written.
    """
    from textgym.agents.comparison.reading import read_study
    from textgym.agents.comparison.report_files import check_writable, write_report
    from textgym.agents.comparison.verdict import verdict_of

    given = _listed(runs)
    place = _place_of(given, out)
    study = read_study(given)
    check_writable(place)
    verdict = verdict_of(study)
    return Report(study, verdict, write_report(study, verdict, place))


def rescore(
    runs: Sequence[str | Path] | str | Path,
    *,
    reward: Sequence[Reward | str] | Reward | str = (),
    gold: Sequence[Reward | str] | Reward | str = (),
    force: bool = False,
) -> "list[Rescored]":
    """Score the held-out texts of runs with other reward models, without training.

    What they say joins the record of each run (`held_out_scores.jsonl`), and `report` shows it.

    :param runs: directories of runs or of studies.
    :param reward: reward models, as `train` takes them; may be given several times.
    :param gold: independent judges, which no run is trained on; may be given several times.
    :param force: score again where an earlier rescore did.
    :return: the mean scores at the start and at the end, by run and judge.
    :raises InputError: before anything is written: for a reward model that keeps a running state
        or asks for more than the record holds, one that has scored the texts, and runs without a
        record.
    :raises RewardError: from a reward model.
    :raises StorageError: if scores cannot be written.
    """
    from textgym.agents.comparison.found_runs import find_runs
    from textgym.agents.comparison.rescoring import rescore_runs

    judges = [*_judges(reward, "shadow"), *_judges(gold, "gold")]
    if not judges:
        raise InputError("reward or gold is missing: which reward model should score the texts?")
    found = find_runs(_listed(runs))
    if found.unread:
        raise InputError("; ".join(found.passed_over))
    if not found.runs:
        raise InputError(f"{', '.join(found.foreign)}: event files alone, and no texts to score")
    return rescore_runs(found.runs, judges, force=force)


def diff(run_a: str | Path, run_b: str | Path, *, judge: str | None = None) -> "RunDifference":
    """Show how two runs differ: settings, final figures, held-out scores, texts.

    :param run_a: the directory of a run.
    :param run_b: that of another one, which is compared with it.
    :param judge: whose scores say which texts differ most; without it, an independent judge that
        scored both, else the first that did, else the words themselves.
    :raises InputError: for what is no run, and runs of different environments.
    """
    from textgym.agents.comparison.difference import compare_runs
    from textgym.agents.comparison.found_runs import read_pair

    return compare_runs(*read_pair(run_a, run_b), judge=judge)


def _place_of(runs: Sequence[str | Path], out: str | Path | None) -> Path:
    """Where a report goes.

    :raises InputError: for a place inside a run, or none.
    """
    from textgym.agents.comparison.found_runs import is_run

    if out is None and (len(runs) != 1 or is_run(runs[0])):
        raise InputError("these are runs and no study: say with --out where their report goes")
    place = absolute(runs[0] if out is None else out)
    if place.exists() and not place.is_dir():
        if out is None:
            raise InputError(f"{runs[0]}: is a file; expected the directory of a study")
        raise InputError(f"{out}: is a file; --out names a directory")
    if is_run(place):
        raise InputError(f"{out}: is the directory of a run, which stays as it is; take another")
    return place


def _listed(runs: Sequence[str | Path] | str | Path) -> list[str | Path]:
    return [runs] if isinstance(runs, str | Path) else list(runs)


def _judges(
    given: Sequence[Reward | str] | Reward | str, role: Literal["shadow", "gold"]
) -> "list[tuple[Reward, Judge]]":
    from textgym.agents.runs.held_out import Judge

    several = given if isinstance(given, list | tuple) else [given]
    return [
        (resolve_reward(one), Judge(role, str(one) if isinstance(one, str | Path) else ""))
        for one in several
    ]
