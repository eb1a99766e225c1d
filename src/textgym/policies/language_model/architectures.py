"""The architectures that a `CausalLM` may have: for each its configuration and its trunk."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from textgym.errors import InputError, unknown_name
from textgym.policies.language_model.decoder import Decoder
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.families import FAMILIES, LEFT_OUT
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.policies.language_model.foreign_trunk import ForeignTrunk
from textgym.policies.language_model.lstm_config import LSTMConfig, is_lstm
from textgym.policies.language_model.lstm_trunk import LSTMTrunk
from textgym.policies.language_model.seq2seq_config import FixedBiasHead, Seq2SeqConfig
from textgym.policies.language_model.seq2seq_trunk import Seq2SeqTrunk
from textgym.policies.language_model.transformers_config import (
    BeyondDecoderError,
    from_transformers,
    is_family_of_ours,
    is_ours,
    saved_with,
    to_transformers,
)
from textgym.policies.language_model.trunk import TokenTrunk
from textgym.tokenizer import Tokenizer

ModelConfig = CausalLMConfig | LSTMConfig | ForeignConfig
TRANSFORMER, LSTM = "transformer", "lstm"
ARCHITECTURES = (TRANSFORMER, LSTM)


def filled_in(architecture: str, **config: Any) -> ModelConfig:
    """The configuration of an architecture from some of its fields.

    :param architecture: `"transformer"` or `"lstm"`.
    :raises InputError: for another one, or a field that it does not have.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", str(architecture), ARCHITECTURES)
    kind = LSTMConfig if architecture == LSTM else CausalLMConfig
    return kind.filled_in(**config)


def new_trunk(config: ModelConfig, tokenizer: Tokenizer) -> TokenTrunk:
    """A trunk of this shape, with weights that nobody has drawn.

    :raises InputError: for an encoder with a decoder whose tokenizer does not end prompts.
    """
    if isinstance(config, Seq2SeqConfig):
        return Seq2SeqTrunk(config, _prompt_end(tokenizer))
    if isinstance(config, ForeignConfig):
        return ForeignTrunk(config)
    return LSTMTrunk(config) if isinstance(config, LSTMConfig) else Decoder(config)


def new_head(config: ModelConfig) -> nn.Linear:
    """A head of this shape, with weights that nobody has drawn."""
    has_bias = isinstance(config, ForeignConfig) and config.sizes["has_bias"]
    head = nn.Linear(config.hidden_size, config.vocab_size, bias=has_bias)
    if isinstance(config, Seq2SeqConfig) and config.sizes["has_fixed_bias"]:
        return FixedBiasHead(head.weight, torch.zeros(config.vocab_size))
    return head


def _prompt_end(tokenizer: Tokenizer) -> list[int]:
    """The ids that end prompts, from the first on that stands in no prompt."""
    if not tokenizer.ends_prompts:
        raise InputError(
            "an encoder with a decoder needs a tokenizer that ends prompts: open it with "
            "Tokenizer.load from the model's own directory"
        )
    ids = tokenizer.prompt_end_ids
    first = next(i for i, token in enumerate(ids) if token in tokenizer.eos_token_ids)
    if ids[first] in tokenizer.start_ids:
        raise InputError(
            f"the tokenizer begins prompts with the token {ids[first]} that ends them, so nobody "
            "can tell where one ends"
        )
    return ids[first:]


def config_to_json(
    config: CausalLMConfig | LSTMConfig, tokenizer: Tokenizer, dtype: torch.dtype
) -> dict[str, Any]:
    """The content of a `config.json`, which transformers opens if it has the architecture.

    :param dtype: of the weights on disk.
    """
    if isinstance(config, LSTMConfig):
        return {**config.to_json(), **saved_with(tokenizer, dtype)}
    return to_transformers(config, tokenizer, dtype)


def config_from_json(content: Any, path: Path) -> ModelConfig:
    """The configuration in a `config.json`, ours or transformers'.

    :param content: of the file `path`, as JSON has it.
    :raises InputError: naming the file and the key, for what no architecture here can do.
    """
    if is_lstm(content):
        return LSTMConfig.from_json(content, path)
    is_named = isinstance(content, dict) and isinstance(content.get("model_type"), str)
    if is_named and content["model_type"] not in (*FAMILIES, *LEFT_OUT):
        is_pair = content.get("is_encoder_decoder") is True
        return (Seq2SeqConfig if is_pair else ForeignConfig).from_json(content, path)
    try:
        return from_transformers(content, path)
    except BeyondDecoderError as error:
        if is_ours(content):
            raise
        beyond = error
    try:
        return ForeignConfig.from_json(content, path)  # slower, and the same
    except InputError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{beyond} by our decoder; {why}") from None


def is_known_family(content: Any) -> bool:
    """Whether a `config.json` names a family that opens here, if not each of its members."""
    return is_lstm(content) or (isinstance(content, dict) and is_family_of_ours(content))


def opens_here(content: Any, path: Path) -> bool:
    """Whether a `config.json` is of an architecture of ours, so that nobody else has to run it."""
    try:
        return not isinstance(config_from_json(content, path), ForeignConfig)
    except InputError:
        return False
