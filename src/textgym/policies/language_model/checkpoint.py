"""A language model on disk: a directory that no code runs from; a decoder's transformers opens.

`config.json`, `model.safetensors`, `tokenizer.json`, and, where training may go on, our trainer
state as `trainer.safetensors` with `trainer.json`.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from textgym.directories import atomic_directory, holds
from textgym.errors import InputError
from textgym.extras import import_extra, without_bars
from textgym.gguf_files import is_gguf
from textgym.manifest import MANIFEST
from textgym.optimization import join_state, split_state
from textgym.paths import expand, model_directory
from textgym.policies.language_model.adapter_directories import (
    base_of,
    is_adapter,
    merge_adapter,
)
from textgym.policies.language_model.architectures import (
    ModelConfig,
    config_to_json,
)
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.policies.language_model.foreign_trunk import ForeignTrunk
from textgym.policies.language_model.run_checkpoints import (
    checkpoints_of,
    read_first_whole,
)
from textgym.policies.language_model.transformers_config import is_ours, otherwise_tied
from textgym.policies.language_model.weight_sources import weight_source
from textgym.run_files import AUTOENCODER, LAST, LATENT_AGENT, PREVIOUS
from textgym.storage import json_text, read_json
from textgym.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from textgym.policies.language_model.language_model import LanguageModel
    from textgym.tokenizer import Tokenizer

HEAD = "lm_head.weight"
M = TypeVar("M", bound="LanguageModel")


def save_pretrained(
    lm: "LanguageModel",
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    trainer_state: dict[str, Any] | None = None,
    keep_old_as: str | None = None,
) -> None:
    """Write a model atomically.

    :param dtype: of the weights on disk (default: as they are).
    :param trainer_state: nest of tensors and JSON values to resume from.
    :param keep_old_as: the name beside it under which the old directory is kept.
    :raises StorageError: if the directory cannot be written.
    """
    with atomic_directory(expand(directory), keep_old_as=keep_old_as) as temporary:
        write_model(lm, temporary, dtype=dtype)
        if trainer_state is not None:
            write_trainer_state(trainer_state, temporary)


def check_has_checkpoint(lm: "LanguageModel") -> None:
    """Raises unless a directory can hold the model.

    :raises InputError: for a model that is no `CausalLM`: nothing would open it.
    """
    if not isinstance(lm.config, ModelConfig):
        raise InputError(
            f"a {type(lm).__name__} is no CausalLM, so there is no checkpoint of it: keep its "
            "state_dict(), and leave out= out"
        )


def write_model(lm: "LanguageModel", directory: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model's files into a directory that stands already (not atomic by itself).

    :raises InputError: for a model that is no `CausalLM`: nothing would open it.
    """
    check_has_checkpoint(lm)
    assert isinstance(lm.config, ModelConfig)
    if isinstance(lm.config, ForeignConfig):
        _write_foreign(lm, directory, dtype or lm.dtype)
        return
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in lm.state_dict().items()
        if not (lm.config.tie_word_embeddings and name == "lm_head.weight")
    }
    stored = dtype or lm.dtype
    text = json_text(config_to_json(lm.config, lm.tokenizer, stored), indent=2) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    write_tensors(tensors, directory / "model.safetensors")
    lm.tokenizer.write_files(directory)


def _write_foreign(lm: "LanguageModel", directory: Path, dtype: torch.dtype) -> None:
    """A model of transformers' as transformers writes it, its names and shards included."""
    trunk = lm.get_submodule("model")
    assert isinstance(trunk, ForeignTrunk)
    whole = trunk.whole(lm.lm_head)
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in whole.state_dict().items()}
    with without_bars(import_extra("transformers", extra="transformers", what=f"{directory}")):
        whole.save_pretrained(str(directory), state_dict=state)
    lm.tokenizer.write_files(directory)


def write_trainer_state(state: dict[str, Any], directory: Path) -> None:
    """Write a nest of tensors and JSON values as `trainer.safetensors` and `trainer.json`."""
    tensors, nest = split_state(state)
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    write_tensors(tensors, directory / "trainer.safetensors")
    (directory / "trainer.json").write_text(json_text(nest) + "\n", encoding="utf-8")


