"""Runs that were killed with SIGKILL in the middle of a rollout end, resumed, to the last bit."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import ConvertCallback
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from textgym_resuming import ID, SMALL, digests, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym

WORDS = ("ppo", "grpo", "dqn", "dpo")
TOKENS, KILLED_AT = 400, 230
EVERY = {"dpo": 10**6}  # tokens between two checkpoints: it has that of its start only
SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")

# One process pays for the imports, and its children die.
SCRIPT = """
    import os, signal, sys
    import torch
    from test_killed_runs import KILLED_AT, WORDS, run
    from textgym_resuming import register_task
    from textgym_testing import letter_tokenizer

    folder, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    register_task(tokenizer=letter_tokenizer())

    def die(names, _):
        if names["self"].num_timesteps >= KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    for word in WORDS:
        child = os.fork()
        if child == 0:
            run(word, f"{folder}/{word}", folder, at_each_step=die)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, word
"""


def run(word, out, folder, *, at_each_step=lambda names, _: True, **keywords):
    """A whole run, or what is left of it, with a checkpoint every `EVERY` tokens unless said."""
    settings = {"learning_rate": 0.01, **SMALL[word]}
    if word == "dqn":
        settings["gradient_steps"] = 4
    return textgym.train(
        ID,
        agent=word,
        policy=f"{folder}/lm",
        timesteps=TOKENS,
        n_envs=4,
        out=out,
        progress_bar=False,
        report=lambda line: None,
        callback=ConvertCallback(at_each_step),
        **{"checkpoint_tokens": EVERY.get(word, 100), **settings, **keywords},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs that were killed, and the model that all began with."""
    folder = tmp_path_factory.mktemp("killed")
    register_task(tokenizer=letter_tokenizer())
    tiny_lm(spread=6.0, num_hidden_layers=1).save_pretrained(folder / "lm")
    paths = [str(Path(__file__).parent), str(SUPPORT), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), folder, str(torch.get_num_threads())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
    )
    yield folder
    unregister_task()


@pytest.mark.parametrize("word", WORDS)
def test_a_killed_run_ends_as_one_that_was_not(word, folder, tmp_path):
    whole = run(word, tmp_path / "whole", folder, checkpoint_tokens=10**6)
    killed = folder / word
    before = textgym.load_agent(killed).num_timesteps
    assert (before > 0) == (word not in EVERY) and before <= KILLED_AT
    assert rows_of(killed / "metrics.jsonl")[-1]["step"] >= before
    resumed = run(word, killed, folder, resume=True)
    assert digests(resumed) == digests(whole)
    for record in ("metrics.jsonl", "samples.jsonl"):
        assert rows_of(killed / record) == rows_of(tmp_path / "whole" / record)
    assert tensorboard(killed) == tensorboard(tmp_path / "whole")


def tensorboard(out):
    """{tag: [(step, value), ...]} as TensorBoard shows them, without what a clock measured."""
    [place] = (out / "tensorboard").iterdir()
    events = EventAccumulator(str(place), tensor_size_guidance={"": 0}).Reload()
    shown = {
        tag: [(e.step, e.tensor_proto.SerializeToString()) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }
    assert all(len({step for step, _ in rows}) == len(rows) for rows in shown.values())
    return {tag: rows for tag, rows in shown.items() if not tag.startswith("time/")}
