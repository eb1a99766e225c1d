"""Keywords of the algorithms without a critic: what they refuse, and what fills them in."""

import pytest
from textgym_groups import WORDS, front_door_agent, group_agent, group_env
from textgym_testing import letter_tokenizer, tiny_lm

from textgym.agents.algorithms.best_of_n import BestOfN
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.algorithms.reinforce import REINFORCE
from textgym.agents.algorithms.rloo import RLOO
from textgym.agents.rollouts.kl import KLPenalty
from textgym.errors import InputError


@pytest.mark.parametrize(
    "cls, keywords, message",
    [
        (GRPO, {"num_generations": 3}, r"n_envs \(4\) must be a multiple of num_generations \(3\)"),
        (GRPO, {"num_generations": 1}, "num_generations must be at least 2, got 1"),
        (RLOO, {"num_generations": 1}, "RLOO compares the completions of a prompt"),
        (GRPO, {"n_epochs": 0}, "n_epochs must be a whole number from 1 .* got 0"),
        (GRPO, {"n_groups": 0}, "n_groups must be a whole number from 1 .* got 0"),
        (GRPO, {"batch_size": 0.5}, "batch_size must be a whole number from 1 .* got 0.5"),
        (GRPO, {"clip_range": 1.0}, "clip_range must be a number above 0, below 1"),
        (GRPO, {"epsilon_high": 0}, "epsilon_high must be a finite number above 0"),
        (GRPO, {"scale_rewards": True}, "scale_rewards must be one of group, batch, none"),
        (GRPO, {"loss_type": "bnpo"}, "loss_type must be one of grpo, dapo, dr_grpo"),
        (GRPO, {"kl_in": "both"}, "kl_in must be one of reward, loss"),
        (GRPO, {"kl_in": "loss", "kl": 0.1}, "needs kl_estimator 'k2' or 'k3', got 'k1'"),
        (REINFORCE, {"baseline": "critic"}, "baseline must be one of batch, running, none"),
        (REINFORCE, {"baseline_decay": 1.0}, "from 0, below 1 .* got 1"),
        (BestOfN, {"kl": 0.1}, "no KL term: leave kl out"),
    ],
)
def test_keywords_that_make_no_sense_are_refused_in_one_line(cls, keywords, message):
    if "kl" in keywords:
        keywords = {**keywords, "kl": KLPenalty(tiny_lm(), keywords["kl"])}
    with pytest.raises(InputError, match=message) as caught:
        group_agent(cls, env=group_env(4, 2), **keywords)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="deals no groups: make it with num_generations=2"):
        group_agent(env=group_env(4, 1)).learn(64)
    with pytest.raises(InputError, match="groups never reach 4 episodes"):
        group_agent(env=group_env(4, 2), num_generations=4).learn(1000)
    kl = KLPenalty(tiny_lm(letter_tokenizer("abcdef")), 0.1)
    with pytest.raises(InputError, match=r"reference of the KL term has 9 tokens, but .* 7"):
        group_agent(kl=kl).learn(64)


@pytest.mark.parametrize("n_envs, sizes", [(32, (8, 4, 1, 4, 2)), (6, (6, 3, 1, 3, 2))])
def test_default_groups_fit_the_number_of_environments(n_envs, sizes):
    for word, size in zip(WORDS, sizes, strict=True):
        agent = front_door_agent(word, n_envs=n_envs)
        assert agent.num_generations == size
        assert agent.env.get_attr("num_generations")[0] == size


def test_a_rollout_has_as_many_episodes_whatever_their_groups_size():
    counts = [
        agent.n_groups * agent.num_generations
        for agent in (front_door_agent("grpo", n_envs=8, num_generations=k) for k in (2, 4, 8))
    ]
    assert counts == [16, 16, 16]


@pytest.mark.parametrize(
    "word, keywords, message",
    [
        ("gpro", {}, "unknown agent 'gpro': did you mean 'grpo'"),
        ("grpo", {"num_generation": 2}, "did you mean 'num_generations'"),
        ("grpo", {"value_trunk": "own"}, "unknown keyword of agent 'grpo': 'value_trunk'"),
        ("grpo", {"n_steps": 8}, "unknown keyword of agent 'grpo': 'n_steps'"),
        ("rloo", {"clip_rang": 0.1}, "did you mean 'clip_range'"),
        ("best_of_n", {"kl_coef": 0.1}, "agent 'best_of_n' has no KL term: leave kl_coef"),
        ("best_of_n", {"kl_coeff": 0.1}, "unknown keyword of agent 'best_of_n': 'kl_coeff'"),
        ("dpo", {"kl_coef": 0.0}, "DPO needs a reference: give kl_coef"),
        ("dpo", {"preference": "x.jsonl"}, "did you mean 'preferences'"),
        ("grpo", {"n_envs": 7, "num_generations": 2}, r"n_envs \(7\) must be a multiple of"),
        ("dpo", {"kl_target": 1.0}, "DPO's β is fixed: leave kl_target out"),
        ("grpo", {"value_warmup_rollouts": 2}, "agent 'grpo' has no critic: leave value_warmup"),
        ("grpo", {"n_envs": 0}, "n_envs must be a whole number from 1 .* got 0"),
    ],
)
def test_the_front_door_refuses_in_one_line(word, keywords, message):
    with pytest.raises(InputError, match=message) as caught:
        front_door_agent(word, **keywords)
    assert "\n" not in str(caught.value)
