"""`pretrain_vae`: from files to an autoencoder, its record, and what it refuses."""

import json
import math
import os
import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import textgym
from textgym.agents.runs.figures import figures
from textgym.errors import InputError
from textgym.json_lines import read_rows
from textgym.policies import TextVAE

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "latent_size": 3,
    "tokenizer": "byte",
    "context": 32,
    "batch_size": 4,
    "progress_bar": False,
}


def train(corpus, out, lines=None, **options):
    report = (lambda line: None) if lines is None else lines.append
    return textgym.pretrain_vae(corpus, out=out, report=report, **{**SMALL, **options})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "c.txt"
    path.write_text("\n".join(f"text number {i}" for i in range(40)), encoding="utf-8")
    return path


def weights(run):
    return TextVAE.from_pretrained(run).state_dict()


def test_a_run_has_its_record_its_samples_and_its_weights(corpus, tmp_path):
    lines = []
    report = train(corpus, tmp_path / "vae", lines, steps=10, heldout=0.2, evaluate_every=2)
    assert report.steps == 10 and not report.diverged
    rows = read_rows(tmp_path / "vae" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 10]
    keys = {key for row in rows for key in row} - {"step"}
    known = {figure.tag for figure in figures("Text autoencoders")}
    assert known == {f"vae/{key}" for key in keys}
    assert rows[-1] == {"step": 10, **report.figures}
    best = min(rows[:-1], key=lambda row: row["heldout_loss"])
    assert rows[-1]["best_step"] == best["step"] == report.best_step
    assert rows[-1]["bound"] == pytest.approx(best["bound"])
    assert "32 texts to learn from, 8 held out" in lines[-2]
    assert "of 3 units active" in lines[-1] and "importance-weighted perplexity" in lines[-1]
    samples = read_rows(tmp_path / "vae" / "samples.jsonl")
    kinds = [row["prompt"].partition(":")[0] for row in samples]
    assert kinds == 2 * (["prior"] * 6 + ["reconstruction"] * 6 + ["interpolation"] * 5)
    events = EventAccumulator(str(tmp_path / "vae" / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == known
    texts = {tag.partition("/text_summary")[0] for tag in events.Tags()["tensors"]}
    assert texts == {"samples/prior", "samples/reconstruction", "samples/interpolation"}
    vae = TextVAE.from_pretrained(tmp_path / "vae")
    assert vae.config.latent_size == 3 and vae.config.architecture == "lstm"
    config = (tmp_path / "vae" / "config.yaml").read_text(encoding="utf-8")
    assert "verb: pretrain_vae" in config


def test_a_resumed_run_ends_as_one_that_went_through(corpus, tmp_path):
    options = {"heldout": 0.2, "evaluate_every": 4, "word_dropout": 0.2, "dropout": 0.1}
    whole = train(corpus, tmp_path / "whole", steps=9, **options)
    real, calls = torch.nn.utils.clip_grad_norm_, []

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGINT)  # the step is finished first
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", interrupt)
        first = train(corpus, tmp_path / "run", steps=9, **options)
    assert first.interrupted and first.steps == 6 and first.figures == {}
    again = textgym.pretrain_vae(
        out=tmp_path / "run", resume=True, progress_bar=False, report=lambda line: None
    )
    assert again.steps == 9 and again.figures == whole.figures
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(v, expected[k]) for k, v in weights(tmp_path / "run").items())


def test_pairs_make_a_conditional_one_with_a_given_vocabulary(tmp_path):
    rows = [{"prompt": f"ask {i}", "completion": f" say {i}"} for i in range(12)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    textgym.Tokenizer.byte().save(tmp_path / "tokenizer")
    report = train(
        file,
        tmp_path / "vae",
        steps=2,
        heldout=0.25,
        conditional=True,
        architecture="transformer",
        hidden_size=32,
        tokenizer=str(tmp_path / "tokenizer"),
    )
    assert math.isfinite(report.figures["importance_weighted_perplexity"])
    vae = TextVAE.from_pretrained(tmp_path / "vae", tokenizer=textgym.Tokenizer.byte())
    assert vae.config.conditional
    samples = read_rows(tmp_path / "vae" / "samples.jsonl")
    assert any(row["prompt"].startswith("prior: draw 1 after 'ask ") for row in samples)
    assert any(row["prompt"].startswith("reconstruction: ask ") for row in samples)


def test_what_cannot_be_learned_leaves_nothing_behind(corpus, tmp_path):
    out = tmp_path / "out"
    one = tmp_path / "one.txt"
    one.write_text("the same\nthe same\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"only one text .* needs at least two"):
        train(one, out, steps=2)
    with pytest.raises(InputError, match=r"the text 'text number .* the context is 8: raise"):
        train(corpus, out, steps=2, context=8)
    with pytest.raises(
        InputError, match=r"tokenizer must be one of bpe, .*, or a checkpoint directory"
    ):
        train(corpus, out, steps=2, tokenizer="words?")
    with pytest.raises(InputError, match="architecture must be one of lstm, transformer"):
        train(corpus, out, steps=2, architecture="gru")
    with pytest.raises(InputError, match="kl_schedule must be one of"):
        train(corpus, out, steps=2, kl_schedule="never")
    with pytest.raises(InputError, match="latent_size must be a whole number"):
        train(corpus, out, steps=2, latent_size=0)
    with pytest.raises(InputError, match=r"only one text \(or none\)"):
        train(["", "abc", " "], out, steps=2)
    assert not out.exists()
    train(corpus, out, steps=1)
    with pytest.raises(InputError, match="holds a run already"):
        train(corpus, out, steps=1)
    with pytest.raises(InputError, match="the run has latent_size=3, but latent_size=4 was given"):
        textgym.pretrain_vae(out=out, resume=True, latent_size=4, report=print)


def test_it_may_begin_as_a_language_model(corpus, tmp_path):
    textgym.pretrain(
        corpus,
        out=tmp_path / "lm",
        steps=30,
        tokenizer="byte",
        hidden_size=16,
        num_hidden_layers=1,
        heldout=0,
        progress_bar=False,
        report=lambda line: None,
    )
    keywords = {"heldout": 0.2, "latent_size": 3, "context": 32, "batch_size": 4, "steps": 6}
    quiet = {"progress_bar": False, "report": lambda line: None}
    known = textgym.pretrain_vae(
        corpus, out=tmp_path / "vae", policy=tmp_path / "lm", **keywords, **quiet
    )
    fresh = train(corpus, tmp_path / "fresh", architecture="transformer", **keywords)
    name = "importance_weighted_perplexity"
    assert known.figures[name] < 0.6 * fresh.figures[name]
    vae = TextVAE.from_pretrained(tmp_path / "vae")
    assert vae.config.hidden_size == 16 and vae.config.language_model is not None
    again = textgym.pretrain_vae(out=tmp_path / "vae", resume=True, steps=8, **quiet)
    assert again.steps == 8
    with pytest.raises(InputError, match="hidden_size is of a fresh model, but policy= brings"):
        textgym.pretrain_vae(
            corpus, out=tmp_path / "no", policy="start", hidden_size=16, **keywords, **quiet
        )
    assert not (tmp_path / "no").exists()
