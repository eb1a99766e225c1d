"""What is missing is named with the extra that brings it."""

import sys

import pytest

from textgym.errors import InputError
from textgym.extras import import_extra


def test_a_library_that_is_there_is_imported():
    assert import_extra("json.decoder", extra="metrics", what="this").JSONDecoder is not None


def test_a_missing_library_is_one_line_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)  # as Python marks what must not be imported
    expected = (
        r"^the word_error_rate reward needs jiwer, which is not installed: "
        r"pip install 'textgym\[metrics\]'$"
    )
    with pytest.raises(InputError, match=expected):
        import_extra("jiwer", extra="metrics", what="the word_error_rate reward")


def test_what_a_library_misses_itself_is_not_blamed_on_it(tmp_path, monkeypatch):
    (tmp_path / "half_a_library.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        import_extra("half_a_library", extra="metrics", what="this")
