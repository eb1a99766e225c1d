"""Several reward models as one: the mean of standardised scores, on disk and back."""

import numpy as np
import pytest
import torch

from textgym.agents.building.reward_checkpoint import load_reward
from textgym.errors import InputError
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.features import NgramHasher
from textgym.reward_models.learned.ngrams import NgramRidge


class Fixed:
    name = "fixed"

    def __init__(self, scores):
        self.scores = scores

    def score(self, texts):
        return np.array([self.scores[text] for text in texts])


def linear(seed):
    weights = torch.randn(256, generator=torch.Generator().manual_seed(seed))
    return NgramRidge(weights, hasher=NgramHasher(bits=8), std=2.0, name=f"m{seed}")


def test_the_mean_standardised_by_hand():
    both = Ensemble([Fixed({"a": 1.0, "b": 3.0}), Fixed({"a": 2.0, "b": 8.0})])
    assert both.raw(["a", "b"]).tolist() == [1.5, 5.5]
    both.standardise(["a", "b"])
    assert (both.mean, both.std) == (3.5, 2.0)
    assert both(["a", ""], ["", "b"]) == [-1.0, 1.0]
    assert Ensemble(both.members, include_prompt=False)(["a"], ["b"]) == [5.5]
    with pytest.raises(InputError, match="texts of one score"):
        both.standardise(["a", "a"])
    with pytest.raises(InputError, match="needs members"):
        Ensemble([])


def test_it_comes_back_from_its_directory(tmp_path):
    saved = Ensemble([linear(0), linear(1)], mean=0.25, std=3.0, name="both")
    saved.save_pretrained(tmp_path / "both")
    again = load_reward(tmp_path / "both")
    texts = ["one text", "another one", ""]
    assert again.score(texts).tolist() == saved.score(texts).tolist()
    assert (again.name, again.mean, again.std) == ("both", 0.25, 3.0)


def test_a_crafted_directory_is_refused(tmp_path):
    inner = Ensemble([linear(0)])
    Ensemble([inner]).save_pretrained(tmp_path / "nested")
    with pytest.raises(InputError, match="an ensemble inside an ensemble"):
        load_reward(tmp_path / "nested")
    Ensemble([linear(0)]).save_pretrained(tmp_path / "out")
    path = tmp_path / "out" / "reward_model.json"
    path.write_text(path.read_text(encoding="utf-8").replace("member-0", "../member-0"))
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(InputError, match="out"):
        load_reward(tmp_path / "out")
