"""What is given at loading wins over what was saved; what was not given is as it was."""

import pytest
import torch
import yaml
from front_door import ENV, byte_lm, small_agent
from textgym_testing import assert_same_weights

import textgym
from textgym.agents.building.checkpoint import read_agent, save_agent
from textgym.agents.building.environment_record import environment_record
from textgym.agents.runs.callbacks import StopWhen
from textgym.command_line.cli import main
from textgym.command_line.config_file import read_config_file
from textgym.errors import InputError
from textgym.optimization import ScaledAdam
from textgym.policies.language_model.causal_lm import CausalLM

QUIET = {"progress_bar": False, "report": lambda line: None}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An agent with settings of its own, some rollouts old."""
    agent = small_agent(
        kl_coef=0.2,
        kl_target=0.5,
        learning_rate=1e-2,
        value_lr_scale=4.0,
        value_warmup_rollouts=2,
        policy_kwargs={"optimizer_kwargs": {"weight_decay": 0.1, "betas": (0.8, 0.9)}},
    )
    agent.learn(384)
    directory = tmp_path_factory.mktemp("saved") / "agent"
    save_agent(agent, directory)
    return agent, directory


class Other(ScaledAdam):
    """Another optimizer."""


def groups(agent):
    trunk, head = agent.policy.optimizer.param_groups
    return trunk, head


def test_without_anything_given_the_optimizer_is_as_it_was(saved):
    agent, directory = saved
    again = textgym.load_agent(directory)
    for ours, theirs in zip(groups(agent), groups(again), strict=True):
        assert {k: v for k, v in ours.items() if k != "params"} == {
            k: v for k, v in theirs.items() if k != "params"
        }
    assert groups(again)[0]["start_step"] == 8 and groups(again)[1]["lr_scale"] == 4.0
    assert groups(again)[0]["steps_done"] == 12 and groups(again)[0]["weight_decay"] == 0.1
    assert again.policy.trunk_start_step == 8 and again.policy.value_lr_scale == 4.0


@pytest.mark.parametrize(
    "given, group, name, value",
    [
        ({"learning_rate": 5e-4}, 0, "lr", 5e-4),
        ({"learning_rate": 5e-4, "final_learning_rate": 1e-5}, 1, "lr", 5e-4),
        ({"value_lr_scale": 1.0}, 1, "lr_scale", 1.0),
        ({"value_warmup_rollouts": 50}, 0, "start_step", 200),
        ({"value_warmup_rollouts": 50}, 0, "start_update", 50),
        ({"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.3}}}, 0, "weight_decay", 0.3),
        ({"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.3}}}, 1, "betas", (0.9, 0.999)),
    ],
)
def test_what_is_given_stands_in_the_optimizer(saved, given, group, name, value):
    agent, directory = saved
    again = textgym.load_agent(directory, **given)
    assert groups(again)[group][name] == value
    assert groups(again)[group]["steps_done"] == 12
    assert groups(again)[group]["updates_begun"] == 3
    moments = agent.policy.optimizer.state_dict()["state"]
    for index, state in again.policy.optimizer.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], moments[index]["exp_avg"])
    untouched = {"lr": 1e-2, "lr_scale": (1.0, 4.0)[group]}
    for key in untouched.keys() - {name, "lr" if "learning_rate" in given else ""}:
        assert groups(again)[group][key] == untouched[key], key


def test_another_optimizer_begins_afresh(saved):
    _, directory = saved
    other = {"optimizer_class": Other}
    again = textgym.load_agent(directory, policy_kwargs=other)
    assert type(again.policy.optimizer) is Other
    assert again.policy.optimizer.state_dict()["state"] == {}


def test_what_is_given_wins_in_the_algorithm_the_policy_and_the_kl_term(saved):
    agent, directory = saved
    kl = agent.rollout_buffer.kl
    assert textgym.load_agent(directory).rollout_buffer.kl.coefficient == kl.coefficient != 0.2
    again = textgym.load_agent(
        directory,
        clip_range=0.05,
        temperature=0.5,
        n_envs=2,
        kl_coef=0.7,
        kl_target=3.0,
        env_kwargs={"max_new_tokens": 9},
        reward="length,target=2",
    )
    assert again.clip_range(1.0) == 0.05 and again.n_envs == 2
    assert again.policy.sampling.temperature == again.rollout_buffer.kl.sampling.temperature == 0.5
    assert (again.rollout_buffer.kl.coefficient, again.rollout_buffer.kl.target) == (0.7, 3.0)
    task = again.env.get_attr("task")[0]
    assert (task.max_new_tokens, task.reward.target) == (9, 2)
    only_target = textgym.load_agent(directory, kl_target=3.0).rollout_buffer.kl
    assert (only_target.coefficient, only_target.target) == (kl.coefficient, 3.0)


def test_a_reference_that_is_given_is_the_reference(saved):
    other = byte_lm(seed=5)
    again = textgym.load_agent(saved[1], reference=other)
    assert_same_weights(again.rollout_buffer.kl.model, other)


def test_a_seed_that_is_given_draws_anew(saved):
    agent, directory = saved
    same = textgym.load_agent(directory)
    assert torch.equal(same.policy.generator.get_state(), agent.policy.generator.get_state())
    again = textgym.load_agent(directory, seed=7)
    assert again.seed == 7 and again.policy.generator is None
    assert again.policy.seed == small_agent(seed=7).policy.seed != agent.policy.seed


def test_a_seed_that_is_given_shuffles_anew(tmp_path):
    agent = small_agent("grpo", lm=byte_lm())
    agent.learn(128)
    save_agent(agent, tmp_path / "agent")
    assert textgym.load_agent(tmp_path / "agent").rng_state == agent.rng_state
    assert textgym.load_agent(tmp_path / "agent", seed=7).rng_state != agent.rng_state


@pytest.mark.parametrize("name", ["agent", "policy"])
def test_what_a_checkpoint_is_cannot_be_given(saved, name):
    with pytest.raises(InputError, match=f"load_agent brings {name} back from .*leave {name}="):
        textgym.load_agent(saved[1], **{name: "x"})


def test_objects_are_asked_for_again(tmp_path):
    agent = small_agent(policy_kwargs={"optimizer_class": Other})
    save_agent(agent, tmp_path / "a")
    with pytest.raises(InputError, match="an object as 'policy_kwargs'"):
        textgym.load_agent(tmp_path / "a")
    with pytest.raises(InputError, match=r"environment_record\(\.\.\.\) gives"):
        save_agent(agent, tmp_path / "b", environment={"id": ENV, "reward": None, "env_kwargs": {}})
    assert not (tmp_path / "b").exists()
    record = environment_record(ENV, reward=len, env_kwargs={"stop": ["."], "reply": print})
    assert record == {
        "id": ENV,
        "reward": None,
        "env_kwargs": {"stop": ["."]},
        "not_saved": ["reply", "reward"],
    }


def test_a_run_with_a_callback_asks_for_it_again(tmp_path, capsys):
    callback = StopWhen(lambda: False)
    small = {"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1, **QUIET}
    out = tmp_path / "a"
    textgym.train(ENV, out=out, timesteps=32, callback=callback, **small)
    assert yaml.safe_load((out / "config.yaml").read_text())["not_saved"] == ["callback"]
    with pytest.raises(InputError, match="an object as 'callback', which its record does not hold"):
        textgym.train(ENV, out=out, timesteps=64, resume=True, **QUIET)
    for i, given in enumerate((None, callback)):
        textgym.train(ENV, out=out, timesteps=64 + 32 * i, resume=True, callback=given, **QUIET)
    known = yaml.safe_load((out / "config.yaml").read_text()).keys() - {"verb", "not_saved"}
    with pytest.raises(InputError, match="made with an object as 'callback', which no file holds"):
        read_config_file(out / "config.yaml", verb="train", known=known)


RUNS = {
    "ppo": {"kl_coef": 0.1, "final_learning_rate": 1e-4},
    "a2c": {"value_warmup_rollouts": 0},
    "dqn": {"q_temperature": 0.3},
    "grpo": {"num_generations": 2},
    "best_of_n": {},
    "nlpo": {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "value_warmup_rollouts": 0},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_made_again_from_its_settings_is_the_same(tmp_path, name):
    agent = small_agent(name, lm=byte_lm(), out=tmp_path / "a", **RUNS[name])
    byte_lm().save_pretrained(tmp_path / "lm")
    settings = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert settings.keys() >= {"learning_rate", "n_envs", "seed"} and settings["agent"] == name
    if name == "ppo":
        shown = {key: settings[key] for key in ("gamma", "batch_size", "value_lr_scale", "n_steps")}
        assert shown == {"gamma": 1.0, "batch_size": 64, "value_lr_scale": 10.0, "n_steps": 32}
        assert settings["value_warmup_rollouts"] == 1 and settings["clip_range"] == 0.2
    agent.learn(256, log_interval=None if name == "dqn" else 1)
    command = ["train", "--config", str(tmp_path / "a" / "config.yaml"), "--no-progress-bar"]
    command += ["--out", str(tmp_path / "b"), "--timesteps", "256"]
    assert main(command) == 2  # the policy was an object
    assert main([*command, "--policy", str(tmp_path / "lm")]) == 0
    first, second = (CausalLM.from_pretrained(tmp_path / name) for name in "ab")
    assert_same_weights(first, second)
    assert not torch.equal(first.lm_head.weight, byte_lm().lm_head.weight)
    ours, theirs = (read_agent(tmp_path / name)[2]["settings"]["keywords"] for name in "ab")
    assert ours == theirs
