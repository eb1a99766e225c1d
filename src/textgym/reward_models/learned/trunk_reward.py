"""The learned reward model: a trunk, its mean hidden state, and a linear head (or several).

On language models Christiano et al. 2017 and Stiennon et al. 2020. Here the hidden states are
averaged over the text instead of taking the last one, which ranked better on short texts. What the
score means is the objective's business (`objectives.py`). The trunk is a constructor argument: any
module with `hidden_states(tokens [b, t] int64, lengths [b] int64) -> [b, t, d]` for right-padded
rows, a `config` with `hidden_size` and `max_position_embeddings`, and `save_pretrained(directory)`.

Legend: `b` texts, `t` tokens of the longest one, `d` hidden size, `k` heads.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from textgym.errors import InputError, UnknownNameError
from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.reward_models.learned.objectives import (
    BradleyTerry,
    Judged,
    Objective,
    objective_named,
)
from textgym.rewards import RewardOutput
from textgym.saved_fields import SavedFields
from textgym.tensor_files import floating, read_tensors, tensor_shapes, write_tensors

HEAD_FILE, TRUNK_FOLDER = "head.safetensors", "trunk"
KIND = "trunk"
OLD_KIND = "bradley_terry"  # of a directory that names no objective
MOST_HEADS = 64
_OBJECTIVE = "objective."  # before its parameters' names in the head's file
Span = tuple[int, int, float]


class TextTokenizer(Protocol):
    """What this file needs of a tokenizer; `textgym.tokenizer.Tokenizer` has it."""

    pad_token_id: int
    eos_token_id: int

    def encode_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[int]]:
        """Token ids of each text."""
        ...

    def offsets_batch(
        self, texts: Sequence[str], add_special_tokens: bool = False
    ) -> list[list[tuple[int, int]]]:
        """Where each token stands in its text, in characters; asked for per-token rewards only."""
        ...


class JudgedTexts(Judged, Protocol):
    """Texts with judgements of them."""

    @property
    def texts(self) -> Sequence[str]:
        """The texts, b of them."""


class TrunkRewardModel(LearnedReward, nn.Module):
    """Scores prompt + completion as one text, in standard deviations once `standardise`d.

    A text longer than the trunk's context is scored by its end, counted in `cut_count`, and warned
    of when the model is first asked about one; an empty one is scored as a lone stop token.
    Scoring never changes the model, whatever `train()` says: dropout acts only in `forward` with a
    generator.

    :param trunk: the language model; it becomes part of this one and is changed by fitting.
    :param tokenizer: default: the trunk's own.
    :param objective: what scores mean; default: `BradleyTerry()`.
    :param heads: linear heads on the one trunk; with several the score is their mean.
    :param penalty: how many standard deviations of the heads are taken off their mean; the
        disagreement is then a component of every answer. None for a plain mean.
    :param per_token: answers carry `spans`: what each token adds to the mean over tokens.
    :param dropout: share of the mean hidden state's entries dropped while fitting.
    :param seed: of the head's first weights.
    :param batch_size: texts that are scored at once.
    :param include_prompt: False scores the completion alone.
    :raises InputError: for a dropout outside [0, 1), a batch size or number of heads below 1, or a
        negative penalty.
    """

    kind = KIND

    def __init__(
        self,
        trunk: nn.Module,
        tokenizer: TextTokenizer | None = None,
        *,
        objective: Objective | None = None,
        heads: int = 1,
        penalty: float | None = None,
        per_token: bool = False,
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
        if heads < 1 or not (penalty is None or penalty >= 0):
            raise InputError(f"expected heads >= 1 and penalty >= 0, got {heads=}, {penalty=}")
        self.trunk = cast(Any, trunk)
        self.tokenizer: TextTokenizer = tokenizer or self.trunk.tokenizer
        size = int(self.trunk.config.hidden_size)
        self.context = int(self.trunk.config.max_position_embeddings)
        generator = torch.Generator().manual_seed(seed)
        device = next(trunk.parameters()).device
        shape = () if heads == 1 else (heads,)
        weight = torch.randn(*shape, size, generator=generator) / size
        self.head_weight = nn.Parameter(weight.to(device))
        self.head_bias = nn.Parameter(torch.zeros(shape, device=device))
        self.objective = (objective or BradleyTerry()).to(device)
        self.heads, self.penalty, self.per_token = heads, penalty, per_token
        self.dropout, self.batch_size, self.include_prompt = dropout, batch_size, include_prompt
        self.mean, self.std, self.name = float(mean), float(std), name
        self.cut_count, self.has_warned = 0, False
        self.known: dict[str, npt.NDArray[np.float32]] | None = None
        """Features by text while heads are fitted on a trunk that stays as it is."""

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
        pooled = self.pool(tokens, lengths)
        if generator is not None and self.dropout > 0:
            chance = torch.rand(pooled.shape, generator=generator, device=generator.device)
            is_kept = (chance >= self.dropout).to(pooled.device)
            pooled = pooled * is_kept / (1 - self.dropout)
        scores = self.head(pooled)
        return scores if self.heads == 1 else scores.mean(dim=1)

    def pool(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The mean hidden state of each row, float32 [b, d]."""
        hidden = self.trunk.hidden_states(tokens, lengths).float()
        is_token = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        summed = (hidden * is_token[:, :, None]).sum(dim=1)
        pooled: Tensor = summed / lengths[:, None].to(hidden.dtype)
        return pooled

    def head(self, hidden: Tensor) -> Tensor:
        """Scores of hidden states `[..., d]`: `[...]` of a single head, else `[..., k]`."""
        weight = self.head_weight.to(hidden.dtype)
        scores: Tensor = hidden @ (weight if self.heads == 1 else weight.T) + self.head_bias
        return scores

    def loss(self, batch: JudgedTexts, generator: torch.Generator | None = None) -> Tensor:
        """The objective's loss of judged texts, as `forward` scores them."""
        tokens, lengths = self.batch(self.encode(batch.texts))
        return self.objective.loss(self.forward(tokens, lengths, generator=generator), batch)

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
        return self.raw_of_heads(self.head_scores(texts))

    def raw_of_heads(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64 [b], mean - penalty · standard deviation of the heads' scores [b, k]."""
        spread = scores.std(axis=1) if self.penalty else 0.0
        return np.asarray(scores.mean(axis=1) - (self.penalty or 0.0) * spread)

    def head_scores(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b, k], each head's raw scores of whole texts."""
        if self.known is None:
            return self._in_batches(texts, lambda *batch: self.head(self.pool(*batch)), self.heads)
        with torch.no_grad():
            scores = self.head(torch.from_numpy(self.features(texts)).to(self.head_weight.device))
        return scores.double().cpu().numpy().reshape(len(texts), self.heads)

    def features(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [b, d], mean hidden states of whole texts: what the heads see.

        While `known` is a dictionary, a text that it holds is not read again.
        """
        size = self.head_weight.shape[-1]
        known = {} if self.known is None else self.known
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known |= zip(new, self._in_batches(new, self.pool, size).astype(np.float32), strict=True)
        found = [known[text] for text in texts]
        return np.stack(found) if found else np.zeros((0, size), np.float32)

    def _in_batches(
        self, texts: Sequence[str], function: Callable[[Tensor, Tensor], Tensor], size: int
    ) -> npt.NDArray[np.float64]:
        """float64 [b, size], what a function says of each text's token row."""
        rows = self.encode(texts)
        order = sorted(range(len(rows)), key=lambda k: len(rows[k]))  # little padding
        found = np.zeros((len(rows), size))
        was_training = self.training
        self.eval()
        with torch.no_grad():
            for start in range(0, len(order), self.batch_size):
                places = order[start : start + self.batch_size]
                values = function(*self.batch([rows[k] for k in places]))
                found[places] = values.double().cpu().numpy().reshape(len(places), size)
        self.train(was_training)
        return found

    def __call__(  # the reward contract's, not torch's: forward is called by its name
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> Any:
        """:returns: one standardised score per completion, or a `RewardOutput` with its parts."""
        before = self.cut_count
        whole = [p + c for p, c in zip(prompts, completions, strict=True)]
        texts = whole if self.include_prompt else list(completions)
        answer = self.answer(texts, prompts if self.include_prompt else [""] * len(texts))
        if self.cut_count > before and not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"reward model {self.name!r}: {self.cut_count - before} of {len(texts)} texts are "
                f"longer than its context of {self.context} tokens and are scored by their ends; "
                "later ones too",
                stacklevel=2,
            )
        return answer

    def answer(self, texts: Sequence[str], prompts: Sequence[str]) -> list[float] | RewardOutput:
        """What `__call__` returns for whole texts that begin with these prompts."""
        if self.penalty is None and not self.per_token:
            return [float(score) for score in self.score(texts)]
        heads = self.head_scores(texts)
        scores = (self.raw_of_heads(heads) - self.mean) / self.std
        components = {}
        if self.penalty is not None:
            components["mean"] = ((heads.mean(axis=1) - self.mean) / self.std).tolist()
            components["disagreement"] = (heads.std(axis=1) / self.std).tolist()
        spans = self.token_spans(texts, prompts) if self.per_token else None
        return RewardOutput(scores.tolist(), components, spans)

    def token_spans(self, texts: Sequence[str], prompts: Sequence[str]) -> list[list[Span]]:
        """What each token adds to its text's standardised score, by characters of the completion.

        The score of a text is the mean over its tokens, so a token adds its own share of it; the
        head's bias, the standardisation's mean and the prompt's tokens are left to the last one.

        :param prompts: what each text begins with.
        """
        rows = self.encode(texts)
        places = self.tokenizer.offsets_batch(list(texts), add_special_tokens=True)
        spans: list[list[Span]] = []
        with torch.no_grad():
            for row, offsets, prompt in zip(rows, places, prompts, strict=True):
                tokens, lengths = self.batch([row])
                hidden = self.trunk.hidden_states(tokens, lengths)[0].float()
                scores = self.head(hidden) - self.head_bias
                scores = scores if self.heads == 1 else scores.mean(dim=-1)
                amounts = (scores.double() / (len(row) * self.std)).tolist()
                skip = len(prompt)
                spans.append(
                    [
                        (max(start - skip, 0), end - skip, amount)
                        for (start, end), amount in zip(
                            offsets[-self.context :], amounts, strict=False
                        )
                        if end > skip and end > start
                    ]
                )
        return spans

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """The head with the objective's parameters, and the trunk's own checkpoint in `trunk/`."""
        head = {"weight": self.head_weight, "bias": self.head_bias}
        head |= {_OBJECTIVE + key: part for key, part in self.objective.named_parameters()}
        tensors = {key: part.detach().cpu().contiguous() for key, part in head.items()}
        write_tensors(tensors, folder / HEAD_FILE)
        self.trunk.save_pretrained(folder / TRUNK_FOLDER)
        return {
            "dropout": self.dropout,
            "trunk": TRUNK_FOLDER,
            "objective": {"name": self.objective.name, **self.objective.settings()},
            "heads": self.heads,
            "penalty": self.penalty,
            "per_token": self.per_token,
        }

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, trunk: nn.Module, tokenizer: TextTokenizer | None = None
    ) -> Self:
        """The saved reward model around its trunk, which the caller opened from `trunk/`.

        :raises InputError: naming the file, if it is missing, damaged, of another kind, or the
            trunk does not fit the head.
        """

        def read(place: Path, fields: SavedFields) -> Any:
            model = cls(
                trunk,
                tokenizer,
                dropout=fields.number("dropout"),
                **cls.saved_keywords(fields),
                **shared_keywords(fields),
            )
            model._read_head(place / HEAD_FILE)
            return model.eval()

        saved: Self = read_saved(directory, {KIND, OLD_KIND, cls.kind}, read)
        return saved

    @classmethod
    def saved_keywords(cls, fields: SavedFields) -> dict[str, Any]:
        """Keywords of the constructor that `write_parts` wrote; none of an older directory.

        :raises InputError: naming a field that is missing or of another type.
        """
        if not fields.has("objective"):
            return {}
        table = fields.table("objective")
        try:
            kind = objective_named(table.text("name"))
        except UnknownNameError as error:
            raise InputError(f"{fields.path}: {error}") from None
        return {
            "objective": kind.read(table),
            "heads": fields.whole("heads", 1, MOST_HEADS),
            "penalty": fields.number("penalty") if fields.has("penalty") else None,
            "per_token": fields.flag("per_token"),
        }

    @torch.no_grad()
    def _read_head(self, file: Path) -> None:
        shapes, size = tensor_shapes(file), self.head_weight.shape[-1]
        own = {"weight": self.head_weight, "bias": self.head_bias}
        own |= {_OBJECTIVE + key: part for key, part in self.objective.named_parameters()}
        if shapes != {key: tuple(part.shape) for key, part in own.items()}:
            raise InputError(
                f"{file}: expected a head for a trunk of hidden size {size}, found {shapes!r:.80}: "
                "open the trunk saved beside it"
            )
        head = floating(read_tensors(file), file)
        for key, part in own.items():
            part.copy_(head[key])
