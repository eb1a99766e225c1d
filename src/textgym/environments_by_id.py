"""From names to objects: registering a task, and making environments of it.

Gymnasium knows only the id of a task and the functions here that make it. The task itself stays in
`textgym.registry.tasks`, since Gymnasium deep-copies what it stores, and a reward model must not be
copied. Names (of reward models, of checkpoint directories) are resolved here and nowhere below.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import registry as gymnasium_ids

from textgym import registry
from textgym.built_in_rewards import Facts
from textgym.checks import check_numbers
from textgym.envs.latent_env import LatentEnv, LatentVectorEnv
from textgym.envs.latent_rows import OF_LATENTS
from textgym.envs.task import Task, check_fields
from textgym.envs.text_env import ACTIONS, TextEnv
from textgym.envs.vector_env import TextVectorEnv
from textgym.errors import InputError, UnknownNameError, unknown_name
from textgym.latent_decoders import LatentDecoder, check_is_decoder
from textgym.rewards_by_name import resolve_reward
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecMonitor

__all__ = [
    "BUILTIN_TASKS",
    "get_task",
    "import_environment",
    "make_env",
    "make_vec",
    "make_vector_env",
    "register",
    "register_builtin_tasks",
    "register_reward",
    "resolve_reward",
]

NOT_OF_A_TASK = ("max_episode_steps", "render_mode")  # what `make_vec` takes beside its fields

BUILTIN_TASKS = {
    "textgym/MovieReview-v0": "small_tasks:movie_review",
    "textgym/Length-v0": "small_tasks:length",
    "textgym/Keyword-v0": "small_tasks:keyword",
    "textgym/Wujue-v0": "quatrains:wujue",
    "textgym/Qijue-v0": "quatrains:qijue",
    "textgym/OneToken-v0": "oracle_tasks:one_token",
    "textgym/FewTokens-v0": "oracle_tasks:few_tokens",
}


def register(
    id: str,
    *,
    prompts: Any,
    reward: Any,
    max_new_tokens: int = 64,
    stop: str | Sequence[str] | None = None,
    max_episode_steps: int | None = None,
    **task_fields: Any,
) -> None:
    """Register a text environment under an id: for `gymnasium.make`, `make_vec`, the command line.

    Registering an id of one's own again replaces it.

    :param id: "namespace/Name-v0", as Gymnasium writes ids.
    :param prompts: a list of texts or of mappings, a path, or a function: see `PromptSource`.
    :param reward: a reward model, or its name (see `resolve_reward`).
    :param max_episode_steps: an outer limit in steps, which truncates; rarely what one wants.
    :param task_fields: the other fields of a `Task`.
    :raises InputError: for a field that does not exist or makes no sense.
    """
    fields = {
        "prompts": prompts,
        "reward": reward,
        "max_new_tokens": max_new_tokens,
        "stop": stop,
        **task_fields,
    }
    if id in BUILTIN_TASKS:
        raise InputError(f"{id!r} is built in: choose an id with your own namespace, 'me/Name-v0'")
    check_fields(list(fields))
    is_named = isinstance(reward, str | Path)  # resolved when an environment is made
    task = _build(id, fields | {"reward": _unresolved} if is_named else fields)
    if fields.get("tokenizer") is None:  # the policy's, which has the chat template
        task = replace(task, chat=False, system=None)
    if isinstance(prompts, list | tuple):  # files and functions are read when one is made
        task.check_arguments(task.prompt_source())
    registry.tasks.register(id, fields, replace=True)
    _give_to_gymnasium(id, max_episode_steps)


def register_reward(
    name: str,
    target: Any,
    *,
    description: str = "",
    range: str = "",
    speed: str = "",
    licence: str = "",
    extra: str = "",
) -> None:
    """Give a reward model a name, for `reward="name"` and `--reward name`.

    :param target: the reward, a class of rewards, a function without arguments that makes one, or
        "module:attribute" of one of these.
    :param description: one line for `textgym rewards`, which also shows the rest.
    :param range: of its scores: "[0, 1]".
    :param speed: texts/s: "1,000".
    :param licence: of what it uses.
    :param extra: what has to be installed for it.
    :raises InputError: if the name is taken by another target.
    """
    facts = Facts(range, speed, licence, extra)
    registry.rewards.register(name, target, description=description, facts=facts)


def register_builtin_tasks() -> None:
    """Register the ids that come with textgym. Reads no data: that happens when one is made."""
    for task_id, function in BUILTIN_TASKS.items():
        target = f"textgym.envs.tasks.{function}"
        registry.tasks.register(task_id, target, replace=True)
        _give_to_gymnasium(task_id, None)


def get_task(id: str, **overrides: Any) -> Task:
    """The task behind an id, names resolved.

    :param id: a registered id, or "module:id": the module is imported first.
    :param overrides: fields of the task to replace; `tokenizer` may be a checkpoint directory.
    :raises UnknownNameError: for an id or a field that does not exist.
    """
    name = import_environment(id)
    try:
        fields = registry.tasks.resolve(name)
    except UnknownNameError as error:
        if ":" in id or name.startswith("textgym/"):
            raise
        raise UnknownNameError(
            f"{error} (one that a module of yours registers is 'module:{name}')"
        ) from None
    if not isinstance(fields, Mapping):
        assert callable(fields)
        fields = fields()
    check_fields(list(overrides))
    return _build(name, {**fields, **overrides})


def own_reward(id: str, fields: Mapping[str, Any]) -> object:
    """What stands for an environment's reward model: a name, or the object itself.

    :param fields: of the task, that are replaced.
    """
    registered: Any = registry.tasks.resolve(import_environment(id))
    return {**(registered() if callable(registered) else registered), **fields}["reward"]


def import_environment(id: str) -> str:
    """Import the module of "module:id", if there is one; returns the id alone.

    :raises InputError: if there is no such module.
    """
    if not isinstance(id, str):
        raise InputError(
            f"expected an environment's id, 'namespace/Name-v0' or 'module:id', got a "
            f"{type(id).__name__} (make_agent takes environments too)"
        )
    module, separator, name = id.rpartition(":")
    if separator:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not module.startswith(error.name or "\0"):
                raise  # the module is there, something that it imports is not
            raise InputError(f"environment {id!r}: no module named {error.name!r}") from None
    return name


def make_env(
    task_id: str,
    action: str = "token",
    render_mode: str | None = None,
    decoder: LatentDecoder | str | Path | None = None,
    **overrides: Any,
) -> TextEnv | LatentEnv:
    """One environment: what `gymnasium.make(id, ...)` calls.

    :param action: "token", "text" or "latent".
    :param decoder: with "latent": a `TextVAE`, its directory, or another `LatentDecoder`.
    :param overrides: fields of the task to replace; with "latent" also `latent_limit`, `decoding`
        and `prior_coef` (see `textgym.envs.latent_rows.LatentRows`).
    :raises InputError: for a decoder without latent actions, or the reverse.
    """
    if _checked_action(action) == "latent":
        task, opened, settings = _latent_parts(task_id, decoder, overrides)
        return LatentEnv(task, opened, render_mode=render_mode, **settings)
    _check_no_decoder(action, decoder, overrides)
    task = get_task(task_id, **_checked_overrides(overrides))
    return TextEnv(task, action=action, render_mode=render_mode)  # type: ignore[arg-type]


def make_vector_env(
    task_id: str,
    num_envs: int = 1,
    action: str = "token",
    max_episode_steps: int | None = None,
    num_generations: int = 1,
    render_mode: str | None = None,
    decoder: LatentDecoder | str | Path | None = None,
    **overrides: Any,
) -> TextVectorEnv:
    """Many at once: what `gymnasium.make_vec(id, ...)` calls.

    :param action, decoder, overrides: as `make_env`'s.
    :raises InputError: for text actions, which have no batch form; or as `make_env`.
    """
    if _checked_action(action) == "latent":
        if num_generations != 1 or max_episode_steps is not None:
            raise InputError(
                "latent actions write a text a step: leave num_generations and max_episode_steps "
                "out"
            )
        task, opened, settings = _latent_parts(task_id, decoder, overrides)
        return LatentVectorEnv(task, num_envs, decoder=opened, render_mode=render_mode, **settings)
    _check_no_decoder(action, decoder, overrides)
    if action != "token":
        raise InputError(
            'the native vector environment has token actions only: with action="text" pass '
            'vectorization_mode="sync" to gymnasium.make_vec'
        )
    return TextVectorEnv(
        get_task(task_id, **_checked_overrides(overrides)),
        num_envs,
        max_episode_steps=max_episode_steps,
        num_generations=num_generations,
        render_mode=render_mode,
    )


def _latent_parts(
    task_id: str, decoder: LatentDecoder | str | Path | None, overrides: dict[str, Any]
) -> tuple[Task, LatentDecoder, dict[str, Any]]:
    """The task with the decoder's tokenizer, the decoder, and what else `LatentRows` takes."""
    if decoder is None:
        raise InputError(
            'latent actions need a decoder: decoder="runs/vae", the directory of a text VAE '
            "(textgym pretrain-vae makes one)"
        )
    fields = {key: value for key, value in overrides.items() if key not in OF_LATENTS}
    settings = {OF_LATENTS[key]: overrides[key] for key in overrides if key in OF_LATENTS}
    opened = open_decoder(decoder)
    fields = {"tokenizer": opened.tokenizer, **_checked_overrides(fields)}
    return get_task(task_id, **fields), opened, settings


