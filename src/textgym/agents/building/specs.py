"""Specifications of algorithms, of three kinds: what a word for `make_agent` stands for.

On-policy and off-policy ones have a critic and one of SB3's buffers; those without a critic collect
whole groups of episodes. `textgym.register_agent` gives a record its name; the words that come with
textgym stand in `words.py`.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from textgym.agents.building.sizes import minibatch_size
from textgym.errors import InputError
from textgym.registry import agents
from textgym.signatures import check_table, constructors, load_attribute

SAMPLING_KEYWORDS = ("temperature", "top_k", "top_p")
COMPUTE_KEYWORDS = ("dtype", "gradient_checkpointing", "micro_batch_tokens", "cuda_graphs")
LORA_KEYWORDS = ("lora_rank", "lora_alpha", "lora_targets", "use_dora")
VALUE_KEYWORDS = ("value_trunk", "value_lr_scale")
KL_KEYWORDS = ("kl_coef", "kl_estimator", "kl_target")
Defaults = Callable[[int, int], dict[str, Any]]


@dataclass(frozen=True)
class AgentSpec(ABC):
    """What all kinds have.

    :param target: "module:class" of the algorithm, Stable-Baselines3's own wherever it has one.
    :param defaults: its keywords, from the task's budget in tokens and the number of environments.
    :param policy: "module:class" of its policy, which takes `model` among its keywords.
    :param policy_keywords: keywords that `make_agent` hands to the policy.
    :param has_kl: it takes a KL term to a reference model.
    :param fits_model: `make_agent` fits its rate and KL term to the policy's model
        (`model_defaults`); the defaults are those for a small fresh one.
    :param description: when to choose it, in a line for `textgym agents`.
    """

    target: str
    defaults: Defaults
    _: KW_ONLY
    policy: str = "textgym.policies.sb3.actor_critic:TextActorCriticPolicy"
    policy_keywords: tuple[str, ...] = (*SAMPLING_KEYWORDS, *LORA_KEYWORDS, *COMPUTE_KEYWORDS)
    has_kl: bool = True
    fits_model: bool = False
    description: str = ""

    @property
    def algorithm_class(self) -> Any:
        """The algorithm's class, imported now."""
        return load_attribute(self.target)

    @property
    def policy_class(self) -> Any:
        """The policy's class, imported now."""
        return load_attribute(self.policy)

    @property
    def builder_keywords(self) -> tuple[str, ...]:
        """Keywords of `build_agent` itself that make sense for it."""
        return ("final_learning_rate", "optimizer", *(KL_KEYWORDS if self.has_kl else ()))

    def num_generations(self, n_envs: int, keywords: Mapping[str, Any]) -> int:
        """Episodes of a prompt that the vector environment has to deal."""
        return 1

    def settings(
        self, name: str, keywords: Mapping[str, Any], budget: int, n_envs: int
    ) -> dict[str, Any]:
        """The algorithm's defaults under the keywords given.

        :param name: the word, for errors.
        :param budget: completion tokens of a text at most.
        :raises InputError: where they make no sense together, naming the keywords.
        """
        return {**self.defaults(budget, n_envs), **keywords}

    @abstractmethod
    def constructor_keywords(
        self, settings: Mapping[str, Any], kl: Any, pad_token_id: int
    ) -> dict[str, Any]:
        """Settings as the algorithm's constructor takes them, with the KL term where it belongs.

        :param kl: a `KLPenalty`, or None.
        """


@dataclass(frozen=True)
class CriticSpec(AgentSpec):
    """With a value head or Q-values, and a trunk that begins to learn after a warm-up."""

    _: KW_ONLY
    policy_keywords: tuple[str, ...] = (
        *SAMPLING_KEYWORDS,
        *VALUE_KEYWORDS,
        *LORA_KEYWORDS,
        *COMPUTE_KEYWORDS,
    )

    @property
    def builder_keywords(self) -> tuple[str, ...]:
        """Those of all, and the warm-up."""
        return (*super().builder_keywords, "value_warmup_rollouts")

    @abstractmethod
    def optimizer_steps(self, settings: Mapping[str, Any], n_envs: int) -> int:
        """Optimizer steps of one rollout that goes as planned."""


