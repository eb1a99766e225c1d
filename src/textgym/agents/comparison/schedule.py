"""Commands as processes of their own, so many at a time; stopped softly where all must end.

A child gets one thread and a pipe as standard input that nothing is written to. The pipe closes
when this process is gone, whatever ended it, and a child that watches it ends too.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textgym.errors import InputError, StorageError
from textgym.interrupts import deferred_interrupt
from textgym.starting import ENDS_WITH_STDIN
from textgym.storage import LOCK, cannot_write, run_lock
from textgym.terminal import visible

State = Literal["kept", "waiting", "running", "finished", "failed", "stopped"]

# What the printed command lines say of threads, and what libraries beside torch obey.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_THREADS = {
    name: "1" for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
} | {"TOKENIZERS_PARALLELISM": "false"}
_POLL, _LOOK = 0.1, 1.0  # seconds between two questions whether a child has ended; to its record
_LAST_LINES = 8


@dataclass
class Job:
    """One run of a study, and how it stands.

    :param name: shown, and unique.
    :param command: gives the words to start it with, when its turn comes.
    :param log: what it says goes here.
    :param tokens_done: reads how far it is.
    :param timesteps: tokens of the whole run.
    :param began_at: tokens at its (last) start; `changed`: when `tokens` last grew; both clocks in
        seconds of `time.monotonic`.
    :param reason: why it failed, in a line; `last_lines`: what it said last.
    :param find_alarms: reads which kinds of alarm its guards raised; `alarms`: those read last.
    """

    name: str
    cell: str
    seed: int
    command: Callable[[], Sequence[str]]
    log: Path
    tokens_done: Callable[[], int]
    timesteps: int
    state: State = "waiting"
    tokens: int = 0
    began_at: int = 0
    started: float = 0.0
    changed: float = 0.0
    seconds: float | None = None
    code: int | None = None
    reason: str = ""
    last_lines: tuple[str, ...] = ()
    find_alarms: Callable[[], tuple[str, ...]] = tuple
    alarms: tuple[str, ...] = ()


@dataclass
class _Child:
    """A job that runs, and where its part of the log begins."""

    job: Job
    process: subprocess.Popen[bytes]
    log_begins: int


def run_jobs(
    jobs: Sequence[Job], *, at_a_time: int, watch: Callable[[Sequence[Job]], None]
) -> None:
    """Run those that wait, in order, each in a process; their states tell how they ended.

    After an interrupt every child is asked to stop and save, and waited for; a second interrupt
    makes them stop at once.

    :param watch: called when something changes, and every second.
    :raises KeyboardInterrupt: once all children have ended.
    """
    children: list[_Child] = []
    waiting = [job for job in jobs if job.state == "waiting"]
    looked, is_stopping = -1.0, False
    watch(jobs)
    with deferred_interrupt() as is_interrupted:
        try:
            while waiting or children:
                if is_interrupted() and not is_stopping:
                    is_stopping, waiting = True, []
                    _ask_to_stop(children)
                has_changed = _gather(children, is_stopping)
                while waiting and len(children) < at_a_time:
                    job = waiting.pop(0)
                    children += _start(job)
                    has_changed = True
                now = time.monotonic()
                if has_changed or now - looked >= _LOOK:
                    looked = now
                    _look([child.job for child in children], now)
                    watch(jobs)
                if children:
                    time.sleep(_POLL)
        finally:
            _end(children)
    if is_interrupted():
        watch(jobs)
        raise KeyboardInterrupt


def wait_until_free(
    directories: Sequence[Path], *, seconds: float, say: Callable[[str], None]
) -> None:
    """Wait for runs that a comparison before this one was asked to stop, or was killed with.

    :raises StorageError: naming the one that is still in use after so long.
    """
    end, has_said = time.monotonic() + seconds, False
    for directory in directories:
        while (directory / LOCK).exists():
            try:
                with run_lock(directory):
                    break
            except StorageError:
                if time.monotonic() > end:
                    raise
            if not has_said:
                say(f"{directory} is in use: waiting for it to end")
                has_said = True
            time.sleep(0.2)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a child: one thread, and it ends with its parent."""
    return {**environment, **ONE_THREAD, **_THREADS, ENDS_WITH_STDIN: "1"}


def _start(job: Job) -> list[_Child]:
    """The process of a job; none where it cannot begin."""
    try:
        command = list(job.command())
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            begin = log.tell()
            # A session of its own: Ctrl-C in a terminal reaches this process alone, which asks.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(os.environ),
                start_new_session=True,
            )
    except InputError as error:
        job.state, job.reason = "failed", str(error)
        return []
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise cannot_write(job.log, error) from error
    job.state, job.reason, job.last_lines = "running", "", ()
    job.tokens = job.began_at = job.tokens_done()
    job.started = job.changed = time.monotonic()
    return [_Child(job, process, begin)]


def _gather(children: list[_Child], is_stopping: bool) -> bool:
    """Take note of the children that have ended; whether there was one."""
    ended = [child for child in children if child.process.poll() is not None]
    for child in ended:
        children.remove(child)
        _close(child.process)
        job = child.job
        job.code, job.seconds = child.process.returncode, time.monotonic() - job.started
        job.tokens, job.alarms = job.tokens_done(), job.find_alarms()
        if job.code == 0:
            job.state = "finished"
        elif is_stopping:
            job.state = "stopped"
        else:
            job.state = "failed"
            job.last_lines = last_lines(job.log, child.log_begins)
            job.reason = reason_of(job.code, job.last_lines)
    return bool(ended)


def last_lines(log: Path, begin: int = 0, count: int = _LAST_LINES) -> tuple[str, ...]:
    """The last lines of a log from a place on, blank ones left out, as a terminal may show them."""
    with open(log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begin, size - 2**16))
        text = file.read().decode("utf-8", "replace")
    lines = [visible(line).rstrip() for line in text.splitlines()]
    return tuple(line[:1000] for line in lines if line.strip())[-count:]


def reason_of(code: int, lines: Sequence[str]) -> str:
    """Why a child ended with an exit code that is not 0, in a line.

    :param lines: what it said last.
    """
    said = lines[-1].removeprefix("textgym: ").removeprefix("error: ") if lines else ""
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the machine may have run out of memory: take fewer --jobs)"
        return f"ended by {name}{hint if -code == signal.SIGKILL else ''}"
    return said or f"ended with exit code {code} and said nothing"


def _look(running: Sequence[Job], now: float) -> None:
    for job in running:
        tokens = job.tokens_done()
        if tokens > job.tokens:
            job.tokens, job.changed, job.alarms = tokens, now, job.find_alarms()


def _ask_to_stop(children: Sequence[_Child]) -> None:
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)


def _end(children: Sequence[_Child], wait: float = 30.0) -> None:
    """Nobody stays: asked once more, and after a while killed, with what they started."""
    _ask_to_stop(children)
    end = time.monotonic() + wait
    for child in children:
        try:
            child.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        _close(child.process)
        child.job.state = "stopped"


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
