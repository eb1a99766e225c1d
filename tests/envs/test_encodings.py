"""Charsets: named, found out, and mixed."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.envs.texts.encodings import DecodedLines
from textgym.errors import InputError

CHINESE = "我来到北京清华大学，他是云计算方面的专家。\n今天天气很好，我们去公园散步吧。\n"
TRADITIONAL = "我來到北京清華大學，今天天氣很好，我們去公園散步吧。\n"


def decoded(tmp_path, content, encoding="auto", name="a.txt"):
    file = tmp_path / name
    file.write_bytes(content)
    lines = DecodedLines(file, encoding)
    text = "".join(line for _, line in lines)
    return text, lines.encoding


@pytest.mark.parametrize(
    ("text", "charset", "found"),
    [
        (CHINESE, "utf-8", "utf-8"),
        ("plain\nlines\n", "ascii", "utf-8"),
        (f"ascii first\n{CHINESE}", "gb18030", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "utf-32", "utf-32"),
        (CHINESE, "utf-8-sig", "utf-8"),
        ("Это русский текст. Сегодня хорошая погода.\n" * 3, "cp1251", "cp1251"),
    ],
)
def test_a_charset_is_found_out(tmp_path, text, charset, found):
    assert decoded(tmp_path, text.encode(charset)) == (text, found)


def test_a_charset_that_is_named_is_taken(tmp_path):
    assert decoded(tmp_path, CHINESE.encode("gbk"), "gbk") == (CHINESE, "gbk")
    assert decoded(tmp_path, "naïve\n".encode("latin-1"), "latin-1")[0] == "naïve\n"
    wide = "a\u0a0a\u2028b\n".encode("utf-16-le")  # bytes of line ends that are none
    assert decoded(tmp_path, wide, "utf-16-le") == ("a\u0a0a\u2028b\n", "utf-16-le")


def test_a_gzip_file_is_unpacked_first(tmp_path):
    data = gzip.compress(CHINESE.encode("gb18030"))
    assert decoded(tmp_path, data, name="a.txt.gz") == (CHINESE, "gb18030")


def test_mixed_charsets_are_told_with_both_lines(tmp_path):
    data = "ascii\ncafé\n".encode() + CHINESE.encode("gb18030")
    with pytest.raises(InputError, match=r"mixed encodings: line 2 is UTF-8, line 3 is not \(gb18"):
        decoded(tmp_path, data)
    data = CHINESE.encode("gb18030") + "今天天气很好\n".encode()
    with pytest.raises(InputError, match=r"mixed encodings: line 3 is UTF-8, line 1 is not"):
        decoded(tmp_path, data)


def test_mixed_charsets_are_read_line_by_line_where_they_are_named(tmp_path):
    data = "café\n".encode() + CHINESE.encode("gb18030")
    expected = ("café\n" + CHINESE, "utf-8+gb18030")
    assert decoded(tmp_path, data, "utf-8+gb18030") == expected


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"a text\nwith \0 in it\n", "auto", "line 2: holds a NUL byte, so it is no text file"),
        (b"caf\xe9\n", "utf-8", "line 1: not utf-8: give --encoding auto"),
        (b"\xff\n", "utf-8+ascii", "line 1: not utf-8 or ascii"),
        (b"\xff\xfe\x00", "auto", "after line 0: not utf-16"),
        (b"a", "klingon", "encoding must be 'auto' or a charset .* got 'klingon'"),
        (b"a", "base64", "encoding must be 'auto' or a charset"),
        (b"a", "utf-8+", "encoding must be 'auto' or a charset"),
        (b"a" * 2**24 + b"b", "auto", "line 1: longer than 16,777,216 bytes"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, encoding, message):
    with pytest.raises(InputError, match=message):
        decoded(tmp_path, content, encoding)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    try:
        text, encoding = decoded(folder, content)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert content.removeprefix(b"\xef\xbb\xbf").decode(encoding) == text
