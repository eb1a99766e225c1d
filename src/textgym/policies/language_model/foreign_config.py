"""The shape of a model of transformers' that our decoder cannot be: its own `config.json`.

Needs the extra `transformers`. Nothing of a checkpoint's own code is run, and nothing is fetched.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.policies.language_model.model_size import ModelSize
from textgym.policies.language_model.transformers_config import check_not_quantized, otherwise_tied
from textgym.transformers_files import read_model

_NO_SHAPE = ("model_type", "written_by", "attn_implementation")
_MOST_LAYERS = 1024
_WINDOWS = ("sliding_window", "window_size", "attention_window")
_FLOAT, _NO_NUMBERS = "__float__", ("Infinity", "-Infinity", "NaN")  # JSON has none of these
_DEFAULT_CONTEXT = 2048  # of a model without learned positions whose config.json names none


def _with_floats(value: Any) -> Any:
    """A value of a `config.json` with the infinities that transformers writes as objects."""
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {_FLOAT} and value[_FLOAT] in _NO_NUMBERS:
            return float(value[_FLOAT])
        return {key: _with_floats(item) for key, item in value.items()}
    return value


def _head_names(model: Any) -> set[str]:
    """What transformers calls the weights of a model's head."""
    weight = model.get_output_embeddings().weight
    return {name for name, parameter in model.named_parameters() if parameter is weight}


