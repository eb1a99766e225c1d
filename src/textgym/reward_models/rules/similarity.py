"""Similarity of meaning: the cosine between two sentences' embeddings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from textgym.errors import InputError
from textgym.paths import expand
from textgym.reward_models.rules.columns import check_texts, column_values, needed, texts_of
from textgym.reward_models.rules.transformers_reader import open_pretrained

BATCH = 32  # texts that are encoded at once


class SentenceEncoder:
    """Embeddings of texts by an encoder of transformers', from a directory.

    The mean of the last hidden states over a text's tokens, or the first token's where the
    directory's `1_Pooling/config.json` (of sentence-transformers) says so. A text longer than the
    encoder's context is cut. Padding changes an embedding by some 1e-6.

    :param directory: of the model and its tokenizer; only it is read.
    :param device: where it computes.
    :raises InputError: without transformers, or for a directory that it cannot open.
    """

    def __init__(self, directory: str | Path, *, device: str = "cpu") -> None:
        self._model, self._tokenizer = open_pretrained(
            directory, "AutoModel", what="a sentence encoder of transformers"
        )
        self._model.to(device)
        self.is_first_token = _pools_first_token(expand(directory))
        limits = (
            self._tokenizer.model_max_length,
            getattr(self._model.config, "max_position_embeddings", None) or 512,
        )
        self.max_length = int(min(limits))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [b, d], of length 1 each."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        result = np.zeros((len(texts), int(self._model.config.hidden_size)), np.float32)
        for first in range(0, len(order), BATCH):
            places = order[first : first + BATCH]
            result[places] = self._encode([texts[place] for place in places])
        return result

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        encoded = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(self._model.device)
        hidden = self._model(**encoded).last_hidden_state
        if self.is_first_token:
            pooled = hidden[:, 0]
        else:
            mask = encoded["attention_mask"][..., None].to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        rows: npt.NDArray[np.float32] = normalize(pooled, dim=-1).float().cpu().numpy()
        return rows


class Similarity:
    """The cosine of a completion's embedding and its reference's, in [-1, 1].

    Of several references the most similar counts. A completion without a word gets 0. What counts
    as similar is the encoder's opinion; topic weighs more than truth ("it was good" and "it was not
    good" are near).

    :param model: the directory of an encoder, or anything that maps a list of texts to rows of
        length 1 (`SentenceEncoder`).
    :param reference: one for all rows, or several; None: as `column` says.
    :param column: the column that holds it, a text or a list of texts; "prompts": the prompt.
    :raises InputError: without transformers, for a directory that it cannot open, or a blank
        reference.
    """

    name = "similarity"

    def __init__(
        self,
        model: str | Path | SentenceEncoder,
        *,
        reference: str | Sequence[str] | None = None,
        column: str = "reference",
    ) -> None:
        self.column = column
        try:
            self._fixed = None if reference is None else texts_of(reference)
        except ValueError as error:
            raise InputError(f"similarity: got the reference {reference!r:.60}: {error}") from None
        self.encoder = SentenceEncoder(model) if isinstance(model, str | Path) else model

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The column, where nothing is given for all rows."""
        return needed(self.column, self._fixed)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [-1, 1] per completion.

        :raises RewardError: naming the prompt, if a reference is missing or of the wrong type.
        """
        check_texts(self.name, prompts, completions)
        wanted = column_values(
            self.name,
            prompts,
            completions,
            columns,
            self.column,
            texts_of,
            fixed=self._fixed,
            instead="reference",
        )
        texts = list(dict.fromkeys([*completions, *(t for texts in wanted for t in texts)]))
        rows = dict(zip(texts, np.asarray(self.encoder(texts), np.float64), strict=True))
        return [
            _best(rows[text], [rows[t] for t in references]) if text.strip() else 0.0
            for text, references in zip(completions, wanted, strict=True)
        ]


def _best(row: npt.NDArray[np.float64], others: list[npt.NDArray[np.float64]]) -> float:
    return float(np.clip(max(row @ other for other in others), -1.0, 1.0))


def _pools_first_token(directory: Path) -> bool:
    """Whether sentence-transformers' settings say so.

    :raises InputError: for a way of pooling that is neither this nor the mean.
    """
    path = directory / "1_Pooling" / "config.json"
    if not path.is_file():
        return False
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        chosen = {key for key, value in settings.items() if value is True}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    chosen = {key.removeprefix("pooling_mode_") for key in chosen if "pooling_mode" in key}
    if chosen not in ({"mean_tokens"}, {"cls_token"}):
        raise InputError(f"{path}: pools by {sorted(chosen)}, expected mean_tokens or cls_token")
    return chosen == {"cls_token"}
