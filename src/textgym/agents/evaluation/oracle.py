"""The policy that training should find, computed exactly on a task that is small enough.

With reward r, reference π_ref and the price β of a nat, the objective

    J(π) = E_π[r(x, y)] - β KL(π ‖ π_ref)

has one maximum for each prompt x, which is known in closed form:

    π*(y | x) = π_ref(y | x) exp(r(x, y) / β) / Z(x)
    J(π) = β log Z(x) - β KL(π ‖ π*)

(Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences", equation 2; Korbak et
al. 2022, "RL with KL penalties is better viewed as Bayesian inference"; Rafailov et al. 2023,
"Direct Preference Optimization", equation 4). Where all completions y can be listed, every term is
a finite sum. Legend: `c` completions of one prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.task import Task
from textgym.envs.texts.prompts import Prompt
from textgym.errors import InputError
from textgym.policies.language_model.generation import never_sampled
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.log_probs import token_log_probs
from textgym.policies.language_model.packing import pack_segments
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.language_model.token_masks import TokenMasks

MOST_COMPLETIONS = 20_000
PLAIN = Sampling()


# ---- the mathematics ---------------------------------------------------------


def optimum(log_reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log π* `[c]` from log π_ref `[c]` and rewards `[c]`: see the module.

    :raises InputError: if β is not positive: without a penalty the best policy need not be unique.
    """
    if not beta > 0:
        raise InputError(f"beta must be positive, got {beta}: it is the price of a nat of KL")
    return (log_reference + rewards / beta).log_softmax(-1)


def total_variation(p: Tensor, q: Tensor) -> float:
    """½ Σ |p - q| of two distributions `[c]`: the largest difference over all sets of outcomes."""
    return float((p - q).abs().sum() / 2)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> float:
    """KL(p ‖ q) in nats, from log-probabilities `[c]`; what p never does counts for nothing."""
    terms = log_p.exp() * (log_p - log_q)
    return float(terms.masked_fill(log_p == -torch.inf, 0.0).sum())


def expected_reward(log_p: Tensor, rewards: Tensor) -> float:
    """E_p[r], from log-probabilities `[c]` and rewards `[c]`."""
    return float((log_p.exp() * rewards).sum())


# ---- every completion, as the environment plays it ---------------------------


@dataclass(frozen=True)
class Completions:
    """All that can be written after one prompt; in a dialogue, all that the player can say.

    :param prompt: as the environment drew it.
    :param tokens: that were chosen for each completion, the stop token included where one ends it.
    :param seen: int64, for each completion the row that its last token was chosen after.
    :param acted: int64, for each of its tokens the place in that row of the last one before it.
    :param texts: of each completion, as the reward model saw it.
    :param rewards: float64 `[c]`, all that the environment paid.
    """

    prompt: Prompt
    tokens: list[tuple[int, ...]]
    seen: list[np.ndarray]
    acted: list[np.ndarray]
    texts: list[str]
    rewards: Tensor


def list_completions(
    task: Task, tokens: Sequence[int], *, most: int = MOST_COMPLETIONS
) -> list[Completions]:
    """Every completion of each of a task's prompts; under a constraint, every legal one.

    The environment itself is played, so that stops, replies, budget and pay are what they are in
    training.

    :param tokens: ids that the policy may choose, at every step.
    :param most: completions of a prompt, at the most.
    :raises InputError: for a task that has no such list: prompts without end, replies that are
        drawn, a context that fills up, or too many completions.
    """
    source = task.prompt_source()
    if not len(source) or source.truncated_count:
        raise InputError(
            f"{task.id}: the completions of prompts from a function or cut at their start cannot "
            "be listed: give whole prompts in a list"
        )
    return [_play_all(task, prompt, tokens, most) for prompt in source.all()]


def _play_all(task: Task, prompt: Prompt, tokens: Sequence[int], most: int) -> Completions:
    """Extends all unfinished texts by every token, until none is left."""
    alone = replace(task, prompts=[{"prompt": prompt.text, **prompt.columns}])
    first = EpisodeRows(alone, 1)
    first.reset([0], [np.random.default_rng(0)])
    automaton, all_of = first.automaton, Completions(prompt, [], [], [], [], torch.zeros(0))
    rewards: list[float] = []
    unfinished: list[tuple[int, ...]] = [()]
    states = first.constraint_states()
    while unfinished:
        played = [
            (*prefix, token)
            for prefix, state in zip(unfinished, states.tolist(), strict=True)
            for token in tokens
            if automaton is None or automaton.is_legal(state)[token]
        ]
        if len(rewards) + len(played) > most:
            raise InputError(
                f"{task.id}: more than {most:,} completions of one prompt: lower max_new_tokens "
                "or take a tokenizer with fewer tokens"
            )
        rows = EpisodeRows(alone, len(played))
        generators = [np.random.default_rng(0) for _ in played]
        rows.reset(range(len(played)), generators)
        undrawn = generators[0].bit_generator.state
        lengths, paid = [], np.zeros(len(played))
        for actions in np.array(played).T:
            before = rows.tokens.copy()
            lengths.append(rows.lengths.copy())
            result = rows.step(actions)
            paid += result.rewards
        if any(generator.bit_generator.state != undrawn for generator in generators):
            raise InputError(
                f"{task.id}: its reply function draws from np_random, so what follows a turn "
                "cannot be listed: leave out what it draws"
            )
        if result.is_truncated.any():
            raise InputError(f"{task.id}: a full context cuts texts off, so they have no reward")
        for row, ending in sorted(result.endings.items()):
            all_of.tokens.append(played[row])
            all_of.seen.append(before[row, : lengths[-1][row]])
            all_of.acted.append(np.array([counts[row] for counts in lengths]) - 1)
            all_of.texts.append(ending["completion"])
            rewards.append(float(paid[row]))
        is_open = np.array([row not in result.endings for row in range(len(played))])
        unfinished = [prefix for prefix, is_left in zip(played, is_open, strict=True) if is_left]
        states = rows.constraint_states()[is_open]
    return replace(all_of, rewards=torch.tensor(rewards, dtype=torch.float64))


