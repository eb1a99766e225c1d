"""The files beside a `tokenizer.json`: which tokens have a role, and what is only kept.

Chat templates, generation settings and whatever else another project wrote are read as data, never
executed, and written again with the tokenizer.
"""

import contextlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.manifest import listed_files
from textgym.paths import expand
from textgym.storage import json_text, read_json, read_small_file, require_regular_file
from textgym.tokenizer_context import describe, unknown_ids

ROLES = ("pad_token", "eos_token", "bos_token")
TOKENIZER_CONFIG = "tokenizer_config.json"
_CONFIG, _SPECIALS = TOKENIZER_CONFIG, "special_tokens_map.json"
_GENERATION = "generation_config.json"
_OWN_SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": None,
    "eos_token": None,
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
}
_SLOW = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")


@contextlib.contextmanager
def tokenizer_directory(path: str | Path) -> Iterator[Path]:
    """Where a tokenizer is written to, before it stands in a directory of its own.

    :raises InputError: if the directory holds a model of ours, or such files of somebody else's.
    """
    path = expand(path)
    if {"config.json", "reward_model.json"} & (listed_files(path) or set()):
        raise InputError(f"{path}: holds a model, with a tokenizer that fits it; give another name")
    with atomic_directory(path) as staging:
        yield staging


@dataclass(frozen=True)
class TokenizerFiles:
    """What stands beside a `tokenizer.json`.

    :param settings: of `tokenizer_config.json`.
    :param specials: of `special_tokens_map.json`, or None where there is none.
    :param generation: of `generation_config.json`, or None where there is none.
    :param templates: chat templates of their own files, by their path in the directory.
    :param source: the directory, or the one file with all of them, for errors; None: made here.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    specials: dict[str, Any] | None = None
    generation: dict[str, Any] | None = None
    templates: dict[str, str] = field(default_factory=dict)
    source: Path | None = field(default=None, compare=False)

    @classmethod
    def read(cls, directory: Path) -> "TokenizerFiles":
        """The files of a directory; those that are not there are left out.

        :raises InputError: naming the file that cannot be read.
        """
        paths = [path for pattern in _TEMPLATES for path in sorted(directory.glob(pattern))]
        return cls(
            settings=_read_object(directory / _CONFIG) or {},
            specials=_read_object(directory / _SPECIALS),
            generation=_read_object(directory / _GENERATION),
            templates={path.relative_to(directory).as_posix(): _read_text(path) for path in paths},
            source=directory,
        )

    def named(self, role: str) -> str | None:
        """The token of a role, as the settings or the map of special tokens name it."""
        return _content(self.settings.get(role)) or _content((self.specials or {}).get(role))

    def is_in_template(self, token: str) -> bool:
        """Whether a chat template writes this token."""
        own = json_text(self.settings.get("chat_template"))
        return any(token in text for text in (own, *self.templates.values()))

    def write(
        self, directory: Path, tokens: Mapping[str, str | None], ids: Mapping[str, Any]
    ) -> None:
        """Write them again, with the roles as they are now.

        :param tokens: token of each role, by `pad_token`, `eos_token` and `bos_token`.
        :param ids: the same as ids, by `pad_token_id` and so on.
        """
        settings = _with_roles(self.settings or _OWN_SETTINGS, tokens)
        if settings.pop("auto_map", None) is not None:  # code of its own, which is not kept
            settings["tokenizer_class"] = _OWN_SETTINGS["tokenizer_class"]
        _write_json(directory / _CONFIG, settings)
        if self.specials is not None:
            _write_json(directory / _SPECIALS, _with_roles(self.specials, tokens))
        if self.generation is not None:
            _write_json(directory / _GENERATION, _with_ids(self.generation, ids))
        for name, text in self.templates.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(text.encode("utf-8"))


@dataclass(frozen=True)
class SpecialTokens:
    """The roles of a directory's tokens, as `Tokenizer` takes them."""

    pad_token: str
    eos_token: str
    bos_token: str | None
    eos_token_ids: tuple[int, ...]
    ends_prompts: bool
    files: TokenizerFiles

    @classmethod
    def found(
        cls,
        directory: Path,
        backend: Backend,
        files: TokenizerFiles,
        given: Mapping[str, str | None],
    ) -> "SpecialTokens":
        """What a directory says, unless it is given.

        :param directory: or a file with all of them.
        :param given: tokens of `pad`, `eos` and `bos`.
        :raises InputError: naming the role that nothing fills, or the file that is wrong.
        """
        pad, eos, bos = (given.get(role) for role in ("pad", "eos", "bos"))
        stops: list[int] = []
        if eos is None:
            listed = model_ids(directory, files, "eos_token_id")
            added = backend.get_added_tokens_decoder()
            # A lone id may be a default that another project left there: only a list may hold text.
            stops = [i for i in listed if i in added or (listed[i] and _token(backend, i))]
            eos = files.named("eos_token") or next((_token(backend, i) for i in stops), None)
            if eos is None:
                where = f'add "eos_token" to its {_CONFIG}, or ' if directory.is_dir() else ""
                raise InputError(
                    f"{directory}: names no eos token, which ends texts: {where}open it with "
                    "Tokenizer.load(..., eos_token=...)"
                )
        stop_tokens = {eos, *(_token(backend, i) for i in stops)}
        bos = bos or files.named("bos_token")
        if pad is None:
            ids = model_ids(directory, files, "pad_token_id")
            pad = files.named("pad_token") or next((_token(backend, i) for i in ids), None)
            if pad is None or pad in stop_tokens:
                pad = _spare_for(directory, pad, spare_token(backend, files, {*stop_tokens, bos}))
        config = _read_object(directory / "config.json") or {}
        ends_prompts = config.get("is_encoder_decoder") is True
        return cls(pad, eos, bos, tuple(stops), ends_prompts, files)


