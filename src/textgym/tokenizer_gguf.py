"""The tokenizer in a GGUF file: byte-level BPE from its tokens and merges, or SentencePiece's BPE.

How byte-level BPE cuts a text before merges apply is a word in the file (`tokenizer.ggml.pre`),
which stands for what the model's own `tokenizer.json` says. SentencePiece's has scores instead.
"""

import math

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from textgym.errors import InputError
from textgym.gguf_files import GGUFFile
from textgym.tokenizer_files import TokenizerFiles
from textgym.tokenizer_sentencepiece import sentencepiece_backend

# llama.cpp's token types.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
_BYTE_LEVEL, _SENTENCEPIECE = "gpt2", "llama"  # and its words for kinds of tokenizers
# Contractions, words, numbers, the rest, white space; %s: digits of a number.
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2, _SMOLLM, _LLAMA3, _QWEN2 = "gpt-2", "smollm", "llama-bpe", "qwen2"
_SAME = {"default": _GPT2, "llama3": _LLAMA3, "llama-v3": _LLAMA3, "deepseek-r1-qwen": _QWEN2}
_KINDS = (_GPT2, _SMOLLM, _LLAMA3, _QWEN2)
_ROLES = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def gguf_backend(file: GGUFFile) -> Backend:
    """The tokenizer of a file.

    :raises InputError: if it is of another kind, or cuts texts in a way that is not known.
    """
    fields = file.metadata
    model = fields.text("tokenizer.ggml.model") if fields.has("tokenizer.ggml.model") else "none"
    if model not in (_BYTE_LEVEL, _SENTENCEPIECE):
        raise InputError(
            f"{file.path}: its tokenizer is of the kind {model!r}; of a GGUF file byte-level BPE "
            "('gpt2') and SentencePiece's BPE ('llama') open, so take a transformers directory of "
            "this model"
        )
    tokens = fields.texts("tokenizer.ggml.tokens")
    types = _types(file, len(tokens))
    vocabulary = {
        token: i
        for i, (token, of_type) in enumerate(zip(tokens, types, strict=True))
        if of_type != _UNUSED
    }
    is_special = {_CONTROL, _UNKNOWN} if model == _SENTENCEPIECE else {_CONTROL}
    if model == _SENTENCEPIECE:
        backend, adds_start = _sentencepiece(file, vocabulary, types), True
    else:
        kind = _kind(file)
        backend, adds_start = _byte_level(file, vocabulary, kind), kind == _LLAMA3
    added = [
        AddedToken(token, special=of_type in is_special, normalized=False)
        for token, of_type in zip(tokens, types, strict=True)
        if of_type in {*is_special, _USER_DEFINED}
    ]
    backend.add_tokens(added)
    if _adds_start(file, adds_start):
        start = _token_of(file, "bos") or ""
        backend.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, vocabulary[start])]
        )
    return backend


def _kind(file: GGUFFile) -> str:
    """How byte-level BPE cuts texts.

    :raises InputError: if that is not known.
    """
    fields = file.metadata
    pre = fields.text("tokenizer.ggml.pre") if fields.has("tokenizer.ggml.pre") else _GPT2
    kind = _SAME.get(pre, pre)
    if kind not in _KINDS:
        raise InputError(
            f"{file.path}: how its tokenizer cuts texts ({pre!r}) is not known here, only "
            f"{', '.join(_KINDS)}"
        )
    return kind


def _byte_level(file: GGUFFile, vocabulary: dict[str, int], kind: str) -> Backend:
    merges = [merge.partition(" ")[::2] for merge in file.metadata.texts("tokenizer.ggml.merges")]
    try:
        backend = Backend(models.BPE(vocabulary, merges, ignore_merges=kind == _LLAMA3))
    except Exception as error:
        raise InputError(f"{file.path}: its merges do not fit its tokens ({error})") from None
    backend.normalizer = normalizers.NFC() if kind == _QWEN2 else None
    backend.pre_tokenizer = _cutter(kind)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GGUFFile, vocabulary: dict[str, int], types: list[int]) -> Backend:
    if file.architecture.startswith("gemma"):
        raise InputError(
            f"{file.path}: Gemma's SentencePiece tokenizer is not read from a GGUF file: take a "
            "transformers directory of this model"
        )
    fields, key = file.metadata, "tokenizer.ggml.scores"
    scores = fields.items(key, len(types))
    if not all(isinstance(score, float) and math.isfinite(score) for score in scores):
        raise fields.error(key, "a list of finite numbers")
    prefix = "tokenizer.ggml.add_space_prefix"
    return sentencepiece_backend(
        vocabulary,
        {token: scores[i] for token, i in vocabulary.items() if types[i] == _NORMAL},
        unk_token=_token_of(file, "unknown"),
        space_prefix=fields.flag(prefix) if fields.has(prefix) else True,
    )


def gguf_tokenizer_files(file: GGUFFile) -> TokenizerFiles:
    """Roles of tokens and chat template, as a directory has them beside its tokenizer."""
    fields = file.metadata
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{role: _token_of(file, word) for role, word in _ROLES.items()},
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    template = fields.content.get("tokenizer.chat_template")
    if isinstance(template, str):
        settings["chat_template"] = template
    return TokenizerFiles(settings=settings, generation=_generation(file), source=file.path)


def _generation(file: GGUFFile) -> dict[str, int | list[int]]:
    """Ids as a `generation_config.json` has them; the end of a turn ends a text too."""
    stops = [i for word in ("eos", "eot", "eom") if (i := _id_of(file, word)) is not None]
    ids: dict[str, int | list[int]] = {}
    if stops:
        several = list(dict.fromkeys(stops))
        ids["eos_token_id"] = several if len(several) > 1 else several[0]
    for key, word in (("bos_token_id", "bos"), ("pad_token_id", "padding")):
        found = _id_of(file, word)
        if found is not None:
            ids[key] = found
    return ids


def _cutter(kind: str) -> pre_tokenizers.PreTokenizer:
    """How a text is cut before merges apply."""
    if kind == _GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == _SMOLLM:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    pattern = Regex(_MODERN % ("{1,3}" if kind == _LLAMA3 else ""))
    cut = pre_tokenizers.Split(pattern, behavior="isolated")
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([cut, plain])


def _adds_start(file: GGUFFile, unless_said: bool) -> bool:
    """Whether texts start with the start token; older files of Llama do not say so."""
    key = "tokenizer.ggml.add_bos_token"
    says = file.metadata.flag(key) if file.metadata.has(key) else unless_said
    return says and _token_of(file, "bos") is not None


def _types(file: GGUFFile, count: int) -> list[int]:
    """llama.cpp's type of each token; 1 is a plain one."""
    key = "tokenizer.ggml.token_type"
    if not file.metadata.has(key):
        return [1] * count
    return file.metadata.items(key, count)


def _id_of(file: GGUFFile, word: str) -> int | None:
    key = f"tokenizer.ggml.{word}_token_id"
    tokens = file.metadata.texts("tokenizer.ggml.tokens")
    return file.metadata.whole(key, 0, len(tokens) - 1) if file.metadata.has(key) else None


def _token_of(file: GGUFFile, word: str) -> str | None:
    token_id = _id_of(file, word)
    return None if token_id is None else file.metadata.texts("tokenizer.ggml.tokens")[token_id]
