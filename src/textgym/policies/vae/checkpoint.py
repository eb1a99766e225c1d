"""A text variational autoencoder on disk: `vae.json`, `model.safetensors` and the tokenizer.

Where training may go on, the trainer's state stands beside them as with language models.
"""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.paths import expand
from textgym.policies.language_model.checkpoint import (
    read_trainer_state,
    saved_states,
    write_trainer_state,
)
from textgym.policies.language_model.run_checkpoints import checkpoints_of, read_first_whole
from textgym.policies.language_model.transformers_config import from_transformers, to_transformers
from textgym.policies.vae.config import TextVAEConfig
from textgym.run_files import AUTOENCODER
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, read_json
from textgym.tensor_files import floating, read_tensors, tensor_shapes, write_tensors
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textgym.policies.vae.text_vae import TextVAE

V = TypeVar("V", bound="TextVAE")
WEIGHTS = "model.safetensors"


def save_vae(
    vae: "TextVAE",
    directory: str | Path,
    *,
    trainer_state: dict[str, Any] | None = None,
    keep_old_as: str | None = None,
) -> None:
    """Write a model atomically.

    :param trainer_state: nest of tensors and JSON values to resume from.
    :param keep_old_as: the name beside it under which the old directory is kept.
    :raises StorageError: if the directory cannot be written.
    """
    with atomic_directory(expand(directory), keep_old_as=keep_old_as) as temporary:
        text = json_text(_shape_to_json(vae), indent=2) + "\n"
        (temporary / AUTOENCODER).write_text(text, encoding="utf-8")
        tensors = {k: v.detach().cpu().contiguous() for k, v in vae.state_dict().items()}
        write_tensors(tensors, temporary / WEIGHTS)
        vae.tokenizer.write_files(temporary)
        if trainer_state is not None:
            write_trainer_state(trainer_state, temporary)


def read_vae(cls: "type[V]", directory: str | Path) -> "V":
    """The model of a directory, or of the best checkpoint of a run.

    :raises InputError: naming the file and what is wrong with it.
    """
    path = expand(directory)
    places = checkpoints_of(path, AUTOENCODER)
    if not places:
        what = (
            f"holds no {AUTOENCODER}, so it is no text autoencoder"
            if path.exists()
            else "is not there"
        )
        raise InputError(f"{path}: {what}; `textgym pretrain-vae` makes one")
    return read_first_whole(places, lambda place: _read(cls, place))


def load_training(directory: Path, vae: "TextVAE") -> Any:
    """Take up the weights of a checkpoint, and return its trainer state.

    :raises InputError: if there is none, it is damaged or of another shape.
    """

    def read(place: Path) -> "tuple[TextVAE, Any]":
        return _read(type(vae), place), read_trainer_state(place)

    saved, state = read_first_whole(saved_states(directory), read, must_have_manifest=True)
    if saved.config != vae.config or saved.tokenizer != vae.tokenizer:
        raise InputError(f"{directory}: is a checkpoint of another autoencoder or tokenizer")
    vae.load_state_dict(saved.state_dict())
    return state


def open_last_vae(cls: "type[V]", directory: Path) -> "V":
    """The model that a training goes on with; the one before where the last is damaged."""
    return read_first_whole(
        saved_states(directory), lambda place: _read(cls, place), must_have_manifest=True
    )


def _read(cls: "type[V]", directory: Path) -> "V":
    tokenizer = Tokenizer.load(directory)
    config = _read_config(directory / AUTOENCODER)
    stored = (directory / WEIGHTS).stat().st_size if (directory / WEIGHTS).is_file() else 0
    if config.parameter_count > stored:  # a byte for each is the least
        raise InputError(
            f"{directory / AUTOENCODER}: calls for {config.parameter_count:,} weights, but their "
            f"file has {stored:,} bytes"
        )
    with torch.device("meta"):
        vae = cls(config, tokenizer)
    expected = {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    found = tensor_shapes(directory / WEIGHTS)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{directory / WEIGHTS}: {name!r} has shape {found.get(name)}, but {AUTOENCODER} "
                f"calls for {expected.get(name)}"
            )
    tensors = floating(read_tensors(directory / WEIGHTS), directory / WEIGHTS)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{directory}: the weights {name!r} are not finite, its training diverged: take an "
                "earlier checkpoint"
            )
    vae.load_state_dict(tensors, assign=True)
    vae.finish_loading()
    return vae.requires_grad_(True).eval()


def _shape_to_json(vae: "TextVAE") -> dict[str, Any]:
    """The content of `vae.json`; a language model's shape stands there as in its `config.json`."""
    content, shape = asdict(vae.config), vae.config.language_model
    del content["language_model"]
    if shape is not None:
        content["language_model"] = to_transformers(shape, vae.tokenizer, vae.lm_head.weight.dtype)
    return content


def _read_config(file: Path) -> TextVAEConfig:
    content, shape = read_json(file), None
    if isinstance(content, dict):
        content = {"latent_scale": 1.0, **content}  # as it was before there was such a field
        if content.get("language_model") is not None:
            shape = from_transformers(content["language_model"], file)
    saved = SavedFields(content, file)
    read: dict[Any, Callable[[str], Any]] = {
        int: saved.whole,
        bool: saved.flag,
        float: saved.number,
        str: saved.text,
    }
    known = {f.name: read[f.type] for f in fields(TextVAEConfig) if f.type in read}
    try:
        config = {name: value(name) for name, value in known.items()}
        return TextVAEConfig(**config, language_model=shape)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