@dataclass(frozen=True)
class OnPolicySpec(CriticSpec):
    """Learns from each rollout once: PPO, A2C, TRPO. The KL term stands in the rollout buffer.

    :param buffer: "module:class" of its rollout buffer.
    """

    _: KW_ONLY
    buffer: str = "textgym.agents.rollouts.rollout_buffer:EpisodeRolloutBuffer"

    def settings(
        self, name: str, keywords: Mapping[str, Any], budget: int, n_envs: int
    ) -> dict[str, Any]:
        """The defaults under the keywords given; the size of a minibatch follows the rollout's."""
        settings = super().settings(name, keywords, budget, n_envs)
        if "batch_size" not in keywords and {"batch_size", "n_steps"} <= settings.keys():
            settings["batch_size"] = minibatch_size(int(settings["n_steps"]) * n_envs)
        _check_normalized(name, settings, n_envs)
        return settings

    def optimizer_steps(self, settings: Mapping[str, Any], n_envs: int) -> int:
        """One for each minibatch of each epoch."""
        total = int(settings["n_steps"]) * n_envs
        minibatches: int = max(1, round(total / settings.get("batch_size", total)))
        return int(settings.get("n_epochs", 1)) * minibatches

    def constructor_keywords(
        self, settings: Mapping[str, Any], kl: Any, pad_token_id: int
    ) -> dict[str, Any]:
        """The KL term goes to the buffer."""
        kwargs = {"pad_token_id": pad_token_id, **({} if kl is None else {"kl": kl})}
        buffer = {"class": load_attribute(self.buffer), "kwargs": kwargs}
        return {**settings, **{f"rollout_buffer_{key}": value for key, value in buffer.items()}}


@dataclass(frozen=True)
class OffPolicySpec(CriticSpec):
    """Learns from a replay of old texts: DQN, QR-DQN. Its KL to the start is built in.

    :param buffer: "module:class" of its replay buffer.
    """

    _: KW_ONLY
    policy: str = "textgym.policies.sb3.q_policy:TextQPolicy"
    policy_keywords: tuple[str, ...] = (
        *SAMPLING_KEYWORDS,
        "value_lr_scale",
        "q_temperature",
        *LORA_KEYWORDS,
    )
    buffer: str = "textgym.agents.rollouts.replay_buffer:EpisodeReplayBuffer"
    has_kl: bool = False

    def optimizer_steps(self, settings: Mapping[str, Any], n_envs: int) -> int:
        """`gradient_steps`; of SB3's -1, one for each token."""
        steps, frequency = int(settings["gradient_steps"]), settings["train_freq"]
        per_row = frequency if isinstance(frequency, int) else int(frequency[0])
        return steps if steps >= 0 else per_row * n_envs

    def constructor_keywords(
        self, settings: Mapping[str, Any], kl: Any, pad_token_id: int
    ) -> dict[str, Any]:
        """`n_steps` and γ go to the buffer; of the first SB3 would only warn.

        :raises InputError: for keywords of the buffer that are no table.
        """
        settings = dict(settings)
        given, buffer = (
            settings.pop("replay_buffer_kwargs", None) or {},
            load_attribute(self.buffer),
        )
        check_table("replay_buffer_kwargs", given, constructors(buffer))
        ours = {"pad_token_id": pad_token_id, "n_steps": settings.pop("n_steps", None)}
        settings["replay_buffer_class"] = buffer
        settings["replay_buffer_kwargs"] = {**ours, "gamma": settings["gamma"], **given}
        return settings


