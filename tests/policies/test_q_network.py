"""Q-values of a language model: against one pass for each prefix, and what they make it play."""

import copy
import math

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecNormalize
from textgym_off_policy import NO_EPSILON, POLICIES, SGD, collect, networks, q_agent
from textgym_testing import (
    BOS,
    PAD,
    assert_same_weights,
    letter_env,
    letter_tokenizer,
    tiny_lm,
)

from textgym.errors import InputError
from textgym.optimization import ScaledAdam
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.sb3.q_policy import TextQPolicy
from textgym.policies.sb3.quantile_network import TextQuantilePolicy

both = pytest.mark.parametrize("cls", [DQN, QRDQN])
LEGAL = [2, 3, 4, 5, 6]  # all but pad and bos


def one(network, prior, row, alpha):
    """Quantiles `[z, v]`, or Q-values for z = 1, and probabilities `[v]`, for one row: by itself,
    over the legal tokens only."""
    tokens = torch.as_tensor(row)[: int(np.flatnonzero(np.asarray(row) != PAD).max()) + 1][None]
    hidden = network.lm.hidden_states(tokens)[0, -1]
    probabilities = (network.lm.lm_head(hidden)[LEGAL]).softmax(-1)
    before = prior(tokens)[0, -1][LEGAL].softmax(-1)
    values = network.value_net(hidden.detach())
    gains = torch.zeros(7).index_put(
        (torch.tensor(LEGAL),), alpha * (probabilities / before.detach()).log()
    )
    chances = torch.zeros(7).index_put((torch.tensor(LEGAL),), probabilities)
    return values[:, None] + gains, chances


def naive_target(episode, t, target, prior, alpha, gamma, n_steps):
    """`[z]`: rewards of up to n steps, then the value of the target network's likeliest token."""
    total, discount, step = 0.0, 1.0, t
    while step < len(episode) and (n_steps is None or step < t + n_steps):
        total += discount * episode[step][2]
        discount *= gamma
        step += 1
    *_, after, is_cut = episode[step - 1]
    if step == len(episode) and not is_cut:
        return torch.full((target.value_net.out_features,), total)
    quantiles, chances = one(target, prior, after, alpha)
    return total + discount * quantiles[:, int(chances.argmax())]


# How an episode goes on: to its end, mixed lengths, cut from outside; and n-step returns.
CASES = {
    "to the end": ({}, {}),
    "truncated": ({"max_episode_steps": 3}, {"gamma": 0.9}),
    "one step": ({}, {"n_steps": 1, "gamma": 0.9}),
    "two steps, truncated": ({"max_episode_steps": 4}, {"n_steps": 2, "gamma": 0.8}),
}


@pytest.mark.parametrize(("env", "buffer"), CASES.values(), ids=CASES)
@both
def test_loss_and_gradients_of_an_update_equal_the_naive_ones(cls, env, buffer):
    """SB3's own train() on whole episodes, against one pass for each prefix."""
    agent = q_agent(
        cls, env=env, buffer=buffer, learning_rate=0.0, max_grad_norm=1e9, batch_size=40
    )
    told = collect(agent, 16)
    assert len({len(episode) for episode in told.told}) > 1
    agent.train(gradient_steps=1, batch_size=40)
    assert len(told.drawn) == 40
    network, target = networks(agent)
    prior, alpha = agent.policy.prior, agent.policy.q_temperature
    ours = {name: p.grad.clone() for name, p in network.named_parameters()}
    network.zero_grad()
    currents, goals = [], []
    for number, t in told.drawn:
        episode = told.told[number]
        row, action, *_ = episode[t]
        currents.append(one(network, prior, row, alpha)[0][:, action])
        with torch.no_grad():
            goals.append(
                naive_target(episode, t, target, prior, alpha, told.gamma, buffer.get("n_steps"))
            )
    current, goal = torch.stack(currents), torch.stack(goals)
    if cls is DQN:
        loss = torch.nn.functional.smooth_l1_loss(current, goal)
    else:
        loss = quantile_huber_loss(current, goal, sum_over_quantiles=True)
    loss.backward()
    assert agent.logger.name_to_value["train/loss"] == pytest.approx(loss.item(), abs=1e-5)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)
    assert max(float(p.grad.abs().max()) for p in network.lm.parameters()) > 1e-3


