"""A reward model on an encoder with a decoder: how it reads a text, what it learns, its files."""

import json
import random

import numpy as np
import pytest
import torch
import yaml
from front_door import run_cli
from textgym_seq2seq import opened, saved

import textgym
from textgym.agents.fitting.any_trunk import open_any_trunk
from textgym.errors import InputError
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

GOOD, BAD = ("sun", "joy", "love"), ("mud", "woe", "hate")


def words(rng, choices):
    return " ".join(rng.choice(choices) for _ in range(3))


def pairs(count, seed):
    """Told apart by their words; the prompt says nothing."""
    rng = random.Random(seed)
    return [
        {"prompt": f"Say {i}: ", "chosen": words(rng, GOOD), "rejected": words(rng, BAD)}
        for i in range(count)
    ]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_encoder_reads_the_whole_text(family, tmp_path):
    theirs = saved(tmp_path, family)
    trunk = open_any_trunk(tmp_path)
    model = TrunkRewardModel(trunk)
    texts = ["Say a: sun", "Say: mud and woe"]
    rows = model.encode(texts)
    tokens, lengths = model.batch(rows)
    with torch.no_grad():
        found = model.pool(tokens, lengths)
        for row, pooled in zip(rows, found, strict=True):
            ids = torch.tensor([row])
            read = theirs.get_encoder()(input_ids=ids).last_hidden_state[0]
            start = torch.tensor([[theirs.config.decoder_start_token_id]])
            begun = theirs.get_decoder()(input_ids=start, encoder_hidden_states=read[None])
            # What the head of T5 sees is scaled, as it is tied to the embeddings.
            scale = theirs.config.d_model**-0.5 if family == "t5" else 1.0
            states = [read[:-1], scale * begun.last_hidden_state[0]]
            torch.testing.assert_close(pooled, torch.cat(states).mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_it_ranks_texts_that_it_never_saw_and_comes_back(family, tmp_path):
    saved(tmp_path / "lm", family)
    textgym.fit_reward(
        pairs(120, 0),
        policy=tmp_path / "lm",
        out=tmp_path / "rm",
        steps=20,
        learning_rate=1e-3,
        progress_bar=False,
        report=lambda text: None,
    )
    judge = textgym.rewards_by_name.resolve_reward(tmp_path / "rm")
    held_out = pairs(50, 1)
    prompts = [row["prompt"] for row in held_out]
    better = np.array(judge(prompts, [row["chosen"] for row in held_out]))
    worse = np.array(judge(prompts, [row["rejected"] for row in held_out]))
    assert np.isfinite([better, worse]).all()
    assert (better > worse).mean() >= 0.95
    judge.save_pretrained(tmp_path / "again")
    again = textgym.rewards_by_name.resolve_reward(tmp_path / "again")
    assert np.array_equal(again(prompts, [row["chosen"] for row in held_out]), better)
    assert opened(tmp_path / "again" / "trunk").tokenizer.ends_prompts


def test_a_model_and_its_directory_are_fitted_to_the_same_bits(tmp_path):
    saved(tmp_path / "lm", "t5")
    scores = []
    for name, policy in (("directory", tmp_path / "lm"), ("model", opened(tmp_path / "lm"))):
        out = tmp_path / name
        textgym.fit_reward(
            pairs(40, 0),
            policy=policy,
            out=out,
            steps=4,
            progress_bar=False,
            report=lambda text: None,
        )
        used = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
        assert (used["optimizer"], used["learning_rate"]) == ("adamw", 5e-5), name
        scores.append(textgym.rewards_by_name.resolve_reward(out)(["Say: "], ["sun and mud"]))
    assert scores[0] == scores[1]


def test_the_command_line_fits_heads_and_says_what_it_does_not_take(tmp_path):
    saved(tmp_path / "lm", "t5")
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs(40, 0)))
    fit = ["fit-reward", file, "--policy", tmp_path / "lm", "--no-progress-bar"]
    code, out, error = run_cli(*fit, "--freeze", "--out", tmp_path / "rm")
    assert code == 0 and "held-out pair accuracy" in out, error
    code, _, error = run_cli(*fit, "--layers", 2, "--out", tmp_path / "two")
    assert code == 2 and error.count("\n") == 1 and "layers=2 goes with an encoder or a" in error
    assert not (tmp_path / "two").exists()
    with pytest.raises(InputError, match="layers=2"):
        open_any_trunk(tmp_path / "lm", layers=2)
