"""Sampling the next token: temperature, top-k, top-p, and one fast draw.

The distribution that is drawn from is the one whose log-probabilities are reported. Legend: `n`
rows, `v` vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from textgym.checks import check_numbers
from textgym.errors import DivergenceError, InputError

MIN_TEMPERATURE = 1e-6
BLOCK = 2**20  # logits that are worked on at a time where all between them fits a cache


@dataclass(frozen=True)
class Sampling:
    """How logits become the distribution that is sampled from.

    :param temperature: divides the logits; 0 is greedy (only for generation).
    :param top_k: keep the k likeliest tokens (ties with the k-th included); 0 keeps all.
    :param top_p: keep the smallest set of likeliest tokens that holds this much probability
        (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"); 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if 0 < self.temperature < MIN_TEMPERATURE:  # logits divided by less overflow float32
            raise InputError(
                f"temperature must be 0 (greedy) or at least {MIN_TEMPERATURE:g}, got "
                f"{self.temperature}"
            )
        if self.temperature == 0 and (self.top_k > 0 or self.top_p < 1):
            raise InputError(
                "temperature 0 takes the likeliest token, so top_k and top_p mean nothing: leave "
                f"them out, or raise the temperature (got top_k={self.top_k}, top_p={self.top_p})"
            )

    def filter(
        self, logits: Tensor, excluded_ids: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """Logits of the distribution that is sampled from; excluded tokens are at -inf.

        :param logits: `[n, v]` float.
        :param excluded_ids: `[k]` int64, tokens that are never sampled (padding).
        :param keep: `[n]` int64, tokens that stay in: those once drawn, which rounding on the edge
            of the set must not put out when they are evaluated again.
        :return: `[n, v]`; the tensor given is never changed.
        """
        if self.temperature not in (0.0, 1.0):
            logits = logits / self.temperature
        if excluded_ids is not None:
            logits = logits.index_fill(-1, excluded_ids, float("-inf"))
        if self.top_k == 0 and self.top_p == 1.0:
            return logits
        is_excluded = torch.zeros_like(logits, dtype=torch.bool)
        with torch.no_grad():
            if 0 < self.top_k < logits.shape[-1]:
                least = logits.topk(self.top_k, dim=-1).values[:, -1:]
                is_excluded |= logits < least
            if self.top_p < 1.0:
                inside = logits.masked_fill(is_excluded, float("-inf"))
                probabilities, order = inside.softmax(-1).sort(dim=-1, descending=True)
                before = probabilities.cumsum(-1) - probabilities
                is_excluded |= torch.empty_like(is_excluded).scatter_(
                    -1, order, before >= self.top_p
                )
            if keep is not None:
                is_excluded.scatter_(-1, keep[:, None], False)
        return logits.masked_fill(is_excluded, float("-inf"))


def draw(log_probs: Tensor, numbers: torch.Generator | Tensor) -> Tensor:
    """One token a row by the inverse of the cumulative distribution: one random number a row.

    :param log_probs: `[n, v]` float32, normalized; -inf is never drawn.
    :param numbers: a generator, the caller's own, on the same device; or the random numbers
        themselves, `[n]` float32 in [0, 1).
    :return: `[n]` int64.
    :raises DivergenceError: for log-probabilities that are not numbers.
    """
    cumulative = log_probs.exp().cumsum(-1)  # [n, v]
    total = cumulative[:, -1:]
    if isinstance(numbers, torch.Generator):
        uniform = torch.rand(total.shape, generator=numbers, device=total.device, dtype=total.dtype)
    else:
        uniform = numbers.to(total)[:, None]
    # Rounding must not carry u to the total, past the last token that has any probability.
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, point, right=True)[:, 0]
    # Asked last: a GPU has all of the draw in its queue by then.
    if not math.isfinite(float(total.detach().sum())):
        raise DivergenceError(
            "the probabilities of the next token are not finite, so the weights of the language "
            "model have diverged: go on from an earlier checkpoint, with a lower learning_rate"
        )
    return drawn


class LogProbAndEntropy(torch.autograd.Function):
    """Log-probability of the chosen token and entropy, with a backward of one pass.

    Stable-Baselines3 multiplies the entropy by `ent_coef`, zero by default, and still runs its
    backward: here a gradient of zero costs nothing. Gradients by hand, with p the probabilities:
    d log p_a / d logits = onehot(a) - p and d H / d logits = -p (log p + H).

    Some rows at a time, so that what is between logits and results stays in the processor's cache.
    Only the logits are kept, and their gradient is the only other tensor of their size.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        """`logits [n, v]`, `actions [n]` int64 → two `[n]`, the log-probability and the entropy."""
        chosen, entropy = logits.new_empty(len(logits)), logits.new_empty(len(logits))
        for part in _blocks(logits):
            log_probs, probabilities = _both(logits[part])
            chosen[part] = log_probs.gather(-1, actions[part, None])[:, 0]
            # exp(-1e4) is 0 as well, and 0 · log 0 becomes 0
            entropy[part] = -torch.linalg.vecdot(probabilities, log_probs.clamp_min_(-1e4))
        ctx.save_for_backward(logits, actions, entropy)
        return chosen, entropy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_chosen: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        """See the class."""
        logits, actions, entropy = ctx.saved_tensors
        is_without_entropy = bool((grad_entropy == 0).all())
        grad = torch.empty_like(logits)
        for part in _blocks(logits):
            log_probs, probabilities = _both(logits[part])
            scale = -grad_chosen[part, None]
            if not is_without_entropy:
                surprise = log_probs.clamp_min_(-1e4).add_(entropy[part, None])
                scale = scale - surprise.mul_(grad_entropy[part, None])
            torch.mul(probabilities, scale, out=grad[part])
        return grad.scatter_add_(-1, actions[:, None], grad_chosen[:, None]), None


def _blocks(logits: Tensor) -> list[slice]:
    size = max(1, BLOCK // logits.shape[-1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]


def _both(logits: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = logits.log_softmax(-1)
    return log_probs, log_probs.exp()


def log_prob_and_entropy(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """`logits [n, v]` (as `Sampling.filter` gives them), `actions [n]` int64 → two `[n]` float."""
    return LogProbAndEntropy.apply(logits, actions)  # type: ignore[no-any-return, no-untyped-call]


def chosen_log_probs(logits: Tensor, actions: Tensor) -> Tensor:
    """The first of `log_prob_and_entropy` alone, for where nothing learns: `[n]`, in any dtype."""
    found = logits.new_empty(len(logits))
    for part in _blocks(logits):
        log_probs = logits[part].log_softmax(-1)
        found[part] = log_probs.gather(-1, actions[part, None])[:, 0]
    return found
