"""What `make_agent` fills in for a model that was trained before, and for one that was not."""

import pytest
from textgym_testing import tiny_lm

import textgym
from textgym.agents.building import words
from textgym.agents.building.model_defaults import SMALL, fit_to_model, fitted_rate, is_trained
from textgym.agents.building.specs import CriticFreeSpec
from textgym.policies import CausalLM
from textgym.policies.language_model.models_by_name import open_policy

RATE = 1.3e-4  # 3e-4 · √(600,000 / 3,443,136) = 1.25e-4, to two digits


@pytest.fixture(scope="module")
def start():
    return open_policy("start")


def test_rates_by_hand():
    assert fitted_rate(3e-4, SMALL) == fitted_rate(3e-4, 1000) == 3e-4
    assert fitted_rate(3e-4, 4 * SMALL) == 1.5e-4
    assert fitted_rate(3e-4, 134_515_008) == 2e-5  # SmolLM2-135M: 3e-4 · 0.0668
    assert fitted_rate(3e-4, 134_515_008, is_adapter=True) == 2e-4
    assert fitted_rate(3e-4, 4 * SMALL, is_adapter=True) == 3e-4  # never above the small model's


def test_a_model_is_trained_where_it_knows_what_begins_a_text(start):
    untrained = CausalLM.new(start.tokenizer, seed=0, hidden_size=128, num_hidden_layers=4)
    assert sum(p.numel() for p in untrained.parameters()) > SMALL
    assert is_trained(start) and is_trained(open_policy("chinese-start"))
    assert not is_trained(untrained)
    assert not is_trained(tiny_lm(spread=10.0))  # it is far from uniform, but a toy


def test_unsaid_keywords_fit_the_model_and_said_ones_stay(start):
    fitted = fit_to_model(words.PPO, start, {"n_steps": 8}, 40, 32)
    assert fitted == {"learning_rate": RATE, "kl_coef": 0.2, "n_steps": 8}
    said = {"learning_rate": 1e-3, "kl_coef": 0.0, "target_kl": None}
    assert fit_to_model(words.PPO, start, said, 40, 32) == said
    assert fit_to_model(words.PPO, start, {"learning_rate": None}, 40, 32)["learning_rate"] == RATE
    assert fit_to_model(words.PPO, start, {"lora_rank": 4}, 40, 32)["learning_rate"] == 3e-4
    assert fit_to_model(words.DPO, start, {}, 40, 32) == {"learning_rate": 4.2e-5}  # β of its own
    assert fit_to_model(words.BEST_OF_N, start, {}, 40, 32) == {"learning_rate": 4.2e-5}  # no β
    assert fit_to_model(words.PPO, tiny_lm(), {}, 40, 32) == {}


def test_the_defaults_of_a_users_own_spec_stay(start):
    own = CriticFreeSpec("textgym.agents.algorithms.grpo:GRPO", lambda budget, n_envs: {})
    assert fit_to_model(own, start, {}, 40, 32) == {}


def test_they_are_recorded_and_come_back(start, tmp_path):
    def made(**keywords):
        return textgym.make_agent(
            "grpo", "textgym/Keyword-v0", policy=start, n_envs=4, seed=0, **keywords
        )

    agent = made(out=tmp_path / "run")
    config = textgym.open_run(tmp_path / "run").config
    assert agent.learning_rate == config["learning_rate"] == RATE
    assert agent.kl.coefficient == config["kl_coef"] == 0.2
    old = made(out=tmp_path / "old", learning_rate=3e-4, kl_coef=0.0)  # as it was before these
    textgym.save_agent(old, tmp_path / "old")
    loaded = textgym.load_agent(tmp_path / "old")
    assert loaded.learning_rate == 3e-4 and loaded.kl is None
