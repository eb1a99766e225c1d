"""What a model's shape says of its size: weights, and whether they fit this machine's memory."""

from abc import ABC, abstractmethod
from typing import ClassVar

from textgym.checks import check_memory


class ModelSize(ABC):
    """A shape with `vocab_size`, `hidden_size` and `num_hidden_layers`."""

    what: ClassVar[str] = "a model"  # in errors
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """Weights of the model, norms and biases aside."""

    def check_memory(self, copies: int = 1) -> None:
        """Raises where the weights in float32 exceed this machine's memory.

        :param copies: how often they are held; 4 while training (gradients, two moments).
        :raises InputError: saying how much they take.
        """
        check_memory(
            4 * copies * self.parameter_count,
            f"{self.what} with vocab_size={self.vocab_size}, hidden_size={self.hidden_size}, "
            f"num_hidden_layers={self.num_hidden_layers}",
            "take a smaller one",
        )
