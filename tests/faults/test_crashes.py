"""Kills, interrupts and full disks: the last good checkpoint is always there."""

import contextlib
import json
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
from front_door import ENV, byte_lm, read_lines, run_cli

import textgym
from textgym import registry
from textgym.policies import CausalLM
from textgym.policies.pretraining import loop as pretraining

SMALL = "--n-envs 2 --n-steps 16 --batch-size 16 --n-epochs 1 --no-progress-bar".split()


def test_kill_9_while_saving_never_harms_the_last_checkpoint(tmp_path):
    """Twelve kills at odd moments; after each the checkpoint loads, and never goes back."""
    script = """
        import os, signal, sys, time
        from pathlib import Path
        import torch
        from textgym.policies.language_model.causal_lm import CausalLM
        from textgym.policies.language_model.checkpoint import load_trainer_state, save_pretrained
        from textgym.tokenizer import Tokenizer

        torch.set_num_threads(1)
        target = Path(sys.argv[1]) / "last"
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 64}
        lm = CausalLM.new(Tokenizer.byte(), **shape)
        step, steps = 0, []
        save_pretrained(lm, target, trainer_state={"step": 0})
        for kill in range(12):
            child = os.fork()
            if not child:
                while True:
                    step += 1
                    save_pretrained(lm, target, trainer_state={"step": step})
            time.sleep(0.05 + 0.013 * kill)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            step = load_trainer_state(target, lm)["step"]
            steps.append(step)
        save_pretrained(lm, target, trainer_state={"step": step})
        print(steps, sorted(path.name for path in target.parent.glob(".tmp-*last*")))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    steps, left = result.stdout.strip().split("] [")
    steps = json.loads(steps + "]")
    assert steps == sorted(steps) and steps[-1] > 0
    assert left == "]"


class Signals:
    """A reward that sends signals to this process at its third batch."""

    name = "signals"

    def __init__(self):
        self.calls, self.numbers = 0, ()

    def __call__(self, prompts, completions):
        self.calls += 1
        if self.calls == 3:
            for number in self.numbers:
                signal.raise_signal(number)
        return [1.0] * len(completions)


SENDER = Signals()


@pytest.fixture
def start(tmp_path):
    """Trains with a reward that sends `numbers`, and gives the outcome."""
    byte_lm().save_pretrained(tmp_path / "lm")
    textgym.register_reward("signals", SENDER)

    def run(*numbers):
        SENDER.calls, SENDER.numbers = 0, numbers
        arguments = ("train", ENV, "--policy", tmp_path / "lm", "--reward", "signals")
        out = tmp_path / "run"
        return out, run_cli(*arguments, "--out", out, "--timesteps", 100_000, *SMALL)

    yield run
    registry.rewards.unregister("signals")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_says_how_to_go_on(start, number):
    before = signal.getsignal(signal.SIGTERM)
    out, (code, _, error) = start(number)
    assert code == 130
    command = f"train --out {out} --resume"
    assert error == f"textgym: interrupted: saved; go on with: textgym {command}\n"
    agent = textgym.load_agent(out)
    assert 32 <= agent.num_timesteps < 1000
    assert signal.getsignal(signal.SIGTERM) is before
    goal = agent.num_timesteps + 64
    code, text, error = run_cli(*command.split(), "--timesteps", goal, "--no-progress-bar")
    assert (code, error) == (0, "") and "saved after" in text
    steps = [row["step"] for row in read_lines(out / "metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_a_second_interrupt_does_not_wait(start):
    out, (code, _, error) = start(signal.SIGINT, signal.SIGINT)
    assert code == 130 and "Traceback" not in error
    assert textgym.load_agent(out).num_timesteps == 0  # the checkpoint of the start


def test_an_interrupt_in_pretraining_saves_and_goes_on(tmp_path, monkeypatch):
    corpus = tmp_path / "c.txt"
    corpus.write_text("\n".join(f"text number {i}" for i in range(60)))
    step = pretraining._Loop.step
    calls = []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    monkeypatch.setattr(pretraining._Loop, "step", interrupted)
    small = "--hidden-size 16 --num-hidden-layers 1 --tokenizer byte --context 64".split()
    out = tmp_path / "lm"
    common = ("pretrain", corpus, "--steps", 20, "--evaluate-every", 2, "--no-progress-bar")
    code, _, error = run_cli(*common, "--out", out, *small)
    assert code == 130
    assert f"saved; go on with: textgym pretrain --out {out} --resume" in error
    done = read_lines(out / "metrics.jsonl")[-1]["step"]
    assert 5 <= done < 20
    code, _, error = run_cli("pretrain", "--out", out, "--resume", "--no-progress-bar")
    assert (code, error) == (0, "")
    assert read_lines(out / "metrics.jsonl")[-1]["step"] == 20


def test_an_interrupt_before_anything_was_saved(tmp_path, monkeypatch):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(CausalLM, "from_pretrained", interrupt)
    arguments = ("train", ENV, "--policy", tmp_path, "--out", tmp_path / "run")
    code, _, error = run_cli(*arguments)
    assert (code, error) == (130, "textgym: interrupted: nothing had been saved yet\n")
    assert not (tmp_path / "run").exists()


@contextlib.contextmanager
def files_of_at_most(size):
    """No file can grow past `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(directory):
    return {p.name: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("size", [100, 10_000, 60_000])
def test_a_full_disk_is_exit_code_3_and_costs_nothing(tmp_path, size):
    byte_lm().save_pretrained(tmp_path / "lm")
    out = tmp_path / "run"
    arguments = ("train", ENV, "--policy", tmp_path / "lm", "--out", out, *SMALL)
    assert run_cli(*arguments, "--timesteps", 32)[0] == 0
    before = content(out / "checkpoints")
    with files_of_at_most(size):
        code, _, error = run_cli("train", "--out", out, "--resume", "--timesteps", 64, *SMALL[-1:])
    assert code == 3, error
    assert error.count("\n") == 1 and "Traceback" not in error and "too large" in error
    assert content(out / "checkpoints") == before
    assert textgym.load_agent(out).num_timesteps == 32


def test_a_disk_that_is_full_from_the_start(tmp_path):
    corpus = tmp_path / "c.txt"
    corpus.write_text("\n".join(f"text number {i}" for i in range(60)))
    with files_of_at_most(2000):
        small = "--steps 2 --hidden-size 16 --tokenizer byte --context 64".split()
        code, _, error = run_cli("pretrain", corpus, "--out", tmp_path / "lm", *small, SMALL[-1])
    assert code == 3 and error.count("\n") == 1, error
    assert not (tmp_path / "lm").exists()
