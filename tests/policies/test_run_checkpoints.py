"""Which checkpoint of a run is opened, what is taken instead of a damaged one, and transformers."""

import pytest
import torch
from front_door import ENV, byte_lm, run_cli

import textgym
from textgym.agents.building.reward_checkpoint import load_reward
from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.manifest import MANIFEST, verify_directory
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import load_trainer_state, save_pretrained
from textgym.policies.language_model.published import publish

QUIET = {"progress_bar": False, "report": lambda text: None}
SMALL = {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, **QUIET}


def damage(directory, name="model.safetensors"):
    """Another byte in the middle of a file, in this file alone (a link to it is cut)."""
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).unlink()
    (directory / name).write_bytes(bytes(content))


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "c.txt"
    path.write_text("\n".join(f"text number {i} of {i * i}" for i in range(80)))
    return path


def pretrain(corpus, out, steps=4, **keywords):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "tokenizer": "byte", "context": 64}
    if not keywords.get("resume"):
        keywords |= {**shape, "evaluate_every": 2}
    return textgym.pretrain(corpus, out=out, steps=steps, **keywords, **QUIET)


def train(lm, out, timesteps, **keywords):
    return textgym.train(ENV, policy=lm, out=out, timesteps=timesteps, **SMALL, **keywords)


def test_a_damaged_best_gives_the_last_with_a_warning(tmp_path):
    for seed, name in enumerate(("best", "last", "previous")):
        byte_lm(seed).save_pretrained(tmp_path / "run" / "checkpoints" / name)
    run = tmp_path / "run"
    assert same(CausalLM.from_pretrained(run), byte_lm(0))
    damage(run / "checkpoints" / "best")
    with pytest.warns(UserWarning, match=r"best/model\.safetensors: damaged .*went on with .*last"):
        assert same(CausalLM.from_pretrained(run), byte_lm(1))
    (run / "checkpoints" / "last" / MANIFEST).write_text("{")
    with pytest.warns(UserWarning, match=r"best/model\.safetensors: damaged .*with .*previous"):
        assert same(CausalLM.from_pretrained(run), byte_lm(2))
    with pytest.raises(InputError, match=r"damaged .*; .*previous is whole$") as caught:
        CausalLM.from_pretrained(run / "checkpoints" / "best")  # what is named is not replaced
    assert "\n" not in str(caught.value)
    damage(run / "checkpoints" / "previous")
    with pytest.raises(InputError, match=r"best/model\.safetensors: damaged"):
        CausalLM.from_pretrained(run)


def test_a_trainers_state_without_its_manifest_is_refused_and_a_model_warned_of(tmp_path):
    lm = byte_lm()
    save_pretrained(lm, tmp_path / "lm", trainer_state={"step": 1})
    (tmp_path / "lm" / MANIFEST).unlink()
    with pytest.warns(UserWarning, match=r"textgym saved it with a manifest\.json, which is gone"):
        CausalLM.from_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match=r"manifest\.json: missing, though textgym writes one"):
        load_trainer_state(tmp_path / "lm", lm)
    save_pretrained(lm, tmp_path / "lm", trainer_state={"step": 2})  # it is ours all the same
    assert load_trainer_state(tmp_path / "lm", lm) == {"step": 2}


