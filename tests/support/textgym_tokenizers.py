"""Tokenizers of every family that people's checkpoints hold, built small and offline."""

from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Backend

from textgym.tokenizer import Tokenizer

TEXTS = [
    "The film is good, and the ending is good too.",
    "A long film! It is boring, but the acting is not.",
    "Nobody likes the ending; filming took years.",
] * 4
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MARK = "\u2581"


def sentencepiece_bpe(start="normalizer"):
    """Llama 2's and Mistral's family: pieces with a mark, byte fallback, a space in front.

    :param start: who puts it there: "normalizer", or a Metaspace pre-tokenizer with "first",
        "always" or "never" (Gemma's way: nobody).
    """
    words = [MARK + word for text in TEXTS for word in text.split()]
    trained = Backend(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=160, show_progress=False)
    trained.train_from_iterator(words, trainer)
    state = _state(trained.model)
    pieces = ["<unk>", "<s>", "</s>", "<pad>", *BYTES, *state["vocab"]]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in state["merges"]]
    model = models.BPE(
        vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    backend = Backend(model)
    spaces = normalizers.Replace(" ", MARK)
    if start == "normalizer":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), spaces])
    elif start == "never":
        backend.normalizer = spaces
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=start, split=False)
    steps = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if start != "never":
        steps.append(decoders.Strip(" ", 1, 0))
    backend.decoder = decoders.Sequence(steps)
    return _finish(backend, "<s>", "</s>", "<pad>", "<unk>", template="<s> $A")


def unigram(scheme="always", is_split_first=False):
    """T5's family, whose template ends a text with a stop token.

    :param is_split_first: words are cut at spaces first, as in XLM-RoBERTa's.
    """
    metaspace = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend = Backend(models.Unigram())
    splitters = [pre_tokenizers.WhitespaceSplit()] if is_split_first else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splitters, metaspace])
    backend.normalizer = normalizers.Strip(left=True, right=True)
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyzTNAI.,;!"),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return _finish(backend, None, "</s>", "<pad>", template="$A </s>")


def wordpiece(cleanup=True):
    """BERT's family: `##` joins, everything else stands behind a space."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=cleanup)
    trainer = trainers.WordPieceTrainer(vocab_size=110, special_tokens=names, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return _finish(backend, "[CLS]", "[SEP]", "[PAD]", "[UNK]", template="[CLS] $A [SEP]")


def byte_level(add_prefix_space=False):
    """GPT-2's family, and Llama 3's and Qwen's."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    names = ["<|pad|>", "<|begin|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return _finish(backend, "<|begin|>", "<|end|>", "<|pad|>", template="<|begin|> $A")


def word_ends():
    """CLIP's and old GPT's family: `</w>` ends a word."""
    backend = Backend(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=160,
        special_tokens=["<unk>", "<pad>", "</s>"],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return _finish(backend, None, "</s>", "<pad>", "<unk>")


def words():
    """One token a word, laid out with spaces; no decoder at all."""
    names = ["<unk>", "<pad>", "</s>"]
    backend = Backend(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=names, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return _finish(backend, None, "</s>", "<pad>", "<unk>")


def families():
    """Each family by name."""
    return {
        "ours, bytes": Tokenizer.byte(),
        "ours, characters": Tokenizer.character(TEXTS),
        "ours, BPE": Tokenizer.train_bpe(TEXTS, vocab_size=300),
        "byte-level": byte_level(),
        "byte-level, prefix space": byte_level(add_prefix_space=True),
        "sentencepiece, normalizer": sentencepiece_bpe(),
        "sentencepiece, first": sentencepiece_bpe("first"),
        "sentencepiece, always": sentencepiece_bpe("always"),
        "sentencepiece, never": sentencepiece_bpe("never"),
        "unigram, always": unigram(),
        "unigram, first": unigram("first"),
        "unigram, split first": unigram(is_split_first=True),
        "wordpiece": wordpiece(),
        "wordpiece, no cleanup": wordpiece(cleanup=False),
        "word ends": word_ends(),
        "words": words(),
    }


def _state(model):
    """Vocabulary and merges of a trained BPE."""
    import json

    return json.loads(model.__getstate__())


def _finish(backend, bos, eos, pad, *more, template=None):
    names = [name for name in (bos, eos, pad, *more) if name is not None]
    backend.add_special_tokens([AddedToken(name, special=True) for name in names])
    if template is not None:
        used = [(name, backend.token_to_id(name)) for name in template.split() if name != "$A"]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return Tokenizer(backend, pad_token=pad, eos_token=eos, bos_token=bos)
