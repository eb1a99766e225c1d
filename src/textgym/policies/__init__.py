"""Policies: language model, sampling, Stable-Baselines3 policies, pretraining. The player.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.policies.language_model.causal_lm import CausalLM
    from textgym.policies.language_model.decoder_config import CausalLMConfig
    from textgym.policies.language_model.language_model import LanguageModel
    from textgym.policies.language_model.sampling import Sampling
    from textgym.policies.language_model.token_masks import TokenMasks
    from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
    from textgym.policies.sb3.maskable import MaskableTextPolicy
    from textgym.policies.sb3.q_policy import TextQPolicy
    from textgym.policies.sb3.quantile_network import TextQuantilePolicy
    from textgym.policies.sb3.top_p_mask import TopPMaskPolicy
    from textgym.policies.vae.text_vae import TextVAE

__all__ = [
    "CausalLM",
    "CausalLMConfig",
    "LanguageModel",
    "MaskableTextPolicy",
    "Sampling",
    "TextActorCriticPolicy",
    "TextQPolicy",
    "TextQuantilePolicy",
    "TextVAE",
    "TokenMasks",
    "TopPMaskPolicy",
]

_MODULES = {
    "CausalLM": "language_model.causal_lm",
    "CausalLMConfig": "language_model.decoder_config",
    "LanguageModel": "language_model.language_model",
    "MaskableTextPolicy": "sb3.maskable",
    "Sampling": "language_model.sampling",
    "TextActorCriticPolicy": "sb3.actor_critic",
    "TextQPolicy": "sb3.q_policy",
    "TextQuantilePolicy": "sb3.quantile_network",
    "TextVAE": "vae.text_vae",
    "TokenMasks": "language_model.token_masks",
    "TopPMaskPolicy": "sb3.top_p_mask",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
