"""A checkpoint is data: loading an agent imports and calls nothing that the checkpoint names."""

import sys

import pytest

import textgym
from textgym.directories import atomic_directory
from textgym.errors import InputError
from textgym.policies import CausalLM
from textgym.policies.language_model.checkpoint import (
    checkpoint_directory,
    read_trainer_state,
    write_model,
    write_trainer_state,
)


def save(path, **environment):
    """A trained agent whose checkpoint names something else as its environment or reward."""
    lm = CausalLM.new(textgym.Tokenizer.byte(), hidden_size=16, num_hidden_layers=1)
    lm.save_pretrained(path / "lm")
    textgym.train(
        "textgym/Keyword-v0",
        policy=path / "lm",
        out=path / "run",
        timesteps=8,
        n_envs=2,
        n_steps=4,
        batch_size=4,
        progress_bar=False,
        report=lambda text: None,
    )
    directory = checkpoint_directory(path / "run")
    state, trained = read_trainer_state(directory), CausalLM.from_pretrained(directory)
    state["environment"] |= environment
    with atomic_directory(directory) as temporary:
        write_model(trained, temporary)
        write_trainer_state(state, temporary)
    return path / "run"


@pytest.mark.parametrize("is_override", [False, True])
def test_a_reward_that_is_code_is_neither_imported_nor_called(tmp_path, is_override):
    marker = tmp_path / "called"
    spec = f"pathlib:Path,args={marker}"  # any callable of the standard library will do
    spec = spec if is_override else f"os:mkdir,path={marker}"
    named = {"reward": spec} if not is_override else {"env_kwargs": {"reward": spec}}
    run = save(tmp_path, **named)
    with pytest.raises(InputError, match="a checkpoint imports no code: pass reward=") as caught:
        textgym.load_agent(run)
    assert "\n" not in str(caught.value) and not marker.exists()
    agent = textgym.load_agent(run, reward="length,target=3")  # what the caller passes is trusted
    assert agent.num_timesteps == 8


def test_an_environment_of_a_module_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "evil_module_xyz.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = save(tmp_path, id="evil_module_xyz:textgym/Keyword-v0")
    with pytest.raises(InputError, match="import evil_module_xyz first if you trust it"):
        textgym.load_agent(run)
    assert "evil_module_xyz" not in sys.modules
