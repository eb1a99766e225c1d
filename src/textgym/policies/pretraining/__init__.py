"""Next-token training: from documents to batches, and the loop.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.policies.pretraining.documents import Document, pair_documents, text_documents
    from textgym.policies.pretraining.loop import TrainingReport, train_language_model
    from textgym.policies.pretraining.objective import Objective, batch_loss, heldout_loss

__all__ = [
    "Document",
    "Objective",
    "TrainingReport",
    "batch_loss",
    "heldout_loss",
    "pair_documents",
    "text_documents",
    "train_language_model",
]

_MODULES = {
    "Document": "documents",
    "Objective": "objective",
    "TrainingReport": "loop",
    "batch_loss": "objective",
    "heldout_loss": "objective",
    "pair_documents": "documents",
    "text_documents": "documents",
    "train_language_model": "loop",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
