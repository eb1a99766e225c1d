"""What a fresh language model is made of: tokenizer, architecture, width and depth."""

from collections.abc import Iterable, Mapping
from typing import Any

from textgym.envs.texts.preparation.words import Segmenter
from textgym.errors import InputError
from textgym.policies.language_model.architectures import LSTM, TRANSFORMER, filled_in
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer

TOKENIZERS = ("bpe", "byte", "character", "word")
# What a fresh model is made of, unless said.
FRESH = {
    "tokenizer": "bpe",
    "vocab_size": 2048,
    "architecture": TRANSFORMER,
    "hidden_size": 128,
    "num_hidden_layers": 4,
}
LSTM_LAYERS = 2


def fresh_shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a fresh model is made of, by the names of `FRESH`: as settings say, or by default."""
    defaults = dict(FRESH)
    if settings["architecture"] == LSTM:
        defaults["num_hidden_layers"] = LSTM_LAYERS
    return {k: v if settings[k] is None else settings[k] for k, v in defaults.items()}


def check_unused(shape: Mapping[str, Any]) -> None:
    """Raises if something of a fresh model was given beside a policy.

    :raises InputError: naming it.
    """
    for name, value in shape.items():
        if value is not None:
            raise InputError(
                f"{name} is of a fresh model, but policy= brings its own: leave one of them out"
            )


def check_fresh(settings: Mapping[str, Any], pad_token: str | None) -> None:
    """Raises unless a fresh model can be made.

    :raises InputError: for a kind of tokenizer that there is not, a pad token, or a model that
        does not fit this machine's memory.
    """
    if settings["tokenizer"] not in TOKENIZERS:
        raise InputError(
            f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {settings['tokenizer']!r}"
        )
    if pad_token is not None:
        raise InputError("pad_token goes with policy=, a checkpoint directory: leave it out")
    if settings["lora_rank"] is not None:
        raise InputError("lora_rank goes with policy=: a fresh model has to learn all its weights")
    filled_in(vocab_size=settings["vocab_size"], **_shape(settings)).check_memory(copies=4)


def fresh_model(settings: Mapping[str, Any], texts: Iterable[str]) -> CausalLM:
    """A tokenizer of its own kind for the texts, and a model with random weights."""
    tokenizer = make_tokenizer(settings["tokenizer"], texts, settings["vocab_size"])
    return CausalLM.new(tokenizer, seed=settings["seed"], **_shape(settings))


def _shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Architecture, width, depth and context, in the words of `CausalLM.new`."""
    names = ("architecture", "hidden_size", "num_hidden_layers")
    return {
        **{name: settings[name] for name in names},
        "max_position_embeddings": settings["context"],
    }


def make_tokenizer(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of one of `TOKENIZERS` for the texts, as far as that kind depends on them."""
    if kind == "byte":
        return Tokenizer.byte()
    if kind == "character":
        return Tokenizer.character(texts)
    if kind == "word":
        segmenter = Segmenter()
        segmented = (" ".join(segmenter.words(text)) for text in texts)
        return Tokenizer.words(segmented, vocab_size=vocab_size)
    return Tokenizer.train_bpe(texts, vocab_size=vocab_size)
