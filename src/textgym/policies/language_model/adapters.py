"""LoRA and DoRA: small matrices beside frozen ones, of the library peft, on any language model.

Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models"; Liu et al. (2024), "DoRA:
Weight-Decomposed Low-Rank Adaptation". A linear layer W becomes W + (alpha / rank) B A, of which
only A and B learn; B begins at zero, so the model is at first the one that it was. Without its
adapter a model is the reference of the KL term: the same weights in memory, no second copy.

peft is imported where an adapter is made or written, and nowhere else.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from textgym.policies.language_model.language_model import LanguageModel

M = TypeVar("M", bound="LanguageModel")
ALL_LINEAR = "all-linear"
ADAPTER = "adapter"  # the folder of a checkpoint that holds one alone
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Kernels of these families read the layer's weights past its adapter, so peft refuses it there.
_PASSED_BY = "out_proj"
_WITH_KERNELS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_NAME, PREFIX = "default", "base_model.model."  # peft's: of the one adapter, and in its files


@dataclass(frozen=True)
class LoRA:
    """The shape of an adapter.

    :param rank: columns of B and rows of A.
    :param alpha: what B A is multiplied by, times the rank.
    :param targets: names of the linear layers that get one, or `"all-linear"`: all but the head.
    :param use_dora: the direction and the length of a weight's rows learn apart.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = (ALL_LINEAR,)
    use_dora: bool = False

    @classmethod
    def of(
        cls,
        lora_rank: int | None,
        lora_alpha: float | None = None,
        lora_targets: str = ALL_LINEAR,
        use_dora: bool = False,
    ) -> "LoRA | None":
        """From the keywords that users give; None without a rank.

        :raises InputError: for the other keywords without a rank, or values that make no sense.
        """
        check_numbers({"lora_rank": lora_rank, "lora_alpha": lora_alpha})
        if not isinstance(use_dora, bool):
            raise InputError(f"use_dora must be True or False, got {use_dora!r:.60}")
        if not isinstance(lora_targets, str) or not lora_targets.strip(" ,"):
            raise InputError(
                "lora_targets must be 'all-linear' or names of layers with commas between, such "
                f"as 'q_proj,v_proj', got {lora_targets!r:.60}"
            )
        if lora_rank is None:
            if lora_alpha is not None or lora_targets != ALL_LINEAR or use_dora:
                raise InputError(
                    "lora_alpha, lora_targets and use_dora are of an adapter: give lora_rank too, "
                    "16 say, or leave them out"
                )
            return None
        names = tuple(name.strip() for name in lora_targets.split(",") if name.strip())
        alpha = 2.0 * lora_rank if lora_alpha is None else float(lora_alpha)
        return cls(int(lora_rank), alpha, names, use_dora)

    def config(self, *, is_turned: bool) -> Any:
        """peft's own `LoraConfig`.

        :param is_turned: the layers are GPT-2's `Conv1D`, whose weights stand the other way.
        :raises InputError: if peft is not installed.
        """
        peft = import_extra("peft", extra="lora", what="lora_rank")
        return peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets),
            use_dora=self.use_dora,
            lora_dropout=0.0,
            bias="none",
            fan_in_fan_out=is_turned,
        )


def add_adapter(lm: "LanguageModel", lora: LoRA, *, seed: int) -> None:
    """Give a model an adapter, in place; from then on nothing else of it learns.

    :param seed: of what A is drawn from; the global generator is as it was afterwards.
    :raises InputError: if the targets match no linear layer, naming those that there are.
    """
    targets = _targets(lm, lora.targets)
    lora = LoRA(lora.rank, lora.alpha, targets, lora.use_dora)
    inject = import_extra("peft", extra="lora", what="lora_rank").inject_adapter_in_model
    lm.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject(lora.config(is_turned=_has_turned_layers(lm)), lm)
    for name, weight in lm.named_parameters():
        if is_of_adapter(name):  # steps of an optimizer are below what bfloat16 can tell apart
            weight.data = weight.data.float()
    lm.adapter = lora


