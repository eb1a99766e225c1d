"""The shape of a text variational autoencoder."""

from dataclasses import dataclass, replace
from typing import Any

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.model_size import ModelSize

ARCHITECTURES = ("lstm", "transformer")
# What is not given follows the architecture.
DEFAULTS: dict[str, dict[str, int]] = {
    "lstm": {"hidden_size": 256, "num_hidden_layers": 1},
    "transformer": {"hidden_size": 128, "num_hidden_layers": 4},
}


@dataclass(frozen=True)
class TextVAEConfig(ModelSize):
    """The shape of a text variational autoencoder, which saved files hold.

    :param architecture: of encoder and decoder, `"lstm"` or `"transformer"`.
    :param latent_size: dimensions of z.
    :param max_position_embeddings: tokens of prompt and text at most, start and stop included.
    :param mean_scale: standard deviation over texts at which the posterior means are kept (see
        `FixedScale`); 0: whatever the encoder makes of them.
    :param latent_scale: factor on z where an LSTM's decoder reads it beside its embeddings, whose
        size it has so: larger, z is noise of which the words are learned more slowly.
    :param conditional: the encoder reads the prompt too, q(z | x, y): p(y | z, x) is learned.
    :param language_model: the shape of encoder and decoder where both began as a language model's
        (`of_language_model`); None: a transformer's follows width and depth.
    """

    vocab_size: int
    architecture: str = "lstm"
    latent_size: int = 16
    hidden_size: int = 256
    num_hidden_layers: int = 1
    max_position_embeddings: int = 256
    conditional: bool = False
    mean_scale: float = 0.6
    latent_scale: float = 0.2
    language_model: CausalLMConfig | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        check_architecture(self.architecture)
        if not isinstance(self.conditional, bool):
            raise InputError(f"conditional must be True or False, got {self.conditional!r:.60}")

    @classmethod
    def filled_in(cls, **config: Any) -> "TextVAEConfig":
        """A configuration whose width and depth follow the architecture where they are not given.

        :raises InputError: for a value that makes no sense.
        """
        architecture = config.get("architecture", cls.architecture)
        check_architecture(architecture)
        return cls(**{**DEFAULTS[architecture], **config})

    @classmethod
    def of_language_model(cls, lm: CausalLMConfig, **config: Any) -> "TextVAEConfig":
        """The shape of an autoencoder whose encoder and decoder begin as a language model's.

        :param config: the other fields; the context is at most the language model's.
        """
        context = config.get("max_position_embeddings", cls.max_position_embeddings)
        check_numbers({"max_position_embeddings": context})
        context = min(context, lm.max_position_embeddings)
        return cls(
            **{
                **config,
                "architecture": "transformer",
                "vocab_size": lm.vocab_size,
                "hidden_size": lm.hidden_size,
                "num_hidden_layers": lm.num_hidden_layers,
                "max_position_embeddings": context,
                "language_model": replace(lm, max_position_embeddings=context),
            }
        )

    @property
    def transformer(self) -> CausalLMConfig:
        """The shape of a transformer's encoder and of its decoder."""
        if self.language_model is not None:
            return self.language_model
        return CausalLMConfig.filled_in(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            max_position_embeddings=self.max_position_embeddings,
        )

    @property
    def parameter_count(self) -> int:
        """Weights at least: the tables, and the matrices of every layer."""
        block = 8 * self.hidden_size**2
        return 2 * (self.vocab_size * self.hidden_size + self.num_hidden_layers * block)


def check_architecture(architecture: object) -> None:
    """Raises unless there is such a trunk.

    :raises InputError: naming those that there are.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r:.60}"
        )
