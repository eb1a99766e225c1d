"""Building an agent: Stable-Baselines3's own class with defaults that learn on text.

Whatever Stable-Baselines3 has is used as it is. `build_agent` takes objects; `textgym.make_agent`
resolves the names and calls it.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.checkpoint import environment_of
from textgym.agents.building.learning import LearnInRun
from textgym.agents.building.named_files import named_files
from textgym.agents.building.specs import (
    SAMPLING_KEYWORDS,
    Algorithm,
    constructors,
    load_class,
    minibatch_size,
)
from textgym.agents.rollouts.kl import KLPenalty, check_estimator
from textgym.agents.rollouts.memory import check_rollout_memory
from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv
from textgym.agents.runs.directory import open_to_write
from textgym.agents.runs.fingerprints import Inputs
from textgym.agents.runs.recording import Recorder
from textgym.agents.runs.run import Run
from textgym.agents.runs.settings import is_plain, plain
from textgym.checks import check_numbers
from textgym.errors import InputError, TextGymError, unknown_name
from textgym.optimization import ScaledAdam
from textgym.paths import absolute
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.model_and_spaces import shape_of
from textgym.registry import agents as agent_registry

KL_KEYWORDS = ("kl_coef", "kl_estimator", "kl_target")


def build_agent(
    name: str,
    algorithm: Algorithm,
    env: VecEnv,
    lm: LanguageModel,
    *,
    reference: LanguageModel | str | Path | None = None,
    kl_coef: float | None = None,
    kl_estimator: str = "k1",
    kl_target: float | None = None,
    final_learning_rate: float | None = None,
    value_warmup_rollouts: int | None = None,
    directory: str | Path | Run | None = None,
    sample_prompts: Sequence[str] = (),
    environment: dict[str, Any] | None = None,
    checkpoint_seconds: float = 300.0,
    seed: int | None = None,
    **keywords: Any,
) -> BaseAlgorithm:
    """An unmodified SB3 agent whose policy is a copy of `lm`.

    :param name: the word for the algorithm, kept for checkpoints.
    :param env: as `textgym.make_vec` makes it.
    :param reference: the model that the KL term is to (default: `lm` as it is now).
    :param kl_coef: β; 0, the default of most, means no reference pass at all.
    :param final_learning_rate: if given, the rate falls linearly to it over `learn`.
    :param value_warmup_rollouts: rollouts after which the trunk begins to learn (a value head that
        knows nothing gives advantages that mean nothing); 1 unless said. TRPO's policy does not
        wait: its step is not the optimizer's.
    :param directory: run directory for metrics, samples, TensorBoard and checkpoints; the next free
        name where it holds a run. Or a run that is held.
    :param sample_prompts: prompts whose continuations are shown over time.
    :param environment: what a checkpoint keeps of `env` (`loading.environment_record`).
    :param checkpoint_seconds: time between two checkpoints of a run.
    :param keywords: the policy's (`temperature`, `top_k`, `top_p`, `value_trunk`,
        `value_lr_scale`) and every one of the algorithm's own.
    :raises UnknownNameError: for a keyword that neither knows.
    """
    task = env.get_attr("task")[0]
    if algorithm.has_groups:
        keywords.setdefault("num_generations", algorithm.num_generations(env.num_envs, keywords))
    given = {k: keywords.pop(k) for k in algorithm.policy_keywords if k in keywords}
    cls = load_class(algorithm.target)
    _check_keywords(name, algorithm, cls, keywords)
    ours = {
        "final_learning_rate": final_learning_rate,
        "value_warmup_rollouts": value_warmup_rollouts,
    }
    check_numbers({**keywords, **given, **ours, "seed": seed})
    check_estimator(kl_estimator)
    settings = _settings(algorithm, keywords, task.max_new_tokens, env.num_envs)
    _check_normalised(name, algorithm, settings, env.num_envs)
    check_rollout_memory(settings, env, lm, is_off_policy=algorithm.is_off_policy)
    default_kl_coef = settings.pop("kl_coef", 0.0)
    kl_coef = default_kl_coef if kl_coef is None else kl_coef
    warmup = 1 if value_warmup_rollouts is None else value_warmup_rollouts
    saved = {**settings, **given}  # what a checkpoint needs to build the agent again
    if algorithm.has_critic:
        saved = {"value_lr_scale": 10.0, **saved, "value_warmup_rollouts": warmup}
    if final_learning_rate is not None:
        first = settings["learning_rate"]
        if not isinstance(first, int | float):
            raise InputError("final_learning_rate needs a learning_rate that is a number")
        settings["learning_rate"] = LinearSchedule(first, final_learning_rate, 1.0)
    if value_warmup_rollouts is not None and not algorithm.has_critic:
        raise InputError(f"agent {name!r} has no critic: leave value_warmup_rollouts out")
    policy_kwargs: dict[str, Any] = {"model": lm, **given}
    masks = TokenMasks.of_space(env.observation_space)
    if masks is not None:  # a policy that knows none would break the constraint: let it say so
        policy_kwargs["masks"] = masks
    if algorithm.has_critic:
        policy_kwargs = {
            "value_lr_scale": 10.0,
            "trunk_start_update": warmup,
            "trunk_start_step": warmup * _optimizer_steps(settings, env.num_envs),
            "optimizer_class": ScaledAdam,
            **policy_kwargs,
        }
    given_kwargs = settings.pop("policy_kwargs", None) or {}
    _check_table("policy_kwargs", given_kwargs, constructors(load_class(algorithm.policy)))
    policy_kwargs |= given_kwargs
    kl = None
    wants_kl = bool(kl_coef) or kl_target is not None
    if algorithm.kl == "refused" and (wants_kl or reference is not None):
        raise InputError(
            f"agent {name!r} has no KL term: leave kl_coef, kl_target and reference out, or take "
            "one that has it (ppo, grpo, ...)"
        )
    if not wants_kl and (reference is not None or kl_estimator != "k1"):
        unused = "reference" if reference is not None else "kl_estimator"
        raise InputError(f"{unused} is of the KL term: give kl_coef too, or leave {unused} out")
    if wants_kl:
        kl = _kl_penalty(
            reference,
            lm,
            policy_kwargs,
            kl_coef,
            kl_estimator=kl_estimator,
            kl_target=kl_target,
            masks=masks,
        )
    if algorithm.buffer is not None:
        _fill_in_buffer(algorithm, settings, kl, lm.tokenizer.pad_token_id)
    elif algorithm.kl == "algorithm" and kl is not None:
        settings["kl"] = kl
    recording, heard_env = RecordingVecEnv.around(env)
    with open_to_write(directory) as run:
        if settings.get("tensorboard_log") is not None:
            settings["tensorboard_log"] = str(absolute(settings["tensorboard_log"]))
        elif run is not None:
            settings["tensorboard_log"] = str(run.tensorboard_path)
        try:
            agent: BaseAlgorithm = cls(
                load_class(algorithm.policy),
                heard_env,
                seed=seed,
                policy_kwargs=policy_kwargs,
                **settings,
            )
        except (TypeError, ValueError, AssertionError) as error:  # of keywords that do not fit
            if isinstance(error, TextGymError):
                raise
            reason = " ".join(str(error).split())
            raise InputError(f"agent {name!r} does not take its keywords: {reason:.200}") from error
    # SB3 pickles these two into its zip: shapes instead of weights keep that small.
    agent.policy_kwargs["model"] = shape_of(lm)
    recorder = Recorder(sample_prompts, max_new_tokens=task.max_new_tokens, directory=run)
    recorder.attach(agent, recording)
    agent.text_settings = {  # type: ignore[attr-defined]
        "agent": name,
        "n_envs": env.num_envs,
        "seed": seed,
        "kl_coef": kl_coef,
        "kl_estimator": kl_estimator,
        "kl_target": kl_target,
        "final_learning_rate": final_learning_rate,
        **_saved_keywords(saved),
    }
    agent.text_environment = environment or environment_of(task)  # type: ignore[attr-defined]
    agent.text_files = named_files(  # type: ignore[attr-defined]
        agent.text_environment,  # type: ignore[attr-defined]
        agent.text_settings["keywords"],  # type: ignore[attr-defined]
    )
    if run is not None:
        LearnInRun(agent, run, seconds=checkpoint_seconds).attach()
        if isinstance(directory, str | Path):
            record_agent(run, agent, {})
    return agent


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
    built: dict[str, Any] = agent.text_settings  # type: ignore[attr-defined]
    environment: dict[str, Any] = agent.text_environment  # type: ignore[attr-defined]
    algorithm = agent_registry.resolve(built["agent"])
    has_kl = isinstance(algorithm, Algorithm) and algorithm.kl != "refused"
    named = ("agent", "n_envs", "seed", "final_learning_rate", *(KL_KEYWORDS if has_kl else ()))
    config = {
        "verb": "train",
        "env": environment["id"],
        "reward": environment["reward"],
        "env_kwargs": environment["env_kwargs"],
        **{key: plain(value) for key, value in settings.items()},
        **run.config,
        **{key: built[key] for key in named},
        **built["keywords"],
    }
    lost = {key for key, value in config.items() if not is_plain(value)}
    lost |= {*built["not_saved"], *environment["not_saved"], *_still_lost(config)}
    config = {key: value for key, value in config.items() if key not in lost}
    config.pop("not_saved", None)
    run.record(config | ({"not_saved": sorted(lost)} if lost else {}), inputs or {}, start)


def _optimizer_steps(settings: dict[str, Any], n_envs: int) -> int:
    """Optimizer steps of one rollout that goes as planned."""
    if "gradient_steps" in settings:
        steps, frequency = int(settings["gradient_steps"]), settings["train_freq"]
        per_row = frequency if isinstance(frequency, int) else int(frequency[0])
        return steps if steps >= 0 else per_row * n_envs  # SB3's -1: one for each token
    total = int(settings["n_steps"]) * n_envs
    batch_size = settings.get("batch_size", total)
    minibatches: int = max(1, round(total / batch_size))
    return int(settings.get("n_epochs", 1)) * minibatches


def _still_lost(config: dict[str, Any]) -> list[str]:
    return [name for name in config.get("not_saved", ()) if config.get(name) is None]


def _check_normalised(
    name: str, algorithm: Algorithm, settings: dict[str, Any], n_envs: int
) -> None:
    """Raises where advantages would be divided by the deviation of a single one.

    :raises InputError: naming the keywords to raise.
    """
    if algorithm.is_off_policy or "n_steps" not in settings:
        return
    if not settings.get("normalize_advantage", True):
        return
    tokens = int(settings["n_steps"]) * n_envs
    if tokens < 2 or settings.get("batch_size", tokens) == 1:
        raise InputError(
            f"agent {name!r} normalizes advantages, which takes two tokens at least: raise n_steps "
            f"({settings['n_steps']}), n_envs ({n_envs}) or batch_size "
            f"({settings.get('batch_size', tokens)}), or give normalize_advantage=False"
        )


def _settings(
    algorithm: Algorithm, keywords: dict[str, Any], budget: int, n_envs: int
) -> dict[str, Any]:
    """The algorithm's defaults under the keywords given; what depends on a keyword follows it."""
    settings = algorithm.defaults(budget, n_envs)
    if {"n_groups", "num_generations"} <= settings.keys():
        # As many episodes as with the default size of a group.
        episodes = settings["n_groups"] * settings["num_generations"]
        settings["n_groups"] = max(1, episodes // keywords["num_generations"])
    settings |= keywords
    follows = "batch_size" not in keywords and not algorithm.is_off_policy
    if follows and {"batch_size", "n_steps"} <= settings.keys():
        settings["batch_size"] = minibatch_size(int(settings["n_steps"]) * n_envs)
    return settings


def _fill_in_buffer(
    algorithm: Algorithm, settings: dict[str, Any], kl: KLPenalty | None, pad_token_id: int
) -> None:
    """Add the buffer's class and keywords to the algorithm's, under SB3's names for them."""
    assert algorithm.buffer is not None
    buffer_kwargs: dict[str, Any] = {"pad_token_id": pad_token_id}
    if algorithm.kl == "buffer" and kl is not None:
        buffer_kwargs["kl"] = kl
    if algorithm.is_off_policy:  # both are the buffer's, and SB3 would only warn of n_steps
        buffer_kwargs |= {"n_steps": settings.pop("n_steps", None), "gamma": settings["gamma"]}
    given_kwargs = settings.pop(f"{algorithm.buffer_keyword}_kwargs", None) or {}
    buffer = constructors(load_class(algorithm.buffer))
    _check_table(f"{algorithm.buffer_keyword}_kwargs", given_kwargs, buffer)
    buffer_kwargs |= given_kwargs
    settings[f"{algorithm.buffer_keyword}_class"] = load_class(algorithm.buffer)
    settings[f"{algorithm.buffer_keyword}_kwargs"] = buffer_kwargs


def _saved_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold of an algorithm's keywords, and the names of the others."""
    wanted = {k: plain(v) for k, v in keywords.items() if k != "tensorboard_log"}
    kept = {k: v for k, v in wanted.items() if is_plain(v)}
    return {"keywords": kept, "not_saved": sorted(wanted.keys() - kept.keys())}


def _kl_penalty(
    reference: LanguageModel | str | Path | None,
    lm: LanguageModel,
    policy_kwargs: dict[str, Any],
    kl_coef: float,
    **keywords: Any,
) -> KLPenalty:
    """The KL term under the policy's own sampling."""
    sampling = {name: policy_kwargs[name] for name in SAMPLING_KEYWORDS if name in policy_kwargs}
    return KLPenalty(lm if reference is None else reference, kl_coef, **keywords, **sampling)


def _check_table(name: str, given: Any, takers: Sequence[type]) -> None:
    """Raises unless a keyword that is a table has keys that its constructors know."""
    if not isinstance(given, Mapping):
        raise InputError(f"{name} must be a table of settings, got {given!r:.60}")
    known = {p for taker in takers for p in inspect.signature(vars(taker)["__init__"]).parameters}
    for key in given:
        if key not in known - {"self"}:
            raise unknown_name(f"key of {name}:", str(key), known - {"self"})


def _check_keywords(
    name: str, algorithm: Algorithm, cls: type[BaseAlgorithm], keywords: dict[str, Any]
) -> None:
    constructor = [inspect.signature(vars(base)["__init__"]) for base in constructors(cls)]
    known = {name for signature in constructor for name in signature.parameters}
    known -= {"self", "policy", "env", "seed", "kl", "keywords", "_init_setup_model"}
    reserved = {"rollout_buffer_class", "rollout_buffer_kwargs", "replay_buffer_class"}
    reserved &= keywords.keys()
    if reserved:
        raise InputError(
            f"{min(reserved)} is what make_agent fills in: for another buffer write the long "
            "form with the algorithm's own class"
        )
    extra = {*algorithm.policy_keywords, "final_learning_rate"}
    extra |= {*KL_KEYWORDS} if algorithm.kl != "refused" else set()
    extra |= {"value_warmup_rollouts"} if algorithm.has_critic else set()
    for keyword in keywords:
        if keyword not in known:
            raise unknown_name(f"keyword of agent {name!r}:", keyword, known | extra)
