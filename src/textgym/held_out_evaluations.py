"""From names to the held-out evaluations of a training: prompts, judges and the callback."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.building.start import frozen_start
from textgym.agents.evaluation.held_out_callback import (
    DEFAULT_EVALUATIONS,
    DEFAULT_PROMPTS,
    HeldOutEvaluations,
)
from textgym.agents.evaluation.held_out_prompts import HeldOutPrompts, listed_prompts, prompt_row
from textgym.agents.evaluation.held_out_texts import HeldOutTexts
from textgym.agents.runs.fingerprints import paths_in
from textgym.agents.runs.held_out import (
    HeldOutSettings,
    Judge,
    prompts_digest,
    read_settings,
    write_settings,
)
from textgym.agents.runs.run import Run
from textgym.environments_by_id import make_vec, own_reward
from textgym.envs.replies import DIALOGUE_COLUMNS
from textgym.envs.task import Task
from textgym.envs.texts.prompts import Prompt
from textgym.errors import InputError
from textgym.reward_models.shadows import WithShadows
from textgym.rewards import Reward, check_arguments, reward_name
from textgym.rewards_by_name import check_apart, different_names, resolve_reward, reward_list
from textgym.run_files import HELD_OUT_SETTINGS
from textgym.task_arguments import task_fields

ROWS = 64  # that play at a time, at most


def check_evaluations(evaluations: int, *, prompts: object, gold: object) -> None:
    """Raises for keywords of held-out evaluations that make no sense together.

    :raises InputError: naming them.
    """
    if evaluations == 1:
        raise InputError(
            "evaluations must be 2 at least, since start and end are among them, or 0 for none; "
            "got 1"
        )
    if not evaluations:
        for name, is_given in (("prompts", prompts is not None), ("gold", bool(reward_list(gold)))):
            if is_given:
                raise InputError(
                    f"{name} is of the held-out evaluations: give evaluations too "
                    f"(evaluations={DEFAULT_EVALUATIONS}, say), or leave {name} out"
                )


def held_out_evaluations(
    agent: BaseAlgorithm,
    run: Run,
    *,
    env: str,
    reward: object,
    shadow: object,
    gold: object,
    env_kwargs: dict[str, Any] | None,
    evaluations: int,
    prompts: Any,
    timesteps: int,
    seed: int,
    has_own_reference: bool,
) -> HeldOutEvaluations:
    """The callback of a training's held-out evaluations; the record's settings are written.

    :param agent: new, or brought back from the run's checkpoint, on the environment `env`.
    :param run: that is held.
    :param has_own_reference: its KL term is to another model than the start.

    The others are the keywords of `textgym.train`.

    :raises InputError: for prompts, judges or settings that are wrong, or not as they were.
    """
    assert agent.env is not None
    task: Task = agent.env.get_attr("task")[0]
    policy: Any = agent.policy
    fields = task_fields(env_kwargs)
    spec = own_reward(env, fields) if reward is None else reward
    judges, described = held_out_judges(task.reward, spec, reward_list(shadow), reward_list(gold))
    held_out = HeldOutPrompts(held_out_prompts(task, prompts), seed, task.max_new_tokens)
    rows = [prompt_row(prompt) for prompt in held_out.prompts]
    check_columns(judges, held_out.prompts, task)
    warn_of_training_prompts(task, held_out.prompts)
    settings = HeldOutSettings(
        env=task.id,
        prompts_sha256=prompts_digest(rows),
        n_prompts=len(rows),
        seed=seed,
        evaluations=evaluations,
        max_new_tokens=task.max_new_tokens,
        **asdict(policy.sampling),
        judges=described,
    )
    _record_settings(run, settings, rows)
    read = {
        "heldout_prompts": paths_in(task.heldout_prompts if prompts is None else prompts),
        "gold": [path for judge in reward_list(gold) for path in paths_in(judge)],
    }
    run.add_inputs(read)
    width = task.max_context or held_out.longest + task.max_new_tokens
    context = policy.lm.config.max_position_embeddings
    if width > context:
        raise InputError(
            f"held-out prompt and budget together take {width} tokens, but the model's context is "
            f"{context}: lower max_new_tokens or shorten the prompts"
        )
    own_fields = {
        **{name: value for name, value in fields.items() if name != "render_mode"},
        "tokenizer": task.tokenizer,
        "prompts": held_out,
        "max_prompt_tokens": held_out.longest,
        "reward": unread,
        "reward_workers": 0,
        "unfinished_score": None,
    }
    shifts = -(-len(rows) // ROWS)
    vec_env = make_vec(env, -(-len(rows) // shifts), seed=0, **own_fields)  # no shift is small
    start, keep_start = frozen_start(agent, run, has_own_reference=has_own_reference)
    texts = HeldOutTexts(
        vec_env,
        held_out,
        judges,
        start,
        lookers=[name for name, judge in described.items() if judge.role == "shadow"],
        timeout=task.reward_timeout,
        retries=task.reward_retries,
    )
    return HeldOutEvaluations(run, texts, evaluations, timesteps, keep_start=keep_start)


def held_out_judges(
    trained_on: Reward, spec: object, shadow: Sequence[object], gold: Sequence[object]
) -> tuple[dict[str, Reward], dict[str, Judge]]:
    """Who scores the texts, by name, and what the record says of each.

    :param trained_on: the environment's reward model, with its shadows.
    :param spec: what was written for it; `shadow` and `gold` for the others.
    :raises InputError: for a gold judge that the policy is trained on, or that looks on.
    """
    contestants = {reward_name(trained_on): trained_on}
    if isinstance(trained_on, WithShadows):
        contestants = {trained_on.label: trained_on.reward, **trained_on.shadows}
    specs = [spec, *shadow]
    objects = [resolve_reward(judge) for judge in gold]
    check_apart(
        "gold judge",
        list(zip(gold, objects, strict=True)),
        list(zip(specs, contestants.values(), strict=True)),
        "is a contestant too (a reward model that is trained on, or a shadow): a judge that is "
        "optimised says nothing of what the others did to the text; name an independent one, or "
        "leave it out",
    )
    names = different_names(gold, objects, taken=contestants)
    roles = ["reward", *["shadow"] * len(shadow), *["gold"] * len(gold)]
    judges = {**contestants, **dict(zip(names, objects, strict=True))}
    described = {
        name: Judge(role, str(spec) if isinstance(spec, str | Path) else "")  # type: ignore[arg-type]
        for name, role, spec in zip(judges, roles, [*specs, *gold], strict=True)
    }
    return judges, described


def held_out_prompts(task: Task, given: Any) -> list[Prompt]:
    """The held-out prompts, with the task's own limits.

    :raises InputError: where there are none.
    """
    prompts = task.heldout_prompts if given is None else given
    if prompts is None:
        raise InputError(
            f"{task.id} has no prompts that its training never draws (heldout_prompts): give a "
            "file of held-out ones, --prompts FILE (prompts=... in Python)"
        )
    source = replace(task, prompts=prompts).prompt_source()
    source.warn_of_cuts(f"{task.id}, held-out prompts")
    label = str(prompts) if isinstance(prompts, str | Path) else "held-out prompts"
    return listed_prompts(source, most=DEFAULT_PROMPTS, label=label)


def check_columns(judges: Mapping[str, Reward], prompts: Sequence[Prompt], task: Task) -> None:
    """Raises unless every judge gets all that it asks for."""
    columns = [*prompts[0].columns, *(DIALOGUE_COLUMNS if task.reply is not None else ())]
    for judge in judges.values():
        check_arguments(judge, columns)


def warn_of_training_prompts(task: Task, prompts: Sequence[Prompt]) -> None:
    """Say how many held-out prompts are among those that the training draws."""
    trained = {prompt.text for prompt in task.prompt_source().all()}
    count = sum(prompt.text in trained for prompt in prompts)
    if count:
        warnings.warn(
            f"{count} of {len(prompts)} held-out prompts are among the training prompts of "
            f"{task.id}: what the policy writes there says nothing of prompts that it never saw",
            stacklevel=3,
        )


def _record_settings(
    run: Run, settings: HeldOutSettings, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write the settings of the record, or hold them against those of the run that goes on.

    :raises InputError: naming what is not as it was.
    """
    recorded = read_settings(run.directory)
    if recorded is None:
        write_settings(run.directory, settings, rows)
        return
    before, now = asdict(recorded), asdict(settings)
    for name, value in now.items():
        if before[name] != value:
            raise InputError(
                f"{run.directory}: its held-out evaluations have {name}={before[name]!r:.80} "
                f"({HELD_OUT_SETTINGS}), but now it is {value!r:.80}: put back what was given, or "
                "start another run"
            )


def unread(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The reward of held-out texts, which the judges score all together."""
    return [0.0] * len(completions)