@dataclass(frozen=True)
class ForeignConfig(ModelSize):
    """A causal model of transformers', by the content of its `config.json`.

    :param content: as JSON has it.
    :raises InputError: for a family that transformers does not have either, code of a checkpoint's
        own, quantized weights, or a head that is no linear layer.
    """

    what: ClassVar[str] = "a model"
    opener: ClassVar[str] = "AutoModelForCausalLM"
    content: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        _ = self.sizes

    def __deepcopy__(self, memo: Any) -> "ForeignConfig":
        """Itself: nothing of it changes."""
        return self

    def __reduce__(self) -> Any:
        """By its content: transformers' objects are made again."""
        return type(self), (self.content,)

    @cached_property
    def config(self) -> Any:
        """transformers' own configuration."""
        kind = self.content.get("model_type")
        if not isinstance(kind, str):
            raise InputError(f"model_type {kind!r:.60} is not supported: expected a family's name")
        if self.content.get("auto_map"):
            raise InputError(
                "config.json names code of its own (auto_map), which is never run: take a model "
                "of a family that transformers has"
            )
        check_not_quantized(self.content)
        transformers = import_extra(
            "transformers", extra="transformers", what=f"a model of the family {kind!r:.60}"
        )
        models = import_extra(
            "transformers.models.auto.modeling_auto", extra="transformers", what="this model"
        )
        is_pair = self.content.get("is_encoder_decoder") is not False
        if is_pair and kind in models.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            self._check_pair()
        elif kind not in models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise InputError(
                f"model_type {kind!r:.60} is not supported: neither our decoder nor transformers "
                f"{transformers.__version__} has a language model of that family"
            )
        # Keys with an underscore choose code (kernels of attention), not a shape.
        known = {
            k: _with_floats(v)
            for k, v in self.content.items()
            if k[:1] != "_" and k not in _NO_SHAPE
        }
        try:
            config = transformers.AutoConfig.for_model(kind, **known)
            depths = self._depths(config)
        except Exception as error:  # each family checks its keys in its own way
            reason = " ".join(str(error).split())
            raise InputError(f"transformers cannot read it ({reason:.200})") from None
        for layers in depths:
            is_whole = isinstance(layers, int) and not isinstance(layers, bool)
            if not is_whole or not 0 < layers <= _MOST_LAYERS:
                raise InputError(f"expected from 1 to {_MOST_LAYERS} layers, got {layers!r:.60}")
        return config

    def _check_pair(self) -> None:
        """Raises for a family of encoders with decoders."""
        raise InputError(
            f"model_type {self.content['model_type']!r:.60} is an encoder with a decoder, but "
            'is_encoder_decoder is not true: add "is_encoder_decoder": true'
        )

    def build(self) -> Any:
        """transformers' whole model on the meta device: its shape, without memory for weights."""
        extra, what, config = "transformers", "this model", self.config
        transformers = import_extra("transformers", extra=extra, what=what)
        initialization = import_extra("transformers.initialization", extra=extra, what=what)
        try:
            with torch.device("meta"), initialization.no_init_weights():
                model = getattr(transformers, self.opener).from_config(config).eval()
                model.base_model.get_input_embeddings()  # decoders of pairs have none to ask for
                return model
        except Exception as error:  # each family checks its sizes in its own way
            reason = " ".join(str(error).split())
            raise InputError(f"transformers cannot make such a model ({reason:.200})") from None

    @cached_property
    def sizes(self) -> dict[str, Any]:
        """What is asked of a model's shape, read off the model itself.

        :raises InputError: for a head that is no linear layer.
        """
        model = self.build()
        head = model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear):
            raise InputError(
                f"model_type {self.content.get('model_type')!r:.60} has a head that is no linear "
                f"layer ({type(head).__name__}), which is not supported"
            )
        weights = {id(p): p.numel() for p in model.parameters()}
        if self.tie_word_embeddings:  # on the meta device the two may still be apart
            weights.pop(id(head.weight), None)
            weights[id(model.get_input_embeddings().weight)] = head.weight.numel()
        return {
            "vocab_size": head.out_features,
            "hidden_size": head.in_features,
            "has_bias": head.bias is not None,
            "has_fixed_bias": hasattr(model, "final_logits_bias"),
            "parameters": sum(weights.values()),
        }

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        """Rows of the head."""
        return int(self.sizes["vocab_size"])

    @property
    def hidden_size(self) -> int:  # type: ignore[override]
        """Width of what the head reads."""
        return int(self.sizes["hidden_size"])

    @property
    def num_hidden_layers(self) -> int:  # type: ignore[override]
        """Blocks, one after the other."""
        return int(self._depths(self.config)[0])

    @staticmethod
    def _depths(config: Any) -> list[Any]:
        """How many layers stand one after the other."""
        return [config.num_hidden_layers]

    @property
    def max_position_embeddings(self) -> int:
        """The longest row; inside one window local attention is plain attention."""
        longest = getattr(self.config, "max_position_embeddings", None) or _DEFAULT_CONTEXT
        windows = [getattr(self.config, name, None) or longest for name in _WINDOWS]
        return int(min(longest, *windows))

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the head is the table of embeddings."""
        return bool(getattr(self.config, "tie_word_embeddings", False))

    @property
    def parameter_count(self) -> int:
        """All weights."""
        return int(self.sizes["parameters"])

    @classmethod
    def from_json(cls, content: dict[str, Any], path: Path) -> "ForeignConfig":
        """The shape in a `config.json`.

        :param content: of the file `path`.
        :raises InputError: naming the file.
        """
        try:
            return cls(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def read(self, directory: Path, dtype: torch.dtype) -> Any:
        """transformers' whole model with the weights of a directory.

        :raises InputError: naming the directory and what is wrong with it.
        """
        more = {
            "config": self.config,
            "dtype": dtype,
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,  # they are told of, and refused below
        }
        model, told = read_model(self.opener, directory, what=f"{directory}", **more)
        for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if told[kind] and kind == "mismatched_keys":
                name, found, expected = min(told[kind])
                raise InputError(
                    f"{directory}: {name!r:.100} has shape {tuple(found)}, but its configuration "
                    f"calls for {tuple(expected)}"
                )
            if kind == "missing_keys" and set(told[kind]) == _head_names(model):
                raise InputError(f"{directory}: {otherwise_tied(is_tied=True)}")
            if told[kind]:
                first = min(map(str, told[kind]))
                what = kind.replace("_keys", "")
                count = len(told[kind])
                raise InputError(f"{directory}: {what} weights, {first:.100} among {count}")
        return model.eval()
