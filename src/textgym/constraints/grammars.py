"""Context-free grammars in Lark's notation, read by llguidance (extra `grammar`).

Terminals (capital letters, texts, regular expressions) are read greedily, as Lark's lexer reads
them; rules (small letters) may be ambiguous and recursive. `%ignore` and `%import common.…` work.
"""

import re
from typing import Any

from textgym.errors import InputError
from textgym.extras import import_extra

EXTRA, WHAT = "grammar", "a grammar as a constraint"
_PLACE = re.compile(r"^(?:at )?(\d+)\((\d+)\): ")


def check_grammar(text: str) -> None:
    """Raises unless llguidance can read a grammar.

    :raises InputError: naming line and column where it can be told, or the extra that is missing.
    """
    if not isinstance(text, str):
        raise InputError(f"a grammar is a text in Lark's notation, got {type(text).__name__}")
    library = import_extra("llguidance", extra=EXTRA, what=WHAT)
    said = library.LLMatcher.validate_grammar(library.LLMatcher.grammar_from_lark(text))
    if said and not said.startswith("WARNING"):
        raise _unreadable(text, said)


def new_matcher(text: str, pieces: list[bytes], stop: int) -> Any:
    """llguidance's parser of a grammar at its start, over a vocabulary.

    :param pieces: `[v]`, the bytes of each token; empty for those that write nothing.
    :param stop: a token that ends a text.
    :raises InputError: as `check_grammar`.
    """
    library = import_extra("llguidance", extra=EXTRA, what=WHAT)
    wrapper = library.TokenizerWrapper(_Vocabulary(pieces, stop))
    tokenizer = library.LLTokenizer(wrapper, n_vocab=len(pieces), slices=[])
    grammar = library.LLMatcher.grammar_from_lark(text)
    matcher = library.LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        raise _unreadable(text, matcher.get_error())
    return matcher


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, pieces: list[bytes], stop: int) -> None:
        self.eos_token_id, self.bos_token_id = stop, None
        self.tokens = pieces
        self.special_token_ids = [i for i, piece in enumerate(pieces) if not piece]

    def __call__(self, text: str | bytes) -> list[int]:
        """The ids of a text: nobody but llguidance's own shortcuts asks, which are off."""
        single = {piece: i for i, piece in enumerate(self.tokens) if len(piece) == 1}
        data = text.encode("utf-8") if isinstance(text, str) else text
        return [single[data[i : i + 1]] for i in range(len(data)) if data[i : i + 1] in single]


def _unreadable(text: str, said: str) -> InputError:
    """The error of a grammar, from llguidance's own words of several lines."""
    reason = said.strip().split("\n")[0]
    place = _PLACE.match(reason)
    if place is None:
        return InputError(f"the grammar {text!r:.60} cannot be read: {reason:.160}")
    row, column = int(place[1]), int(place[2])
    lines = text.splitlines()
    shown = lines[row - 1].strip() if 0 < row <= len(lines) else ""
    return InputError(
        f"the grammar cannot be read at line {row}, column {column} ({shown!r:.60}): "
        f"{reason[place.end() :]:.160}"
    )
