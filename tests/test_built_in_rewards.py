"""What `textgym rewards` says of each reward model is true: range, speed, licence, extra."""

import importlib.util
import math
import re
import sys
from pathlib import Path

import pytest

from textgym import registry
from textgym.built_in_rewards import BUILT_IN
from textgym.errors import InputError
from textgym.rewards import call_reward
from textgym.rewards_by_name import resolve_reward

ROOT = Path(__file__).parents[1]
LIBRARIES = {
    "json_schema": "jsonschema", "bleu": "sacrebleu", "chrf": "sacrebleu", "rouge": "rouge_score",
    "word_error_rate": "jiwer", "character_error_rate": "jiwer",
}  # fmt: skip
TEXTS = [
    "",
    "a good film",
    "so it is 5",
    "{}",
    "这是好电影，远上好山林。",
    "shit shit shit",
    "day\nmay",
    "x " * 99,
]
ARGUMENTS = {"regex": "regex,pattern=a", "keyword": "keyword,words=film"}
COLUMNS = {
    "reference": ["a film"] * 8,
    "answer": ["5"] * 8,
    "schema": [{"type": "object"}] * 8,
}
# Those that need a model, minutes, or somebody else are measured elsewhere.
QUICK = [row for row in BUILT_IN if row.target.startswith("reward_models.rules.")]
QUICK = [row for row in QUICK if row.name != "similarity"]


@pytest.mark.parametrize("row", BUILT_IN, ids=lambda row: row.name)
def test_every_reward_model_says_what_it_is(row):
    assert row.description and not row.description.endswith(".")
    assert all(row.facts[:3]), "range, speed and licence"
    assert registry.rewards.facts(row.name) == row.facts
    assert importlib.util.find_spec(f"textgym.{row.target.split(':')[0]}") is not None


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.name)
def test_scores_lie_in_the_range_that_is_listed(row):
    reward = resolve_reward(ARGUMENTS.get(row.name, row.name))
    scores = call_reward(reward, ["p"] * 8, TEXTS, COLUMNS).scores
    if "{" in row.facts.range:
        assert set(scores) <= {0.0, 1.0}
        return
    opening, low, high, closing = re.match(r"([(\[])(\S+), (\S+?)([)\]])", row.facts.range).groups()
    for score in scores:
        assert float(low) < score or (opening == "[" and score == float(low))
        assert score < float(high) or (closing == "]" and score == float(high))
    assert len(set(scores)) > 1  # the texts are ones that it tells apart


@pytest.mark.parametrize("name", LIBRARIES)
def test_without_its_library_the_extra_is_named_in_one_line(name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == LIBRARIES[name]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    extra = next(row.facts.extra for row in BUILT_IN if row.name == name)
    expected = (
        f"the {name} reward needs {LIBRARIES[name]}, which is not installed: "
        f"pip install 'textgym[{extra}]'"
    )
    with pytest.raises(InputError) as caught:
        resolve_reward(name)
    assert str(caught.value) == expected


def test_the_listed_speeds_are_those_of_the_benchmarks_page():
    page = (ROOT / "benchmarks" / "results" / "reward_speed.md").read_text(encoding="utf-8")
    measured = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", page, re.M))
    listed = {row.name: row.facts.speed for row in BUILT_IN if row.facts.speed[:1].isdigit()}
    assert listed.keys() == measured.keys()
    for name, speed in listed.items():
        figure = float(measured[name].replace(",", ""))
        assert speed == f"{10 ** math.floor(math.log10(figure)):,}+", name
