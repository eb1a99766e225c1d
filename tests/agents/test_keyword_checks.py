"""Numbers that make no sense: one line that names the keyword, before anything is written."""

import math

import pytest
from front_door import run_cli
from textgym_groups import front_door_agent
from textgym_testing import tiny_lm

from textgym.agents.keyword_checks import check_keywords
from textgym.errors import InputError


@pytest.mark.parametrize(
    "word, keywords, message",
    [
        ("ppo", {"n_epochs": 0}, "n_epochs must be a whole number, at least 1, got 0"),
        ("ppo", {"n_steps": 0}, "n_steps must be a whole number, at least 1, got 0"),
        ("ppo", {"batch_size": 0}, "batch_size must be a whole number, at least 1, got 0"),
        ("dqn", {"train_freq": 0}, "train_freq must be a whole number, at least 1, got 0"),
        ("qrdqn", {"n_quantiles": 2.5}, "n_quantiles must be a whole number, at least 1, got 2.5"),
        ("ppo", {"learning_rate": -1.0}, "learning_rate must be a finite number from 0 up, got -1"),
        ("grpo", {"learning_rate": math.nan}, "learning_rate must be a finite number .* got nan"),
        ("ppo", {"learning_rate": math.inf}, "learning_rate must be a finite number .* got inf"),
        ("grpo", {"learning_rate": "fast"}, "learning_rate must be a finite number .* got 'fast'"),
        ("rloo", {"final_learning_rate": -1.0}, "final_learning_rate must be a finite number"),
        (
            "grpo",
            {"max_grad_norm": -0.5},
            "max_grad_norm must be a finite number above 0, got -0.5",
        ),
        ("a2c", {"max_grad_norm": math.nan}, "max_grad_norm must be a finite number above 0"),
        ("trpo", {"target_kl": 0.0}, "target_kl must be a finite number above 0, got 0.0"),
        ("ppo", {"value_warmup_rollouts": -1}, "value_warmup_rollouts must be a finite number"),
        ("ppo", {"device": "nope"}, "device must be 'auto', or torch's name .* got 'nope'"),
        ("rloo", {"kl_coef": "much"}, "kl_coef must be a finite number from 0 up, got 'much'"),
        ("rloo", {"kl_coef": 0.1, "kl_target": math.nan}, "kl_target must be a finite number"),
        ("ppo", {"kl_estimator": "k9"}, "kl_estimator must be one of k1, k2, k3, got 'k9'"),
        ("dqn", {"reference": tiny_lm()}, "'dqn' has no KL term: leave kl_coef, .*reference out"),
        ("grpo", {"n_envs": 1}, r"n_envs \(1\) cannot be dealt in equal groups"),
        ("rloo", {"n_envs": 7}, r"n_envs \(7\) cannot be dealt in equal groups"),
        ("ppo", {"n_envs": 0}, "n_envs must be a whole number, at least 1, got 0"),
        ("dpo", {"preferences": 3}, "preferences must be a .* or a list of Preference, got int"),
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
    check_keywords(
        {
            "learning_rate": lambda remaining: remaining,
            "target_kl": None,
            "n_groups": None,
            "train_freq": (2, "episode"),
            "device": "auto",
            "anything": "else",
        }
    )
