"""The bytes that each token of a tokenizer stands for.

A mask needs to know what a token writes before it is written. Byte-level tokenizers (ours, GPT-2's,
Llama 3's, Qwen's), byte fallback (our character tokenizer, Llama 2's) and the `▁` of SentencePiece
are understood. Where tokens are no pieces of text that are simply laid end to end (WordPiece,
`</w>`), there is no such table, and that is an error.
"""

import json
import re
from typing import Any

from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """`[v]`: the bytes of each id; empty for special tokens and for ids without a token.

    A space that the decoder drops at the very start of a text is there in the bytes.

    :raises InputError: if the tokens are not pieces of text that are laid end to end.
    """
    backend = tokenizer.backend
    steps = _steps(json.loads(tokenizer.to_json())["decoder"])
    added = backend.get_added_tokens_decoder()
    pieces = []
    for token_id in range(tokenizer.vocab_size):
        name = backend.id_to_token(token_id)
        is_special = token_id in added and added[token_id].special
        pieces.append(b"" if name is None or is_special else _decoded(name, steps))
    _check(tokenizer, pieces)
    return pieces


def _steps(decoder: Any) -> list[dict[str, Any]]:
    """The decoder's steps, those left out that change no bytes."""
    kind = decoder["type"] if decoder else None
    if kind == "Sequence":
        return [step for part in decoder["decoders"] for step in _steps(part)]
    if kind in ("ByteLevel", "ByteFallback", "Metaspace"):
        return [decoder]
    if kind == "Replace" and "String" in decoder["pattern"]:
        return [decoder]
    if kind in ("Fuse", "Strip"):  # joins; drops a space at the start of the text
        return []
    raise InputError(
        f"a constraint needs a tokenizer whose tokens are laid end to end, but this one's decoder "
        f"is {kind}: use a byte-level, byte-fallback or SentencePiece tokenizer"
    )


def _decoded(name: str, steps: list[dict[str, Any]]) -> bytes:
    """The bytes of one token, from its name in the vocabulary."""
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            alphabet = _byte_level_alphabet()
            if all(character in alphabet for character in name):
                return bytes(alphabet[character] for character in name)
        elif kind == "ByteFallback":
            if found := _FALLBACK.fullmatch(name):
                return bytes([int(found[1], 16)])
        elif kind == "Metaspace":
            name = name.replace(step["replacement"], " ")
        else:
            name = name.replace(step["pattern"]["String"], step["content"])
    return name.encode("utf-8")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones for themselves, the rest from 256 up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


def _check(tokenizer: Tokenizer, pieces: list[bytes]) -> None:
    """Raises unless the tokenizer itself says the same of each token that is text by itself.

    :raises InputError: naming the first on which the two differ.
    """
    for token_id, piece in enumerate(pieces):
        try:
            expected = piece.decode("utf-8")
        except UnicodeDecodeError:
            continue
        said = tokenizer.decode([token_id])
        if said not in (expected, expected.removeprefix(" ")):
            raise InputError(
                f"a constraint needs a tokenizer whose tokens are laid end to end, but this one "
                f"decodes token {token_id} as {said!r:.30} instead of {expected!r:.30}"
            )
