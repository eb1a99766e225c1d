"""What a run writes down: figures by hand, totals that are what was optimised, documented tags."""

import math
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from front_door import ENV, byte_lm, read_lines, small_agent
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from textgym_latents import LetterDecoder
from textgym_testing import letter_env, letter_tokenizer, tiny_lm

import textgym
from textgym.agents.building.build import build_agent
from textgym.agents.building.words import PPO
from textgym.agents.runs.metrics_writer import JSONLines
from textgym.agents.runs.recording import recorder_of
from textgym.agents.runs.rollout_figures import episode_figures
from textgym.errors import StorageError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.rewards import RewardOutput

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def episode(text, reward, length, reason="stop", **components):
    return {
        "completion": text,
        "completion_length": length,
        "episode": {"r": reward},
        "finish_reason": reason,
        "reward_components": components,
    }


def test_the_figures_of_episodes_by_hand():
    episodes = [
        episode("a b a b", 1.0, 4, tone=2.0),
        episode("a b a b", 3.0, 8, "length", tone=4.0, taste=1.0),
        episode("c d", 2.0, 6, "truncated", tone=float("nan")),
    ]
    figures = episode_figures(episodes)
    assert figures["reward/environment"] == 2.0
    assert figures["reward/std"] == pytest.approx(math.sqrt(2 / 3))
    assert figures["reward/length_correlation"] == pytest.approx(1.0)
    assert figures["text/length"] == 6.0
    # Bigrams: ab ba ab, ab ba ab, cd: three different ones among seven.
    assert figures["text/distinct_2"] == pytest.approx(3 / 7)
    assert figures["text/duplicates"] == pytest.approx(1 / 3)
    for reason in ("stop", "length", "truncated"):
        assert figures[f"text/finish_{reason}"] == pytest.approx(1 / 3)
    assert figures["text/finish_context"] == 0.0
    assert figures["reward_components/tone"] == 3.0
    assert figures["reward_components/taste"] == 1.0
    assert episode_figures([]) == {}


def test_every_ending_is_counted():
    reasons = ["stop", "context", "length", "truncated", "context", "of my own", "stop", None]
    episodes = [episode("a", 1.0, 1, reason) for reason in reasons]
    del episodes[-1]["finish_reason"], episodes[-1]["completion"]  # as TimeLimit leaves them
    figures = episode_figures(episodes)
    shares = {k.removeprefix("text/finish_"): v for k, v in figures.items() if "finish" in k}
    assert shares == {
        "stop": 2 / 8,
        "length": 1 / 8,
        "context": 2 / 8,
        "truncated": 2 / 8,
        "of my own": 1 / 8,
    }
    assert figures["text/length"] == 1.0 and figures["reward/environment"] == 1.0


def test_a_component_that_never_applies_is_no_number_and_no_warning():
    figures = episode_figures([episode("a", 1.0, 1, tone=float("nan"))])
    assert math.isnan(figures["reward_components/tone"])


def test_lines_hold_numbers_only_and_null_for_what_is_not_finite(tmp_path):
    writer = JSONLines(tmp_path / "new" / "metrics.jsonl")
    writer.write({"b": np.float32(0.5), "a": 2, "text": "x", "nan": float("nan")}, {}, step=7)
    writer.write({"a": 3}, {}, step=8)
    assert read_lines(writer.path) == [
        {"step": 7, "a": 2.0, "b": 0.5, "nan": None},
        {"step": 8, "a": 3.0},
    ]
    writer.path.unlink()
    writer.path.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written"):
        writer.write({"a": 1}, {}, step=9)


class Rewards(BaseCallback):
    """What the algorithm learns from: the buffer's rewards, and where episodes begin."""

    def __init__(self):
        super().__init__()
        self.rewards, self.starts, self.lasts = [], [], []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.rewards.append(buffer.rewards.copy())
        self.starts.append(buffer.episode_starts.astype(bool))
        self.lasts.append(self.model._last_episode_starts.copy())


