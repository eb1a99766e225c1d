"""Reading corpora: formats, errors with file and line, laziness, splits, shuffling, judgements."""

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from textgym.envs.texts.corpus import is_heldout, read_texts, shuffled, split_heldout
from textgym.envs.texts.csv_rows import CSVError, csv_rows
from textgym.envs.texts.labelled_rows import (
    Pair,
    Preference,
    RatedCompletion,
    read_pairs,
    read_ratings,
)
from textgym.envs.texts.records import read_records
from textgym.errors import InputError

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# No line ends: a .txt or .jsonl file has one text a line.
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1),
    min_size=1,
)


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_csv(columns: list[str], rows: list[list[str]]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([columns, *rows])
    return stream.getvalue()


# ---- texts -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one\n\n  \r\ntwo, \u8a69\r\nthree"),
        ("a.jsonl", '{"text": "one"}\n\n{"text": ""}\n{"text": "two, \\u8a69"}\n{"text": "three"}'),
        ("a.csv", 'n,text\n1,one\n2,"two, \u8a69"\n\n3,three\n4,\n'),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_each_format_gives_its_texts(
    tmp_path: Path, name: str, content: str, suffix: str, mark: str
) -> None:
    path = write(tmp_path / (name + suffix), mark + content)
    assert list(read_texts(path)) == ["one", "two, \u8a69", "three"]


def test_files_follow_one_another_and_can_be_read_again(tmp_path: Path) -> None:
    first = write(tmp_path / "a.txt", "one\ntwo\n")
    second = write(tmp_path / "b.jsonl", '{"body": "three"}\n')
    texts = read_texts([first, str(second)], column="body")
    assert list(texts) == list(texts) == ["one", "two", "three"]


def test_paragraphs_end_at_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n\none\ntwo\n \n\nthree\n")
    assert list(read_texts(path, paragraphs=True)) == ["one\ntwo", "three"]


def test_a_quoted_csv_field_may_hold_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text\r\n"one\r\ntwo ""x"""\r\nthree\r\n')
    assert list(read_texts(path)) == ['one\r\ntwo "x"', "three"]


def test_a_csv_field_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "x, " * 200_000
    path = write(tmp_path / "a.csv", f'text,n\n"{long}",1\n{"y" * 500_000},2\n')
    assert list(read_texts(path)) == [long, "y" * 500_000]
    assert csv.field_size_limit() == limit == 131_072
    many = "\n".join(["z" * 2**20] * 17)
    with pytest.raises(
        InputError, match=r"b\.csv, line 2: not CSV \(a quoted field of over 16,777,"
    ):
        list(read_texts(write(tmp_path / "b.csv", f'text\n"{many}"\n')))


FIELDS = st.text(st.characters(exclude_categories=["Cs"]))


@in_one_folder
@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1), st.sampled_from(["\n", "\r\n"]))
@example([("a\r\nb\rc\nd", '"'), ("\u2028\x85\x0b", "\r")], "\r\n")
def test_every_character_of_a_csv_field_comes_back(
    tmp_path: Path, rows: list[tuple[str, str]], end: str
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    path = write(tmp_path / "a.csv", stream.getvalue())
    assert [tuple(record.values.values()) for record in read_records(path)] == rows


@in_one_folder
@given(st.text(st.sampled_from('a,"\r\n ')).filter(lambda text: text.strip("\r\n")))
@example('a"b,"c""d",\r\n\r\n"e\rf"\r\r\n')
@example("a\rb")
@example('"a" ,b')
def test_csv_is_what_pythons_strict_reader_takes(tmp_path: Path, text: str) -> None:
    text = f"x\n{text}"
    lines = io.StringIO(text, newline="\n")
    try:
        expected: object = [row for row in csv.reader(lines, strict=True) if row]
    except csv.Error:
        expected = None
    numbered = enumerate(io.StringIO(text, newline="\n"), start=1)
    try:
        rows: object = [row.fields for row in csv_rows(numbered, 1000)]
    except CSVError:
        rows = None
    assert rows == expected


def test_csv_errors_name_the_line_where_the_fault_began(tmp_path: Path) -> None:
    for content, line, what in [
        ('text\na\n"open\nb\n', 3, "a quoted field is never closed"),
        ('text\n"a\nb"c\n', 3, "text after closing quotes"),
        ("text\na\nb\rc\n", 3, "a line end without quotes"),
    ]:
        with pytest.raises(InputError, match=rf"a\.csv, line {line}: not CSV \({what}"):
            list(read_texts(write(tmp_path / "a.csv", content)))


@in_one_folder
@given(LINES, st.sampled_from([".txt", ".jsonl", ".csv", ".txt.gz", ".jsonl.gz", ".csv.gz"]))
@example(["\x1c", "a\x85b", "\u2028"], ".txt")
def test_written_texts_come_back(tmp_path: Path, texts: list[str], suffix: str) -> None:
    kind = suffix.removesuffix(".gz")
    texts = [text.lstrip("\ufeff") or "x" for text in texts]
    if kind == ".txt":
        content = "\n".join(texts)
    elif kind == ".jsonl":
        content = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    else:
        content = as_csv(["text"], [[text] for text in texts])
    path = write(tmp_path / f"a{suffix}", content)
    expected = [text for text in texts if text.strip()]
    if expected:
        assert list(read_texts(path)) == expected
    else:
        with pytest.raises(InputError, match="expected at least one text, found none"):
            list(read_texts(path))


@in_one_folder
@given(
    st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([".txt", ".jsonl", ".csv", ".txt.gz", ".jsonl.gz", ".csv.gz"]),
    st.booleans(),
    st.sampled_from([read_texts, read_pairs, read_ratings]),
)
@example(b'{"text": "\\ud800"}', ".jsonl", False, read_texts)
@example(b"[" * 100_000, ".jsonl", False, read_texts)
@example(b'{"text": ' + b"9" * 5000 + b"}", ".jsonl", False, read_texts)
@example(b'text\n"open', ".csv", False, read_texts)
@example(b"text\n" + b"a" * 200_000, ".csv", False, read_texts)
@example(b"text\na\rb", ".csv", False, read_texts)
@example(b'{"text": "a", "ratings": [NaN]}', ".jsonl", False, read_ratings)
@example(b'{"text": "a", "ratings": [' + b"9" * 400 + b"]}", ".jsonl", False, read_ratings)
def test_any_bytes_give_texts_or_one_clear_line(
    tmp_path: Path,
    data: bytes,
    suffix: str,
    is_damaged: bool,
    read: Callable[[Path], Iterator[object]],
) -> None:
    path = write(tmp_path / f"b{suffix}", data)
    if is_damaged:  # for .gz: a file cut short
        path.write_bytes(path.read_bytes()[:-5])
    try:
        for item in read(path):
            assert isinstance(item, str | Pair | RatedCompletion | Preference)
    except InputError as error:
        assert str(path) in str(error)
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            b"fine\ncaf\xe9\n",
            r"a\.txt, line 2: expected UTF-8, found byte 0xe9.* 3;",
        ),
        ("a.txt", "\n \n", r"a\.txt: expected at least one text, found none"),
        ("a.txt.gz", b"", r"a\.txt\.gz: expected at least one text, found none"),
        ("a.txt", b"a" * (2**24 + 1), r"a\.txt, line 1: longer than 16,777,216 bytes"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", '"a"\n', r"a\.jsonl, line 1: expected a JSON object, found str"),
        ("a.jsonl", '{"txt": "a"}', r"line 1: expected the column 'text', found 'txt'"),
        ("a.jsonl", '{"text": 3}', r"line 1: expected a text in column 'text', found int"),
        ("a.jsonl", '{"text": "a\\udc00"}', r"line 1: column 'text' holds half a surrogate pair"),
        ("a.csv", "text,n\none,1\ntwo\n", r"a\.csv, line 3: expected 2 columns.*found 1"),
        ("a.csv", "text,text\n", r"a\.csv, line 1: expected a header of different names"),
        ("a.csv", 'text\n"a\nb" c\n', r"a\.csv, line 3: not CSV"),
        ("a.csv", "text\n", r"a\.csv: expected at least one text, found none"),
    ],
)
def test_bad_content_is_named_with_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        list(read_texts(path))


