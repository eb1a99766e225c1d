"""`textgym.train`: an agent in a run directory, saved whatever happens."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from textgym.agents.building.latent_agents import check_plays_tokens, without_words
from textgym.agents.building.learning import save_cut_short
from textgym.agents.building.named_files import KEYWORDS_WITH_PATHS
from textgym.agents.evaluation.held_out_callback import HeldOutEvaluations
from textgym.agents.runs.callbacks import ProgressBar, StopWhen
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.guards import Guards, guards_of
from textgym.agents.runs.resuming import resumable
from textgym.agents.runs.settings import is_json, read_config, to_json
from textgym.agents_by_name import DEFAULT_N_ENVS, make_agent
from textgym.chat_templates import with_chat
from textgym.checks import check_numbers
from textgym.environments_by_id import import_environment
from textgym.held_out_evaluations import check_evaluations, held_out_evaluations
from textgym.interrupts import deferred_interrupt
from textgym.latent_decoders import LatentDecoder
from textgym.latent_training import check_of_latents, train_latents
from textgym.rewards import Reward
from textgym.saved_agents import load_agent

BUDGETS = ("timesteps", "checkpoint_seconds", "checkpoint_tokens", "keep", "guards")
# What to lower where memory ran out; going on so is not exact, so it takes force_resume.
MEMORY = ("n_envs", "batch_size", "micro_batch_tokens", "gradient_checkpointing")


@resumable(may_change=BUDGETS, when_forced=(*MEMORY, "env_kwargs"))
def train(
    env: str,
    *,
    agent: str = "ppo",
    policy: str | Path | None = None,
    decoder: LatentDecoder | str | Path | None = None,
    reward: str | Path | None = None,
    timesteps: int = 100_000,
    out: str | Path,
    n_envs: int = DEFAULT_N_ENVS,
    seed: int = 0,
    reference: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    chat: bool | None = None,
    system: str | None = None,
    pad_token: str | None = None,
    checkpoint_seconds: float = 300.0,
    checkpoint_tokens: int | None = None,
    keep: int = 2,
    evaluations: int = 0,
    prompts: str | Path | Sequence[Any] | None = None,
    gold: Sequence[Reward | str] | Reward | str = (),
    shadow: Sequence[Reward | str] | Reward | str = (),
    guards: "str | Guards" = "off",
    resume: bool = False,
    force_resume: bool = False,
    progress_bar: bool = True,
    callback: BaseCallback | list[BaseCallback] | None = None,
    report: Callable[[str], None] = print,
    **keywords: Any,
) -> BaseAlgorithm:
    """Train an agent and save it in a run directory, also when it is interrupted.

    :param env: an environment's id, or "module:id".
    :param agent: the algorithm, a registered name.
    :param policy: checkpoint or run directory of the language model to start from; without it, a
        small fresh one on the environment's own tokenizer.
    :param decoder: a text VAE's directory: then actions are latents and the agent is one of the
        words that play them (`sac`, `td3`, `ppo`, ...; `textgym agents` lists both kinds), with no
        language model as its policy.
    :param reward: a registered name, a reward model's directory or "module:attribute"; without it,
        the environment's own.
    :param timesteps: completion tokens in all, rounded up to whole rollouts; with a decoder texts.
    :param out: run directory: checkpoints, metrics, samples, TensorBoard.
    :param n_envs: rows that play at a time.
    :param seed: of everything that is drawn.
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: fields of the task to replace, such as max_new_tokens=24.
    :param chat: each prompt is a user's message, which the policy answers, by its own chat
        template; the same as chat=true in `env_kwargs`.
    :param system: with chat: the system message in front of each prompt.
    :param pad_token: a token of the policy's vocabulary that no text needs, to fill up rows where
        its directory names none that can.
    :param checkpoint_seconds: time between two checkpoints, each between two updates.
    :param checkpoint_tokens: completion tokens between two checkpoints, instead of time.
    :param keep: checkpoints that are kept: the last, the one before, and with more than two the
        newest as checkpoints/step-N too. That of the best reward is kept besides.
    :param evaluations: held-out evaluations on the way, start and end included, evenly spaced in
        tokens: the policy continues prompts that it never trains on, and every reward model scores
        every text, into `held_out.jsonl`. 0: none.
    :param prompts: the held-out ones: a list or a file (.txt, .jsonl, .csv), cut or refused as the
        environment's own are; without it, the task's own `heldout_prompts`.
    :param gold: independent judges of the held-out texts, which no run trains on; may be given
        several times.
    :param shadow: further reward models that look on: scored and logged in training
        (`reward_components/NAME`), never part of the reward; may be given several times.
    :param guards: "warn": raise an alarm where the reward model is being gamed (`alarms.jsonl`),
        "stop": and end the training there, "off": neither. With held-out evaluations and a gold
        judge the model that it likes best is kept (checkpoints/best_gold).
    :param resume: go on with the run in `out`; what is not given is as it was.
    :param force_resume: resume although inputs, settings or versions are not as they were.
    :param progress_bar: show one.
    :param callback: Stable-Baselines3 callbacks.
    :param report: shows a line of text.
    :param keywords: as `make_agent`'s.
    :raises KeyboardInterrupt: after an interrupt, once the agent has been saved.
    :raises RewardError: from the reward model, once the agent has been saved.
    :raises StorageError: if `out` cannot be written or is in use.
    """
    env_kwargs = with_chat(env_kwargs, chat, system)
    kept = _recorded(locals())
    numbers = {**kept, **keywords}
    if decoder is None:
        check_plays_tokens(agent)
    else:
        numbers = without_words(agent, numbers)
    check_numbers(numbers)
    check_evaluations(evaluations, prompts=prompts, gold=gold)
    if decoder is not None:
        check_of_latents(locals())
        return train_latents(
            kept,
            agent=agent,
            env=env,
            decoder=decoder,
            reward=reward,
            timesteps=timesteps,
            out=out,
            n_envs=n_envs,
            seed=seed,
            env_kwargs=env_kwargs,
            checkpoint_seconds=checkpoint_seconds,
            evaluations=evaluations,
            prompts=prompts,
            gold=gold,
            progress_bar=progress_bar,
            callback=callback,
            report=report,
            resume=resume,
            force_resume=force_resume,
            keywords=keywords,
        )
    watch = guards_of(guards, report)
    smaller = _changed(out, kept) if resume and force_resume else {}
    with run_for_verb(out, kept, resume=resume) as run:
        if resume:
            import_environment(env)
            # Objects, and paths: the run's own settings are trusted, its checkpoint is data.
            again = {
                name: value
                for name, value in keywords.items()
                if name in KEYWORDS_WITH_PATHS or not is_json(to_json(value))
            }
            trained = load_agent(
                run.directory,
                reward=reward,
                shadow=shadow,
                out=run,
                env_kwargs=env_kwargs,
                checkpoint_seconds=checkpoint_seconds,
                checkpoint_tokens=checkpoint_tokens,
                keep=keep,
                exact=not force_resume,
                **{**again, **smaller},
            )
        else:
            trained = make_agent(
                agent,
                env,
                policy=policy,
                reward=reward,
                shadow=shadow,
                n_envs=n_envs,
                seed=seed,
                out=run,
                reference=reference,
                env_kwargs=env_kwargs,
                pad_token=pad_token,
                checkpoint_seconds=checkpoint_seconds,
                checkpoint_tokens=checkpoint_tokens,
                keep=keep,
                **keywords,
            )
        held_out = None
        if evaluations:
            held_out = held_out_evaluations(
                trained,
                run,
                env=env,
                reward=reward,
                shadow=shadow,
                gold=gold,
                env_kwargs=env_kwargs,
                evaluations=evaluations,
                prompts=prompts,
                timesteps=timesteps,
                seed=seed,
                has_own_reference=reference is not None,
            )
        if watch is not None and held_out is not None:
            held_out.listeners.append(watch.evaluated)
        _learn(
            trained,
            timesteps,
            held_out=held_out,
            guards=watch,
            callback=callback,
            progress_bar=progress_bar,
            tb_log_name=agent,
            # Every rollout: SB3's A2C would write every hundredth. Off-policy it counts episodes,
            # and the recorder writes each rollout itself.
            log_interval=None if isinstance(trained, OffPolicyAlgorithm) else 1,
            reset_num_timesteps=not resume,
        )
        report(f"{run.directory}: saved after {trained.num_timesteps:,} tokens")
    return trained


def train_config(**arguments: Any) -> dict[str, Any]:
    """What `train` records of its arguments before the agent is built, defaults included.

    :raises TypeError: for arguments that it does not take.
    """
    bound = inspect.signature(train).bind(**arguments)
    bound.apply_defaults()
    return _recorded(dict(bound.arguments))


def _recorded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `train` as its `config.yaml` holds them."""
    unsaid = ("report", "progress_bar", "resume", "force_resume", "keywords", "chat", "system")
    settings = {k: to_json(v) for k, v in arguments.items() if k not in unsaid}
    settings |= {k: to_json(v) for k, v in arguments["keywords"].items()}
    if settings["decoder"] is None:  # of token actions, whose records had none before
        del settings["decoder"]
    kept = {k: v for k, v in settings.items() if is_json(v) and k != "callback"}
    lost = [name for name, value in settings.items() if not is_json(value)]
    return {"verb": "train", **kept} | ({"not_saved": lost} if lost else {})


