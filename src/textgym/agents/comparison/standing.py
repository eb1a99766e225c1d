"""How a run of a study stands before its turn: whole, cut short, changed, or not there.

What is compared is what the run recorded of itself (`config.yaml`, `provenance.json`) with what
its command line says now. Where the directory stands does not matter.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from textgym.agents.runs.fingerprints import NOTHING, computed_with, fingerprint
from textgym.agents.runs.held_out import HeldOutSettings, Role, read_held_out
from textgym.agents.runs.occupied import check_place, has_checkpoint
from textgym.agents.runs.run import read_provenance
from textgym.agents.runs.settings import read_config
from textgym.errors import InputError
from textgym.json_lines import last_row
from textgym.policies.language_model.checkpoint import read_trainer_state
from textgym.run_files import CHECKPOINTS, CONFIG, LAST, METRICS
from textgym.storage import json_text

# Settings that change nothing that a run learns. Judges that are missing can be asked later.
_NO_MATTER = frozenset(
    {"out", "prompts", "checkpoint_seconds", "checkpoint_tokens", "keep", "not_saved"}
    | {"gold", "shadow", "guards"}
)
# Another version of these is another algorithm; of the others the last bits differ.
_DECIDING = ("textgym", "stable-baselines3", "sb3-contrib")


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    :param state: "absent" is also what was killed before it saved anything.
    :param reasons: why it is "changed", in words.
    :param notes: what differs, and is no reason to train again.
    :param tokens: of its last checkpoint.
    :param seconds: that a whole one took to train; None where nobody knows.
    :param bytes: that a whole one has.
    """

    state: Literal["absent", "cut short", "whole", "changed"]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tokens: int = 0
    seconds: float | None = None
    bytes: int | None = None


def standing_of(
    directory: Path,
    expected: Mapping[str, Any],
    prompts_sha256: str,
    judges: Mapping[str, tuple[str, Role]],
) -> Standing:
    """How the run in a directory stands.

    :param expected: its whole configuration, as its command line would record it.
    :param prompts_sha256: of the held-out prompts that it is to continue.
    :param judges: name and role of everyone who scores the texts of the study, by spec.
    :raises InputError: for a directory of something else.
    """
    check_place(directory)
    if not (directory / CONFIG).is_file() or not has_checkpoint(directory):
        return Standing("absent")
    config = read_config(directory)
    provenance = read_provenance(directory)
    reasons = changed_settings(config, expected, provenance)
    reasons += _changed_inputs(provenance, expected)
    record = read_held_out(directory)
    if record is None:
        reasons.append("it has no held-out evaluations")
    elif record.settings.prompts_sha256 != prompts_sha256:
        reasons.append("its held-out prompts are others")
    else:
        reasons += changed_judges(record.settings, judges)
    deciding, others = _versions(provenance)
    reasons += deciding
    try:
        tokens = int(read_trainer_state(directory / CHECKPOINTS / LAST)["num_timesteps"])
    except (InputError, LookupError, TypeError, ValueError):
        return Standing("changed", ("its last checkpoint cannot be read",))
    is_whole = tokens >= expected["timesteps"]
    if is_whole and record is not None and max(record.steps, default=-1) < tokens:
        reasons.append("its last evaluation is not whole")
    if record is not None and record.lost:
        steps = ", ".join(f"{step:,}" for step in record.lost)
        reasons.append(f"its evaluation at {steps} tokens is not whole")
    if not is_whole:
        reasons += others
    if reasons:
        return Standing("changed", tuple(reasons), (), tokens)
    if not is_whole:
        return Standing("cut short", (), (), tokens)
    elapsed = (last_row(directory / METRICS) or {}).get("time/time_elapsed")
    seconds = float(elapsed) if isinstance(elapsed, int | float) else None
    return Standing("whole", (), tuple(others), tokens, seconds, _bytes_below(directory))


def changed_judges(settings: HeldOutSettings, judges: Mapping[str, tuple[str, Role]]) -> list[str]:
    """Which judges of a record have another name or part in the study, in words.

    One that the study does not ask, or the record does not have, is no change.
    """
    reasons = []
    for name, judge in settings.judges.items():
        now, role = judges.get(judge.spec, (name, judge.role))
        if now != name:
            reasons.append(f"the judge {judge.spec} was called {name}, is called {now}")
        if (role == "gold") != (judge.role == "gold"):
            reasons.append(f"{judge.spec} was a {judge.role} judge, is a {role} judge")
    return reasons


def _bytes_below(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def changed_settings(
    saved: Mapping[str, Any], expected: Mapping[str, Any], provenance: Mapping[str, Any]
) -> list[str]:
    """Which settings are not as they were, in words.

    A path that is written otherwise is the same if what stands there is.
    """
    expected = json.loads(json_text(dict(expected)))
    reasons = []
    for name in {**saved, **expected}:
        before, now = saved.get(name), expected.get(name)
        is_same = before == now
        if name not in _NO_MATTER and not is_same and not _is_same_input(name, now, provenance):
            reasons.append(f"{name} was {_shown(before)}, is {_shown(now)}")
    return reasons


def _recorded(provenance: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """`{setting: {path: fingerprint}}` of all that a run read."""
    found: dict[str, dict[str, str]] = {}
    for key in ("inputs", "start"):
        table = provenance.get(key)
        for name, paths in table.items() if isinstance(table, dict) else ():
            if isinstance(paths, dict):
                found.setdefault(name, {}).update(paths)
    return found


def _is_same_input(name: str, value: Any, provenance: Mapping[str, Any]) -> bool:
    recorded = _recorded(provenance).get(name, {})
    if not isinstance(value, str) or len(recorded) != 1:
        return False
    now = fingerprint(value)
    return now != NOTHING and now in recorded.values()


def _changed_inputs(provenance: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Files and checkpoints that are still named, and hold something else."""
    reasons = []
    for name, paths in _recorded(provenance).items():
        for path, before in paths.items():
            is_named = name not in expected or path in json_text(expected[name])
            if name != "prompts" and is_named and fingerprint(path) != before:
                reasons.append(f"{name} {path} holds something else")
    return reasons


def _versions(provenance: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What computed otherwise: what decides, and what moves the last bits only."""
    then = provenance.get("computed_with")
    then = then if isinstance(then, dict) else {}
    now = computed_with() | {"threads": 1}
    deciding: list[str] = []
    others: list[str] = []
    for name, value in now.items():
        if name in then and then[name] != value:
            text = f"{name} was {then[name]!s:.40}, is {value}"
            (deciding if name in _DECIDING else others).append(text)
    return deciding, others


def _shown(value: Any) -> str:
    return "not given" if value is None else json_text(value)[:80]
