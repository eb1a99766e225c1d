"""The base of the Stable-Baselines3 policies: model, settings, caches, modes, optimizer."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from textgym.divergence import refuse_bad_gradients
from textgym.errors import InputError
from textgym.optimization import Scaled
from textgym.policies.language_model.adapters import ALL_LINEAR, LoRA, add_adapter
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.generation import never_sampled
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.language_model.trunk import Trunk
from textgym.policies.sb3.exchange import Exchange
from textgym.policies.sb3.model_and_spaces import (
    ModelLike,
    check_optimizer,
    check_spaces,
    open_model,
    shape_of,
    zero_learning_rate,
)


class TextPolicy:
    """Stands before one of Stable-Baselines3's policy classes in the list of bases.

    SB3's constructor calls `_build`, which opens the model with `_open_model` and ends with
    `_start`. A policy has its language model as `lm`.

    :param observation_space: `Box` of token ids, one right-padded row.
    :param action_space: `Discrete` over the tokenizer's vocabulary.
    :param lr_schedule: SB3's.
    :param model: a `LanguageModel` (copied, never changed under its owner), a checkpoint directory,
        or `(config, tokenizer)` for fresh weights. None: a small fresh model, bytes only.
    :param temperature, top_k, top_p: the distribution that is sampled from, and whose
        log-probabilities are learned (see `Sampling`).
    :param value_lr_scale: learning rate of the value head relative to the trunk's; needs an
        `optimizer_class` that honours `lr_scale` (`textgym.optimization.ScaledAdam`, or
        `ScaledAdam8bit`, whose moments take a quarter of the memory).
    :param trunk_start_step: optimizer steps before the trunk begins to learn (same optimizer).
    :param trunk_start_update: updates before the trunk begins to learn (same optimizer); an update
        is what the algorithm learns from one rollout, in however many steps.
    :param masks: which tokens are legal; None: as the environment's observation space says, which
        is all of them for a task without a constraint.
    :param use_cache: False recomputes every prefix; results are the same.
    :param lora_rank: rank of a LoRA adapter, which is then all of the language model that learns;
        None: all its weights learn. The KL term's reference is the model with its adapter off.
    :param lora_alpha: what the adapter's matrices are multiplied by, times the rank; twice the rank
        unless said.
    :param lora_targets: the linear layers that get an adapter, with commas between ("q_proj,
        v_proj"), or "all-linear": all but the head.
    :param use_dora: DoRA: the length of a weight's rows learns apart from their direction.
    :raises InputError: if spaces and model do not fit, or a number makes no sense.
    """

    dtype: torch.dtype = torch.float32
    """In which products are computed; a policy that takes another sets it first."""
    sb3_settings: ClassVar[Mapping[str, Any]] = {}
    """More of what SB3's constructor is given."""

    if TYPE_CHECKING:  # what SB3's classes give
        lm: LanguageModel
        observation_space: spaces.Space[Any]
        action_space: spaces.Space[Any]
        optimizer: torch.optim.Optimizer
        optimizer_class: type[torch.optim.Optimizer]
        optimizer_kwargs: dict[str, Any]
        training: bool

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Callable[[float], float],
        *,
        model: ModelLike = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        value_lr_scale: float = 1.0,
        trunk_start_step: int = 0,
        trunk_start_update: int = 0,
        masks: TokenMasks | None = None,
        use_cache: bool = True,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        lora_targets: str = ALL_LINEAR,
        use_dora: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_spaces(observation_space, action_space)
        self.sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        if temperature == 0:
            raise InputError(
                "temperature must be positive while training; predict(deterministic=True) is greedy"
            )
        check_optimizer(optimizer_class, value_lr_scale, trunk_start_step, trunk_start_update)
        self.masks = TokenMasks.of_space(observation_space) if masks is None else masks
        self.use_cache = use_cache
        self.lora_keywords = {
            "lora_rank": lora_rank,
            "lora_alpha": lora_alpha,
            "lora_targets": lora_targets,
            "use_dora": use_dora,
        }
        self.lora = LoRA.of(lora_rank, lora_alpha, lora_targets, use_dora)
        self.value_lr_scale, self.trunk_start_step = value_lr_scale, trunk_start_step
        self.trunk_start_update = trunk_start_update
        self._spec = {"model": model}  # in a dictionary: no module may be set before SB3's __init__
        super().__init__(  # type: ignore[call-arg]
            observation_space,
            action_space,
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            **self.sb3_settings,
        )

    def _open_model(self) -> tuple[LanguageModel, Tensor]:
        """The policy's own model, and `[k]` int64, the actions that are never sampled."""
        assert isinstance(self.action_space, spaces.Discrete)
        lm = open_model(self._spec.pop("model"), self.observation_space, self.action_space)
        if self.dtype == torch.bfloat16 and lm.is_recurrent:
            raise InputError(
                "dtype='bfloat16' is of the transformer, not every processor has a recurrent "
                "layer in it: leave it out"
            )
        if self.lora is not None:
            if self.dtype == torch.bfloat16:  # the weights that never learn may be rounded once
                lm = lm.to(torch.bfloat16)
            add_adapter(lm, self.lora, seed=int(torch.randint(2**32, ())))
            Exchange.of(self.observation_space).adapted = lm
        excluded_ids = never_sampled(lm)
        return lm, excluded_ids[excluded_ids < self.action_space.n]

    def _start(self, heads: Iterable[nn.Parameter], lr_schedule: Callable[[float], float]) -> None:
        """Seed, caches and optimizer; the last thing in `_build`.

        :param heads: what learns at `value_lr_scale`, from the first step on.
        """
        # SB3 seeds torch's global generator just before; one draw from it, and never again.
        self.seed = int(torch.randint(2**62, ()))
        self.generator: torch.Generator | None = None
        self.predict_generator: torch.Generator | None = None
        self._decoders: dict[str, CachedDecoder] = {}
        Exchange.of(self.observation_space).reads_segments = True
        groups = [
            {
                "params": [weight for weight in self.lm.parameters() if weight.requires_grad],
                "start_step": self.trunk_start_step,
                "start_update": self.trunk_start_update,
            },
            {"params": list(heads), "lr_scale": self.value_lr_scale},
        ]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
        refuse_bad_gradients(self.optimizer)

    def _generator(self, caller: str, device: torch.device) -> torch.Generator:
        """The training's own generator ("rollout"), or that of `predict`."""
        name, offset = ("generator", 0) if caller == "rollout" else ("predict_generator", 1)
        generator: torch.Generator | None = getattr(self, name)
        if generator is None or generator.device != device:
            generator = torch.Generator(device).manual_seed(self.seed + offset)
            setattr(self, name, generator)
        return generator

    def _decoder(self, caller: str, trunk: Trunk) -> CachedDecoder:
        """The cache of one caller, so that nobody evicts another's rows."""
        if caller not in self._decoders:
            pad = self.lm.tokenizer.pad_token_id
            self._decoders[caller] = CachedDecoder(
                trunk, pad, use_cache=self.use_cache, dtype=self.dtype
            )
        return self._decoders[caller]

    def narrow(self, logits: Tensor, rows: Tensor) -> Tensor:
        """What the policy leaves out beside `sampling` and `masks`, while somebody evaluates it.

        :param logits: `[n, v]`, of the next token of `rows [n, L]`.
        :return: `[n, v]`, tokens that it never draws at -inf.
        """
        return logits

    def drop_caches(self) -> None:
        """Forget what was decoded; results do not depend on it."""
        for decoder in self._decoders.values():
            decoder.drop()

    def set_training_mode(self, mode: bool) -> None:
        """SB3's switch; entering or leaving training drops the caches: the weights change there.

        Not every call with False does: SB3's `predict` makes one each time. With True an update
        begins, in every algorithm.
        """
        if mode and isinstance(self.optimizer, Scaled):
            self.optimizer.begin_update()
        if mode or self.training:
            self.drop_caches()
            self._train(mode)

    def _train(self, mode: bool) -> None:
        """torch's `train`, of what learns."""
        raise NotImplementedError

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": zero_learning_rate,
            "model": shape_of(self.lm),
            "temperature": self.sampling.temperature,
            "top_k": self.sampling.top_k,
            "top_p": self.sampling.top_p,
            "value_lr_scale": self.value_lr_scale,
            "trunk_start_step": self.trunk_start_step,
            "trunk_start_update": self.trunk_start_update,
            "masks": self.masks,
            "use_cache": self.use_cache,
            **self.lora_keywords,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }
