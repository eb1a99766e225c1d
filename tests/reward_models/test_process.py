"""Process reward models: step labels in, a reward at every step out."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from textgym.envs.texts.labelled_rows import JudgedSteps, read_steps
from textgym.errors import InputError
from textgym.reward_models.learned.process import ProcessRewardModel, step_places
from textgym.reward_models.learned.process_fitting import fit_process
from textgym.rewards import call_reward
from textgym.tokenizer import Tokenizer


class LastTokens(nn.Module):
    """The embeddings of a byte and of the one before it, side by side."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=16, max_position_embeddings=96)
        weight = torch.randn(259, 8, generator=torch.Generator().manual_seed(1))
        self.embed = nn.Embedding.from_pretrained(weight, freeze=False)

    def hidden_states(self, tokens, lengths):
        own = self.embed(tokens)
        return torch.cat([own, torch.roll(own, 1, dims=1)], dim=-1)

    def save_pretrained(self, folder):
        folder.mkdir()


def build(**keywords):
    return ProcessRewardModel(LastTokens(), Tokenizer.byte(), **keywords)


def rows(n, seed):
    """Steps that end with a good letter or a bad one."""
    rng, found = np.random.default_rng(seed), []
    for k in range(n):
        labels = [bool(x) for x in rng.random(3) < 0.6]
        steps = [f"{rng.integers(100)} {'g' if good else 'b'}" for good in labels]
        found.append(JudgedSteps(f"{k}: ", tuple(steps), tuple(map(float, labels))))
    return found


def test_steps_of_a_text():
    assert step_places("a\nbc\n", "\n") == [(0, 2), (2, 5)]
    assert step_places("a\nbc", "\n") == [(0, 2), (2, 4)]
    assert step_places("", "\n") == [(0, 0)]
    assert step_places("one. two", ". ") == [(0, 5), (5, 8)]


def test_a_step_is_read_at_its_last_token():
    model = build()
    texts, ends = ["p: a\nbc\nd", "电\nx"], [[5, 8, 9], [2, 3]]
    found = model.step_logits(texts, ends)
    for text, own, logits in zip(texts, ends, found, strict=True):
        for end, logit in zip(own, logits, strict=True):
            ids = model.encode([text[:end]])[0]
            hidden = model.trunk.hidden_states(torch.tensor([ids]), None)[0, -1]
            assert logit.item() == pytest.approx(
                (hidden @ model.head_weight + model.head_bias).item(), abs=1e-6
            )


def test_it_learns_which_steps_are_good_and_pays_each_where_it_ends():
    model = build()
    report = fit_process(model, rows(80, 0), rows(30, 1), epochs=12, learning_rate=0.05)
    assert report.step_accuracy > 0.95 > report.majority
    assert report.low <= report.step_accuracy <= report.high
    assert report.judged_steps == 90
    output = call_reward(model, ["7: "], ["1 g\n2 b\n3 g"], {})
    spans = output.spans[0]
    assert [span[:2] for span in spans] == [(0, 4), (4, 8), (8, 11)]
    amounts = [amount for *_, amount in spans]
    assert sum(amounts) == pytest.approx(output.scores[0])
    assert amounts[1] < 0.1 < 0.25 < min(amounts[0], amounts[2])
    assert max(amounts) <= 1 / 3


def test_a_fit_goes_on_to_the_same_end_and_comes_back_from_its_directory(tmp_path):
    states, whole = [], build()
    save = lambda get: states.append(copy.deepcopy(get()))  # noqa: E731
    fit_process(whole, rows(20, 0), rows(5, 1), steps=4, save=save)
    again = build(seed=5)
    fit_process(again, rows(20, 0), rows(5, 1), steps=4, state=states[1])
    assert states[1]["step"] == 2
    assert again.raw(["1 g\n2 b"]).tolist() == whole.raw(["1 g\n2 b"]).tolist()
    whole.save_pretrained(tmp_path / "rm")
    opened = ProcessRewardModel.from_pretrained(tmp_path / "rm", whole.trunk, whole.tokenizer)
    one, other = opened(["1: "], ["1 g\n2 b"]), whole(["1: "], ["1 g\n2 b"])
    assert (one.scores, one.spans) == (other.scores, other.spans)
    assert opened.separator == "\n"


def test_rows_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="as many labels as steps"):
        build().batch_of([JudgedSteps("p", ("a", "b"), (1.0,))])
    with pytest.raises(InputError, match="from 0 to 1"):
        build().batch_of([JudgedSteps("p", ("a",), (2.0,))])
    with pytest.raises(InputError, match="judged alike"):
        fit_process(build(), [JudgedSteps(str(k), ("a",), (1.0,)) for k in range(9)], rows(3, 0))
    with pytest.raises(InputError, match="separator"):
        build(separator="")
    path = tmp_path / "steps.jsonl"
    path.write_text(
        '{"prompt": "2+2?", "completions": ["so", "4"], "labels": [true, 0.5]}\n'
        '{"prompt": "x", "completions": ["a"], "labels": [1, 0]}\n',
        encoding="utf-8",
    )
    found = read_steps(path)
    assert next(found) == JudgedSteps("2+2?", ("so", "4"), (1.0, 0.5))
    with pytest.raises(InputError, match=r"steps\.jsonl.*as many in 'labels'"):
        next(found)
