"""An algorithm of a user's package: example 10 as an installed plugin, used by name everywhere."""

import sys
from pathlib import Path

import numpy as np
import pytest
from front_door import ENV, byte_lm, read_lines, run_cli
from stable_baselines3 import A2C

import textgym
from textgym import registry
from textgym.agents import (
    Algorithm,
    CriticFreeAlgorithm,
    CriticFreeSpec,
    OffPolicySpec,
    OnPolicySpec,
)
from textgym.agents.algorithms import critic_free
from textgym.errors import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "10_own_algorithm.py"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package on the path, with the metadata that an install would have left there."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "mine_rwr.py").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    about = site / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[textgym.plugins]\nmine = mine_rwr\n")
    monkeypatch.syspath_prepend(site)
    yield
    registry.agents.unregister("rwr")
    sys.modules.pop("mine_rwr", None)


def test_it_takes_less_than_a_hundred_lines():
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


def test_the_command_line_trains_it_and_it_comes_back(plugin, tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    code, out, error = run_cli("agents")
    assert (code, error) == (0, "")
    assert "rwr" in out and "the better ones more" in out
    code, out, _ = run_cli("train", "--agent", "rwr", "--help")
    assert code == 0 and "--softness" in out and "--kl-coef" in out
    common = ("--policy", tmp_path / "lm", "--n-envs", 4, "--no-progress-bar")
    run = ("--timesteps", 400, "--softness", 0.5, "--kl-coef", 0.1, "--out", tmp_path / "run")
    code, _, error = run_cli("train", ENV, "--agent", "rwr", *common, *run)
    assert (code, error) == (0, "")
    rows = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert 1 <= rows[-1]["train/heaviest"] <= 4  # of four completions the weights sum to four
    agent = textgym.load_agent(tmp_path / "run")
    assert type(agent).__name__ == "RewardWeightedRegression"
    assert agent.softness == 0.5 and agent.kl.coefficient == 0.1
    assert agent.num_timesteps >= 400


def test_its_bad_keywords_are_one_line(plugin, tmp_path):
    from mine_rwr import RWR

    assert registry.agents.resolve("rwr") is RWR
    code, _, error = run_cli(
        "train", ENV, "--agent", "rwr", "--softnes", 1, "--out", tmp_path / "run"
    )
    assert code == 2 and error.count("\n") == 1 and "--softness" in error
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="softness must be above 0, got -1"):
        textgym.make_agent("rwr", ENV, policy=byte_lm(), n_envs=4, softness=-1)


def test_a_word_is_registered_for_make_agent():
    def slow(budget, n_envs):
        return {"n_steps": budget, "learning_rate": 1e-5, "gamma": 1.0}

    word = OnPolicySpec("stable_baselines3:A2C", slow)
    textgym.register_agent("slow_a2c", word, description="one slow step a rollout")
    textgym.register_agent("lazy_a2c", "no_such_module:WORD", description="imported when used")
    try:
        agent = textgym.make_agent("slow_a2c", ENV, policy=byte_lm(), n_envs=2)
        assert type(agent) is A2C
        assert agent.learning_rate == 1e-5
        assert agent.n_steps == agent.env.get_attr("task")[0].max_new_tokens
        described = registry.agents.describe()
        assert described["slow_a2c"] == "one slow step a rollout"
        assert described["lazy_a2c"] == "imported when used"
        with pytest.raises(InputError, match="agent 'lazy_a2c': no module named 'no_such_module'"):
            textgym.make_agent("lazy_a2c", ENV)
        with pytest.raises(InputError, match="the agent 'ppo' is registered already"):
            textgym.register_agent("ppo", word)
        with pytest.raises(InputError, match=r"takes an OnPolicySpec, .* got A2C"):
            textgym.register_agent("a2c_itself", A2C)
    finally:
        registry.agents.unregister("slow_a2c")
        registry.agents.unregister("lazy_a2c")


def test_the_bases_old_name_warns():
    with pytest.warns(DeprecationWarning, match="CriticFreeAlgorithm"):
        assert critic_free.GroupAlgorithm is CriticFreeAlgorithm


@pytest.mark.parametrize(
    "flags, kind, has_kl",
    [
        ({}, OnPolicySpec, True),
        ({"buffer_keyword": "replay_buffer", "kl": "refused"}, OffPolicySpec, False),
        (
            {"has_critic": False, "has_groups": True, "buffer": None, "kl": "algorithm"},
            CriticFreeSpec,
            True,
        ),
        (
            {"has_critic": False, "has_groups": True, "buffer": None, "kl": "refused"},
            CriticFreeSpec,
            False,
        ),
    ],
)
def test_the_record_with_flags_is_one_of_three(flags, kind, has_kl):
    def defaults(budget, n_envs):
        return {}

    with pytest.warns(DeprecationWarning, match="OnPolicySpec, OffPolicySpec or CriticFreeSpec"):
        spec = Algorithm("a:B", "a line", defaults, **flags)
    assert spec == kind("a:B", defaults, has_kl=has_kl, description="a line")


def test_its_weights_by_hand(plugin):
    """Rewards 0 and log 3 at softness 1: weights 1/2 and 3/2, less 1."""
    from mine_rwr import RewardWeightedRegression

    agent = RewardWeightedRegression.__new__(RewardWeightedRegression)
    agent.softness = 1.0
    weights = agent.compute_advantages(np.array([[0.0, np.log(3.0)], [2.0, 2.0]]))
    np.testing.assert_allclose(weights, [[-0.5, 0.5], [0.0, 0.0]], atol=1e-12)
