"""Commands as processes: how many at a time, how they end, and that nobody stays behind."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from textgym.agents.comparison.live_table import change_line, plain_lines, study_table
from textgym.agents.comparison.schedule import (
    Job,
    child_environment,
    last_lines,
    reason_of,
    run_jobs,
    wait_until_free,
)
from textgym.agents.comparison.time_left import seconds_left, study_seconds_left, written_time
from textgym.errors import InputError, StorageError
from textgym.storage import run_lock


def job(folder, name, script, **fields):
    """One that runs a line of shell, whose progress is what it wrote into a file."""
    done = folder / f"{name}.done"

    def tokens_done():
        return int(done.read_text() or 0) if done.exists() else 0

    return Job(
        name=name,
        cell=fields.pop("cell", "cell"),
        seed=fields.pop("seed", 0),
        command=lambda: ["sh", "-c", script],
        log=folder / "logs" / f"{name}.log",
        tokens_done=tokens_done,
        timesteps=100,
        **fields,
    )


def test_jobs_run_in_order_so_many_at_a_time_with_one_thread(tmp_path):
    script = f"echo $OMP_NUM_THREADS $RAYON_NUM_THREADS; echo b >> {tmp_path}/log; sleep 0.3; "
    jobs = [job(tmp_path, str(k), f"{script} echo e >> {tmp_path}/log") for k in range(5)]
    most = 0

    def watch(seen):
        nonlocal most
        most = max(most, sum(j.state == "running" for j in seen))

    run_jobs(jobs, at_a_time=2, watch=watch)
    assert [j.state for j in jobs] == ["finished"] * 5
    assert (tmp_path / "logs/0.log").read_text() == "1 1\n"
    open_now = 0
    for line in (tmp_path / "log").read_text().split():
        open_now += 1 if line == "b" else -1
        assert 0 <= open_now <= 2
    assert most == 2


def test_one_that_fails_leaves_the_others_alone_and_says_why(tmp_path):
    jobs = [
        job(tmp_path, "kept", "exit 9", state="kept"),
        job(tmp_path, "bad", "echo first; echo 'textgym: error: no \033[1mluck' >&2; exit 2"),
        job(tmp_path, "killed", "kill -9 $$"),
        job(tmp_path, "silent", "exit 7"),
        job(tmp_path, "good", "true"),
    ]
    refused = job(tmp_path, "refused", "")

    def refuse():
        raise InputError("holds somebody's files")

    refused.command = refuse
    lines = []
    run_jobs([*jobs, refused], at_a_time=2, watch=plain_lines(2, lines.append))
    assert [j.state for j in jobs] == ["kept", "failed", "failed", "failed", "finished"]
    assert jobs[1].reason == "no \\x1b[1mluck"
    assert jobs[1].last_lines == ("first", "textgym: error: no \\x1b[1mluck")
    assert jobs[2].reason.startswith("ended by SIGKILL (the machine may have run out of memory")
    assert jobs[3].reason == "ended with exit code 7 and said nothing"
    assert (refused.state, refused.reason) == ("failed", "holds somebody's files")
    assert sum("bad: failed: no" in line for line in lines) == 1
    assert lines[0] == "1 of 6 runs are finished already" and len(lines) == 1 + 2 * 4 + 1


def test_an_interrupt_asks_the_children_to_stop_and_waits_for_them(tmp_path):
    script = f"trap 'sleep 0.3; echo saved > {tmp_path}/NAME; exit 130' TERM; "
    script += "while :; do sleep 0.05; done"
    jobs = [job(tmp_path, n, script.replace("NAME", n)) for n in ("one", "two", "three")]

    def interrupt():
        while sum(j.state == "running" for j in jobs) < 2:
            time.sleep(0.01)
        time.sleep(0.2)  # until the shells have set their traps
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, at_a_time=2, watch=lambda seen: None)
    thread.join()
    assert [j.state for j in jobs] == ["stopped", "stopped", "waiting"]
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text() == "saved\n"
    assert not (tmp_path / "three").exists()


def test_no_child_outlives_an_error_of_the_watcher(tmp_path):
    jobs = [job(tmp_path, "one", f"echo $$ > {tmp_path}/pid; exec sleep 60")]

    def watch(seen):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs(jobs, at_a_time=1, watch=watch)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_child_is_interrupted_when_the_parent_is_killed(tmp_path):
    """With SIGKILL, which the parent cannot hear."""
    child = (
        "import time; from textgym.starting import end_with_parent; end_with_parent()\n"
        "print('ready', flush=True)\n"
        "try:\n    time.sleep(60)\nexcept BaseException:\n    pass\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "from textgym.agents.comparison.schedule import child_environment\n"
        f"process = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE,\n"
        "    stdout=subprocess.PIPE, env=child_environment(os.environ))\n"
        "process.stdout.readline()\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        os.kill(pid, 0)
        process.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                return
        time.sleep(0.02)
    raise AssertionError("the child is still there")


def test_a_child_that_compare_did_not_start_reads_nothing():
    assert child_environment({"OMP_NUM_THREADS": "8", "A": "b"})["OMP_NUM_THREADS"] == "1"
    line = "from textgym.starting import end_with_parent; end_with_parent(); print(input())"
    found = subprocess.run(
        [sys.executable, "-c", line], input="hers\n", capture_output=True, text=True, check=True
    )
    assert found.stdout == "hers\n"


def test_a_run_that_still_goes_on_is_waited_for(tmp_path):
    said = []
    (tmp_path / "left").mkdir()
    (tmp_path / "left/.lock").touch()  # of a process that was killed: nobody holds it
    wait_until_free([tmp_path / "left", tmp_path / "absent"], seconds=0.0, say=said.append)
    with run_lock(tmp_path / "left"):
        with pytest.raises(StorageError, match="in use by another process"):
            wait_until_free([tmp_path / "left"], seconds=0.3, say=said.append)
    assert said == [f"{tmp_path / 'left'} is in use: waiting for it to end"]


def test_the_last_lines_of_a_log_are_those_of_this_start(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"before\n" + b"x" * 3000 + b"\n\n\xff two\n \nthree\n")
    assert last_lines(log, 0, 2) == ("\ufffd two", "three")
    assert last_lines(log, 7, 9)[0] == "x" * 1000
    assert reason_of(3, ["textgym: error: cannot write: No space left on device"]) == (
        "cannot write: No space left on device"
    )


def running(tokens, started, changed, **fields):
    """A job at work, of 100 tokens."""
    fields = {"cell": "a", "seed": 0, "timesteps": 100, **fields}
    return Job(
        name="n", command=list, log=None, tokens_done=int, state="running", tokens=tokens,
        started=started, changed=changed, **fields
    )  # fmt: skip


def test_time_left_of_runs_and_of_the_study():
    # 25 tokens in 10 s: 100 take 40 s, of which 12 are over.
    half = running(25, 0.0, 10.0)
    assert seconds_left(half, 12.0) == 28.0
    assert seconds_left(running(0, 0.0, 0.0), 12.0) is None
    # One that goes on from 50: the other 50 take 20 s.
    assert seconds_left(running(75, 0.0, 10.0, began_at=50), 12.0) == 8.0
    waiting = [Job("w", "a", k, list, None, int, 100) for k in range(3)]
    done = Job("d", "a", 9, list, None, int, 100, state="finished", seconds=40.0)
    # Each takes 40 s: one core is free at 28, the other at once; 0→40, 28→68, 40→80.
    assert study_seconds_left([done, half, *waiting], 2, 12.0) == 80.0
    assert study_seconds_left(waiting, 2, 0.0) is None
    assert [written_time(s) for s in (4.4, 61, 3_725)] == ["0:04", "1:01", "1:02:05"]


def test_the_table_escapes_what_a_cell_is_called():
    half = running(25, 0.0, 10.0, cell="[bold]x[/bold] \x1b[2J")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(study_table([half], 2, 12.0))
    text = console.export_text()
    assert "[bold]x[/bold] \\x1b[2J" in text and "seed 0 ███░░░░░░░░░  25% 0:28 left" in text
    assert "0 of 1 runs done, 2 at a time, 0:28 left" in text and "alarms" not in text


def test_the_table_and_the_lines_tell_what_the_guards_of_a_run_raised():
    half = running(25, 0.0, 10.0, cell="ppo", alarms=("KL", "entropy"))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(study_table([half], 2, 12.0))
    text = console.export_text()
    assert "alarms" in text and "seed 0: KL; entropy" in text
    half.state, half.seconds = "finished", 12.0
    line = change_line(half, [half], 1, 12.0)
    assert line.endswith("its guards raised KL; entropy")
