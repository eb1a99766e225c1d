"""Next-token training: its loss, its budget, its checkpoints, and that it learns."""

import copy
import math
import os
import signal

import pytest
import torch
from textgym_testing import EOS, assert_same_weights, letter_tokenizer, tiny_lm

from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.pretraining.documents import Document, collate, text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.pretraining.objective import batch_loss, heldout_loss

TEXTS = ["abcd" * 3, "abcdabc", "bcdabcd", "cdab"] * 4
DOCUMENTS = list(text_documents(TEXTS, letter_tokenizer(), context=16))
QUIET = {"progress_bar": False, "batch_size": 4}


def train(lm, documents=DOCUMENTS, **options):
    return train_language_model(lm, documents, **{**QUIET, **options})


def test_the_loss_is_transformers_loss_over_the_labels(tmp_path):
    transformers = pytest.importorskip("transformers")
    lm = tiny_lm()
    lm.save_pretrained(tmp_path / "lm")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "lm", dtype=torch.float32)
    documents = [Document([3, 4, 5, 6, EOS], 1), Document([6, 5, 4, EOS], 2)]
    total = 0.0
    for document in documents:
        ids = torch.tensor([document.tokens])
        labels = ids.clone()
        labels[0, : document.first_target] = -100
        count = len(document.tokens) - document.first_target
        total += count * float(model(input_ids=ids, labels=labels).loss.detach())
    ours = float(batch_loss(lm, collate(documents)).detach())
    assert ours == pytest.approx(total, rel=1e-5)
    assert heldout_loss(lm, documents, batch_size=1) == pytest.approx(total / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "architecture"),
    [("muon", "transformer"), ("adamw", "transformer"), ("adamw", "lstm")],
)
def test_accumulated_small_batches_are_one_large_one(optimizer, architecture):
    """Documents of unequal lengths: a mean of means would not pass."""
    documents = DOCUMENTS[:4]
    whole, parts = (tiny_lm(spread=5.0, architecture=architecture) for _ in range(2))
    options = {"steps": 3, "warmup": 0.0, "optimizer": optimizer, "evaluate_every": 99}
    train(whole, documents, batch_size=4, accumulate=1, **options)
    report = train(parts, documents, batch_size=1, accumulate=4, **options)
    assert_same_weights(whole, parts, 2e-5)
    assert report.steps == 3
    assert report.tokens == 3 * sum(len(document.tokens) for document in documents)


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_it_learns_what_an_untrained_model_misses(architecture):
    lm = tiny_lm(spread=1.0, architecture=architecture)
    held = DOCUMENTS[:4]
    before = heldout_loss(lm, held)
    figures = []
    report = train(lm, heldout=held, steps=160, record=figures.append)
    after = heldout_loss(lm, held)
    # abcd after abcd is certain; the first letter is given, only the end is not (entropy < 0.5).
    assert after < 0.5 < 1.5 < before
    assert report.perplexity == pytest.approx(math.exp(after), rel=1e-6)
    assert report.losses[0] > report.losses[-1]
    assert [row["step"] for row in figures] == list(range(8, 161, 8))
    assert figures[-1]["heldout_perplexity"] == math.exp(figures[-1]["heldout_loss"])
    assert not lm.training and lm.model.drop == 0.0
    assert lm.generate(["abcdab", "bcdabc"], max_new_tokens=1, temperature=0) == ["c", "d"]


def test_shuffled_letters_cannot_be_learned():
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(3, 7, (12,), generator=generator).tolist() for _ in range(80)]
    documents = [Document(tokens, 1) for tokens in noise]
    lm = tiny_lm(spread=1.0)
    train(lm, documents[:40], steps=40)
    assert heldout_loss(lm, documents[40:]) > math.log(4) - 0.02


def test_pairs_teach_the_completion_and_not_the_prompt():
    # The prompt is a run of one letter, the completion always d.
    documents = [Document([letter] * 4 + [6, EOS], 4) for letter in (3, 4, 5)]
    lm = tiny_lm(spread=1.0)
    train(lm, documents, steps=40, batch_size=3)
    assert lm.generate(["aaaa", "cccc"], max_new_tokens=3, temperature=0) == ["d", "d"]
    prompt_loss = heldout_loss(lm, [Document([3, 3, 3], 1)])
    assert prompt_loss > 1.0


def test_early_stop_keeps_the_best_weights(tmp_path):
    held = [Document([6, 5, 4, 3, EOS], 1)]  # the opposite of what is taught
    lm = tiny_lm(spread=1.0)
    report = train(lm, heldout=held, steps=500, evaluate_every=2, patience=3, checkpoints=tmp_path)
    assert report.stopped_early and report.steps < 500
    losses = dict(report.heldout)
    assert losses[report.best_step] == min(losses.values())
    assert report.steps == report.best_step + 3 * 2
    assert heldout_loss(lm, held) == pytest.approx(min(losses.values()), rel=1e-6)
    assert_same_weights(lm, CausalLM.from_pretrained(tmp_path / "best"))
    last = CausalLM.from_pretrained(tmp_path / "last")
    assert heldout_loss(last, held) == pytest.approx(report.heldout[-1][1], rel=1e-6)


