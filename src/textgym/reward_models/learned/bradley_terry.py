"""The learned reward model: a language model's trunk, its mean hidden state, one linear head.

Bradley & Terry 1952; on language models Christiano et al. 2017 and Stiennon et al. 2020. Here the
hidden states are averaged over the text instead of taking the last one, which ranked better on
short texts. The trunk is a constructor argument: any module with
`hidden_states(tokens [b, t] int64, lengths [b] int64) -> [b, t, d]` for right-padded rows, a
`config` with `hidden_size` and `max_position_embeddings`, and `save_pretrained(directory)`.

Legend: `b` texts, `t` tokens of the longest one, `d` hidden size.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textgym.errors import InputError
from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.saved_fields import SavedFields
from textgym.tensor_files import floating, read_tensors, tensor_shapes, write_tensors

HEAD_FILE, TRUNK_FOLDER = "head.safetensors", "trunk"
KIND = "bradley_terry"


class TextTokenizer(Protocol):
    """What this file needs of a tokenizer; `textgym.tokenizer.Tokenizer` has it."""

    pad_token_id: int
    eos_token_id: int

    def encode_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Token ids of each text."""
        ...


def bradley_terry_loss(score_a: Tensor, score_b: Tensor, label: Tensor) -> Tensor:
    """Mean of -label·log σ(a - b) - (1 - label)·log σ(b - a), for soft labels.

    :param score_a: float [p].
    :param score_b: float [p].
    :param label: float [p] in [0, 1], probability that a is the better one; .5 for a tie.
    :returns: a float tensor without dimensions. Its gradient by a is (σ(a - b) - label) / p.
    """
    return F.binary_cross_entropy_with_logits(score_a - score_b, label.to(score_a.dtype))


