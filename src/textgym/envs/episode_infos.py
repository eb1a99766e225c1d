"""What the infos of an environment say of an episode: at its start, and when it ends."""

import copy
from collections.abc import Sequence
from typing import Any

from textgym.envs.texts.prompts import Prompt, fresh_columns
from textgym.envs.turns import Turn


def start_info(prompt: Prompt) -> dict[str, Any]:
    """The info of a reset: `prompt`, `prompt_length` and the prompt's columns."""
    return {"prompt": prompt.text, "prompt_length": len(prompt.ids), **fresh_columns(prompt)}


def finish_reason(is_terminated: bool, is_stop: bool, is_full: bool) -> str:
    """Why an episode ends: "stop", "length" (the budget), "context" (no room) or "truncated"."""
    if is_terminated:
        return "stop" if is_stop else "length"
    return "context" if is_full else "truncated"


def ending_info(
    prompt: Prompt, turns: Sequence[Turn], reason: str, length: int, group: int | None
) -> dict[str, Any]:
    """The info of an episode's last step, before its text is scored.

    :param turns: all of the episode, the environment's included.
    :param reason: of `finish_reason`.
    :param length: of the completion, in tokens that the player wrote.
    :param group: of episodes with one prompt; None where each has its own.
    """
    info: dict[str, Any] = {
        "finish_reason": reason,
        "prompt": prompt.text,
        "prompt_length": len(prompt.ids),
        "completion": "".join([turn.text for turn in turns]),
        "completion_length": length,
        "reward_components": {},
    }
    if prompt.cut:
        info["prompt_cut"] = prompt.cut
    if group is not None:
        info["group"] = group
    if prompt.columns:
        info["columns"] = fresh_columns(prompt)
    return info


def add_dialogue(
    info: dict[str, Any], turns: Sequence[Turn], state: dict[str, Any], paid: float
) -> None:
    """Add to an `ending_info` what only a dialogue has.

    :param state: the reply function's; copied.
    :param paid: the rewards of the turns, summed.
    """
    info["turns"] = [turn.as_column() for turn in turns]
    info["state"] = copy.deepcopy(state)
    info["reward_components"]["turn_rewards"] = paid
