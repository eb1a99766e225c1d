"""`textgym.compare`: reward models, agents and starting policies, each with several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textgym.agents.comparison.seeds import seeds_of, written_seeds
from textgym.agents.comparison.study_files import check_study_place
from textgym.agents_by_name import DEFAULT_N_ENVS
from textgym.chat_templates import with_chat
from textgym.checks import check_numbers
from textgym.errors import InputError, unknown_name
from textgym.held_out_evaluations import check_evaluations
from textgym.paths import absolute
from textgym.planning.costs import dry_run_lines
from textgym.planning.later_judges import ask_later_judges
from textgym.planning.names import listed
from textgym.planning.plan import planned
from textgym.planning.study_runs import StudyRuns, cores, standings
from textgym.reporting import Report
from textgym.reporting import report as report_on
from textgym.storage import run_lock

WATCHES = ("off", "warn")  # a run that stops early has no partner


@dataclass(frozen=True)
class Comparison:
    """How the runs of a comparison ended.

    :param out: the study's directory.
    :param failures: the runs that failed, each with the reason in a line.
    :param notes: runs that were made anew, and why.
    :param report: what `textgym.report` says of the study; None where no run is whole.
    """

    out: Path
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    report: Report | None = None


def compare(
    env: str,
    *,
    agent: str | Sequence[str] = "ppo",
    policy: str | Path | Sequence[str | Path] | None = None,
    reward: str | Path | Sequence[str | Path] | None = None,
    gold: str | Sequence[str] = (),
    shadow: str | Sequence[str] = (),
    seeds: int | str | Sequence[int] = 5,
    timesteps: int = 100_000,
    out: str | Path,
    evaluations: int = 5,
    prompts: str | Path | None = None,
    guards: str = "off",
    jobs: int | None = None,
    dry_run: bool = False,
    n_envs: int = DEFAULT_N_ENVS,
    reference: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    chat: bool | None = None,
    system: str | None = None,
    pad_token: str | None = None,
    checkpoint_seconds: float = 300.0,
    checkpoint_tokens: int | None = None,
    keep: int = 2,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
    **keywords: Any,
) -> "Comparison | None":
    """Train every agent with every policy and every reward model, and compare what they write.

    A cell is one of each; its runs differ in their seed. Every run is what `textgym train` makes
    with the command line that `dry_run` prints, in a process of its own with one thread; all
    continue the same held-out prompts, which every reward model scores. Runs that are there
    already are not trained again: the same call goes on after an interrupt.

    :param env: an environment's id, or "module:id".
    :param agent: the algorithm; keywords of its own follow after commas, "ppo,kl_coef=0.1". May be
        given several times, as `policy` and `reward`: all combinations are compared.
    :param policy: checkpoint or run directory of a language model to start from; without it, a
        small fresh one.
    :param reward: a registered name, a reward model's directory or "module:attribute"; without it,
        the environment's own.
    :param gold: independent judges, which no cell trains on; may be given several times.
    :param shadow: further reward models that look on; those that other cells train on do anyway.
    :param seeds: how many seeds each cell has (5: 0 to 4), or which, "3,8".
    :param timesteps: completion tokens of every run, rounded up to whole rollouts.
    :param out: directory of the study; its runs stand in cells/CELL/seed-N.
    :param evaluations: held-out evaluations of each run, start and end included.
    :param prompts: a file of held-out prompts (.txt, .jsonl, .csv); without it, the task's own.
    :param guards: "warn": every run raises an alarm where its reward model is being gamed; the live
        table shows its kind, and the report tells it. No run is stopped early: all learn as much.
    :param jobs: runs at a time (default: the cores that this process may use).
    :param dry_run: only say what would run, how long it takes and how much disk it needs.
    :param n_envs: rows that play at a time.
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: fields of the task to replace, such as max_new_tokens=24.
    :param chat, system: as `train`'s.
    :param pad_token: as `make_agent`'s.
    :param checkpoint_seconds, checkpoint_tokens, keep: as `train`'s.
    :param progress_bar: show a live table on a terminal; elsewhere, and without it, lines.
    :param report: shows a line of text.
    :param keywords: further keywords of the agents, for all cells.
    :return: how the runs ended; None after `dry_run`.
    :raises InputError: before anything has run, for what would fail or could not be compared.
    :raises StorageError: if `out` cannot be written, is in use, or the disk has no room.
    :raises KeyboardInterrupt: after an interrupt, once all runs have stopped and saved.
    """
    shared = {
        "timesteps": timesteps,
        "evaluations": evaluations,
        "n_envs": n_envs,
        "reference": None if reference is None else str(reference),
        "env_kwargs": with_chat(env_kwargs, chat, system),
        "pad_token": pad_token,
        "checkpoint_seconds": checkpoint_seconds,
        "checkpoint_tokens": checkpoint_tokens,
        "keep": keep,
        "guards": guards,
    }
    if guards not in WATCHES:
        raise unknown_name("guards", guards, WATCHES)
    axes = {name: listed(name, value) for name, value in (
        ("agent", agent), ("policy", policy), ("reward", reward), ("gold", gold),
        ("shadow", shadow))}  # fmt: skip
    numbers = seeds_of(seeds)
    check_numbers({**shared, **keywords, "jobs": jobs})
    check_evaluations(evaluations or 1, prompts=prompts, gold=axes["gold"])
    plan = planned(
        env,
        axes,
        keywords,
        seeds=numbers,
        shared=shared,
        prompts=prompts,
        out=str(out),
        measure=dry_run,
    )
    place = absolute(out)
    check_study_place(place, env=env, timesteps=timesteps, prompts=plan.prompts)
    at_a_time = jobs or cores()
    if dry_run:
        for line in dry_run_lines(plan, standings(plan), at_a_time):
            report(line)
        return None
    given = {
        **{"verb": "compare", "env": env, **axes, "seeds": written_seeds(numbers)},
        **{"out": str(out), "prompts": None if prompts is None else str(prompts), **plan.shared},
    }
    with run_lock(place):
        study = StudyRuns(plan, place, report)
        study.begin({k: v for k, v in given.items() if v is not None and v != []})
        study.run(at_a_time, show_table=progress_bar)
        return _ended(study, report)


def _ended(study: StudyRuns, say: Callable[[str], None]) -> Comparison:
    """Say which runs failed, with their last lines, and report on the others."""
    failed = [job for job in study.jobs if job.state == "failed"]
    for job in failed:
        say(f"{job.name} failed; its last lines ({job.log}):")
        for line in job.last_lines or (job.reason,):
            say(f"    {line}")
    done = sum(job.state in ("finished", "kept") for job in study.jobs)
    say(f"{study.plan.out}: {done} of {len(study.jobs)} runs are done")
    failures = {job.name: job.reason for job in failed}
    if not done:
        return Comparison(study.place, failures, study.notes)
    ask_later_judges(study.plan, say)
    try:
        made = report_on(study.place)
    except InputError as error:  # runs of an earlier command, say, that cannot be compared
        say(f"no report: {error}")
        made = None
    return Comparison(study.place, failures, study.notes, made)
