"""What users do with the algorithms without a critic: learn, stop, go on, save, load."""

import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm, read_lines, run_cli
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from textgym_groups import WORDS, assert_whole, front_door_agent, group_agent, group_env, play
from textgym_testing import assert_same_weights, letter_env, letter_tokenizer, tiny_lm

import textgym
from textgym.agents.algorithms.best_of_n import BestOfN
from textgym.agents.algorithms.dpo import DPO
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.algorithms.reinforce import REINFORCE
from textgym.agents.algorithms.rloo import RLOO
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.kl import KLPenalty
from textgym.envs.texts.labelled_rows import Preference

PAIRS = [Preference("a", "aa", "bc"), Preference("bcd", "ab", "dd")]
every_word = pytest.mark.parametrize("word", WORDS)


# ---- rollouts --------------------------------------------------------------


class StopAfter(BaseCallback):
    """Ends `learn` in the middle of a rollout."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def _on_step(self):
        return self.n_calls < self.steps


def test_who_stops_in_mid_rollout_and_goes_on_loses_no_token():
    def episodes(*stops):
        agent = group_agent(n_groups=3, learning_rate=0.0)
        for steps in stops:
            agent.learn(10_000, callback=StopAfter(steps), reset_num_timesteps=False)
        seen = []
        for _ in range(3):
            seen += play(agent)
        assert agent.num_timesteps % 4 == 0
        return seen

    straight, interrupted = episodes(), episodes(1, 2)
    for one, other in zip(straight, interrupted, strict=True):
        assert_whole(one)
        assert one.actions.tolist() == other.actions.tolist()
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-5)
        assert (one.reward, one.group, one.prompt) == (other.reward, other.group, other.prompt)


def test_a_reset_of_the_environment_mixes_nothing_up():
    agent = group_agent(n_groups=3)
    for _ in range(3):
        play(agent)
        agent.train()
        agent._setup_learn(1000, None)  # what `learn` does first: it resets the environment
        for _ in range(2):
            for episode in play(agent):
                assert_whole(episode)
            agent.train()


def test_words_of_the_environment_are_never_learned_from():
    fields = {
        "reply": lambda prompt, turns: "dddd" if len(turns) < 5 else None,
        "max_context": 28,
        "max_new_tokens": 8,
        "stop": ["c", "b"],
    }
    agent = group_agent(env=group_env(**fields), n_groups=4)
    d = letter_tokenizer().encode("d")[0]
    gaps = 0
    for episode in play(agent):
        assert_whole(episode)
        assert len(episode.actions) <= 8
        for place in np.flatnonzero(np.diff(episode.acted) > 1):
            start, end = episode.acted[place] + 2, episode.acted[place + 1] + 1
            assert episode.tokens[start:end].tolist() == [d] * 4
            gaps += 1
    assert gaps > 4


def test_a_constraint_holds_for_the_policy_and_for_its_reference():
    kl = KLPenalty(tiny_lm(spread=6.0), 0.1)
    agent = group_agent(env=group_env(constraint="[ab]*"), kl=kl, n_groups=4)
    for episode in play(agent):
        assert set(episode.completion) <= {"a", "b"}
    # The same weights under the same masks: no divergence, however much the masks take away.
    for episode, theirs in zip(agent.episodes, agent.reference_log_probs, strict=True):
        np.testing.assert_allclose(episode.log_probs, theirs, atol=1e-5)
    agent.learn(100)


def test_evaluating_in_mid_rollout_changes_nothing():
    def final(*callbacks):
        agent = group_agent(n_groups=2, n_epochs=2)
        return agent.learn(200, callback=list(callbacks)).policy

    evaluation = EvalCallback(letter_env(2), n_eval_episodes=4, eval_freq=5, verbose=0)
    assert_same_weights(final(), final(evaluation))
    assert np.isfinite(evaluation.last_mean_reward)


@every_word
def test_the_seed_fixes_the_training_and_no_global_generator_is_touched(word):
    def final(seed):
        agent = front_door_agent(word, seed=seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        agent.learn(300)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
        return agent.policy

    first, same, other = final(1), final(1), final(2)
    assert_same_weights(first, same)
    with pytest.raises(AssertionError):
        assert_same_weights(first, other, 1e-5)


# ---- what is logged --------------------------------------------------------


class Rewards(BaseCallback):
    """Notes the mean reward of the episodes that each rollout is learned from."""

    def __init__(self):
        super().__init__()
        self.means = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.means.append(np.mean([episode.reward for episode in self.model.episodes]))


@pytest.mark.parametrize("kl_in", ["reward", "loss"])
def test_the_logged_total_is_the_environments_reward_less_the_term(tmp_path, kl_in):
    keywords = {"num_generations": 2, "n_groups": 2, "kl_coef": 0.2, "kl_estimator": "k3"}
    keywords |= {"kl_in": kl_in, "reference": byte_lm(seed=5), "out": tmp_path}
    agent, rewards = front_door_agent("grpo", **keywords), Rewards()
    agent.learn(300, callback=rewards)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert len(rows) > 3
    for row, mean in zip(rows, rewards.means, strict=True):
        weighted = row["kl/weighted"] if kl_in == "reward" else 0.0
        assert row["reward/total"] == pytest.approx(mean - weighted, abs=1e-6)
        assert row["kl/weighted"] == pytest.approx(0.2 * row["kl/per_episode"])
        assert row["kl/per_episode"] > 0 and row["kl/coefficient"] == 0.2
    assert max(row["rollout/group_reward_std"] for row in rows) > 0
    trained = {"train/loss", "train/approx_kl", "train/clip_fraction", "train/grad_norm"}
    trained |= {"train/entropy_loss", "train/learning_rate", "train/n_updates"}
    trained |= {"train/kl_loss"} if kl_in == "loss" else set()
    assert trained <= set(rows[1])  # as SB3 does, an update is written with the next rollout
    assert rows[1]["train/entropy_loss"] < -4  # a fresh model: almost the log of 257 bytes


def test_a_rollout_that_finds_enough_groups_whole_plays_nothing(tmp_path):
    env_kwargs = {"max_new_tokens": 1, "prompts": ["One ", "Two "]}  # four groups end together
    options = {"n_envs": 8, "num_generations": 2, "n_groups": 1, "out": tmp_path}
    agent = front_door_agent("grpo", env_kwargs=env_kwargs, **options)
    agent.learn(16)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [8, 8, 8, 8, 16]
    played = ["time/rollout_tokens_per_second" in row for row in rows]
    assert played == [True, False, False, False, True]
    assert all(
        ("reward/total" in row) is is_played for row, is_played in zip(rows, played, strict=True)
    )


# ---- saving ----------------------------------------------------------------


@pytest.mark.parametrize("cls", [GRPO, RLOO, REINFORCE, BestOfN, DPO])
def test_saving_and_loading_as_sb3_does_keeps_every_prediction(tmp_path, cls):
    keywords = {"kl": KLPenalty(tiny_lm(), 0.1)} if cls is DPO else {}
    keywords |= {"preferences": PAIRS} if cls is DPO else {}
    agent = group_agent(cls, **keywords)
    agent.learn(64)
    agent.save(tmp_path / "agent.zip")
    again = cls.load(tmp_path / "agent.zip", env=group_env(), device="cpu")
    assert again.num_generations == 2 and again.num_timesteps == agent.num_timesteps
    assert_same_weights(again.policy, agent.policy)
    rows = torch.as_tensor(agent._last_obs)
    with torch.no_grad():
        ours, theirs = (a.policy.get_distribution(rows).distribution.probs for a in (agent, again))
    assert torch.equal(ours, theirs)
    before = again.policy.lm.model.norm.weight.clone()
    again.learn(64)
    assert not torch.equal(before, again.policy.lm.model.norm.weight)


@every_word
def test_load_agent_brings_everything_back(tmp_path, word):
    keywords = {} if word == "best_of_n" else {"kl_coef": 0.3, "kl_target": 0.01}
    if word == "dpo":
        path = tmp_path / "pairs.jsonl"
        path.write_text('{"prompt": "One ", "chosen": "two", "rejected": "six"}\n')
        keywords = {"kl_coef": 0.3, "preferences": path}
    keywords |= {"baseline": "running"} if word == "reinforce" else {}
    agent = front_door_agent(word, learning_rate=1e-2, final_learning_rate=1e-3, **keywords)
    agent.learn(300)
    save_agent(agent, tmp_path / "agent", environment=agent.text_environment)
    again = textgym.load_agent(tmp_path / "agent")
    assert type(again) is type(agent)
    assert_same_weights(again.policy, agent.policy)
    assert (again.num_timesteps, again._n_updates) == (agent.num_timesteps, agent._n_updates)
    assert (again.num_generations, again.n_groups) == (agent.num_generations, agent.n_groups)
    assert again.lr_schedule(1.0) == pytest.approx(1e-2)
    moments = agent.policy.optimizer.state_dict()["state"]
    assert moments
    for index, state in again.policy.optimizer.state_dict()["state"].items():
        assert torch.equal(state["exp_avg"], moments[index]["exp_avg"])
    if word != "best_of_n":
        assert again.kl.coefficient == agent.kl.coefficient
        assert (again.kl.coefficient == 0.3) == (word == "dpo")  # a target has moved it
        assert_same_weights(again.kl.model, byte_lm())  # not the model that was trained since
        with pytest.raises(AssertionError):
            assert_same_weights(again.policy.lm, byte_lm(), 1e-4)
    if word == "reinforce":
        assert again.running_mean == agent.running_mean != 0
    again.learn(100, reset_num_timesteps=False)


def test_a_run_is_gone_on_with(tmp_path):
    byte_lm().save_pretrained(tmp_path / "lm")
    out = tmp_path / "run"
    settings = ("--n-envs", 4, "--num-generations", 2, "--n-groups", 2, "--n-epochs", 1)
    start = ("train", ENV, "--agent", "grpo", "--policy", tmp_path / "lm", "--out", out, *settings)
    more = ("--kl-coef", 0.1, "--env-kwargs", "max_new_tokens=8", "--no-progress-bar")
    code, _, error = run_cli(*start, *more, "--timesteps", 100)
    assert code == 0, error
    first = read_lines(out / "metrics.jsonl")[-1]["step"]
    code, _, error = run_cli(
        "train", "--out", out, "--resume", "--timesteps", 300, "--no-progress-bar"
    )
    assert code == 0, error
    steps = [row["step"] for row in read_lines(out / "metrics.jsonl")]
    assert 100 <= first < 300 <= steps[-1] and steps == sorted(set(steps))
    agent = textgym.load_agent(out)
    assert isinstance(agent, GRPO) and agent.n_groups == 2 and agent.kl.coefficient == 0.1
    assert_same_weights(agent.kl.model, byte_lm())
