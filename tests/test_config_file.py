"""`--config FILE.yaml`: what is read, and how each mistake is named."""

import os

import pytest
from bad_flags import watchdog
from hypothesis import given
from hypothesis import strategies as st

from textgym.command_line.config_file import read_config_file
from textgym.command_line.options import Flag, from_file
from textgym.errors import InputError, UnknownNameError

# A list of ten lists of ten lists … : ten lines, ten billion values.
LAUGHS = "env: &a0 [1]\n" + "".join(
    f"x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11)
)
KNOWN = ("kl_coef", "n_envs", "out", "env")


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_keys_may_be_written_either_way(tmp_path):
    path = write(tmp_path, "verb: train\nkl-coef: 1e-2\nn_envs: 4\nout: null\n")
    assert read_config_file(path, verb="train", known=KNOWN) == {"kl_coef": "1e-2", "n_envs": 4}
    assert read_config_file(write(tmp_path, ""), verb="train", known=KNOWN) == {}


@pytest.mark.parametrize(
    "text, message",
    [
        ("kl_coeff: 1", r"unknown key in .*run.yaml: 'kl_coeff': did you mean 'kl_coef'\?"),
        ("kl-coef: 1\nkl_coef: 2", "'kl_coef' stands there twice"),
        ("verb: sft", "holds the settings of 'sft', not of 'train'"),
        ("- 1\n- 2", "expected settings like 'learning-rate: 0.001', got list"),
        ("just words", "got str"),
        ("a: 1\nb: [1", "run.yaml, line 2: not valid YAML"),
        ("a: 1\n\tb: 2", "run.yaml, line 2: not valid YAML"),
        ("a: !!python/object:os.system {}", "run.yaml, line 1: not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ("env: &a [*a]", "run.yaml: holds a value that contains itself"),
        ("env: &a {x: *a}", "run.yaml: holds a value that contains itself"),
        (LAUGHS, "run.yaml: holds a value that contains itself, or far too many"),
        ("[" * 5000, "not valid YAML"),
        ("a: \x01", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_config_file(write(tmp_path, text), verb="train", known=KNOWN)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none.yaml: cannot be read \(No such file"):
        read_config_file(tmp_path / "none.yaml", verb="train", known=KNOWN)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        settings = read_config_file(path, verb="train", known=KNOWN)
    except UnknownNameError:
        return
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert set(settings) <= set(KNOWN)


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("number", "1e-4", 1e-4),
        ("number", 3, 3.0),
        ("integer", 200_000, 200_000),
        ("integer", "1e5", 100_000),
        ("switch", True, True),
        ("text", 12, "12"),
        ("texts", ["a", "b"], ["a", "b"]),
        ("texts", "a", "a"),
        ("table", {"max-new-tokens": 3}, {"max_new_tokens": 3}),
    ],
)
def test_values_are_taken_as_their_flag_takes_them(kind, value, expected):
    taken = from_file(Flag("x", kind, ""), value, "run.yaml")
    assert taken == expected and type(taken) is type(expected)


@pytest.mark.parametrize(
    "kind, value, message",
    [
        ("number", "fast", "x must be a number, got 'fast'"),
        ("number", True, "x must be a number, got True"),
        ("integer", 1.5, "x must be a whole number, got 1.5"),
        ("switch", "yes", "x must be true or false, got 'yes'"),
        ("text", ["a"], "x must be a text"),
        ("texts", [], "x must be a text or a list of texts"),
        ("table", "a=1", "x must be a table of settings"),
    ],
)
def test_values_of_another_kind_are_refused(kind, value, message):
    with pytest.raises(InputError, match=f"^run.yaml: {message}"):
        from_file(Flag("x", kind, ""), value, "run.yaml")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    for name, what in (("fifo.yaml", "a FIFO"), (".", "a directory"), ("/dev/zero", "a device")):
        wanted = f"expected a regular file, found {what}"
        with pytest.raises(InputError, match=wanted), watchdog(20):
            read_config_file(tmp_path / name, verb="train", known=KNOWN)
