"""Directories saved as a whole: crashes, full disks, Ctrl-C, other people's files, readers."""

import errno
import functools
import json
import os
import subprocess
import sys
import textwrap

import pytest

from textgym import directories
from textgym.directories import atomic_directory, holds, read_directory, recover
from textgym.errors import InputError, StorageError
from textgym.manifest import MANIFEST, listed_files, read_manifest, verify_directory


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
    inode = path.stat().st_ino
    write(path, "new")
    assert path.stat().st_ino != inode
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

        monkeypatch.setattr(os, step, call)
        try:
            write(path, "new")
        except (StorageError, KeyboardInterrupt) as raised:
            assert type(raised) is (StorageError if isinstance(error, OSError) else type(error))
            monkeypatch.setattr(os, step, real)
            verify_directory(path)
            expected = "new" if (path / "sub" / "a.txt").read_text() == "new" else "old"
            if step == "rename":
                assert expected == "old"
            assert names(tmp_path) == ["model"]
        else:
            assert len(calls) == failing  # all calls were tried
            break
        monkeypatch.setattr(os, step, real)
    else:
        assert step == "fsync"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "model", "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"model: cannot be written \(No space left") as caught:
        write(tmp_path / "model", "new")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 3
    monkeypatch.undo()
    assert_old_stands(tmp_path / "model")


def test_a_real_limit_on_file_size_stops_a_model_and_keeps_the_old_one(tmp_path):
    script = """
    import resource, sys
    from textgym.errors import StorageError
    from textgym.policies.language_model.causal_lm import CausalLM
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
    from textgym.directories import atomic_directory
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
    with pytest.raises(InputError, match=r"manifest\.json: missing, though textgym writes one"):
        verify_directory(path, must_have_manifest=True)
    verify_directory(path)  # another project's directory has none
    with pytest.raises(InputError, match="none: no such checkpoint directory"):
        verify_directory(tmp_path / "none")


@pytest.fixture
def shared(tmp_path):
    """A directory with a save of ours, notes, and somebody's folder."""
    path = tmp_path / "out"
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    (path / "run1" / "deep").mkdir(parents=True)
    (path / "run1" / "deep" / "x").write_text("1")
    write(path, "old")
    return path


def saved_text(path):
    """What a reader finds, through a whole directory only."""
    return read_directory(path, lambda place: (place / "sub" / "a.txt").read_text())


def assert_users_files_stand(path):
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "run1" / "deep" / "x").read_text() == "1"


def test_what_is_not_ours_stays_in_place(shared):
    inode = (shared / "run1").stat().st_ino
    assert saved_text(shared) == "old"
    with atomic_directory(shared) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "b.txt").write_text("new")
    assert names(shared / "sub") == ["b.txt"]  # the old file of ours is gone
    assert names(shared) == [MANIFEST, "notes.txt", "run1", "sub"]
    assert (shared / "run1").stat().st_ino == inode  # a run that is written there goes on
    assert_users_files_stand(shared)
    verify_directory(shared, must_have_manifest=True)
    (shared / "sub" / "mine.txt").touch()
    with atomic_directory(shared) as staging:
        (staging / "c.txt").touch()
    assert names(shared / "sub") == ["mine.txt"]


def test_files_of_the_user_are_never_replaced(tmp_path):
    path = tmp_path / "project"
    path.mkdir()
    (path / "config.json").write_text("another project's")
    for name in ("config.json", "config.json/x"):  # as a file, and where a folder is needed
        with (
            pytest.raises(InputError, match=r"project: holds a config\.json that textgym did not"),
            atomic_directory(path) as staging,
        ):
            (staging / "a.txt").touch()
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("ours")
        assert names(path) == ["config.json"]
    assert (path / "config.json").read_text() == "another project's"
    (path / "sub").symlink_to(tmp_path)
    with pytest.raises(InputError, match="holds a sub that textgym did not write"):
        write(path, "through the link")
    assert names(tmp_path) == ["project"]


