"""The shape of a recurrent language model, and its `config.json`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model.model_size import ModelSize
from textgym.saved_fields import SavedFields

MODEL_TYPE = "textgym_lstm"
_FIELDS = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings")


@dataclass(frozen=True)
class LSTMConfig(ModelSize):
    """Layers of long short-term memory over embeddings of their width, each behind an RMSNorm.

    :param max_position_embeddings: the longest row that it reads; its state itself has no limit.
    :param tie_word_embeddings: whether the head is the table of embeddings.
    """

    what: ClassVar[str] = "an lstm"
    vocab_size: int
    hidden_size: int = 128
    num_hidden_layers: int = 2
    max_position_embeddings: int = 256
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if not isinstance(self.tie_word_embeddings, bool):
            raise InputError(
                f"tie_word_embeddings must be True or False, got {self.tie_word_embeddings!r:.60}"
            )

    @classmethod
    def filled_in(cls, **config: Any) -> "LSTMConfig":
        """A configuration from some of its fields.

        :raises InputError: for a field that only a transformer has.
        """
        known = [field.name for field in fields(cls)]
        for name in config:
            if name not in known:
                raise InputError(f"{name} is no field of an lstm, which has {', '.join(known)}")
        return cls(**config)

    @property
    def parameter_count(self) -> int:
        """Weights of the model, but for norms and biases."""
        tables = 1 if self.tie_word_embeddings else 2
        layer = 8 * self.hidden_size**2
        return tables * self.vocab_size * self.hidden_size + self.num_hidden_layers * layer

    def to_json(self) -> dict[str, Any]:
        """What `config.json` says of the shape."""
        return {"model_type": MODEL_TYPE, "architectures": ["TextgymLSTM"], **vars(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any], path: Path) -> "LSTMConfig":
        """The inverse of `to_json`.

        :param content: of the file `path`.
        :raises InputError: naming the file and the key.
        """
        fields = SavedFields(content, path)
        sizes = {name: fields.whole(name, 1) for name in _FIELDS}
        eps, tie = fields.number("rms_norm_eps", above=0), fields.flag("tie_word_embeddings")
        try:
            return cls(**sizes, rms_norm_eps=eps, tie_word_embeddings=tie)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def is_lstm(content: Any) -> bool:
    """Whether a `config.json` is that of a recurrent model, which transformers has no class for."""
    return isinstance(content, dict) and content.get("model_type") == MODEL_TYPE
