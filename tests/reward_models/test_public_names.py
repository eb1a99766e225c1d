"""The package's public names exist, and the rules cost no torch."""

import subprocess
import sys

import pytest

import textgym.reward_models
from textgym.rewards import reward_name
from textgym.rewards_by_name import resolve_reward


def test_every_public_name_can_be_had() -> None:
    for name in textgym.reward_models.__all__:
        assert getattr(textgym.reward_models, name).__module__.startswith("textgym.reward_models.")
    with pytest.raises(AttributeError, match="no attribute 'Lenght'"):
        textgym.reward_models.Lenght  # noqa: B018


def test_rules_import_no_torch() -> None:
    code = (
        "import sys; from textgym.reward_models import Length, Lexicon, WeightedSum, Squash;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("length,target=40", "length"),
        ("regex,pattern=a+", "regex"),
        ("keyword,words=moon", "keyword"),
        ("repetition,n=3", "repetition"),
        ("lexicon", "lexicon"),
        ("shortness,words=10", "shortness"),
    ],
)
def test_built_in_names_resolve(spec: str, name: str) -> None:
    assert reward_name(resolve_reward(spec)) == name
