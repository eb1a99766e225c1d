"""The table of figures, and what is written from it: documents, terminals, TensorBoard."""

import re
from pathlib import Path

import pytest
from front_door import byte_lm, small_agent
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from textgym.agents.evaluation.report import EvaluationReport, Interval
from textgym.agents.runs.figures import EVALUATION, figures, figures_table
from textgym.command_line.output import show_evaluation
from textgym.demonstration.report import figures_table as before_and_after

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def report(**changed):
    of_one = Interval(0.5, 0.1)
    known = {
        "episodes": [],
        "reward": of_one,
        "judges": {"critic": of_one, "a[b]": of_one},
        "perplexity": None,
        "kl": of_one,
        "distinct_2": 0.75,
        "length": Interval(12.0, 1.0),
        "repetition": 0.0,
        "duplicates": 0.0,
        "bigram_share": 0.0,
        "made_up": None,
        "finish": {"length": 0.25, "stop": 0.75},
    }
    return EvaluationReport(**{**known, **changed})


def test_the_page_of_metrics_is_written_from_the_table():
    """Each heading's table, cell by cell; after a change of figures.csv the page follows."""
    sections = dict(
        part.split("\n", 1) for part in re.split(r"(?m)^## ", PAGE.read_text("utf-8"))[1:]
    )
    for heading in dict.fromkeys(figure.section for figure in figures()):
        assert f"{figures_table(figures(heading))}\n" in sections[heading]
    rows = sum(text.count("\n|") for text in sections.values())
    assert rows == len(figures()) + 2 * len({figure.section for figure in figures()})


def test_every_figure_is_complete():
    for figure in figures():
        assert figure.better in ("", "higher", "lower")
        assert figure.tag and figure.label and figure.meaning + figure.formula and figure.source
        assert not any("|" in value or "\n" in value for value in vars(figure).values())
    tags = [figure.tag for figure in figures()]
    assert len(set(tags)) == len(tags) - 2  # train/loss has three meanings


def test_a_title_has_the_unit_and_no_range():
    titles = {figure.tag: figure.title for figure in figures()}
    assert titles["evaluation/kl"] == "KL to the reference, nats per text"
    assert titles["evaluation/length"] == "length, tokens"
    assert titles["evaluation/distinct_2"] == "distinct-2"
    assert titles["reward/length_correlation"] == "correlation of reward and length"


def test_an_evaluation_has_a_row_for_each_of_its_figures():
    names = {figure.tag.split("/")[1] for figure in figures(EVALUATION)}
    assert names == report().figures().keys() - {"episodes"}
    rows = [(title, value, figure.better) for figure, title, value in report().rows()]
    assert rows[:4] == [
        ("reward", Interval(0.5, 0.1), "higher"),
        ("judge critic", Interval(0.5, 0.1), "higher"),
        ("judge a[b]", Interval(0.5, 0.1), "higher"),
        ("KL to the reference, nats per text", Interval(0.5, 0.1), "lower"),
    ]
    assert ("ended by stop", 0.75, "") in rows
    titles = {title for title, _, _ in rows}
    assert not titles & {"made-up words", "prompts cut at their start"}  # not known, or none
    cut = {title: value for _, title, value in report(prompts_cut=0.5).rows()}
    assert cut["prompts cut at their start"] == 0.5


def test_a_terminal_shows_value_and_direction(capsys):
    show_evaluation(report(), as_json=False, samples=0)
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in re.split("[│┃|]", line)[1:-1]] for line in lines]
    assert ["judge a[b]", "0.500 ± 0.100", "higher"] in cells
    assert ["repetition", "0.000", "lower"] in cells
    assert ["length, tokens", "12.000 ± 1.000", ""] in cells


def test_before_and_after_stand_side_by_side():
    reports = {"before": report(), "after": report(distinct_2=0.5, finish={"stop": 1.0})}
    table = before_and_after(reports)
    cells = list(zip(*(column.cells for column in table.columns), strict=True))
    assert ("distinct-2", "0.750", "0.500", "higher") in cells
    assert ("ended by length", "0.250", "0.000", "") in cells  # nothing ended so any more


def test_tensorboard_explains_them_once(tmp_path):
    agent = small_agent(out=tmp_path / "a", lm=byte_lm())
    agent.learn(128)
    agent.learn(128, reset_num_timesteps=False)
    texts = []
    for folder in sorted((tmp_path / "a" / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder)).Reload()
        tag = "figures/meaning/text_summary"
        if tag in events.Tags()["tensors"]:
            texts += [e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)]
    assert texts == [figures_table(figures())]


@pytest.mark.parametrize("name", ["distinct_2", "repetition", "duplicates"])
def test_what_training_and_evaluation_both_say_has_one_label(name):
    rows = {figure.tag: figure for figure in figures()}
    ours, theirs = rows[f"text/{name}"], rows[f"evaluation/{name}"]
    assert (ours.label, ours.unit, ours.better) == (theirs.label, theirs.unit, theirs.better)
