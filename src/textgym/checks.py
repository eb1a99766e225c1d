"""The ranges of all numbers that verbs and algorithms take: one table.

Also whether a device is there and whether something fits into the memory.
"""

import math
import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from textgym.errors import InputError


class Range(NamedTuple):
    """The values that a number may have.

    :param is_whole: it has no fraction.
    :param edges: `"[]"` with both ends, `"(]"` without the lower one, and so on.
    """

    is_whole: bool
    low: float
    high: float
    edges: str
    meaning: str

    def holds(self, value: Any) -> bool:
        """Whether it is such a number; a truth value is none."""
        kinds: Any = Integral if self.is_whole else Real
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        is_above = value > self.low if self.edges[0] == "(" else value >= self.low
        return bool(
            is_above and (value < self.high if self.edges[1] == ")" else value <= self.high)
        )

    def __str__(self) -> str:
        low, high = _written(self.low), _written(self.high)
        if self.edges == "[]":
            span = f"from {low} to {high}"
        elif self.edges == "(]":
            span = f"above {low}, at most {high}"
        else:
            span = f"{'above' if self.edges[0] == '(' else 'from'} {low}, below {high}"
        return f"a {'whole' if self.is_whole else 'finite'} number {span}"


def _whole(low: float, high: float, meaning: str) -> Range:
    return Range(True, low, high, "[]", meaning)


def _number(edges: str, low: float, high: float, meaning: str) -> Range:
    return Range(False, low, high, edges, meaning)


# Upper ends that no work of today comes near: what is beyond them is a slip of the pen.
_COUNT, _BUDGET, _SECONDS, _FACTOR = 10**6, 10**12, 1e9, 1e6

