"""Names of the Hugging Face hub, against a cache as `huggingface_hub` lays it out; no network."""

import shutil
import socket
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from front_door import ENV, byte_lm, run_cli
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from textgym_checkpoints import read

import textgym
from textgym.errors import InputError
from textgym.hub_models import cached_hub_directory, hub_directory, is_hub_name
from textgym.policies.language_model.causal_lm import CausalLM

NAME = "somebody/small-lm"
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, an empty current folder, and a machine that reaches nobody."""

    def refuse(*arguments, **keywords):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return tmp_path / "hub"


def put(cache, source, name=NAME):
    """A directory as a snapshot of the cache: links to blobs, and a reference to it."""
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / SHA
    for folder in (place / "blobs", place / "refs", snapshot):
        folder.mkdir(parents=True)
    (place / "refs" / "main").write_text(SHA)
    for i, file in enumerate(sorted(source.iterdir())):
        shutil.copyfile(file, place / "blobs" / f"blob{i}")
        (snapshot / file.name).symlink_to(f"../../blobs/blob{i}")
    return snapshot


@pytest.fixture
def published(tmp_path):
    """A model's directory without our manifest, as others publish it."""
    byte_lm(seed=3).save_pretrained(tmp_path / "lm")
    (tmp_path / "lm" / "manifest.json").unlink()
    config = read(tmp_path / "lm" / "config.json")
    del config["written_by"]
    (tmp_path / "lm" / "config.json").write_text(textgym.storage.json_text(config))
    return tmp_path / "lm"


def test_a_name_in_the_cache_is_a_policy_wherever_one_is_named(cache, published):
    snapshot = put(cache, published)
    assert hub_directory(NAME) == snapshot
    lm = CausalLM.from_pretrained(NAME)
    for key, tensor in byte_lm(seed=3).state_dict().items():
        assert torch.equal(lm.state_dict()[key], tensor)
    code, out, error = run_cli("generate", NAME, "--prompt", "a", "--max-new-tokens", 2)
    assert code == 0 and out.startswith("a") and not error
    words = ["train", ENV, "--policy", NAME, "--timesteps", 8, "--n-envs", 2, "--n-steps", 4]
    code, _, error = run_cli(*words, "--kl-coef", 0.1, "--no-progress-bar", "--out", "run")
    assert code == 0, error
    assert len(read_policy_digest("run")) == 64
    more = ["train", "--out", "run", "--resume", "--timesteps", 16, "--no-progress-bar"]
    code, _, error = run_cli(*more)
    assert code == 0, error


def read_policy_digest(run):
    """The hash of what the policy was when a run began."""
    return read(Path(run) / "provenance.json")["start"]["policy"][NAME]


def test_an_interrupted_download_is_not_taken_for_a_model(cache, published):
    snapshot = put(cache, published)
    (snapshot / "model.safetensors").unlink()
    assert cached_hub_directory(NAME) is None
    with pytest.raises(InputError, match=f"not the whole of {NAME}, config.json and all weights"):
        CausalLM.from_pretrained(NAME)
    (snapshot / "model.safetensors.index.json").write_text('{"weight_map": {"a": "a.safetensors"}}')
    assert cached_hub_directory(NAME) is None
    (snapshot / "a.safetensors").write_bytes(b"")
    assert cached_hub_directory(NAME) == snapshot


def test_without_a_network_it_is_one_line(cache):
    code, _, error = run_cli("generate", NAME, "--prompt", "a")
    assert code == 2 and error.count("\n") == 1
    assert f"{NAME}: no such directory here, and the Hugging Face hub cannot be reached" in error
    assert not list(cache.rglob("*.json"))


def test_offline_mode_is_one_line_and_takes_what_is_there(cache, published, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # what the variable of that name sets
    with pytest.raises(InputError, match="the Hugging Face hub cannot be reached"):
        CausalLM.from_pretrained(NAME)
    put(cache, published)
    assert CausalLM.from_pretrained(NAME).config == byte_lm().config


def test_a_name_that_the_hub_has_not_says_so(cache, monkeypatch):
    def unknown(name, **keywords):
        if keywords.get("local_files_only"):
            raise FileNotFoundError
        taken.update(keywords)
        response = type("Response", (), {"headers": {}, "request": None})()
        raise hub_errors.RepositoryNotFoundError("404", response=response)

    taken = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unknown)
    with pytest.raises(InputError, match="no such model on the Hugging Face hub that can be read"):
        CausalLM.from_pretrained(NAME)
    assert not any("bin" in pattern or "py" in pattern for pattern in taken["allow_patterns"])


