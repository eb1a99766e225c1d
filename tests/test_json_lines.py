"""Records of one JSON object a line: a torn line costs itself and nothing else."""

import json

import pytest

from textgym.errors import InputError, StorageError
from textgym.json_lines import append_line, last_row, read_rows


@pytest.mark.parametrize(
    "before, kept",
    [
        (b"", []),
        (b'{"step": 1}\n', [1]),
        (b'{"step": 1}\n{"step": 2, "a": 0.', [1]),
        (b'{"step": 1}\n{"step": 2}', [1, 2]),  # whole, but for its end
        (b'{"st', []),
        (b'{"step": 1}\n12', [1]),
        (b'{"step": 1}\n{"a": "\xc3', [1]),  # in the middle of a character
    ],
)
def test_a_torn_last_line_does_not_swallow_the_next(tmp_path, before, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(before)
    append_line(path, '{"step": 7, "text": "é"}')
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == [*kept, 7]
    assert read_rows(path) == rows and last_row(path) == rows[-1]


def test_a_torn_line_that_is_longer_than_a_block_goes_as_a_whole(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b'{"step": 1}\n{"text": "' + b"x" * 200_000)
    append_line(path, '{"step": 2}')
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_torn_lines_are_counted_where_they_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2{"step": 3}\n\n[4]\n{"step": 5}\n{"st')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: 3 torn line\(s\) left out"):
        assert read_rows(path) == [{"step": 1}, {"step": 5}]
    assert last_row(path) == {"step": 5} and last_row(tmp_path / "none") is None
    with pytest.raises(InputError, match="none: no such record of a run"):
        read_rows(tmp_path / "none")
    with pytest.raises(StorageError, match="cannot be written"):
        append_line(tmp_path, "{}")
