"""What a run was made from is recorded, and what differs when it goes on is refused and named."""

import json
import shutil

import pytest
import torch
import yaml
from front_door import ENV, byte_lm, read_lines, run_cli

import textgym
from textgym.agents.runs import fingerprints as module
from textgym.agents.runs.fingerprints import code_of, computed_with, fingerprint, inputs_of_agent
from textgym.errors import InputError

SMALL = {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "context": 64, "tokenizer": "byte"}
QUIET = {"progress_bar": False, "report": lambda line: None}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model, a reward model's stand-in, texts and pairs."""
    folder = tmp_path_factory.mktemp("source")
    byte_lm().save_pretrained(folder / "lm")
    (folder / "c.txt").write_text("\n".join(f"text number {i}" for i in range(40)))
    pairs = [{"prompt": f"{i} ", "completion": f"{i + 1}"} for i in range(20)]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "prompts.txt").write_text("One \nTwo \n")
    (folder / "words.txt").write_text("good\t1.0\n")
    return folder


def test_content_counts_and_not_names_or_times(tmp_path):
    (tmp_path / "a").write_text("same")
    (tmp_path / "b").write_text("same")
    one = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"  # sha256 of "same"
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") == one
    assert fingerprint(tmp_path / "none") == "nothing there"
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("x")
    before = fingerprint(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    (tmp_path / "d" / "e" / "f").rename(tmp_path / "d" / "g")
    assert fingerprint(tmp_path / "d") != before


def test_a_checkpoint_is_known_by_its_manifest(tmp_path):
    byte_lm(seed=0).save_pretrained(tmp_path / "run" / "checkpoints" / "best")
    byte_lm(seed=0).save_pretrained(tmp_path / "lm")
    byte_lm(seed=1).save_pretrained(tmp_path / "other")
    manifest = fingerprint(tmp_path / "lm" / "manifest.json")
    assert fingerprint(tmp_path / "lm") == fingerprint(tmp_path / "run") == manifest
    assert fingerprint(tmp_path / "other") != manifest


def test_inputs_are_found_behind_names_and_not_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "words.txt").write_text("good\t1\n")
    (tmp_path / "k1").mkdir()  # a folder that is called like a setting
    found = inputs_of_agent(
        "textgym/Length-v0", "mine:taste,path=words.txt", {"kl_estimator": "k1"}, ["One "]
    )
    assert found == {"reward": [str(tmp_path / "mine.py"), "words.txt"]}
    looks_on = inputs_of_agent("textgym/Length-v0", None, {}, ["One "], ["length", "mine:taste"])
    assert looks_on == {"shadow": [str(tmp_path / "mine.py")]}
    assert code_of("no_such_module_here:x") is None and code_of("length") is None


def test_the_record_names_versions_and_threads(tmp_path, source):
    textgym.train(ENV, policy=source / "lm", out=tmp_path / "r", timesteps=32, **SMALL, **QUIET)
    textgym.pretrain(source / "c.txt", out=tmp_path / "p", steps=1, **TINY, **QUIET)
    textgym.sft(source / "p.jsonl", policy=source / "lm", out=tmp_path / "s", steps=1, **QUIET)
    textgym.make_agent("ppo", ENV, policy=byte_lm(), out=tmp_path / "m", **SMALL)
    for name in "rpsm":
        record = json.loads((tmp_path / name / "provenance.json").read_text())
        assert record["computed_with"] == computed_with()
        assert record["computed_with"]["torch"] == torch.__version__
        assert record["computed_with"]["threads"] == torch.get_num_threads()
        assert record["config"] == yaml.safe_load((tmp_path / name / "config.yaml").read_text())
    corpus = {str(source / "c.txt"): fingerprint(source / "c.txt")}
    assert json.loads((tmp_path / "p" / "provenance.json").read_text())["inputs"] == {
        "corpus": corpus
    }


def changed_corpus(folder, run, monkeypatch):
    (folder / "c.txt").write_text((folder / "c.txt").read_text() + "\none more")
    return r"corpus \S+c\.txt had SHA-256 \w{12}, has SHA-256 \w{12}"


def missing_corpus(folder, run, monkeypatch):
    (folder / "c.txt").unlink()
    return r"corpus \S+c\.txt had SHA-256 \w{12}, has nothing there"


