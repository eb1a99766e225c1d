"""`textgym.train(..., decoder=...)`: an agent with latent actions in a run directory.

A road of its own beside that of token actions: the policy is Stable-Baselines3's stock one and no
language model, so there is no KL to a start and no checkpoint that `transformers` opens. Run
directory, record, samples, judges and exact resuming are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.environment_record import environment_record
from textgym.agents.building.latent_agents import LatentSpec, build_latent_agent, latent_spec_of
from textgym.agents.building.latent_checkpoint import LatentOrigin, save_latent_agent
from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts
from textgym.agents.evaluation.latent_held_out import POLICY, PRIOR, LatentHeldOut
from textgym.agents.evaluation.latent_play import play_latents, policy_latents
from textgym.agents.evaluation.play import SequentialPrompts
from textgym.agents.runs.callbacks import (
    ProgressBar,
    StopBetweenRollouts,
    StoppedBetweenRolloutsError,
)
from textgym.agents.runs.directory import run_for_verb
from textgym.agents.runs.fingerprints import inputs_of_agent, paths_in
from textgym.agents.runs.latent_recording import HeardVecEnv, LatentRecorder
from textgym.agents.runs.run import Run
from textgym.agents.runs.settings import is_json
from textgym.agents_by_name import drawn_prompts
from textgym.environments_by_id import make_vec, open_decoder, own_reward
from textgym.envs.task import Task
from textgym.errors import InputError
from textgym.held_out_evaluations import (
    ROWS,
    check_columns,
    held_out_judges,
    held_out_prompts,
    unread,
    warn_of_training_prompts,
)
from textgym.interrupts import deferred_interrupt
from textgym.latent_decoders import LatentDecoder
from textgym.latent_resuming import go_on_exactly, latent_run_state
from textgym.paths import absolute
from textgym.rewards_by_name import resolve_reward, reward_list
from textgym.run_files import PREVIOUS
from textgym.task_arguments import check_given_once, task_fields

# What `train` takes for token actions alone, and what it is where nobody gave it.
OF_TOKENS: dict[str, Any] = {
    "policy": None,
    "reference": None,
    "pad_token": None,
    "shadow": (),
    "guards": "off",
    "checkpoint_tokens": None,
    "keep": 2,
}


@dataclass(frozen=True)
class LatentTask:
    """Who plays where, and with which decoder.

    :param agent: the word for the algorithm.
    :param env: an environment's id, or "module:id".
    :param decoder: the object; `decoder_path` its absolute path, None where an object was given.
    :param fields: of the task, that are replaced, with those of latent actions.
    """

    agent: str
    env: str
    decoder: LatentDecoder
    decoder_path: str | None
    fields: dict[str, Any]

    def playing(self, source: HeldOutPrompts | SequentialPrompts, longest: int) -> VecEnv:
        """An environment that plays given prompts, whose reward nobody reads.

        :param longest: tokens of a prompt at most.
        """
        count = len(source.prompts)
        fields = {
            **{name: value for name, value in self.fields.items() if name != "render_mode"},
            "prompts": source,
            "max_prompt_tokens": longest,
            "reward": unread,
            "reward_workers": 0,
            "unfinished_score": None,
        }
        shifts = -(-count // ROWS)
        return make_vec(self.env, -(-count // shifts), seed=0, decoder=self.decoder, **fields)


def check_of_latents(given: Mapping[str, Any]) -> None:
    """Raises for an argument of `train` that goes with token actions.

    :param given: the arguments by name.
    :raises InputError: naming the first.
    """
    for name, unsaid in OF_TOKENS.items():
        is_given = bool(reward_list(given[name])) if name == "shadow" else given[name] != unsaid
        if is_given:
            raise InputError(f"{name} goes with token actions: with decoder leave it out")


def train_latents(
    config: dict[str, Any],
    *,
    agent: str,
    env: str,
    decoder: LatentDecoder | str | Path,
    reward: Any,
    timesteps: int,
    out: str | Path,
    n_envs: int,
    seed: int,
    env_kwargs: dict[str, Any] | None,
    checkpoint_seconds: float,
    evaluations: int,
    prompts: Any,
    gold: Any,
    progress_bar: bool,
    callback: BaseCallback | list[BaseCallback] | None,
    report: Any,
    resume: bool,
    force_resume: bool,
    keywords: dict[str, Any],
) -> BaseAlgorithm:
    """Train an agent with latent actions and save it, also when it is interrupted.

    :param config: what the run records of its arguments.
    :param timesteps: texts in all (in a dialogue, turns).

    The others are the keywords of `textgym.train`.

    :raises InputError: for a word, keywords, a decoder or prompts that do not fit.
    :raises RewardError: from the reward model or a judge, once the agent has been saved.
    """
    spec = latent_spec_of(agent)
    fields = task_fields(env_kwargs)
    if reward is not None:
        check_given_once("reward", fields)
        fields["reward"] = resolve_reward(reward)
    path = str(absolute(decoder)) if isinstance(decoder, str | Path) else None
    latent_task = LatentTask(agent, env, open_decoder(decoder), path, fields)
    with run_for_verb(out, config, resume=resume) as run:
        heard = HeardVecEnv(make_vec(env, n_envs, seed=seed, decoder=latent_task.decoder, **fields))
        trained = build_latent_agent(
            agent,
            heard,
            seed=seed,
            **{"tensorboard_log": str(run.tensorboard_path), **keywords},
        )
        environment = environment_record(env, reward=reward, env_kwargs=env_kwargs)
        trained.latent_origin = LatentOrigin(  # type: ignore[attr-defined]
            agent, environment, latent_task.decoder_path, n_envs, seed, keywords
        )
        task: Task = heard.get_attr("task")[0]
        run.record(
            {**_defaults(trained, spec), **config},
            inputs_of_agent(env, reward, {**(env_kwargs or {}), **keywords}, task.prompts),
            {"decoder": paths_in(decoder)},
        )
        held_out = None
        if evaluations:
            held_out = _held_out(
                latent_task,
                run,
                task,
                reward=reward,
                gold=gold,
                prompts=prompts,
                evaluations=evaluations,
                timesteps=timesteps,
                seed=seed,
            )
        recorder = _recorder(latent_task, trained, run, heard, held_out, checkpoint_seconds)
        if resume:
            go_on_exactly(trained, run, recorder, held_out, exact=not force_resume)
        users = [callback] if isinstance(callback, BaseCallback) else list(callback or ())
        ours = [*([held_out] if held_out is not None else []), recorder]
        if timesteps > trained.num_timesteps:
            _learn(trained, timesteps, ours, users, agent, progress_bar=progress_bar, resume=resume)
        if held_out is not None:
            for name, score in held_out.scores.get(POLICY, {}).items():
                report(f"held-out {name}: {score} (z of the prior: {held_out.scores[PRIOR][name]})")
        report(f"{run.directory}: saved after {trained.num_timesteps:,} texts")
    return trained


def _defaults(trained: BaseAlgorithm, spec: LatentSpec) -> dict[str, Any]:
    """The keywords that `make_agent` fills in for a word; those that JSON can hold."""
    assert trained.env is not None
    latents = int(np.prod(trained.action_space.shape or (1,)))
    filled_in = spec.defaults(trained.env.num_envs, latents)
    return {name: value for name, value in filled_in.items() if is_json(value)}


def _learn(
    trained: BaseAlgorithm,
    timesteps: int,
    ours: Sequence[BaseCallback],
    users: Sequence[BaseCallback],
    name: str,
    *,
    progress_bar: bool,
    resume: bool,
) -> None:
    """`learn`; the agent is saved at its end, and where something cuts it short.

    :param timesteps: texts of the run in all.
    :param ours: the callbacks of the run, its recorder last.
    """
    recorder = ours[-1]
    assert isinstance(recorder, LatentRecorder)
    bars = [ProgressBar("texts")] if progress_bar else []
    with deferred_interrupt() as is_interrupted:
        try:
            trained.learn(
                timesteps - (trained.num_timesteps if resume else 0),
                callback=[*bars, *ours, StopBetweenRollouts(is_interrupted), *users],
                tb_log_name=name,
                log_interval=None,  # type: ignore[arg-type]  # the recorder writes the rows
                reset_num_timesteps=not resume,
            )
        except StoppedBetweenRolloutsError:
            pass
        finally:
            for bar in bars:
                bar.close()
            recorder.save()
        if is_interrupted():
            raise KeyboardInterrupt


def _recorder(
    latent_task: LatentTask,
    trained: BaseAlgorithm,
    run: Run,
    heard: HeardVecEnv,
    held_out: LatentHeldOut | None,
    seconds: float,
) -> LatentRecorder:
    """The recorder of a run, which continues some of the task's prompts again and again."""
    prompts = drawn_prompts(heard.get_attr("task")[0])
    source = SequentialPrompts(prompts)
    samples = latent_task.playing(source, max(len(prompt.ids) for prompt in prompts))

    def sample() -> list[tuple[str, str]]:
        source.next = 0
        samples.seed(0)  # what is drawn is the same each time, whatever came before
        episodes = play_latents(policy_latents(trained), samples, len(prompts))
        return [(episode.prompt, episode.completion) for episode in episodes]

    def save() -> None:
        state = latent_run_state(trained, recorder, held_out)
        save_latent_agent(trained, run.last, keep_old_as=PREVIOUS, run=state)

    recorder = LatentRecorder(run, heard, sample=sample, save=save, seconds=seconds)
    return recorder


def _held_out(
    latent_task: LatentTask,
    run: Run,
    task: Task,
    *,
    reward: Any,
    gold: Any,
    prompts: Any,
    evaluations: int,
    timesteps: int,
    seed: int,
) -> LatentHeldOut:
    """The held-out evaluations of a run.

    :param task: that is trained on.
    :raises InputError: for prompts or judges that are wrong.
    """
    spec = own_reward(latent_task.env, latent_task.fields) if reward is None else reward
    judges, _ = held_out_judges(task.reward, spec, (), reward_list(gold))
    source = HeldOutPrompts(held_out_prompts(task, prompts), seed, task.max_new_tokens)
    check_columns(judges, source.prompts, task)
    warn_of_training_prompts(task, source.prompts)
    run.add_inputs(
        {
            "heldout_prompts": paths_in(task.heldout_prompts if prompts is None else prompts),
            "gold": [path for judge in reward_list(gold) for path in paths_in(judge)],
        }
    )
    return LatentHeldOut(
        run,
        latent_task.playing(source, source.longest),
        source,
        judges,
        evaluations=evaluations,
        timesteps=timesteps,
        seed=seed,
    )
