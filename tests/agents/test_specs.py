"""Three kinds of algorithm: their settings, where the KL term goes, steps, keywords with help."""

import pytest

from textgym.agents import CriticFreeSpec, EpisodeReplayBuffer, EpisodeRolloutBuffer
from textgym.agents.building import words
from textgym.agents.building.build import build_agent
from textgym.agents.building.keywords import keywords_of
from textgym.agents.building.specs import spec_of
from textgym.errors import InputError, UnknownNameError
from textgym.registry import agents


@pytest.mark.parametrize(
    "spec, settings, steps",
    [
        (words.PPO, {"n_steps": 64, "batch_size": 100, "n_epochs": 4}, 4 * 3),  # 64 · 5 / 100
        (words.A2C, {"n_steps": 64}, 1),
        (words.DQN, {"gradient_steps": 7, "train_freq": 16}, 7),
        (words.DQN, {"gradient_steps": -1, "train_freq": 16}, 16 * 5),
        (words.DQN, {"gradient_steps": -1, "train_freq": (16, "step")}, 16 * 5),
    ],
)
def test_steps_of_a_rollout_by_hand(spec, settings, steps):
    assert spec.optimizer_steps(settings, 5) == steps


def test_the_kl_term_goes_where_the_kind_has_it():
    kl = object()
    on = words.PPO.constructor_keywords({"n_steps": 8}, kl, 3)
    assert on["rollout_buffer_class"] is EpisodeRolloutBuffer and on["n_steps"] == 8
    assert on["rollout_buffer_kwargs"] == {"pad_token_id": 3, "kl": kl}
    assert "kl" not in words.PPO.constructor_keywords({}, None, 3)["rollout_buffer_kwargs"]
    off = words.DQN.constructor_keywords({"gamma": 0.9, "n_steps": 2}, None, 3)
    assert off["replay_buffer_class"] is EpisodeReplayBuffer and "n_steps" not in off
    assert off["replay_buffer_kwargs"] == {"pad_token_id": 3, "n_steps": 2, "gamma": 0.9}
    table = {"gamma": 0.9, "replay_buffer_kwargs": {"nonsense": 1}}
    with pytest.raises(UnknownNameError, match="key of replay_buffer_kwargs"):
        words.DQN.constructor_keywords(table, None, 3)
    assert words.GRPO.constructor_keywords({"n_epochs": 1}, kl, 3) == {"n_epochs": 1, "kl": kl}


def test_what_depends_on_a_keyword_follows_it():
    settings = words.PPO.settings("ppo", {"n_steps": 4}, 100, 8)
    assert settings["n_steps"] == 4 and settings["batch_size"] == 8  # a quarter of 32 tokens
    assert words.PPO.settings("ppo", {"n_steps": 4, "batch_size": 32}, 100, 8)["batch_size"] == 32
    # 8 groups of 8 are as many episodes as 16 of 4.
    assert words.GRPO.settings("grpo", {}, 100, 32)["n_groups"] == 8
    assert words.GRPO.settings("grpo", {"num_generations": 4}, 100, 32)["n_groups"] == 16
    with pytest.raises(InputError, match=r"agent 'ppo' normalizes advantages, .* batch_size"):
        words.PPO.settings("ppo", {"batch_size": 1}, 100, 8)


def test_keywords_have_the_help_of_whoever_has_them():
    ppo = keywords_of(words.PPO, build_agent)
    assert ppo["n_steps"].help.startswith("The number of steps to run")  # SB3's words
    assert ppo["value_trunk"].help and ppo["kl_coef"].help.startswith("β")
    assert ppo["value_warmup_rollouts"].parameter.default is None
    assert not {"policy", "env", "seed", "rollout_buffer_class", "self"} & ppo.keys()
    assert {"num_generations", "scale_rewards", "kl_target"} <= keywords_of(
        words.GRPO, build_agent
    ).keys()
    assert (
        not {"kl_coef", "value_warmup_rollouts"} & keywords_of(words.BEST_OF_N, build_agent).keys()
    )
    assert not {"kl_coef"} & keywords_of(words.QRDQN, build_agent).keys()


def test_a_word_for_something_else_is_said():
    agents.register("no_spec", "math:pi")
    try:
        with pytest.raises(InputError, match=r"agent 'no_spec' is 3\.14.*, expected a spec"):
            spec_of("no_spec")
    finally:
        agents.unregister("no_spec")


def test_groups_that_no_number_of_rows_allows():
    spec = CriticFreeSpec("a:B", lambda budget, n_envs: {"num_generations": 1})
    with pytest.raises(InputError, match=r"n_envs \(7\) cannot be dealt in equal groups"):
        spec.num_generations(7, {})
    assert spec.num_generations(7, {"num_generations": 7}) == 7
