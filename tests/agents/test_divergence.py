"""Rewards and rates that destroy a model: every algorithm says so, and keeps the weights it had."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm, run_cli, small_agent
from torch import nn

import textgym
from textgym import reward_answers as contract
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.maskable_rollout_buffer import MaskableEpisodeRolloutBuffer
from textgym.agents.runs.flat_rewards import FlatRewards
from textgym.divergence import check_arrays, check_weights, refuse_bad_gradients
from textgym.errors import DivergenceError, InputError, RewardError
from textgym.policies.language_model.sampling import draw
from textgym.policies.pretraining import objective as pretraining
from textgym.policies.pretraining.documents import text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.registry import agents

ALL = sorted(agents.names())


def paying(*values):
    """A reward model that pays these in turn."""
    turns = itertools.cycle(values)
    return lambda prompts, completions: [next(turns) for _ in completions]


def agent_that_is_paid(name, *values, **keywords):
    return textgym.make_agent(
        name,
        ENV,
        policy=byte_lm(),
        n_envs=4,
        seed=0,
        reward=paying(*values),
        env_kwargs={"max_new_tokens": 4},
        **keywords,
    )


def weights_of(agent):
    return {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}


def is_finite(agent):
    return all(bool(torch.isfinite(p).all()) for p in agent.policy.parameters())


def test_all_twelve_are_tried():
    assert len(ALL) == 12


@pytest.mark.parametrize("reward", [1e300, 3e38, -1e38])
@pytest.mark.parametrize("name", ALL)
def test_a_huge_reward_is_refused_before_anything_is_learned(name, reward):
    agent = agent_that_is_paid(name, reward, -reward, 0.0)
    before = weights_of(agent)
    with pytest.raises(RewardError, match=r"returned the score .*, beyond ±1e\+15.*scale scores"):
        agent.learn(100)
    assert all(torch.equal(before[key], value) for key, value in weights_of(agent).items())


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("reward", [1e300, 3e38])
@pytest.mark.parametrize("name", ALL)
def test_past_the_contract_no_agent_learns_it_into_its_weights(name, reward, monkeypatch):
    """As where a wrapper multiplies rewards."""
    monkeypatch.setattr(contract, "LARGEST_SCORE", math.inf)
    agent = agent_that_is_paid(name, reward, -reward, 0.0)
    try:
        agent.learn(100)
    except DivergenceError as error:
        assert "not finite" in str(error) or "diverged" in str(error)
    else:  # some compare rewards only
        assert name in ("best_of_n", "dpo", "dqn") and reward == 3e38
    assert is_finite(agent)


@pytest.mark.parametrize("name", ALL)
def test_a_rate_that_diverges_is_one_line_and_never_saved(name, tmp_path):
    agent = agent_that_is_paid(name, 1.0, -1.0, 0.0, learning_rate=lambda progress: 1e30)
    save_agent(agent, tmp_path / "last")
    good = (tmp_path / "last" / "model.safetensors").read_bytes()
    with pytest.raises(
        DivergenceError, match=r"diverged: the (norm of the gradients is (nan|inf)|prob)"
    ):
        agent.learn(200)
    assert is_finite(agent)
    with torch.no_grad():
        agent.policy.lm.model.embed_tokens.weight.mul_(1e30)  # as a last update may leave it
    with pytest.raises(DivergenceError, match=r"weights '.*embed_.*are up to .*not saved"):
        save_agent(agent, tmp_path / "last")
    assert (tmp_path / "last" / "model.safetensors").read_bytes() == good


def test_a_policy_whose_weights_are_not_numbers_draws_nothing():
    agent = agent_that_is_paid("ppo", 1.0)
    with torch.no_grad():
        agent.policy.lm.lm_head.weight[70, 0] = math.nan
    with pytest.raises(DivergenceError, match="next token are not finite"):
        agent.learn(10)
    with pytest.raises(DivergenceError, match="next token are not finite"):
        textgym.generate(agent.policy.lm, prompt="a")
    with pytest.raises(DivergenceError, match="not finite"):
        draw(torch.full((1, 3), math.nan), torch.Generator())


def test_an_optimizer_takes_no_step_along_bad_gradients():
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    refuse_bad_gradients(optimizer)
    weight.grad = torch.tensor([1.0, 2.0])
    optimizer.step()
    assert weight.tolist() == [0.5, 0.0]
    for bad in (math.nan, math.inf):
        weight.grad = torch.tensor([1.0, bad])
        with pytest.raises(
            DivergenceError, match=r"gradients is (nan|inf) \(learning rate now 0.5"
        ):
            optimizer.step()
    assert weight.tolist() == [0.5, 0.0]


def test_checks_name_what_is_not_finite():
    check_arrays({"rewards": np.array([1e38])})
    with pytest.raises(DivergenceError, match=r"the returns .* \(1 of 2, such as 1e\+39\): lower"):
        check_arrays({"rewards": np.zeros(2), "returns": np.array([0.0, 1e39])})
    check_weights([("a", torch.tensor([3.0])), ("count", torch.tensor([7]))])
    with pytest.raises(DivergenceError, match="the weights 'b' are up to nan"):
        check_weights([("a", torch.tensor([3.0])), ("b", torch.tensor([math.nan, 1.0]))])
    with pytest.raises(DivergenceError, match="the weights 'a' are up to 3"):
        check_weights([("a", torch.tensor([-3.0]))], largest=2.0)


@pytest.mark.parametrize("name", ["a2c", "ppo", "trpo", "maskable_ppo", "nlpo"])
def test_a_single_advantage_cannot_be_normalized(name):
    keywords = {"n_envs": 1, "n_steps": 1}
    with pytest.raises(InputError, match=f"agent '{name}' normalizes advantages, .*raise n_steps"):
        textgym.make_agent(name, ENV, policy=byte_lm(), seed=0, **keywords)
    if name == "a2c":
        agent = textgym.make_agent(
            name, ENV, policy=byte_lm(), seed=0, normalize_advantage=False, **keywords
        )
        agent.learn(20)
        assert is_finite(agent)


def test_maskable_ppo_gets_no_minibatch_of_one_token():
    agent = textgym.make_agent(
        "maskable_ppo",
        ENV,
        policy=byte_lm(),
        n_envs=2,
        n_steps=3,
        batch_size=2,
        seed=0,
        env_kwargs={"max_new_tokens": 2},
    )
    assert isinstance(agent.rollout_buffer, MaskableEpisodeRolloutBuffer)
    agent.learn(24)  # segments of 2 and of 1
    sizes = [len(batch.actions) for batch in agent.rollout_buffer.get(2)]
    assert sum(sizes) == 6 and min(sizes) >= 2 and is_finite(agent)


# ---- runs, pretraining, fits ---------------------------------------------------


def nan_after(calls):
    """A reward model whose scores become too large after some calls."""
    count = itertools.count()
    return lambda p, c: [1.0 if next(count) < calls else 1e300 for _ in c]


def test_a_run_that_diverges_keeps_its_checkpoint(tmp_path, monkeypatch):
    keywords = {"policy": byte_lm(), "out": tmp_path / "run", "n_envs": 4, "progress_bar": False}
    keywords |= {"checkpoint_seconds": 0.0, "learning_rate": 100.0, "value_warmup_rollouts": 0}
    original = torch.optim.Adam.step

    def too_far(self, closure=None):
        original(self, closure)
        for group in self.param_groups:
            for weight in group["params"]:
                weight.data.mul_(1e25)

    monkeypatch.setattr(torch.optim.Adam, "step", too_far)
    with pytest.raises(DivergenceError, match=r"diverged.*run.checkpoints.last is as it was saved"):
        textgym.train(ENV, timesteps=2000, **keywords)
    agent = textgym.load_agent(tmp_path / "run")
    assert agent.num_timesteps == 0 and is_finite(agent)


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), RuntimeError("no more")])
def test_whatever_a_reward_raises_the_agent_is_saved(tmp_path, error):
    asked = itertools.count()

    def ends(prompts, completions):
        if next(asked) > 6:
            raise error
        return [float(len(c)) for c in completions]

    with pytest.raises(RewardError, match=r"'ends' raised .*; the agent is saved in .*last"):
        textgym.train(
            ENV, policy=byte_lm(), reward=ends, timesteps=9999, out=tmp_path / "run",
            n_envs=2, n_steps=16, progress_bar=False, env_kwargs={"max_new_tokens": 8},
        )  # fmt: skip
    assert textgym.load_agent(tmp_path / "run", reward=ends).num_timesteps > 0


@pytest.mark.parametrize("name", ["ppo", "dqn", "grpo"])
@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), RuntimeError("no more")])
def test_an_agent_with_a_run_directory_is_saved_too(tmp_path, name, error):
    asked = itertools.count()

    def ends(prompts, completions):
        if next(asked) > 6:
            raise error
        return [float(len(c)) for c in completions]

    agent = textgym.make_agent(
        name, ENV, policy=byte_lm(), reward=ends, out=tmp_path / "run", n_envs=4,
        env_kwargs={"max_new_tokens": 4}, seed=0,
    )  # fmt: skip
    with pytest.raises((RewardError, KeyboardInterrupt)) as caught:
        agent.learn(9999)
    if isinstance(caught.value, RewardError):
        assert re.search("'ends' raised .*; the agent is saved in .*last", str(caught.value))
    steps = agent.num_timesteps
    del agent
    saved = textgym.load_agent(tmp_path / "run", reward=ends)
    assert 0 < saved.num_timesteps < steps  # the rollout that was cut short is played anew


def test_at_the_command_line_a_reward_that_ends_the_process_exits_with_2(tmp_path, monkeypatch):
    (tmp_path / "ends_the_run.py").write_text(
        "import sys\ndef reward(prompts, completions):\n    sys.exit(0)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    code, _, err = run_cli(
        "train", ENV, "--reward", "ends_the_run:reward", "--timesteps", 500, "--out", run,
        "--n-envs", 2, "--no-progress-bar",
    )  # fmt: skip
    lines = [line for line in err.splitlines() if "error" in line]
    assert code == 2 and len(lines) == 1
    assert "raised SystemExit: 0" in lines[0] and "the agent is saved in" in lines[0]
    assert (run / "checkpoints" / "last" / "model.safetensors").is_file()


@pytest.mark.parametrize("has_heldout", [False, True])
def test_pretraining_that_diverges_keeps_what_it_saved(tmp_path, has_heldout):
    lm = byte_lm()
    texts = ["some words to learn", "and some more of them"]
    documents = list(text_documents(texts, lm.tokenizer, context=32))
    keywords = {"heldout": documents if has_heldout else (), "evaluate_every": 1}
    keywords |= {"checkpoints": tmp_path, "progress_bar": False, "optimizer": "adamw"}
    train_language_model(lm, documents, steps=2, **keywords)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert before
    with pytest.raises(DivergenceError, match=r"diverged.*learning_rate"):
        with torch.no_grad():
            lm.model.embed_tokens.weight.mul_(1e30)
        train_language_model(lm, documents, steps=20, **keywords)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")} == before


def test_a_heldout_loss_that_is_no_number_is_never_the_best(monkeypatch):
    monkeypatch.setattr(pretraining, "heldout_loss", lambda *unused: math.nan)
    lm = byte_lm()
    documents = list(text_documents(["some words to learn"], lm.tokenizer, context=32))
    with pytest.raises(DivergenceError, match="the loss on held-out documents is nan"):
        train_language_model(lm, documents, heldout=documents, steps=2, progress_bar=False)


def test_a_checkpoint_that_is_not_finite_is_not_opened(tmp_path):
    lm = byte_lm()
    with torch.no_grad():
        lm.model.norm.weight[0] = math.inf
    lm.save_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match=r"lm: the weights 'model.norm.weight' are not finite"):
        textgym.generate(tmp_path / "lm", prompt="a")


# ---- nothing to learn from -----------------------------------------------------


def test_equal_rewards_of_several_rollouts_warn_once():
    flat = FlatRewards(rollouts=3, episodes=4)
    for rewards in ([0.5, 0.5], [], [0.5], [0.5, 0.6], [0.5], [0.5]):
        flat.add(rewards)  # the fourth begins anew
    with pytest.warns(UserWarning, match=r"all 4 texts of the last 3 rollouts .* reward \(0.5\)"):
        flat.add([0.5, 0.5])
    flat.add([0.5])


def test_an_agent_says_that_there_is_nothing_to_learn():
    agent = small_agent(
        reward=paying(0.0), n_steps=8, batch_size=32, env_kwargs={"max_new_tokens": 4}
    )
    with pytest.warns(
        UserWarning, match=r"earned the same reward \(0\), so there is nothing to learn"
    ):
        agent.learn(5 * 64)


def test_a_verb_that_diverges_says_so_records_it_and_ends_with_exit_code_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.txt").write_text("\n".join(f"line number {i} about cats" for i in range(60)))
    rest = {"tokenizer": "byte", "hidden_size": 16, "num_hidden_layers": 1, "context": 64}
    rest |= {"steps": 4, "optimizer": "adamw", "learning_rate": 1e18, "evaluate_every": 2}
    lines = []
    done = textgym.pretrain("c.txt", out="lm", progress_bar=False, report=lines.append, **rest)
    assert "the training diverged at step" in done.diverged
    assert lines[-1] == done.diverged
    last = Path("lm/metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"diverged": done.diverged}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in rest.items()]
    code, _, line = run_cli("pretrain", "c.txt", "--out", "again", "--no-progress-bar", *flags)
    assert (code, "lower learning_rate" in line) == (2, True)