@both
def test_rows_and_packed_segments_have_the_same_values(cls):
    agent = q_agent(cls)
    buffer = collect(agent, 16)
    network, target = networks(agent)
    samples = buffer.sample(30)
    rows = torch.as_tensor(np.stack([buffer.told[k][t][0] for k, t in buffer.drawn]))
    with torch.no_grad():
        torch.testing.assert_close(network(rows), network(samples.observations))
        torch.testing.assert_close(target(rows), target(samples.observations))
        shape = (30, 7) if cls is DQN else (30, 8, 7)
        assert network(rows).shape == shape and target(rows).shape == (*shape[:-1], 1)
        expected = torch.stack([one(network, agent.policy.prior, row, 0.5)[0] for row in rows])
        torch.testing.assert_close(network(rows).reshape(30, -1, 7), expected)


@both
def test_at_first_it_is_the_given_model_and_all_values_are_zero(cls):
    lm = tiny_lm(spread=6.0)
    agent = cls(POLICIES[cls], letter_env(), policy_kwargs={"model": lm}, device="cpu", seed=0)
    rows = torch.as_tensor(agent.env.reset())
    network, target = networks(agent)
    assert network(rows).abs().max() == 0 and target(rows).abs().max() == 0
    likeliest = [lm(row[row != PAD][None])[0, -1][LEGAL].argmax() for row in rows]
    played, _ = agent.predict(rows.numpy(), deterministic=True)
    assert [LEGAL[i] for i in likeliest] == played.tolist()


def test_the_policy_is_the_prior_times_exp_of_q_and_the_export_is_the_policy():
    agent = q_agent()
    rows = torch.as_tensor(agent.env.reset())
    prior, exported = agent.policy.prior, CausalLM.from_agent(agent)
    with torch.no_grad():
        values = agent.q_net(rows)
        for row, q in zip(rows, values, strict=True):
            tokens = row[row != PAD][None]
            mixed = prior(tokens)[0, -1].softmax(-1) * (q / 0.5).exp()
            expected = mixed[LEGAL] / mixed[LEGAL].sum()
            played = exported(tokens)[0, -1][LEGAL].softmax(-1)
            torch.testing.assert_close(played, expected)
            assert (played - prior(tokens)[0, -1][LEGAL].softmax(-1)).abs().max() > 0.01


def test_what_is_drawn_has_that_distribution():
    agent = q_agent(policy={"temperature": 1.3, "top_k": 4}, env={"n_envs": 1})
    row = agent.env.reset()
    tokens = torch.as_tensor(row[row != PAD])[None]
    logits = agent.policy.lm(tokens)[0, -1][LEGAL] / 1.3
    kept = logits.topk(4).indices
    expected = torch.zeros(7)
    expected[torch.tensor(LEGAL)[kept]] = logits[kept].softmax(-1)
    many = np.repeat(row, 20_000, axis=0)
    counts = np.bincount(agent.predict(many, deterministic=False)[0], minlength=7) / 20_000
    # 4.5 standard deviations in each of four cells: 1 in 37,000 runs would fail by chance.
    np.testing.assert_allclose(counts, expected.detach(), atol=4.5 * math.sqrt(0.25 / 20_000))
    assert counts[PAD] == counts[BOS] == 0


def test_greedy_play_and_targets_do_not_fall_for_a_rare_token_with_the_largest_value():
    """The largest of the Q-values is that of a token nobody would ever write."""
    lm = tiny_lm(tie_word_embeddings=False)
    agent = q_agent(lm=lm, noise=0.0, env={"prompts": ["bcd"], "n_envs": 1})
    row = torch.as_tensor(agent.env.reset())
    network, target = networks(agent)
    with torch.no_grad():
        hidden = network.lm.hidden_states(row[:, :3])[0, -1]
        chances = network.lm.lm_head(hidden)[LEGAL].softmax(-1)
        rare, usual = LEGAL[int(chances.argmin())], LEGAL[int(chances.argmax())]
        for lm in (network.lm, target.lm):
            lm.lm_head.weight[rare] += 0.7 * hidden / hidden.square().sum()  # its logit: + 0.7
        assert int(network(row).argmax()) == rare
        assert float(chances.min()) < 0.02
        played, _ = agent.predict(row.numpy(), deterministic=True)
        assert played.item() == usual
        assert target(row).item() == pytest.approx(network(row)[0, usual].item(), abs=1e-6)
        assert target(row).item() < network(row).max().item() - 0.3


