"""A run that learns from people, killed with SIGKILL in a rollout: the store and the weights."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from textgym_people import likes_a, new_store
from textgym_resuming import ID, SMALL, digests, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.reward_models.people.simulated import answer_open
from textgym.reward_models.people.store import LabelStore

TOKENS, KILLED_AT = 400, 230  # rollouts of 40
OF_THE_MOMENT = ("human/answers", "human/waiting")  # what the store held just then
SUPPORT = Path(__file__).parents[1] / "support"
pytestmark = pytest.mark.filterwarnings("ignore:.* only collects:UserWarning")

SCRIPT = """
    import os, signal, sys
    import torch
    from test_killed_human_runs import KILLED_AT, Person, run
    from textgym_resuming import register_task
    from textgym_testing import letter_tokenizer

    class Dies(Person):
        def _on_step(self):
            if self.num_timesteps >= KILLED_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

    torch.set_num_threads(int(sys.argv[2]))
    register_task(tokenizer=letter_tokenizer())
    run(sys.argv[1], "killed", Dies)
"""


class Person(BaseCallback):
    """Answers three pairs before each rollout, on a store that nobody has open just then."""

    def __init__(self, store):
        super().__init__()
        self.store = store

    def _on_rollout_start(self):
        if 0 < self.num_timesteps <= 320:
            with LabelStore(self.store) as opened:
                answer_open(opened, likes_a, most=3)

    def _on_step(self):
        return True


def run(folder, name, person=None, **keywords):
    """A run beside its store, or what is left of it."""
    store = f"{folder}/{name}.db"
    return textgym.train(
        ID,
        agent="ppo",
        policy=f"{folder}/lm",
        reward=f"human,store={store},run=mine,first=4,every=3,waiting=6,members=3,hint=none",
        timesteps=TOKENS,
        n_envs=4,
        out=f"{folder}/{name}",
        progress_bar=False,
        report=lambda line: None,
        callback=None if person is None else person(store),
        checkpoint_tokens=100,
        learning_rate=0.01,
        **SMALL["ppo"],
        **keywords,
    )


def said(path):
    """(items, answers, refits) without keys and times, in order."""
    with LabelStore(path, is_read_only=True) as store:
        items = [(i.id, i.prompt, [t.text for t in i.texts], i.query) for i in store.items()]
        answers = [(e.id, e.item, e.winner, e.is_swapped) for e in store.events()]
        return items, answers, [(r.step, r.answers, dict(r.details)) for r in store.refits()]


def test_the_killed_run_lost_nothing_and_ends_as_the_one_that_was_left_alone(tmp_path):
    for name in ("whole", "killed"):
        new_store(tmp_path / f"{name}.db").close()
    register_task(tokenizer=letter_tokenizer())
    try:
        tiny_lm(spread=6.0, num_hidden_layers=1).save_pretrained(tmp_path / "lm")
        whole = run(tmp_path, "whole", Person)
        paths = [str(Path(__file__).parent), str(SUPPORT), os.environ.get("PYTHONPATH", "")]
        died = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), tmp_path, str(torch.get_num_threads())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        assert died.returncode == -9
        everything, until_then = said(tmp_path / "whole.db"), said(tmp_path / "killed.db")
        for all_of_it, part in zip(everything, until_then, strict=True):
            assert part == all_of_it[: len(part)] and 0 < len(part) < len(all_of_it)
        steps = [step for step, _, _ in everything[2]]
        assert min(steps) < KILLED_AT < max(steps)

        before = textgym.load_agent(tmp_path / "killed", reward="length").num_timesteps
        assert min(steps) <= before < 200  # two refits are made again before the one it died in
        # What people said since is in the store; nobody is there to answer again.
        shutil.copy(tmp_path / "whole.db", tmp_path / "killed.db")
        resumed = run(tmp_path, "killed", resume=True)
    finally:
        unregister_task()
    assert resumed.num_timesteps == whole.num_timesteps == TOKENS
    assert digests(resumed) == digests(whole)
    rows = [
        [{k: v for k, v in row.items() if k not in OF_THE_MOMENT} for row in rows_of(path)]
        for path in (tmp_path / "whole/metrics.jsonl", tmp_path / "killed/metrics.jsonl")
    ]
    assert rows[0] == rows[1]
    assert said(tmp_path / "killed.db") == everything
