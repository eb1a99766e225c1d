"""`textgym.audit_reward`: every check of a reward model, and the files of the report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgym.auditing.human_texts import BUNDLED, human_texts
from textgym.auditing.result import Audit
from textgym.checks import check_numbers
from textgym.environments_by_id import get_task
from textgym.envs.texts.labelled_rows import Rows
from textgym.errors import InputError
from textgym.paths import absolute
from textgym.reward_models.auditing.checks import Findings, check_own_texts, check_texts
from textgym.rewards import Reward, check_arguments, reward_name
from textgym.rewards_by_name import check_apart, different_names, resolve_reward, reward_list

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from textgym.policies.language_model.language_model import LanguageModel


def audit_reward(
    reward: Reward | str | Path,
    *,
    env: str = BUNDLED,
    policy: "str | Path | LanguageModel | BaseAlgorithm | None" = None,
    gold: Sequence[Reward | str] | Reward | str = (),
    pairs: Rows | None = None,
    prompts: str | Path | Sequence[Any] | None = None,
    n_texts: int = 400,
    n_prompts: int = 64,
    samples: int = 8,
    out: str | Path | None = None,
    seed: int = 0,
    strict: bool = False,
    env_kwargs: dict[str, Any] | None = None,
) -> Audit:
    """Audit a reward model before anything is trained on it: what does it pay for?

    :param reward: a registered name, a reward model's directory, "module:attribute" or an object.
    :param env: whose texts it is audited on: prompts with references, or the bundled rated reviews.
    :param policy: a checkpoint or run directory, "start" for the bundled model, a model or an
        agent; its own texts are audited too.
    :param gold: independent judges of the policy's texts, by name or object; may be given several
        times.
    :param pairs: people's judgements, a .jsonl or .csv file of preferences (`prompt`, `chosen`,
        `rejected`) or of rated texts (`text`, `ratings`), or such rows; instead of the
        environment's texts.
    :param prompts: for the policy: a list or a file; without it, the task's held-out ones.
    :param n_texts: how many of the judged texts are used at most.
    :param n_prompts: how many prompts the policy continues at most.
    :param samples: texts that it writes on each.
    :param out: directory for the report: HTML, Markdown, JSON, TensorBoard.
    :param seed: of what is drawn.
    :param strict: a warning fails too (exit code 1).
    :param env_kwargs: fields of the task to replace, such as max_new_tokens=24.
    :raises InputError: if a name or a file is wrong, there are no texts, or a gold judge is the
        reward model itself.
    :raises RewardError: from a reward model.
    :raises StorageError: if the report cannot be written.
    """
    numbers = {"n_texts": n_texts, "n_prompts": n_prompts, "samples": samples, "seed": seed}
    check_numbers(numbers)
    judge = resolve_reward(reward)
    specs = reward_list(gold)
    objects = [resolve_reward(spec) for spec in specs]
    reason = "is the reward model that is audited: it agrees with itself; name an independent one"
    check_apart("gold judge", list(zip(specs, objects, strict=True)), [(reward, judge)], reason)
    if specs and policy is None:
        raise InputError("gold judges the texts of a policy: give policy too, or leave gold out")
    if prompts is not None and policy is None:
        raise InputError("prompts are continued by a policy: give policy too, or leave prompts out")
    task = get_task(env, **{**(env_kwargs or {}), "reward": judge})
    found = human_texts(task, pairs, most=n_texts, seed=seed)
    if found is None and policy is None:
        raise InputError(
            f"{env} has no texts that people judged, and no column 'reference' in its prompts: "
            "give a file of preferences (--pairs FILE), or a policy whose texts are looked at"
        )
    parts: list[Findings] = []
    about = []
    unit = None
    if found is not None:
        texts, what = found
        check_arguments(judge, texts.columns)
        parts.append(check_texts(judge, texts, seed=seed))
        unit = parts[0].unit
        about.append(what)
    if policy is not None:
        from textgym.auditing.policy_texts import own_texts

        own = own_texts(
            env,
            policy,
            prompts=prompts,
            n_prompts=n_prompts,
            samples=samples,
            seed=seed,
            env_kwargs=env_kwargs,
        )
        check_arguments(judge, own.columns)
        named = dict(zip(different_names(specs, objects), objects, strict=True))
        parts.append(check_own_texts(judge, own, named, unit=unit))
        about.append(f"{len(own.prompts)} × {samples} texts that the policy wrote")
    name = reward_name(judge)
    audit = Audit(
        str(reward) if isinstance(reward, str | Path) else name,
        "on " + " and ".join(about),
        [finding for part in parts for finding in part.findings],
        next((part.matrix for part in parts if part.matrix), {}),
        next((part.best_of_n for part in parts if part.best_of_n), {}),
        strict,
    )
    if out is None:
        return audit
    from textgym.auditing.files import write_audit

    return replace(audit, files=write_audit(audit, absolute(out)))
