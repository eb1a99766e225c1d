"""`metrics.jsonl` as an output of Stable-Baselines3's logger."""

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from textgym.json_lines import append_line
from textgym.storage import json_text


class JSONLines(KVWriter):
    """One JSON object a line, appended: the record of a run, which survives a torn last line.

    While `is_waiting`, figures are kept for the next line: SB3's off-policy algorithms show theirs
    in the middle of a rollout.
    """

    is_waiting = False

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.last_step: int | None = None
        self.last_row: int | None = None  # its step in the file, which counts on
        self.kept: dict[str, Any] = {}
        self.step_offset = 0  # steps before SB3 began to count anew

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Write the numbers among the values; one that is not finite as null.

        :raises StorageError: if the file cannot be written.
        """
        self.kept |= key_values
        if self.is_waiting:
            return
        row: dict[str, Any] = {"step": self.step_offset + step}
        for key, value in sorted(self.kept.items()):
            if isinstance(value, int | float | np.number):
                row[key] = float(value)
        append_line(self.path, json_text(row))
        self.last_step, self.last_row, self.kept = step, self.step_offset + step, {}

    def close(self) -> None:
        """Nothing is left open between two lines."""
