"""Checks of observation and action space, and the language model of a text policy."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import own_policy
from textgym.tokenizer import Tokenizer

# An agent, too: `open_policy` says what counts as one.
ModelLike = LanguageModel | str | Path | tuple[Any, ...] | object | None


def open_model(
    model: ModelLike, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> LanguageModel:
    """A model that is the policy's own, with all its weights free to learn.

    :param model: a `LanguageModel` (copied, never changed under its owner), a checkpoint directory,
        "start", an agent, or `(config, tokenizer)` for a `CausalLM` with fresh weights, seeded from
        torch's global generator, and `(class, config, tokenizer)` for another model. None: a small
        fresh one that takes the environment's rows, bytes only.
    :param observation_space, action_space: as `check_spaces` lets them pass.
    :raises InputError: if the vocabulary or the context does not fit the spaces, or for float16.
    """
    assert isinstance(action_space, spaces.Discrete)
    assert isinstance(observation_space, spaces.Box)
    lm = _open(model, int(action_space.n), observation_space.shape[0])
    if lm.dtype == torch.float16:
        raise InputError(
            "a model in float16 cannot be trained, its numbers end at 65,504: pass "
            "lm.to(torch.bfloat16), or lm.float()"
        )
    if lm.tokenizer.vocab_size != action_space.n:
        raise InputError(
            f"the model's tokenizer has {lm.tokenizer.vocab_size} tokens, but the environment has "
            f"{action_space.n} actions: make the environment with tokenizer=model.tokenizer"
        )
    pad = getattr(observation_space, "pad_token_id", lm.tokenizer.pad_token_id)
    if pad != lm.tokenizer.pad_token_id:
        raise InputError(
            f"the environment fills up rows with token {pad}, but the model's pad token is "
            f"{lm.tokenizer.pad_token_id}: make the environment with tokenizer=model.tokenizer"
        )
    width, context = observation_space.shape[0], lm.config.max_position_embeddings
    if width > context:
        raise InputError(
            f"prompt and budget together take {width} tokens, but the model's context is "
            f"{context}: lower max_new_tokens or the prompts' length"
        )
    return lm


def _open(model: ModelLike, actions: int, width: int) -> LanguageModel:
    if isinstance(model, tuple):
        cls: type[LanguageModel]
        cls, config, tokenizer = model if len(model) == 3 else (CausalLM, *model)
        return cls.fresh(config, tokenizer, seed=int(torch.randint(2**32, ())))
    if model is not None:
        return own_policy(model, label="model")
    tokenizer = Tokenizer.byte()
    if actions != tokenizer.vocab_size:
        raise InputError(
            f"without a model the policy knows only bytes ({tokenizer.vocab_size} actions), but "
            f"the environment has {actions}: pass policy_kwargs={{'model': ...}}"
        )
    context = max(256, width)
    return CausalLM.new(
        tokenizer, seed=int(torch.randint(2**32, ())), max_position_embeddings=context
    )


def shape_of(lm: LanguageModel) -> tuple[type[LanguageModel], Any, Tokenizer]:
    """What `open_model` makes a fresh model of the same kind and shape from."""
    return type(lm), lm.config, lm.tokenizer


def check_spaces(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Raises unless they are rows of token ids, and tokens.

    :raises InputError: for others.
    """
    if not isinstance(action_space, spaces.Discrete) or action_space.start != 0:
        raise InputError(
            f"a text policy chooses tokens: expected Discrete actions from 0, got {action_space}"
        )
    is_row = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
    if not is_row or not np.issubdtype(observation_space.dtype, np.integer):
        raise InputError(
            "a text policy reads rows of token ids: expected a one-dimensional integer Box, got "
            f"{observation_space!r:.60} (VecNormalize needs norm_obs=False)"
        )


def check_optimizer(
    optimizer_class: type[torch.optim.Optimizer],
    value_lr_scale: float,
    trunk_start_step: int,
    trunk_start_update: int = 0,
) -> None:
    """Raises unless an optimizer honours the rates that are asked for.

    :raises InputError: if it is one of torch's own or bitsandbytes', which know no `lr_scale`.
    """
    is_scaled = value_lr_scale != 1.0 or trunk_start_step > 0 or trunk_start_update > 0
    if is_scaled and optimizer_class.__module__.startswith(("torch.", "bitsandbytes.")):
        raise InputError(
            "value_lr_scale, trunk_start_step and trunk_start_update mean nothing to "
            f"{optimizer_class.__name__}: "
            "pass optimizer_class=textgym.optimization.ScaledAdam"
        )


def check_rows(obs: Tensor) -> None:
    """Raises unless observations still are token ids.

    :raises InputError: for floating-point ones.
    """
    if obs.is_floating_point():
        raise InputError(
            f"a text policy reads token ids, which are integers, but got {obs.dtype}: use "
            "VecNormalize with norm_obs=False, and no wrapper that changes observations"
        )


def zero_learning_rate(progress_remaining: float) -> float:
    """A schedule for a policy that is only loaded; picklable, as SB3 saves it."""
    return 0.0