def test_a_download_takes_weights_and_settings_only(cache, published, monkeypatch):
    def download(name, **keywords):
        if keywords.get("local_files_only"):
            raise FileNotFoundError
        return str(published)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert CausalLM.from_pretrained(NAME).config == byte_lm().config


def test_what_may_be_a_path_is_never_asked_for(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    (tmp_path / "here" / "runs").mkdir()
    assert is_hub_name("org/name") and is_hub_name("a1/b-2.5_c")
    for text in "runs/none name a/b/c ./a/b /a/b ~/a ../a a/ a/x.gguf".split():
        assert not is_hub_name(text), text
    assert not is_hub_name(tmp_path / "a")
    with pytest.raises(InputError, match=r"runs/none: no such directory; expected a checkpoint"):
        CausalLM.from_pretrained("runs/none")


def test_without_the_library_it_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"somebody/small-lm: no such directory.*textgym\[transf"):
        CausalLM.from_pretrained(NAME)


SMALL_RUN = {"agent": "grpo", "timesteps": 32, "n_envs": 4, "lora_rank": 2, "progress_bar": False}


@pytest.fixture
def asked(monkeypatch):
    """What the network was asked for; the cache may be looked into."""
    download, names = huggingface_hub.snapshot_download, []

    def ask(name, **keywords):
        if not keywords.get("local_files_only"):
            names.append(name)
        return download(name, **keywords)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)
    return names


def test_an_adapter_on_a_model_of_the_hub_names_it_so(cache, published, asked):
    put(cache, published)
    textgym.train(ENV, policy=NAME, out="run", **SMALL_RUN)
    textgym.export("run", out="alone", adapter=True)
    assert read(Path("alone/adapter_config.json"))["base_model_name_or_path"] == NAME
    CausalLM.from_pretrained("alone")
    shutil.rmtree(cache)
    with pytest.raises(InputError, match="nor is there such a model in the hub's cache: export"):
        textgym.export("run", out="no", adapter=True)
    assert not asked


def test_a_path_of_a_run_is_no_name_elsewhere(cache, asked, tmp_path, monkeypatch):
    """runs/sft has the shape of a name of the hub, where no folder is called runs."""
    byte_lm().save_pretrained("runs/sft")
    textgym.train(ENV, policy="runs/sft", out="runs/lora", **SMALL_RUN)
    run = Path("runs/lora").absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"began as runs/sft, which is not there as seen from this "
                       "folder, nor"):  # fmt: skip
        textgym.export(run, out="no", adapter=True)
    textgym.export(run, out="whole")
    assert "holds for these weights" in Path("whole/README.md").read_text()
    assert not asked and not Path("no").exists()
    monkeypatch.chdir(run.parents[1])
    textgym.export(run, out=tmp_path / "alone", adapter=True)
    named = read(tmp_path / "alone" / "adapter_config.json")["base_model_name_or_path"]
    assert named == str(run.parent / "sft")


@pytest.mark.parametrize("verb", ["sft", "pretrain"])
def test_a_training_of_an_adapter_does_not_go_on_upon_another_model(
    verb, cache, asked, tmp_path, monkeypatch
):
    """What it reads again is its policy: the one that it began with, from where it was named."""
    byte_lm().save_pretrained("runs/sft")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "text": "ab"}\n' * 3)
    out, quiet = Path("runs/lora").absolute(), {"progress_bar": False, "report": str}
    fit = getattr(textgym, verb)
    fit(rows, policy="runs/sft", out=out, lora_rank=2, steps=2, heldout=0, **quiet)
    (tmp_path / "elsewhere").mkdir()
    here = Path.cwd()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"policy runs/sft had SHA-256 .*, has nothing there"):
        fit(out=out, resume=True, steps=4, **quiet)
    assert not asked
    monkeypatch.chdir(here)
    fit(out=out, resume=True, steps=4, **quiet)
    shutil.rmtree("runs/sft")
    byte_lm(seed=5).save_pretrained("runs/sft")
    with pytest.raises(InputError, match=r"policy runs/sft had SHA-256 .*, has SHA-256"):
        fit(out=out, resume=True, steps=6, **quiet)