class BradleyTerryRewardModel(LearnedReward, nn.Module):
    """Scores prompt + completion as one text, in standard deviations once `standardise`d.

    A text longer than the trunk's context is scored by its end, counted in `cut_count`, and warned
    of when the model is first asked about one; an empty one is scored as a lone stop token.
    Scoring never changes the model, whatever `train()` says: dropout acts only in `forward` with a
    generator.

    :param trunk: the language model; it becomes part of this one and is changed by fitting.
    :param tokenizer: default: the trunk's own.
    :param dropout: share of the mean hidden state's entries dropped while fitting.
    :param seed: of the head's first weights.
    :param batch_size: texts that are scored at once.
    :param include_prompt: False scores the completion alone.
    :raises InputError: for a dropout outside [0, 1) or a batch size below 1.
    """

    kind = KIND

    def __init__(
        self,
        trunk: nn.Module,
        tokenizer: TextTokenizer | None = None,
        *,
        dropout: float = 0.1,
        seed: int = 0,
        mean: float = 0.0,
        std: float = 1.0,
        name: str = KIND,
        batch_size: int = 32,
        include_prompt: bool = True,
    ) -> None:
        nn.Module.__init__(self)
        if not 0 <= dropout < 1 or batch_size < 1 or not std > 0:
            raise InputError(
                "a reward model needs 0 <= dropout < 1, batch_size >= 1 and std > 0, got "
                f"dropout={dropout}, batch_size={batch_size}, std={std}"
            )
        self.trunk = cast(Any, trunk)
        self.tokenizer: TextTokenizer = tokenizer or self.trunk.tokenizer
        size = int(self.trunk.config.hidden_size)
        self.context = int(self.trunk.config.max_position_embeddings)
        generator = torch.Generator().manual_seed(seed)
        device = next(trunk.parameters()).device
        weight = torch.randn(size, generator=generator) / size
        self.head_weight = nn.Parameter(weight.to(device))
        self.head_bias = nn.Parameter(torch.zeros((), device=device))
        self.dropout, self.batch_size, self.include_prompt = dropout, batch_size, include_prompt
        self.mean, self.std, self.name = float(mean), float(std), name
        self.cut_count, self.has_warned = 0, False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids as the trunk saw texts (bos first, where it has one), cut to its context."""
        rows = self.tokenizer.encode_batch(list(texts), add_special_tokens=True)
        self.cut_count += sum(len(row) > self.context for row in rows)
        return [row[-self.context :] or [self.tokenizer.eos_token_id] for row in rows]

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the trunk's context, and lose their beginnings."""
        before = self.cut_count
        self.encode(texts)
        cut, self.cut_count = self.cut_count - before, before
        return cut

    def forward(
        self, tokens: Tensor, lengths: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Raw scores [b] of right-padded rows.

        :param tokens: int64 [b, t].
        :param lengths: int64 [b], tokens of each row, at least 1.
        :param generator: draws the dropout; None for none.
        """
        hidden = self.trunk.hidden_states(tokens, lengths).float()
        is_token = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        summed = (hidden * is_token[:, :, None]).sum(dim=1)
        pooled = summed / lengths[:, None].to(hidden.dtype)  # [b, d]
        if generator is not None and self.dropout > 0:
            chance = torch.rand(pooled.shape, generator=generator, device=generator.device)
            is_kept = (chance >= self.dropout).to(pooled.device)
            pooled = pooled * is_kept / (1 - self.dropout)
        scores: Tensor = pooled @ self.head_weight.to(pooled.dtype) + self.head_bias
        return scores

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token rows as int64 [b, t], padded on the right, and their lengths int64 [b]."""
        lengths = [len(row) for row in rows]
        tokens = np.full((len(rows), max(lengths)), self.tokenizer.pad_token_id, np.int64)
        for target, row in zip(tokens, rows, strict=True):
            target[: len(row)] = row
        device = self.head_weight.device
        return torch.from_numpy(tokens).to(device), torch.tensor(lengths, device=device)

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], scores of whole texts before standardisation; each by itself."""
        rows = self.encode(texts)
        order = sorted(range(len(rows)), key=lambda k: len(rows[k]))  # little padding
        scores = np.zeros(len(rows))
        was_training = self.training
        self.eval()
        with torch.no_grad():
            for start in range(0, len(order), self.batch_size):
                places = order[start : start + self.batch_size]
                batch = self.batch([rows[k] for k in places])
                scores[places] = self.forward(*batch).double().cpu().numpy()
        self.train(was_training)
        return scores

    def __call__(  # the reward contract's, not torch's: forward is called by its name
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one standardised score per completion."""
        before = self.cut_count
        scores = LearnedReward.__call__(self, prompts, completions)
        if self.cut_count > before and not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"reward model {self.name!r}: {self.cut_count - before} of {len(scores)} texts are "
                f"longer than its context of {self.context} tokens and are scored by their ends; "
                "later ones too",
                stacklevel=2,
            )
        return scores

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """The head, and the trunk's own checkpoint in `trunk/`."""
        head = {"weight": self.head_weight, "bias": self.head_bias}
        tensors = {key: part.detach().cpu().contiguous() for key, part in head.items()}
        write_tensors(tensors, folder / HEAD_FILE)
        self.trunk.save_pretrained(folder / TRUNK_FOLDER)
        return {"dropout": self.dropout, "trunk": TRUNK_FOLDER}

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, trunk: nn.Module, tokenizer: TextTokenizer | None = None
    ) -> Self:
        """The saved reward model around its trunk, which the caller opened from `trunk/`.

        :raises InputError: naming the file, if it is missing, damaged, of another kind, or the
            trunk does not fit the head.
        """

        def read(place: Path, fields: SavedFields) -> Any:
            dropout = fields.number("dropout")
            model = cls(trunk, tokenizer, dropout=dropout, **shared_keywords(fields))
            model._read_head(place / HEAD_FILE)
            return model.eval()

        saved: Self = read_saved(directory, {KIND}, read)
        return saved

    @torch.no_grad()
    def _read_head(self, file: Path) -> None:
        shapes, size = tensor_shapes(file), len(self.head_weight)
        if shapes != {"weight": (size,), "bias": ()}:
            raise InputError(
                f"{file}: expected a head for a trunk of hidden size {size}, found {shapes!r:.80}: "
                "open the trunk saved beside it"
            )
        head = floating(read_tensors(file), file)
        self.head_weight.copy_(head["weight"])
        self.head_bias.copy_(head["bias"])
