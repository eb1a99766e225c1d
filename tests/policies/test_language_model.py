"""Another trunk is one class: a recurrent one learns, writes and is judged as the decoder is."""

import numpy as np
import pytest
import torch
from front_door import ENV
from stable_baselines3 import PPO
from textgym_testing import assert_same_weights, letter_env, letter_task, letter_tokenizer
from textgym_toy_lm import RecurrentLM, recurrent_lm

import textgym
from textgym.agents import Oracle
from textgym.agents.evaluation.readers import ModelReader
from textgym.errors import InputError
from textgym.policies import CausalLM, LanguageModel, TextActorCriticPolicy
from textgym.policies.pretraining import heldout_loss, text_documents, train_language_model
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel

SMALL = {"n_envs": 4, "seed": 0, "env_kwargs": {"max_new_tokens": 8, "prompts": ["One ", "Two "]}}
KEYWORDS = {
    "ppo": {"n_steps": 16, "batch_size": 32, "kl_coef": 0.1},
    "grpo": {"n_groups": 4, "num_generations": 2, "batch_size": 32, "kl_coef": 0.1},
    "dqn": {"batch_size": 16, "train_freq": 8},
}


def byte_lm(seed=0):
    return recurrent_lm(textgym.Tokenizer.byte(), seed=seed)


@pytest.mark.parametrize("word", KEYWORDS)
def test_it_learns_under_each_kind_of_algorithm(word):
    lm = byte_lm()
    agent = textgym.make_agent(word, ENV, policy=lm, **SMALL, **KEYWORDS[word])
    before = {name: weight.clone() for name, weight in agent.policy.lm.state_dict().items()}
    assert isinstance(agent.policy.lm, RecurrentLM) and agent.policy.lm is not lm
    agent.learn(256)
    after = agent.policy.lm.state_dict()
    assert agent._n_updates > 0
    assert all(not torch.equal(after[name], before[name]) for name in before)
    assert_same_weights(lm, byte_lm())  # the owner's stays as it was
    trained = LanguageModel.from_agent(agent)
    assert_same_weights(trained, agent.policy.lm)
    with pytest.raises(InputError, match="a RecurrentLM, not a CausalLM: take Lang"):
        CausalLM.from_agent(agent)


@pytest.mark.parametrize("value_trunk", ["shared", "own"])
def test_the_ratio_is_one_before_the_first_update(value_trunk):
    lm = recurrent_lm(letter_tokenizer())
    env = letter_env(n_envs=4)
    policy = TextActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 0.1, model=lm, value_trunk=value_trunk
    )
    policy.set_training_mode(False)
    with torch.no_grad():
        policy.value_net.weight.fill_(0.3)
        if policy.value_decoder is not None:
            next(policy.value_decoder.parameters()).mul_(1.5)
    rows = torch.as_tensor(env.reset())
    for _ in range(20):
        with torch.no_grad():
            actions, values, log_probs = policy(rows)
        again = policy.evaluate_actions(rows, actions)
        torch.testing.assert_close(again[0], values, rtol=0, atol=1e-5)
        torch.testing.assert_close(again[1], log_probs, rtol=0, atol=1e-5)
        rows = torch.as_tensor(env.step(actions.numpy())[0])
    trunk = 0 if policy.value_decoder is None else len(list(policy.value_decoder.parameters()))
    assert trunk == (0 if value_trunk == "shared" else 5)  # embedding and recurrence, no head


def test_the_kl_is_to_the_model_as_it_was():
    lm = byte_lm()
    agent = textgym.make_agent("ppo", ENV, policy=lm, **SMALL, **KEYWORDS["ppo"])
    agent.learn(64)
    buffer, kl = agent.rollout_buffer, agent.rollout_buffer.kl
    assert_same_weights(kl.model, lm)
    assert not any(weight.requires_grad for weight in kl.model.parameters())
    assert np.abs(buffer.kl_raw).max() < 1e-5  # the first rollout, drawn by the start itself
    agent.learn(256, reset_num_timesteps=False)  # in the first updates the value head learns alone
    assert np.abs(buffer.kl_raw).max() > 1e-3


