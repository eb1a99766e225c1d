"""What a policy writes on held-out prompts, several texts each: the second half of an audit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgym.agents.evaluation.held_out_prompts import prompt_row
from textgym.environments_by_id import get_task
from textgym.errors import InputError
from textgym.evaluating import evaluate
from textgym.held_out_evaluations import held_out_prompts
from textgym.policies.language_model.models_by_name import open_policy
from textgym.reward_models.auditing.own_texts import OwnTexts


def own_texts(
    env: str,
    policy: Any,
    *,
    prompts: str | Path | Sequence[Any] | None,
    n_prompts: int,
    samples: int,
    seed: int,
    env_kwargs: dict[str, Any] | None,
) -> OwnTexts:
    """Let a policy write `samples` texts on each of some held-out prompts.

    :param prompts: without them the task's held-out ones, or else its own.
    :raises InputError: for names and prompts that are wrong.
    """
    if samples < 2:
        raise InputError(f"samples must be 2 at least, got {samples}: variance needs two texts")
    lm = open_policy(policy)
    fields = {**(env_kwargs or {}), "tokenizer": lm.tokenizer, "reward": _unread}
    task = get_task(env, **fields)
    if prompts is None and task.heldout_prompts is None:
        task = replace(task, heldout_prompts=task.prompts)
    chosen = held_out_prompts(task, prompts)[:n_prompts]
    rows = [prompt_row(prompt) for prompt in chosen]
    repeated = [dict(row) for row in rows for _ in range(samples)]
    report = evaluate(
        env, policy=lm, reward=_unread, prompts=repeated, seed=seed, env_kwargs=env_kwargs
    )
    texts = [episode.completion for episode in report.episodes]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    return OwnTexts(
        [prompt.text for prompt in chosen],
        [texts[k : k + samples] for k in range(0, len(texts), samples)],
        columns,
    )


def _unread(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    """The reward while the policy writes: the texts are scored together, later."""
    return [0.0] * len(completions)
