"""The architectures that a `CausalLM` may have: for each its configuration and its trunk."""

from pathlib import Path
from typing import Any

import torch

from textgym.errors import InputError, unknown_name
from textgym.policies.language_model.decoder import Decoder
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.families import FAMILIES, LEFT_OUT
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.policies.language_model.foreign_trunk import ForeignTrunk
from textgym.policies.language_model.lstm_config import LSTMConfig, is_lstm
from textgym.policies.language_model.lstm_trunk import LSTMTrunk
from textgym.policies.language_model.transformers_config import (
    from_transformers,
    is_family_of_ours,
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


def new_trunk(config: ModelConfig) -> TokenTrunk:
    """A trunk of this shape, with weights that nobody has drawn."""
    if isinstance(config, ForeignConfig):
        return ForeignTrunk(config)
    return LSTMTrunk(config) if isinstance(config, LSTMConfig) else Decoder(config)


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
        return ForeignConfig.from_json(content, path)
    return from_transformers(content, path)


def is_known_family(content: Any) -> bool:
    """Whether a `config.json` names a family that opens here, if not each of its members."""
    return is_lstm(content) or (isinstance(content, dict) and is_family_of_ours(content))


def opens_here(content: Any, path: Path) -> bool:
    """Whether a `config.json` is of an architecture of ours, so that nobody else has to run it."""
    try:
        return not isinstance(config_from_json(content, path), ForeignConfig)
    except InputError:
        return False
