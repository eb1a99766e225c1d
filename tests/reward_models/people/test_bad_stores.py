"""Files that are no store, stores that cannot be written: a clear line, and nothing lost."""

import contextlib
import os
import resource
import shutil
import sqlite3
import tempfile

import pytest

from textgym.errors import InputError, StorageError
from textgym.reward_models.people import database
from textgym.reward_models.people.database import StoreInUse
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import ConflictError, LabelStore

PAIR = NewItem("p", (Text("x"), Text("y")))


@pytest.fixture
def path(tmp_path):
    """A store with an item and an answer, closed."""
    path = tmp_path / "labels.db"
    with LabelStore(path, repeats=0.0) as store:
        store.add_items([PAIR, PAIR])
        (showing,) = store.next("anna")
        store.answer("anna", Reply(showing.id, "key", "a"))
    return path


def refused(path, match, error=InputError, **keywords):
    """Opening raises one line that names the file, and leaves it as it is."""
    before = path.read_bytes()
    with pytest.raises(error, match=match) as caught, LabelStore(path, **keywords):
        pass
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"prompt,chosen\n", b"PK\x03\x04", b"SQLite format 2\0", b"\0"]
)
def test_a_foreign_file(tmp_path, content):
    path = tmp_path / "labels.db"
    path.write_bytes(content)
    refused(path, "not an SQLite file")
    assert not list(tmp_path.glob("*.lock"))


def test_a_directory_and_a_fifo(tmp_path):
    with pytest.raises(InputError, match="found a directory"):
        LabelStore(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="found a FIFO"):
        LabelStore(tmp_path / "fifo")


def test_somebody_elses_sqlite_file(tmp_path):
    path = tmp_path / "labels.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    refused(path, "no store of labels")


