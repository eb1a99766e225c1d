"""Whether a run's policy learned through its chat template, and a warning where it is not asked so.

A run says it in its `config.yaml`: `sft` by `chat`, `train` by the fields of its task.
"""

import warnings
from pathlib import Path

from textgym.agents.runs.settings import read_config
from textgym.errors import InputError
from textgym.paths import expand
from textgym.run_files import CHECKPOINTS, CONFIG


def learned_chat(policy: object) -> tuple[bool, str | None]:
    """Whether a run's policy learned through its chat template, and with which system message.

    :param policy: a run directory or one of its checkpoints; (False, None) for all else.
    """
    if not isinstance(policy, str | Path):
        return False, None
    path = expand(policy)
    run = path.parent.parent if path.parent.name == CHECKPOINTS else path
    if not (run / CONFIG).is_file():
        return False, None
    try:
        settings = read_config(run)
    except InputError:  # damaged, and none of its settings is needed
        return False, None
    fields = settings if settings.get("verb") == "sft" else settings.get("env_kwargs")
    if not isinstance(fields, dict) or fields.get("chat") is not True:
        return False, None
    return True, fields.get("system")


def warn_unless_asked_so(policy: object, *, chat: bool, system: str | None) -> None:
    """A warning where a run's policy learned through its chat template and is asked otherwise.

    :param chat, system: how it is asked.
    """
    has_learned, learned_system = learned_chat(policy)
    if not has_learned or (chat, system) == (True, learned_system):
        return
    learned = "chat" if learned_system is None else f"chat and system={learned_system!r:.60}"
    asked = f"chat and system={system!r:.60}" if system else "chat alone" if chat else "no chat"
    warnings.warn(
        f"{policy} learned with {learned} and is asked with {asked}: its prompts look otherwise to "
        "it than it knows them",
        stacklevel=3,
    )