def test_a_gzip_file_that_is_none_or_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"a\.txt\.gz, after line 0: damaged gzip data"):
        list(read_texts(path))
    path.write_bytes(gzip.compress(b"one\n" * 9)[:-8])
    with pytest.raises(InputError, match=r"a\.txt\.gz, after line 9: damaged gzip data"):
        list(read_texts(path))


def test_bad_paths_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt: expected a text file, there is none"):
        read_texts(tmp_path / "a.txt")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(InputError, match=r"b\.txt: .*found a directory"):
        read_texts(tmp_path / "b.txt")
    with pytest.raises(InputError, match=r"c\.pdf: expected a file ending in \.txt, \.jsonl"):
        read_texts(write(tmp_path / "c.pdf", "x"))
    with pytest.raises(InputError, match="got an empty list"):
        read_texts([])


def test_a_large_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(50):
            stream.write((b"some words " * 400 + b"\n") * 240)  # 50 MB in all
    tracemalloc.start()
    try:
        count = sum(1 for _ in shuffled(read_texts(path), np.random.default_rng(0), 100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 12_000
    assert peak < 4_000_000


# ---- splits and order ---------------------------------------------------------


def test_in_a_long_corpus_the_side_depends_on_letters_digits_and_seed_only() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefghijklmnop "), 30)) + "." for _ in range(4000)]
    kept, held = map(list, split_heldout(texts, 0.1, seed=3, in_memory=3999))
    assert sorted(kept + held) == sorted(texts)
    assert 330 <= len(held) <= 470  # 400 expected, standard deviation 19
    assert list(split_heldout(texts[::-1], 0.1, seed=3, in_memory=0)[1]) == held[::-1]
    assert all(is_heldout(text.upper().replace(" ", "-"), 0.1, 3) for text in held)
    assert set(split_heldout(texts, 0.1, seed=4, in_memory=0)[1]) != set(held)


def test_in_a_long_corpus_near_copies_of_held_out_texts_are_not_learned_from() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefghijklmnop "), 50)) for _ in range(60)]
    edited = [f"{text[:20]}xyz{text[21:]}" for text in texts]
    lines: list[str] = []
    parts = split_heldout(texts + edited, 0.2, 1, in_memory=0, report=lines.append)
    kept, held = map(list, parts)
    twins = {**dict(zip(texts, edited, strict=True)), **dict(zip(edited, texts, strict=True))}
    left_out = {twins[text] for text in held} - set(held)
    assert left_out and set(kept) == set(twins) - set(held) - left_out
    assert lines == [f"note: {len(left_out)} texts are near-copies of held-out ones: left out"]
    assert list(parts[0]) == kept and len(lines) == 1


def test_a_short_corpus_is_divided_exactly_with_near_copies_on_one_side() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefghijklmnop "), 50)) for _ in range(70)]
    texts += [f"{text[:20]}?!{text[21:]}".upper() for text in texts[:30]]
    for seed in range(5):
        kept, held = map(list, split_heldout(texts, 0.05, seed))
        assert (len(kept), len(held)) == (95, 5)
        assert sorted(kept + held) == sorted(texts)
        for k in range(30):
            assert (texts[k] in held) == (texts[70 + k] in held)
    assert [len(list(part)) for part in split_heldout(texts[:3], 0.05, 0)] == [2, 1]
    assert [len(list(part)) for part in split_heldout(["same", "Same!"], 0.5, 0)] == [2, 0]


def test_no_and_whole_fractions(tmp_path: Path) -> None:
    texts = ["a", "b", "..."]
    assert [list(part) for part in split_heldout(texts, 0.0, 0)] == [texts, []]
    assert [list(part) for part in split_heldout(texts, 1.0, 0)] == [[], texts]


def test_split_refuses_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="expected texts to read twice"):
        split_heldout(iter(["a"]), 0.1, 0)
    with pytest.raises(InputError, match=r"fraction from 0 to 1, got 1\.5"):
        split_heldout(["a"], 1.5, 0)


@given(st.lists(st.integers()), st.integers(1, 12), st.integers(0, 9))
def test_shuffling_loses_nothing_and_is_owned(items: list[int], size: int, seed: int) -> None:
    once = list(shuffled(items, np.random.default_rng(seed), size))
    assert sorted(once) == sorted(items)
    assert once == list(shuffled(items, np.random.default_rng(seed), size))


def test_shuffling_reads_a_buffer_ahead_and_no_more() -> None:
    taken: list[int] = []
    order = shuffled((taken.append(i) or i for i in range(1000)), np.random.default_rng(0), 10)  # type: ignore[func-returns-value]
    first = next(order)
    assert first < 10
    assert len(taken) == 11
    assert list(shuffled(range(100), np.random.default_rng(0), 100)) != list(range(100))
    with pytest.raises(InputError, match="buffer_size of at least 1, got 0"):
        shuffled([], np.random.default_rng(0), 0)


# ---- pairs and judgements -----------------------------------------------------


def test_pairs_of_both_formats(tmp_path: Path) -> None:
    expected = [Pair("Q: 1+1", " 2"), Pair("Hello, you", "yes")]
    rows = [[pair.prompt, pair.completion] for pair in expected]
    table = write(tmp_path / "a.csv", as_csv(["prompt", "completion"], rows))
    lines = write(
        tmp_path / "a.jsonl.gz",
        "\n".join(json.dumps({"q": p, "a": c, "other": None}) for p, c in rows),
    )
    assert list(read_pairs(table)) == expected
    assert list(read_pairs(lines, prompt_column="q", completion_column="a")) == expected


def test_bad_pairs_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "prompt,completion\na,b\n ,c\n")
    with pytest.raises(InputError, match=r"a\.csv, line 3: expected a text in 'prompt'"):
        list(read_pairs(path))
    with pytest.raises(InputError, match=r"b\.txt: expected pairs as \.jsonl or \.csv"):
        list(read_pairs(write(tmp_path / "b.txt", "a")))
    with pytest.raises(InputError, match=r"c\.jsonl: expected pairs, found no row"):
        list(read_pairs(write(tmp_path / "c.jsonl", "")))


