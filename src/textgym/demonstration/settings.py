"""How much of everything the demo does, in steps, and how long that takes on this machine.

One training step is timed at the start; the rest is multiplied.
"""

import time
from dataclasses import dataclass

import torch

from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import Document, collate
from textgym.policies.pretraining.objective import batch_loss
from textgym.reward_models.learned.linear import one_thread

ENVIRONMENT = "textgym/MovieReview-v0"
MAX_NEW_TOKENS = 40
TEXTS, TOKENS = 32, 40
PASS_TEXTS = 8
PASS_TOKENS = PASS_TEXTS * TOKENS
HELD = 120  # held-out reviews whose perplexity a fine-tuning tells


@dataclass(frozen=True)
class Settings:
    """How much of everything, in steps: the same on every machine.

    :param pretrain_steps: only from scratch.
    :param reward_steps: of fitting the reward model's trunk: one pass over the ratings.
    :param reward_learning_rate: Muon's, of the reward model's matrices.
    :param timesteps: completion tokens of each of the two runs.
    :param learning_rate: of both, falling to a tenth; `scratch_learning_rate` from scratch,
        where the weights are larger and a step of one size is a smaller one.
    :param prompts: held-out prompts, which each run continues `evaluations` times.
    :param rows: texts that are written side by side; a rollout is 40 tokens of each.
    :param share: of the reviews that fine-tuning and reward models read.
    """

    pretrain_steps: int = 1_400
    sft_steps: int = 40
    reward_steps: int = 354
    reward_learning_rate: float = 0.005
    timesteps: int = 56_320
    learning_rate: float = 1.5e-4
    scratch_learning_rate: float = 3e-4
    kl_coef: float = 0.27
    small_kl_coef: float = 0.03
    temperature: float = 0.8
    prompts: int = 250
    evaluations: int = 5
    rows: int = 32
    share: float = 1.0

    @classmethod
    def quick(cls) -> "Settings":
        """A little of everything: for tests of the road, not of the result."""
        return cls(
            pretrain_steps=20,
            sft_steps=2,
            reward_steps=4,
            timesteps=4 * 8 * MAX_NEW_TOKENS,
            prompts=16,
            evaluations=2,
            rows=8,
            share=0.02,
        )

    def estimate(self, step_seconds: float, *, from_scratch: bool = False) -> float:
        """Seconds that all of it takes where a training step takes so long.

        Multiples of a step of 1,280 tokens, measured on the parts of whole runs. The two runs of
        the comparison go side by side, a core each.
        """
        rollouts = 2 * self.timesteps / (TEXTS * TOKENS)
        steps = 1.0 * self.sft_steps + 1.0 * self.reward_steps + 7.3 * rollouts
        steps += 20 * self.share + 0.08 * self.prompts * self.evaluations
        return 30.0 + step_seconds * (steps + (0.5 * self.pretrain_steps if from_scratch else 0))


@dataclass(frozen=True)
class PolicySettings:
    """How much of everything where the policy is a language model of some size, in steps.

    :param sft_steps: of fine-tuning, for a model that no adapter comes along for.
    :param sft_learning_rate: AdamW's, of the adapter.
    :param sft_rows: reviews of a step.
    :param timesteps: completion tokens of each of the two runs.
    :param learning_rate: of both, of the adapter, falling to a tenth.
    :param lora_rank: of every adapter.
    :param prompts: held-out prompts, which each run continues `evaluations` times.
    :param rows: texts that are written side by side.
    :param num_generations: texts of one prompt, which are compared.
    :param n_groups: prompts of a rollout.
    :param batch_size: completion tokens of an optimizer step, about.
    :param max_new_tokens: of a text at most.
    :param unfinished_score: of a text that meets that limit; the reward model is not asked then.
        None: it is.
    :param fewest_words: of a text, below which it is paid less.
    :param share: of the reviews that fine-tuning and reward model read.
    """

    sft_steps: int = 40
    sft_learning_rate: float = 5e-4
    sft_rows: int = 16
    lora_rank: int = 8
    timesteps: int = 13_000
    learning_rate: float = 1e-3
    kl_coef: float = 0.08
    small_kl_coef: float | None = 0.01
    temperature: float = 0.8
    prompts: int = 200
    evaluations: int = 2
    rows: int = 32
    num_generations: int = 4
    n_groups: int = 8
    batch_size: int = 256
    max_new_tokens: int = 32
    unfinished_score: float | None = -1.0
    fewest_words: int = 8
    share: float = 1.0

    @classmethod
    def quick(cls) -> "PolicySettings":
        """A little of everything: for tests of the road, not of the result."""
        return cls(
            sft_steps=2,
            sft_rows=8,
            timesteps=2 * 8 * 12,
            prompts=16,
            evaluations=2,
            rows=8,
            num_generations=4,
            n_groups=2,
            max_new_tokens=12,
            unfinished_score=None,  # nearly all texts meet so low a limit
            share=0.02,
        )

    def estimate(self, pass_seconds: float, *, has_start: bool, reads: float = 0.0) -> float:
        """Seconds that all of it takes where a pass over 320 tokens takes so long, on one thread.

        Multiples of such a pass, measured on the parts of whole runs. The two runs of the
        comparison go side by side, a core each.

        :param has_start: the fine-tuning comes along.
        :param reads: tokens that a reward model is to be fitted on.
        """
        texts = self.prompts * self.evaluations * 0.7 * self.max_new_tokens
        passes = 7.0 * self.timesteps + 5.0 * texts + 0.6 * reads
        if not has_start:
            passes += 3.0 * 27 * (self.sft_steps * self.sft_rows + 4 * HELD / 3)
        return 60.0 + pass_seconds * passes / PASS_TOKENS


def seconds_of_a_step(lm: LanguageModel, *, repeats: int = 3) -> float:
    """Wall-clock time of a forward and backward pass over 1,280 tokens, the median of a few.

    The model is as it was; nothing is drawn.
    """
    ids = [3 + (7 * place) % (lm.config.vocab_size - 3) for place in range(TOKENS)]
    batch = collate([Document(ids, 1)] * TEXTS)
    times = []
    for _ in range(repeats + 1):  # the first warms up
        began = time.perf_counter()
        with torch.enable_grad():
            loss = batch_loss(lm, batch)
            torch.autograd.grad(loss, [p for p in lm.parameters() if p.requires_grad])
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[repeats // 2]


@torch.no_grad()
def seconds_of_a_pass(lm: LanguageModel) -> float:
    """Wall-clock time of a pass over 320 tokens without gradients, on one thread."""
    ids = [3 + (7 * place) % (lm.config.vocab_size - 3) for place in range(TOKENS)]
    batch = collate([Document(ids, 1)] * PASS_TEXTS)
    with one_thread():
        batch_loss(lm, batch)  # warms up
        began = time.perf_counter()
        batch_loss(lm, batch)
    return time.perf_counter() - began


def written(seconds: float) -> str:
    """A time as people say it: half a minute, four minutes, an hour and a half."""
    if seconds < 90:
        return f"{10 * max(1, round(seconds / 10))} seconds"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
