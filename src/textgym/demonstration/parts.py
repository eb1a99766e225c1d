"""What all demos share: timed parts, finished ones that stay, a study that must be whole."""

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from rich.console import Console

from textgym.agents.comparison.study import Study
from textgym.comparing import Comparison
from textgym.demonstration.report import command_here
from textgym.demonstration.settings import written
from textgym.errors import InputError

_T = TypeVar("_T")
PATIENCE = 10 * 60  # seconds beyond which the short form is offered


class Demo:
    """The parts of a demo, in order; what is finished stands in a folder of its own."""

    parts: ClassVar[Sequence[str]]
    """The folders."""
    directory: Path
    console: Console
    seconds: dict[str, float]
    """Of the parts that are done, by name."""
    policy: Path | None
    """The run to go on from, once it is there."""

    @property
    def flag(self) -> str:
        """What is said after `textgym demo` for this one."""
        return ""

    def run(self, split: str) -> dict[str, Any]:
        """All parts; returns the figures of `report.json`."""
        raise NotImplementedError

    def say_how_to_go_on(self, seconds: float) -> None:
        """Where everything is, and the commands to go on with."""
        raise NotImplementedError

    def timed(self, name: str, part: Callable[[], _T]) -> _T:
        """What a part gives; its time is kept."""
        began = time.monotonic()
        result = part()
        self.seconds[name] = time.monotonic() - began
        return result

    def say_what_is_there(self) -> None:
        """Where the finished parts of a demo that ends early are, and how to go on."""
        parts = [name for name in self.parts if (self.directory / name).is_dir()]
        if parts:
            self.console.print(
                f"\nFinished or begun so far, in {self.directory}: {', '.join(parts)}. Go on with: "
                f"{command_here()} demo --out {shlex.quote(str(self.directory))} --resume",
                highlight=False,
                soft_wrap=True,
            )

    def say_how_long(
        self, step: float, needed: float, quick: float, what: str = "a training step"
    ) -> None:
        """The time that it will take here; a shorter form where that is long.

        :param step: seconds of what was timed, `what`.
        :param needed: seconds of the whole demo; `quick`: of its short form.
        """
        self.console.print(
            f"   about {written(needed)} on this machine as busy as it is now "
            f"({what} takes {step:.2f} s)",
            highlight=False,
        )
        if needed > PATIENCE:
            self.console.print(
                f"   [bold]too slow?[/bold] `textgym demo{self.flag} --quick` shows the road, not "
                f"the result, in about {written(quick)}",
                highlight=False,
            )

    def say_that_it_proves_nothing(self) -> None:
        """Of the quick form's figures."""
        self.console.print(
            "[bold]These figures prove nothing[/bold]: the quick form trains for a few steps "
            "and reads 16 prompts, to show the road; the result is that of "
            f"`textgym demo{self.flag}`",
            highlight=False,
        )


def whole_study(ended: Comparison | None, out: Path) -> Study:
    """The study of a comparison that has ended well.

    :param out: where what its runs said stands.
    :raises InputError: where a run has failed.
    """
    assert ended is not None
    for name, reason in ended.failures.items():
        raise InputError(f"{name}: {reason}; what it said is in {out}")
    assert ended.report is not None
    return ended.report.study