# ---- what a model makes of them ----------------------------------------------


def log_probs(
    lm: LanguageModel,
    completions: Completions,
    sampling: Sampling = PLAIN,
    masks: TokenMasks | None = None,
) -> Tensor:
    """log π(y | x) of every completion, float64 `[c]`, in one pass over all of them.

    :param sampling: how the policy draws; what it leaves out has a log-probability of -inf.
    :param masks: the legal tokens, under a constraint.
    """
    packed = pack_segments(completions.seen, completions.acted).to(lm.device)
    sizes = torch.tensor([len(acted) for acted in completions.acted])
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    chosen = torch.tensor([token for tokens in completions.tokens for token in tokens])
    each = token_log_probs(
        lm,
        packed,
        chosen.to(lm.device),
        sampling,
        masks=masks,
        keep_actions=False,
        dtype=torch.float64,
    ).cpu()
    return each.new_zeros(len(sizes)).index_add(0, owner, each)


class Oracle:
    """A small task's best policy under a KL penalty, and how near a model comes to it.

    :param task: as `textgym.get_task` gives it.
    :param reference: the model that the KL term is to; it is read once, here.
    :param beta: β, the agent's `kl_coef`.
    :param sampling: how the policy draws.
    :raises InputError: see `list_completions` and `optimum`.
    """

    def __init__(
        self, task: Task, reference: LanguageModel, beta: float, *, sampling: Sampling = PLAIN
    ) -> None:
        excluded_ids = set(never_sampled(reference).tolist())
        tokens = [i for i in range(reference.tokenizer.vocab_size) if i not in excluded_ids]
        own_task = replace(task, tokenizer=reference.tokenizer)
        automaton = EpisodeRows(own_task, 1).automaton
        self.masks = None if automaton is None else TokenMasks(automaton)
        self.tokenizer, self.beta, self.sampling = reference.tokenizer, beta, sampling
        self.completions = list_completions(own_task, tokens)
        self.log_reference = self.log_probs(reference)
        self.log_optimum = [
            optimum(log_reference, c.rewards, beta)
            for log_reference, c in zip(self.log_reference, self.completions, strict=True)
        ]

    def log_probs(self, lm: LanguageModel) -> list[Tensor]:
        """log π(y | x) under a model, for each prompt float64 `[c]`.

        :raises InputError: for a model with another tokenizer than the reference's.
        """
        if lm.tokenizer != self.tokenizer:
            raise InputError(
                f"the oracle lists texts in the reference's {self.tokenizer.vocab_size} tokens, "
                f"but the model has another tokenizer, of {lm.tokenizer.vocab_size}: make an "
                "oracle for it"
            )
        return [log_probs(lm, c, self.sampling, self.masks) for c in self.completions]

    def distance(self, lm: LanguageModel) -> float:
        """Total variation between the model and π*, on the prompt where it is largest."""
        return max(
            total_variation(mine.exp(), best.exp())
            for mine, best in zip(self.log_probs(lm), self.log_optimum, strict=True)
        )

    def reward(self, lm: LanguageModel) -> float:
        """The model's expected reward, mean over the prompts."""
        pairs = zip(self.log_probs(lm), self.completions, strict=True)
        return sum(expected_reward(mine, c.rewards) for mine, c in pairs) / len(self.completions)

    @property
    def highest_reward(self) -> float:
        """What a policy without any penalty could earn, mean over the prompts."""
        return sum(float(c.rewards.max()) for c in self.completions) / len(self.completions)

    def kl(self, lm: LanguageModel) -> float:
        """KL(π ‖ π_ref) in nats per text, mean over the prompts."""
        pairs = zip(self.log_probs(lm), self.log_reference, strict=True)
        return sum(kl_divergence(mine, theirs) for mine, theirs in pairs) / len(self.completions)

    def objective(self, lm: LanguageModel) -> float:
        """J(π), mean over the prompts: what a KL-regularised algorithm raises."""
        return self.reward(lm) - self.beta * self.kl(lm)

    @property
    def highest_objective(self) -> float:
        """J(π*) = β log Z, mean over the prompts."""
        pairs = zip(self.log_reference, self.completions, strict=True)
        values = [(log_ref + c.rewards / self.beta).logsumexp(-1) for log_ref, c in pairs]
        return self.beta * float(torch.stack(values).mean())