def test_a_manifest_of_somebody_else_claims_nothing(tmp_path):
    path = tmp_path / "app"
    path.mkdir()
    (path / MANIFEST).write_text('{"name": "a web application"}')
    with pytest.raises(InputError, match=r"holds a manifest\.json that textgym did not write"):
        write(path, "x")
    (tmp_path / "outside.txt").touch()
    for name in ("../outside.txt", "/etc/hosts", "x/../../outside.txt", "a\0b", ""):
        (path / MANIFEST).write_text(json.dumps({"sha256": {name: "0" * 64}}))
        assert not listed_files(path)
        with pytest.raises(InputError, match=r"manifest\.json: damaged"):
            read_manifest(path)
    assert (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("name", ["trainer.json", "reward_model.json"])
def test_a_file_of_a_name_that_we_use_may_be_the_users(tmp_path, name):
    path = tmp_path / "project"
    path.mkdir()
    for text in ("mine", '{"mine": 1}'):
        (path / name).write_text(text)
        with (
            pytest.raises(InputError, match=f"project: holds a {name} that textgym did not write"),
            atomic_directory(path) as staging,
        ):
            (staging / name).write_text("ours")
        assert (path / name).read_text() == text and names(path) == [name]


def test_a_save_over_a_damaged_manifest_of_ours_succeeds(shared):
    (shared / MANIFEST).write_bytes((shared / MANIFEST).read_bytes()[:-20])
    write(shared, "new")
    assert saved_text(shared) == "new"
    assert_users_files_stand(shared)


def test_a_link_to_a_directory_stays_a_link(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "latest").symlink_to("big")
    (tmp_path / "dangling").symlink_to("later/model")
    for link, target in (("latest", "big"), ("dangling", "later/model")):
        for text in ("old", "new"):
            write(tmp_path / link, text)
            assert (tmp_path / link).is_symlink()
            assert (tmp_path / target / "sub" / "a.txt").read_text() == text
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is no directory"):
        write(tmp_path / "file", "x")
    with pytest.raises(InputError, match="no name of a directory"):
        write(tmp_path / "a\0b", "x")


def test_modes_are_the_users(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "fresh", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "fresh" / "sub" / "a.txt").stat().st_mode & 0o777 == 0o640
    (tmp_path / "secret").mkdir(mode=0o700)
    write(tmp_path / "secret", "x")
    write(tmp_path / "secret", "y")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o700


def test_the_current_folder_stays_the_current_folder(tmp_path, monkeypatch):
    write(tmp_path / "model", "old")
    monkeypatch.chdir(tmp_path / "model")
    write(".", "new")
    assert names(tmp_path / "model") == [MANIFEST, "sub"]
    assert os.listdir(".") and saved_text(tmp_path / "model") == "new"


def test_a_file_that_comes_while_ours_are_written_stays(tmp_path):
    write(tmp_path / "model", "old")
    with atomic_directory(tmp_path / "model") as staging:
        (staging / "a.txt").touch()
        (tmp_path / "model" / "late.txt").write_text("mine")
    assert names(tmp_path / "model") == ["a.txt", "late.txt", MANIFEST]
    assert names(tmp_path) == ["model"]


def test_the_old_directory_is_kept_where_that_is_asked(tmp_path):
    def save(text):
        with atomic_directory(tmp_path / "last", keep_old_as="previous") as staging:
            (staging / "a.txt").write_text(text)

    for text in "abc":
        save(text)
    assert (tmp_path / "last" / "a.txt").read_text() == "c"
    assert (tmp_path / "previous" / "a.txt").read_text() == "b"
    verify_directory(tmp_path / "previous", must_have_manifest=True)
    (tmp_path / "previous" / "notes.txt").touch()
    save("d")
    assert names(tmp_path / "previous") == ["a.txt", MANIFEST, "notes.txt"]
    assert names(tmp_path) == ["last", "previous"]


SYSTEM_CALLS = ("rename", "replace", "link", "fsync", "unlink", "mkdir", "rmdir", "chmod")


@pytest.mark.parametrize(
    "end, has_links", [("kill", True), ("kill", False), ("full", True), ("interrupt", True)]
)
def test_an_end_at_any_moment_leaves_a_whole_save_beside_users_files(
    shared, monkeypatch, end, has_links
):
    """The process ends before its n-th system call, for every n."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no power is cut here
    real = {name: getattr(os, name) for name in SYSTEM_CALLS}
    texts = set()
    for ending in range(200):
        write(shared, "old")
        count = 0

        def call(name, *arguments, ending=ending, **keywords):
            nonlocal count
            count += 1
            if count == ending + 1:
                if end == "kill":
                    os._exit(9)
                raise OSError(errno.ENOSPC, "No space left") if end == "full" else KeyboardInterrupt
            if name == "link" and not has_links:
                raise OSError(errno.EPERM, "Operation not permitted")
            return real[name](*arguments, **keywords)

        def save(call=call):
            with monkeypatch.context() as patch:
                for name in SYSTEM_CALLS:
                    patch.setattr(os, name, functools.partial(call, name))
                with atomic_directory(shared) as staging:
                    (staging / "more").mkdir()
                    (staging / "more" / "b.txt").write_text("new")
                    (staging / "sub").mkdir()
                    (staging / "sub" / "a.txt").write_text("new")

        if end == "kill":
            child = os.fork()
            if not child:
                save()
                os._exit(0)
            is_done = os.waitpid(child, 0)[1] == 0
        else:
            try:
                save()
            except (StorageError, KeyboardInterrupt):
                assert count > ending
            is_done = count <= ending
        before = sorted(shared.rglob("*"))
        text = saved_text(shared)
        texts.add(text)
        assert sorted(shared.rglob("*")) == before  # a reader writes nothing
        assert_users_files_stand(shared)
        if is_done:
            assert text == "new"
            break
    else:
        raise AssertionError("the save never came to its end")
    assert texts == {"old", "new"} and ending > 15
    write(shared, "newest")
    assert saved_text(shared) == "newest"
    assert names(shared) == [MANIFEST, "notes.txt", "run1", "sub"]


def test_a_reader_finds_a_directory_that_was_moved_aside_and_moves_nothing(tmp_path):
    path = tmp_path / "model"
    write(path, "old")
    aside = tmp_path / ".tmp-old-model-ab12_xyz"
    aside.mkdir()
    path.rename(aside / "model")
    assert holds(path, "sub/a.txt") and not holds(path, "b.txt")
    assert saved_text(path) == "old"
    assert names(tmp_path) == [aside.name]
    with pytest.raises(InputError, match="none: no such checkpoint directory"):
        saved_text(tmp_path / "none")


def test_a_reader_never_sees_two_saves_mixed(tmp_path, monkeypatch):
    """Another save comes between any two files that are read."""
    path = tmp_path / "model"

    def save(text):
        with atomic_directory(path) as staging:
            (staging / "a.txt").write_text(text)
            (staging / "b.txt").write_text(text)

    for is_shared in (False, True):
        save("0")
        if is_shared:
            (path / "notes.txt").touch()
        calls = []

        def read(place, calls=calls):
            first = (place / "a.txt").read_text()
            calls.append(first)
            if len(calls) < 4:
                save(str(len(calls)))
            return first, (place / "b.txt").read_text()

        assert read_directory(path, read) == ("3", "3")
        assert calls == ["0", "1", "2", "3"]


def test_readers_and_a_writer_in_two_processes(tmp_path):
    """One saves all the time while the other reads: every reading is whole."""
    script = """
    import os, sys
    from textgym.directories import atomic_directory
    os.fsync = lambda descriptor: None
    for step in range(1, 10**9):
        with atomic_directory(sys.argv[1]) as staging:
            for name in "abc":
                (staging / name).write_text(str(step))
    """
    for notes in (None, "notes.txt"):
        path = tmp_path / f"model-{notes}"
        with atomic_directory(path) as staging:
            for name in "abc":
                (staging / name).write_text("0")
        if notes:
            (path / notes).touch()
        arguments = [sys.executable, "-c", textwrap.dedent(script), str(path)]
        seen = []
        writer = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        try:
            while len(set(seen)) < 20 and writer.poll() is None:
                texts = read_directory(path, lambda p: {(p / n).read_text() for n in "abc"})
                assert len(texts) == 1
                seen.append(int(texts.pop()))
        finally:
            writer.kill()
        assert writer.communicate()[1] == ""  # reading disturbed no save
        assert seen == sorted(seen)


def test_a_new_directory_is_on_the_disk_before_the_old_one_goes(tmp_path, monkeypatch):
    write(tmp_path / "model", "old")
    events = []
    fsync, rmtree = os.fsync, directories.shutil.rmtree

    def synced(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def removed(path, **keywords):
        events.append(f"removed {os.fspath(path).rpartition('/')[2][:8]}")
        rmtree(path, **keywords)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(directories.shutil, "rmtree", removed)
    write(tmp_path / "model", "new")
    assert events.index("removed .tmp-old") > events.index(str(tmp_path))


def test_every_flip_in_a_manifest_is_blamed_on_it(tmp_path):
    path = tmp_path / "model"
    write(path, "text")
    manifest = path / MANIFEST
    content = manifest.read_bytes()
    for i in range(len(content)):
        manifest.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(InputError, match=r"manifest\.json: (damaged|not UTF-8)"):
            verify_directory(path)
    sums = json.loads(content)["sha256"]
    manifest.write_text(json.dumps({"sha256": sums}, indent=2) + "\n")
    verify_directory(path, must_have_manifest=True)  # as version 0.1 wrote it
