"""Memory that runs out in training: one line that says what to lower, and a run to go on with."""

import re

import pytest
import torch
from front_door import ENV, byte_lm, run_cli, small_agent
from stable_baselines3 import PPO

import textgym
from textgym.errors import InputError, OutOfMemoryError
from textgym.out_of_memory import explained, is_out_of_memory
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

TOO_MUCH = 2**60  # bytes: more than any machine maps


def asks_too_much(*arguments, **keywords):
    torch.empty(TOO_MUCH, dtype=torch.uint8)  # torch's own error, whatever its words


def test_torch_and_python_are_understood_and_other_errors_stay():
    with pytest.raises(RuntimeError) as caught:
        asks_too_much()
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError("no"))
    other = InputError("something else")
    assert explained(other, in_update=True) is other
    ours = explained(caught.value, in_update=True)
    assert explained(ours, in_update=False) is ours  # what a verb hears was told below


@pytest.mark.parametrize(
    "owner, name, words",
    [
        (TextActorCriticPolicy, "evaluate_actions", "in the update: give micro_batch_tokens=512"),
        (TextActorCriticPolicy, "forward", "in the rollout: lower n_envs"),
    ],
)
def test_the_line_names_what_to_lower_and_the_run_goes_on(
    tmp_path, monkeypatch, owner, name, words
):
    agent = small_agent(out=tmp_path / "run")
    agent.learn(256)
    before = agent.num_timesteps
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, asks_too_much)
        with pytest.raises(OutOfMemoryError) as caught:
            agent.learn(256, reset_num_timesteps=False)
    line = str(caught.value)
    assert words in line and "--resume --force-resume; the agent is saved in" in line
    assert "\n" not in line and caught.value.__cause__ is None
    del agent
    again = textgym.load_agent(tmp_path / "run")
    assert again.num_timesteps >= before
    again.learn(128, reset_num_timesteps=False)
    assert again.num_timesteps >= before + 128


def test_at_the_command_line_it_is_one_line_and_exit_2(tmp_path, monkeypatch):
    byte_lm().save_pretrained(tmp_path / "lm")
    words = ["train", ENV, "--policy", tmp_path / "lm", "--n-envs", "4", "--timesteps", "256"]
    words += ["--out", tmp_path / "run", "--no-progress-bar"]
    with monkeypatch.context() as patch:
        patch.setattr(PPO, "train", asks_too_much)
        code, _, said = run_cli(*words)
    assert code == 2
    assert re.search(r"error: out of memory in the update: .* saved in .*last$", said.strip())
    smaller = ["--micro-batch-tokens", 64, "--batch-size", 32]
    code, _, said = run_cli(*words, *smaller, "--resume")
    assert code == 2 and "or go on all the same with --force-resume" in said
    words[words.index("--n-envs") + 1] = "2"
    words[words.index("256")] = "512"
    code, _, said = run_cli(*words, *smaller, "--resume", "--force-resume")
    assert code == 0, said
    agent = textgym.load_agent(tmp_path / "run")
    assert (agent.n_envs, agent.batch_size, agent.policy.micro_batch_tokens) == (2, 32, 64)
    code, _, said = run_cli(*words, *smaller, "--resume")  # the record has them now
    assert code == 0, said
