"""`fit_reward`: killed and interrupted fits go on to the very same reward model."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from front_door import byte_lm, read_lines, run_cli
from safetensors.torch import load_file

import textgym
from textgym.agents.fitting import reward_fitting
from textgym.errors import InputError

STEPS = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small model, and judgements by three people who like the letter a."""
    folder = tmp_path_factory.mktemp("fit")
    byte_lm().save_pretrained(folder / "lm")
    rng, rows = np.random.default_rng(0), []
    for block in range(60):
        for _ in range(4):
            text = "".join(rng.choice(list("abcdefgxyz "), 20))
            merit = text.count("a") - text.count("b")
            ratings = [merit + int(noise) for noise in rng.integers(-1, 2, 3)]
            rows.append({"text": text, "ratings": ratings, "block": block})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "ratings.jsonl").write_text(lines, encoding="utf-8")
    return folder


def fit(files, out, **keywords):
    settings = {"steps": STEPS, "progress_bar": False, "report": lambda line: None, **keywords}
    return textgym.fit_reward(files / "ratings.jsonl", policy=files / "lm", out=out, **settings)


def weights(out):
    """Every number of a finished reward model."""
    best = out / "checkpoints" / "best"
    fields = json.loads((best / "reward_model.json").read_text(encoding="utf-8"))
    return (
        {k: v.tolist() for k, v in load_file(best / "head.safetensors").items()},
        {k: v.tolist() for k, v in load_file(best / "trunk" / "model.safetensors").items()},
        (fields["mean"], fields["std"]),
    )


def test_a_killed_fit_goes_on_to_the_same_model(files, tmp_path):
    """SIGKILL right after the state of step 7 was written; no other trace is left."""
    script = """
        import os, signal, sys
        import textgym
        from textgym.agents.fitting import reward_fitting
        call = reward_fitting._Saver.__call__

        def killed(self, state):
            call(self, state)
            if state()["step"] == 7:
                os.kill(os.getpid(), signal.SIGKILL)

        reward_fitting._Saver.__call__ = killed
        textgym.fit_reward(sys.argv[1] + "/ratings.jsonl", policy=sys.argv[1] + "/lm",
                           out=sys.argv[2], steps=12, checkpoint_seconds=0, progress_bar=False)
    """
    out = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(script), str(files), str(out)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as this process has: resuming asks it
    result = subprocess.run(command, capture_output=True, check=False, env=one_thread)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    assert not (out / "checkpoints" / "best").exists()
    with pytest.raises(InputError, match=r"holds no reward_model\.json"):
        textgym.make_agent("ppo", "textgym/Length-v0", policy=byte_lm(), reward=out)
    steps = []
    before = reward_fitting._Saver.__call__
    try:
        reward_fitting._Saver.__call__ = lambda self, state: steps.append(state()["step"])
        fit(files, out, resume=True)
    finally:
        reward_fitting._Saver.__call__ = before
    assert steps == list(range(8, STEPS + 1))
    fit(files, tmp_path / "whole")
    assert weights(out) == weights(tmp_path / "whole")


def test_an_interrupt_saves_and_says_how_to_go_on(files, tmp_path, monkeypatch):
    out = tmp_path / "rm"
    call, steps = reward_fitting._Saver.__call__, []

    def interrupted(self, state):
        steps.append(state()["step"])
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        call(self, state)

    monkeypatch.setattr(reward_fitting._Saver, "__call__", interrupted)
    arguments = ("fit-reward", files / "ratings.jsonl", "--policy", files / "lm", "--steps", STEPS)
    code, _, error = run_cli(*arguments, "--out", out, "--no-progress-bar")
    assert code == 130
    assert f"saved; go on with: textgym fit-reward --out {out} --resume" in error
    code, text, error = run_cli("fit-reward", "--out", out, "--resume", "--no-progress-bar")
    assert (code, error) == (0, "") and "held-out pair accuracy" in text
    assert steps == list(range(1, STEPS + 1))
    assert read_lines(out / "metrics.jsonl")[-1]["steps"] == STEPS
    fit(files, tmp_path / "whole")
    assert weights(out) == weights(tmp_path / "whole")


def test_other_settings_and_a_damaged_state_are_refused_when_going_on(files, tmp_path):
    fit(files, tmp_path / "rm", steps=2)
    with pytest.raises(InputError, match="the run has seed=0, but seed=1 was given"):
        fit(files, tmp_path / "rm", resume=True, seed=1)
    state = tmp_path / "rm" / "checkpoints" / "last" / "trainer.json"
    state.write_text(state.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(InputError, match=r"trainer\.json"):
        fit(files, tmp_path / "rm", resume=True)