def other_settings(folder, run, monkeypatch):
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"learning_rate": 0.5}))
    return r"config\.yaml had learning_rate=0\.003, has 0\.5"


def damaged_record(folder, run, monkeypatch):
    (run / "provenance.json").write_text("{")
    return r"provenance\.json is damaged"


def other_threads(folder, run, monkeypatch):
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 64)
    return r"threads was \d+, is 64"


def other_versions(folder, run, monkeypatch):
    version = module.metadata.version
    monkeypatch.setattr(
        module.metadata, "version", lambda name: "0.0.1" if name == "torch" else version(name)
    )
    return r"torch was \S+, is 0\.0\.1"


@pytest.mark.parametrize(
    "change",
    [
        changed_corpus,
        missing_corpus,
        other_settings,
        damaged_record,
        other_threads,
        other_versions,
    ],
)
def test_pretraining_refuses_to_go_on_with_something_else(tmp_path, source, monkeypatch, change):
    folder = shutil.copytree(source, tmp_path / "source")
    run = tmp_path / "run"
    textgym.pretrain(folder / "c.txt", out=run, steps=2, **TINY, **QUIET)
    message = change(folder, run, monkeypatch)
    before = read_lines(run / "metrics.jsonl")
    with pytest.raises(InputError, match=message) as caught:
        textgym.pretrain(folder / "c.txt", out=run, resume=True, steps=4, **QUIET)
    assert "\n" not in str(caught.value) and str(caught.value).endswith("with --force-resume")
    assert read_lines(run / "metrics.jsonl") == before
    if change is not missing_corpus:
        textgym.pretrain(folder / "c.txt", out=run, force_resume=True, steps=4, **QUIET)
        assert read_lines(run / "metrics.jsonl")[-1]["step"] == 4
        textgym.pretrain(folder / "c.txt", out=run, resume=True, steps=5, **QUIET)


def test_sft_refuses_other_pairs(tmp_path, source):
    folder = shutil.copytree(source, tmp_path / "source")
    run, policy = tmp_path / "run", folder / "lm"
    textgym.sft(folder / "p.jsonl", policy=policy, out=run, steps=2, **QUIET)
    (folder / "p.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InputError, match=r"data \S+p\.jsonl had SHA-256"):
        textgym.sft(folder / "p.jsonl", policy=policy, out=run, resume=True, **QUIET)


@pytest.mark.parametrize("name", ["prompts.txt", "words.txt"])
def test_train_refuses_other_prompts_and_another_reward(tmp_path, source, name):
    folder = shutil.copytree(source, tmp_path / "source")
    words, run = folder / "words.txt", tmp_path / "run"
    arguments = ("train", ENV, "--policy", folder / "lm", "--reward", f"lexicon,path={words}")
    fields = ("--env-kwargs", f"prompts={folder / 'prompts.txt'}", "--no-progress-bar")
    small = "--n-envs 2 --n-steps 16 --batch-size 16 --n-epochs 1 --timesteps 32".split()
    code, _, error = run_cli(*arguments, *fields, *small, "--out", run)
    assert (code, error) == (0, "")
    (folder / name).write_text("bad\t-1.0\n")
    resume = ("train", "--out", run, "--timesteps", 64, "--no-progress-bar")
    code, _, error = run_cli(*resume, "--resume")
    assert code == 2 and f"{name} had SHA-256" in error and error.count("\n") == 1
    code, text, error = run_cli(*resume, "--force-resume")
    assert (code, error) == (0, "") and "saved after 64 tokens" in text
    (folder / name).write_text("good\t2.0\n")
    with pytest.raises(InputError, match=f"{name}.*something else than when it was saved"):
        textgym.load_agent(run)
    given = {"reward": f"lexicon,path={words}", "env_kwargs": {"prompts": folder / "prompts.txt"}}
    with pytest.warns(UserWarning, match=f"not as the run was: .*{name}"):
        textgym.load_agent(run, out=run, **given)


def test_a_start_that_is_gone_does_not_matter(tmp_path, source):
    folder = shutil.copytree(source, tmp_path / "source")
    textgym.train(ENV, policy=folder / "lm", out=tmp_path / "r", timesteps=32, **SMALL, **QUIET)
    shutil.rmtree(folder)
    agent = textgym.train(ENV, out=tmp_path / "r", resume=True, timesteps=64, **QUIET)
    assert agent.num_timesteps == 64
