"""What a tokenizer does only at the start or the end of a text, read from its own description.

SentencePiece puts a space in front of a text and drops it again, WordPiece joins words by spaces,
templates add special tokens. A continuation is no text of its own, so none of that may happen
where it begins, nor a stop token where a prompt ends.
"""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer as Backend

from textgym.errors import InputError
from textgym.storage import json_text

# They cut at spaces and drop them: what comes after them marks each word, not the text's start.
_WORD_SPLITTERS = ("WhitespaceSplit", "Whitespace", "BertPreTokenizer")


def describe(component: Any) -> Any:
    """The JSON description of a normalizer, pre-tokenizer, post-processor or decoder, or None."""
    return None if component is None else json.loads(component.__getstate__())


def start_ids(post_processor: Any) -> list[int]:
    """The ids that a post-processor puts in front of a text; those behind it are left out.

    :param post_processor: its description.
    """
    kind = post_processor["type"] if post_processor else None
    ids: list[int] = []
    if kind == "Sequence":  # a later one wraps what the earlier ones made
        for part in post_processor["processors"]:
            ids = start_ids(part) + ids
    elif kind in ("BertProcessing", "RobertaProcessing"):
        ids = [int(post_processor["cls"][1])]
    elif kind == "TemplateProcessing":
        for piece in post_processor["single"]:
            if "SpecialToken" not in piece:
                break
            name = piece["SpecialToken"]["id"]
            ids += map(int, post_processor["special_tokens"][name]["ids"])
    return ids


def end_ids(post_processor: Any) -> list[int]:
    """The ids that a post-processor puts behind a text.

    :param post_processor: its description.
    """
    kind = post_processor["type"] if post_processor else None
    ids: list[int] = []
    if kind == "Sequence":  # a later one wraps what the earlier ones made
        for part in post_processor["processors"]:
            ids += end_ids(part)
    elif kind in ("BertProcessing", "RobertaProcessing"):
        ids = [int(post_processor["sep"][1])]
    elif kind == "TemplateProcessing":
        for piece in reversed(post_processor["single"]):
            if "Sequence" in piece:  # the text itself
                break
            name = piece["SpecialToken"]["id"]
            ids = [*map(int, post_processor["special_tokens"][name]["ids"]), *ids]
    return ids


def unknown_ids(backend: Backend) -> list[int]:
    """What a tokenizer writes for a character that it does not know."""
    try:
        return list(backend.encode("\U0010ffff", add_special_tokens=False).ids)
    except Exception:  # a model that knows no word for the unknown
        return []


def cut_names(text: str, names: Iterable[str]) -> list[str]:
    """A text in parts of which none holds one of the names: each is cut after its first letter."""
    found = (re.finditer(f"(?={re.escape(name)})", text) for name in names if name in text)
    cuts = sorted({match.start() + 1 for matches in found for match in matches})
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


def is_context_free(decoder: Any) -> bool:
    """Whether each token says the same wherever it stands, so that texts are laid end to end.

    :param decoder: its description.
    """
    kind = decoder["type"] if decoder else None
    if kind == "Sequence":
        kinds = [part["type"] for part in decoder["decoders"]]
        is_joined = kinds.index("Fuse") if "Fuse" in kinds else len(kinds)
        return "Replace" not in kinds[is_joined:] and all(map(is_context_free, decoder["decoders"]))
    if kind == "Replace":
        return "String" in decoder["pattern"]
    if kind == "Metaspace":
        return bool(decoder["prepend_scheme"] == "never")
    return kind in ("ByteLevel", "ByteFallback", "Fuse")


def continuation_backend(backend: Backend) -> Backend:
    """A tokenizer like the given one that adds nothing to a text's start; itself if it adds none.

    Where each word gets its mark, as in WordPiece, nothing can be left out.
    """
    normalizer, pre_tokenizer = describe(backend.normalizer), describe(backend.pre_tokenizer)
    changed = _plain_normalizer(normalizer), _plain_pre_tokenizer(pre_tokenizer)
    if changed == (normalizer, pre_tokenizer):
        return backend
    whole = json.loads(backend.to_str())
    whole["normalizer"], whole["pre_tokenizer"] = changed
    plain = Backend.from_str(json_text(whole))
    plain.encode_special_tokens = True
    return plain


def _plain_normalizer(normalizer: Any) -> Any:
    """A normalizer's description without what it does at a text's start."""
    kind = normalizer["type"] if normalizer else None
    if kind == "Prepend":
        return None
    if kind == "Strip":
        return {**normalizer, "strip_left": False}
    if kind == "Sequence":
        parts = [_plain_normalizer(part) for part in normalizer["normalizers"]]
        return {**normalizer, "normalizers": [part for part in parts if part is not None]}
    return normalizer


def _plain_pre_tokenizer(pre_tokenizer: Any) -> Any:
    """A pre-tokenizer's description without what it does at a text's start."""
    kind = pre_tokenizer["type"] if pre_tokenizer else None
    if kind == "Metaspace":
        return {**pre_tokenizer, "prepend_scheme": "never"}
    if kind == "ByteLevel":
        return {**pre_tokenizer, "add_prefix_space": False}
    if kind == "Sequence":
        parts = pre_tokenizer["pretokenizers"]
        if not any(part["type"] in _WORD_SPLITTERS for part in parts):
            return {**pre_tokenizer, "pretokenizers": [_plain_pre_tokenizer(p) for p in parts]}
    return pre_tokenizer


def clean_unicode(text: str) -> str:
    """The text itself, if it is a string that UTF-8 can hold.

    :raises InputError: for what is none.
    """
    if not isinstance(text, str):
        raise InputError(f"expected a text (str), got {type(text).__name__}: {text!r:.60}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"a lone surrogate at character {error.start} cannot be encoded: {text!r:.60}"
        ) from None
    return text
