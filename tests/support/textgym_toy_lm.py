"""A language model that is no decoder: a recurrent trunk in forty lines."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from textgym.policies import LanguageModel


@dataclass(frozen=True)
class RecurrentConfig:
    vocab_size: int
    hidden_size: int = 24
    max_position_embeddings: int = 64


class RecurrentLM(LanguageModel):
    """Gated recurrent units; the cache keeps each row's state after every position."""

    def __init__(self, config, tokenizer):
        super().__init__(config, tokenizer)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rnn = nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)

    def packed(self, tokens, lengths, kept=None):
        rows = pad_sequence(tokens.split(lengths.tolist()), batch_first=True)
        states = self.rnn(self.embed(rows))[0]
        is_token = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
        flat = states[is_token]
        return flat if kept is None else flat[kept]

    def new_cache(self, slots, capacity):
        return self.embed.weight.new_zeros(slots, capacity + 1, self.config.hidden_size)

    def fill(self, cache, slots, segments):
        states = self.packed(segments.tokens, segments.lengths).split(segments.lengths.tolist())
        for slot, part in zip(slots.tolist(), states, strict=True):
            cache[slot, 1 : len(part) + 1] = part
        return torch.stack([part[-1] for part in states])

    def step(self, cache, tokens, positions, fresh, prefixes):
        if prefixes is not None:
            self.fill(cache, fresh, prefixes)
        slots = torch.arange(len(tokens), device=tokens.device)
        before = cache[slots, positions]  # the state after `positions` tokens; zero after none
        state = self.rnn(self.embed(tokens)[:, None], before[None].contiguous())[0][:, 0]
        cache[slots, positions + 1] = state
        return state


def recurrent_lm(tokenizer, *, seed=0, **config):
    """A fresh model, with distributions that are far from flat."""
    lm = RecurrentLM.fresh(RecurrentConfig(tokenizer.vocab_size, **config), tokenizer, seed=seed)
    with torch.no_grad():
        lm.lm_head.weight.mul_(4)
    return lm.eval()
