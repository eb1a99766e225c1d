"""Numbers that make no sense: one line that names the keyword, before anything is written."""

import math

import numpy as np
import pytest
import torch
from front_door import run_cli, small_agent
from textgym_groups import front_door_agent
from textgym_testing import tiny_lm

from textgym import checks, registry
from textgym.checks import RANGES, check_device, check_memory, check_numbers, check_positive
from textgym.command_line.cli import LISTINGS
from textgym.command_line.options import flags_of
from textgym.command_line.verbs import VERBS, verb_flags
from textgym.errors import InputError
from textgym.registry import import_reference

WHOLE = "must be a whole number from 1"


@pytest.mark.parametrize(
    "word, keywords, message",
    [
        ("ppo", {"n_epochs": 0}, f"n_epochs {WHOLE} .* got 0"),
        ("ppo", {"n_steps": 0}, f"n_steps {WHOLE} .* got 0"),
        ("ppo", {"batch_size": 0}, f"batch_size {WHOLE} .* got 0"),
        ("dqn", {"train_freq": 0}, f"train_freq {WHOLE} .* got 0"),
        ("qrdqn", {"n_quantiles": 2.5}, f"n_quantiles {WHOLE} .* got 2.5"),
        ("ppo", {"learning_rate": -1.0}, "learning_rate must be a finite number .* got -1"),
        ("grpo", {"learning_rate": math.nan}, "learning_rate must be a finite number .* got nan"),
        ("ppo", {"learning_rate": math.inf}, "learning_rate must be a finite number .* got inf"),
        ("grpo", {"learning_rate": "fast"}, "learning_rate must be a finite number .* got 'fast'"),
        ("rloo", {"final_learning_rate": -1.0}, "final_learning_rate must be a finite number"),
        (
            "grpo",
            {"max_grad_norm": -0.5},
            "max_grad_norm must be a finite number above 0.* got -0.5",
        ),
        ("a2c", {"max_grad_norm": math.nan}, "max_grad_norm must be a finite number above 0"),
        ("trpo", {"target_kl": 0.0}, "target_kl must be a finite number above 0.* got 0.0"),
        ("ppo", {"value_warmup_rollouts": -1}, "value_warmup_rollouts must be a whole number"),
        ("ppo", {"device": "nope"}, "device must be 'auto', 'cpu' or one .* got 'nope'"),
        ("rloo", {"kl_coef": "much"}, "kl_coef must be a finite number from 0 .* got 'much'"),
        ("rloo", {"kl_coef": 0.1, "kl_target": math.nan}, "kl_target must be a finite number"),
        ("ppo", {"kl_estimator": "k9"}, "kl_estimator must be one of k1, k2, k3, got 'k9'"),
        ("dqn", {"reference": tiny_lm()}, "'dqn' has no KL term: leave kl_coef, .*reference out"),
        ("grpo", {"n_envs": 1}, r"n_envs \(1\) cannot be dealt in equal groups"),
        ("rloo", {"n_envs": 7}, r"n_envs \(7\) cannot be dealt in equal groups"),
        ("ppo", {"n_envs": 0}, f"n_envs {WHOLE} .* got 0"),
        (
            "dpo",
            {"preferences": 3},
            "preferences: expected a file, a list of rows or a dataset, got int",
        ),
    ],
)
def test_one_line_names_the_keyword(word, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        front_door_agent(word, **keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flags", ["--n-epochs 0", "--learning-rate inf", "--max-grad-norm -1"])
def test_the_command_line_ends_with_2_and_leaves_nothing(tmp_path, flags):
    out = tmp_path / "run"
    command = ["train", "textgym/Keyword-v0", "--agent", "ppo", "--out", str(out)]
    code, _, error = run_cli(*command, *flags.split())
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()


def test_schedules_none_and_two_part_frequencies_are_the_algorithms_business():
    check_numbers(
        {
            "learning_rate": lambda remaining: remaining,
            "target_kl": None,
            "n_groups": None,
            "train_freq": (2, "episode"),
            "device": "auto",
            "anything": "else",
        }
    )


def every_number():
    """Name and verb of every flag that takes a number, of every verb and algorithm."""
    found = {}
    for verb in VERBS:
        words = registry.agents.names() if verb == "train" else [""]
        for word in words:
            for flag in verb_flags(verb, ["--agent", word] if word else []):
                if flag.kind in ("integer", "number"):
                    found.setdefault(flag.name, verb)
    for name, (_, target) in LISTINGS.items():
        for flag in flags_of(import_reference(target)):
            if flag.kind in ("integer", "number"):
                found.setdefault(flag.name, name)
    return found


def test_every_number_of_every_verb_has_a_range():
    missing = {name: verb for name, verb in every_number().items() if name not in RANGES}
    assert missing == {}, "textgym/checks.py has no range for these"


@pytest.mark.parametrize(
    "name, inside, outside",
    [
        ("seed", [0, 2**32 - 1, np.int64(3)], [-1, 2**32, 1.0, "1", True]),
        ("gamma", [0, 1, 0.5, np.float32(0.5)], [-0.01, 1.01, math.nan, math.inf, False]),
        ("gae_lambda", [0, 1], [1.5]),
        ("tau", [1, 1e-3], [0, 1.1, -1]),
        ("dropout", [0, 0.99], [1, -0.1]),
        ("label_smoothing", [0, 0.49], [0.5]),
        ("top_p", [1, 0.1], [0, 1.1]),
        ("line_search_shrinking_factor", [0.5], [0, 1]),
        ("gradient_steps", [-1, 0, 5], [-2, 1.5]),
        ("ent_coef", [0, 0.01], [-0.1, math.inf]),
        ("port", [0, 65535], [-1, 65536]),
        ("steps", [1, 10**12], [0, -5, 10**30]),
        ("n_steps", [1], [10**10]),
    ],
)
def test_the_ends_of_a_range(name, inside, outside):
    for value in inside:
        check_numbers({name: value})
    for value in outside:
        with pytest.raises(InputError, match=f"^--it must be a .*, got {value!r}$"):
            check_numbers({name: value}, label=lambda name: "--it")


def test_a_positive_number_below_another():
    check_positive("clip_range", 0.2, below=1.0)
    for value in (0, 1.0, math.nan, True, "0.2"):
        with pytest.raises(InputError, match="clip_range must be a number above 0, below 1"):
            check_positive("clip_range", value, below=1.0)


@pytest.mark.parametrize("device", ["meta", "nope", "", "cpu:3", 3.5, "xla"])
def test_a_device_that_is_not_there(device):
    check_numbers({"device": "auto"})
    check_device("cpu")
    check_device(torch.device("cpu"))
    with pytest.raises(
        InputError, match=r"^--device must be 'auto', 'cpu' or one .* got "
    ) as error:
        check_numbers({"device": device}, label=lambda name: "--device")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="got 'cuda'"):
        front_door_agent("ppo", device="cuda")


def test_more_memory_than_there_is(monkeypatch):
    monkeypatch.setattr(checks, "machine_memory", lambda: 8e9)
    check_memory(7.9e9, "it", "less")
    with pytest.raises(
        InputError, match=r"^it takes 80 GB of memory, but .* has 8.0 GB: take less$"
    ):
        check_memory(80e9, "it", "take less")
    assert 1e8 < checks.machine_memory() < 1e16


@pytest.mark.parametrize(
    "word, keywords, shown",
    [
        ("ppo", {"n_envs": 400}, "n_envs=400 with rows of 51 tokens"),
        ("ppo", {"n_steps": 8192, "batch_size": 64}, "n_steps=8192 with n_envs=4"),
        ("grpo", {"n_groups": 512, "num_generations": 4}, "n_groups=512"),
        ("dqn", {"buffer_size": 100_000}, "buffer_size=100000"),
    ],
)
def test_a_rollout_that_exceeds_the_memory(monkeypatch, word, keywords, shown):
    """On a machine of a megabyte, so that nothing of the size is ever made."""
    monkeypatch.setattr(checks, "machine_memory", lambda: 1e6)
    small_agent(word)
    with pytest.raises(InputError, match=f"^{shown}.* takes 0.0 GB of memory, but this machine"):
        small_agent(word, **keywords)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"temprature": 1.0}, r"^unknown key of policy_kwargs: 'temprature': did you mean"),
        ([1], r"^policy_kwargs must be a table of settings, got \[1\]"),
        ("model", r"^policy_kwargs must be a table of settings, got 'model'"),
    ],
)
def test_the_policys_table_has_known_keys(given, message):
    with pytest.raises(InputError, match=message):
        small_agent(policy_kwargs=given)
