"""The pictures of a study: which there are, and that every label can be drawn."""

import numpy as np
import pytest
from made_studies import made_study

from textgym.agents.comparison import study_pictures as module
from textgym.agents.comparison.held_out_curves import curves_of
from textgym.agents.comparison.study_pictures import drawable_label, study_pictures

CELLS = (("ppo", "crowd"), ("grpo", "$x_1$ 电影👍"))
JUDGES = {"crowd": "reward", "$x_1$ 电影👍": "reward", "critic": "gold"}


def pictures_of(study):
    judges = list(study.judges)
    curves = {
        cell.label: [curves_of(run, judges) for run in study.runs_of(cell.label)]
        for cell in study.cells
    }
    return study_pictures(study, curves)


def test_what_no_font_draws_is_its_code_point():
    label = drawable_label(["DejaVu Sans"])
    assert label("ppo · crowd, β=0.1") == "ppo · crowd, β=0.1"
    assert label("电x影") == "U+7535xU+5F71"
    assert label("a$b$") == r"a\$b\$"


def test_any_label_is_drawn_with_the_fonts_that_there_are(monkeypatch):
    """Matplotlib warns of a glyph that is missing, and of a formula that is none; neither here."""
    monkeypatch.setattr(module, "FONTS", ("DejaVu Sans",))
    pictures = pictures_of(made_study(CELLS, seeds=2, prompts=3, evaluations=2, judges=JUDGES))
    assert list(pictures) == ["cross_scores", "gold_over_kl", "proxy_and_gold"]
    assert all(picture.dtype == np.uint8 for picture in pictures.values())


@pytest.mark.parametrize("seeds", [1, 2])
def test_without_gold_there_is_the_matrix_alone(seeds):
    judges = {"crowd": "reward", "lexicon": "shadow"}
    study = made_study(CELLS[:1], seeds=seeds, prompts=2, evaluations=2, judges=judges)
    assert list(pictures_of(study)) == ["cross_scores"]
