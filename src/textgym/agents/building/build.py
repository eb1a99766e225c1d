"""Building an agent: Stable-Baselines3's own class with defaults that learn on text.

Whatever Stable-Baselines3 has is used as it is. `build_agent` takes objects; `textgym.make_agent`
resolves the names and calls it.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.environment_record import environment_of
from textgym.agents.building.keywords import check_keywords
from textgym.agents.building.learning import LearnInRun
from textgym.agents.building.named_files import named_files
from textgym.agents.building.only_collecting import learn_from_what_is_scored
from textgym.agents.building.specs import (
    KL_KEYWORDS,
    SAMPLING_KEYWORDS,
    AgentSpec,
    CriticSpec,
    OffPolicySpec,
    spec_of,
)
from textgym.agents.rollouts.kl import KLPenalty, check_estimator
from textgym.agents.rollouts.memory import check_rollout_memory
from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv
from textgym.agents.runs.directory import open_to_write
from textgym.agents.runs.fingerprints import Inputs
from textgym.agents.runs.kept_checkpoints import CheckpointPlan
from textgym.agents.runs.recording import Recorder
from textgym.agents.runs.run import Run
from textgym.agents.runs.settings import is_json, to_json
from textgym.checks import check_numbers
from textgym.errors import InputError, TextGymError
from textgym.float32_muon import has_slow_bfloat16
from textgym.optimization import ScaledAdam, ScaledAdam8bit
from textgym.paths import absolute
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.model_and_spaces import shape_of
from textgym.signatures import check_table, constructors

VALUE_LR_SCALE = 10.0
OPTIMIZERS = ("adam", "adam_8bit")


def build_agent(
    name: str,
    spec: AgentSpec,
    env: VecEnv,
    lm: LanguageModel,
    *,
    reference: LanguageModel | str | Path | None = None,
    kl_coef: float | None = None,
    kl_estimator: str = "k1",
    kl_target: float | None = None,
    final_learning_rate: float | None = None,
    optimizer: str = "adam",
    value_warmup_rollouts: int | None = None,
    directory: str | Path | Run | None = None,
    sample_prompts: Sequence[str] = (),
    environment: dict[str, Any] | None = None,
    plan: CheckpointPlan | None = None,
    seed: int | None = None,
    **keywords: Any,
) -> BaseAlgorithm:
    """An unmodified SB3 agent whose policy is a copy of `lm`.

    :param name: the word for the algorithm, kept for checkpoints.
    :param spec: what it stands for.
    :param env: as `textgym.make_vec` makes it.
    :param reference: the model that the KL term is to (default: `lm` as it is now; with an adapter
        that is the policy's own model without it, and no copy).
    :param kl_coef: β; 0 means no reference pass at all. Unsaid, `make_agent` takes .2 for a policy
        that was trained before, and 0 for another.
    :param final_learning_rate: if given, the rate falls linearly to it over `learn`.
    :param optimizer: "adam", or "adam_8bit": Adam whose two moments take 2 bytes a weight instead
        of 8, of the library bitsandbytes; slow on a processor, made for a GPU.
    :param value_warmup_rollouts: rollouts after which the trunk begins to learn (a value head that
        knows nothing gives advantages that mean nothing); 1 unless said. TRPO's policy does not
        wait: its step is not the optimizer's.
    :param directory: run directory for metrics, samples, TensorBoard and checkpoints; the next free
        name where it holds a run. Or a run that is held.
    :param sample_prompts: prompts whose continuations are shown over time.
    :param environment: what a checkpoint keeps of `env` (`checkpoint.environment_record`).
    :param plan: when checkpoints of a run are written; None: the default.
    :param keywords: the policy's (`temperature`, `top_k`, `top_p`, `value_trunk`,
        `value_lr_scale`, `lora_rank` and its like) and every one of the algorithm's own.
    :raises UnknownNameError: for a keyword that neither knows.
    """
    task, n_envs = env.get_attr("task")[0], env.num_envs
    check_keywords(name, spec, build_agent, keywords)
    schedule = {"final_learning_rate": final_learning_rate}
    schedule |= {"value_warmup_rollouts": value_warmup_rollouts}
    check_numbers({**keywords, **schedule, "seed": seed})
    check_estimator(kl_estimator)
    if optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r:.60}")
    of_policy = {k: keywords.pop(k) for k in spec.policy_keywords if k in keywords}
    settings = spec.settings(name, keywords, task.max_new_tokens, n_envs)
    check_rollout_memory(settings, env, lm, is_off_policy=isinstance(spec, OffPolicySpec))
    default_kl_coef = settings.pop("kl_coef", 0.0)
    kl_coef = default_kl_coef if kl_coef is None else kl_coef
    warmup = _warmup(name, spec, value_warmup_rollouts)
    saved = {**settings, **of_policy}  # what a checkpoint needs to build the agent again
    if warmup is not None:
        saved = {"value_lr_scale": VALUE_LR_SCALE, **saved, "value_warmup_rollouts": warmup}
    if optimizer != "adam":
        saved["optimizer"] = optimizer
    if final_learning_rate is not None:
        settings["learning_rate"] = _falling(settings["learning_rate"], final_learning_rate)
    policy_kwargs = _policy_kwargs(spec, settings, env, lm, of_policy, warmup, optimizer)
    kl_settings: dict[str, Any] = dict(
        zip(KL_KEYWORDS, (kl_coef, kl_estimator, kl_target), strict=True)
    )
    kl = _kl_penalty(name, spec, lm, policy_kwargs, reference=reference, **kl_settings)
    settings = spec.constructor_keywords(settings, kl, lm.tokenizer.pad_token_id)
    recording, heard_env = RecordingVecEnv.around(env)
    with open_to_write(directory) as run:
        settings |= _tensorboard(settings, run)
        agent = _construct(name, spec, heard_env, seed, policy_kwargs, settings)
    _warn_of_slow_products(agent)
    # SB3 pickles these two into its zip: shapes instead of weights keep that small.
    agent.policy_kwargs["model"] = shape_of(lm)
    recorder = Recorder(
        sample_prompts,
        max_new_tokens=task.max_new_tokens,
        chat=task.chat_template(),
        directory=run,
    )
    recorder.attach(agent, recording)
    learn_from_what_is_scored(agent, recorder, heard_env)
    named = {"agent": name, "n_envs": n_envs, "seed": seed, **kl_settings}
    named["final_learning_rate"] = final_learning_rate
    _keep(agent, {**named, **_saved_keywords(saved)}, environment or environment_of(task))
    if run is not None:
        LearnInRun(agent, run, plan or CheckpointPlan()).attach()
        if isinstance(directory, str | Path):
            record_agent(run, agent, {})
    return agent


def _keep(agent: BaseAlgorithm, settings: dict[str, Any], environment: dict[str, Any]) -> None:
    """Keep with an agent what it was built of, for its checkpoints."""
    files = named_files(environment, settings["keywords"])
    kept = {"text_settings": settings, "text_environment": environment, "text_files": files}
    vars(agent).update(kept)


def _warn_of_slow_products(agent: BaseAlgorithm) -> None:
    """Say so where `dtype="bfloat16"` costs time instead of saving it."""
    dtype = getattr(agent.policy, "dtype", torch.float32)
    if dtype == torch.bfloat16 and has_slow_bfloat16(agent.device):
        warnings.warn(
            "dtype='bfloat16': this processor has no instructions for bfloat16, and takes many "
            "times as long as with float32: leave dtype out, unless memory is what is short",
            stacklevel=2,
        )


def _tensorboard(settings: Mapping[str, Any], run: Run | None) -> dict[str, str]:
    """Where an agent writes its event files: as said, or else in its run's directory."""
    if settings.get("tensorboard_log") is not None:
        return {"tensorboard_log": str(absolute(settings["tensorboard_log"]))}
    return {} if run is None else {"tensorboard_log": str(run.tensorboard_path)}


