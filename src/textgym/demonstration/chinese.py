"""`textgym demo --chinese`: regulated quatrains of Tang and Song, gone on with from a first line.

The start model that comes along → a taste and a judge, each from poems of poets beside those of the
start → best-of-n on the rules of the form with that taste, and on the rules alone, in one
comparison → what both write after first lines of poets that no part has read. docs/demo.md tells
the story.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.markup import escape

from textgym.agents.comparison.report_files import PAGE
from textgym.agents.comparison.study import Study, StudyRun
from textgym.comparing import compare
from textgym.demonstration.chinese_figures import (
    POEMS,
    Poems,
    figures_of,
    figures_table,
    poems_table,
    write_poems,
)
from textgym.demonstration.chinese_readers import (
    FEWEST_AUC,
    JUDGE,
    TASTE,
    Rivals,
    area_under_curve,
    fit_judge,
    fit_taste,
    poets_apart,
    rivals,
    rules,
)
from textgym.demonstration.parts import Demo, whole_study
from textgym.demonstration.report import command_here
from textgym.demonstration.settings import seconds_of_a_step
from textgym.envs.tasks.quatrains import (
    SYLLABLES,
    Form,
    Quatrain,
    Split,
    heldout_first_lines,
    load_quatrains,
    quatrain_texts,
)
from textgym.paths import CHINESE_START
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models.rules.quatrains import quatrain_lines
from textgym.storage import read_json, write_json_atomically, write_text_atomically

FORM: Form = "qijue"
ENVIRONMENT = "textgym/Qijue-v0"
COMPARISON, READERS = "comparison", "readers.json"
REWARDS = "textgym.demonstration.chinese_readers"  # what is maximised, by names of this module
NAMES = ("after", "rules_alone")  # of the two runs, in the order of the comparison


@dataclass(frozen=True)
class ChineseSettings:
    """How much of everything, in steps: the same on every machine.

    :param share: of the poems that taste and judge read.
    :param taste_samples: of the start model on each first line that taste learns from.
    :param judge_samples: the same for the judge.
    :param taste_epochs: passes over its half of the poems, with all samples.
    :param taste_learning_rate: AdamW's.
    :param timesteps: completion tokens of each of the two runs.
    :param learning_rate: of both, falling to a tenth.
    :param prompts: held-out first lines, which each run goes on with `evaluations` times.
    :param rows: poems that are written side by side; a rollout has half as many first lines.
    :param num_generations: poems on each, the best of which is learned from.
    """

    share: float = 1.0
    taste_samples: int = 1
    judge_samples: int = 6
    taste_epochs: float = 1.0
    taste_learning_rate: float = 1e-3
    timesteps: int = 153_600
    learning_rate: float = 2e-4
    temperature: float = 1.0
    prompts: int = 300
    evaluations: int = 2
    rows: int = 128
    num_generations: int = 16

    @classmethod
    def quick(cls) -> "ChineseSettings":
        """A little of everything: for tests of the road, not of the result."""
        rows, generations = 8, 4
        tokens = 2 * generations * (rows // 2) * TOKENS  # two rollouts
        return cls(
            share=0.03,
            taste_samples=1,
            judge_samples=1,
            timesteps=tokens,
            prompts=16,
            evaluations=2,
            rows=rows,
            num_generations=generations,
        )

    def estimate(self, step_seconds: float) -> float:
        """Seconds that all of it takes where a training step takes so long.

        Multiples of a step of 1,280 tokens. The two runs go side by side, a core each.
        """
        steps = 0.9 * self.timesteps / 1280 + 170 * self.share
        return 30.0 + step_seconds * (steps + 0.05 * self.prompts * self.evaluations)


TOKENS = 3 * (SYLLABLES[FORM] + 1) + 1  # of three lines with their marks, and the end


@dataclass
class ChineseDemo(Demo):
    """The demo on quatrains."""

    parts: ClassVar[Sequence[str]] = (TASTE, JUDGE, COMPARISON)

    directory: Path
    settings: ChineseSettings
    seed: int
    progress_bar: bool
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)
    policy: Path | None = None  # the run with taste, once it is there

    @property
    def flag(self) -> str:
        """See `Demo`."""
        return " --chinese"

    def run(self, split: str) -> dict[str, Any]:
        """See `Demo`."""
        start = self.start()
        readers = self.timed("readers", lambda: self.readers(start))
        study = self.timed("comparison", lambda: self.compare(split, readers))
        runs = [study.runs_of(cell.label)[0] for cell in study.cells]
        self.policy = runs[0].directory
        poems = {"before": _poems(runs[0], 0)}
        poems |= {name: _poems(run, -1) for name, run in zip(NAMES, runs, strict=True)}
        corpus = _lines_of_poets()
        figures = {name: figures_of(side, FORM, corpus) for name, side in poems.items()}
        write_poems(self.directory / POEMS, poems)
        self.console.print(figures_table(figures, FORM))
        self.console.print(poems_table(poems))
        if self.settings == ChineseSettings.quick():
            self.say_that_it_proves_nothing()
        return {
            "chinese": True,
            "readers": readers,
            "prompts": len(poems["before"].prompts),
            **figures,
            "seconds_of_parts": {name: round(value, 1) for name, value in self.seconds.items()},
        }

    def start(self) -> CausalLM:
        """The language model of quatrains that comes along."""
        self.console.print(
            "[bold]1. The start model[/bold] that comes along: poets of Tang and Song"
        )
        start = CausalLM.from_pretrained(CHINESE_START)
        step = seconds_of_a_step(start)
        quick = ChineseSettings.quick().estimate(step)
        self.say_how_long(step, self.settings.estimate(step), quick)
        return start

    def readers(self, start: CausalLM) -> dict[str, Any]:
        """Fit taste and judge; returns how well each knows poets that neither has read."""
        record = self.directory / READERS
        if record.is_file():
            self.console.print("[bold]2. Taste and judge[/bold] are there already")
            return dict(read_json(record))
        self.console.print("[bold]2. Taste and judge[/bold]: a poet's, or the start's?")
        halves = poets_apart(self._share(load_quatrains(FORM, "judge")))
        texts = [*halves, self._share(load_quatrains(FORM, "test"))]
        samples = (self.settings.taste_samples, self.settings.judge_samples, 1)
        learned, judged, held = (
            rivals(
                start,
                poems,
                FORM,
                samples=count,
                temperature=self.settings.temperature,
                seed=3 * self.seed + place,
            )
            for place, (poems, count) in enumerate(zip(texts, samples, strict=True))
        )
        taste = fit_taste(
            start,
            learned,
            held,
            epochs=self.settings.taste_epochs,
            learning_rate=self.settings.taste_learning_rate,
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        judge = fit_judge(judged, held)
        taste.save_pretrained(self.directory / TASTE)
        judge.save_pretrained(self.directory / JUDGE)
        known = {reader.name: _known(reader, held) for reader in (taste, judge)}
        figures = {name: asdict(areas) for name, areas in known.items()}
        write_json_atomically(record, figures)
        for areas in known.values():
            self.console.print(f"   {areas}", highlight=False)
        return dict(read_json(record))

    def _share(self, poems: Sequence[Quatrain]) -> list[Quatrain]:
        return list(poems[: max(60, round(self.settings.share * len(poems)))])

    def compare(self, split: str, readers: Mapping[str, Any]) -> Study:
        """Best-of-n on rules and taste, and on rules alone: two cells of one comparison.

        :raises InputError: where a run has failed.
        """
        settings, out = self.settings, self.directory / COMPARISON
        self.console.print(
            f"[bold]3. Best-of-{settings.num_generations}[/bold], each rollout learned from, on "
            "rules and taste, and on the rules alone: `textgym compare`",
            highlight=False,
        )
        prompts = self.directory / "prompts.txt"
        lines = held_out_lines(split, settings.prompts)
        write_text_atomically(prompts, "".join(f"{line}\n" for line in lines))
        return whole_study(
            compare(
                ENVIRONMENT,
                policy=CHINESE_START,
                agent="best_of_n",
                reward=[
                    f"{REWARDS}:rules_and_taste,taste={self.directory / TASTE}",
                    f"{REWARDS}:rules_alone",
                ],
                gold=[str(self.directory / JUDGE)] if self.is_asked(readers) else (),
                seeds=[self.seed],
                timesteps=settings.timesteps,
                evaluations=settings.evaluations,
                prompts=prompts,
                out=out,
                n_envs=settings.rows,
                temperature=settings.temperature,
                learning_rate=settings.learning_rate,
                final_learning_rate=settings.learning_rate / 10,
                num_generations=settings.num_generations,
                n_groups=settings.rows // 2,
                n_epochs=2,
                progress_bar=self.progress_bar,
                report=lambda line: self.console.print(line, highlight=False, markup=False),
            ),
            out,
        )

    def is_asked(self, readers: Mapping[str, Any]) -> bool:
        """Whether the judge knows held-out poets well enough; says so where not."""
        area = readers[JUDGE]["auc"]["mean"]
        if area < FEWEST_AUC:
            self.console.print(
                f"   the judge is not asked: it tells poets from the start with {area:.3f} only, "
                f"and {FEWEST_AUC} is asked for",
                highlight=False,
            )
        return bool(area >= FEWEST_AUC)

    def say_how_to_go_on(self, seconds: float) -> None:
        """See `Demo`."""
        if self.policy is None:
            return
        command, policy = command_here(), shlex.quote(str(self.policy))
        page, study = self.directory / COMPARISON / PAGE, self.directory / COMPARISON
        self.console.print(
            f"\nDone in {seconds:.0f} s. [bold]Open in a browser[/bold]: {escape(str(page))}; all "
            f"poems side by side: {escape(str(self.directory / POEMS))}"
        )
        self.console.print("Go on with:", highlight=False)
        for line in (
            f"{command} tensorboard {shlex.quote(str(study))}",
            f'{command} generate {policy} --prompt "故人西辭黃鶴樓，" --max-new-tokens {TOKENS}',
            f"{command} evaluate {ENVIRONMENT} --policy {policy}",
        ):
            self.console.print(f"  {line}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Known:
    """How well a reader tells held-out poets from the start model.

    :param name: the reader's.
    :param auc: over all held-out first lines.
    :param auc_among_regulated: the same with only those of the start's poems that keep all rules;
        None where there are fewer than ten.
    """

    name: str
    auc: Any
    auc_among_regulated: Any | None

    def __str__(self) -> str:
        among = self.auc_among_regulated
        return f"{self.name}: AUC {self.auc} on held-out poets" + (
            "" if among is None else f", {among} against poems that keep all rules"
        )


def _known(reader: Any, held: Rivals) -> Known:
    poets, start = held.texts(held.poets), held.texts(held.start)
    better, worse = reader.score(poets), reader.score(start)
    keep = [score == 1 for score in rules(FORM)(held.prompts, held.start).scores]
    among = area_under_curve(better, worse[keep]) if sum(keep) >= 10 else None
    return Known(reader.name, area_under_curve(better, worse), among)


def held_out_lines(split: str, count: int) -> list[str]:
    """First lines to report on, or, of the split "validation", to choose settings on."""
    place: Split = "validation" if split == "validation" else "test"
    return heldout_first_lines(FORM, place, count)


def _poems(run: StudyRun, evaluation: int) -> Poems:
    """What a run wrote at one of its evaluations; 0 is the start, -1 the last."""
    record = run.record
    assert record is not None
    texts = record.texts[record.steps[evaluation]]
    return Poems([str(record.prompts[text.prompt]["prompt"]) for text in texts], texts)


def _lines_of_poets() -> frozenset[str]:
    """Every line of every bundled poem."""
    return frozenset(line for text in quatrain_texts() for line, _ in quatrain_lines(text))
