"""`textgym export`: a run's best model to give away, and the card that its record writes."""

import json

import pytest
import torch
import transformers
from front_door import ENV, byte_lm, run_cli

import textgym
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training of a base model with a licence, with held-out evaluations."""
    place = tmp_path_factory.mktemp("export")
    byte_lm().save_pretrained(place / "base")
    (place / "base" / "README.md").write_text("# A model\n\n- Licence: Apache-2.0\n- From: us\n")
    words = ["train", ENV, "--agent", "ppo", "--policy", place / "base", "--reward", "length"]
    words += ["--timesteps", 16, "--n-envs", 2, "--n-steps", 4, "--seed", 5, "--kl-coef", 0.1]
    out = place / "run"
    code, _, error = run_cli(*words, "--evaluations", 2, "--no-progress-bar", "--out", out)
    assert code == 0, error
    return out


def test_the_model_is_the_runs_and_opens_in_transformers(run, tmp_path):
    code, _, error = run_cli("export", run, "--out", tmp_path / "mine")
    assert code == 0, error
    best, again = CausalLM.from_pretrained(run), CausalLM.from_pretrained(tmp_path / "mine")
    for key, tensor in best.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)
    assert again.tokenizer == best.tokenizer
    tokens = torch.randint(3, 250, (1, 9))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mine").eval()
    torch.testing.assert_close(theirs(tokens).logits, best(tokens), rtol=0, atol=1e-4)
    textgym.export(run, out=tmp_path / "half", dtype="bfloat16")
    sizes = [(tmp_path / d / "model.safetensors").stat().st_size for d in ("half", "mine")]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_card_says_what_the_record_says(run, tmp_path):
    textgym.export(run, out=tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text()
    base = run.parent / "base"
    for line in (
        f"- Base model: `{base}`",
        f"- env: `{ENV}`",
        "- agent: `ppo`",
        "- reward: `length`",
        "- kl_coef: `0.1`",
        "- seed: `5`",
        "- steps: 16",
        f"That of the base model `{base}` holds for these weights.",
        "> Licence: Apache-2.0",
    ):
        assert line in card.splitlines(), card
    rows = [json.loads(line) for line in (run / "held_out.jsonl").read_text().splitlines()]
    means = []
    for step in (0, 16):
        scores = [row["scores"]["length"] for row in rows if row["step"] == step]
        means.append(f"{sum(scores) / len(scores):.4g}")
    assert f"## Held-out evaluation ({len(scores)} texts)" in card
    assert f"| length | {means[0]} | {means[1]} |" in card


def test_a_model_without_a_run_has_a_card_too(run, tmp_path):
    textgym.export(run.parent / "base", out=tmp_path / "again")
    card = (tmp_path / "again" / "README.md").read_text()
    assert "> Licence: Apache-2.0" in card and "How it was made" not in card


def test_what_cannot_be_is_one_line_and_writes_nothing(run, tmp_path):
    before = sorted(path.name for path in run.iterdir())
    for out in (run, run / "inside"):
        with pytest.raises(InputError, match="out must be another directory than the policy's"):
            textgym.export(run, out=out)
    assert sorted(path.name for path in run.iterdir()) == before
    with pytest.raises(InputError, match="dtype must be one of"):
        textgym.export(run, out=tmp_path / "mine", dtype="int4")
    with pytest.raises(InputError, match="no such directory"):
        textgym.export(tmp_path / "nowhere", out=tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_adapter_on_a_gguf_file_says_that_peft_does_not_open_its_base(tmp_path):
    from textgym_gguf import model_of, write_gguf

    base = tmp_path / "m.gguf"
    write_gguf(base, model_of("llama"))
    keywords = {"n_envs": 2, "n_steps": 4, "seed": 0, "lora_rank": 2, "out": tmp_path / "run"}
    textgym.train("textgym/Keyword-v0", policy=str(base), timesteps=8, **keywords)
    with pytest.warns(UserWarning, match=r"a GGUF file, .* `textgym export .*m\.gguf --out DIR`"):
        textgym.export(tmp_path / "run", out=tmp_path / "adapter", adapter=True)
    CausalLM.from_pretrained(tmp_path / "adapter")
