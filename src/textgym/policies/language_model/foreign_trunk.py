"""Any causal model of transformers' as a trunk: padded rows for learning, a cache for decoding.

Where a family reads positions and masks as they are given, its keys and values are cached row by
row, so that rows may stand at different places and begin anew; this is tried when a model is
opened. Where it does not, each step reads its rows anew: the same text, more slowly.

Legend: `N` flat tokens, `B` segments of at most `T` tokens, `n` slots, `k` of them, `d` hidden
size.
"""

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from textgym.errors import InputError
from textgym.policies.language_model.foreign_config import ForeignConfig
from textgym.policies.language_model.packing import PackedSegments, pack_rows, positions_of
from textgym.policies.language_model.transformers_config import otherwise_tied
from textgym.policies.language_model.trunk import TokenTrunk

TOLERANCE = 1e-3  # of a hidden state's size: rounding, not another answer


class RowCache:
    """Keys and values of rows that each stand at a place of their own.

    It is passed to transformers as its cache: its layers hand over what is new and get back
    all that they may look at.

    :param slots: rows.
    :param capacity: positions of each.
    """

    is_compileable = False

    def __init__(self, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.rows = self.places = torch.empty(0)
        self.end = 0

    def expect(self, rows: Tensor | None, places: Tensor) -> None:
        """Say where the next pass writes.

        :param rows: `[k]` int64 slots; None: all of them.
        :param places: `[k, t]` int64.
        """
        self.rows = torch.arange(self.slots, device=places.device) if rows is None else rows
        self.is_whole, self.places, self.end = rows is None, places, int(places.max()) + 1

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """What a layer asks for: `[k, h, t, c]` written, `[k, h, end, c]` to look at."""
        return (
            self._write(self.keys, layer_idx, key_states),
            self._write(self.values, layer_idx, value_states),
        )

    def _write(self, kept: dict[int, Tensor], layer: int, states: Tensor) -> Tensor:
        if layer not in kept:
            shape = (self.slots, states.shape[1], self.capacity, states.shape[3])
            kept[layer] = states.new_zeros(shape)
        cached = kept[layer]
        cached[self.rows[:, None], :, self.places] = states.transpose(1, 2).to(cached.dtype)
        seen = cached[:, :, : self.end]
        return seen if self.is_whole else seen[self.rows]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are given with every pass, so nothing is counted here."""
        return 0


class ForeignTrunk(TokenTrunk):
    """A model of transformers' without its head. Dropout is off: `drop` must stay 0.

    `prefix` is what transformers puts before its names in the whole model.

    :param config: its shape.
    """

    def __init__(self, config: ForeignConfig) -> None:
        super().__init__()
        self.config = config
        whole = config.build()
        self.body: Any = whole.base_model  # `take` brings the weights
        self.prefix = "" if self.body is whole else f"{whole.base_model_prefix}."
        known = inspect.signature(self.body.forward).parameters
        self.cache_keyword = "cache" if "cache" in known else "past_key_values"  # before 5.24
        self.is_stepwise = False

    @property
    def embed_tokens(self) -> nn.Embedding:  # type: ignore[override]
        """The table of embeddings."""
        return self.body.get_input_embeddings()  # type: ignore[no-any-return]

    @property
    def drop(self) -> float:
        """None: a family's own dropout is off, so that a text's probability is one number."""
        return 0.0

    @drop.setter
    def drop(self, share: float) -> None:
        """Only 0 is taken.

        :raises InputError: for anything else.
        """
        if share:
            raise InputError(
                f"dropout={share:g} is not there for a {self.config.content['model_type']} model, "
                "which transformers runs: leave dropout out"
            )

    def train(self, mode: bool = True) -> "ForeignTrunk":
        """torch's; the model inside stays in evaluation mode, which has no dropout."""
        super().train(mode)
        self.body.eval()
        return self

    @property
    def cached_per_token(self) -> int:
        """Keys and values of every layer, at most as wide as its hidden states."""
        return 2 * self.config.num_hidden_layers * self.config.hidden_size

    def initialize(self, generator: torch.Generator) -> None:
        """Not there: such a model is opened, not begun."""
        raise InputError("a model of transformers' is opened from its directory, not begun anew")

    def finish_loading(self) -> None:
        """Whether rows can be decoded one by one.

        A warning says where they cannot.
        """
        self.is_stepwise = self._can_step()
        if not self.is_stepwise:
            warnings.warn(
                f"a {self.config.content['model_type']} model does not take rows at places of "
                "their own, so there is no cache: each token reads its whole row anew",
                stacklevel=2,
            )

    @torch.no_grad()
    def take(self, whole: Any) -> nn.Linear:
        """The weights of transformers' whole model; returns its head.

        :raises InputError: where logits are more than the head of the hidden states, as where they
            are capped or scaled, where it cannot be run or looks ahead, or where the head is tied
            otherwise than `config.json` says.
        """
        head = self._head_of(whole)
        self.body = whole.base_model
        tokens = torch.arange(1, 4, device=head.weight.device)[None] % self.config.vocab_size
        try:
            is_token = torch.ones_like(tokens)
            expected = whole(input_ids=tokens, attention_mask=is_token, use_cache=False).logits
            hidden = self._rows(tokens, is_token)
            shorter = self._rows(tokens[:, :2], is_token[:, :2])
            found = head(hidden)
        except Exception as error:  # whatever a family makes of its sizes
            reason = " ".join(str(error).split())
            family = self.config.content["model_type"]
            raise InputError(f"a {family} model cannot be run here ({reason:.200})") from None
        scale = 1e-4 + TOLERANCE * float(hidden.std())
        if not torch.allclose(hidden[:, :2], shorter, atol=scale):
            raise InputError(
                f"this {self.config.content['model_type']} model looks at the tokens that come "
                "after (its attention is not causal), so it cannot write: take one that was "
                "trained to"
            )
        if not torch.allclose(found, expected, atol=1e-4 + TOLERANCE * float(expected.std())):
            raise InputError(
                f"a {self.config.content['model_type']} model does more to its logits than its "
                "head (capping, scaling), which is not supported"
            )
        return head

    def _head_of(self, whole: Any) -> nn.Linear:
        """The head of transformers' whole model.

        :raises InputError: where it is tied otherwise than `config.json` says.
        """
        head: nn.Linear = whole.get_output_embeddings()
        is_tied = head.weight is whole.get_input_embeddings().weight
        if is_tied != self.config.tie_word_embeddings:
            raise InputError(otherwise_tied(is_tied))
        return head

    def whole(self, head: nn.Linear) -> Any:
        """transformers' model of this trunk and a head; the weights are shared, not copied."""
        model = self.config.build()
        setattr(model, model.base_model_prefix, self.body)
        model.set_output_embeddings(head)
        return model

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`; rows are padded inside."""
        rows, places = positions_of(lengths)
        padded = tokens.new_zeros(len(lengths), int(lengths.max()))
        padded[rows, places] = tokens
        is_token = torch.arange(padded.shape[1], device=tokens.device) < lengths[:, None]
        hidden = self._rows(padded, is_token)
        if kept is None:
            return hidden[rows, places]
        return hidden[rows[kept], places[kept]]

    def _rows(self, padded: Tensor, is_token: Tensor) -> Tensor:
        """Hidden states `[B, T, d]` of right-padded rows `[B, T]`."""
        found: Tensor = self.body(
            input_ids=padded, attention_mask=is_token.long(), use_cache=False
        ).last_hidden_state
        return found

    def new_cache(self, slots: int, capacity: int) -> Any:
        """Keys and values row by row, or the rows themselves."""
        if self.is_stepwise:
            return RowCache(slots, capacity)
        return torch.zeros(
            slots, capacity, dtype=torch.int64, device=self.embed_tokens.weight.device
        )

    def step(
        self,
        cache: Any,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`."""
        if prefixes is not None:
            self._remember(cache, fresh, prefixes)
        if isinstance(cache, RowCache):
            return self._cached(cache, None, tokens[:, None], positions[:, None])[:, 0]
        cache[torch.arange(len(tokens), device=tokens.device), positions] = tokens
        segments = pack_rows(cache, positions + 1)
        return self.packed(segments.tokens, segments.lengths, segments.acted_index)

    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        hidden = self._remember(cache, slots, segments)
        if hidden is None:
            return self.packed(segments.tokens, segments.lengths, segments.acted_index)
        return hidden[torch.arange(len(slots), device=slots.device), segments.lengths - 1]

    def _remember(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor | None:
        """Whole rows into some slots; hidden states `[k, T, d]` where there are keys and values."""
        rows, places = positions_of(segments.lengths)
        padded = segments.tokens.new_zeros(len(slots), int(segments.lengths.max()))
        padded[rows, places] = segments.tokens
        if not isinstance(cache, RowCache):
            cache[slots, : padded.shape[1]] = padded
            return None
        everywhere = torch.arange(padded.shape[1], device=padded.device).expand_as(padded)
        return self._cached(cache, slots, padded, everywhere)

    def _cached(
        self, cache: RowCache, slots: Tensor | None, tokens: Tensor, places: Tensor
    ) -> Tensor:
        """Hidden states `[k, t, d]` of tokens `[k, t]` at their places, which look at the cache.

        What a padded row writes behind its end is written again before it is looked at.
        """
        cache.expect(slots, places)
        dtype = self.embed_tokens.weight.dtype
        seen = torch.arange(cache.end, device=tokens.device) <= places[..., None]  # [k, t, end]
        hidden = torch.zeros(seen.shape, dtype=dtype, device=tokens.device)
        hidden.masked_fill_(~seen, torch.finfo(dtype).min)
        found: Tensor = self.body(
            input_ids=tokens,
            attention_mask=hidden[:, None],
            position_ids=places,
            use_cache=True,
            **{self.cache_keyword: cache},
        ).last_hidden_state
        return found

    @torch.no_grad()
    def _can_step(self) -> bool:
        """Whether decoding row by row gives what whole rows give."""
        if "position_ids" not in inspect.signature(self.body.forward).parameters:
            return False
        device = self.embed_tokens.weight.device
        size = self.embed_tokens.num_embeddings
        rows = torch.tensor([[1, 2, 3, 0, 0], [2, 5, 4, 3, 1]], device=device) % size
        lengths = torch.tensor([3, 5], device=device)
        whole = pack_rows(rows, lengths)
        expected = self.packed(whole.tokens, whole.lengths, whole.acted_index)
        everywhere = torch.arange(2, device=device)
        last = lengths - 1
        try:
            cache = RowCache(2, 6)
            self.fill(cache, everywhere, pack_rows(rows.flip(1), lengths))  # of rows before these
            self.fill(cache, everywhere, pack_rows(rows, last - 1))
            for place in (last - 1, last):  # both rows a token on, each at a place of its own
                tokens = rows.gather(1, place[:, None])
                found = self._cached(cache, None, tokens, place[:, None])[:, 0]
        except Exception:  # whatever a family does with places and masks of its own
            return False
        scale = 1e-4 + TOLERANCE * float(expected.std())
        return bool(torch.allclose(found, expected, atol=scale))