RANGES: dict[str, Range] = {
    # How much, and from where.
    "seed": _whole(0, 2**32 - 1, "of everything that is drawn"),
    "steps": _whole(1, _BUDGET, "optimizer steps"),
    "timesteps": _whole(1, _BUDGET, "completion tokens in all"),
    "epochs": _number("(]", 0, _FACTOR, "passes over the data"),
    "seconds": _number("(]", 0, _SECONDS, "wall-clock time"),
    "checkpoint_seconds": _number("[]", 0, _SECONDS, "time between two checkpoints"),
    "checkpoint_tokens": _whole(1, _BUDGET, "completion tokens between two checkpoints"),
    "keep": _whole(2, 10_000, "checkpoints that are kept"),
    "patience": _whole(1, _BUDGET, "evaluations without a better one"),
    "evaluations": _whole(0, 10_000, "held-out evaluations on the way; 0: none"),
    "jobs": _whole(1, 10_000, "runs at a time"),
    "evaluate_every": _whole(1, _BUDGET, "steps between evaluations"),
    "n_episodes": _whole(1, _BUDGET, "texts to write"),
    "samples": _whole(0, _BUDGET, "texts to show"),
    "max_new_tokens": _whole(1, 10**9, "tokens of a completion"),
    "max_prompt_tokens": _whole(1, 10**9, "tokens of a prompt"),
    "max_context": _whole(2, 10**9, "tokens of prompt, turns and completion"),
    "max_completion_length": _whole(1, 10**9, "tokens of a completion"),
    "max_episode_steps": _whole(1, _BUDGET, "tokens before an episode is cut"),
    "reward_timeout": _number("(]", 0, _SECONDS, "seconds for a batch of texts"),
    "reward_retries": _whole(0, 1000, "further tries of a batch of texts"),
    "reward_workers": _whole(0, 1024, "calls of the reward model at a time beside the rollout"),
    "n_texts": _whole(16, _BUDGET, "judged texts that are used; fewer say nothing"),
    "n_prompts": _whole(1, _BUDGET, "prompts that a policy continues"),
    "raters": _whole(1, 10_000, "people who answer each question"),
    "answers": _whole(1, 10_000, "of yours to learn from"),
    "held_out": _whole(1, 10_000, "answers that are set aside"),
    "port": _whole(0, 2**16 - 1, "of a page"),
    # Texts.
    "heldout": _number("[)", 0, 1, "share that is not learned from"),
    "min_characters": _whole(0, _BUDGET, "of a text"),
    "max_characters": _whole(1, _BUDGET, "of a text"),
    # Sizes of a model.
    "vocab_size": _whole(1, 10**9, "tokens"),
    "hidden_size": _whole(1, 10**9, "width"),
    "intermediate_size": _whole(1, 10**10, "width inside a block"),
    "num_hidden_layers": _whole(1, 10_000, "depth"),
    "num_attention_heads": _whole(1, 10**9, "heads"),
    "num_key_value_heads": _whole(1, 10**9, "heads of keys and values"),
    "head_dim": _whole(2, 10**6, "width of a head"),
    "max_position_embeddings": _whole(2, 10**9, "tokens that a model can see"),
    "context": _whole(2, 10**9, "tokens that a model can see"),
    "latent_size": _whole(1, 10**6, "dimensions of z"),
    "mean_scale": _number("[]", 0, 100, "standard deviation of posterior means over texts"),
    "latent_scale": _number("(]", 0, 100, "factor on z where a decoder reads it"),
    "rope_theta": _number("(]", 0, 1e12, "base of the rotary positions"),
    "query_pre_attn_scalar": _whole(1, 10**6, "whose root divides attention scores"),
    "rms_norm_eps": _number("(]", 0, 1, "added under the root"),
    "layers": _whole(1, 10_000, "last layers that are read"),
    "heads": _whole(1, 10_000, "heads of a reward model"),
    "penalty": _number("[]", 0, _FACTOR, "standard deviations that are taken off a mean"),
    "dropout": _number("[)", 0, 1, "share that is dropped while training"),
    "word_dropout": _number("[)", 0, 1, "share of words hidden from the decoder while training"),
    "free_bits": _number("[]", 0, _FACTOR, "nats of a dimension that cost nothing"),
    "decorrelation": _number("[]", 0, _FACTOR, "factor on squared covariances of posterior means"),
    "kl_warmup": _number("[]", 0, 1, "share over which the KL term's weight grows"),
    "kl_cycles": _whole(1, _COUNT, "cycles of the KL term's weight"),
    "micro_batch_tokens": _whole(1, 10**9, "tokens that are read at a time"),
    "lora_rank": _whole(1, 10**5, "rank of an adapter"),
    "lora_alpha": _number("(]", 0, _FACTOR, "factor on an adapter, times its rank"),
    # Optimizers.
    "batch_size": _whole(1, 10**7, "of a batch"),
    "accumulate": _whole(1, 10**5, "batches of an optimizer step"),
    "n_epochs": _whole(1, _COUNT, "passes over a rollout"),
    "learning_rate": _number("[]", 0, 1e20, "rate"),
    "muon_learning_rate": _number("(]", 0, 1e20, "rate of the block matrices"),
    "final_learning_rate": _number("[]", 0, 1e20, "rate at the end"),
    "value_lr_scale": _number("[]", 0, _FACTOR, "factor on the rate of the value head"),
    "weight_decay": _number("[]", 0, 100, "decay"),
    "max_grad_norm": _number("(]", 0, _SECONDS, "where gradients are cut"),
    "rms_prop_eps": _number("(]", 0, 1, "added under the root"),
    # Rollouts.
    "n_envs": _whole(1, 10**9, "rows that play at a time"),
    "n_steps": _whole(1, 10**9, "steps of a row"),
    "n_groups": _whole(1, 10**9, "groups of a rollout"),
    "num_generations": _whole(1, _COUNT, "completions of a prompt"),
    "buffer_size": _whole(1, 10**12, "tokens that are kept"),
    "learning_starts": _whole(0, _BUDGET, "tokens before the first update"),
    "train_freq": _whole(1, _COUNT, "steps between updates"),
    "gradient_steps": _whole(-1, _COUNT, "updates after a rollout; -1: one a token"),
    "target_update_interval": _whole(1, _BUDGET, "steps between copies of the network"),
    "stats_window_size": _whole(1, _COUNT, "episodes of a mean"),
    "value_warmup_rollouts": _whole(0, _COUNT, "rollouts before the trunk learns"),
    "mask_update_interval": _whole(1, _COUNT, "rollouts under one mask"),
    "verbose": _whole(0, 2, "how much Stable-Baselines3 prints"),
    # Objectives.
    "gamma": _number("[]", 0, 1, "discount"),
    "gae_lambda": _number("[]", 0, 1, "of the advantages"),
    "ent_coef": _number("[]", 0, _FACTOR, "factor on the entropy"),
    "vf_coef": _number("[]", 0, _FACTOR, "factor on the value's loss"),
    "kl_coef": _number("[]", 0, _FACTOR, "reward per nat"),
    "kl_target": _number("(]", 0, _FACTOR, "nats per episode"),
    "kl_horizon": _number("(]", 0, _BUDGET, "episodes of the controller"),
    "target_kl": _number("(]", 0, _FACTOR, "nats of an update"),
    "clip_range": _number("(]", 0, _FACTOR, "of the ratio"),
    "clip_range_vf": _number("(]", 0, _FACTOR, "of the value"),
    "epsilon_high": _number("(]", 0, _FACTOR, "upper end of the ratio's range"),
    "label_smoothing": _number("[)", 0, 0.5, "share of labels taken as wrong"),
    "baseline_decay": _number("[)", 0, 1, "of a running mean"),
    "cg_max_steps": _whole(1, _COUNT, "steps of the conjugate gradient"),
    "cg_damping": _number("[]", 0, _FACTOR, "of the conjugate gradient"),
    "line_search_shrinking_factor": _number("()", 0, 1, "of the line search"),
    "line_search_max_iter": _whole(1, _COUNT, "steps of the line search"),
    "n_critic_updates": _whole(1, _COUNT, "passes of the critic"),
    "sub_sampling_factor": _whole(1, _COUNT, "share of the rollout, as a divisor"),
    "n_quantiles": _whole(1, 10**5, "of the return"),
    # Continuous actions.
    "policy_delay": _whole(1, _COUNT, "updates of the critic for one of the actor"),
    "target_policy_noise": _number("[]", 0, _FACTOR, "standard deviation"),
    "target_noise_clip": _number("[]", 0, _FACTOR, "where that noise is cut"),
    "target_entropy": _number("[]", -_FACTOR, _FACTOR, "nats of an action"),
    "top_quantiles_to_drop_per_net": _whole(0, 10**5, "of the return, the highest"),
    "n_delta": _whole(1, _COUNT, "directions that are tried"),
    "n_top": _whole(1, _COUNT, "directions that count"),
    "delta_std": _number("(]", 0, _FACTOR, "standard deviation of a direction"),
    "alive_bonus_offset": _number("[]", -_FACTOR, _FACTOR, "added for each step"),
    "n_eval_episodes": _whole(1, _COUNT, "texts of a direction"),
    # Drawing.
    "temperature": _number("[]", 0, _FACTOR, "divides the logits"),
    "q_temperature": _number("(]", 0, _FACTOR, "reward per nat"),
    "top_k": _whole(0, 10**9, "likeliest tokens that are drawn from"),
    "top_p": _number("(]", 0, 1, "probability that is drawn from"),
    "mask_top_p": _number("(]", 0, 1, "probability under the mask"),
    "tau": _number("(]", 0, 1, "share of the network that is copied"),
    "exploration_fraction": _number("(]", 0, 1, "share of the training"),
    "exploration_initial_eps": _number("[]", 0, 1, "share of random tokens"),
    "exploration_final_eps": _number("[]", 0, 1, "share of random tokens"),
}