def _changed(out: str | Path, kept: dict[str, Any]) -> dict[str, Any]:
    """What of `MEMORY` is now otherwise than the run in `out` has it."""
    before = read_config(out)
    return {name: kept[name] for name in MEMORY if name in kept and kept[name] != before.get(name)}


def _learn(
    trained: BaseAlgorithm,
    timesteps: int,
    *,
    held_out: HeldOutEvaluations | None,
    guards: Guards | None,
    callback: BaseCallback | list[BaseCallback] | None,
    progress_bar: bool,
    reset_num_timesteps: bool,
    **keywords: Any,
) -> None:
    """`learn`, which saves on the way and at its end, with a checkpoint where it is cut short."""
    remaining = timesteps - (0 if reset_num_timesteps else trained.num_timesteps)
    if remaining <= 0:
        if held_out is not None:
            if guards is not None:
                guards.init_callback(trained)
                guards.on_training_start({}, {})
            held_out.make_up(trained)
        return

    users = [callback] if isinstance(callback, BaseCallback) else list(callback or ())
    # The guards first: they are to hear the evaluation that is made as training starts.
    ours = [callback for callback in (guards, held_out) if callback is not None]
    bars = [ProgressBar()] if progress_bar else []
    with deferred_interrupt() as is_interrupted:
        try:
            trained.learn(
                remaining,
                callback=[*bars, StopWhen(is_interrupted), *ours, *users],
                reset_num_timesteps=reset_num_timesteps,
                **keywords,
            )
        except BaseException as error:
            is_second = isinstance(error, KeyboardInterrupt) and is_interrupted()
            if not is_second:  # which does not wait
                save_cut_short(trained, error)
            raise
        finally:
            for bar in bars:
                bar.close()
        if is_interrupted():
            raise KeyboardInterrupt
