"""Checkpoints of agents and reward models: what they refuse, and that no code runs from them."""

import json
import shutil
import sys

import pytest
from front_door import ENV, byte_lm, small_agent

import textgym
from textgym.agents.building.checkpoint import read_agent, save_agent
from textgym.agents.building.reward_checkpoint import load_reward
from textgym.errors import InputError
from textgym.manifest import write_manifest
from textgym.policies.language_model.causal_lm import CausalLM


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("agent") / "agent"
    agent = small_agent(kl_coef=0.1)
    save_agent(agent, directory, environment=agent.text_environment)
    return directory


def test_the_language_model_of_a_checkpoint_opens_by_itself(checkpoint):
    lm, reference, state = read_agent(checkpoint)
    assert CausalLM.from_pretrained(checkpoint).config == lm.config == reference.config
    assert state["environment"]["id"] == ENV
    assert not any(parameter.requires_grad for parameter in reference.parameters())


def test_nothing_of_a_checkpoint_is_a_pickle(checkpoint):
    names = {path.suffix for path in checkpoint.rglob("*") if path.is_file()}
    assert names == {".json", ".safetensors"}


@pytest.mark.parametrize(
    "file", ["model.safetensors", "trainer.json", "trainer.safetensors", "reference/config.json"]
)
def test_a_changed_byte_is_noticed(checkpoint, tmp_path, file):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    path = copy / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=f"{path.name}: damaged"):
        textgym.load_agent(copy)
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}: missing"):
        textgym.load_agent(copy)


def test_other_directories_are_refused(tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match="no trainer state"):
        textgym.load_agent(tmp_path / "lm")
    with pytest.raises(InputError, match=r"no reward_model\.json"):
        load_reward(tmp_path / "lm")
    with pytest.raises(InputError, match="no such directory"):
        textgym.load_agent(tmp_path / "none")


def test_an_agent_of_another_algorithm_does_not_fit(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    nest = json.loads((copy / "trainer.json").read_text())
    text = json.dumps(nest).replace('["str", "value_net.weight"', '["str", "value_net.wait"')
    (copy / "trainer.json").write_text(text)
    write_manifest(copy)
    with pytest.raises(InputError, match="does not fit this agent"):
        textgym.load_agent(copy)


def test_only_our_agents_are_saved_as_a_directory(tmp_path):
    from stable_baselines3 import PPO

    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(InputError, match="only agents made by make_agent"):
        save_agent(agent, tmp_path / "agent", environment={})
    assert not (tmp_path / "agent").exists()


def test_loading_runs_no_code(checkpoint):
    """No pickle is opened, nothing is started, no module comes from outside of Python's path."""
    heard = []
    is_open = True

    def hook(event, arguments):
        if is_open and event in {"pickle.find_class", "os.system", "subprocess.Popen"}:
            heard.append((event, arguments))

    sys.addaudithook(hook)
    try:
        textgym.load_agent(checkpoint)
    finally:
        is_open = False
    assert heard == []