def _warmup(name: str, spec: AgentSpec, given: int | None) -> int | None:
    """Rollouts after which the trunk begins to learn; None without a critic.

    :raises InputError: if they are given where there is none.
    """
    if isinstance(spec, CriticSpec):
        return 1 if given is None else given
    if given is not None:
        raise InputError(f"agent {name!r} has no critic: leave value_warmup_rollouts out")
    return None


def _falling(first: Any, final: float) -> LinearSchedule:
    """A learning rate that falls in a straight line.

    :raises InputError: if it does not begin with a number.
    """
    if not isinstance(first, int | float):
        raise InputError("final_learning_rate needs a learning_rate that is a number")
    return LinearSchedule(first, final, 1.0)


def _policy_kwargs(
    spec: AgentSpec,
    settings: dict[str, Any],
    env: VecEnv,
    lm: LanguageModel,
    given: Mapping[str, Any],
    warmup: int | None,
    optimizer: str,
) -> dict[str, Any]:
    """The policy's keywords; those of a table `policy_kwargs` among the settings win.

    :param given: by themselves.
    """
    policy_kwargs: dict[str, Any] = {"model": lm, **given}
    masks = TokenMasks.of_space(env.observation_space)
    if masks is not None:  # a policy that knows none would break the constraint: let it say so
        policy_kwargs["masks"] = masks
    if warmup is not None and isinstance(spec, CriticSpec):
        policy_kwargs = {
            "value_lr_scale": VALUE_LR_SCALE,
            "trunk_start_update": warmup,
            "trunk_start_step": warmup * spec.optimizer_steps(settings, env.num_envs),
            "optimizer_class": ScaledAdam,
            **policy_kwargs,
        }
    if optimizer == "adam_8bit":
        if "optimizer_class" not in policy_kwargs:  # SB3's ε for the Adam that it would take
            policy_kwargs["optimizer_kwargs"] = {"eps": 1e-5}
        policy_kwargs["optimizer_class"] = ScaledAdam8bit
    table = settings.pop("policy_kwargs", None) or {}
    check_table("policy_kwargs", table, constructors(spec.policy_class))
    return policy_kwargs | table


