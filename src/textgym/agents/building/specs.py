"""The algorithms that `make_agent` knows: for each its class, policy, buffer and defaults.

A word is an `Algorithm` object; `textgym.registry.agents` gives it its name, and a user's package
registers its own with `textgym.register_agent`.
"""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textgym.errors import InputError
from textgym.registry import agents as agent_registry

SAMPLING_KEYWORDS = ("temperature", "top_k", "top_p")
CRITIC_KEYWORDS = ("value_trunk", "value_lr_scale")
Defaults = Callable[[int, int], dict[str, Any]]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm that `make_agent` knows by name.

    :param target: "module:class" of the algorithm, Stable-Baselines3's own wherever it has one.
    :param description: when to choose it, in a line.
    :param defaults: its keywords, from the task's budget in tokens and the number of environments.
    :param policy: "module:class" of its policy, which takes `model` among its keywords.
    :param policy_keywords: keywords that `make_agent` hands to the policy.
    :param has_critic: the policy has a value head, with a rate and a warm-up of its own.
    :param buffer: "module:class" of its buffer; None if it makes its own.
    :param buffer_keyword: SB3's word for it: "rollout_buffer" or "replay_buffer".
    :param kl: where a `KLPenalty` goes: "buffer" (its keyword `kl`), "algorithm" (likewise) or
        "refused".
    :param has_groups: several completions of one prompt; takes `num_generations`.
    """

    target: str
    description: str
    defaults: Defaults
    policy: str = "textgym.policies.sb3.actor_critic:TextActorCriticPolicy"
    policy_keywords: tuple[str, ...] = (*SAMPLING_KEYWORDS, *CRITIC_KEYWORDS)
    has_critic: bool = True
    buffer: str | None = "textgym.agents.rollouts.rollout_buffer:EpisodeRolloutBuffer"
    buffer_keyword: str = "rollout_buffer"
    kl: str = "buffer"
    has_groups: bool = False

    @property
    def is_off_policy(self) -> bool:
        """Whether it learns from a replay buffer."""
        return self.buffer_keyword == "replay_buffer"

    def num_generations(self, n_envs: int, keywords: Mapping[str, Any]) -> int:
        """Episodes of a prompt that the vector environment has to deal.

        :raises InputError: for a number of environments that only groups of one fit.
        """
        if not self.has_groups:
            return 1
        if "num_generations" in keywords:
            return keywords["num_generations"]  # type: ignore[no-any-return]
        size = self.defaults(1, n_envs).get("num_generations")
        if size == 1:
            raise InputError(
                f"n_envs ({n_envs}) cannot be dealt in equal groups: take a multiple of 2, or give "
                "num_generations"
            )
        return size or 1


def register_agent(name: str, algorithm: Algorithm | str, *, description: str = "") -> None:
    """Give an algorithm a name, for `make_agent("name", ...)` and `--agent name`.

    :param name: a word without spaces, commas and "=".
    :param algorithm: what it is made of; or "module:attribute" of that, imported when first used.
    :param description: when to choose it, in one line for `textgym agents`; without it, the
        algorithm's own.
    :raises InputError: for another type, or if the name is taken by another algorithm.
    """
    if not isinstance(algorithm, Algorithm | str):
        given = algorithm.__name__ if isinstance(algorithm, type) else type(algorithm).__name__
        raise InputError(
            f"register_agent({name!r}, ...) takes a textgym.agents.Algorithm, which says where the "
            f"class is and what its defaults are, or 'module:attribute' of one; got {given}"
        )
    own = "" if isinstance(algorithm, str) else algorithm.description
    agent_registry.register(name, algorithm, description=description or own)


def constructors(cls: type) -> list[type]:
    """`cls`, and those of its bases whose constructors take the keywords that it passes on."""
    chain = []
    for base in cls.__mro__:
        if "__init__" in vars(base):
            chain.append(base)
            kinds = [p.kind for p in inspect.signature(base.__init__).parameters.values()]  # type: ignore[misc]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return chain


def load_class(target: str) -> Any:
    """The class that "module:class" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def divisor_near(total: int, wanted: float) -> int:
    """The divisor of `total` whose count of parts is nearest to `wanted`, at least two elements."""
    small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
    counts = sorted(n for n in {*small, *(total // n for n in small)} if n <= max(total // 2, 1))
    return total // min(counts, key=lambda n: abs(math.log(n / wanted)))


def group_size(n_envs: int, at_most: int) -> int:
    """The largest number of generations up to `at_most` that divides the environments."""
    sizes = range(1, min(at_most, n_envs) + 1)
    return max((k for k in sizes if n_envs % k == 0), default=1)


def minibatch_size(total: int) -> int:
    """A divisor of a rollout's tokens, as near as can be to four minibatches of at most 512."""
    return divisor_near(total, max(4.0, total / 512))


def _ppo(budget: int, n_envs: int) -> dict[str, Any]:
    n_steps = max(2 * budget, 2)
    return {
        "learning_rate": 3e-4,
        "n_steps": n_steps,
        "batch_size": minibatch_size(n_steps * n_envs),
        "n_epochs": 4,
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
    }


def _a2c(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 5e-4,
        "n_steps": max(budget, 2),
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "normalize_advantage": True,
        "use_rms_prop": False,
    }


def _trpo(budget: int, n_envs: int) -> dict[str, Any]:
    n_steps = max(2 * budget, 2)
    return {
        "learning_rate": 1e-3,  # of the critic; the policy's step is set by target_kl
        "n_steps": n_steps,
        "batch_size": minibatch_size(n_steps * n_envs),
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "cg_max_steps": 10,
        "target_kl": 0.01,
        "n_critic_updates": 4,
    }


PPO = Algorithm(
    "stable_baselines3:PPO",
    "the safe default: several clipped passes over each rollout",
    _ppo,
)
A2C = Algorithm(
    "stable_baselines3:A2C",
    "one plain gradient step per rollout: simpler and quicker, wants more tokens",
    _a2c,
)
TRPO = Algorithm(
    "sb3_contrib:TRPO",
    "steps of a fixed KL divergence: steady without tuning a learning rate, several passes each",
    _trpo,
)
MASKABLE_PPO = Algorithm(
    "sb3_contrib:MaskablePPO",
    "ppo as sb3-contrib has it for action masks; here ppo obeys a task's constraint just as well",
    _ppo,
    policy="textgym.policies.sb3.maskable:MaskableTextPolicy",
    buffer="textgym.agents.rollouts.maskable_rollout_buffer:MaskableEpisodeRolloutBuffer",
)


def _dqn(budget: int, n_envs: int) -> dict[str, Any]:
    rollout = max(budget, 1) * n_envs
    batch_size = min(512, max(32, rollout // 4))
    return {
        "learning_rate": 3e-4,
        "buffer_size": 16 * rollout,
        "learning_starts": 0,  # SB3 would play uniform tokens until then
        "batch_size": batch_size,
        "train_freq": max(budget, 1),
        "gradient_steps": max(1, 4 * rollout // batch_size),
        "target_update_interval": 4 * rollout,
        "gamma": 1.0,
        "exploration_initial_eps": 0.0,  # the language model explores, see TextQPolicy
        "exploration_final_eps": 0.0,
        "exploration_fraction": 0.1,
        "max_grad_norm": 10.0,
    }


DQN = Algorithm(
    "stable_baselines3:DQN",
    "learns from old texts too: rewards that are dear to ask for; a KL of its own built in",
    _dqn,
    policy="textgym.policies.sb3.q_policy:TextQPolicy",
    policy_keywords=(*SAMPLING_KEYWORDS, "value_lr_scale", "q_temperature"),
    buffer="textgym.agents.rollouts.replay_buffer:EpisodeReplayBuffer",
    buffer_keyword="replay_buffer",
    kl="refused",
)
QRDQN = Algorithm(
    "sb3_contrib:QRDQN",
    "DQN on quantiles of the return: where outlying rewards shall count less",
    _dqn,
    policy="textgym.policies.sb3.quantile_network:TextQuantilePolicy",
    policy_keywords=(*SAMPLING_KEYWORDS, "value_lr_scale", "q_temperature", "n_quantiles"),
    buffer="textgym.agents.rollouts.replay_buffer:EpisodeReplayBuffer",
    buffer_keyword="replay_buffer",
    kl="refused",
)


def _grpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 3e-4,
        "num_generations": group_size(n_envs, 8),
        "n_groups": max(1, 2 * n_envs // group_size(n_envs, 8)),
        "batch_size": 512,
        "n_epochs": 4,
        "clip_range": 0.2,
        "max_grad_norm": 0.5,
    }


def _rloo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 5e-4,
        "num_generations": group_size(n_envs, 4),
        "n_epochs": 1,
        "max_grad_norm": 0.5,
    }


def _reinforce(budget: int, n_envs: int) -> dict[str, Any]:
    return {"learning_rate": 5e-4, "n_epochs": 1, "max_grad_norm": 0.5}


def _best_of_n(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "num_generations": group_size(n_envs, 4),
        "n_groups": max(1, 2 * n_envs // group_size(n_envs, 4)),
        "batch_size": 512,
        "n_epochs": 2,
        "max_grad_norm": 0.5,
    }


def _dpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "num_generations": max(2, group_size(n_envs, 2)),
        "batch_size": 1024,
        "n_epochs": 1,
        "kl_coef": 0.1,
        "max_grad_norm": 0.5,
    }


def _nlpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {**_ppo(budget, n_envs), "mask_update_interval": 5}


def _without_critic(target: str, description: str, defaults: Defaults, **fields: Any) -> Algorithm:
    keywords = {"has_critic": False, "buffer": None, "has_groups": True, **fields}
    return Algorithm(target, description, defaults, policy_keywords=SAMPLING_KEYWORDS, **keywords)


GRPO = _without_critic(
    "textgym.agents.algorithms.grpo:GRPO",
    "no critic: completions of one prompt are compared; several clipped passes over each group",
    _grpo,
    kl="algorithm",
)
RLOO = _without_critic(
    "textgym.agents.algorithms.rloo:RLOO",
    "no critic, unbiased: each completion against the mean of its prompt's others, one pass",
    _rloo,
    kl="algorithm",
)
REINFORCE = _without_critic(
    "textgym.agents.algorithms.reinforce:REINFORCE",
    "the plainest policy gradient with a mean as baseline: to learn from, and to compare with",
    _reinforce,
    kl="algorithm",
)
BEST_OF_N = _without_critic(
    "textgym.agents.algorithms.best_of_n:BestOfN",
    "imitates the best of n completions: simple, any scale of reward; keep it slow, no KL term",
    _best_of_n,
    kl="refused",
)
DPO = _without_critic(
    "textgym.agents.algorithms.dpo:DPO",
    "pairs instead of rewards: from a preference file, or drawn and judged by the reward model",
    _dpo,
    kl="algorithm",
)
NLPO = Algorithm(
    "textgym.agents.algorithms.nlpo:NLPO",
    "PPO within the tokens that an older copy of the policy thinks likely: large vocabularies",
    _nlpo,
    policy="textgym.policies.sb3.top_p_mask:TopPMaskPolicy",
    policy_keywords=("temperature", *CRITIC_KEYWORDS, "mask_top_p"),
)
