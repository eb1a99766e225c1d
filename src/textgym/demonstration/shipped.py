"""What comes along for a language model that does not: fine-tuning and reward model, on its base.

Both are small beside the base: an adapter, and a head on its first layers. They fit one set of
weights alone, so a directory of them holds the digest of its base's weights, and its manifest the
SHA-256 of every file. `recipes/smollm2_demo.py` makes it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.demonstration.reward import (
    BOTH,
    LAYERS,
    NAME,
    NGRAMS,
    Crowd,
    CrowdReport,
)
from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.manifest import verify_directory
from textgym.policies.language_model.adapters import (
    LoRA,
    add_adapter,
    load_adapter_state,
    read_adapter,
    write_adapter,
)
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.shallow import first_layers
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.saved_fields import SavedFields
from textgym.storage import read_json, write_json_atomically
from textgym.tensor_files import read_tensors, tensor_shapes, write_tensors

HERE = Path(__file__).parent
FOLDERS = {"smollm2": HERE / "smollm2"}  # by the names that `textgym fetch` knows
BASE, ADAPTER, REWARD, HEAD = "base.json", "fine_tuned", "reward.json", "head.safetensors"


@dataclass(frozen=True)
class Shipped:
    """The directory of what comes along for one base.

    :param directory: of files that are as its manifest says.
    """

    directory: Path

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The directory, once every file is compared with its sum.

        :raises InputError: naming the first that is missing or damaged.
        """
        verify_directory(directory, must_have_manifest=True)
        return cls(directory)

    @property
    def base(self) -> str:
        """The digest of the base's weights."""
        return self._fields(BASE).text("weights")

    def fine_tuned(self, base: LanguageModel) -> LanguageModel:
        """The base with the adapter of the fine-tuning, merged; the base is as it was.

        :raises InputError: without the extra `lora`.
        """
        fields = self._fields(f"{ADAPTER}/adapter_config.json")
        lm = base.trainable_copy()
        add_adapter(lm, LoRA(fields.whole("r", 1, 1024), fields.number("lora_alpha")), seed=0)
        state = read_adapter(lm, self.directory / ADAPTER)
        load_adapter_state(lm, {name: weight.float() for name, weight in state.items()})
        return lm.merged()

    def crowd(self, base: LanguageModel) -> Crowd:
        """The reward model on the base's first layers, with the figures of its fit.

        :raises InputError: if the head does not fit.
        """
        fields = self._fields(REWARD)
        trunk = BradleyTerryRewardModel(
            first_layers(base, fields.number("layers", above=0)),
            mean=fields.number("mean"),
            std=fields.number("std", above=0),
            name=NAME,
        )
        head = read_tensors(self.directory / HEAD)
        own = {"weight": trunk.head_weight, "bias": trunk.head_bias}
        if tensor_shapes(self.directory / HEAD) != {k: tuple(v.shape) for k, v in own.items()}:
            raise InputError(f"{self.directory / HEAD}: no head for a trunk of this size")
        with torch.no_grad():
            for name, part in own.items():
                part.copy_(head[name])
        figures = fields.table("figures")
        report = CrowdReport(
            figures.text("used"),
            _numbers(figures.table("chosen_on")),
            figures.number("pair_accuracy"),
            _numbers(figures.table("accuracies")),
            None,
        )
        if report.used != BOTH:
            return Crowd(trunk, report)
        whole = fields.table("ensemble")
        mean, std = whole.number("mean"), whole.number("std", above=0)
        return Crowd(Ensemble([trunk, crowd()], mean=mean, std=std, name=NAME), report)

    def _fields(self, name: str) -> SavedFields:
        return SavedFields(read_json(self.directory / name), self.directory / name)


def shipped_for(lm: LanguageModel, name: str) -> Shipped | None:
    """What comes along for a model; None where nothing does.

    :param name: as the user gave it.
    :raises InputError: if a file is damaged, or the model is not the one of that name.
    """
    for known, directory in FOLDERS.items():
        if not directory.is_dir() or (name != known and not _may_be(lm, directory)):
            continue
        shipped = Shipped.open(directory)
        if weights_digest(lm) == shipped.base:
            return shipped
        if name == known:
            raise InputError(
                f"policy {name!r}: its weights are not those that the adapters of the demo belong "
                f"to ({directory / BASE}); fetch it again (textgym fetch {name}), or give "
                "--from-scratch, which makes adapters of its own"
            )
    return None


def _may_be(lm: LanguageModel, directory: Path) -> bool:
    """Whether a model has the shape of a directory's base, so that its weights are worth a look."""
    fields = SavedFields(read_json(directory / BASE), directory / BASE)
    shape = (lm.config.hidden_size, lm.config.vocab_size)
    return shape == (fields.whole("hidden_size"), fields.whole("vocab_size"))


def weights_digest(lm: LanguageModel) -> str:
    """SHA-256, in hexadecimal digits, of a model's weights as bfloat16, by name.

    So a model that was fetched as bfloat16 is the same as one in float32.
    """
    found = hashlib.sha256()
    for name, weight in sorted(lm.state_dict().items()):
        if name == "lm_head.weight" and weight is not None and _is_tied(lm):
            continue
        found.update(name.encode("utf-8"))
        found.update(weight.to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().data)
    return found.hexdigest()


def write_shipped(
    directory: Path,
    base: LanguageModel,
    tuned: LanguageModel,
    crowd: Crowd,
    card: str,
) -> None:
    """Write a directory of what comes along, for `Shipped` to open.

    :param tuned: the base with the adapter of the fine-tuning.
    :param crowd: on the base's first layers, with or without n-grams.
    :param card: its README.
    :raises InputError: for n-grams alone.
    :raises StorageError: if it cannot be written.
    """
    model = crowd.model
    trunk = model.members[0] if isinstance(model, Ensemble) else model
    if not isinstance(trunk, BradleyTerryRewardModel):
        raise InputError(f"the reward model is {crowd.report.used}: none of it is on the base")
    scale: dict[str, Any] = {"layers": LAYERS, "mean": trunk.mean, "std": trunk.std}
    if isinstance(model, Ensemble):
        scale["ensemble"] = {"mean": model.mean, "std": model.std}
    with atomic_directory(directory) as folder:
        (folder / ADAPTER).mkdir()
        write_adapter(tuned, folder / ADAPTER)
        file = folder / ADAPTER / "adapter_model.safetensors"
        write_tensors({k: v.to(torch.float16) for k, v in read_tensors(file).items()}, file)
        head: Mapping[str, Tensor] = {"weight": trunk.head_weight, "bias": trunk.head_bias}
        write_tensors({k: v.detach().cpu().contiguous() for k, v in head.items()}, folder / HEAD)
        figures = crowd.report.figures()
        figures.pop("fit")
        write_json_atomically(folder / REWARD, {**scale, "figures": figures})
        shape = {"hidden_size": base.config.hidden_size, "vocab_size": base.config.vocab_size}
        write_json_atomically(folder / BASE, {"weights": weights_digest(base), **shape})
        (folder / "README.md").write_text(card, encoding="utf-8")


def _is_tied(lm: LanguageModel) -> bool:
    return bool(getattr(lm.config, "tie_word_embeddings", False))


def _numbers(fields: SavedFields) -> dict[str, float]:
    return {name: fields.number(name) for name in (BOTH, "trunk", NGRAMS) if fields.has(name)}
