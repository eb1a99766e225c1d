"""`textgym.make_agent`: names (environments, reward models, agents, directories) become objects.

They are resolved here; below, objects are passed.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym.checks import check_numbers
from textgym.environments_by_id import NOT_OF_A_TASK, get_task, make_vec, own_reward
from textgym.errors import InputError
from textgym.learned_chats import warn_unless_asked_so
from textgym.paths import absolute
from textgym.reward_models.shadows import WithShadows
from textgym.rewards import Reward
from textgym.rewards_by_name import check_apart, different_names, resolve_reward, reward_list
from textgym.task_arguments import check_given_once, check_tokenizer, check_unused, task_fields
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from textgym.agents.runs.run import Run
    from textgym.envs.task import Task
    from textgym.envs.texts.prompts import Prompt
    from textgym.latent_decoders import LatentDecoder
    from textgym.policies.language_model.language_model import LanguageModel

DEFAULT_N_ENVS = 32
# Three words of plain letters.
_ENGLISH = re.compile(r"\W*[A-Za-z']+(\W+[A-Za-z']+){2}[\x00-\x7f]*$")


def make_agent(
    agent: str,
    env: "str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv",
    *,
    policy: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    reward: Reward | str | Path | None = None,
    n_envs: int = DEFAULT_N_ENVS,
    seed: int | None = None,
    out: "str | Path | Run | None" = None,
    reference: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    env_kwargs: dict[str, Any] | None = None,
    pad_token: str | None = None,
    checkpoint_seconds: float = 300.0,
    checkpoint_tokens: int | None = None,
    keep: int = 2,
    shadow: Sequence[Reward | str] | Reward | str = (),
    decoder: "LatentDecoder | str | Path | None" = None,
    **keywords: Any,
) -> "BaseAlgorithm":
    """An unmodified Stable-Baselines3 agent on a registered environment, defaults filled in.

    :param agent: a registered name; `textgym agents` lists them.
    :param env: an environment's id, or "module:id"; or an environment of a task: what `make_vec`,
        `gymnasium.make` or `gymnasium.make_vec` gave, or Stable-Baselines3's own `VecEnv` of them.
        Then `reward`, `env_kwargs` and `n_envs` are its own.
    :param policy: the language model to start from: a directory, "start" for the bundled model, a
        `CausalLM` or an agent; None: a small fresh one on the environment's own tokenizer.
    :param reward: a reward model or its name; None: the environment's own.
    :param out: run directory for settings, metrics, samples, TensorBoard and checkpoints, which is
        this agent's as long as there is one; where it holds a run, the next free name (`out-2`).
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: overrides of the task's fields.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param checkpoint_seconds: time between two checkpoints in `out`, each between two updates;
        `learn` saves at its start and its end besides.
    :param checkpoint_tokens: completion tokens between two checkpoints, instead of time.
    :param keep: checkpoints that are kept: the last, the one before, and with more than two the
        newest as checkpoints/step-N too. That of the best reward is kept besides.
    :param shadow: further reward models that look on: scored and logged
        (`reward_components/NAME`), never part of the reward.
    :param decoder: a text VAE or its directory: then actions are latents, the agent is one of
        `textgym.registry.latent_agents` with its stock `MlpPolicy`, and of the parameters above
        `reward`, `n_envs`, `seed` and `env_kwargs` count, which also takes `latent_limit`,
        `decoding` and `prior_coef`.
    :param keywords: `kl_coef`, `kl_estimator`, `kl_target`, `temperature`, `top_k`, `top_p`,
        `value_trunk`, `value_lr_scale`, `value_warmup_rollouts`, `final_learning_rate`,
        `optimizer`, and every keyword of the algorithm itself. Where `learning_rate` or `kl_coef`
        is not said, it fits a policy that was trained before (docs/agents.md).
    :raises UnknownNameError: for a name or keyword that does not exist, with the nearest known.
    """
    from textgym.agents.building.build import build_agent, record_agent
    from textgym.agents.building.environment_record import environment_record
    from textgym.agents.building.latent_agents import check_plays_tokens
    from textgym.agents.building.model_defaults import fit_to_model
    from textgym.agents.building.specs import spec_of
    from textgym.agents.rollouts.vec_env import row_seed
    from textgym.agents.runs.directory import open_to_write
    from textgym.agents.runs.fingerprints import inputs_of_agent
    from textgym.agents.runs.kept_checkpoints import CheckpointPlan
    from textgym.policies.language_model.causal_lm import CausalLM
    from textgym.policies.language_model.checkpoint import check_has_checkpoint

    saving = {
        "checkpoint_seconds": checkpoint_seconds,
        "checkpoint_tokens": checkpoint_tokens,
        "keep": keep,
    }
    check_numbers({"n_envs": n_envs, "seed": seed, **saving})
    if decoder is not None:
        of_tokens = {"policy": policy, "reference": reference, "pad_token": pad_token, "out": out}
        given = [key for key, value in of_tokens.items() if value is not None]
        if given or shadow:
            raise InputError(
                f"{[*given, 'shadow'][0]} goes with token actions: with decoder= leave it out "
                "(tensorboard_log= and agent.save are Stable-Baselines3's own)"
            )
        return _latent_agent(agent, env, decoder, reward, n_envs, seed, env_kwargs, keywords)
    check_plays_tokens(agent)
    spec = spec_of(agent)
    lm, reference = _opened_models(policy, reference, pad_token)
    if isinstance(env, str):
        fields = _fields(env_kwargs, reward, lm)
        if shadows := reward_list(shadow):
            fields["reward"] = _with_shadows(env, fields, reward, shadows)
        generations = spec.num_generations(n_envs, keywords)
        vec_env: VecEnv = make_vec(env, n_envs, seed=seed, num_generations=generations, **fields)
    else:
        check_unused(env, reward=reward, env_kwargs=env_kwargs, shadow=reward_list(shadow) or None)
        vec_env = _given_environment(env, n_envs, lm)
    task = vec_env.get_attr("task")[0]
    shown = sample_prompts(task)
    warn_unless_asked_so(policy, chat=task.chat, system=task.system)
    if lm is None:
        width = vec_env.observation_space.shape[0]  # type: ignore[index]
        _warn_of_a_fresh_model(task, shown)
        lm = CausalLM.new(task.tokenizer, seed=seed or 0, max_position_embeddings=max(256, width))
    else:
        keywords = fit_to_model(spec, lm, keywords, task.max_new_tokens, vec_env.num_envs)
    environment = environment_record(
        env if isinstance(env, str) else task.id,
        reward=reward,
        env_kwargs=env_kwargs,
        lost=() if isinstance(env, str) else ("env",),
    )
    if out is not None:
        check_has_checkpoint(lm)
    with open_to_write(out) as run:
        built = build_agent(
            agent,
            spec,
            vec_env,
            lm,
            reference=reference,
            directory=run,
            sample_prompts=shown,
            environment=environment,
            plan=CheckpointPlan(checkpoint_seconds, checkpoint_tokens, keep),
            seed=seed,
            **keywords,
        )
        if seed is not None and not isinstance(env, str):
            assert built.env is not None
            built.env.seed(row_seed(vec_env, seed))  # SB3 has seeded it with the run's own seed
        if run is not None:
            record_agent(
                run,
                built,
                {"policy": policy, "reference": reference, **saving, "shadow": reward_list(shadow)},
                inputs=inputs_of_agent(
                    environment["id"],
                    reward,
                    {**(env_kwargs or {}), **keywords},
                    task.prompts,
                    reward_list(shadow),
                ),
                start={"policy": policy, "reference": reference},
            )
    return built


def _latent_agent(
    agent: str,
    env: object,
    decoder: "LatentDecoder | str | Path",
    reward: Reward | str | Path | None,
    n_envs: int,
    seed: int | None,
    env_kwargs: dict[str, Any] | None,
    keywords: dict[str, Any],
) -> "BaseAlgorithm":
    """An agent whose actions are latents.

    :raises InputError: for an environment that is an object, which has its actions already.
    """
    from textgym.agents.building.environment_record import environment_record
    from textgym.agents.building.latent_agents import build_latent_agent, latent_spec_of
    from textgym.agents.building.latent_checkpoint import LatentOrigin

    if not isinstance(env, str):
        raise InputError(
            f"decoder goes with an environment's id, got a {type(env).__name__}: pass the id, or "
            "an environment of make_vec(ID, decoder=...) to the algorithm's own class"
        )
    latent_spec_of(agent)
    fields = dict(env_kwargs or {})
    if reward is not None:
        check_given_once("reward", fields)
        fields["reward"] = resolve_reward(reward)
    vec_env = make_vec(env, n_envs, seed=seed, decoder=decoder, **fields)
    built = build_latent_agent(agent, vec_env, seed=seed, **keywords)
    built.latent_origin = LatentOrigin(  # type: ignore[attr-defined]
        agent,
        environment_record(env, reward=reward, env_kwargs=env_kwargs),
        str(absolute(decoder)) if isinstance(decoder, str | Path) else None,
        n_envs,
        seed,
        keywords,
    )
    return built


def _opened_models(
    policy: "str | Path | LanguageModel | BaseAlgorithm | None",
    reference: "str | Path | LanguageModel | BaseAlgorithm | None",
    pad_token: str | None,
) -> "tuple[LanguageModel | None, str | Path | LanguageModel | None]":
    """The policy's model and the KL term's; a path that needs no pad token is opened at first use.

    :raises InputError: for a pad token without a policy.
    """
    from textgym.policies.language_model.models_by_name import open_policy

    if policy is None and pad_token is not None:
        raise InputError("pad_token goes with policy=, a checkpoint directory: leave it out")
    lm = None if policy is None else open_policy(policy, pad_token=pad_token)
    if reference is None or (isinstance(reference, str | Path) and pad_token is None):
        return lm, reference
    token = pad_token if isinstance(reference, str | Path) else None
    return lm, open_policy(reference, pad_token=token, label="reference")


def _fields(
    env_kwargs: dict[str, Any] | None,
    reward: Reward | str | Path | None,
    lm: "LanguageModel | None",
) -> dict[str, Any]:
    """The task's fields that are replaced, objects for names.

    :raises InputError: where one is given twice, or a tokenizer is not the policy's.
    """
    fields = task_fields(env_kwargs)
    if reward is not None:
        check_given_once("reward", fields)
        fields["reward"] = resolve_reward(reward)
    if lm is not None:
        check_tokenizer(fields.get("tokenizer"), lm)
        fields["tokenizer"] = lm.tokenizer
    return fields


def _with_shadows(
    env: str, fields: dict[str, Any], reward: object, shadows: Sequence[object]
) -> WithShadows:
    """The task's reward model, and those that look on.

    :param fields: the task's that are replaced.
    :param reward: as it was given; None: the environment's own.
    :raises InputError: for a shadow that stands there twice, or is the reward model itself.
    """
    own = get_task(env, **{k: v for k, v in fields.items() if k not in NOT_OF_A_TASK}).reward
    spec = own_reward(env, fields) if reward is None else reward
    objects = [resolve_reward(shadow) for shadow in shadows]
    given = list(zip(shadows, objects, strict=True))
    check_apart("shadow", given, [(spec, own)], "is what is trained on: leave it out")
    label, *names = different_names([spec, *shadows], [own, *objects])
    return WithShadows(own, dict(zip(names, objects, strict=True)), label=label)


def _given_environment(env: Any, n_envs: int, lm: "LanguageModel | None") -> "VecEnv":
    """An environment that somebody made, for SB3.

    :raises InputError: where it has other rows than asked for, or another tokenizer than `lm`.
    """
    from textgym.agents.rollouts.vec_env import as_vec_env

    vec_env = as_vec_env(env)
    if n_envs not in (DEFAULT_N_ENVS, vec_env.num_envs):
        raise InputError(
            f"the environment given has {vec_env.num_envs} rows, not n_envs={n_envs}: leave "
            "n_envs out"
        )
    if lm is not None and lm.tokenizer != vec_env.get_attr("task")[0].tokenizer:
        raise InputError(
            "the environment given has another tokenizer than the policy: make it with "
            "tokenizer=lm.tokenizer, or pass its id"
        )
    return vec_env


def _warn_of_a_fresh_model(task: "Task", prompts: Sequence[str]) -> None:
    """Where prompts are English, and many, a model that knows no word has far to go.

    :param prompts: some of the task's.
    """
    is_byte = task.tokenizer.vocab_size == Tokenizer.byte().vocab_size
    is_small = isinstance(task.prompts, list | tuple) and len(task.prompts) < 100
    is_english = sum(bool(_ENGLISH.match(prompt)) for prompt in prompts) > len(prompts) / 2
    if is_byte and not is_small and is_english:
        warnings.warn(
            f"{task.id} has English prompts, but without policy= a small fresh model begins, which "
            "knows no word: policy='start' is the English model that comes with textgym",
            stacklevel=3,
        )


def sample_prompts(task: "Task", count: int = 8) -> list[str]:
    """The first different prompts that a task draws with seed 0."""
    return [prompt.text for prompt in drawn_prompts(task, count)]


def drawn_prompts(task: "Task", count: int = 8) -> list["Prompt"]:
    """As `sample_prompts`, with ids and columns."""
    import numpy as np

    source = task.prompt_source()
    rng = np.random.default_rng(0)
    different: dict[str, Prompt] = {}
    for _ in range(4 * count):
        prompt = source.draw(rng)
        different.setdefault(prompt.text, prompt)
    return list(different.values())[:count]
