"""The texts of a study as tables for TensorBoard's text page: what each cell writes, side by side.

Everything that a model wrote, and every prompt, is escaped: it shows as what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgym.agents.comparison.cross_scores import changes, judge_spread
from textgym.agents.comparison.held_out_curves import mean_of_known
from textgym.agents.comparison.study import Cell, Study, StudyRun
from textgym.agents.comparison.verdict import Verdict
from textgym.agents.runs.held_out import HeldOutText
from textgym.agents.runs.markdown import escape_markdown, markdown_table

MOST_REGRESSED = 20


@dataclass(frozen=True)
class Column:
    """A column of the tables: what one run wrote at one evaluation.

    :param tokens: that its weights have learned from.
    """

    label: str
    tokens: int
    texts: Sequence[HeldOutText]


def first_runs(study: Study) -> list[StudyRun]:
    """The run of each cell with its first seed."""
    return [runs[0] for cell in study.cells if (runs := study.runs_of(cell.label))]


def shown_runs(study: Study) -> list[StudyRun]:
    """The run of each cell whose texts are shown: the first seed that has held-out evaluations."""
    found = [[run for run in study.runs_of(cell.label) if run.record] for cell in study.cells]
    return [runs[0] for runs in found if runs]


def evaluation_steps(runs: Sequence[StudyRun]) -> list[int]:
    """The steps at which tables are made: those of the run that was evaluated most often."""
    return max((run.record.steps for run in runs if run.record), key=len, default=[])


def columns_at(study: Study, runs: Sequence[StudyRun], step: int) -> list[Column]:
    """The start's column, one for each policy that a run starts from, then one for each run.

    A run shows its evaluation nearest to `step`, as cells need not be evaluated at the same one.
    """
    starts: dict[str, Column] = {}
    columns = []
    for run in runs:
        assert run.record is not None
        policy = str(_cell(study, run).settings.get("policy", ""))
        label = f"start: {policy}" if policy else "start"
        first = run.record.steps[0]
        starts.setdefault(label, Column(label, first, run.record.texts[first]))
        nearest = min(run.record.steps, key=lambda own: abs(own - step))
        columns.append(Column(run.cell, nearest, run.record.texts[nearest]))
    return [*starts.values(), *columns]


def prompt_table(study: Study, columns: Sequence[Column], prompt: int, seed_note: str) -> str:
    """What every column wrote on a prompt, in Markdown: texts, scores, KL and length.

    :param seed_note: which seed is shown, in Markdown.
    """
    rows = zip(*(_column_cells(study, column, prompt) for column in columns), strict=True)
    head = f"prompt {prompt + 1} of {len(study.prompts)}: **{_quoted(study, prompt)}**"
    table = markdown_table([column.label for column in columns], list(rows))
    return f"{head}\n\n{seed_note}\n\n{table}"


def seed_note(runs: Sequence[StudyRun], study: Study) -> str:
    """Which seeds the tables show, in Markdown."""
    seeds = sorted({run.seed for run in runs})
    n = max((len(study.runs_of(cell.label)) for cell in study.cells), default=0)
    shown = ", ".join(map(str, seeds))
    return f"seed {shown}; the page `report.html` has the others" if n > 1 else f"seed {shown}"


def most_regressed(study: Study, cell: Cell, *, n: int = MOST_REGRESSED) -> str:
    """The prompts on which a cell lost most by the gold judges, the worst first, in Markdown.

    The loss is the change from the start to the last evaluation, in the standard deviations that a
    judge's scores have over the start's texts, as a mean over seeds and gold judges (over all
    judges but the cell's own reward where there is no gold one). The texts shown are those of the
    seed that lost most.
    """
    runs = [run for run in study.runs_of(cell.label) if run.record]
    judges = study.gold() or [name for name in study.judges if name != cell.reward]
    by_judge = [changes(study, cell, j, judge_spread(study, j)) for j in judges] if runs else []
    if np.isnan(by_judge).all():
        return "No judge but its own reward says anything of these texts."
    by_seed = mean_of_known(np.array(by_judge), 0)  # [seed, prompt]
    by_prompt = mean_of_known(by_seed, 0)
    order = [int(k) for k in np.argsort(by_prompt, kind="stable") if not np.isnan(by_prompt[k])]
    rows = []
    for prompt in order[:n]:
        worst = runs[int(np.nanargmin(by_seed[:, prompt]))]
        first, last = (texts[prompt] for texts in _ends(worst))
        scores = [
            f"{_judge_label(study, judge)} {_score(first.scores.get(judge))} → "
            f"{_score(last.scores.get(judge))}"
            for judge in study.judges
        ]
        change = f"change {by_prompt[prompt]:+.2f} SD; seed {worst.seed}: {', '.join(scores)}"
        asked = f"{prompt + 1}. {study.prompts[prompt]['prompt']}"
        rows.append([asked, first.completion, last.completion, change])
    headers = ("prompt", "start", "last evaluation", "scores")
    by = escape_markdown(", ".join(judges))
    fell = sum(by_prompt[k] < 0 for k in order)
    head = (
        f"**{escape_markdown(cell.label)}**: worse than the start on {fell} of {len(order)} "
        f"prompts, by {by}; mean over {len(runs)} seed{'s' if len(runs) > 1 else ''}, in standard "
        "deviations of the start's scores; the texts of the seed that lost most"
    )
    return f"{head}\n\n{markdown_table(headers, rows)}"


def sample_table(runs: Sequence[StudyRun], step: int) -> str:
    """What runs without held-out evaluations wrote on their sample prompts, in Markdown.

    :param runs: with samples; a run shows those nearest to `step`.
    """
    written = [_samples_near(run, step) for run in runs]
    prompts = dict.fromkeys(prompt for texts in written for prompt in texts)
    rows = [[prompt, *(texts.get(prompt, "") for texts in written)] for prompt in prompts]
    return markdown_table(["prompt", *(run.cell for run in runs)], rows)


def about(study: Study) -> str:
    """What is compared, and what a reader must know, in Markdown."""
    lines = [f"# {escape_markdown(study.title)}", ""]
    facts = [
        ("environment", study.env),
        ("held-out prompts", str(len(study.prompts))),
        *(
            (f"judge: {name}", {"gold": "gold", "reward": "a cell trains on it"}.get(role, role))
            for name, role in study.judges.items()
        ),
    ]
    lines += [markdown_table(("", ""), facts), ""]
    cells = []
    for cell in study.cells:
        seeds = ", ".join(str(run.seed) for run in study.runs_of(cell.label))
        settings = ", ".join(f"{key}: {value}" for key, value in cell.settings.items())
        cells.append((cell.label, cell.reward, seeds or "none", settings))
    lines += [markdown_table(("cell", "trained on", "seeds", "settings"), cells), ""]
    lines += [f"- {escape_markdown(note)}" for note in study.notes]
    lines += [
        f"- {escape_markdown(failure.name)} failed: {escape_markdown(failure.reason)}"
        for failure in study.failures
    ]
    return "\n".join(lines)


def verdict_text(verdict: Verdict) -> str:
    """The verdict's sentence and what makes it worth less, in Markdown."""
    cautions = [f"- {escape_markdown(caution)}" for caution in verdict.cautions]
    return "\n".join([escape_markdown(verdict.headline), "", *cautions])


def _samples_near(run: StudyRun, step: int) -> dict[str, str]:
    steps = {int(row["step"]) for row in run.samples}
    nearest = min(steps, key=lambda own: abs(own - step))
    rows = [row for row in run.samples if int(row["step"]) == nearest]
    return {str(row["prompt"]): str(row["completion"]) for row in rows}


def _column_cells(study: Study, column: Column, prompt: int) -> list[str]:
    """Each figure with its name: TensorBoard squeezes a column of short words to single letters."""
    text = column.texts[prompt]
    scores = [(_judge_label(study, j), _score(text.scores.get(j))) for j in study.judges]
    return [
        text.completion,
        *(f"{label}: {score}" for label, score in scores),
        f"KL: {text.kl:.2f} nats",
        f"{text.length} tokens, ended by {text.finish_reason}",
        f"after {column.tokens:,} tokens of training",
    ]


def _ends(run: StudyRun) -> tuple[Sequence[HeldOutText], Sequence[HeldOutText]]:
    assert run.record is not None
    steps = run.record.steps
    return run.record.texts[steps[0]], run.record.texts[steps[-1]]


def _cell(study: Study, run: StudyRun) -> Cell:
    return next(cell for cell in study.cells if cell.label == run.cell)


def _judge_label(study: Study, judge: str) -> str:
    return f"{judge} (gold)" if study.judges[judge] == "gold" else judge


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _quoted(study: Study, prompt: int) -> str:
    return escape_markdown(str(study.prompts[prompt]["prompt"]))