def read_trainer_state(directory: Path) -> Any:
    """The inverse of `write_trainer_state`.

    :raises InputError: if the directory holds none or it is damaged.
    """
    if not (directory / "trainer.json").is_file():
        raise InputError(f"{directory}: holds no trainer state to resume from")
    nest = read_json(directory / "trainer.json")
    tensors = read_tensors(directory / "trainer.safetensors")
    try:
        return join_state(tensors, nest)
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration, RecursionError):
        raise InputError(f"{directory / 'trainer.json'}: damaged trainer state") from None


def load_trainer_state(directory: str | Path, lm: "LanguageModel") -> Any:
    """Load the weights of a checkpoint into `lm` and return its trainer state.

    Where `last` is damaged, `previous` beside it is taken, with a warning.

    :raises InputError: if the checkpoint does not exist, is damaged or is of another shape.
    """
    directory = expand(directory)

    def read(place: Path) -> "tuple[LanguageModel, Any]":
        return read_model(type(lm), place), read_trainer_state(place)

    saved, state = read_first_whole(saved_states(directory), read, must_have_manifest=True)
    if saved.config != lm.config or saved.tokenizer != lm.tokenizer:
        raise InputError(f"{directory}: is a checkpoint of another model or tokenizer")
    lm.load_state_dict(saved.state_dict())
    return state


def saved_states(directory: Path) -> list[Path]:
    """Where a training may go on from: its last checkpoint, and the one before where it stands."""
    previous = directory.with_name(PREVIOUS)
    is_kept = directory.name == LAST and holds(previous, "trainer.json")
    return [directory, previous] if is_kept else [directory]


def checkpoint_directory(path: str | Path) -> Path:
    """The model directory meant by a path: itself, or the best of a run directory's checkpoints.

    :raises InputError: if there is none.
    """
    return _model_directories(path)[0]


def _model_directories(path: str | Path) -> list[Path]:
    """The model directories that a path may mean, the best first.

    :raises InputError: if there is none.
    """
    path = model_directory(path)
    places = checkpoints_of(path, "config.json")
    if places:
        return places
    if not path.exists():
        raise InputError(
            f"{path}: no such directory; expected a checkpoint or run directory, or 'start', the "
            "model that comes along"
        )
    what = ""
    if checkpoints_of(path, AUTOENCODER):
        what = ": it holds a text autoencoder, which goes with decoder (and a latent agent)"
    elif checkpoints_of(path, LATENT_AGENT):
        what = ": it holds an agent with latent actions, for `textgym evaluate` and load_agent"
    raise InputError(
        f"{path}: holds no config.json, so it is no checkpoint of a language model{what}"
    )


