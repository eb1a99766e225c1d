"""Text to token ids and back: byte, character and trained byte-level BPE, and other people's files.

A thin layer over the `tokenizers` library. What is saved is a `tokenizer.json` that
`transformers.AutoTokenizer` opens. Special tokens never come out of text: a user who writes
"<|eos|>" gets its characters, so no text can end an episode or pass for padding.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as _Tokenizer

from textgym.errors import InputError
from textgym.paths import expand
from textgym.storage import json_text, read_json

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
_SPECIALS = (PAD, BOS, EOS)


class Tokenizer:
    """A tokenizer with a pad, a stop (eos) and, where the model wants one, a start (bos) token.

    :param backend: the `tokenizers.Tokenizer` that does the work.
    :param pad_token: fills up rows; never part of a text, never sampled; differs from eos.
    :param eos_token: ends a text.
    :param bos_token: starts a text, or None (the model's post-processor then adds none).
    :raises InputError: if one of them is not in the vocabulary, or pad equals eos.
    """

    def __init__(
        self, backend: _Tokenizer, *, pad_token: str, eos_token: str, bos_token: str | None = None
    ) -> None:
        self.backend = backend
        backend.encode_special_tokens = True  # "<|eos|>" in a text is plain characters
        backend.no_padding()
        backend.no_truncation()
        self.pad_token, self.eos_token, self.bos_token = pad_token, eos_token, bos_token
        self.pad_token_id = self._special_id("pad", pad_token)
        self.eos_token_id = self._special_id("eos", eos_token)
        self.bos_token_id = None if bos_token is None else self._special_id("bos", bos_token)
        if self.pad_token_id == self.eos_token_id:
            raise InputError(
                f"the pad token must differ from the eos token, got {pad_token!r} for both: "
                "pass another token of the vocabulary as pad_token"
            )
        # Another project may have added them without calling them special: text would make them.
        specials = (pad_token, eos_token, *(() if bos_token is None else (bos_token,)))
        known = {
            token.content for token in backend.get_added_tokens_decoder().values() if token.special
        }
        backend.add_special_tokens(
            [AddedToken(token, special=True) for token in specials if token not in known]
        )
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1

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
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {token: i for i, token in enumerate((*_SPECIALS, *alphabet))}
        return cls._finish(_byte_level(models.BPE(vocab=vocabulary, merges=[])))

    @classmethod
    def character(cls, texts: Iterable[str]) -> "Tokenizer":
        """One token per character that occurs in `texts`, and bytes for every other character."""
        characters = sorted({character for text in texts for character in _clean_unicode(text)})
        if not characters:
            raise InputError("a character tokenizer needs texts with at least one character")
        fallback = [f"<0x{byte:02X}>" for byte in range(256)]
        tokens = dict.fromkeys((*_SPECIALS, *fallback, *characters))
        vocabulary = {token: i for i, token in enumerate(tokens)}
        backend = _Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        return cls._finish(backend)

    @classmethod
    def train_bpe(cls, texts: Iterable[str], *, vocab_size: int) -> "Tokenizer":
        """Byte-level BPE, trained on an iterable of texts (streamed, never held).

        :param vocab_size: tokens in all, with the 3 special ones and the 256 bytes.
        :raises InputError: if `vocab_size` is below 259 or `texts` is empty.
        """
        if vocab_size < 259:
            raise InputError(
                "vocab_size must be at least 259 (256 bytes and 3 special tokens), got "
                f"{vocab_size}"
            )
        backend = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(_SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        count = 0

        def counted() -> Iterable[str]:
            nonlocal count
            for text in texts:
                count += bool(text)
                yield _clean_unicode(text)

        backend.train_from_iterator(counted(), trainer)
        if not count:
            raise InputError("the corpus is empty: a BPE tokenizer needs at least one text")
        return cls._finish(backend)

    @classmethod
    def _finish(cls, backend: _Tokenizer) -> "Tokenizer":
        backend.add_special_tokens([AddedToken(token, special=True) for token in _SPECIALS])
        backend.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
        )
        return cls(backend, pad_token=PAD, eos_token=EOS, bos_token=BOS)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of one text. With `add_special_tokens`, as the model saw texts start (bos)."""
        return self.encode_batch([text], add_special_tokens=add_special_tokens)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Token ids of many texts at once (in parallel where the library can)."""
        try:
            encodings = self.backend.encode_batch_fast(
                list(texts), add_special_tokens=add_special_tokens
            )
        except (TypeError, UnicodeEncodeError):
            for text in texts:
                _clean_unicode(text)
            raise
        return [encoding.ids for encoding in encodings]

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

    def token_to_id(self, token: str) -> int | None:
        """The id of a token, or None if the vocabulary has no such token."""
        token_id = self.backend.token_to_id(token)
        return None if token_id is None else int(token_id)

    def save(self, directory: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which transformers opens."""
        directory = expand(directory)
        directory.mkdir(parents=True, exist_ok=True)
        text = self.backend.to_str(pretty=True)  # its own save raises no OSError on a full disk
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self.pad_token,
            "eos_token": self.eos_token,
            "bos_token": self.bos_token,
            "clean_up_tokenization_spaces": False,
        }
        text = json_text(config, indent=2)
        (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")

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

        :param pad_token: overrides the directory's own, for instance where it equals eos.
        :raises InputError: naming the file, if it is missing, damaged or lacks a special token.
        """
        directory = expand(directory)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"{path}: no such file; a checkpoint directory with one is expected")
        try:
            backend = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path}: not a tokenizer that can be read ({error})") from None
        named = _named_specials(directory)
        pad, eos = pad_token or named.get("pad_token"), eos_token or named.get("eos_token")
        for role, token in (("pad", pad), ("eos", eos)):
            if token is None:
                raise InputError(f"{directory}: names no {role} token: pass {role}_token=...")
        assert pad is not None and eos is not None
        try:
            return cls(
                backend,
                pad_token=pad,
                eos_token=eos,
                bos_token=bos_token or named.get("bos_token"),
            )
        except InputError as error:
            raise InputError(f"{directory}: {error}") from None

    def to_json(self) -> str:
        """The whole tokenizer as one JSON string; equal tokenizers give equal strings."""
        return str(self.backend.to_str())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and (
            (self.pad_token_id, self.eos_token_id, self.to_json())
            == (other.pad_token_id, other.eos_token_id, other.to_json())
        )

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.pad_token_id, self.eos_token_id))

    def __getstate__(self) -> dict[str, Any]:
        names = ("pad_token", "eos_token", "bos_token")
        return {"json": self.to_json()} | {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = _Tokenizer.from_str(state["json"])
        names = ("pad_token", "eos_token", "bos_token")
        self.__init__(backend, **{name: state[name] for name in names})  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, eos_token={self.eos_token!r})"


def _byte_level(model: Any) -> _Tokenizer:
    backend = _Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _clean_unicode(text: str) -> str:
    """The text itself, if it is a string that UTF-8 can hold."""
    if not isinstance(text, str):
        raise InputError(f"expected a text (str), got {type(text).__name__}: {text!r:.60}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"a lone surrogate at character {error.start} cannot be encoded: {text!r:.60}"
        ) from None
    return text


def _named_specials(directory: Path) -> dict[str, str | None]:
    """pad, eos and bos as `tokenizer_config.json` or `special_tokens_map.json` name them."""
    named: dict[str, str | None] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / file
        if not path.is_file():
            continue
        content = read_json(path)
        for role in ("pad_token", "eos_token", "bos_token"):
            value = content.get(role) if isinstance(content, dict) else None
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                named[role] = value
    return named
