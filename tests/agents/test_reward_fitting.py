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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import textgym
from textgym.agents.building.reward_checkpoint import load_reward
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


def test_a_frozen_trunk_with_heads_that_disagree(files, tmp_path):
    keywords = {"freeze": True, "heads": 3, "penalty": 1.0, "per_token": True, "steps": None}
    report = fit(files, tmp_path / "rm", objective="davidson", **keywords)
    assert report.learning_curve and report.low <= report.pair_accuracy <= report.high
    model = load_reward(tmp_path / "rm")
    answer = model(["a"], ["ab"])
    assert set(answer.components) == {"mean", "disagreement"}
    assert [span[:2] for span in answer.spans[0]] == [(0, 1), (1, 2)]
    before = load_file(files / "lm" / "model.safetensors")
    after = load_file(tmp_path / "rm" / "checkpoints" / "best" / "trunk" / "model.safetensors")
    assert all((before[name] == after[name]).all() for name in before)
    events = EventAccumulator(str(tmp_path / "rm" / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    assert events.Tags()["images"] == ["reward_model/reliability"]
    curve = events.Scalars("reward_model/pair_accuracy_over_labels")
    assert [point.step for point in curve] == [labels for labels, _ in report.learning_curve]
    held = events.Scalars("reward_model/held_out/calibration_error")
    assert held[-1].value == pytest.approx(report.calibration_error)
    [image] = events.Images("reward_model/reliability")
    assert (image.width, image.height) == (462, 440)


def test_n_grams_and_a_word_list_beside_a_whole_trunk(files, tmp_path):
    fit(files, tmp_path / "rm", ngrams=True, lexicon=True)
    model = load_reward(tmp_path / "rm")
    assert [member.name for member in model.members] == ["rm", "ngrams", "lexicon"]
    assert model([""], ["aaa"])[0] > model([""], ["bbb"])[0]


def test_judged_steps_on_the_command_line(files, tmp_path):
    rows = [
        {"prompt": f"{k}: ", "completions": [f"{k} a", "b"], "labels": [True, k % 3 == 0]}
        for k in range(30)
    ]
    data = tmp_path / "steps.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ("--policy", files / "lm", "--out", tmp_path / "rm", "--objective", "process")
    code, text, error = run_cli("fit-reward", data, *arguments, "--no-progress-bar")
    assert (code, error) == (0, "") and "held-out step accuracy" in text
    spans = load_reward(tmp_path / "rm")(["1: "], ["1 a\nb"]).spans[0]
    assert [span[:2] for span in spans] == [(0, 4), (4, 5)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"objective": "process", "freeze": True}, "takes no freeze"),
        ({"heads": 2}, "need freeze=True"),
        ({"penalty": 1.0}, "heads of 2 or more"),
        ({"ngrams": True, "objective": "ordinal"}, "learns from pairs"),
        ({"lexicon": True}, "goes with ngrams"),
        ({"objective": "bradley"}, "bradley_terry"),
        ({"layers": 2}, "leave it out"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(files, tmp_path, keywords, message):
    with pytest.raises(InputError, match=message):
        fit(files, tmp_path / "rm", **keywords)
    assert not (tmp_path / "rm").exists()
