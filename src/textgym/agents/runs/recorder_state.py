"""What a `Recorder` keeps from one rollout to the next, as a checkpoint holds it."""

from typing import Any

from textgym.agents.runs.logger_state import LoggerState, RowsUntil
from textgym.agents.runs.recording import Recorder
from textgym.errors import InputError
from textgym.saved_fields import SavedFields

# What the figures of a rollout read of an episode that ended before its rollout did.
_EPISODE = ("completion", "completion_length", "prompt_cut", "finish_reason", "reward_components")
# What the record has of one for which a reward model gave further columns.
_WITH_EXTRA = ("prompt", "reward_extra")


def recorder_state(recorder: Recorder) -> dict[str, Any]:
    """JSON values that `load_recorder_state` goes on from."""
    agent, writer = recorder.agent, recorder.writer
    assert agent is not None
    waiting = recorder.goes_on
    if waiting is None:
        waiting = LoggerState.of(agent.num_timesteps, getattr(agent, "_logger", None), writer)
    rows = recorder.rows_until
    has_row = writer is not None and writer.last_row is not None
    return {
        "rollouts": recorder.rollouts,
        "updates": recorder.updates,
        "sampled_at": recorder.sampled_at,
        "began_at": recorder.began_at,
        "flat_rewards": recorder.flat_rewards.state_dict(),
        "best_reward": recorder.best_reward.state_dict(),
        "episodes": [episode_state(info) for info in recorder.episodes],
        "logger": waiting.state_dict(),
        "metrics_until": writer.last_row if writer is not None and has_row else rows.metrics,
        "samples_until": rows.samples,
    }


def load_recorder_state(recorder: Recorder, state: Any) -> None:
    """Go on from a state of `recorder_state`.

    :raises InputError: if it is none.
    """
    fields = SavedFields(state, "state of the recorder")
    sampled_at = fields.items("sampled_at", 2) if fields.has("sampled_at") else None
    if sampled_at is not None and not all(type(n) is int and n >= 0 for n in sampled_at):
        raise fields.error("sampled_at", "a step and a count of updates")
    until = {
        name: fields.whole(f"{name}_until") if fields.has(f"{name}_until") else None
        for name in ("metrics", "samples")
    }
    episodes = [episode_of(episode) for episode in fields.items("episodes")]
    recorder.flat_rewards.load_state_dict(fields.value("flat_rewards"))
    recorder.best_reward.load_state_dict(fields.value("best_reward"))
    recorder.goes_on = LoggerState.from_state(fields.value("logger"))
    recorder.rollouts, recorder.updates = fields.whole("rollouts"), fields.whole("updates")
    recorder.sampled_at = None if sampled_at is None else (sampled_at[0], sampled_at[1])
    recorder.began_at = fields.whole("began_at") if fields.has("began_at") else None
    recorder.rows_until, recorder.episodes = RowsUntil(**until), episodes


def go_on_at(recorder: Recorder, step: int, offset: int) -> None:
    """Go on after a step of which nothing but its number is known.

    :param step: SB3's count; `offset` more in the record.
    """
    recorder.goes_on = LoggerState(step)
    recorder.rows_until = RowsUntil(offset + step, offset + step)
    recorder.sampled_at = (step, recorder.updates) if step else None


def episode_state(info: dict[str, Any]) -> dict[str, Any]:
    """What the figures read of an episode's last info, as JSON values."""
    kept = {name: info[name] for name in _EPISODE if name in info}
    if "reward_extra" in info:
        kept |= {name: info[name] for name in _WITH_EXTRA if name in info}
    if "episode" in info:
        kept["episode"] = {"r": float(info["episode"]["r"])}
    return kept


def episode_of(state: Any) -> dict[str, Any]:
    """The inverse of `episode_state`.

    :raises InputError: if it is none.
    """
    fields = SavedFields(state, "state of the recorder: episode")
    info: dict[str, Any] = {}
    for name in ("completion", "prompt"):
        if fields.has(name):
            if not isinstance(fields.value(name), str):
                raise fields.error(name, "a text")
            info[name] = fields.value(name)
    if fields.has("reward_extra"):
        info["reward_extra"] = fields.table("reward_extra").content
    for name in ("completion_length", "prompt_cut"):
        if fields.has(name):
            info[name] = fields.whole(name)
    if fields.has("finish_reason"):
        info["finish_reason"] = fields.text("finish_reason")
    if fields.has("reward_components"):
        components = fields.table("reward_components")
        info["reward_components"] = {name: components.number(name) for name in components.content}
    if fields.has("episode"):
        info["episode"] = {"r": fields.table("episode").number("r")}
    if not info:
        raise InputError(f"{fields.path}: expected figures of an episode")
    return info
