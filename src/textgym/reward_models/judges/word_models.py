"""Language models as a local judge reads them: the log-probabilities of words after texts.

Legend: `b` texts, `w` words, `r` rows that the model reads, `t` tokens of the longest row.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.paths import expand
from textgym.transformers_files import read_model, read_tokenizer

_CONTENT = "\ue000"  # of the Private Use Area: stands for a text in a chat template


class WordModel(Protocol):
    """What a local judge needs of a language model.

    `is_chat`: it answers questions; else it goes on with a text, and words begin with a space.
    """

    @property
    def is_chat(self) -> bool:
        """Whether it was taught to answer."""

    def word_log_probs(self, texts: Sequence[str], words: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b, w], the log-probability that each word follows each text."""


class _Row(NamedTuple):
    """A row of tokens and the places in it that predict a word's tokens.

    :param place: of the text and the word in the answer.
    :param targets: the word's tokens; the first is predicted by the last token of the text.
    """

    tokens: tuple[int, ...]
    place: tuple[int, int]
    targets: tuple[int, ...]


class TokenWords:
    """`WordModel` on token ids, whoever computes the logits.

    Each text is read once for all words of one token, and once more for each longer word.

    :param encode: token ids of a text, with what the model wants in front.
    :param encode_word: token ids of a word behind a text.
    :param logits: right-padded rows `[r, t]` int64 and their lengths `[r]`, and for each position
        that is wanted its row and column → float `[positions, vocabulary]`.
    :param context: the longest row that the model reads.
    :param batch_size: rows at a time.
    """

    is_chat = False

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        encode_word: Callable[[str], list[int]],
        logits: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        *,
        context: int,
        batch_size: int = 16,
    ) -> None:
        self._encode, self._encode_word, self._logits = encode, encode_word, logits
        self.context, self.batch_size = context, batch_size

    @torch.no_grad()
    def word_log_probs(self, texts: Sequence[str], words: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b, w], the log-probability that each word follows each text.

        :raises InputError: for a word without a token, or a text that the context has no room for.
        """
        targets = [tuple(self._encode_word(word)) for word in words]
        for word, ids in zip(words, targets, strict=True):
            if not ids:
                raise InputError(f"the answer word {word!r} has no token in this model's tokenizer")
        rows: dict[tuple[int, ...], list[_Row]] = {}
        for i, text in enumerate(texts):
            start = tuple(self._encode(text))
            for j, ids in enumerate(targets):
                tokens = start + ids[:-1]
                if len(tokens) > self.context:
                    raise InputError(
                        f"a text and its rubric are {len(tokens)} tokens, but the judge's context "
                        f"is {self.context}: shorten the rubric or the texts, or take another "
                        f"model (text {text!r:.60})"
                    )
                rows.setdefault(tokens, []).append(_Row(tokens, (i, j), ids))
        result = np.zeros((len(texts), len(words)))
        in_order = sorted(rows, key=len, reverse=True)
        for first in range(0, len(in_order), self.batch_size):
            self._read(in_order[first : first + self.batch_size], rows, result)
        return result

    def _read(
        self,
        batch: Sequence[tuple[int, ...]],
        rows: dict[tuple[int, ...], list[_Row]],
        result: npt.NDArray[np.float64],
    ) -> None:
        """One forward pass; fills in the words that its rows are about."""
        lengths = torch.tensor([len(tokens) for tokens in batch])
        padded = torch.zeros(len(batch), len(batch[0]), dtype=torch.int64)
        wanted: dict[tuple[int, int], int] = {}
        for r, tokens in enumerate(batch):
            padded[r, : len(tokens)] = torch.tensor(tokens)
            for row in rows[tokens]:
                for column in range(len(tokens) - len(row.targets), len(tokens)):
                    wanted.setdefault((r, column), len(wanted))
        places = torch.tensor(list(wanted), dtype=torch.int64)
        logits = self._logits(padded, lengths, places[:, 0], places[:, 1])
        log_probs = logits.double().log_softmax(-1)
        for r, tokens in enumerate(batch):
            for row in rows[tokens]:
                start = len(tokens) - len(row.targets)
                for k, token in enumerate(row.targets):
                    result[row.place] += float(log_probs[wanted[r, start + k], token])


def own_words(lm: Any, *, batch_size: int = 16) -> TokenWords:
    """A language model of ours, any `LanguageModel`, which stays as it is."""

    def logits(padded: Tensor, lengths: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        is_token = torch.arange(padded.shape[1]) < lengths[:, None]
        starts = lengths.cumsum(0) - lengths
        kept = (starts[rows] + columns).to(lm.device)
        hidden = lm.packed(padded[is_token].to(lm.device), lengths.to(lm.device), kept)
        return lm.lm_head(hidden).float().cpu()  # type: ignore[no-any-return]

    def encode(text: str) -> list[int]:
        ids: list[int] = lm.tokenizer.encode(text, add_special_tokens=True)
        return ids or [lm.tokenizer.eos_token_id]

    return TokenWords(
        encode,
        lambda word: list(lm.tokenizer.encode_continuation("", word)),
        logits,
        context=int(lm.config.max_position_embeddings),
        batch_size=batch_size,
    )


class TransformersWords(TokenWords):
    """A causal language model of transformers' from a directory, in float32.

    Where its tokenizer has a chat template, a text is the user's message, and words are the
    beginning of the answer. Names of special tokens inside a text are plain characters.

    :param directory: as `save_pretrained` writes it, with safetensors. No code of it runs.
    :param batch_size: texts at a time.
    :raises InputError: if transformers is missing, or it cannot open the directory.
    """

    def __init__(self, directory: str | Path, *, batch_size: int = 16) -> None:
        path = expand(directory)
        what = "a judge from a directory of transformers'"
        self.tokenizer: Any = read_tokenizer(path, what=what)
        self.model: Any = read_model("AutoModelForCausalLM", path, what=what, dtype=torch.float32)
        self.model.requires_grad_(False).eval()
        self.is_chat = bool(getattr(self.tokenizer, "chat_template", None))
        self._before, self._after = self._ends()
        super().__init__(
            lambda text: [*self._before, *self._plain(text), *self._after] or [self._stop()],
            self._plain,
            self._all_logits,
            context=int(getattr(self.model.config, "max_position_embeddings", 2**20)),
            batch_size=batch_size,
        )

    def _plain(self, text: str) -> list[int]:
        """Token ids of a text in which nothing is special."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded["input_ids"])

    def _ends(self) -> tuple[list[int], list[int]]:
        """Token ids in front of a text and behind it."""
        if not self.is_chat:
            around = list(self.tokenizer("")["input_ids"])
            return [i for i in around if i == self.tokenizer.bos_token_id], []
        message = {"role": "user", "content": _CONTENT}
        written = self.tokenizer.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=False
        )
        before, found, after = written.partition(_CONTENT)
        if not found:
            raise InputError("the chat template of the judge's tokenizer leaves the message out")
        ends = [self.tokenizer(end, add_special_tokens=False) for end in (before, after)]
        return list(ends[0]["input_ids"]), list(ends[1]["input_ids"])

    def _stop(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _all_logits(self, padded: Tensor, lengths: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        device = self.model.device
        kept, place = torch.unique(columns, return_inverse=True)
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        output = self.model(
            input_ids=padded.to(device),
            attention_mask=mask.long().to(device),
            logits_to_keep=kept.to(device),
            use_cache=False,
        )
        return output.logits[rows, place].float().cpu()  # type: ignore[no-any-return]