@both
def test_excluded_tokens_never_win_and_never_break_the_loss(cls):
    lm = tiny_lm(spread=6.0, tie_word_embeddings=False)
    with torch.no_grad():
        lm.lm_head.weight[PAD] *= 50.0
        lm.lm_head.weight[BOS] *= -50.0
    # SB3's own default: a warm-up with uniform tokens, pads among them.
    agent = q_agent(cls, lm=lm, learning_starts=10**6, batch_size=200)
    buffer = collect(agent, 40)
    assert PAD in {action for episode in buffer.told for _, action, *_ in episode}
    agent.train(gradient_steps=1, batch_size=200)
    assert np.isfinite(agent.logger.name_to_value["train/loss"])
    network, target = networks(agent)
    head = network.lm.lm_head.weight
    assert head.grad[PAD].abs().max() == 0 and head.grad[3].abs().max() > 0
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    rows = torch.as_tensor(agent._last_obs)
    with torch.no_grad():
        _, log_probs, gains = target.parts(rows)
        assert (log_probs.argmax(-1) >= 2).all() and (log_probs[:, :2].exp() == 0).all()
        assert (gains[:, :2] == 0).all() and torch.isfinite(network(rows)).all()
    for deterministic in (False, True):
        assert agent.predict(rows.numpy(), deterministic=deterministic)[0].min() >= 2


class OnlyTheFirstLetters:
    """Masks by hand: stop, a and b are legal everywhere."""

    def is_legal(self, obs, *, caller=""):
        legal = torch.zeros(len(obs), 7, dtype=torch.bool)
        legal[:, 2:5] = True
        return legal


@both
def test_illegal_tokens_have_no_probability_and_the_value_of_their_state(cls):
    agent = q_agent(cls, policy={"masks": OnlyTheFirstLetters()})
    buffer = collect(agent, 16)
    assert {a for episode in buffer.told for _, a, *_ in episode} <= {2, 3, 4}
    network, _ = networks(agent)
    rows = torch.as_tensor(agent._last_obs)
    with torch.no_grad():
        _, log_probs, gains = network.parts(rows)
    torch.testing.assert_close(log_probs[:, 2:5].exp().sum(-1), torch.ones(len(rows)))
    assert (gains[:, 5:] == 0).all() and (gains[:, 2:5] != 0).all()
    agent.train(gradient_steps=2, batch_size=16)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_where_nothing_follows_the_value_is_zero():
    agent = q_agent(env={"max_episode_steps": 3})
    buffer = collect(agent, 16)
    _, target = networks(agent)
    samples = buffer.sample(40)
    with torch.no_grad():
        followed = target(samples.next_observations)
    assert followed.shape == (40, 1)
    assert (followed[samples.dones == 1] == 0).all() and (followed[samples.dones == 0] != 0).all()
    assert samples.dones.unique().tolist() == [0, 1]


class Passes:
    """Counts passes of decoders and the tokens that go through them."""

    def __init__(self, *models):
        self.counts = [[0, 0] for _ in models]
        for model, count in zip(models, self.counts, strict=True):
            model.register_forward_hook(lambda *args, c=count: self.add(c, args[1][0]))

    def add(self, count, tokens):
        count[0] += 1
        count[1] += len(tokens)


@pytest.mark.parametrize(
    ("env", "buffer", "of_target"),
    [({}, {}, 0), ({"max_episode_steps": 3}, {}, 1), ({}, {"n_steps": 2}, 1)],
)
@both
def test_an_update_is_one_pass_per_network_over_each_episode(cls, env, buffer, of_target):
    agent = q_agent(cls, env=env, buffer=buffer)
    replay = collect(agent, 16)
    network, target = networks(agent)
    passes = Passes(network.lm.model, target.lm.model, agent.policy.prior.model)
    agent.train(gradient_steps=1, batch_size=32)
    (learner, seen), (targets, followed), (priors, _) = passes.counts
    assert (learner, targets, priors) == (1, of_target, 1 + of_target)
    assert seen + followed == replay.tokens_forwarded
    segments = {number for number, _ in replay.drawn}
    rows = [replay.told[number][-1][3] for number in segments]
    assert seen < sum(int((row != PAD).sum()) for row in rows)  # one segment each, none padded
    assert len(segments) < 32


