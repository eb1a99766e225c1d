"""Writing that survives crashes, full disks and Ctrl-C, and reading that notices damage."""

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

from textgym import storage
from textgym.agents.pictures import learning_curve, read_metrics
from textgym.errors import InputError, StorageError
from textgym.storage import (
    MANIFEST,
    atomic_directory,
    json_text,
    read_json,
    recover,
    require_regular_file,
    run_lock,
    verify_directory,
    write_json_atomically,
    write_text_atomically,
)


def write(path, text):
    with atomic_directory(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a.txt").write_text(text)


def names(directory):
    return sorted(entry.name for entry in directory.iterdir())


def assert_old_stands(path):
    """The old directory, whole, and nothing beside it."""
    assert (path / "sub" / "a.txt").read_text() == "old"
    verify_directory(path)
    assert names(path.parent) == [path.name]


def test_a_directory_is_written_and_replaced_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "model"
    write(path, "old")
    (path / "extra").touch()
    write(path, "new")
    assert (path / "sub" / "a.txt").read_text() == "new"
    assert names(path) == [MANIFEST, "sub"] and names(path.parent) == ["model"]
    verify_directory(path)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_exception_inside_leaves_the_old_directory(tmp_path, error):
    write(tmp_path / "model", "old")
    with pytest.raises(type(error)), atomic_directory(tmp_path / "model") as temporary:
        (temporary / "half.txt").write_text("half")
        raise error
    assert_old_stands(tmp_path / "model")


@pytest.mark.parametrize("step", ["rename", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failure_in_any_system_call_leaves_one_whole_directory(
    tmp_path, monkeypatch, step, error
):
    real = getattr(os, step)
    path = tmp_path / "model"
    for failing in range(6):
        write(path, "old")
        calls = []

        def call(*arguments, failing=failing, calls=calls):
            calls.append(arguments)
            if len(calls) == failing + 1:
                raise error
            return real(*arguments)

        monkeypatch.setattr(storage.os, step, call)
        try:
            write(path, "new")
        except (StorageError, KeyboardInterrupt) as raised:
            assert type(raised) is (StorageError if isinstance(error, OSError) else type(error))
            monkeypatch.setattr(storage.os, step, real)
            verify_directory(path)
            expected = "new" if (path / "sub" / "a.txt").read_text() == "new" else "old"
            if step == "rename":
                assert expected == "old"
            assert names(tmp_path) == ["model"]
        else:
            assert len(calls) == failing  # all calls were tried
            break
        monkeypatch.setattr(storage.os, step, real)
    else:
        assert step == "fsync"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "model", "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match=r"model: cannot be written \(No space left") as caught:
        write(tmp_path / "model", "new")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3
    monkeypatch.undo()
    assert_old_stands(tmp_path / "model")


def test_a_real_limit_on_file_size_stops_a_model_and_keeps_the_old_one(tmp_path):
    script = """
    import resource, sys
    from textgym.errors import StorageError
    from textgym.policies.causal_lm import CausalLM
    from textgym.tokenizer import Tokenizer
    lm = CausalLM.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    lm.save_pretrained(sys.argv[1])
    lm = CausalLM.new(Tokenizer.byte(), hidden_size=16, num_hidden_layers=1, seed=1)
    for limit in (12_000, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            lm.save_pretrained(sys.argv[1])
        except StorageError as error:
            print(error)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "lm")]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    first, second = out.splitlines()
    assert "File too large" in first and "File too large" in second
    verify_directory(tmp_path / "lm")
    assert names(tmp_path) == ["lm"]


def test_a_crash_between_the_two_renames_is_repaired(tmp_path):
    path = tmp_path / "model"
    write(path, "old")
    aside = tmp_path / ".tmp-old-model-ab12_xyz"
    aside.mkdir()
    path.rename(aside / "model")
    (tmp_path / ".tmp-model-0123abcd").mkdir()
    (tmp_path / ".tmp-model-2-0123abcd").mkdir()  # another's, of "model-2"
    recover(path)
    assert (path / "sub" / "a.txt").read_text() == "old"
    write(path, "new")
    assert (path / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path) == [".tmp-model-2-0123abcd", "model"]


def test_a_killed_process_leaves_the_old_directory(tmp_path):
    write(tmp_path / "model", "old")
    script = """
    import os, sys
    from textgym.storage import atomic_directory
    with atomic_directory(sys.argv[1]) as temporary:
        (temporary / "a.txt").write_text("half")
        os._exit(9)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "model")]
    assert subprocess.run(arguments).returncode == 9
    assert len(names(tmp_path)) == 2
    write(tmp_path / "model", "old")
    assert_old_stands(tmp_path / "model")


def test_every_flipped_byte_is_noticed_and_its_file_named(tmp_path):
    path = tmp_path / "model"
    write(path, "some text")
    file = path / "sub" / "a.txt"
    content = file.read_bytes()
    for i in range(len(content)):
        file.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(InputError, match=r"a\.txt: damaged \(SHA-256 differs\)"):
            verify_directory(path)
    file.unlink()
    with pytest.raises(InputError, match=r"a\.txt: missing from the checkpoint"):
        verify_directory(path)
    (path / MANIFEST).write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json: damaged"):
        verify_directory(path)
    (path / MANIFEST).unlink()
    verify_directory(path)  # another project's directory has none
    with pytest.raises(InputError, match="none: no such checkpoint directory"):
        verify_directory(tmp_path / "none")


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
    assert read_json(path) == [1] and names(path.parent) == ["a.json"]


def test_places_that_cannot_be_written_are_storage_errors(tmp_path):
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "x"
    with pytest.raises(StorageError, match="cannot be written"):
        write_text_atomically(inside, "")
    with pytest.raises(StorageError, match="cannot be written"):
        write(inside, "")
    with pytest.raises(StorageError, match="cannot be written"), run_lock(inside):
        raise AssertionError("never reached")


def test_a_json_file_that_cannot_be_read_names_itself(tmp_path):
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
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
        with pytest.raises(InputError, match=f"expected a regular file, found {found}"):
            read_json(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        require_regular_file(tmp_path / "a\0b")


def test_every_record_goes_through_the_one_writer():
    """`json.dumps` writes NaN, which is no JSON; the schema compiler forbids it itself."""
    root = Path(storage.__file__).parent
    writers = {p.name for p in root.rglob("*.py") if re.search(r"json\.dumps?\(", p.read_text())}
    assert writers == {"storage.py", "json_patterns.py"}


def test_figures_that_are_null_are_left_out_where_a_record_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": null, "b": 2}\n{"step": 2, "a": 3}\n[1]\n{"step": 3, "a"')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: 2 torn line\(s\) left out"):
        assert read_metrics(path) == [{"step": 1, "b": 2}, {"step": 2, "a": 3}]
    learning_curve([{"step": 1, "reward/environment": 1.0, "j": 2.0}], judge="j")
