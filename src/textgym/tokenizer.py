"""Text to token ids and back: byte, character, word, trained byte-level BPE, other people's files.

A thin layer over the `tokenizers` library. What is saved is a `tokenizer.json` that
`transformers.AutoTokenizer` opens. Special tokens never come out of text: a user who writes
"<|eos|>" gets its characters, so no text can end an episode or pass for padding.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as _Tokenizer

from textgym.errors import InputError
from textgym.gguf_files import GGUFFile, is_gguf
from textgym.paths import model_directory
from textgym.tokenizer_backends import (
    BOS,
    EOS,
    PAD,
    bpe_backend,
    byte_backend,
    character_backend,
)
from textgym.tokenizer_context import (
    clean_unicode,
    describe,
    end_ids,
    is_context_free,
    start_ids,
    unknown_ids,
)
from textgym.tokenizer_decoding import ContinuationDecoder, Ids
from textgym.tokenizer_encoding import TextEncoder
from textgym.tokenizer_files import (
    ROLES,
    SpecialTokens,
    TokenizerFiles,
    read_backend,
    refused,
    tokenizer_directory,
)
from textgym.tokenizer_gguf import gguf_backend, gguf_tokenizer_files
from textgym.tokenizer_words import word_backend

MOST_TOKENS = 2**24


class Tokenizer:
    """A tokenizer with a pad, a stop (eos) and, where the model wants one, a start (bos) token.

    :param backend: the `tokenizers.Tokenizer` that does the work.
    :param pad_token: fills up rows; never part of a text, never sampled; no stop token.
    :param eos_token: ends a text.
    :param bos_token: starts a text, or None (the model's post-processor then adds none).
    :param eos_token_ids: all tokens that end a text, where there are several; `eos_token` is the
        one that is written where a text is given. Default: that one alone.
    :param ends_prompts: the model has an encoder, which reads a prompt with its own end, and a
        decoder, which writes a text of its own: see `prompt_end_ids`.
    :param files: what stood beside another project's tokenizer and is saved with it again.
    :raises InputError: if one of them is not in the vocabulary, or pad is a stop token.

    `start_ids` stand in front of a text that is encoded with special tokens, `prompt_end_ids`
    behind it (none without `ends_prompts`, else a stop token is one of them), `missing_ids` below
    `vocab_size` belong to no token.
    """

    def __init__(
        self,
        backend: _Tokenizer,
        *,
        pad_token: str,
        eos_token: str,
        bos_token: str | None = None,
        eos_token_ids: Sequence[int] = (),
        ends_prompts: bool = False,
        files: TokenizerFiles | None = None,
    ) -> None:
        self.backend = backend
        self.files = files or TokenizerFiles()
        backend.encode_special_tokens = True  # "<|eos|>" in a text is plain characters
        backend.no_padding()
        backend.no_truncation()
        self.pad_token, self.eos_token, self.bos_token = pad_token, eos_token, bos_token
        self.pad_token_id = self._special_id("pad", pad_token)
        self.eos_token_id = self._special_id("eos", eos_token)
        self.bos_token_id = None if bos_token is None else self._special_id("bos", bos_token)
        self.eos_token_ids = tuple(eos_token_ids)
        if self.eos_token_id not in self.eos_token_ids:
            self.eos_token_ids = (self.eos_token_id, *self.eos_token_ids)
        if self.pad_token_id in self.eos_token_ids:
            raise InputError(
                f"the pad token must differ from the eos token, got {pad_token!r} for both: "
                "pass another token of the vocabulary as pad_token"
            )
        self._mark_specials()
        added = backend.get_added_tokens_decoder().items()
        special = {token_id for token_id, token in added if token.special}
        self._encoder = TextEncoder(backend, special.difference(unknown_ids(backend)))
        used = set(backend.get_vocab(with_added_tokens=True).values())
        self.vocab_size = max(used) + 1
        if self.vocab_size > MOST_TOKENS:
            raise InputError(
                f"the tokenizer's ids go up to {self.vocab_size - 1:,}: expected at most "
                f"{MOST_TOKENS:,} tokens"
            )
        self.missing_ids = tuple(i for i in range(self.vocab_size) if i not in used)
        self.start_ids = start_ids(describe(backend.post_processor))
        self.ends_prompts = ends_prompts
        self.prompt_end_ids = self._prompt_end_ids() if ends_prompts else []
        self._is_context_free = is_context_free(describe(backend.decoder))
        self._continuation = ContinuationDecoder(backend, self.vocab_size, self.eos_token_id)

    def _mark_specials(self) -> None:
        """Another project may have added stop tokens without calling them special."""
        added = self.backend.get_added_tokens_decoder()
        stops = [added[i].content for i in self.eos_token_ids if i in added]
        roles = [self.pad_token, self.eos_token, self.bos_token]
        known = {token.content for token in added.values() if token.special}
        new = [token for token in dict.fromkeys([*roles, *stops]) if token and token not in known]
        self.backend.add_special_tokens([AddedToken(token, special=True) for token in new])

    def _prompt_end_ids(self) -> list[int]:
        """What stands behind a prompt: a stop token is part of it, as no text has one."""
        behind = end_ids(describe(self.backend.post_processor))
        has_stop = not set(self.eos_token_ids).isdisjoint(behind)
        return behind if has_stop else [*behind, self.eos_token_id]

    def _special_id(self, role: str, token: str) -> int:
        token_id = self.backend.token_to_id(token)
        if token_id is None:
            raise InputError(
                f"the {role} token {token!r} is not in the tokenizer's vocabulary of "
                f"{self.backend.get_vocab_size()}: pass {role}_token=... with one that is"
            )
        return int(token_id)

    @classmethod
    def byte(cls) -> "Tokenizer":
        """One token per UTF-8 byte: 3 special tokens and 256 bytes, nothing to train."""
        return cls._own(byte_backend())

    @classmethod
    def character(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token per character that occurs in `texts`, and bytes for every other character."""
        return cls._own(character_backend(map(clean_unicode, texts)))

    @classmethod
    def train_bpe(cls, texts: Iterable[str], *, vocab_size: int) -> "Tokenizer":
        """Byte-level BPE, trained on an iterable of texts (streamed, never held).

        :param vocab_size: tokens in all, with the 3 special ones and the 256 bytes.
        :raises InputError: if `vocab_size` is below 259 or `texts` is empty.
        """
        return cls._own(bpe_backend(map(clean_unicode, texts), vocab_size=vocab_size))

    @classmethod
    def words(cls, texts: Iterable[str], *, vocab_size: int, unk: bool = False) -> "Tokenizer":
        """One token per common word of segmented texts (streamed), for texts segmented or not.

        What is no word of the vocabulary is written as characters, or else bytes, so that every
        text comes back as it was; Chinese words are joined without spaces.

        :param texts: words with spaces between, as `textgym prepare --step segment` writes them.
        :param vocab_size: tokens in all, with the 3 special ones, 256 bytes and ASCII.
        :param unk: characters outside of the vocabulary become one unknown token, and are lost.
        :raises InputError: if `vocab_size` leaves no room for a word, or there is none.
        """
        return cls._own(word_backend(map(clean_unicode, texts), vocab_size=vocab_size, unk=unk))

    @classmethod
    def _own(cls, backend: _Tokenizer) -> "Tokenizer":
        return cls(backend, pad_token=PAD, eos_token=EOS, bos_token=BOS)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of one text. With `add_special_tokens`, as the model saw texts start (bos).

        What the model's post-processor puts behind a text (a stop token) is left out, unless the
        model is an encoder with a decoder.
        """
        return self.encode_batch([text], add_special_tokens=add_special_tokens)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Token ids of many texts at once (in parallel where the library can)."""
        rows = self._encoder.encode(texts)
        if add_special_tokens and (self.start_ids or self.prompt_end_ids):
            return [self.start_ids + row + self.prompt_end_ids for row in rows]
        return rows

    def offsets_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[tuple[int, int]]]:
        """Where each token of `encode_batch` stands in its text: from and to, in characters.

        Tokens put in front stand at (0, 0), those put behind at the text's end; bytes of one
        character all at that character; where a text spells the name of a special token, each of
        its tokens at the whole text.
        """
        found = []
        start = [(0, 0)] * (len(self.start_ids) if add_special_tokens else 0)
        ends = len(self.prompt_end_ids) if add_special_tokens else 0
        for text, row in zip(texts, self.encode_batch(texts), strict=True):
            encoding = self.backend.encode(text, add_special_tokens=False)
            same = encoding.ids == row
            inside = encoding.offsets if same else [(0, len(text))] * len(row)
            found.append(start + inside + [(len(text), len(text))] * ends)
        return found

    def encode_continuation(self, prefix: str, text: str) -> list[int]:
        """Token ids of a text that goes on from another: see `encode_continuations`."""
        return self.encode_continuations([prefix], [text])[0]

    def encode_continuations(
        self, prefixes: Sequence[str], texts: Sequence[str]
    ) -> list[list[int]]:
        """Token ids of texts where they go on from others, whose own ids stay as they are.

        Nothing is added in front: `decode_continuation` gives the text again wherever the
        tokenizer can write it there. A decoder behind an encoder begins a text of its own.
        """
        if self.ends_prompts:
            return self._encoder.encode(texts)
        rows = self._encoder.encode_continuing(texts)
        if not self._is_context_free:
            for i, (prefix, text) in enumerate(zip(prefixes, texts, strict=True)):
                if self._continuation.behind(self._continuation.probe, rows[i]) != text:
                    rows[i] = self._encoder.encode_behind(prefix, text) or rows[i]
        return rows

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of a text that no user wrote: the names of special tokens are those tokens."""
        return self._encoder.encode_marked(text)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids; bytes that are no valid UTF-8 become U+FFFD."""
        return self.decode_batch([token_ids], skip_special_tokens=skip_special_tokens)[0]

    def decode_batch(
        self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """The texts of many rows of token ids."""
        # One by one: for the few texts that end in a step the library's thread pool costs more.
        return [
            str(self.backend.decode(list(map(int, row)), skip_special_tokens=skip_special_tokens))
            for row in rows
        ]

    def decode_continuation(self, prefix: Ids, token_ids: Sequence[int]) -> str:
        """The text of token ids that go on from others: see `decode_continuations`."""
        return self.decode_continuations([prefix], [token_ids])[0]

    def decode_continuations(
        self, prefixes: Sequence[Ids], rows: Sequence[Sequence[int]]
    ) -> list[str]:
        """The texts of rows of token ids where they go on from others.

        The text of a prefix and that of its row are, laid end to end, the text of both: a space
        that the decoder drops at the start of a text is there. What a decoder writes behind an
        encoder is a text of its own.
        """
        if self.ends_prompts:
            return self.decode_batch(rows)
        if self._is_context_free:
            return self.decode_batch(rows)
        decoder = self._continuation
        return [
            decoder.behind(decoder.anchor(prefix), row)
            for prefix, row in zip(prefixes, rows, strict=True)
        ]

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, or None if the vocabulary has no such token."""
        token_id = self.backend.token_to_id(token)
        return None if token_id is None else int(token_id)

    def save(self, directory: str | Path) -> None:
        """Write a directory of its own in one step, which transformers opens.

        :raises InputError: if it holds such files that textgym did not write, or a model.
        """
        with tokenizer_directory(directory) as staging:
            self.write_files(staging)

    def write_files(self, directory: Path) -> None:
        """Write its files, and what stood beside them when it was loaded (chat templates, …)."""
        text = self.backend.to_str(pretty=True)  # its own save raises no OSError on a full disk
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")
        self.files.write(
            directory,
            {role: getattr(self, role) for role in ROLES},
            {f"{role}_id": getattr(self, f"{role}_id") for role in ROLES}
            | {"eos_token_id": self.eos_token_id_or_ids},
        )

    @property
    def eos_token_id_or_ids(self) -> int | list[int]:
        """The stop token as transformers' files hold it: an id, or a list of several."""
        ids = self.eos_token_ids
        return ids[0] if len(ids) == 1 else list(ids)

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        pad_token: str | None = None,
        eos_token: str | None = None,
        bos_token: str | None = None,
    ) -> "Tokenizer":
        """Open the tokenizer of a checkpoint directory, ours or another project's.

        Where it names no pad token, or one that ends a text, a special token that no text needs
        takes that part, with a warning.

        :param pad_token: overrides the directory's own.
        :param eos_token: overrides the directory's own, all of them where it names several.
        :param bos_token: overrides the directory's own.
        :raises InputError: naming the file, if it is missing, damaged or lacks a special token.
        """
        directory = model_directory(directory)
        roles = {"pad": pad_token, "eos": eos_token, "bos": bos_token}
        if is_gguf(directory):
            return cls.of_gguf(GGUFFile(directory), **roles)
        backend = read_backend(directory)
        return cls._found(directory, backend, TokenizerFiles.read(directory), roles)

    @classmethod
    def of_gguf(cls, file: GGUFFile, **roles: str | None) -> "Tokenizer":
        """The tokenizer in a GGUF file; `pad`, `eos` and `bos` override its own tokens.

        :raises InputError: if it is no byte-level BPE, or damaged.
        """
        return cls._found(file.path, gguf_backend(file), gguf_tokenizer_files(file), roles)

    @classmethod
    def _found(
        cls, place: Path, backend: _Tokenizer, files: TokenizerFiles, roles: dict[str, str | None]
    ) -> "Tokenizer":
        """The tokenizer of a directory or a file, tried out."""
        try:
            tokenizer = cls(backend, **vars(SpecialTokens.found(place, backend, files, roles)))
            tokenizer.decode(tokenizer.encode("A text, é."))  # some break only when they are used
            return tokenizer
        except InputError as error:
            named = str(error).startswith(str(place))
            raise (error if named else InputError(f"{place}: {error}")) from None
        except BaseException as error:
            raise refused(error, f"{place}: not a tokenizer that can be used") from None

    def to_json(self) -> str:
        """The whole tokenizer as one JSON string; equal tokenizers give equal strings."""
        return str(self.backend.to_str())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer) or self.pad_token_id != other.pad_token_id:
            return False
        ours, theirs = self.to_json(), other.to_json()
        is_alike = self.eos_token_ids == other.eos_token_ids
        is_alike &= self.ends_prompts == other.ends_prompts
        return is_alike and (ours == theirs or _rounded(ours) == _rounded(theirs))

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.pad_token_id, self.eos_token_id))

    def __getstate__(self) -> dict[str, Any]:
        names = (*ROLES, "eos_token_ids", "ends_prompts", "files")
        return {"json": self.to_json()} | {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = dict(state)
        self.__init__(_Tokenizer.from_str(fields.pop("json")), **fields)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token={self.eos_token!r})"


def _rounded(description: str) -> Any:
    """A JSON description; the library does not read its own numbers back to the last digit."""
    return json.loads(description, parse_float=lambda number: round(float(number), 9))
