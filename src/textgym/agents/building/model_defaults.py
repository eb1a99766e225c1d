"""Defaults that fit a language model: one that was trained has something to lose.

A step that is right for a model of a hundred thousand weights tears down one of a hundred million,
and without a KL term a policy that can write learns to please instead. So the algorithms' own
defaults, which are for small fresh models, become

    learning rate   × min(1, √(600,000 / weights)), and × 10 where only an adapter learns
    kl_coef         0.2 instead of 0

for a model of at least 600,000 weights that was trained before. How these were chosen, and what
they do, is in docs/agents.md.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from textgym.agents.building.specs import AgentSpec
from textgym.policies.language_model.language_model import LanguageModel

SMALL = 600_000  # weights: up to here the algorithms' own rates are right
KL_COEF = 0.2  # reward per nat
LORA_SCALE = 10.0  # of the rate of all weights, after Schulman et al. (2025), "LoRA Without Regret"
FRESH_ENTROPY = 0.9  # of a uniform distribution's: what a model without training has at least


def fit_to_model(
    spec: AgentSpec, lm: LanguageModel, keywords: Mapping[str, Any], budget: int, n_envs: int
) -> dict[str, Any]:
    """Keywords of an algorithm, with what fits the model filled in where nothing was said.

    :param lm: the model that the policy begins as.
    :param budget: completion tokens of a text at most.
    :param n_envs: rows that play at a time.
    """
    if not spec.fits_model or not is_trained(lm):
        return dict(keywords)
    fitted, own = {}, spec.defaults(budget, n_envs)
    if rate := own.get("learning_rate"):
        is_adapter = keywords.get("lora_rank") is not None or lm.adapter is not None
        fitted["learning_rate"] = fitted_rate(rate, weights_of(lm), is_adapter=is_adapter)
    if spec.has_kl and "kl_coef" not in own:
        fitted["kl_coef"] = KL_COEF
    said = {key: value for key, value in keywords.items() if value is not None or key not in fitted}
    return {**fitted, **said}


def fitted_rate(rate: float, weights: int, *, is_adapter: bool = False) -> float:
    """A learning rate for a trained model, to two digits.

    :param rate: for a small one.
    :param weights: of the model, all of them.
    :param is_adapter: only an adapter learns.
    """
    scale = math.sqrt(SMALL / weights) * (LORA_SCALE if is_adapter else 1.0)
    return float(f"{rate * min(scale, 1.0):.1e}")


def weights_of(lm: LanguageModel) -> int:
    """Numbers that a model holds, those of an adapter aside."""
    return sum(p.numel() for name, p in lm.named_parameters() if "lora_" not in name)


@torch.no_grad()
def is_trained(lm: LanguageModel) -> bool:
    """Whether a model is no toy and knows what begins a text: an untrained one is near uniform."""
    if weights_of(lm) < SMALL:
        return False
    # What a text can begin behind: an encoder wants the whole end of a prompt.
    row = lm.tokenizer.prompt_end_ids or [lm.tokenizer.eos_token_id]
    logits = lm(torch.tensor([row], device=lm.device))[0, -1].float()
    log_probs = logits.log_softmax(-1)
    entropy = -float((log_probs.exp() * log_probs).sum())
    return entropy < FRESH_ENTROPY * math.log(lm.config.vocab_size)
