"""Raters who answer at once while the label server is killed again and again.

Every rater asks, answers and now and then takes an answer back, and sends a request again until it
is answered. In the end each answer that was acknowledged must be in the store once, as it was sent,
and nothing else may be.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from machine import where

from textgym.labelling.access import Access, Session
from textgym.labelling.serving import serve
from textgym.reward_models.people.client import address_path
from textgym.reward_models.people.records import NewItem, Text, counted, standing
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import read_or_make_token

RESULTS = Path(__file__).parent / "results" / "label_server.md"
RATERS_PER_PAIR = 4
WAITS = (0.02, 0.05, 0.1, 0.2)


def start_server(store: Path, port: int) -> int:
    """A server of the store as a process of its own; its id."""
    assert uvicorn  # imported before the fork, so that a start takes no time
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with contextlib.redirect_stdout(io.StringIO()), LabelStore(store, wait=10) as opened:
            token = read_or_make_token(store)
            serve(opened, token, host="127.0.0.1", port=port, owner="owner")
        code = 0
    finally:
        os._exit(code)


class Rater(threading.Thread):
    """A rater with a browser's patience.

    :ivar acked: key → (answer's id, choice, showing), of every answer that got its 200.
    :ivar undone: ids of the undo's that got their 200, by key.
    """

    def __init__(self, name: str, url: str, access: Access, answers: int) -> None:
        super().__init__(name=name)
        self.url, self.answers = url, answers
        self.cookies = {access.cookie_name: access.cookie(Session(name, False))}
        self.rng = random.Random(name)
        self.acked: dict[str, tuple[int, str, int]] = {}
        self.undone: list[str] = []
        self.retries, self.seconds, self.error = 0, [], ""

    def run(self) -> None:
        """Answer as often as asked to."""
        try:
            with httpx.Client(base_url=self.url, cookies=self.cookies, timeout=20) as client:
                self._answer(client)
        except Exception as error:  # told at the end, by the main thread
            self.error = f"{self.name}: {type(error).__name__}: {error}"

    def _answer(self, client: httpx.Client) -> None:
        n = 0
        while len(self.acked) - len(self.undone) < self.answers:
            showings = self._call(client, "/api/next", {"count": 5})["showings"]
            assert showings, "nothing left to answer"
            for showing in showings[: self.answers - len(self.acked) + len(self.undone)]:
                n += 1
                body = {
                    "showing": showing["showing"],
                    "key": f"{self.name} answer {n}",
                    "choice": self.rng.choice(["a", "b", "tie", "both_bad"]),
                }
                began = time.perf_counter()
                reply = self._call(client, "/api/answer", body)
                self.seconds.append(time.perf_counter() - began)
                self.acked[body["key"]] = (reply["answer"], body["choice"], body["showing"])
                if self.rng.random() < 0.02:
                    key = f"{self.name} undo {n}"
                    self._call(client, "/api/undo", {"key": key, "answer": reply["answer"]})
                    self.undone.append(key)

    def _call(self, client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
        while True:
            try:
                reply = client.post(path, json=body)
            except httpx.TransportError:
                self.retries += 1
                time.sleep(self.rng.choice(WAITS))
                continue
            assert reply.status_code == 200, (reply.status_code, reply.text)
            return reply.json()


def run(folder: Path, raters: int, answers: int, kills: int, pause: float) -> dict[str, Any]:
    """Let them answer under kills, and hold the store against what they were told."""
    path = folder / "labels.db"
    pairs = -(-raters * answers * 5 // (4 * RATERS_PER_PAIR)) + 10
    with LabelStore(path, raters=min(RATERS_PER_PAIR, raters), repeats=0.05, seed=1) as store:
        store.add_items([NewItem(f"{n}", (Text("one"), Text("other"))) for n in range(pairs)])
        access = Access(read_or_make_token(path), store.settings.id)
    server = start_server(path, 0)
    port = _port(path)
    url, killed, began = f"http://127.0.0.1:{port}", 0, time.perf_counter()
    notes = folder / "told.json"
    child = os.fork()
    if not child:
        _rate(notes, [Rater(f"rater{n}", url, access, answers) for n in range(raters)])
    rng = random.Random(0)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(pause * rng.uniform(0.5, 1.5))
        if killed < kills:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
            server, killed = start_server(path, port), killed + 1
    told = _told(notes.read_text(encoding="utf-8"))
    seconds = time.perf_counter() - began
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    return _held_against(path, told) | {"kills": killed, "seconds": seconds, "raters": raters}


def _rate(notes: Path, raters: list[Rater]) -> None:
    """Be the raters, and write down what they were told."""
    for rater in raters:
        rater.start()
    for rater in raters:
        rater.join()
    names = ("acked", "undone", "retries", "seconds", "error")
    told = [{name: getattr(rater, name) for name in names} for rater in raters]
    notes.write_text(json.dumps(told), encoding="utf-8")
    os._exit(0)


def _told(text: str) -> list[dict[str, Any]]:
    told = json.loads(text)
    errors = [rater["error"] for rater in told if rater["error"]]
    assert not errors, errors
    return told


def _port(path: Path) -> int:
    while True:
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads(address_path(path).read_text())["url"].rpartition(":")[2])
        time.sleep(0.02)


def run_slow(folder: Path, connections: int, answers: int) -> dict[str, Any]:
    """One rater's answers while as many connections send a request one byte at a time."""
    path = folder / "slow.db"
    with LabelStore(path, repeats=0.0, seed=1) as store:
        store.add_items([NewItem(f"{n}", (Text("one"), Text("other"))) for n in range(answers)])
        access = Access(read_or_make_token(path), store.settings.id)
    server = start_server(path, 0)
    port = _port(path)
    rater = Rater("anna", f"http://127.0.0.1:{port}", access, answers)
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for byte in b"POST /api":
        for one in slow:
            one.send(bytes([byte]))
    rater.run()
    for one in slow:
        one.close()
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    assert not rater.error, rater.error
    seconds = sorted(rater.seconds)
    return {"connections": connections, "p99": 1000 * seconds[int(0.99 * (len(seconds) - 1))]}


def _held_against(path: Path, told: list[dict[str, Any]]) -> dict[str, Any]:
    acked = {key: tuple(value) for rater in told for key, value in rater["acked"].items()}
    undone = {key for rater in told for key in rater["undone"]}
    with LabelStore(path, is_read_only=True) as store:
        events, settings = store.events(), store.settings
    with contextlib.closing(sqlite3.connect(path)) as connection:
        integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
    answers = {e.key: (e.id, e.choice, e.showing) for e in events if e.undoes is None}
    keys = [event.key for event in events]
    per_pair = Counter(e.item for e in counted(events, settings.raters))
    asked = Counter((e.item, e.rater, e.is_repeat) for e in standing(events))
    seconds = sorted(second for rater in told for second in rater["seconds"])
    return {
        "acknowledged": len(acked),
        "lost": sum(answers.get(key) != value for key, value in acked.items())
        + len(undone - set(keys)),
        "doubled": len(keys) - len(set(keys)),
        "not acknowledged, but stored": len(set(keys) - set(acked) - undone),
        "undone": len(undone),
        "retries": sum(rater["retries"] for rater in told),
        "pairs with more answers than wanted": sum(n > settings.raters for n in per_pair.values()),
        "pairs asked twice of one rater": sum(n > 1 for n in asked.values()),
        "integrity": integrity,
        "median ms of an answer": round(1000 * seconds[len(seconds) // 2], 1),
    }


def main() -> int:
    """Run, print and write; 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=16)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--slow", type=int, default=1000, help="connections that send slowly")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            Path(folder), arguments.raters, arguments.answers, arguments.kills, arguments.pause
        )
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
        slow = run_slow(Path(folder), arguments.slow, 100) if arguments.slow else None
    lines = [
        "# The label server under kills",
        "",
        f"{arguments.raters} raters at once, {arguments.answers} standing answers each, the server "
        f"killed (SIGKILL) {found['kills']} times. What was acknowledged with a 200 is held "
        "against the store.",
        "",
        "| what | measured | bar | |",
        "|---|---|---|---|",
    ]
    bars = {
        "lost": 0,
        "doubled": 0,
        "not acknowledged, but stored": 0,
        "pairs with more answers than wanted": 0,
        "pairs asked twice of one rater": 0,
        "integrity": "ok",
    }
    for name, value in found.items():
        if name in bars:
            lines.append(f"| {name} | {value} | {bars[name]} | {_verdict(value == bars[name])} |")
        elif name not in ("raters", "seconds"):
            lines.append(f"| {name} | {value} | | |")
    rate = found["acknowledged"] / found["seconds"]
    if slow is not None:
        what = f"p99 of an answer beside {slow['connections']:,} slow connections, ms"
        lines.append(f"| {what} | {slow['p99']:.0f} | 500 | {_verdict(slow['p99'] < 500)} |")
    lines += [f"| answers a second, kills included | {rate:.1f} | | |", "", *where(1)]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0 if all(found[name] == bar for name, bar in bars.items()) else 1


def _verdict(is_met: bool) -> str:
    return "pass" if is_met else "FAIL"


if __name__ == "__main__":
    sys.exit(main())
