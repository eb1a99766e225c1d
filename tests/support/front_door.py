"""A tiny model on bytes, and runs of it, for tests of the front door."""

import contextlib
import io
import json

import textgym
from textgym.command_line.cli import main
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer

ENV = "textgym/Length-v0"
SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 96}


def byte_lm(seed=0, **shape):
    """One layer, 16 wide, context 96."""
    return CausalLM.new(Tokenizer.byte(), seed=seed, **{**SHAPE, **shape})


def small_agent(name="ppo", *, lm=None, n_envs=4, env=ENV, **keywords):
    """An agent whose rollouts are 128 tokens."""
    if name == "ppo":
        keywords = {"n_steps": 32, "batch_size": 64, "n_epochs": 2, **keywords}
    return textgym.make_agent(
        name, env, policy=lm or byte_lm(), n_envs=n_envs, **{"seed": 0, **keywords}
    )


def read_lines(path):
    """The rows of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_cli(*arguments):
    """Exit code, standard output and standard error of a command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()