def _kl_penalty(
    name: str,
    spec: AgentSpec,
    lm: LanguageModel,
    policy_kwargs: dict[str, Any],
    *,
    reference: LanguageModel | str | Path | None,
    kl_coef: float,
    kl_estimator: str,
    kl_target: float | None,
) -> KLPenalty | None:
    """The KL term under the policy's own sampling; None where none is wanted.

    :raises InputError: where the algorithm has none, or something is given that only one uses.
    """
    is_wanted = bool(kl_coef) or kl_target is not None
    if not spec.has_kl and (is_wanted or reference is not None):
        raise InputError(
            f"agent {name!r} has no KL term: leave kl_coef, kl_target and reference out, or take "
            "one that has it (ppo, grpo, ...)"
        )
    if not is_wanted:
        if reference is not None or kl_estimator != "k1":
            unused = "reference" if reference is not None else "kl_estimator"
            raise InputError(f"{unused} is of the KL term: give kl_coef too, or leave {unused} out")
        return None
    sampling = {key: policy_kwargs[key] for key in SAMPLING_KEYWORDS if key in policy_kwargs}
    if reference is None and policy_kwargs.get("lora_rank") is None:
        reference = lm
    return KLPenalty(
        reference,
        kl_coef,
        kl_estimator=kl_estimator,
        kl_target=kl_target,
        masks=policy_kwargs.get("masks"),
        dtype=policy_kwargs.get("dtype", "float32"),
        **sampling,
    )


def _construct(
    name: str,
    spec: AgentSpec,
    env: VecEnv,
    seed: int | None,
    policy_kwargs: dict[str, Any],
    settings: dict[str, Any],
) -> BaseAlgorithm:
    """The agent.

    :raises InputError: for keywords that its constructor does not take together.
    """
    try:
        return spec.algorithm_class(  # type: ignore[no-any-return]
            spec.policy_class, env, seed=seed, policy_kwargs=policy_kwargs, **settings
        )
    except (TypeError, ValueError, AssertionError) as error:
        if isinstance(error, TextGymError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"agent {name!r} does not take its keywords: {reason:.200}") from error


def record_agent(
    run: Run,
    agent: BaseAlgorithm,
    settings: dict[str, Any],
    *,
    inputs: Inputs | None = None,
    start: Inputs | None = None,
) -> None:
    """Write a run's settings: those given here, the run's own, and what the agent was built with.

    :param settings: those of the front door (environment, policy, reward, ...) by keyword.
    :param inputs, start: as `Run.record` takes them.
    """
    config = recorded_config(agent, settings, run.config)
    run.record(config, inputs or {}, start)


def recorded_config(
    agent: BaseAlgorithm, settings: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The whole configuration of an agent's run, as its `config.yaml` holds it.

    :param settings: as `record_agent` takes them.
    :param given: what a verb recorded before the agent was built; it wins over `settings`.
    """
    built: dict[str, Any] = agent.text_settings  # type: ignore[attr-defined]
    environment: dict[str, Any] = agent.text_environment  # type: ignore[attr-defined]
    kl_keywords = KL_KEYWORDS if spec_of(built["agent"]).has_kl else ()
    named = ("agent", "n_envs", "seed", "final_learning_rate", *kl_keywords)
    config = {
        "verb": "train",
        "env": environment["id"],
        "reward": environment["reward"],
        "env_kwargs": environment["env_kwargs"],
        **{key: to_json(value) for key, value in settings.items()},
        **given,
        **{key: built[key] for key in named},
        **built["keywords"],
    }
    lost = {key for key, value in config.items() if not is_json(value)}
    lost |= {*built["not_saved"], *environment["not_saved"], *_still_lost(config)}
    config = {key: value for key, value in config.items() if key not in lost}
    config.pop("not_saved", None)
    return config | ({"not_saved": sorted(lost)} if lost else {})


def _still_lost(config: dict[str, Any]) -> list[str]:
    return [name for name in config.get("not_saved", ()) if config.get(name) is None]


def _saved_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold of an algorithm's keywords, and the names of the others."""
    wanted = {k: to_json(v) for k, v in keywords.items() if k != "tensorboard_log"}
    kept = {k: v for k, v in wanted.items() if is_json(v)}
    return {"keywords": kept, "not_saved": sorted(wanted.keys() - kept.keys())}
