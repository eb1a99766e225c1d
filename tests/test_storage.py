"""Writing that survives crashes, full disks and Ctrl-C, and reading that notices damage."""

import errno
import os
import subprocess
import sys
import textwrap

import pytest

from textgym import storage
from textgym.errors import InputError, StorageError
from textgym.storage import (
    MANIFEST,
    atomic_directory,
    read_json,
    recover,
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