@pytest.mark.parametrize(
    ("dropout", "architecture"), [(0.0, "transformer"), (0.3, "transformer"), (0.3, "lstm")]
)
@pytest.mark.parametrize("held", [(), DOCUMENTS[:3]])
def test_a_resumed_training_ends_with_the_same_bits(
    tmp_path, monkeypatch, dropout, architecture, held
):
    options = {"steps": 14, "evaluate_every": 4, "dropout": dropout, "heldout": held}
    straight = tiny_lm(spread=1.0, architecture=architecture)
    whole = train(straight, **options)

    from textgym.policies.pretraining import objective as pretraining

    lm, steps = tiny_lm(spread=1.0, architecture=architecture), []
    real = pretraining.batch_loss

    def press_in_step_six(*arguments):
        steps.append(1)
        if len(steps) == 6 + 2 * bool(held):  # held-out passes count too: still between 4 and 8
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(pretraining, "batch_loss", press_in_step_six)
    first = train(lm, checkpoints=tmp_path, **options)
    monkeypatch.undo()
    assert first.interrupted and 4 < first.steps < 8
    assert not lm.training and lm.model.drop == 0.0
    assert_same_weights(lm, CausalLM.from_pretrained(tmp_path / "last"))

    again = tiny_lm(spread=1.0, seed=9, architecture=architecture)
    report = train(again, checkpoints=tmp_path, resume=True, **options)
    assert report.steps == whole.steps == 14 and report.tokens == whole.tokens
    assert not report.interrupted
    if not held:
        assert_same_weights(again, straight)
    else:
        kept = [(step, loss) for step, loss in report.heldout if step % 4 == 0 or step == 14]
        assert kept == whole.heldout
        assert_same_weights(again, CausalLM.from_pretrained(tmp_path / "best"))


def test_an_interrupt_inside_the_corpus_saves_too(tmp_path):
    class Corpus:
        def __iter__(self):
            yield from DOCUMENTS[:8]
            raise KeyboardInterrupt

    lm = tiny_lm()
    report = train(lm, Corpus(), steps=50, checkpoints=tmp_path)
    assert report.interrupted and report.steps == 0
    assert_same_weights(lm, CausalLM.from_pretrained(tmp_path / "last"))


@pytest.mark.parametrize("held", [(), DOCUMENTS[:3]])
def test_resuming_what_is_done_records_nothing(tmp_path, held):
    options = {"steps": 14, "evaluate_every": 4, "heldout": held, "checkpoints": tmp_path}
    rows = []
    whole = train(tiny_lm(), record=rows.append, **options)
    assert [row["step"] for row in rows] == [4, 8, 12, 14]
    lm = tiny_lm(seed=9)
    report = train(lm, record=rows.append, resume=True, **options)
    assert len(rows) == 4  # no fifth one of no steps, with a loss of 0
    assert (report.steps, report.losses, report.heldout) == (14, whole.losses, whole.heldout)
    assert_same_weights(lm, CausalLM.from_pretrained(tmp_path / "best"))


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_dropout_acts_and_does_not_touch_the_global_generator(architecture):
    plain, dropped = (tiny_lm(spread=1.0, architecture=architecture) for _ in range(2))
    before = torch.get_rng_state()
    train(plain, steps=4)
    train(dropped, steps=4, dropout=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(AssertionError):
        assert_same_weights(plain, dropped, 1e-4)
    same = tiny_lm(spread=1.0, architecture=architecture)
    train(same, steps=4, dropout=0.5)
    assert_same_weights(dropped, same)


def test_a_failing_corpus_leaves_the_model_in_evaluation_mode():
    class Broken:
        def __iter__(self):
            yield from DOCUMENTS
            raise OSError("the disk is gone")

    lm = tiny_lm()
    with pytest.raises(OSError, match="the disk is gone"):
        train(lm, Broken(), steps=50, dropout=0.5)
    assert not lm.training and lm.model.drop == 0.0


def test_inputs_are_checked_in_one_line(tmp_path):
    lm = tiny_lm()
    with pytest.raises(InputError, match="give a budget: steps="):
        train(lm)
    with pytest.raises(InputError, match="accumulate must be a whole number from 1 "):
        train(lm, steps=1, accumulate=0)
    with pytest.raises(InputError, match="the corpus is empty"):
        train(lm, [], steps=1)
    with pytest.raises(InputError, match="can be read only once"):
        train(lm, iter(DOCUMENTS), steps=99)
    with pytest.raises(InputError, match="resume needs the directory"):
        train(lm, steps=1, resume=True)
    with pytest.raises(InputError, match="last: no such checkpoint directory"):
        train(lm, steps=1, resume=True, checkpoints=tmp_path)
    lm.save_pretrained(tmp_path / "last")
    with pytest.raises(InputError, match="holds no trainer state to resume from"):
        train(lm, steps=1, resume=True, checkpoints=tmp_path)
    train(lm, steps=1, checkpoints=tmp_path)
    with pytest.raises(InputError, match="a checkpoint of another model or tokenizer"):
        train(tiny_lm(hidden_size=8), steps=2, resume=True, checkpoints=tmp_path)


def test_seconds_are_a_budget_too_and_progress_follows_the_further_one(monkeypatch):
    from textgym.policies.pretraining import loop as pretraining

    clock = iter(range(10_000))
    monkeypatch.setattr(pretraining.time, "monotonic", lambda: float(next(clock)))
    report = train(tiny_lm(), steps=10_000, seconds=60)
    assert 5 < report.steps < 60 and report.seconds >= 60


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_autocast_trains_in_bfloat16_and_keeps_float32_weights(architecture):
    lm = tiny_lm(spread=1.0, architecture=architecture)
    before = heldout_loss(lm, DOCUMENTS)
    train(lm, steps=30, autocast=True)
    assert heldout_loss(lm, DOCUMENTS) < before - 0.5
    assert {parameter.dtype for parameter in lm.parameters()} == {torch.float32}


def test_a_diverged_loss_does_not_overflow():
    lm = tiny_lm()
    wild = copy.deepcopy(lm)
    with torch.no_grad():
        wild.model.norm.weight.mul_(1e4)
    figures = []
    train(wild, heldout=DOCUMENTS[:1], steps=1, record=figures.append)
    assert figures[0]["heldout_loss"] > 709
    assert math.isfinite(figures[0]["heldout_perplexity"])