@both
def test_a_step_of_play_is_one_token_of_one_model(cls):
    agent = q_agent(cls, env={"prompts": ["ab", "cd"], "max_new_tokens": 9})
    agent.policy.network.register_buffer("excluded_ids", torch.tensor([0, 1, 2]), persistent=False)
    passes = Passes(agent.policy.lm.model, agent.policy.prior.model)
    collect(agent, 8)
    assert passes.counts == [[8, 3 * (2 + 7)], [0, 0]]  # three prompts of two tokens, then one each


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, ScaledAdam])
@both
def test_the_cache_changes_nothing(cls, optimizer):
    """Also under a fused optimizer, whose steps leave no trace in the weights' versions."""

    def final(**policy):
        rate = 0.05 if optimizer is torch.optim.SGD else 0.002
        agent = q_agent(cls, policy={"optimizer_class": optimizer, **policy}, learning_rate=rate)
        return agent.learn(24 * 6).policy, agent.replay_buffer.told

    (cached, told), (plain, said) = final(), final(use_cache=False)
    assert_same_weights(cached, plain, 1e-3)
    assert [[step[1] for step in episode] for episode in told] == [
        [step[1] for step in episode] for episode in said
    ]


@pytest.mark.parametrize("deterministic", [True, False])
@both
def test_evaluating_in_mid_rollout_changes_nothing(cls, deterministic):
    def final(*callbacks):
        agent = q_agent(cls, learning_rate=0.05)
        return agent.learn(24 * 3, callback=list(callbacks)).policy

    class AlsoPredicts(BaseCallback):
        def _on_step(self):
            self.model.predict(self.locals["new_obs"], deterministic=deterministic)
            return True

    evaluation = EvalCallback(
        letter_env(3), n_eval_episodes=4, eval_freq=5, deterministic=deterministic, verbose=0
    )
    alone, watched = final(), final(evaluation, AlsoPredicts())
    assert evaluation.n_calls == 24
    assert_same_weights(alone, watched)


class PredictsOthers(BaseCallback):
    """Asks for three other rows after each step, and counts the tokens that this takes."""

    def __init__(self, passes):
        super().__init__()
        self.passes, self.tokens, self.rows = passes, 0, letter_env(3).reset()

    def _on_step(self):
        before = self.passes.counts[0][1]
        for deterministic in (False, True):
            self.model.predict(self.rows, deterministic=deterministic)
        self.tokens += self.passes.counts[0][1] - before
        return True


def test_an_evaluation_does_not_evict_the_cache_of_the_training_rows():
    agent = q_agent(env={"prompts": ["ab", "cd"], "max_new_tokens": 9})
    agent.policy.network.register_buffer("excluded_ids", torch.tensor([0, 1, 2]), persistent=False)
    passes = Passes(agent.policy.lm.model)
    evaluation = PredictsOthers(passes)
    collect(agent, 8, evaluation)
    assert passes.counts[0][1] - evaluation.tokens == 3 * (2 + 7)  # a token a row and step
    assert evaluation.tokens > 0


@both
def test_the_seed_fixes_the_training_and_torchs_generator_is_left_alone(cls):
    agents = [q_agent(cls, seed=seed) for seed in (1, 1, 2)]
    before = torch.get_rng_state()
    first, same, other = (agent.learn(48).policy for agent in agents)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_weights(first, same)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other, 1e-4)


@both
def test_a_target_update_copies_the_learner_and_leaves_the_prior(cls):
    lm = tiny_lm(spread=6.0)
    agent = q_agent(cls, lm=lm, target_update_interval=24, train_freq=8)
    agent.learn(24 * 2)
    network, target = networks(agent)
    assert_same_weights(agent.policy.prior, lm)  # whatever happens, it is where it was
    with pytest.raises(AssertionError):
        assert_same_weights(network, target, 1e-4)  # learned since then
    agent.learn(24, reset_num_timesteps=False)
    collect(agent, 8)
    assert_same_weights(network, target)
    with pytest.raises(AssertionError):
        assert_same_weights(network.lm, lm, 1e-3)