def from_pretrained(
    cls: type[M],
    directory: str | Path,
    *,
    pad_token: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> M:
    """Open a checkpoint or run directory, or a GGUF file; weights are converted to `dtype`.

    A directory of an adapter of peft's gives its base with the adapter merged.
    Of a run directory the first checkpoint that is whole is taken: best, last, the one before.
    A directory of another project has no manifest; one of ours that lacks it is warned of.

    :param cls: `CausalLM`, or a subclass.
    :param pad_token: fills up rows instead of the token that the directory names.
    :raises InputError: naming the file and what is wrong with it.
    """

    def read(place: Path) -> M:
        lm = read_model(cls, place, pad_token=pad_token, dtype=dtype)
        if not (place / MANIFEST).is_file() and is_ours(read_json(place / "config.json")):
            warnings.warn(
                f"{place}: textgym saved it with a {MANIFEST}, which is gone: damage to the other "
                "files cannot be noticed; save it again to have one",
                stacklevel=5,
            )
        return lm

    file = model_directory(directory)
    if is_adapter(file):
        return _read_adapted(cls, file, pad_token, dtype)
    if is_gguf(file):
        return read_model(cls, file, pad_token=pad_token, dtype=dtype)
    return read_first_whole(_model_directories(directory), read)


def read_model(
    cls: type[M],
    directory: Path,
    *,
    pad_token: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> M:
    """The model of a directory that is known to be whole, or of a GGUF file.

    See `from_pretrained`.
    """
    source = weight_source(directory, pad_token=pad_token)
    config, tokenizer = source.config, source.tokenizer
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only "
            f"{config.vocab_size}: they do not belong together"
        )
    shapes = source.shapes()
    _check_size(config, source.room(), directory)
    if isinstance(config, ForeignConfig):
        return _read_foreign(cls, config, directory, tokenizer, dtype)
    if config.tie_word_embeddings:
        shapes["lm_head.weight"] = shapes.get("model.embed_tokens.weight", (0,))
    with torch.device("meta"):
        lm = cls(config, tokenizer)
    expected = {name: tuple(tensor.shape) for name, tensor in lm.state_dict().items()}
    _check_shapes(expected, shapes, directory)
    # Copies, which stand where torch puts tensors: products of others end in other last bits.
    tensors = {
        name: tensor.to(dtype, copy=True) for name, tensor in source.tensors() if name in expected
    }
    _check_finite(tensors, directory)
    if config.tie_word_embeddings:
        embeddings = tensors["model.embed_tokens.weight"]
        if not torch.equal(tensors.get("lm_head.weight", embeddings), embeddings):
            raise InputError(f"{directory}: {otherwise_tied(is_tied=False)}")
        tensors["lm_head.weight"] = embeddings
    lm.load_state_dict(tensors, assign=True)
    lm.finish_loading()
    return lm.requires_grad_(True).eval()


def _read_foreign(
    cls: type[M], config: ForeignConfig, directory: Path, tokenizer: "Tokenizer", dtype: torch.dtype
) -> M:
    """A model that transformers runs."""
    with torch.device("meta"):
        lm = cls(config, tokenizer)
    trunk = lm.get_submodule("model")
    assert isinstance(trunk, ForeignTrunk)
    whole = config.read(directory, dtype)
    _check_finite(whole.state_dict(), directory)  # before `take`, which compares logits
    try:
        lm.lm_head = trunk.take(whole)
    except InputError as error:
        raise InputError(f"{directory}: {error}") from None
    lm.finish_loading()
    return lm.requires_grad_(True).eval()


def _read_adapted(cls: type[M], directory: Path, pad_token: str | None, dtype: torch.dtype) -> M:
    """The base that an adapter names, with the adapter merged."""
    base = base_of(directory)
    try:
        is_other = not is_adapter(model_directory(base))
        lm = from_pretrained(cls, base, pad_token=pad_token, dtype=dtype) if is_other else None
    except InputError as error:
        raise InputError(f"{directory}: its base model: {error}") from None
    if lm is None:
        raise InputError(f"{directory}: its base model {str(base)!r:.100} is an adapter itself")
    merge_adapter(lm, directory)
    _check_finite(lm.state_dict(), directory)
    return lm


def _check_finite(tensors: dict[str, torch.Tensor], directory: Path) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{directory}: the weights {name!r} are not finite, its training diverged: take an "
                "earlier checkpoint"
            )


def _check_size(config: ModelConfig, room: int, directory: Path) -> None:
    """Refuse a model that its weights cannot fill, before anything of its size is made.

    :param room: the most weights that the files can hold.
    :raises InputError: saying what it would take.
    """
    parameters = config.parameter_count
    if parameters > room:
        raise InputError(
            f"{directory}: its configuration calls for {parameters:,} weights ("
            f"{4 * parameters / 1e6:,.1f} MB in memory), but its files hold at most {room:,}"
        )


def _check_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], directory: Path
) -> None:
    for name, shape in expected.items():
        if name == HEAD and name not in found:
            raise InputError(f"{directory}: {otherwise_tied(is_tied=True)}")
        if name not in found:
            raise InputError(
                f"{directory}: the weights lack {name!r}, which its configuration calls for"
            )
        if found[name] != shape:
            raise InputError(
                f"{directory}: {name!r} has shape {found[name]}, but its configuration calls for "
                f"{shape}"
            )
    # Old Llama checkpoints hold the rotary frequencies, which follow from config.json.
    extra = sorted(
        name for name in found.keys() - expected.keys() if not name.endswith("rotary_emb.inv_freq")
    )
    if extra:
        raise InputError(f"{directory}: unexpected weights, {extra[0]!r} among {len(extra)}")