def test_ratings_of_both_formats(tmp_path: Path) -> None:
    lines = write(
        tmp_path / "a.jsonl",
        '{"text": "good", "ratings": [3, 2.5], "block": 7}\n'
        '{"text": "bad", "ratings": [-1], "prompt": "So:", "block": "x"}\n'
        '{"text": "so so", "ratings": [0, 0]}',
    )
    expected = [
        RatedCompletion("good", (3.0, 2.5), "", 7),
        RatedCompletion("bad", (-1.0,), "So:", "x"),
        RatedCompletion("so so", (0.0, 0.0), "", None),
    ]
    assert list(read_ratings(lines)) == expected
    table = write(tmp_path / "a.csv", 'text,ratings,block\ngood,"[3, 2.5]",\n')
    assert list(read_ratings(table)) == [RatedCompletion("good", (3.0, 2.5))]


def test_preferences_of_both_formats(tmp_path: Path) -> None:
    lines = write(
        tmp_path / "a.jsonl",
        '{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
        '{"prompt": "p", "chosen": "a", "rejected": "a", "tie": true}',
    )
    assert list(read_ratings(lines)) == [
        Preference("p", "a", "b"),
        Preference("p", "a", "a", is_tie=True),
    ]
    table = write(tmp_path / "a.csv", "prompt,chosen,rejected,tie\np,a,b,False\np,a,b,1\np,a,b,\n")
    assert [row.is_tie for row in read_ratings(table) if isinstance(row, Preference)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "a", "ratings": []}', "expected finite numbers in 'ratings'"),
        ('{"text": "a", "ratings": [1, true]}', "expected finite numbers in 'ratings'"),
        ('{"text": "a", "ratings": [1, Infinity]}', "expected finite numbers in 'ratings'"),
        ('{"text": "a", "ratings": "1 2"}', "expected finite numbers in 'ratings'"),
        ('{"text": " ", "ratings": [1]}', "expected a text in 'text', found none"),
        ('{"text": "a", "ratings": [1], "block": 1.5}', "a number or a name in 'block', found"),
        ('{"text": "a"}', "expected the column 'prompt', found 'text'"),
        ('{"prompt": "p", "chosen": "a", "rejected": "a"}', "are the same text: drop the pair"),
        (
            '{"prompt": "p", "chosen": "a", "rejected": "b", "tie": "maybe"}',
            "expected true or false in 'tie', found 'maybe'",
        ),
    ],
)
def test_bad_judgements_are_named(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path / "a.jsonl", f"\n{row}\n")
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2: .*{message}"):
        list(read_ratings(path))


def test_kinds_of_judgement_do_not_mix(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        '{"text": "a", "ratings": [1]}\n{"prompt": "p", "chosen": "a", "rejected": "b"}\n',
    )
    with pytest.raises(InputError, match=r"line 2: expected finite numbers in 'ratings'"):
        list(read_ratings(path))
