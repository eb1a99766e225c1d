"""The KL term that keeps a policy near the model it started from.

Estimators of KL(π, π_ref) from the sampled token, after Schulman (2020), "Approximating KL
Divergence", with log r = log π_ref(a) - log π(a):

    k1 = -log r            unbiased, may be negative
    k2 = (log r)² / 2      biased, never negative
    k3 = (r - 1) - log r   unbiased, never negative

The term is subtracted from the reward of its token. There only k1 is exact: k2 and k3 are large for
a token that became rarer too, so that a reward minus one of them pulls the wrong way there
(docs/algorithms/index.md has the figures). The coefficient is fixed, or follows a target
with the proportional controller of Ziegler et al. (2019), "Fine-Tuning Language Models from Human
Preferences", section 2.2.
"""

from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.paths import absolute, model_directory
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.log_probs import token_log_probs
from textgym.policies.language_model.models_by_name import open_policy
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.language_model.precision import autocast, dtype_of
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.exchange import Exchange

ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(log_prob: Tensor, reference_log_prob: Tensor, estimator: str) -> Tensor:
    """KL per token in nats from two log-probabilities of the sampled token, any equal shapes."""
    log_ratio = reference_log_prob - log_prob
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    check_estimator(estimator)
    return log_ratio.expm1() - log_ratio


def check_estimator(name: str) -> None:
    """Raises unless there is such an estimator.

    :raises InputError: naming those that there are.
    """
    if name not in ESTIMATORS:
        raise InputError(f"kl_estimator must be one of {', '.join(ESTIMATORS)}, got {name!r}")


class KLPenalty:
    """KL to a frozen reference model, computed once per rollout over whole sequences.

    :param reference: a checkpoint directory (opened at first use), "start", or a `LanguageModel`
        or an agent (copied). None: the policy's own model with its adapter off, for a policy that
        has one (`lora_rank`); no second copy is made then.
    :param kl_coef: β, reward per nat. With 0 there is no reference pass at all, and no KL figure.
    :param kl_estimator: `"k1"`, `"k2"` or `"k3"`.
    :param kl_target: nats per episode to steer towards; None keeps β fixed.
    :param kl_horizon: episodes over which the controller corrects an error of 100% or so.
    :param temperature, top_k, top_p: as the policy's, since its log-probabilities are of the
        distribution that it samples from.
    :param masks: legal tokens, as the policy's; None: as the environment says (`fit_to`).
    :param dtype: "float32" or "bfloat16", as the policy's.
    """

    def __init__(
        self,
        reference: LanguageModel | str | Path | object | None,
        kl_coef: float = 0.05,
        *,
        kl_estimator: str = "k1",
        kl_target: float | None = None,
        kl_horizon: float = 2000.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        masks: TokenMasks | None = None,
        dtype: str = "float32",
    ) -> None:
        check_numbers({"kl_coef": kl_coef, "kl_target": kl_target, "kl_horizon": kl_horizon})
        if kl_target is not None and kl_coef == 0:
            raise InputError(
                "kl_target needs a kl_coef above 0 to start from, got "
                f"kl_target={kl_target} and kl_coef={kl_coef}"
            )
        check_estimator(kl_estimator)
        if temperature == 0:
            raise InputError("temperature must be positive, as the policy's")
        self.is_shared = reference is None  # with the policy
        self.path: str | None = None
        self.exchange: Exchange | None = None
        self.model: LanguageModel | None = None
        if isinstance(reference, str | Path):
            self.path = str(absolute(model_directory(reference)))
        elif (
            reference is not None
        ):  # a copy: the reference must stay as it is while its owner trains on
            self.model = open_policy(reference, label="reference").frozen_reference()
        self.coefficient, self.estimator = float(kl_coef), kl_estimator
        self.target, self.horizon = kl_target, kl_horizon
        self.sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        self.masks, self.dtype = masks, dtype_of(dtype)

    def fit_to(self, observation_space: spaces.Space[Any]) -> None:
        """Take over an environment's constraint, unless masks were given, and a shared reference.

        A reference that wasted probability on illegal tokens would make each state cost what it
        wasted there, though the policy cannot change that.
        """
        if self.masks is None:
            self.masks = TokenMasks.of_space(observation_space)
        if self.is_shared:
            self.exchange, self.model = Exchange.of(observation_space), None

    def reference(self, device: torch.device) -> LanguageModel:
        """The frozen model, on a device.

        :raises InputError: if it is to be the policy's own, and that has no adapter.
        """
        if self.model is None and self.path is not None:
            self.model = open_policy(self.path)
        elif self.model is None:
            adapted = None if self.exchange is None else self.exchange.adapted
            if adapted is None:
                raise InputError(
                    "the KL term has no reference: give it one, or the policy an adapter "
                    "(lora_rank), without which its model is the reference"
                )
            self.model = adapted.without_adapter()
        if self.model.device != device:
            self.model = self.model.to(device)
        return self.model.eval()

    def check_vocabulary(self, actions: int, device: torch.device) -> None:
        """Raises unless the reference has a token for each of an environment's actions.

        :raises InputError: if not.
        """
        tokens = self.reference(device).tokenizer.vocab_size
        if tokens != actions:
            raise InputError(
                f"the reference of the KL term has {tokens} tokens, but the environment "
                f"{actions}: pass a reference with the policy's tokenizer"
            )

    def per_token(self, packed: PackedSegments, actions: Tensor, log_probs: Tensor) -> Tensor:
        """Raw KL `[A]` in nats of each acted token.

        :param actions: `[A]` int64, the tokens chosen; `log_probs` `[A]` under the policy.
        """
        return kl_estimate(log_probs, self.log_probs(packed, actions), self.estimator)

    def log_probs(self, packed: PackedSegments, actions: Tensor) -> Tensor:
        """Log-probabilities `[A]` of the acted tokens under the reference, in one pass."""
        model = self.reference(packed.tokens.device)
        with autocast(packed.tokens.device, self.dtype):
            return token_log_probs(model, packed, actions, self.sampling, masks=self.masks)

    def update(self, kl_per_episode: float, episodes: int) -> None:
        """Steer β: β ← β (1 + clip(KL / target - 1, ±0.2) · min(episodes / horizon, 1))."""
        if self.target is None or not episodes:
            return
        error = min(max(kl_per_episode / self.target - 1.0, -0.2), 0.2)
        self.coefficient *= 1.0 + error * min(episodes / self.horizon, 1.0)

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights where somebody else has them (SB3 pickles this object)."""
        state = dict(self.__dict__)
        if self.path is not None or self.is_shared:
            state["model"] = state["exchange"] = None
        return state
