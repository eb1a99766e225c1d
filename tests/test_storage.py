"""Single files: strict JSON, replaced in one step, and one writer per run directory."""

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_flags import watchdog

from textgym import storage
from textgym.directories import atomic_directory
from textgym.errors import InputError, StorageError
from textgym.json_lines import read_metrics
from textgym.storage import (
    json_text,
    read_json,
    require_regular_file,
    run_lock,
    write_json_atomically,
    write_text_atomically,
)


def test_a_text_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "new" / "a.json"
    write_json_atomically(path, {"é": [1, None]})
    assert read_json(path) == {"é": [1, None]}
    write_text_atomically(path, "[1]")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_text_atomically(path, "[2]")
    assert read_json(path) == [1] and [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_places_that_cannot_be_written_are_storage_errors(tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "x"
    with pytest.raises(StorageError, match="cannot be written"):
        write_text_atomically(inside, "")
    with pytest.raises(StorageError, match="cannot be written"), atomic_directory(inside):
        raise AssertionError("never reached")
    with pytest.raises(StorageError, match="cannot be written"), run_lock(inside):
        raise AssertionError("never reached")


def test_a_json_file_that_cannot_be_read_names_itself(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a\.json: not UTF-8"):
        read_json(tmp_path / "a.json")


def test_a_second_process_is_refused_and_a_killed_one_frees_the_lock(tmp_path):
    script = """
    import sys
    from textgym.storage import run_lock
    with run_lock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="in use by another process"), run_lock(tmp_path):
            raise AssertionError("never reached")
        holder.kill()
    with run_lock(tmp_path) as directory:
        assert directory == tmp_path


def strict(text):
    """JSON as other programs read it: NaN and Infinity, which Python's reader takes, are none."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_become_null_wherever_they_are():
    value = {
        "a": float("nan"),
        "list": [1.5, float("inf"), (float("-inf"), 2)],
        "nested": {"x": {"y": [{"z": np.float32("nan")}]}},
        "scalars": [np.float64("inf"), np.float32(0.5), np.int64(7), np.bool_(True)],
        "array": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "tensor": torch.tensor([1.0, float("inf")]),
        np.int64(3): "key",
    }
    assert strict(json_text(value)) == {
        "a": None,
        "list": [1.5, None, [None, 2]],
        "nested": {"x": {"y": [{"z": None}]}},
        "scalars": [None, 0.5, 7, True],
        "array": [[1.0, None], [2.0, 3.0]],
        "tensor": [1.0, None],
        "3": "key",
    }
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text({"x": object()})


def test_a_line_of_json_is_one_line_that_utf_8_can_hold():
    text = "é\u2028\u2029\x85\x7f\n\r\ud800 😀"
    line = json_text({"text": text})
    assert len(line.splitlines()) == 1 and "é" in line and "😀" in line
    assert json.loads(line.encode("utf-8")) == {"text": text}
    assert json_text([1, {"a": 2}], indent=2) == '[\n  1,\n  {\n    "a": 2\n  }\n]'


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "file").write_text("{}")
    (tmp_path / "link").symlink_to("file")
    assert read_json(tmp_path / "link") == {}
    for name, found in (("fifo", "a FIFO"), ("zero", "a device"), (".", "a directory")):
        wanted = f"expected a regular file, found {found}"
        with pytest.raises(InputError, match=wanted), watchdog(20):
            read_json(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        require_regular_file(tmp_path / "a\0b")


def test_every_record_goes_through_the_one_writer():
    """`json.dumps` writes NaN, which is no JSON; two forbid it themselves, and are compact.

    The others write no record: bodies of requests and replies, the key of a schema, and the filter
    of chat templates that transformers has too.
    """
    root = Path(storage.__file__).parent
    writers = {p.name for p in root.rglob("*.py") if re.search(r"json\.dumps?\(", p.read_text())}
    over_http = {"items_as_json.py", "chat_client.py", "guard.py"}
    assert writers - over_http - {"json_schema.py", "chat_templates.py"} == {
        "storage.py",
        "json_patterns.py",
        "packing.py",
    }


def test_figures_that_are_null_are_left_out_where_a_record_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": null, "b": 2}\n{"step": 2, "a": 3}\n[1]\n{"step": 3, "a"')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: 2 torn line\(s\) left out"):
        assert read_metrics(path) == [{"step": 1, "b": 2}, {"step": 2, "a": 3}]
