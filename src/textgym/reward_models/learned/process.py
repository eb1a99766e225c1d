"""A process reward model: it judges every step of a text, and pays each where it stands.

Uesato et al. 2022 and Lightman et al. 2023, "Let's Verify Step by Step": people say of each step
whether it is good; the score of a step is read at its last token. Here a text's reward is the mean
over its steps of the probability that the step is good, and the steps' shares of it are `spans`,
so that a learner is paid where the step ends. A causal trunk sees no later step, an encoder does.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textgym.errors import InputError
from textgym.reward_models.learned.trunk_reward import Span, TextTokenizer, TrunkRewardModel
from textgym.rewards import RewardOutput
from textgym.saved_fields import SavedFields

KIND = "process"


class Stepped(Protocol):
    """A prompt and the steps that somebody took from there, each judged."""

    @property
    def prompt(self) -> str:
        """What the steps go on from."""

    @property
    def steps(self) -> Sequence[str]:
        """The steps, in order."""

    @property
    def labels(self) -> Sequence[float]:
        """Of each step, 1 for good, 0 for bad, or anything between."""


@dataclass(frozen=True)
class StepBatch:
    """Texts with judged steps.

    :param texts: prompt and steps of each row as one text.
    :param ends: where each step ends in its text, in characters.
    :param labels: of each step, 0 to 1.
    """

    texts: list[str]
    ends: list[list[int]]
    labels: list[list[float]]


class ProcessRewardModel(TrunkRewardModel):
    """A trunk with one linear head, read at the last token of every step.

    :param trunk, tokenizer, keywords: see `TrunkRewardModel`; the objective is the logistic loss of
        the steps, and scores are not standardised: they are probabilities.
    :param separator: what ends a step; what follows the last one is a step too.
    :raises InputError: for an empty separator.
    """

    kind = KIND

    def __init__(
        self,
        trunk: nn.Module,
        tokenizer: TextTokenizer | None = None,
        *,
        separator: str = "\n",
        **keywords: Any,
    ) -> None:
        if not separator:
            raise InputError("a process reward model needs a separator of steps, got ''")
        super().__init__(trunk, tokenizer, **{"name": KIND, **keywords})
        self.separator = separator

    def batch_of(self, rows: Sequence[Stepped]) -> StepBatch:
        """Rows as texts: a step that does not end with the separator gets it, but for the last.

        :raises InputError: if a row has no step, or not as many labels, or a label out of range.
        """
        texts, ends, labels = [], [], []
        for row in rows:
            values = [float(label) for label in row.labels]
            if not row.steps or len(values) != len(row.steps):
                raise InputError(
                    f"expected as many labels as steps, got {len(row.steps)} steps and "
                    f"{len(values)} labels after {row.prompt[:40]!r}"
                )
            if not all(0 <= value <= 1 for value in values):
                raise InputError(f"a step's label must be from 0 to 1, got {values}")
            text, own = row.prompt, []
            for place, step in enumerate(row.steps):
                is_ended = step.endswith(self.separator) or place == len(row.steps) - 1
                text += step if is_ended else step + self.separator
                own.append(len(text))
            texts.append(text)
            ends.append(own)
            labels.append(values)
        return StepBatch(texts, ends, labels)

    def loss(self, batch: Any, generator: torch.Generator | None = None) -> Tensor:
        """Mean logistic loss of all steps of a `StepBatch`."""
        scores = torch.cat(self.step_logits(batch.texts, batch.ends))
        wanted = torch.tensor([value for row in batch.labels for value in row])
        return F.binary_cross_entropy_with_logits(scores, wanted.to(scores))

    def step_logits(self, texts: Sequence[str], ends: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-odds that each step is good, a float tensor a text.

        :param ends: where the steps of each text end, in characters.
        """
        rows = self.encode(texts)
        tokens, lengths = self.batch(rows)
        scores = self.head(self.trunk.hidden_states(tokens, lengths).float())  # [b, t]
        found = self.tokenizer.offsets_batch(list(texts), add_special_tokens=True)
        logits = []
        for k, offsets in enumerate(found):
            starts = np.array([start if end > start else -1 for start, end in offsets], np.int64)
            starts = starts[-self.context :]
            last = [_last_token(starts, end) for end in ends[k]]
            logits.append(scores[k, torch.tensor(last, device=scores.device)])
        return logits

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], the mean probability over the steps of whole texts."""
        return self._rewards([""] * len(texts), texts)[0]

    def answer(self, texts: Sequence[str], prompts: Sequence[str]) -> RewardOutput:
        """Scores, and every step's share of its text's as a span."""
        ends = [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
        scores, spans = self._rewards(prompts, ends)
        return RewardOutput(scores.tolist(), {}, spans)

    def _rewards(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[npt.NDArray[np.float64], list[list[Span]]]:
        """The mean probability of each text, and the shares of its steps."""
        steps = [step_places(text, self.separator) for text in completions]
        scores, spans = np.zeros(len(steps)), []
        with torch.no_grad():
            for start in range(0, len(steps), self.batch_size):
                part = slice(start, start + self.batch_size)
                texts = [p + c for p, c in zip(prompts[part], completions[part], strict=True)]
                ends = [
                    [len(prompt) + end for _, end in places]
                    for prompt, places in zip(prompts[part], steps[part], strict=True)
                ]
                for k, logits in enumerate(self.step_logits(texts, ends), start):
                    shares = (torch.sigmoid(logits.double()) / len(logits)).tolist()
                    scores[k] = sum(shares)
                    spans.append([(*at, share) for at, share in zip(steps[k], shares, strict=True)])
        return scores, spans

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """As the base class, with the separator."""
        return {**super().write_parts(folder), "separator": list(map(ord, self.separator))}

    @classmethod
    def saved_keywords(cls, fields: SavedFields) -> dict[str, Any]:
        """See `TrunkRewardModel`."""
        points = fields.items("separator")
        if not points or not all(isinstance(c, int) and 0 <= c < 0x110000 for c in points):
            raise fields.error("separator", "a list of code points")
        return {**super().saved_keywords(fields), "separator": "".join(map(chr, points))}


def step_places(text: str, separator: str) -> list[tuple[int, int]]:
    """From where to where each step of a text goes, its separator included; at least one step."""
    places, start = [], 0
    while (found := text.find(separator, start)) >= 0:
        places.append((start, found + len(separator)))
        start = found + len(separator)
    if start < len(text) or not places:
        places.append((start, len(text)))
    return places


def _last_token(starts: npt.NDArray[np.int64], end: int) -> int:
    """The last token that begins before a character; the first one where none does."""
    before = np.flatnonzero((starts >= 0) & (starts < end))
    return int(before[-1]) if len(before) else 0


class SteppedTexts:
    """Rows with judged steps as the training loop wants them."""

    def __init__(self, model: ProcessRewardModel, rows: Sequence[Stepped]) -> None:
        self.model, self.rows = model, rows
        self.whole = model.batch_of(rows)  # checks

    def steps(self, batch_size: int) -> int:
        """Batches of one pass."""
        return math.ceil(len(self.rows) / batch_size)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[StepBatch]:
        """One pass in random order."""
        order = rng.permutation(len(self.rows))
        for start in range(0, len(order), batch_size):
            yield self.model.batch_of([self.rows[k] for k in order[start : start + batch_size]])

    def logits(self) -> npt.NDArray[np.float64]:
        """float64 [steps], the model's log-odds of every step now."""
        found = [np.zeros(0)]
        whole, size = self.whole, self.model.batch_size
        with torch.no_grad():
            for start in range(0, len(whole.texts), size):
                part = slice(start, start + size)
                found += [
                    logits.double().cpu().numpy()
                    for logits in self.model.step_logits(whole.texts[part], whole.ends[part])
                ]
        return np.concatenate(found)

    def labels(self) -> npt.NDArray[np.float64]:
        """float64 [steps], what people said."""
        return np.array([value for row in self.whole.labels for value in row])