def open_decoder(decoder: LatentDecoder | str | Path) -> LatentDecoder:
    """The decoder that is meant: the text VAE of a directory, or the object itself.

    :raises InputError: for a directory that holds none, or an object that is none.
    """
    if isinstance(decoder, str | Path):
        from textgym.policies.vae.text_vae import TextVAE

        return TextVAE.from_pretrained(decoder)
    check_is_decoder(decoder)
    return decoder


def _check_no_decoder(action: str, decoder: object, overrides: dict[str, Any]) -> None:
    given = ["decoder"] * (decoder is not None) + [key for key in OF_LATENTS if key in overrides]
    if given:
        raise InputError(f'{given[0]} goes with action="latent", got action={action!r}')


def make_vec(
    id: str,
    n_envs: int = 1,
    seed: int | None = None,
    num_generations: int = 1,
    decoder: LatentDecoder | str | Path | None = None,
    **overrides: Any,
) -> "VecMonitor":
    """A Stable-Baselines3 `VecEnv` of a task, monitored; also good as `eval_env`.

    :param seed: of the prompts that are drawn, 0 to 2³² - 1. Different seeds have no prompt stream
        in common (see `textgym.agents.rollouts.vec_env.environment_seed`).
    :param num_generations: episodes of each prompt that is drawn (see `TextVectorEnv`).
    :param decoder: makes actions latent: see `make_env`.
    :param overrides: fields of the task, `max_episode_steps` or `render_mode`.
    :raises InputError: for a seed or a field that makes no sense.
    """
    from textgym.agents.rollouts.text_monitor import TextMonitor
    from textgym.agents.rollouts.vec_env import TextVecEnv

    check_numbers({"n_envs": n_envs, "seed": seed, "num_generations": num_generations})
    name = import_environment(id)
    if decoder is not None:
        vector_env = make_vector_env(
            id, n_envs, "latent", num_generations=num_generations, decoder=decoder, **overrides
        )
    else:
        _check_no_decoder("token", None, overrides)
        task_fields = {k: v for k, v in overrides.items() if k not in NOT_OF_A_TASK}
        task = get_task(id, **_checked_overrides(task_fields))
        limit = overrides.get("max_episode_steps", gymnasium.spec(name).max_episode_steps)
        vector_env = TextVectorEnv(
            task,
            n_envs,
            max_episode_steps=limit,
            num_generations=num_generations,
            render_mode=overrides.get("render_mode"),
        )
    env = TextVecEnv(vector_env)
    if seed is not None:
        env.seed(seed)
    return TextMonitor(env)