def _targets(lm: "LanguageModel", wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The last parts of the names of the layers that are meant."""
    known: dict[str, None] = {}  # a set that keeps the order
    for name, module in lm.named_modules():
        if is_linear(module) and module is not lm.lm_head:
            known[name.rpartition(".")[2]] = None
    family = getattr(lm.config, "content", {}).get("model_type")
    if family in _WITH_KERNELS and _PASSED_BY in known:
        del known[_PASSED_BY]
        if _PASSED_BY in wanted:
            raise InputError(
                f"lora_targets: {_PASSED_BY!r} of a {family} model takes no adapter, which its "
                f"kernels would pass by; there are: {', '.join(known)}"
            )
    if wanted == (ALL_LINEAR,) and known:
        return tuple(known)
    if not known:
        raise InputError("lora_rank: the model has no linear layers, so it takes no adapter")
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(
            f"lora_targets: no linear layer of the model is called {unknown[0]!r}; there are: "
            f"{', '.join(known)}"
        )
    return wanted


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is a matrix and perhaps a bias: torch's `Linear`, or GPT-2's `Conv1D`."""
    return isinstance(layer, nn.Linear) or is_turned(layer)


def is_turned(layer: nn.Module) -> bool:
    """Whether a layer's weight is `[in, out]`, as that of transformers' `Conv1D`."""
    return type(layer).__name__ == "Conv1D"


def _has_turned_layers(lm: "LanguageModel") -> bool:
    """Whether a model's linear layers are GPT-2's, with or without an adapter."""
    return any(is_turned(module) for module in lm.modules())


def adapter_layers(lm: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of peft in a model, by name."""
    for name, module in lm.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def without_adapter(lm: M) -> M:
    """The same model with its adapter off: another object on the very same weights, frozen."""
    view = copy.deepcopy(lm, {id(weight): weight for weight in lm.parameters()})
    for name, layer in list(adapter_layers(view)):
        view.set_submodule(name, layer.base_layer)
    view.adapter = None
    vars(view).pop("peft_config", None)
    return view.eval()


def merged(lm: M) -> M:
    """A model of the same kind whose weights hold the adapter; the others are those of `lm`."""
    view = without_adapter(lm)
    for name, layer in adapter_layers(lm):
        own = copy.deepcopy(layer)
        own.merge()
        view.set_submodule(name, own.base_layer)
    return view


def copy_on_same_base(lm: M) -> M:
    """A copy with an adapter of its own; the weights under it, which never change, are shared."""
    base = {id(weight): weight for weight in without_adapter(lm).parameters()}
    return copy.deepcopy(lm, base)


def adapter_state(lm: "LanguageModel") -> dict[str, Tensor]:
    """The weights of an adapter by their names in the model's own `state_dict`."""
    return {name: weight for name, weight in lm.state_dict().items() if is_of_adapter(name)}


def is_of_adapter(name: str) -> bool:
    """Whether a weight's name in a `state_dict` is one of an adapter's."""
    return ".lora_" in name


def load_adapter_state(lm: "LanguageModel", state: Mapping[str, Tensor]) -> None:
    """Take up the weights of `adapter_state`.

    :raises InputError: if they belong to another adapter.
    """
    own = adapter_state(lm)
    if {name: weight.shape for name, weight in own.items()} != {
        name: getattr(weight, "shape", None) for name, weight in state.items()
    }:
        raise InputError("the saved adapter is of another shape than the one asked for")
    lm.load_state_dict(dict(state), strict=False)


def write_adapter(lm: "LanguageModel", directory: Path) -> None:
    """Write an adapter alone as peft has it, into a directory that stands already.

    `peft.PeftModel.from_pretrained(model, directory)` puts it on transformers' model of the base.
    """
    assert lm.adapter is not None
    config = lm.adapter.config(is_turned=_has_turned_layers(lm))
    config.task_type = "SEQ_2_SEQ_LM" if lm.tokenizer.ends_prompts else "CAUSAL_LM"
    config.inference_mode = True
    config.save_pretrained(directory)
    files = {_in_file(lm, name): weight for name, weight in adapter_state(lm).items()}
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in files.items()}
    write_tensors(tensors, directory / ADAPTER_WEIGHTS)


def read_adapter(lm: "LanguageModel", directory: Path) -> dict[str, Tensor]:
    """What `write_adapter` wrote, by the names of the model's own `state_dict`.

    :raises InputError: if it is damaged or of another adapter.
    """
    files = read_tensors(directory / ADAPTER_WEIGHTS)
    names = list(adapter_state(lm))
    if {_in_file(lm, name) for name in names} != files.keys():
        raise InputError(f"{directory}: holds another adapter than the one asked for")
    return {name: files[_in_file(lm, name)] for name in names}


def _in_file(lm: "LanguageModel", name: str) -> str:
    """A weight's name as peft writes it: after its own wrapper's, and without the adapter's."""
    name = lm.name_in_transformers(name)
    return PREFIX + name.replace(f".{_NAME}.", ".").removesuffix(f".{_NAME}")