def totals_of(rewards, starts, last):
    """Mean per rollout of the totals of the episodes that ended in it, one step at a time."""
    means, open_totals = [], np.zeros(rewards[0].shape[1])
    for k in range(len(rewards)):
        ended = []
        for step in range(len(rewards[k])):
            open_totals += rewards[k][step]
            is_last = step + 1 == len(rewards[k])
            next_starts = last[k] if is_last else starts[k][step + 1]
            for env in np.flatnonzero(next_starts):
                ended.append(open_totals[env])
                open_totals[env] = 0.0
        means.append(np.mean(ended) if ended else None)
    return means


@pytest.mark.parametrize("kl", [{}, {"kl_coef": 0.3}, {"kl_coef": 0.3, "kl_target": 0.2}])
def test_total_reward_is_what_was_optimised(tmp_path, kl):
    tokenizer = letter_tokenizer()
    agent = build_agent(
        "ppo",
        PPO,
        letter_env(3, tokenizer=tokenizer),
        tiny_lm(tokenizer),
        reference=tiny_lm(tokenizer, seed=1) if kl else None,
        n_steps=10,
        batch_size=15,
        directory=tmp_path,
        seed=0,
        **kl,
    )
    seen = Rewards()
    agent.learn(120, callback=seen)
    rows = read_lines(tmp_path / "metrics.jsonl")
    expected = totals_of(seen.rewards, seen.starts, seen.lasts)
    assert len(rows) == len(expected) == 4
    for row, total in zip(rows, expected, strict=True):
        assert row["reward/total"] == pytest.approx(total, abs=1e-5)
        if kl:
            weighted = row["reward/environment"] - row["reward/total"]
            assert row["kl/weighted"] == pytest.approx(weighted, abs=1e-5)
    if "kl_target" not in kl and kl:
        assert all(
            row["kl/weighted"] == pytest.approx(0.3 * row["kl/per_episode"], abs=1e-5)
            for row in rows
        )


def documented():
    """The tags of docs/metrics.md, as patterns."""
    tags = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(tags) == len(set(tags))
    return {re.compile(re.escape(tag).replace("NAME", ".+") + "$"): tag for tag in tags}


# What other verbs log, and other tests look at.
ELSEWHERE = ("language_model/", "vae/", "evaluation/", "held_out", "human", "guards", "adversarial")
# Together they log everything else that docs/metrics.md knows of.
RUNS = {
    "ppo": {"kl_coef": 0.1, "clip_range_vf": 0.2, "n_steps": 64},
    "a2c": {"env_kwargs": {"reply": lambda prompt, turns: None, "max_context": 64}},
    "trpo": {"n_steps": 32, "batch_size": 64, "cg_max_steps": 2, "n_critic_updates": 1},
    "nlpo": {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "dtype": "bfloat16"},
    "grpo": {"kl_in": "loss", "kl_coef": 0.1, "kl_estimator": "k3", "n_epochs": 1},
    "dpo": {"kl_coef": 0.1},
    "dqn": {},
}


def logged(folder, name, **keywords):
    """The tags of two rollouts and more."""
    agent = small_agent(name, reward=two_parts, out=folder / name, **keywords)
    agent.learn(2 * max(256, getattr(agent, "n_steps", 0) * agent.n_envs) + 1, log_interval=1)
    rows = read_lines(folder / name / "metrics.jsonl")
    return {key for row in rows for key in row} - {"step"}


# These log everything else that its section on latent actions knows of.
ON_LATENTS = ("sac", "ppo", "ars")