def check_numbers(values: Mapping[str, object], *, label: Callable[[str], str] = str) -> None:
    """Raises unless every number is in the range of its name, and the device is there.

    None, schedules and names without a range are left to who takes them.

    :param values: by parameter name; `device` is checked too.
    :param label: how a name is written in the error, such as `--learning-rate`.
    :raises InputError: naming the first that makes no sense, with its value.
    """
    for name, value in values.items():
        if name == "device" and value is not None:
            check_device(value, label=label(name))
        allowed = RANGES.get(name)
        if allowed is None or value is None or callable(value):
            continue
        if name == "train_freq" and isinstance(value, tuple | list):  # (2, "episode")
            continue
        if not allowed.holds(value):
            raise InputError(
                f"{label(name)} must be {allowed} ({allowed.meaning}), got {value!r:.60}"
            )


def check_positive(name: str, value: Any, *, below: float = math.inf) -> None:
    """Raises unless it is a number above 0 and below `below`.

    :raises InputError: naming it.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 < value < below):
        wanted = "finite number above 0" if below == math.inf else f"number above 0, below {below}"
        raise InputError(f"{name} must be a {wanted}, got {value!r:.60}")


def check_device(device: Any, *, label: str = "device") -> None:
    """Raises unless torch can put a tensor there and read it again; "auto" is any.

    :raises InputError: naming it.
    """
    import torch

    if isinstance(device, str) and device == "auto":
        return
    try:
        place = torch.device(device)
        if place.type == "cpu" and place.index:
            raise RuntimeError(f"there is one CPU, not a number {place.index}")
        torch.zeros(1, device=place).cpu()
    except Exception as error:  # torch raises many kinds, whatever the device lacks
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{label} must be 'auto', 'cpu' or one that torch finds here, such as 'cuda:0', got "
            f"{device!r:.60} ({reason:.120})"
        ) from None


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Raises where something takes more bytes than this machine has memory.

    :param needed: bytes, as a rough lower bound.
    :param what: what takes them, with the values that make it so large.
    :param remedy: what to do instead.
    :raises InputError: saying both figures in GB.
    """
    there = machine_memory()
    if needed > there:
        raise InputError(
            f"{what} takes {_gigabytes(needed)} of memory, but this machine has "
            f"{_gigabytes(there)}: {remedy}"
        )


def machine_memory() -> float:
    """Bytes of memory that this process may have at most: the machine's, or its container's."""
    try:
        there = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return math.inf
    try:
        return min(there, float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return there


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"


def _written(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and value < 1e15 else f"{value:g}"
