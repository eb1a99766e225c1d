"""The state of episodes as a checkpoint holds it, and back, checked.

Legend: `n` rows, `L` width of a row.
"""

import hashlib
from typing import Any

import numpy as np

from textgym.envs.episode_rows import EpisodeRows
from textgym.envs.grouped_prompts import GroupedPrompts
from textgym.envs.texts.prompts import Prompt, PromptSource
from textgym.envs.turns import Turn
from textgym.errors import InputError
from textgym.saved_fields import SavedFields
from textgym.states import NoStateError, exact_json

# How `EpisodeRows.save` calls its arrays → how a checkpoint does.
_ARRAYS = {
    "tokens": "tokens",
    "lengths": "lengths",
    "_used": "used",
    "_turn_starts": "turn_starts",
    "_group_of": "groups",
}
# What `task_summary` says in digests.
DIGESTS = ("prompts", "tokens", "constraints")
_READ_ANEW = ("_states", "_states_at")  # of the constraint, from the rows themselves


def rows_state(rows: EpisodeRows) -> dict[str, Any]:
    """The open episodes of all rows: arrays `[n]` and `[n, L]`, prompts and finished turns.

    :raises NoStateError: for a prompt whose columns JSON cannot hold.
    """
    saved = rows.save()
    return {
        **{name: saved[key] for key, name in _ARRAYS.items()},
        "is_over": saved["_is_over"],
        "steps": saved["_steps"],
        "prompts": [
            None if prompt is None else prompt_state(rows.source, prompt)
            for prompt in saved["_prompts"]
        ],
        "turns": [[_turn_state(turn) for turn in turns] for turns in saved["_turns"]],
        "game_states": [dict(state) for state in saved["_game_states"]],
        "turn_rewards": saved["_turn_rewards"],
    }


def load_rows_state(rows: EpisodeRows, state: Any, where: object) -> None:
    """Go on with the episodes of `rows_state`; nothing has changed where it raises.

    :raises InputError: if they are no episodes of these rows' task.
    """
    fields = SavedFields(state, str(where))
    n, width = rows.tokens.shape
    largest = rows.task.tokenizer.vocab_size - 1
    restored: dict[str, Any] = {
        "tokens": fields.array("tokens", "int64", (n, width), low=0, high=largest)
    }
    for key, name in _ARRAYS.items():
        if name != "tokens":
            high = width if name in ("lengths", "turn_starts") else None
            restored[key] = fields.array(name, "int64", (n,), low=0, high=high)
    restored["_is_over"] = fields.array("is_over", "bool", (n,))
    restored["_steps"] = fields.whole("steps")
    restored["_prompts"] = [
        None if prompt is None else prompt_of(rows.source, prompt, where)
        for prompt in fields.items("prompts", n)
    ]
    restored["_turns"] = [
        [_turn_of(turn, largest, where) for turn in _as_list(turns, where)]
        for turns in fields.items("turns", n)
    ]
    restored["_game_states"] = [
        SavedFields(table, f"{where}: game_states").content
        for table in fields.items("game_states", n)
    ]
    restored["_turn_rewards"] = fields.array("turn_rewards", "float64", (n,))
    if not np.isfinite(restored["_turn_rewards"]).all():
        raise fields.error("turn_rewards", "finite numbers")
    restored["_states"], restored["_states_at"] = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for row in range(n):
        prompt = restored["_prompts"][row]
        length = 0 if prompt is None else len(prompt.ids)
        if not restored["_is_over"][row]:
            start, end = (int(restored[key][row]) for key in ("_turn_starts", "lengths"))
            is_possible = prompt is not None and length <= start <= end < width
            if not is_possible or (restored["tokens"][row, :length] != prompt.ids).any():
                raise InputError(f"{where}: row {row} is no open episode of its prompt")
        restored["_states"][row] = 0 if rows.automaton is None else rows.automaton.start
        restored["_states_at"][row] = restored["_turn_starts"][row]
    rows.restore({key: _copied(value) for key, value in restored.items()})