def logged_on_latents(folder, word):
    """The tags of a run with latent actions."""
    env = "test/RecordedLatents-v0"
    fields = {"reward": two_parts, "max_new_tokens": 6, "tokenizer": LetterDecoder().tokenizer}
    textgym.register(env, prompts=["a", "b"], **fields)
    textgym.train(
        env,
        agent=word,
        decoder=LetterDecoder(),
        timesteps=400,
        n_envs=8,
        out=folder / word,
        progress_bar=False,
        report=lambda line: None,
    )
    rows = read_lines(folder / word / "metrics.jsonl")
    return {key for row in rows for key in row} - {"step"}


def two_parts(prompts, completions):
    """A reward with a named component."""
    scores = [float(len(text) % 3) for text in completions]
    return RewardOutput(scores, {"thirds": scores})


def test_every_tag_of_a_run_is_documented_and_the_reverse(tmp_path):
    tags = {"samples/continuations"}
    for name, keywords in RUNS.items():
        tags |= logged(tmp_path, name, **keywords)
    for word in ON_LATENTS:
        tags |= logged_on_latents(tmp_path / "latents", word)
    patterns = documented()
    undocumented = [tag for tag in tags if not any(p.match(tag) for p in patterns)]
    assert undocumented == []
    for pattern, tag in patterns.items():
        if not tag.startswith(ELSEWHERE):
            assert any(pattern.match(seen) for seen in tags), f"{tag} is never logged"


def test_pretraining_logs_what_is_documented(tmp_path):
    (tmp_path / "c.txt").write_text("\n".join(f"text {i}" for i in range(40)))
    small = {"hidden_size": 16, "num_hidden_layers": 1, "context": 32, "tokenizer": "byte"}
    textgym.pretrain(
        tmp_path / "c.txt",
        out=tmp_path / "lm",
        steps=2,
        heldout=0.2,
        progress_bar=False,
        report=lambda line: None,
        **small,
    )
    keys = {key for row in read_lines(tmp_path / "lm" / "metrics.jsonl") for key in row}
    tags = {tag for tag in documented().values() if tag.startswith("language_model/")}
    assert tags == {f"language_model/{key}" for key in keys - {"step"}}


def test_samples_stay_inside_the_context(tmp_path):
    lm = byte_lm(max_position_embeddings=24)
    agent = small_agent(
        lm=lm,
        out=tmp_path,
        env_kwargs={
            "prompts": ["12345678"],
            "max_new_tokens": 24,
            "reply": lambda prompt, turns: None,
            "max_context": 24,
        },
    )
    agent.learn(128)
    samples = read_lines(tmp_path / "samples.jsonl")
    assert [sample["step"] for sample in samples] == [0, 128]
    for sample in samples:
        assert sample["prompt"] == "12345678"
        assert len(lm.tokenizer.encode(sample["completion"])) <= 3 * 15


class Continuations(BaseCallback):
    """What the weights before each rollout write, by the tokens that they have learned from."""

    def __init__(self, prompts):
        super().__init__()
        self.prompts, self.at = prompts, {}

    def _on_rollout_start(self):
        self.at[self.num_timesteps] = continuations(self.model, self.prompts)

    def _on_step(self):
        return True


def continuations(agent, prompts):
    lm = CausalLM.from_agent(agent)
    return lm.generate(prompts, max_new_tokens=32, seed=0)


@pytest.mark.parametrize("name", ["ppo", "a2c", "trpo", "dqn", "grpo"])
def test_samples_are_of_the_weights_that_their_step_names(tmp_path, name):
    agent = small_agent(name, out=tmp_path, learning_rate=0.03, env_kwargs={"max_new_tokens": 16})
    prompts = ["One ", "Two "]
    recorder_of(agent).prompts = prompts
    recorder_of(agent).max_new_tokens = 32
    seen = Continuations(prompts)
    agent.learn(600, callback=seen)
    rows = read_lines(tmp_path / "samples.jsonl")
    steps = sorted({row["step"] for row in rows})
    assert steps[0] == 0 and len(steps) >= 3 and steps[-1] == agent.num_timesteps
    written = {step: [r["completion"] for r in rows if r["step"] == step] for step in steps}
    seen.at[agent.num_timesteps] = continuations(agent, prompts)
    assert written == {step: seen.at[step] for step in steps}
    assert written[0] != written[steps[-1]]
    agent.learn(1, reset_num_timesteps=False)  # one more rollout: one more set, at its end
    again = sorted({row["step"] for row in read_lines(tmp_path / "samples.jsonl")})
    assert again == [*steps, agent.num_timesteps]
    assert len(read_lines(tmp_path / "samples.jsonl")) == 2 * len(again)


