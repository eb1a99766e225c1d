"""Generation: prompts continued by a language model, on the decoder that training uses."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from textgym.chat_templates import ChatTemplate, check_chat
from textgym.errors import InputError
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.sampling import Sampling, draw
from textgym.policies.language_model.token_masks import TokenMasks

if TYPE_CHECKING:
    from textgym.policies.language_model.language_model import LanguageModel


def never_sampled(lm: "LanguageModel") -> Tensor:
    """`[k]` int64: padding, the start token, and rows of the head that no token belongs to."""
    tokenizer = lm.tokenizer
    excluded_ids = {tokenizer.pad_token_id, *range(tokenizer.vocab_size, lm.config.vocab_size)}
    excluded_ids.update(tokenizer.missing_ids)
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id not in tokenizer.eos_token_ids:
        excluded_ids.add(tokenizer.bos_token_id)
    return torch.tensor(sorted(excluded_ids), device=lm.device)


def encode_prompts(
    lm: "LanguageModel",
    prompts: Sequence[str],
    max_new_tokens: int,
    *,
    chat: ChatTemplate | None = None,
) -> list[list[int]]:
    """Token ids of prompts, checked for emptiness and against the model's context.

    :param chat: each is a user's message, which the model is to answer, by this template.
    """
    if chat is not None:
        rows = [chat.encode_prompt(prompt) for prompt in prompts]
    else:
        rows = lm.tokenizer.encode_batch(list(prompts), add_special_tokens=True)
    context = lm.config.max_position_embeddings
    for prompt, row in zip(prompts, rows, strict=True):
        if not prompt or not row:
            raise InputError("an empty prompt: give the model at least one character to continue")
        if len(row) + max_new_tokens > context:
            raise InputError(
                f"prompt {prompt!r:.50} has {len(row)} tokens; with max_new_tokens="
                f"{max_new_tokens} that exceeds the model's context of {context}: shorten one"
            )
    return rows


class NextTokens:
    """Chooses the next token of each row, at the price of one new token a row.

    :param lm: whose weights do not change meanwhile.
    :param sampling: temperature 0 takes the likeliest token.
    :param generator: the caller's own, on the model's device; None where each call is given its
        random numbers.
    :param masks: legal tokens.
    :param narrow: what else puts tokens out: logits `[n, v]` and rows to logits; None: nothing.

    `log_probs` are those of the tokens chosen last, `[n]` float32, under the distribution that they
    were drawn from.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        *,
        sampling: Sampling,
        generator: torch.Generator | None = None,
        masks: TokenMasks | None = None,
        narrow: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.lm, self.sampling, self.generator, self.masks = lm, sampling, generator, masks
        self.narrow = narrow
        self.size = lm.tokenizer.vocab_size
        excluded_ids = never_sampled(lm)
        self.excluded_ids = excluded_ids[excluded_ids < self.size]
        self.decoder = CachedDecoder(lm, lm.tokenizer.pad_token_id)
        self.log_probs = torch.zeros(0)

    @property
    def lengths(self) -> Tensor:
        """`[n]` int64, tokens of each row that was asked about last."""
        return self.decoder.known

    @torch.no_grad()
    def __call__(
        self, rows: Tensor, states: list[int] | None = None, numbers: Tensor | None = None
    ) -> Tensor:
        """Tokens `[n]` int64 for right-padded rows `[n, L]` int64.

        :param states: of the masks' automaton; None: as the masks find them in the rows.
        :param numbers: `[n]` float32 in [0, 1), what is drawn with; None: the generator's.
        """
        logits = self.lm.lm_head(self.decoder(rows))[:, : self.size].float()
        if self.masks is not None:
            states = self.masks.states(rows, caller="generate") if states is None else states
            logits = self.masks.apply_states(logits, states)
        logits = self.sampling.filter(logits, self.excluded_ids)
        if self.narrow is not None:
            logits = self.narrow(logits, rows)
        log_probs = logits.log_softmax(-1)
        if self.sampling.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            source = self.generator if numbers is None else numbers
            assert source is not None
            tokens = draw(log_probs, source)
        self.log_probs = log_probs.gather(-1, tokens[:, None])[:, 0]
        return tokens


@torch.no_grad()
def generate_tokens(
    lm: "LanguageModel",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    generator: torch.Generator,
    masks: TokenMasks | None = None,
    stop_ids: Sequence[int] = (),
    batch_size: int = 128,
) -> list[list[int]]:
    """Continuations of prompts of token ids, the stop token left out.

    :param sampling: temperature 0 takes the likeliest token.
    :param masks: legal tokens; the prompts must be such as the masks know.
    :param stop_ids: what ends a text beside the stop tokens.
    """
    pad = lm.tokenizer.pad_token_id
    stops = torch.tensor([*lm.tokenizer.eos_token_ids, *stop_ids], device=lm.device)
    completions: list[list[int]] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        lengths = torch.tensor([len(row) for row in part], device=lm.device)
        rows = torch.full((len(part), int(lengths.max()) + max_new_tokens), pad, device=lm.device)
        for i, row in enumerate(part):
            rows[i, : len(row)] = torch.tensor(row, device=lm.device)
        choose = NextTokens(lm, sampling=sampling, generator=generator, masks=masks)
        is_done = torch.zeros(len(part), dtype=torch.bool, device=lm.device)
        ends = lengths.clone()
        for _ in range(max_new_tokens):
            tokens = choose(rows)
            is_done |= (tokens[:, None] == stops).any(-1)
            if bool(is_done.all()):
                break
            rows[~is_done, ends[~is_done]] = tokens[~is_done]
            ends += ~is_done
        spans = zip(rows.tolist(), lengths.tolist(), ends.tolist(), strict=True)
        completions += [row[begin:end] for row, begin, end in spans]
    return completions


def generate(
    lm: "LanguageModel",
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    chat: bool = False,
    system: str | None = None,
    generator: torch.Generator,
) -> list[str]:
    """See `LanguageModel.generate`; `generator` is the caller's own, on the model's device."""
    check_chat(chat, system)
    template = ChatTemplate(lm.tokenizer, system=system).checked() if chat else None
    rows = encode_prompts(lm, prompts, max_new_tokens, chat=template)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    tokens = generate_tokens(
        lm,
        rows,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        generator=generator,
        stop_ids=() if template is None else template.stop_ids,
    )
    return lm.tokenizer.decode_continuations(rows, tokens)
