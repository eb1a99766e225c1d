"""The shape of an encoder with a decoder of transformers': T5, BART and their like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from textgym.errors import InputError
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.storage import read_json

_GENERATION = "generation_config.json"
_START, _FORCED = "decoder_start_token_id", "forced_bos_token_id"
_POSITIONS = (
    "max_position_embeddings",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
_ENCODER_LAYERS = ("num_encoder_layers", "encoder_layers", "num_layers")
_DEFAULT_CONTEXT = 2048  # of a family without learned positions, such as T5


@dataclass(frozen=True)
class Seq2SeqConfig(ForeignConfig):
    """An encoder that reads a prompt, and a decoder that writes the completion.

    :param content: of its `config.json`, with what `generation_config.json` says of the tokens
        that the decoder begins with.
    :raises InputError: as `ForeignConfig`, and where no token is named that the decoder begins
        with.
    """

    opener: ClassVar[str] = "AutoModelForSeq2SeqLM"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.decoder_prompt

    def _check_pair(self) -> None:
        """Raises for two models in one, and for what reads a prompt otherwise each time."""
        if isinstance(self.content.get("decoder"), dict):
            raise InputError(
                f"model_type {self.content['model_type']!r:.60} is two configurations in one, "
                "which is not supported: take a family with one, such as t5 or bart"
            )
        if self.content.get("attention_type", "original_full") != "original_full":
            raise InputError(
                'attention_type "block_sparse" looks at blocks drawn by chance, so a text has no '
                'one probability: set it to "original_full"'
            )

    @property
    def decoder_prompt(self) -> list[int]:
        """What the decoder begins with: its start token, and the one that is always written next.

        :raises InputError: for what are no tokens, or without a start token.
        """
        ids = [self._token(name) for name in (_START, _FORCED)]
        if ids[0] is None:
            raise InputError(
                f"it names no {_START}, with which the decoder begins: add it (of T5 the id of the "
                "pad token, of BART that of the eos token)"
            )
        return [i for i in ids if i is not None]

    def _token(self, name: str) -> int | None:
        found = self.content.get(name)
        is_token = isinstance(found, int) and not isinstance(found, bool)
        if found is not None and not (is_token and 0 <= found < self.vocab_size):
            raise InputError(
                f"{name} must be a token id below {self.vocab_size}, got {found!r:.60}"
            )
        return found

    @property
    def scale(self) -> float:
        """What the decoder's last hidden states are multiplied by before the head reads them."""
        is_tied = self.config.model_type == "switch_transformers" and self.tie_word_embeddings
        is_scaled = getattr(self.config, "scale_decoder_outputs", is_tied)
        return float(self.hidden_size**-0.5) if is_scaled else 1.0

    @property
    def max_position_embeddings(self) -> int:
        """The longest row, prompt and completion together: neither part can be longer then."""
        known = (getattr(self.config, name, None) for name in _POSITIONS)
        return min((int(longest) for longest in known if longest), default=_DEFAULT_CONTEXT)

    @staticmethod
    def _depths(config: Any) -> list[Any]:
        """Layers of the decoder, whose keys and values are kept, and of the encoder."""
        both = (_DECODER_LAYERS, _ENCODER_LAYERS)
        return [
            next((getattr(config, name) for name in names if hasattr(config, name)), None)
            for names in both
        ]

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the head is the table of embeddings.

        transformers says so of each T5; T5 1.1 and mT5 have heads of their own.
        """
        return self.content.get("tie_word_embeddings", True) is not False and bool(
            super().tie_word_embeddings
        )

    @classmethod
    def from_json(cls, content: dict[str, Any], path: Path) -> "Seq2SeqConfig":
        """The shape in a `config.json` and the `generation_config.json` beside it.

        As in transformers, the second one alone says what is always written where it is there.

        :param content: of the file `path`.
        :raises InputError: naming the file.
        """
        beside = path.parent / _GENERATION
        if beside.exists():
            generation = read_json(beside)
            if not isinstance(generation, dict):
                raise InputError(f"{beside}: expected a JSON object, got {generation!r:.40}")
            start = generation.get(_START, content.get(_START))
            content = {**content, _START: start, _FORCED: generation.get(_FORCED)}
        try:
            return cls(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


class FixedBiasHead(nn.Linear):
    """A head whose bias is no weight: BART's `final_logits_bias`, which training leaves as it is.

    :param weight: `[v, d]`.
    :param bias: `[v]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        vocabulary, width = weight.shape
        super().__init__(width, vocabulary, bias=False, device="meta")
        self.weight = weight
        del self.bias
        self.register_buffer("bias", bias)