def test_training_goes_on_from_the_checkpoint_before(tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    run = tmp_path / "run"
    train(tmp_path / "lm", run, 32)
    train(tmp_path / "lm", run, 64, resume=True)
    assert textgym.load_agent(run).num_timesteps == 64
    damage(run / "checkpoints" / "last", "trainer.safetensors")
    with pytest.warns(UserWarning, match=r"last/trainer\.safetensors: damaged .*previous instead"):
        before = textgym.load_agent(run).num_timesteps
    assert before in (32, 64)
    with pytest.warns(UserWarning, match="previous instead"):
        agent = train(tmp_path / "lm", run, 96, resume=True)
    assert agent.num_timesteps == 96
    assert textgym.load_agent(run).num_timesteps == 96
    verify_directory(run / "checkpoints" / "last", must_have_manifest=True)


def test_pretraining_goes_on_from_the_checkpoint_before(corpus, tmp_path):
    run = tmp_path / "run"
    assert pretrain(corpus, run).steps == 4
    damage(run / "checkpoints" / "last")
    damage(run / "checkpoints" / "best")
    with pytest.warns(UserWarning, match=r"last/model\.safetensors: damaged .*previous instead"):
        result = pretrain(corpus, run, steps=8, resume=True)
    assert result.steps == 8
    for name in ("best", "last"):
        verify_directory(run / "checkpoints" / name, must_have_manifest=True)


def open_with_transformers(directory):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    return AutoModelForCausalLM.from_pretrained(directory), tokenizer


def assert_transformers_agrees(directory):
    theirs, tokenizer = open_with_transformers(directory)
    ours = CausalLM.from_pretrained(directory)
    ids = ours.tokenizer.encode("text number 7", add_special_tokens=True)
    assert tokenizer("text number 7")["input_ids"] == ids
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits
        torch.testing.assert_close(logits, ours(torch.tensor([ids])), rtol=1e-4, atol=1e-5)


def test_transformers_opens_what_out_names(corpus, tmp_path):
    run = tmp_path / "lm"
    pretrain(corpus, run, steps=2)
    best = run / "checkpoints" / "best"
    assert_transformers_agrees(run)
    assert (run / "model.safetensors").samefile(best / "model.safetensors")
    pretrain(corpus, run, steps=6, resume=True)
    assert_transformers_agrees(run)  # the link goes with the checkpoint
    assert same(CausalLM.from_pretrained(run), CausalLM.from_pretrained(best))
    ppo = tmp_path / "ppo"
    train(run, ppo, 32, value_warmup_rollouts=0, env_kwargs={"max_new_tokens": 8})
    assert_transformers_agrees(ppo)
    assert not (ppo / "trainer.json").exists()
    first = CausalLM.from_pretrained(ppo)
    train(run, ppo, 64, resume=True)
    assert_transformers_agrees(ppo)
    assert not same(first, CausalLM.from_pretrained(ppo))
    go_on = ("train", "--out", ppo, "--resume", "--timesteps", 64, "--no-progress-bar")
    code, out, error = run_cli(*go_on)
    assert (code, error) == (0, "") and f"AutoModelForCausalLM.from_pretrained('{ppo}')" in out


def test_the_copy_is_not_taken_for_the_run_and_serves_where_that_is_gone(tmp_path):
    run = tmp_path / "run"
    save_pretrained(byte_lm(0), run / "checkpoints" / "best")
    (run / "config.yaml").write_text("verb: pretrain\n")
    publish(run)
    inode = (run / "config.json").stat().st_ino
    publish(run)
    assert (run / "config.json").stat().st_ino == inode  # nothing to do
    save_pretrained(byte_lm(1), run / "checkpoints" / "best")  # killed before it was published
    assert same(CausalLM.from_pretrained(run), byte_lm(1))
    publish(run)
    for file in (run / "checkpoints" / "best").iterdir():
        file.unlink()
    assert same(CausalLM.from_pretrained(run), byte_lm(1))
    assert (run / "config.yaml").read_text() == "verb: pretrain\n"


def test_a_users_file_at_the_top_is_kept_and_the_checkpoint_saved(tmp_path):
    run = tmp_path / "run"
    save_pretrained(byte_lm(), run / "checkpoints" / "best")
    (run / "config.json").write_text("mine")
    with pytest.warns(UserWarning, match=r"holds a config\.json that textgym did not write"):
        publish(run)
    assert (run / "config.json").read_text() == "mine"
    assert not (run / "model.safetensors").exists()


def test_a_reward_model_of_a_run_falls_back_too(tmp_path):
    from textgym.reward_models.learned.ngrams import NgramHasher, NgramRidge

    hasher = NgramHasher(bits=8)
    for name, bias in (("best", 1.0), ("last", 2.0)):
        model = NgramRidge(torch.zeros(256), bias, hasher=hasher)
        model.save_pretrained(tmp_path / "checkpoints" / name)
    assert load_reward(tmp_path)([""], ["x"]) == [1.0]
    damage(tmp_path / "checkpoints" / "best", "reward_model.json")
    with pytest.warns(UserWarning, match="last instead"):
        assert load_reward(tmp_path)([""], ["x"]) == [2.0]
    with atomic_directory(tmp_path / "checkpoints" / "best") as staging:
        (staging / "x").touch()
    assert load_reward(tmp_path)([""], ["x"]) == [2.0]


def test_a_model_that_transformers_saved_again_is_not_ours(tmp_path, recwarn):
    byte_lm().save_pretrained(tmp_path / "lm")
    model, tokenizer = open_with_transformers(tmp_path / "lm")
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    assert same(CausalLM.from_pretrained(tmp_path / "theirs"), byte_lm())
    assert not [w for w in recwarn if "saved it with a manifest" in str(w.message)]


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b", "c"):
        byte_lm().save_pretrained(tmp_path / name)
    sums = {(tmp_path / name / MANIFEST).read_bytes() for name in ("a", "b", "c")}
    assert len(sums) == 1