@both
def test_saving_and_loading_as_sb3_does_keeps_every_value(tmp_path, cls):
    agent = q_agent(cls, policy={"temperature": 1.2, "top_k": 5})
    agent.learn(48)
    rows = torch.as_tensor(agent._last_obs)
    agent.save(tmp_path / "agent.zip")
    agent.policy.save(tmp_path / "policy.pth")
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    again = cls.load(tmp_path / "agent.zip", env=letter_env(), device="cpu")
    policies = [again.policy, POLICIES[cls].load(tmp_path / "policy.pth", device="cpu")]
    for policy in policies:
        assert_same_weights(policy, agent.policy)
        assert policy.sampling == agent.policy.sampling
        with torch.no_grad():
            assert torch.equal(policy.network(rows), agent.policy.network(rows))
    again.load_replay_buffer(tmp_path / "buffer.pkl")
    assert again.replay_buffer.size() == agent.replay_buffer.size() > 0
    again.learn(48)


def test_sb3s_own_replay_buffer_works_too():
    agent = DQN(
        TextQPolicy,
        letter_env(reward=lambda prompts, completions: [1.0] * len(completions)),
        policy_kwargs={"model": tiny_lm(), **SGD},
        learning_starts=0,
        train_freq=4,
        learning_rate=0.1,
        seed=0,
        device="cpu",
        **NO_EPSILON,
    )
    before = copy.deepcopy(agent.policy.lm)
    agent.learn(24)
    assert type(agent.replay_buffer) is ReplayBuffer
    with pytest.raises(AssertionError):
        assert_same_weights(agent.policy.lm, before, 1e-4)


def test_values_learn_faster_and_first_where_that_is_asked_for():
    scaled = {"optimizer_class": ScaledAdam, "value_lr_scale": 7.0, "trunk_start_step": 3}
    agent = q_agent(policy=scaled, learning_rate=0.01)
    collect(agent)
    before = copy.deepcopy(agent.policy.network)
    agent.train(gradient_steps=3, batch_size=16)
    assert_same_weights(agent.policy.lm, before.lm)
    assert not torch.equal(agent.policy.network.value_net.weight, before.value_net.weight)
    agent.train(gradient_steps=1, batch_size=16)
    with pytest.raises(AssertionError):
        assert_same_weights(agent.policy.lm, before.lm, 1e-3)


def test_the_head_of_quantiles_is_small_and_they_differ_once_learned():
    agent = q_agent(QRDQN, policy={"n_quantiles": 5}, noise=0.0, learning_rate=0.05)
    head = agent.policy.network.value_net
    assert sum(p.numel() for p in head.parameters()) == 5 * (16 + 1)
    agent.learn(24 * 8)
    with torch.no_grad():
        quantiles = agent.policy.network(torch.as_tensor(agent._last_obs))
    assert agent.n_quantiles == 5 and quantiles.shape == (3, 5, 7)
    assert (quantiles.diff(dim=1) > 0).all()  # in rising order
    torch.testing.assert_close(
        quantiles - quantiles[:, :, 3:4], (quantiles - quantiles[:, :, 3:4])[:, :1].expand(3, 5, 7)
    )  # a token moves all of them alike


def test_what_cannot_work_is_refused_in_one_line():
    def refused(message, policy=TextQPolicy, env=None, model=None, **keywords):
        with pytest.raises(InputError, match=message) as caught:
            policy_kwargs = {"model": model or tiny_lm(), **keywords}
            cls = QRDQN if policy is TextQuantilePolicy else DQN
            env = env or letter_env()
            cls(policy, env, policy_kwargs=policy_kwargs, learning_starts=0, **NO_EPSILON).learn(8)
        assert "\n" not in str(caught.value)

    refused("q_temperature must be a positive number, in reward per nat, got 0", q_temperature=0)
    refused("temperature must be positive while training", temperature=0.0)
    refused("top_p must be a finite number above 0, at most 1", top_p=2.0)
    refused("mean nothing to Adam: pass optimizer_class=.*ScaledAdam", value_lr_scale=2.0)
    refused("n_quantiles must be at least 1, got 0", TextQuantilePolicy, n_quantiles=0)
    refused("tokenizer has 9 tokens", model=tiny_lm(letter_tokenizer("abcdef")))
    refused("the model's context is 10", model=tiny_lm(max_position_embeddings=10))
    refused("norm_obs=False", env=VecNormalize(letter_env()))