@torch.no_grad()
def test_it_generates_what_a_full_pass_finds_likeliest():
    lm = recurrent_lm(letter_tokenizer(), seed=3)
    for prompt, text in zip(
        ["a", "bcd"], lm.generate(["a", "bcd"], max_new_tokens=6, temperature=0), strict=True
    ):
        ids = lm.tokenizer.encode_batch([prompt], add_special_tokens=True)[0]
        for _ in range(6):
            logits = lm(torch.tensor([ids]))[0, -1]
            logits[[lm.tokenizer.pad_token_id, lm.tokenizer.bos_token_id]] = -torch.inf
            token = int(logits.argmax())
            if token in lm.tokenizer.eos_token_ids:
                break
            ids.append(token)
        assert lm.tokenizer.decode(ids).endswith(prompt + text)


def test_evaluation_oracle_reader_and_reward_model_take_it():
    lm, other = recurrent_lm(letter_tokenizer()), recurrent_lm(letter_tokenizer(), seed=1)
    task = letter_task(prompts=["a"], max_new_tokens=3)
    oracle = Oracle(task, lm, beta=0.5)
    assert all(float(p.exp().sum()) == pytest.approx(1) for p in oracle.log_probs(other))
    assert oracle.kl(lm) == pytest.approx(0, abs=1e-9) and oracle.kl(other) > 0.01
    bits = ModelReader(lm).bits(["a"], ["bc"])
    log_probs = (
        lm(torch.tensor([lm.tokenizer.encode_batch(["abc"])[0]])).log_softmax(-1)[0].detach()
    )
    ids = lm.tokenizer.encode_batch(["bc"])[0]
    expected = -float(log_probs[0, ids[0]] + log_probs[1, ids[1]]) / np.log(2)
    assert bits[0] == pytest.approx(expected, rel=1e-5)
    report = textgym.evaluate(
        ENV, policy=byte_lm(), reference=byte_lm(1), n_episodes=8, n_envs=4, seed=0
    )
    assert report.kl.mean > 0 and len(report.episodes) == 8
    reward = BradleyTerryRewardModel(lm)
    assert len(set(reward(["a", "a"], ["bc", "dd"]))) == 2


def test_it_is_pretrained_by_the_loop_of_all():
    lm = byte_lm()
    texts = ["abcabcabcabc", "bcabcabca"]
    documents = list(text_documents(texts, lm.tokenizer, context=32))
    before = heldout_loss(lm, documents)
    keywords = {"steps": 30, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.02}
    train_language_model(lm, documents, progress_bar=False, **keywords)
    assert heldout_loss(lm, documents) < before / 2


def test_stable_baselines3_saves_and_loads_policy_and_agent(tmp_path):
    agent = textgym.make_agent("ppo", ENV, policy=byte_lm(), **SMALL, **KEYWORDS["ppo"])
    agent.learn(64)
    agent.policy.save(tmp_path / "policy.zip")
    again = TextActorCriticPolicy.load(tmp_path / "policy.zip")
    assert_same_weights(again, agent.policy)
    agent.save(tmp_path / "agent.zip")
    assert_same_weights(PPO.load(tmp_path / "agent.zip", env=agent.env).policy, agent.policy)


def test_it_has_no_checkpoint_and_says_so(tmp_path):
    with pytest.raises(InputError, match="a RecurrentLM is no CausalLM, so there is no checkpoint"):
        textgym.make_agent("ppo", ENV, policy=byte_lm(), out=tmp_path / "never", **SMALL)
    assert not (tmp_path / "never").exists()
    with pytest.raises(InputError, match="a RecurrentLM is no CausalLM, so there is no checkpoint"):
        byte_lm().save_pretrained(tmp_path / "lm")
    assert list(tmp_path.iterdir()) == []
