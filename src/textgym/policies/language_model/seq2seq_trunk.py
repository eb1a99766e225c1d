"""An encoder with a decoder of transformers' as a trunk: T5, BART and their like.

A row of tokens is a prompt, whose end its tokenizer marks, and what was written behind it. The
encoder reads the prompt, once a row; the decoder begins with its start token and reads what was
written. The hidden state at a prompt's last token is the decoder's at its start, whose logits are
those of the first token; those at the tokens before are the encoder's own.

Legend: `N` flat tokens, `B` segments, `n` slots, `k` of them, `s` tokens of the longest prompt,
`t` of the longest row of the decoder, `d` hidden size.
"""

import inspect
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from textgym.errors import InputError
from textgym.policies.language_model.foreign_trunk import TOLERANCE, ForeignTrunk
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.language_model.seq2seq_cache import RowsAnew, Seq2SeqCache, at_places
from textgym.policies.language_model.seq2seq_config import FixedBiasHead, Seq2SeqConfig


class Seq2SeqTrunk(ForeignTrunk):
    """A model of transformers' without its head. Dropout is off: `drop` must stay 0.

    :param config: its shape.
    :param prompt_end: ids that end each prompt; the first of them stands in no prompt.
    """

    config: Seq2SeqConfig

    def __init__(self, config: Seq2SeqConfig, prompt_end: Sequence[int]) -> None:
        super().__init__(config)
        self.prompt_end = tuple(prompt_end)
        self.body = _without_head(self.body)
        known = inspect.signature(self.body.decoder.forward).parameters
        self.cache_keyword = "cache" if "cache" in known else "past_key_values"  # before 5.24
        self.begin = config.decoder_prompt

    @property
    def cached_per_token(self) -> int:
        """Keys and values of every layer twice: there is room for either part in a whole row."""
        return 2 * super().cached_per_token

    @torch.no_grad()
    def take(self, whole: Any) -> nn.Linear:
        """See `ForeignTrunk`; a bias that is no weight is part of the head.

        :raises InputError: where logits are more than the head of the hidden states, or the head
            is tied otherwise than `config.json` says.
        """
        head = self._head_of(whole)
        family = self.config.content["model_type"]
        tokens = self._trial_tokens([[1, 2, 3]], head.weight.device)
        begun = torch.cat([tokens.new_tensor([self.begin]), tokens], 1)
        try:
            expected = whole(input_ids=tokens, decoder_input_ids=begun, use_cache=False).logits
            self.body = _without_head(whole, dict(self.body.named_buffers()))
            bias = getattr(whole, "final_logits_bias", None)
            if bias is not None:
                head = FixedBiasHead(head.weight, bias[0])
            lengths = tokens.new_tensor([3])
            encoded = self._encoded(tokens, lengths)
            found = head(self._decoded(begun, encoded, lengths))
        except Exception as error:  # whatever a family wants beside tokens
            reason = " ".join(str(error).split())
            raise InputError(f"a {family} model cannot be run here ({reason:.200})") from None
        is_alike = encoded.shape[-1] == self.config.hidden_size
        if not is_alike or not torch.allclose(
            found, expected, atol=1e-4 + TOLERANCE * float(expected.std())
        ):
            raise InputError(
                f"a {family} model does more to its logits than its head (capping, scaling), which "
                "is not supported"
            )
        return head

    def whole(self, head: nn.Linear) -> Any:
        """transformers' model of this trunk and a head; the weights are shared, not copied."""
        model = self.config.build()
        if not self.prefix:
            for name, part in self.body.named_children():
                setattr(model, name, part)
        else:
            setattr(model, model.base_model_prefix, self.body)
        model.get_output_embeddings().weight = head.weight
        if isinstance(head, FixedBiasHead):
            model.final_logits_bias = head.bias[None]
        model.config.tie_word_embeddings = self.config.tie_word_embeddings
        start, *forced = self.begin
        model.generation_config.decoder_start_token_id = start
        model.generation_config.forced_bos_token_id = forced[0] if forced else None
        return model

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`; rows are padded inside."""
        source, prompts, target, _ = self._split(tokens, lengths)
        encoded = self._encoded(source, prompts)
        hidden = self._decoded(target, encoded, prompts)
        rows, places = positions_of(lengths)
        if kept is not None:
            rows, places = rows[kept], places[kept]
        places_written = places - prompts[rows] + len(self.begin)
        found = hidden[rows, places_written.clamp(min=0)]
        is_read = places_written < len(self.begin) - 1
        if bool(is_read.any()):
            read = encoded[rows, places.clamp(max=encoded.shape[1] - 1)]
            found = torch.where(is_read[:, None], read.to(found.dtype), found)
        return found

    def _split(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the encoder reads and what the decoder reads, right-padded, each with its lengths.

        :return: `[B, s]`, `[B]`, `[B, t]`, `[B]`, int64.
        :raises InputError: for a segment without the end of a prompt.
        """
        rows, places = positions_of(lengths)
        is_end = tokens == self.prompt_end[0]
        prompts = torch.full_like(lengths, len(tokens))
        prompts.scatter_reduce_(0, rows[is_end], places[is_end], "amin")
        prompts += len(self.prompt_end)
        if bool((prompts > lengths).any()):
            raise InputError(
                "a row without the end of a prompt, which an encoder with a decoder needs: encode "
                "prompts with add_special_tokens=True, by the policy's own tokenizer"
            )
        written = lengths - prompts + len(self.begin)
        source = tokens.new_full((len(lengths), int(prompts.max())), self.pad)
        target = tokens.new_full((len(lengths), int(written.max())), self.pad)
        target[:, : len(self.begin)] = tokens.new_tensor(self.begin)
        is_prompt = places < prompts[rows]
        source[rows[is_prompt], places[is_prompt]] = tokens[is_prompt]
        rows, places = rows[~is_prompt], places[~is_prompt]
        target[rows, places - prompts[rows] + len(self.begin)] = tokens[~is_prompt]
        return source, prompts, target, written

    @property
    def pad(self) -> int:
        """What stands behind the end of a shorter row, and is never looked at."""
        return int(self.config.content.get("pad_token_id") or 0)

    def _encoded(self, source: Tensor, prompts: Tensor) -> Tensor:
        """The encoder's hidden states `[B, s, d]`."""
        found: Tensor = self.body.encoder(
            input_ids=source, attention_mask=_mask(source.shape[1], prompts)
        ).last_hidden_state
        return found

    def _decoded(self, target: Tensor, encoded: Tensor, prompts: Tensor, **more: Any) -> Tensor:
        """The decoder's hidden states `[B, t, d]`, as the head reads them.

        Nothing is masked at its right end: no token looks there.
        """
        found: Tensor = self.body.decoder(
            **{"input_ids": target, "use_cache": False, **more},
            encoder_hidden_states=encoded,
            encoder_attention_mask=_mask(encoded.shape[1], prompts),
        ).last_hidden_state
        return found if self.config.scale == 1 else found * self.config.scale

    def new_cache(self, slots: int, capacity: int) -> Any:
        """Keys and values row by row, or the rows themselves with their prompts as read."""
        like = self.embed_tokens.weight
        if self.is_stepwise:
            return Seq2SeqCache(slots, capacity, len(self.begin), like.device)
        return RowsAnew(slots, capacity, len(self.begin), like[:0, : self.config.hidden_size])

    def step(
        self,
        cache: Any,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`; a fresh row's prompt is read whole, with its last token."""
        at = positions.clamp(max=cache.source.shape[1] - 1)[:, None]
        is_end = (positions == cache.prompts - 1) & (cache.source.gather(1, at)[:, 0] == tokens)
        # A prompt that begins as the last one did, and ends earlier, comes without a prefix.
        is_fresh = (positions < cache.prompts.clamp(min=1)) & ~is_end
        is_fresh[fresh] = True
        if bool(is_fresh.any()):
            slots = is_fresh.nonzero()[:, 0]
            lengths = positions[slots] + 1
            padded = cache.source[slots, : int(lengths.max())]
            if prefixes is not None:
                rows, places = positions_of(prefixes.lengths)
                padded = nn.functional.pad(padded, (0, int(lengths.max()) - padded.shape[1]))
                padded[torch.searchsorted(slots, fresh)[rows], places] = prefixes.tokens
            padded[torch.arange(len(slots), device=slots.device), lengths - 1] = tokens[slots]
            rows, places = positions_of(lengths)
            hidden = self._fill(cache, slots, *self._split(padded[rows, places], lengths))
            if len(slots) == len(tokens):
                return hidden
        places = positions - cache.prompts + len(self.begin)
        begin = tokens.new_tensor(self.begin)
        is_start = places < len(self.begin)
        tokens = torch.where(is_start, begin[places.clamp(0, len(self.begin) - 1)], tokens)
        return self._step(cache, tokens, places)

    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        return self._fill(cache, slots, *self._split(segments.tokens, segments.lengths))

    def _fill(
        self,
        cache: Any,
        slots: Tensor,
        source: Tensor,
        prompts: Tensor,
        target: Tensor,
        written: Tensor,
    ) -> Tensor:
        """Prompts and what was written behind them into some slots; `[k, d]` at their ends."""
        cache.prompts[slots] = prompts
        cache.source[slots, : source.shape[1]] = source
        encoded = self._encoded(source, prompts)
        if isinstance(cache, Seq2SeqCache):
            everywhere = torch.arange(target.shape[1], device=target.device).expand_as(target)
            hidden = self._cached_rows(cache, slots, target, everywhere, encoded, prompts)
        else:
            cache.tokens[slots, : target.shape[1]] = target
            cache.encoded[slots, : encoded.shape[1]] = encoded.to(cache.encoded.dtype)
            hidden = self._decoded(target, encoded, prompts)
        return hidden[torch.arange(len(slots), device=slots.device), written - 1]

    def _step(self, cache: Any, tokens: Tensor, places: Tensor) -> Tensor:
        """Hidden states `[n, d]` of one token a slot, each at its place of the decoder's row."""
        longest = int(cache.prompts.max())
        if isinstance(cache, Seq2SeqCache):
            # The layers have the prompts' keys and values; only the shape of the rest is asked for.
            nothing = self.embed_tokens.weight.new_zeros(())
            encoded = nothing.expand(len(tokens), longest, self.config.hidden_size)
            hidden = self._cached_rows(cache, None, tokens[:, None], places[:, None], encoded)
            return hidden[:, 0]
        everyone = torch.arange(len(tokens), device=tokens.device)
        cache.tokens[everyone, places] = tokens
        target = cache.tokens[:, : int(places.max()) + 1]
        return self._decoded(target, cache.encoded[:, :longest], cache.prompts)[everyone, places]

    def _cached_rows(
        self,
        cache: Seq2SeqCache,
        slots: Tensor | None,
        tokens: Tensor,
        places: Tensor,
        encoded: Tensor,
        prompts: Tensor | None = None,
    ) -> Tensor:
        """Hidden states `[k, t, d]` of tokens `[k, t]` at their places, which look at the cache.

        What a padded row writes behind its end is written again before it is looked at.
        """
        cache.expect(slots, places)
        end = cache.written.end
        dtype = self.embed_tokens.weight.dtype
        seen = torch.arange(end, device=tokens.device) <= places[..., None]  # [k, t, end]
        hidden = torch.zeros(seen.shape, dtype=dtype, device=tokens.device)
        hidden.masked_fill_(~seen, torch.finfo(dtype).min)
        with at_places(self.body.decoder, places, end):
            return self._decoded(
                tokens,
                encoded,
                cache.prompts if prompts is None else prompts,
                attention_mask=hidden[:, None],
                use_cache=True,
                **{self.cache_keyword: cache.pair},
            )

    def finish_loading(self) -> None:
        """See `ForeignTrunk`."""
        self.is_stepwise = True
        self.is_stepwise = self._can_step()
        if not self.is_stepwise:
            warnings.warn(
                f"the decoder of a {self.config.content['model_type']} model does not take rows at "
                "places of their own, so it has no cache: each token reads all before it anew",
                stacklevel=2,
            )

    def _trial_tokens(self, rows: list[list[int]], device: torch.device) -> Tensor:
        """Rows of small numbers as ids of tokens that are no padding, `[B, t]` int64."""
        ids = [i for i in range(min(self.config.vocab_size, 16)) if i != self.pad]
        return torch.tensor([[ids[i % len(ids)] for i in row] for row in rows], device=device)

    @torch.no_grad()
    def _can_step(self) -> bool:
        """Whether decoding row by row gives what whole rows give."""
        device = self.embed_tokens.weight.device
        source = self._trial_tokens([[1, 2, 3, 0, 0], [2, 5, 4, 3, 1]], device)
        prompts, written = torch.tensor([[3, 5], [5, 3]], device=device)
        target = source.flip(1)
        expected = self._decoded(target, self._encoded(source, prompts), prompts)
        everywhere = torch.arange(2, device=device)
        try:
            cache = self.new_cache(2, 7)
            rows = (source.flip(1), prompts.flip(0), source, written)
            self._fill(cache, everywhere, *rows)  # of rows before these
            self._fill(cache, everywhere, source, prompts, target, written - 2)
            for place in (written - 2, written - 1):  # both rows a token on, each at its own place
                tokens = target.gather(1, place[:, None])[:, 0]
                found = self._step(cache, tokens, place)
        except Exception:  # whatever a family does with places and masks of its own
            return False
        expected = expected[everywhere, written - 1]
        scale = 1e-4 + TOLERANCE * float(expected.std())
        return bool(torch.allclose(found, expected, atol=scale))


def _mask(width: int, lengths: Tensor) -> Tensor:
    """`[B, width]` int64: 1 at the tokens of right-padded rows."""
    return (torch.arange(width, device=lengths.device) < lengths[:, None]).long()


def _without_head(whole: Any, frozen: Collection[str] = ()) -> Any:
    """The encoder and the decoder of transformers' whole model, which may be the model itself.

    What is frozen as a family makes it (tables of sines) is no weight that may learn here.

    :param frozen: names of such; those that `whole` itself has frozen are found.
    """
    body = whole.base_model
    head = whole.get_output_embeddings()
    for name, part in list(body.named_children()):
        if part is head:
            delattr(body, name)
    for name, weight in list(body.named_parameters()):
        if name in frozen or not weight.requires_grad:
            owner, _, last = name.rpartition(".")
            delattr(body.get_submodule(owner), last)
            body.get_submodule(owner).register_buffer(last, weight.detach())
    return body