@dataclass(frozen=True)
class CriticFreeSpec(AgentSpec):
    """Compares several completions of a prompt, or pairs: a `CriticFreeAlgorithm`.

    The KL term is a keyword of the algorithm, `kl`; the prompts are dealt `num_generations` times.
    """

    def num_generations(self, n_envs: int, keywords: Mapping[str, Any]) -> int:
        """The size of a group.

        :raises InputError: for a number of environments that only groups of one fit.
        """
        if "num_generations" in keywords:
            return keywords["num_generations"]  # type: ignore[no-any-return]
        size = self.defaults(1, n_envs).get("num_generations")
        if size == 1:
            raise InputError(
                f"n_envs ({n_envs}) cannot be dealt in equal groups: take a multiple of 2, or give "
                "num_generations"
            )
        return size or 1

    def settings(
        self, name: str, keywords: Mapping[str, Any], budget: int, n_envs: int
    ) -> dict[str, Any]:
        """The defaults under the keywords given; as many episodes as with the default group."""
        settings, size = self.defaults(budget, n_envs), self.num_generations(n_envs, keywords)
        if {"n_groups", "num_generations"} <= settings.keys():
            episodes = settings["n_groups"] * settings["num_generations"]
            settings["n_groups"] = max(1, episodes // size)
        return {**settings, "num_generations": size, **keywords}

    def constructor_keywords(
        self, settings: Mapping[str, Any], kl: Any, pad_token_id: int
    ) -> dict[str, Any]:
        """The KL term is the algorithm's own keyword."""
        return {**settings, **({} if kl is None else {"kl": kl})}


def register_agent(name: str, spec: AgentSpec | str, *, description: str = "") -> None:
    """Give an algorithm a name, for `make_agent("name", ...)` and `--agent name`.

    :param name: a word without spaces, commas and "=".
    :param spec: an `OnPolicySpec`, `OffPolicySpec` or `CriticFreeSpec`; or "module:attribute" of
        one, imported when it is first used.
    :param description: when to choose it, in one line for `textgym agents`; without it, the
        spec's own.
    :raises InputError: for another type, or if the name is taken by another algorithm.
    """
    if not isinstance(spec, AgentSpec | str):
        given = spec.__name__ if isinstance(spec, type) else type(spec).__name__
        raise InputError(
            f"register_agent({name!r}, ...) takes an OnPolicySpec, OffPolicySpec or CriticFreeSpec "
            f"of textgym.agents, which says where the class is and what its defaults are, or "
            f"'module:attribute' of one; got {given}"
        )
    own = "" if isinstance(spec, str) else spec.description or spec.target
    agents.register(name, spec, description=description or own)


def spec_of(name: str) -> AgentSpec:
    """The record behind a registered word.

    :raises UnknownNameError: for a word that nobody registered, with the nearest known.
    :raises InputError: for one that stands for something else.
    """
    spec = agents.resolve(name)
    if not isinstance(spec, AgentSpec):
        raise InputError(f"agent {name!r} is {spec!r:.60}, expected a spec of textgym.agents")
    return spec


def _check_normalized(name: str, settings: Mapping[str, Any], n_envs: int) -> None:
    """Raises where advantages would be divided by the deviation of a single one."""
    if "n_steps" not in settings or not settings.get("normalize_advantage", True):
        return
    tokens = int(settings["n_steps"]) * n_envs
    batch_size = settings.get("batch_size", tokens)
    if tokens < 2 or batch_size == 1:
        raise InputError(
            f"agent {name!r} normalizes advantages, which takes two tokens at least: raise n_steps "
            f"({settings['n_steps']}), n_envs ({n_envs}) or batch_size ({batch_size}), or give "
            "normalize_advantage=False"
        )


def Algorithm(
    target: str,
    description: str,
    defaults: Defaults,
    *,
    has_critic: bool = True,
    has_groups: bool = False,
    buffer_keyword: str = "rollout_buffer",
    kl: str = "buffer",
    **fields: Any,
) -> AgentSpec:
    """The spec that the one record of before 0.1 with these flags stands for; it goes with 0.2."""
    warnings.warn(
        "Algorithm is OnPolicySpec, OffPolicySpec or CriticFreeSpec of textgym.agents now, and "
        "goes with 0.2",
        DeprecationWarning,
        stacklevel=2,
    )
    fields = {key: value for key, value in fields.items() if value is not None}
    fields |= {"description": description}
    if not has_critic or has_groups:
        return CriticFreeSpec(target, defaults, has_kl=kl != "refused", **fields)
    kind = OffPolicySpec if buffer_keyword == "replay_buffer" else OnPolicySpec
    return kind(target, defaults, **fields)
