"""The trunk of a reward model: our language model's, or any model of transformers'.

Of an encoder with a decoder it is the language model too: the encoder reads the whole text, as it
reads a prompt.
"""

from pathlib import Path
from typing import Any

from torch import nn

from textgym.errors import InputError
from textgym.hub_models import hub_directory, is_hub_name
from textgym.paths import expand, is_directory, model_directory
from textgym.policies.language_model.architectures import is_known_family
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.policies.language_model.models_by_name import own_policy
from textgym.reward_models.learned.transformers_trunk import TransformersTrunk
from textgym.storage import read_json


def is_foreign(trunk: nn.Module) -> bool:
    """Whether transformers runs a trunk, whatever it was opened from."""
    is_language_model = isinstance(getattr(trunk, "config", None), ForeignConfig)
    return is_language_model or isinstance(trunk, TransformersTrunk)


def _is_other_family(policy: object) -> bool:
    """Whether a directory holds a model that our decoder does not read, such as an encoder."""
    place = hub_directory(str(policy)) if is_hub_name(policy) else policy
    if not isinstance(place, str | Path) or not is_directory(place):
        return False
    file = Path(expand(place)) / "config.json"
    config = read_json(file) if file.is_file() else None
    return isinstance(config, dict) and not is_known_family(config)


def _is_encoder_decoder(directory: str | Path) -> bool:
    """Whether our language model runs it, whose encoder reads a text as it reads a prompt."""
    return read_json(Path(expand(directory)) / "config.json").get("is_encoder_decoder") is True


def open_any_trunk(policy: Any, *, layers: int = 1, pad_token: str | None = None) -> nn.Module:
    """The trunk that a directory, "start", a model or an agent means; the caller's own.

    :param layers: see `TransformersTrunk`; of our own decoder the last one only.
    :raises InputError: as `own_policy` and `TransformersTrunk.open`.
    """
    if _is_other_family(policy):
        directory = model_directory(policy)
        if not _is_encoder_decoder(directory):
            return TransformersTrunk.open(directory, layers=layers)
    if layers != 1:
        raise InputError(
            f"layers={layers} goes with an encoder or a causal model of transformers' that our "
            "decoder does not read: leave it out"
        )
    return own_policy(policy, pad_token=pad_token)
