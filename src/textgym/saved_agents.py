"""`textgym.load_agent`: an agent from its checkpoint, which is data and chooses nothing to run."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym.agents.building.checkpoint import NOT_THIS_STATE, read_agent, restore_agent
from textgym.agents.building.named_files import check_named_files
from textgym.agents.building.saved_state import check_saved_keywords
from textgym.agents.building.specs import KL_KEYWORDS, spec_of
from textgym.agents.runs.directory import goes_on_with, open_to_write
from textgym.agents.runs.fingerprints import computed_otherwise
from textgym.agents.runs.settings import to_json
from textgym.agents_by_name import make_agent
from textgym.errors import InputError, TextGymError
from textgym.latent_loading import holds_latent_agent, load_latent_agent
from textgym.rewards import Reward
from textgym.rewards_by_name import reward_list
from textgym.saved_names import check_given_again, check_names_no_code

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from textgym.agents.runs.run import Run
    from textgym.latent_decoders import LatentDecoder
    from textgym.policies.language_model.language_model import LanguageModel


def load_agent(
    directory: str | Path,
    *,
    env: "gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any] | VecEnv | None" = None,
    reward: Reward | str | Path | None = None,
    n_envs: int | None = None,
    seed: int | None = None,
    out: "str | Path | Run | None" = None,
    reference: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    env_kwargs: dict[str, Any] | None = None,
    checkpoint_seconds: float = 300.0,
    checkpoint_tokens: int | None = None,
    keep: int = 2,
    exact: bool = False,
    shadow: Sequence[Reward | str] | Reward | str = (),
    decoder: "LatentDecoder | str | Path | None" = None,
    **keywords: Any,
) -> "BaseAlgorithm":
    """Bring an agent back from its checkpoint or run directory, with KL term and logging.

    It goes on as if it had not been away: `learn(..., reset_num_timesteps=False)` gives to the last
    bit what the agent that was saved would have given.

    Whatever is given wins over what was saved: in the algorithm, the optimizer, the generators and
    the KL term.

    :param env: needed where the agent was trained on an environment rather than an id.
    :param reward: needed where the agent was trained on an object rather than a name.
    :param seed: draw anew from this seed instead of going on with the saved generators.
    :param out: the run that the checkpoint belongs to goes on there in the same record; another
        directory begins a run of its own, as in `make_agent`.
    :param reference: the model of the KL term, instead of the saved one.
    :param env_kwargs: replace or add to the saved ones; needed for those that were objects.
    :param checkpoint_seconds, checkpoint_tokens, keep: as `make_agent`'s.
    :param exact: raise where going on could not be exact, as in another environment or from a
        checkpoint of an earlier version. Otherwise `out` or such a checkpoint makes a warning of
        it.
    :param shadow: as `make_agent`'s; no checkpoint names them.
    :param decoder: of an agent with latent actions, where the one that it was trained with was an
        object or stands elsewhere now; see `load_latent_agent` for what comes back of such an
        agent. `reference`, `out`, `shadow` and what says how `out` is written go with the others.
    :param keywords: override the saved ones.
    :raises InputError: if the directory holds no agent, or what it needs is not there.
    """
    for name in ("agent", "env", "policy"):
        if name in keywords or (name == "env" and isinstance(env, str)):
            raise InputError(
                f"load_agent brings {name} back from {directory}: leave {name}=... out, or make "
                "another agent with make_agent"
            )
    if decoder is not None or holds_latent_agent(directory):
        of_tokens = {
            "reference": reference is not None,
            "out": out is not None,
            "shadow": bool(reward_list(shadow)),
            "checkpoint_seconds": checkpoint_seconds != 300.0,
            "checkpoint_tokens": checkpoint_tokens is not None,
            "keep": keep != 2,
            "exact": exact,
        }
        for name in (name for name, is_given in of_tokens.items() if is_given):
            raise InputError(f"{name} goes with token actions: with latent actions leave it out")
        return load_latent_agent(
            directory,
            env=env,
            reward=reward,
            n_envs=n_envs,
            seed=seed,
            env_kwargs=env_kwargs,
            decoder=decoder,
            **keywords,
        )
    lm, saved_reference, state = read_agent(directory)
    settings, environment = state["settings"], state["environment"]
    named = {"env": env, "reward": reward, "n_envs": n_envs, "seed": seed, "reference": reference}
    named = {name: value for name, value in named.items() if value is not None}
    given = {*keywords, *(env_kwargs or {}), *named}
    _check_may_be_used(directory, state, given)
    saved_reward, saved_fields = environment["reward"], dict(environment["env_kwargs"])
    if "reward" in given:
        saved_reward = None
        saved_fields.pop("reward", None)
    settled = _settled(settings, keywords)
    if not settled["kl_coef"] and settled["kl_target"] is None:
        saved_reference = None
    with open_to_write(out, resume=goes_on_with(out, directory)) as run:
        if run is not None:
            run.step_offset = int(settings.get("step_offset", 0)) if run.is_resumed else 0
            run.config.update(
                {name: to_json(value) for name, value in {**keywords, **named}.items()}
            )
        try:
            agent = make_agent(
                settings["agent"],
                environment["id"] if env is None else env,
                policy=lm,
                reward=saved_reward if reward is None else reward,
                n_envs=settings["n_envs"] if n_envs is None else n_envs,
                seed=settings["seed"] if seed is None else seed,
                out=run,
                reference=saved_reference if reference is None else reference,
                env_kwargs={**saved_fields, **(env_kwargs or {})} or None,
                checkpoint_seconds=checkpoint_seconds,
                checkpoint_tokens=checkpoint_tokens,
                keep=keep,
                shadow=shadow,
                **settled,
            )
        except TextGymError:
            raise
        except NOT_THIS_STATE as error:
            raise InputError(
                f"{directory}: its settings make no agent ({type(error).__name__}: "
                f"{' '.join(str(error).split()):.120})"
            ) from error
        differences = restore_agent(agent, state, given=given)
        if exact:  # else it is not worth a word: the last bits differ
            differences += computed_otherwise(state.get("computed_with") or {})
        is_told = out is not None and run is out  # by the verb, which was asked for it
        had_to_be_given = {"reward", "reference", *environment.get("not_saved", ())}
        is_asked_for = bool(env_kwargs) or not named.keys() <= had_to_be_given
        matters = state.get("training") is None or (run is not None and not is_asked_for)
        if differences and (exact or (matters and not is_told)):
            _tell_differences(differences, directory, exact=exact)
    return agent


def _check_may_be_used(
    directory: str | Path, state: Mapping[str, Any], given: Collection[str]
) -> None:
    """Raises where a checkpoint lacks an object, or names code, files or words of its own choice.

    :param given: what the caller passed himself, and so trusts.
    :raises InputError: naming it.
    """
    settings, environment = state["settings"], state["environment"]
    lost = (*environment.get("not_saved", ()), *settings.get("not_saved", ()))
    check_given_again(directory, lost, given)
    check_names_no_code(directory, environment, given)
    check_named_files(directory, state, given)
    kept = {k: v for k, v in settings["keywords"].items() if k not in given}
    check_saved_keywords(kept, spec_of(settings["agent"]), directory)


def _settled(settings: Mapping[str, Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The saved keywords under those given; without a KL term no estimator, which is refused."""
    names = (*KL_KEYWORDS, "final_learning_rate")
    settled = {**{k: settings[k] for k in names}, **settings["keywords"], **keywords}
    has_kl = settled["kl_coef"] or settled["kl_target"] is not None
    return {k: v for k, v in settled.items() if has_kl or k != "kl_estimator" or k in keywords}


def _tell_differences(differences: Sequence[str], directory: str | Path, *, exact: bool) -> None:
    """Say why going on from a checkpoint is not exact.

    :raises InputError: with `exact`.
    """
    reasons = "; ".join(differences)
    if exact:
        raise InputError(
            f"{directory}: going on would not be exact: {reasons}; go on all the same with "
            "--force-resume (without exact=True)"
        )
    warnings.warn(f"{directory}: going on is not exact: {reasons}", stacklevel=3)
