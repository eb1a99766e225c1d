"""What `pretrain` and `sft` hold out, and what they say of it and of texts that they cut."""

import json

import numpy as np
import pytest
from textgym_testing import tiny_lm

import textgym
from textgym.agents.fitting.language_modelling import TextDocuments
from textgym.errors import InputError
from textgym.policies.pretraining.loop import TrainingReport
from textgym.tokenizer import Tokenizer

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "tokenizer": "byte", "progress_bar": False}


def words(count):
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list("abcdefghijklmnop"), 6)) for _ in range(count)]


def run_sft(folder, rows, heldout=0.1):
    """What `sft` reports for pairs of prompt and completion."""
    lines = []
    records = (json.dumps({"prompt": p, "completion": c}) for p, c in rows)
    (folder / "pairs.jsonl").write_text("\n".join(records))
    tiny_lm(Tokenizer.byte()).save_pretrained(folder / "start")
    textgym.sft(
        folder / "pairs.jsonl",
        policy=folder / "start",
        out=folder / "sft",
        steps=1,
        heldout=heldout,
        progress_bar=False,
        report=lines.append,
    )
    return lines


@pytest.mark.parametrize(("heldout", "counts"), [(0.1, (36, 4)), (0.05, (38, 2)), (0.0, (40, 0))])
def test_a_tenth_of_the_pairs_is_held_out(tmp_path, heldout, counts):
    rows = [(word, f"{word[::-1]} is it") for word in words(40)]
    line = "{} pairs to learn from, {} held out"
    assert run_sft(tmp_path, rows, heldout)[0] == line.format(*counts)


def test_pairs_of_one_prompt_are_on_one_side(tmp_path, monkeypatch):
    seen = []

    def train(lm, documents, heldout, *others, **keywords):
        seen.append((documents, heldout))
        return TrainingReport()

    monkeypatch.setattr("textgym.agents.fitting.fine_tuning.train_in_run", train)
    rows = [(word, f"{word[::-1]} {k}") for word in words(20) for k in range(3)]
    run_sft(tmp_path, rows)
    [(learned, held)] = seen
    starts = [{tuple(d.tokens[: d.first_target]) for d in side} for side in (learned, held)]
    assert len(held) == 6 and len(starts[1]) == 2
    assert not starts[0] & starts[1]


def test_one_pair_is_learned_and_none_held_out(tmp_path):
    assert run_sft(tmp_path, [("a", "b"), ("A", "b!")])[0] == "2 pairs to learn from, 0 held out"


def test_pretraining_says_how_many_texts_it_read_in_pieces(tmp_path):
    texts = [f"{word} {other}" for word, other in zip(words(60)[:30], words(60)[30:], strict=True)]
    texts[::10] = [" ".join(words(90)[60:75]) + text for text in texts[::10]]
    (tmp_path / "c.txt").write_text("\n".join(texts))
    lines = []
    textgym.pretrain(
        tmp_path / "c.txt", out=tmp_path / "lm", steps=1, heldout=0.1, context=32,
        report=lines.append, **SMALL,
    )  # fmt: skip
    assert any(line.endswith("bits per character (3 texts)") for line in lines)
    assert any(
        line.startswith("note: ") and "texts are longer than the context of 32 tokens" in line
        for line in lines
    )


def test_only_texts_beyond_the_context_are_counted():
    documents = TextDocuments(["abc", "abcd", "abcde", "abcdefgh"], Tokenizer.byte(), 6)
    assert str(documents) == ""
    lengths = [len(document.tokens) for document in documents]  # with start and stop token
    assert lengths == [5, 6, 6, 2, 6, 5]
    assert str(documents).startswith("note: 2 of 4 texts are longer than the context of 6 tokens")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "start", "hidden_size": 16}, "hidden_size is of a fresh model, but policy="),
        ({"policy": "start", "tokenizer": "byte"}, "tokenizer is of a fresh model"),
        ({"optimizer": "adamw", "muon_learning_rate": 0.1}, "muon_learning_rate=0.1 goes with"),
    ],
)
def test_what_pretraining_would_not_use_is_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        textgym.pretrain(["some text", "another one"], out=tmp_path / "lm", **given)
    assert not (tmp_path / "lm").exists()