def test_a_store_of_a_newer_version(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    refused(path, "version 99, this textgym knows 1: install a newer textgym")
    refused(path, "version 99", is_read_only=True)


def test_a_damaged_store(path):
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    refused(path, "damaged SQLite file")


def test_a_store_that_is_missing_is_not_made_by_reading(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        LabelStore(tmp_path / "none.db", is_read_only=True)
    with pytest.raises(StorageError, match="cannot be written"):
        LabelStore(tmp_path / "no folder" / "labels.db")
    assert list(tmp_path.iterdir()) == []


def test_one_writer_at_a_time_and_readers_beside_it(path):
    with LabelStore(path) as store:
        refused(path, "another process writes it", StoreInUse)
        with LabelStore(path, is_read_only=True) as reader:
            store.add_items([PAIR])
            assert len(reader.items()) == 3
            with pytest.raises(StorageError, match="read-only; what was saved is kept"):
                reader.add_items([PAIR])
    with LabelStore(path) as store:
        assert len(store.items()) == 3


def test_a_store_locked_by_another_program(path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        refused(path, "locked by another program", StorageError)
        connection.execute("ROLLBACK")


def test_a_store_in_a_folder_that_cannot_be_written(path):
    folder = tempfile.mkdtemp()
    try:
        shutil.copy(path, f"{folder}/labels.db")
        os.chmod(folder, 0o555)
        with _as_nobody(), pytest.raises(StorageError, match=r"cannot be written \(Permission"):
            LabelStore(f"{folder}/labels.db")
        with _as_nobody(), LabelStore(f"{folder}/labels.db", is_read_only=True) as store:
            assert len(store.events()) == 1
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _as_nobody():
    """Without root's right to write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_full_disk_loses_nothing(path):
    """No file may grow: as on a full disk, SQLite can write neither journal nor pages."""
    with LabelStore(path) as store:
        before = store.events()
        (showing,) = store.next("anna")
        reply = Reply(showing.id, "the same key", "tie", note="n" * 10_000)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        try:
            with pytest.raises(StorageError, match="disk") as caught:
                store.answer("anna", reply)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "\n" not in str(caught.value)
        assert store.events() == before
        event = store.answer("anna", reply)
    with LabelStore(path) as store:
        assert store.events() == [*before, event]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_what_a_killed_writer_left_is_taken_back(path, tmp_path):
    """The files as a kill in the middle of a commit leaves them, for a reader and for a writer."""
    with LabelStore(path) as store:
        events, items = store.events(), store.items()
        with contextlib.suppress(ZeroDivisionError), store._database.writing() as connection:
            connection.execute("PRAGMA cache_size = 1")  # pages go to the file before the commit
            connection.execute("UPDATE showings SET shown_at = 0")
            for n in range(200):
                connection.execute(
                    "INSERT INTO raters VALUES (?, ?, 0)", (n + 9, "r" * 900 + f"{n}")
                )
            for name in ("read.db", "write.db"):
                shutil.copy(path, tmp_path / name)
                shutil.copy(f"{path}-journal", tmp_path / f"{name}-journal")
            raise ZeroDivisionError
    assert (tmp_path / "read.db").stat().st_size > path.stat().st_size
    for name, keywords in (("read.db", {"is_read_only": True}), ("write.db", {})):
        with LabelStore(tmp_path / name, **keywords) as store:
            assert (store.events(), store.items(), store.raters()) == (events, items, ["anna"])


def test_commits_wait_for_the_disk_and_use_no_write_ahead_log(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    with LabelStore(path) as store, store._database.writing() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA


def test_the_log_cannot_be_changed(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for change in ("UPDATE events SET choice = 'b'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                connection.execute(change)


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (NewItem("p", (Text("x"),)), "item 1: expected 2 texts for kind pair, got 1"),
        (NewItem("p", (Text("x"), Text("y")), "rating"), "expected 1 text for kind rating, got 2"),
        (NewItem("p", (Text("x"), Text("x"))), "both texts are the same"),
        (NewItem("\ud800", (Text("x"), Text("y"))), "half a surrogate pair at character 0"),
        (NewItem("p", (Text("x" * 200_001), Text("y"))), "at most 200,000 characters"),
        (NewItem("p", (Text("x"), Text("y")), "best"), "kind must be among pair, rating, edit"),
        (NewItem("p", (Text("x"), Text("y")), gold="third"), "gold must be first, second"),
        (NewItem("p", (Text("x"), Text("y")), priority=float("nan")), "priority must be finite"),
        (NewItem(None, (Text("x"), Text("y"))), "prompt must be a text, got NoneType"),
    ],
)
def test_items_that_are_none_add_nothing(path, item, match):
    with LabelStore(path) as store:
        with pytest.raises(InputError, match=match):
            store.add_items([PAIR, item])
        assert len(store.items()) == 2


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"choice": "rate", "score": 3.0}, "choice must be among a, b, tie, both_bad, skip"),
        ({"choice": "skip"}, "reason must be among cannot_judge"),
        ({"choice": "a", "reason": "broken"}, "of a skip only"),
        ({"choice": "tie", "strength": 1}, "strength must be 1 or 2, of a or b"),
        ({"choice": "a", "score": 3.0}, "score must be from 1 to 5, of a rating only"),
        ({"choice": "a", "answered_at": float("inf")}, "must be finite"),
        ({"choice": "a", "key": ""}, "key must not be empty"),
        ({"choice": "a", "showing": 99}, "showing 99 is none of this rater's"),
    ],
)
def test_replies_that_do_not_fit_store_nothing(path, values, match):
    with LabelStore(path) as store:
        (showing,) = store.next("anna")
        with pytest.raises(InputError, match=match):
            store.answer("anna", Reply(**({"showing": showing.id, "key": "new"} | values)))
        with pytest.raises(ConflictError, match="another reply"):
            store.answer("anna", Reply(showing.id, "key", "b"))
        assert len(store.events()) == 1


def test_settings_out_of_range_make_no_store(tmp_path):
    for values in ({"raters": 0}, {"scale": (5, 1)}, {"repeats": 0.9}, {"gold": -1.0}):
        with pytest.raises(InputError, match=next(iter(values))):
            LabelStore(tmp_path / "labels.db", **values)
    assert list(tmp_path.iterdir()) == []