def _give_to_gymnasium(task_id: str, max_episode_steps: int | None) -> None:
    gymnasium_ids.pop(task_id, None)  # else Gymnasium warns of an override
    gymnasium.register(
        task_id,
        entry_point="textgym.environments_by_id:make_env",
        vector_entry_point="textgym.environments_by_id:make_vector_env",
        max_episode_steps=max_episode_steps,
        kwargs={"task_id": task_id},
    )


def _build(task_id: str, fields: Mapping[str, Any]) -> Task:
    """A task of raw fields: names resolved, defaults filled in."""
    fields = dict(fields)
    fields["reward"] = resolve_reward(fields["reward"])
    tokenizer = fields.get("tokenizer")
    if tokenizer is None:
        fields["tokenizer"] = Tokenizer.byte()
    elif isinstance(tokenizer, str | Path):
        fields["tokenizer"] = Tokenizer.load(tokenizer)
    return Task(id=task_id, **fields)


def _unresolved(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """Stands for a reward that is given by name, while the other fields are checked."""
    raise NotImplementedError


def _checked_action(action: str) -> Any:
    if action not in (*ACTIONS, "latent"):
        raise unknown_name("action", str(action), (*ACTIONS, "latent"))
    return action


def _checked_overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    check_fields(list(overrides))
    return overrides