def test_each_rollout_is_recorded_whatever_sb3_shows(tmp_path):
    agent = small_agent("a2c", out=tmp_path, n_steps=8)  # SB3 shows every hundredth rollout
    agent.learn(96)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [32, 64, 96]
    assert "train/value_loss" not in rows[0] and "train/value_loss" in rows[1]
    assert all(row["time/rollout_tokens_per_second"] > 0 for row in rows)


OTHERS = {
    "make_vec": lambda: textgym.make_vec(ENV, 4, seed=5, max_new_tokens=8),
    "make_vec_env": lambda: make_vec_env(ENV, 4, seed=5, env_kwargs={"max_new_tokens": 8}),
    "normalised": lambda: VecNormalize(OTHERS["make_vec"](), norm_obs=False),
    "bare": lambda: DummyVecEnv([lambda: gymnasium.make(ENV, max_new_tokens=8)] * 4),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_another_environment_is_recorded_too(tmp_path, name, other):
    agent = small_agent(name, out=tmp_path, env_kwargs={"max_new_tokens": 8})
    agent.learn(128)
    count = len(read_lines(tmp_path / "metrics.jsonl"))
    agent.set_env(OTHERS[other]())
    agent.learn(3 * 128, reset_num_timesteps=False)
    rows = read_lines(tmp_path / "metrics.jsonl")[count:]
    assert [row["step"] for row in rows][-1] == agent.num_timesteps == 512
    first, *later = rows
    if other != "bare":  # nobody has summed its rewards in the first rollout
        assert first["reward/environment"] <= 1
    for row in rows:
        assert 0 < row["text/length"] <= 8
        shares = [value for key, value in row.items() if key.startswith("text/finish_")]
        assert sum(shares) == pytest.approx(1.0)
    assert all(row["reward/environment"] <= 1 for row in later)
    assert recorder_of(agent).episodes == []


def test_no_episode_is_counted_twice_after_set_env():
    agent = small_agent(env_kwargs={"max_new_tokens": 8})
    counts, recorder = [], recorder_of(agent)
    rollout_done = recorder.rollout_done

    def count(rollout):
        counts.append(len(recorder.episodes))
        rollout_done(rollout)

    recorder.rollout_done = count
    for make in (OTHERS["make_vec"], OTHERS["make_vec_env"], OTHERS["bare"]):
        agent.set_env(make())
        monitor = Dones()
        agent.learn(256, callback=monitor)
        assert counts == monitor.counts and len(counts) == 2
        counts.clear()


class Dones(BaseCallback):
    """How many episodes end in each rollout, by what the algorithm sees."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def _on_rollout_start(self):
        self.counts.append(0)

    def _on_step(self):
        self.counts[-1] += int(self.locals["dones"].sum())
        return True


def test_long_names_of_components_do_not_end_a_run_that_prints(tmp_path):
    names = [f"how_much_people_liked_the_whole_text_{i}" for i in "ab"]

    def reward(prompts, completions):
        parts = {name: [1.0] * len(completions) for name in names}
        return RewardOutput([float(len(c)) for c in completions], parts)

    budget = {"max_new_tokens": 4}
    small_agent(reward=reward, verbose=1, env_kwargs=budget, out=tmp_path / "run").learn(128)
    row = read_lines(tmp_path / "run" / "metrics.jsonl")[0]
    assert [row[f"reward_components/{name}"] for name in names] == [1.0, 1.0]
