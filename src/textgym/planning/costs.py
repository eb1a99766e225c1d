"""What the runs of a comparison take: seconds on one thread, and room on the disk.

Both are estimates before anything has run, and the measured figures of finished runs afterwards.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from textgym.agents.comparison.cells import command_words, shell_line
from textgym.agents.comparison.schedule import ONE_THREAD
from textgym.agents.comparison.standing import Standing
from textgym.counts import count_of
from textgym.demonstration.settings import TEXTS, TOKENS, seconds_of_a_step, written
from textgym.errors import StorageError
from textgym.planning.plan import Plan, RunSize
from textgym.policies.language_model.language_model import LanguageModel

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

START_SECONDS = 8.0  # of a process: imports, and reward models that are fitted
# In training steps of 1,280 tokens: what as many tokens cost to write, to score, and to learn from
# once (the demo's figure for PPO with four passes, 11.6, taken apart).
_WRITE, _PASS = 7.0, 1.15

Standings = Mapping[tuple[str, int], Standing]


def size_of(agent: "BaseAlgorithm", *, measure: bool) -> RunSize:
    """What a run of an agent takes; `measure` times a training step on one thread."""
    tensors = [t for t in agent.policy.state_dict().values() if isinstance(t, torch.Tensor)]
    policy = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    # Three checkpoints with two moments of each weight, and the models beside them.
    room = 10 * policy + 2**20
    if not measure:
        return RunSize(None, room)
    passes: Any = getattr(agent, "n_epochs", 1)
    lm: LanguageModel = agent.policy.lm  # type: ignore[assignment]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step = seconds_of_a_step(lm)
    finally:
        torch.set_num_threads(threads)
    return RunSize(step * (_WRITE + _PASS * passes) / (TEXTS * TOKENS), room)


def seconds_of_a_run(plan: Plan, slug: str, found: Standings) -> float | None:
    """Of a run of a cell: as long as its finished runs took, or else as a step was measured."""
    known = [s.seconds for (cell, _), s in found.items() if cell == slug and s.seconds]
    if known:
        return START_SECONDS + sum(known) / len(known)
    a_token = plan.sizes[slug].seconds_of_a_token
    if a_token is None:
        return None
    budget = int(plan.configs[slug].get("max_new_tokens") or plan.max_new_tokens)
    written_held_out = int(plan.shared["evaluations"]) * len(plan.prompts) * budget
    return START_SECONDS + a_token * (plan.timesteps + 0.5 * written_held_out)


def room_of_a_run(plan: Plan, slug: str, found: Standings) -> int:
    """Bytes of a run of a cell: as many as its finished runs have, or else estimated."""
    known = [s.bytes for (cell, _), s in found.items() if cell == slug and s.bytes]
    return max(known, default=plan.sizes[slug].bytes)


def check_room(plan: Plan, found: Standings, place: Path) -> None:
    """Raises unless the disk has room for the runs that are not there yet.

    :raises StorageError: saying how much is needed and how much there is.
    """
    needed = sum(room_of_a_run(plan, slug, found) for slug, _ in _to_run(found))
    free = shutil.disk_usage(_that_exists(place)).free
    if needed > free:
        raise StorageError(
            f"{place}: the runs need about {in_bytes(needed)}, the disk has {in_bytes(free)} free: "
            "make room, or choose another --out"
        )


def dry_run_lines(plan: Plan, found: Standings, at_a_time: int) -> list[str]:
    """What would run: each cell, the command line of each run, then time and disk in all."""
    lines = [
        f"# the held-out prompts, {len(plan.prompts)}, are written before the first run: a line "
        "that is run elsewhere needs that file"
    ]
    for cell in plan.cells:
        states = [found[cell.slug, seed] for seed in plan.seeds]
        whole = sum(state.state == "whole" for state in states)
        lines.append(f"# {cell.label}: {whole} of {len(states)} runs are finished")
        for seed, state in zip(plan.seeds, states, strict=True):
            words = ["python", "-m", "textgym", "train"]
            words += command_words(plan.settings(cell, seed))
            line = shell_line(words, ONE_THREAD)
            if state.state == "changed":
                lines.append(f"# seed {seed} is run anew: {'; '.join(state.reasons)}")
            lines.append(f"# finished: {line}" if state.state == "whole" else line)
    to_run = _to_run(found)
    if not to_run:
        return [*lines, "# no runs to do: the same command makes the report again"]
    seconds = [seconds_of_a_run(plan, slug, found) for slug, _ in to_run]
    total = sum(value or 0.0 for value in seconds) / min(at_a_time, max(1, len(to_run)))
    longest = max((value or 0.0 for value in seconds), default=0.0)
    room = sum(room_of_a_run(plan, slug, found) for slug, _ in to_run)
    free = shutil.disk_usage(_that_exists(Path(os.path.expanduser(plan.out)))).free
    lines.append(
        f"# {count_of(len(to_run), 'run')} to do, {at_a_time} at a time: about "
        f"{written(max(total, longest))}, {in_bytes(room)} of {in_bytes(free)} free"
    )
    return lines


def in_bytes(count: float) -> str:
    """A size as people say it: 12 MB, 3.4 GB."""
    if count < 1e9:
        return f"{max(1, round(count / 1e6))} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e12 else f"{count / 1e12:.1f} TB"


def _to_run(found: Standings) -> Sequence[tuple[str, int]]:
    return [key for key, standing in found.items() if standing.state != "whole"]


def _that_exists(place: Path) -> Path:
    place = Path(os.path.abspath(place))
    while not place.exists():
        place = place.parent
    return place
