"""The cells of a comparison: every policy with every agent and every reward model.

A cell's label tells it from the others of the study; its slug names its folder, and says what the
cell is by itself, so that a study that grows finds its finished runs again.
"""

import hashlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textgym.errors import InputError
from textgym.storage import json_text

OWN_REWARD, FRESH = "own reward", "fresh"
LONGEST_SLUG = 80
_SAYS_NOTHING = r"seed-\d+|checkpoints|last|previous|best\w*"


@dataclass(frozen=True)
class AgentChoice:
    """An agent with keywords of its own.

    :param spec: as it was written, such as "ppo,kl_coef=0.1".
    :param keywords: JSON values.
    """

    spec: str
    name: str
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedCell:
    """What the runs of one cell are trained with.

    :param policy: as it was written; None: a small fresh model.
    :param reward: as it was written; None: the environment's own.
    :param label: short and different for every cell; only what the cells differ in.
    :param slug: the name of its folder.
    """

    policy: str | None
    agent: AgentChoice
    reward: str | None
    label: str
    slug: str


def cells_of(
    policies: Sequence[str | None], agents: Sequence[AgentChoice], rewards: Sequence[str | None]
) -> list[PlannedCell]:
    """All combinations, in the order given.

    :raises InputError: for one that is there twice.
    """
    combinations = list(itertools.product(policies, agents, rewards))
    names = _short_names([policy for policy in policies if policy is not None])
    reward_names = _short_names([reward for reward in rewards if reward is not None])
    cells, seen = [], set()
    for policy, agent, reward in combinations:
        parts = []
        if len(policies) > 1:
            parts.append(FRESH if policy is None else names[policy])
        if len(agents) > 1 or len(combinations) == 1:
            parts.append(agent.spec)
        if len(rewards) > 1:
            parts.append(OWN_REWARD if reward is None else reward_names[reward])
        label = " · ".join(parts)
        key = json_text([policy, agent.name, dict(sorted(agent.keywords.items())), reward])
        if key in seen:
            raise InputError(f"the cell {label!r} is there twice: leave one out")
        seen.add(key)
        slug = slug_of([policy, agent.spec, reward])
        cells.append(PlannedCell(policy, agent, reward, label, slug))
    return _with_slugs_apart(cells)


def differing(cells: Sequence[PlannedCell]) -> list[str]:
    """The names of the settings that cells differ in: policy, agent, its keywords, reward."""
    keywords = list(dict.fromkeys(key for cell in cells for key in cell.agent.keywords))
    axes: dict[str, set[str]] = {
        "policy": {json_text(cell.policy) for cell in cells},
        "agent": {cell.agent.name for cell in cells},
        **{key: {json_text(cell.agent.keywords.get(key)) for cell in cells} for key in keywords},
        "reward": {json_text(cell.reward) for cell in cells},
    }
    return [name for name, values in axes.items() if len(values) > 1]


def slug_of(parts: Sequence[str | None]) -> str:
    """A folder's name for texts: plain characters, at most `LONGEST_SLUG` of them.

    Where that does not say all, the first of a SHA-256 of the texts follow.
    """
    texts = [part for part in parts if part is not None]
    words = [re.sub(r"[^A-Za-z0-9._=]+", "-", text).strip("-.") for text in texts]
    slug = "--".join(word for word in words if word)
    is_whole = all(re.fullmatch(r"[A-Za-z0-9._=,/:-]+", text) for text in texts)
    if is_whole and slug and len(slug) <= LONGEST_SLUG:
        return slug
    return f"{slug[: LONGEST_SLUG - 9].rstrip('-.')}-{_digest(texts)}".lstrip("-")


def _with_slugs_apart(cells: list[PlannedCell]) -> list[PlannedCell]:
    """The same cells; where two share a slug (or differ in case only), each gets a digest."""
    counts = Counter(cell.slug.lower() for cell in cells)
    apart = []
    for cell in cells:
        slug = cell.slug
        if counts[slug.lower()] > 1:
            slug = f"{slug}-{_digest([cell.policy, cell.agent.spec, cell.reward])}"
        apart.append(PlannedCell(**{**vars(cell), "slug": slug}))
    return apart


def _digest(texts: Sequence[str | None]) -> str:
    return hashlib.sha256(json_text(list(texts)).encode()).hexdigest()[:8]


def _short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last part of each path that says something, and the function of `module:function,...`;
    the whole of those that share one, and of what is neither. What every study has, such as seed-0,
    says nothing by itself.
    """
    last = {path: _last_part(path) for path in paths}
    counts = Counter(last.values())
    return {path: name if counts[name] == 1 else path for path, name in last.items()}


def _last_part(path: str) -> str:
    function = re.fullmatch(r"[\w.]+:(\w+)(,.*)?", path)
    if function:
        return function[1]
    parts = path.rstrip("/").split("/")
    count = 1
    while count < len(parts) and re.fullmatch(_SAYS_NOTHING, parts[-count]):
        count += 1
    return "/".join(parts[-count:]) or path


def command_words(settings: Mapping[str, Any]) -> list[str]:
    """The words of a command line for `env` and flags by parameter name.

    :param settings: JSON values; None is left out, a list is a flag given several times, a table
        a flag with KEY=VALUE.
    """
    words = [str(settings["env"])]
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if name == "env" or value is None:
            continue
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, Mapping):
            for key, item in value.items():
                words += [option, f"{key}={json_text(item)}"]
        elif isinstance(value, list | tuple):
            for item in value:
                words += [option, str(item)]
        else:
            words += [option, str(value)]
    return words


def shell_line(words: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Words as a line that a shell takes.

    :param environment: variables to put in front.
    """
    variables = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    return " ".join([*variables, shlex.join(words)])
