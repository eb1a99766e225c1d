"""One writer and one record a run directory, whoever writes it, and nothing of anybody else's."""

import copy
import gc
import os
import subprocess
import sys
import textwrap

import pytest
import yaml
from front_door import ENV, read_lines, run_cli, small_agent
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from textgym_testing import assert_same_weights, letter_env, letter_tokenizer, tiny_lm

import textgym
from textgym.agents.building.build import build_agent
from textgym.agents.building.words import PPO as PPO_WORD
from textgym.agents.runs.directory import start_run
from textgym.agents.runs.recording import Recorder
from textgym.errors import InputError, StorageError

SMALL = {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1}
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "context": 64, "tokenizer": "byte"}
QUIET = {"progress_bar": False, "report": lambda line: None}


def steps(directory):
    return [row["step"] for row in read_lines(directory / "metrics.jsonl")]


def test_a_cell_that_is_run_again_takes_the_next_free_name(tmp_path, capsys):
    out = tmp_path / "a"
    for directory in (out, tmp_path / "a-2", tmp_path / "a-3"):
        agent = small_agent(out=out)
        agent.learn(256)
        assert steps(directory) == [128, 256]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{out}: holds a run already; this one is in {tmp_path / name}" for name in ("a-2", "a-3")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-2", "a-3"]


def test_two_agents_at_once_do_not_share_a_directory(tmp_path):
    agents = [small_agent(name, out=tmp_path / "a") for name in ("ppo", "a2c")]
    for agent in agents:
        agent.learn(256, log_interval=1)
    assert steps(tmp_path / "a") == [128, 256]
    assert steps(tmp_path / "a-2")[-1] == 256