def read_backend(directory: Path) -> Backend:
    """What a directory's `tokenizer.json` holds.

    :raises InputError: naming the file, if it is missing or damaged.
    """
    path = directory / "tokenizer.json"
    slow = [name for name in _SLOW if (directory / name).is_file()]
    if slow and not path.is_file():
        raise InputError(
            f"{directory}: holds a slow tokenizer only ({slow[0]}), and a tokenizer.json is "
            "expected: AutoTokenizer.from_pretrained(d).save_pretrained(d) of transformers "
            "writes one"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; a checkpoint directory with one is expected")
    text = read_small_file(path)
    try:
        return Backend.from_str(text)
    except BaseException as error:
        raise refused(error, f"{path}: not a tokenizer that can be read") from None


def refused(error: BaseException, message: str) -> BaseException:
    """An `InputError` for what the library raises, bare exceptions and panics; else the error."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return InputError(f"{message} ({' '.join(str(error).split()):.200})")
    return error


def _spare_for(directory: Path, named: str | None, spare: str | None) -> str:
    """The token that takes the part of a pad token, said in one line."""
    reason = "names no pad token" if named is None else f"its pad token {named!r} ends texts"
    if spare is None:
        raise InputError(
            f"{directory}: {reason}, and no special token is unused: pass pad_token=... "
            "with a token of its vocabulary that no text needs"
        )
    warnings.warn(
        f"{directory}: {reason}, so the unused token {spare!r} fills up rows (pad_token=... or "
        "--pad-token takes another)",
        stacklevel=2,
    )
    return spare


def _token(backend: Backend, token_id: int) -> str | None:
    """The token of an id, or None if there is none."""
    return backend.id_to_token(token_id) if 0 <= token_id < 2**31 else None


def model_ids(directory: Path, files: TokenizerFiles, key: str) -> dict[int, bool]:
    """The token ids that `config.json` and `generation_config.json` give a role, in order.

    :param key: `eos_token_id`, for one.
    :return: of each id, whether it stands in a list.
    :raises InputError: if they are no token ids.
    """
    found: dict[int, bool] = {}
    config = _read_object(directory / "config.json")
    for name, content in (("config.json", config), (_GENERATION, files.generation)):
        value = (content or {}).get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
            raise InputError(f"{directory / name}: {key} must be token ids, got {value!r:.60}")
        for token_id in ids:
            found[token_id] = found.get(token_id, False) or isinstance(value, list)
    return found


def spare_token(
    backend: Backend, files: TokenizerFiles, taken: Collection[str | None]
) -> str | None:
    """A special token that no text needs, so that it may fill up rows; None if there is none.

    :param taken: tokens that have a role already.
    """
    template = json_text(describe(backend.post_processor))
    unknown = unknown_ids(backend)
    best: tuple[int, int, str] | None = None
    for token_id, added in backend.get_added_tokens_decoder().items():
        token = added.content
        is_used = token in taken or json_text(token) in template
        is_used |= files.is_in_template(token) or token_id in unknown
        rank = _rank(token, is_special=added.special)
        if rank is not None and not is_used:
            best = min(best or (rank, token_id, token), (rank, token_id, token))
    return None if best is None else best[2]


def _rank(token: str, *, is_special: bool) -> int | None:
    """How far down the list of spare tokens one stands; None for one that texts may need."""
    wanted = (("pad",), ("reserved", "unused", "extra_id"), ("endoftext", "end_of_text"), ("unk",))
    for rank, names in enumerate(wanted):
        if any(name in token.lower() for name in names) and (is_special or rank < 2):
            return rank
    return len(wanted) if is_special else None


def _content(value: Any) -> str | None:
    """A token's text, given plainly or as transformers' AddedToken."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _with_roles(content: dict[str, Any], tokens: Mapping[str, str | None]) -> dict[str, Any]:
    """The content with the roles of `tokens`; what says the same already stays as it is."""
    changed = {
        role: token for role, token in tokens.items() if _content(content.get(role)) != token
    }
    result = {**content, **changed}
    added = content.get("added_tokens_decoder")
    if isinstance(added, dict):
        result["added_tokens_decoder"] = {
            key: {**entry, "special": True} if _content(entry) in tokens.values() else entry
            for key, entry in added.items()
        }
    return result


def _with_ids(
    generation: dict[str, Any], ids: Mapping[str, int | list[int] | None]
) -> dict[str, Any]:
    """Generation settings whose token ids are among those of `ids`; others are replaced."""
    result = dict(generation)
    for key, value in ids.items():
        if value is None:
            continue
        allowed = value if isinstance(value, list) else [value]
        named = result.get(key, value)
        if not all(i in allowed for i in (named if isinstance(named, list) else [named])):
            result[key] = value
    return result


def _read_object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {content!r:.40}")
    return content


def _read_text(path: Path) -> str:
    try:
        return require_regular_file(path).read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a text that can be read ({error})") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json_text(content, indent=2) + "\n", encoding="utf-8")