def groups_state(groups: GroupedPrompts) -> dict[str, Any]:
    """How many episodes were dealt, and the prompt of the open group."""
    dealt, prompt = groups.dealt
    return {
        "dealt": dealt,
        "prompt": None if prompt is None else prompt_state(groups.source, prompt),
    }


def load_groups_state(groups: GroupedPrompts, state: Any, where: object) -> None:
    """Go on with the open group of `groups_state`.

    :raises InputError: if it is none.
    """
    fields = SavedFields(state, str(where))
    prompt = fields.value("prompt")
    groups.dealt = (
        fields.whole("dealt"),
        None if prompt is None else prompt_of(groups.source, prompt, where),
    )


def prompt_state(source: PromptSource, prompt: Prompt) -> int | dict[str, Any]:
    """A prompt as its place in a list or file, or, where a function gave it, all of it.

    :raises NoStateError: for columns that JSON cannot hold.
    """
    place = source.place(prompt)
    if place is not None:
        return place
    if exact_json(prompt.columns) is None:
        raise NoStateError(
            f"a prompt has columns that JSON does not hold as they are ({prompt.columns!r:.60}), "
            "so no checkpoint keeps the open episodes"
        )
    return {
        "text": prompt.text,
        "ids": prompt.ids.tolist(),
        "columns": prompt.columns,
        "cut": prompt.cut,
    }


def prompt_of(source: PromptSource, state: Any, where: object) -> Prompt:
    """The prompt of a `prompt_state`.

    :raises InputError: if the source can have given none such.
    """
    if isinstance(state, int) and not isinstance(state, bool):
        if not 0 <= state < len(source):
            raise InputError(f"{where}: there are {len(source)} prompts, and none number {state}")
        return source.at(state)
    fields = SavedFields(state, f"{where}: prompt")
    text, ids = fields.value("text"), fields.items("ids")
    if not isinstance(text, str) or not ids or len(source):
        raise InputError(f"{where}: no prompt of this task")
    largest = source.vocab_size - 1
    if len(ids) > source.max_tokens or not all(_is_id(i, largest) for i in ids):
        raise InputError(f"{where}: a prompt's token ids are none of the tokenizer's, or too many")
    columns = fields.table("columns").content
    return Prompt(text, np.array(ids, dtype=np.int64), columns, fields.whole("cut"))


def task_summary(rows: EpisodeRows) -> dict[str, Any]:
    """What episodes depend on beside the reward: another one of these is another game."""
    task, source = rows.task, rows.source
    n, width = rows.tokens.shape
    constraint = exact_json(None if task.constraint is None else dict(vars(task.constraint)))
    return {
        "id": task.id,
        "n_envs": n,
        "width": width,
        "max_new_tokens": task.max_new_tokens,
        "max_episode_steps": rows.max_episode_steps,
        "num_generations": rows.groups.size,
        "stop": list(task.stop_strings),
        "constraints": None if constraint is None else _digest(constraint),
        "unfinished_score": task.unfinished_score,
        "has_reply": task.reply is not None,
        "tokens": _digest(task.tokenizer.backend.to_str()),
        "prompts": _prompts_digest(source),
    }


def _prompts_digest(source: PromptSource) -> str:
    """A digest of a list's or file's prompts; a function has none."""
    if not len(source):
        return "a function"
    digest = hashlib.sha256()
    for prompt in source.all():
        for part in (prompt.text, exact_json(prompt.columns) or ""):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        digest.update(prompt.ids.tobytes())
    return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _turn_state(turn: Turn) -> dict[str, Any]:
    return {"text": turn.text, "ids": turn.ids, "before": [int(i) for i in turn.before]}


def _turn_of(state: Any, largest: int, where: object) -> Turn:
    fields = SavedFields(state, f"{where}: turn")
    text, ids, before = fields.value("text"), fields.value("ids"), fields.items("before")
    if not isinstance(text, str) or not (ids is None or isinstance(ids, list)):
        raise InputError(f"{where}: no turn of a dialogue")
    if not all(_is_id(i, largest) for i in (*(ids or ()), *before)):
        raise InputError(f"{where}: a turn's token ids are none of the tokenizer's")
    return Turn(text, ids, before)


def _as_list(value: Any, where: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where}: turns must be lists")
    return value


def _is_id(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value
