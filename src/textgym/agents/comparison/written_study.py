"""What `textgym compare` wrote of itself: `study.json`, beside the folder of its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textgym.agents.comparison.study import Cell, Failure
from textgym.agents.comparison.study_files import STUDY, read_study_file
from textgym.run_files import CELLS
from textgym.saved_fields import SavedFields


@dataclass(frozen=True)
class WrittenStudy:
    """The cells of a comparison as they were ordered, and how it went.

    :param cells: by slug, the name of their folder.
    :param failures: runs that broke off, by name.
    :param dropped: slugs of cells that an earlier comparison ordered and the last one did not.
    """

    cells: Mapping[str, Cell]
    seeds: Sequence[int] = ()
    notes: Sequence[str] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    dropped: Sequence[str] = ()

    @property
    def ordered(self) -> dict[str, tuple[Cell, int]]:
        """Cell and seed of every run, by its name."""
        return {
            f"{CELLS}/{slug}/seed-{seed}": (cell, seed)
            for slug, cell in self.cells.items()
            for seed in self.seeds
        }


def read_written(directory: Path) -> WrittenStudy | None:
    """What stands in a study's directory; None where it says nothing.

    :raises InputError: for a file that holds something else.
    """
    content, path = read_study_file(directory), directory / STUDY
    if not content:
        return None
    fields = SavedFields(content, path)
    cells, failures = {}, {}
    for row in fields.items("cells"):
        cell = SavedFields(row, f"{path}: cells")
        reward = cell.text("reward") if cell.has("reward") else ""
        settings = cell.table("settings").content
        cells[cell.text("slug")] = Cell(cell.text("label"), settings, reward)
    for row in fields.items("failures") if fields.has("failures") else ():
        told = SavedFields(row, f"{path}: failures")
        name, reason = told.text("name"), " ".join(str(told.value("reason")).split())
        lines = told.texts("lines") if told.has("lines") else ()
        failures[name] = Failure(name, told.text("cell"), told.whole("seed"), reason, lines)
    return WrittenStudy(
        cells,
        fields.items("seeds") if fields.has("seeds") else (),
        fields.texts("notes") if fields.has("notes") else (),
        failures,
        fields.texts("dropped") if fields.has("dropped") else (),
    )


def slug_of_run(name: str) -> str:
    """The folder of a run's cell, where it stands as `textgym compare` puts it; else "".

    :param name: its path below the study's.
    """
    parts = Path(name).parts
    is_in_place = len(parts) == 3 and parts[0] == CELLS and parts[2].startswith("seed-")
    return parts[1] if is_in_place else ""