def test_a_name_that_another_process_writes_in_is_passed_over(tmp_path):
    script = """
        import sys, time
        from textgym.agents.runs.directory import start_run
        run = start_run(sys.argv[1], free_name=True)
        print("held", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            assert start_run(tmp_path / "a", free_name=True).directory == tmp_path / "a-2"
            with pytest.raises(StorageError, match="a: in use by another process"):
                start_run(tmp_path / "a")
        finally:
            holder.kill()
    assert start_run(tmp_path / "a", free_name=True).directory == tmp_path / "a"


def test_the_lock_goes_with_the_agent(tmp_path):
    agent = small_agent(out=tmp_path / "a")
    agent.learn(128)
    with pytest.raises(StorageError, match="a: in use by another process"):
        start_run(tmp_path / "a")
    assert (tmp_path / "a" / ".lock").exists()
    del agent
    gc.collect()
    assert not (tmp_path / "a" / ".lock").exists()
    with pytest.raises(InputError, match="holds a run already"):
        start_run(tmp_path / "a")


def test_an_agent_leaves_a_checkpoint_and_goes_on_from_it(tmp_path):
    out = tmp_path / "a"
    agent = small_agent(out=out, kl_coef=0.1)
    agent.learn(256)
    again = textgym.load_agent(out, out=out)
    assert_same_weights(again.policy, agent.policy)
    again.learn(128, reset_num_timesteps=False)
    assert steps(out) == [128, 256, 384]
    assert textgym.load_agent(out).num_timesteps == 384
    with pytest.raises(InputError, match="another agent goes on with this run"):
        agent.learn(128)
    code, text, error = run_cli(
        "train", "--out", out, "--resume", "--timesteps", 512, "--no-progress-bar"
    )
    assert code == 0 and "saved after 512 tokens" in text, error
    assert steps(out) == [128, 256, 384, 512]


def test_a_checkpoint_is_saved_on_the_way(tmp_path):
    out, found = tmp_path / "a", []

    class Look(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            found.append(textgym.load_agent(out).num_timesteps)

    agent = small_agent(out=out, checkpoint_seconds=0)
    agent.learn(384, callback=Look())
    assert found == [0, 128, 256]
    assert textgym.load_agent(out).num_timesteps == 384


def test_a_second_learn_goes_on_in_the_record_though_sb3_counts_anew(tmp_path):
    agent = small_agent(out=tmp_path / "a")
    agent.learn(256)
    agent.learn(256)
    assert agent.num_timesteps == 256 and steps(tmp_path / "a") == [128, 256, 384, 512]
    again = textgym.load_agent(tmp_path / "a", out=tmp_path / "a")
    again.learn(128, reset_num_timesteps=False)
    again.learn(128)
    assert steps(tmp_path / "a") == [128, 256, 384, 512, 640, 768]


def test_the_agent_that_train_gives_goes_on_unless_another_does(tmp_path):
    out = tmp_path / "a"
    agent = textgym.train(ENV, out=out, timesteps=32, **SMALL, **QUIET)
    agent.learn(32, reset_num_timesteps=False, log_interval=1)
    assert steps(out) == [32, 64] and textgym.load_agent(out).num_timesteps == 64
    del agent
    gc.collect()
    first = textgym.train(ENV, out=out, resume=True, timesteps=96, **QUIET)
    second = textgym.train(ENV, out=out, resume=True, timesteps=128, **QUIET)
    with pytest.raises(InputError, match="another agent goes on with this run"):
        first.learn(32, reset_num_timesteps=False)
    second.learn(32, reset_num_timesteps=False, log_interval=1)
    assert steps(out) == [32, 64, 96, 128, 160]


def test_agents_and_recorders_that_are_built_by_hand_follow_the_rule(tmp_path):
    def build():
        tokenizer = letter_tokenizer()
        env = letter_env(2, tokenizer=tokenizer)
        words = {"n_steps": 8, "batch_size": 8, "directory": tmp_path / "a", "seed": 0}
        return build_agent("ppo", PPO_WORD, env, tiny_lm(tokenizer), **words)

    for directory in (tmp_path / "a", tmp_path / "a-2"):
        build().learn(32)
        assert steps(directory) == [16, 32]
        config = yaml.safe_load((directory / "config.yaml").read_text())
        assert config["n_steps"] == 8 and config["not_saved"] == ["reward"]
    recorder = Recorder((), max_new_tokens=4, directory=tmp_path / "a")
    assert recorder.run.directory == tmp_path / "a-3"


@pytest.mark.parametrize("free_name", [True, False])
def test_a_directory_of_somebody_elses_is_refused(tmp_path, free_name):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "config.yaml").write_text("learning_rate: 1\n")
    (tmp_path / "work" / "thesis.tex").write_text("\\section{}")
    with pytest.raises(InputError, match=r"work: holds 'config\.yaml' and no run; --out names"):
        start_run(tmp_path / "work", free_name=free_name)
    assert len(list((tmp_path / "work").iterdir())) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        start_run(tmp_path / "file", free_name=free_name)


def test_notes_beside_a_record_stay(tmp_path):
    out = tmp_path / "a"
    run = start_run(out)
    run.record({"verb": "train"}, {})
    run.close()
    (out / "notes.txt").write_text("mine")
    (out / "metrics.jsonl").write_text('{"step": 1}\n')
    agent = small_agent(out=out)  # begun anew, as nothing had been saved
    agent.learn(128)
    assert (out / "notes.txt").read_text() == "mine" and steps(out) == [128]
    assert read_lines(out / "metrics.jsonl.1") == [{"step": 1}]


def test_a_record_without_settings_is_not_written_over(tmp_path):
    out = tmp_path / "a"
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="holds a run already"):
        start_run(out)
    assert start_run(out, free_name=True).directory == tmp_path / "a-2"
    assert steps(out) == [1]


@pytest.mark.parametrize("out", ["", " ", "a\0b", "x" * 300])
def test_a_name_that_no_directory_can_have(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a path must "):
        small_agent(out=out)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_is_repeated_from_its_settings_too(tmp_path):
    out, corpus = tmp_path / "a", tmp_path / "c.txt"
    corpus.write_text("\n".join(f"text number {i}" for i in range(40)))
    textgym.pretrain(corpus, out=out, steps=1, **TINY, **QUIET)
    textgym.pretrain(out=out, resume=True, steps=2, **QUIET)
    command = ("pretrain", "--config", out / "config.yaml", "--out", tmp_path / "b")
    assert run_cli(*command, "--no-progress-bar")[0] == 0
    textgym.train(ENV, out=tmp_path / "c", timesteps=32, **SMALL, **QUIET)
    textgym.train(ENV, out=tmp_path / "c", timesteps=64, resume=True, **QUIET)
    command = ("train", "--config", tmp_path / "c" / "config.yaml", "--out", tmp_path / "d")
    assert run_cli(*command, "--no-progress-bar")[0] == 0 and steps(tmp_path / "d") == [32, 64]


def test_an_agent_that_cannot_be_built_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="did you mean 'n_steps'"):
        small_agent(out=tmp_path / "a", n_step=3)
    with pytest.raises(InputError, match="kl_target"):
        small_agent(out=tmp_path / "b", kl_target=-1.0)
    with pytest.raises(InputError):
        small_agent(out=tmp_path / "c", policy_kwargs={"no_such": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_fixed_when_it_is_named(tmp_path, monkeypatch):
    """A callback that changes the current folder loses nothing."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    class Wander(BaseCallback):
        def _on_step(self):
            os.chdir(tmp_path / "there")
            return True

    textgym.train(ENV, out="a", timesteps=64, callback=Wander(), **SMALL, **QUIET)
    monkeypatch.chdir(tmp_path / "here")
    agent = small_agent(out="b", tensorboard_log="tb")
    agent.learn(128, callback=Wander())
    assert list((tmp_path / "there").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["a", "b", "tb"]
    for name in "ab":
        found = {path.name for path in (tmp_path / "here" / name).iterdir()}
        assert {"metrics.jsonl", "samples.jsonl", "checkpoints", "config.yaml"} <= found


def test_sb3s_own_save_and_copies_of_agents_still_work(tmp_path):
    agent = small_agent(out=tmp_path / "a")
    agent.learn(128)
    agent.save(tmp_path / "zip")
    again = PPO.load(tmp_path / "zip", env=agent.env)
    assert "learn" not in vars(again)
    assert_same_weights(again.policy, agent.policy)
    assert copy.deepcopy(start_run(tmp_path / "b")).directory == tmp_path / "b"
