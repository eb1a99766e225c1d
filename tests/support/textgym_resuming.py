"""Runs that are compared to the last bit, and a small task that every algorithm plays."""

import contextlib
import hashlib
import json
from unittest import mock

import textgym
from textgym import registry
from textgym.agents.runs.run import Run

ID = "test/Resumed-v0"
PROMPTS = ["a", "bcd", "cdabb"]
# What makes a few hundred tokens several rollouts of each algorithm.
SMALL = {
    "ppo": {"n_steps": 10, "batch_size": 20, "n_epochs": 2, "kl_coef": 0.1, "kl_target": 0.5},
    "a2c": {"n_steps": 10},
    "trpo": {"n_steps": 10, "batch_size": 20, "cg_max_steps": 3, "n_critic_updates": 2},
    "maskable_ppo": {"n_steps": 10, "batch_size": 20, "n_epochs": 2},
    "nlpo": {"n_steps": 10, "batch_size": 20, "n_epochs": 2, "mask_update_interval": 2},
    "dqn": {"train_freq": 10, "batch_size": 16, "gradient_steps": 2, "buffer_size": 200,
            "target_update_interval": 30, "exploration_initial_eps": 0.3,
            "exploration_final_eps": 0.2},
    "qrdqn": {"train_freq": 10, "batch_size": 16, "gradient_steps": 2, "buffer_size": 100,
              "target_update_interval": 30, "learning_starts": 60},
    "grpo": {"num_generations": 2, "n_epochs": 2, "batch_size": 20, "kl_coef": 0.1},
    "rloo": {"num_generations": 2},
    "reinforce": {"baseline": "running"},
    "best_of_n": {"num_generations": 4},
    "dpo": {"num_generations": 2, "n_groups": 4},
}  # fmt: skip


@contextlib.contextmanager
def interrupted_at(step):
    """Ctrl-C once the figures of a step are recorded."""
    add_metrics = Run.add_metrics

    def add(run, figures):
        add_metrics(run, figures)
        if figures["step"] == step:
            raise KeyboardInterrupt

    with mock.patch.object(Run, "add_metrics", add):
        yield


def score(prompts, completions, **columns):
    """Letters a and b: rewards that differ in most groups."""
    return [text.count("a") + 0.5 * text.count("b") for text in completions]


def register_task(**fields):
    """Register the task as `ID`; the caller takes it out again."""
    fields = {"prompts": PROMPTS, "reward": score, "max_new_tokens": 6, **fields}
    textgym.register(ID, **fields)


def unregister_task():
    registry.tasks.unregister(ID)


def tensors_of(nest, path=""):
    """(path, value) of everything in a nest, tensors as bytes."""
    if isinstance(nest, dict):
        for key in sorted(nest, key=str):
            yield from tensors_of(nest[key], f"{path}.{key}")
    elif isinstance(nest, list | tuple):
        for i, value in enumerate(nest):
            yield from tensors_of(value, f"{path}.{i}")
    elif hasattr(nest, "numpy"):
        yield path, nest.detach().cpu().numpy().tobytes()
    else:
        yield path, repr(nest).encode()


def digests(agent):
    """Of every tensor of the policy and of its optimizer: what differs is named."""
    nest = {"policy": agent.policy.state_dict(), "optimizer": agent.policy.optimizer.state_dict()}
    return {path: hashlib.sha256(value).hexdigest() for path, value in tensors_of(nest)}


def rows_of(path):
    """The rows of a record without what a clock measured."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
