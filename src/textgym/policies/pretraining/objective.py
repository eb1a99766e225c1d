"""What the training loop minimises, and how the model is kept: next tokens, or another bound."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from textgym.directories import atomic_directory
from textgym.paths import expand
from textgym.policies.language_model.adapters import (
    ADAPTER,
    adapter_state,
    load_adapter_state,
    read_adapter,
    write_adapter,
)
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import (
    load_trainer_state,
    save_pretrained,
    write_model,
    write_trainer_state,
)
from textgym.policies.language_model.chunks import in_chunks
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import Batch, Document, collate


class Objective(ABC):
    """A model with its loss, its figures on held-out documents, and its checkpoints.

    `model` is what learns, in place.
    """

    model: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @abstractmethod
    def set_dropout(self, share: float) -> None:
        """What is dropped in training mode, from 0 (none) to below 1."""

    def collate(self, documents: Sequence[Document]) -> Batch:
        """A batch of documents."""
        return collate(documents)

    @abstractmethod
    def loss(self, batch: Batch, progress: float, generator: torch.Generator) -> Tensor:
        """Nats, summed over the learned tokens of a batch (a scalar, float32, with a graph).

        :param progress: share of the training that is done, 0 to 1.
        :param generator: of what the loss draws, on the CPU; the same one for the same step.
        """

    @abstractmethod
    def heldout(self, documents: Sequence[Document], progress: float) -> dict[str, float]:
        """Figures on held-out documents; the lowest `heldout_loss`, nats per token, is best."""

    @abstractmethod
    def save(
        self, directory: Path, trainer_state: dict[str, Any] | None, keep_old_as: str | None
    ) -> None:
        """Write a checkpoint atomically.

        :raises StorageError: if it cannot be written.
        """

    @abstractmethod
    def load(self, directory: Path) -> Any:
        """Take up the weights of a checkpoint; returns its trainer state.

        :raises InputError: if there is none, it is damaged, or of another model.
        """

    @abstractmethod
    def weights(self, directory: Path) -> dict[str, Tensor]:
        """The weights of a checkpoint, which are not taken up.

        :raises InputError: as `load`.
        """


class NextTokens(Objective):
    """The cross-entropy of a language model."""

    def __init__(self, lm: LanguageModel) -> None:
        self.model = self.lm = lm

    def set_dropout(self, share: float) -> None:
        """See `Objective`."""
        self.lm.drop = share

    def loss(self, batch: Batch, progress: float, generator: torch.Generator) -> Tensor:
        """See `Objective`; neither progress nor the generator matters."""
        return batch_loss(self.lm, batch)

    def heldout(self, documents: Sequence[Document], progress: float) -> dict[str, float]:
        """The held-out loss alone."""
        return {"heldout_loss": heldout_loss(self.lm, documents)}

    def save(
        self, directory: Path, trainer_state: dict[str, Any] | None, keep_old_as: str | None
    ) -> None:
        """See `Objective`; with an adapter the model is the merged one, and the adapter apart."""
        if self.lm.adapter is None:
            state = trainer_state
            save_pretrained(self.lm, directory, trainer_state=state, keep_old_as=keep_old_as)
            return
        with atomic_directory(expand(directory), keep_old_as=keep_old_as) as temporary:
            write_model(self.lm.merged(), temporary)
            (temporary / ADAPTER).mkdir()
            write_adapter(self.lm, temporary / ADAPTER)
            if trainer_state is not None:
                write_trainer_state({**trainer_state, ADAPTER: adapter_state(self.lm)}, temporary)

    def load(self, directory: Path) -> Any:
        """See `Objective`."""
        state = load_trainer_state(directory, self.lm.merged())
        if self.lm.adapter is not None:
            saved = state.get(ADAPTER) if isinstance(state, dict) else None
            load_adapter_state(self.lm, saved if isinstance(saved, dict) else {})
        return state

    def weights(self, directory: Path) -> dict[str, Tensor]:
        """See `Objective`."""
        if self.lm.adapter is None:
            return CausalLM.from_pretrained(directory).state_dict()
        return {**self.lm.state_dict(), **read_adapter(self.lm, directory / ADAPTER)}


def batch_loss(lm: LanguageModel, batch: Batch) -> Tensor:
    """Summed cross-entropy in nats over the learned tokens of a batch (a scalar, float32)."""
    hidden = lm.packed(batch.tokens, batch.lengths)[batch.source]

    def of_rows(rows: Tensor, part: slice) -> tuple[Tensor]:
        logits = lm.lm_head(rows).float()
        return (cross_entropy(logits, batch.targets[part], reduction="sum")[None],)

    return in_chunks(of_rows, hidden, lm.config.vocab_size)[0].sum()


@torch.no_grad()
def heldout_loss(
    lm: LanguageModel, documents: Sequence[Document], *, batch_size: int = 64
) -> float:
    """Mean nats per learned token on held-out documents."""
    was_training = lm.training
    lm.eval()
    total, count = 0.0, 0
    for batch in heldout_batches(documents, batch_size):
        total += float(batch_loss(lm, batch.to(lm.device)))
        count += len(batch.source)
    lm.train(was_training)
    return total / max(count, 1)


def heldout_batches(
    documents: Sequence[Document],
    batch_size: int,
    collate: Callable[[Sequence[Document]], Batch] = collate,
) -> list[Batch]:
    """Batches of held-out documents, the shortest first."""
    ordered = sorted(documents, key=lambda document: len(document.tokens))
    starts = range(0, len(ordered), batch_size)
    return [collate(ordered[start : start + batch_size]) for start in starts]
