"""What the logs say of the parts of a reward adds up to what was optimised, without padding."""

import itertools

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from textgym_resuming import ID, SMALL, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.reward_models import Clip, Gate, Lexicographic, Ranked, WeightedSum
from textgym.rewards import call_reward

pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")


def count(letter):
    def share(prompts, completions, **columns):
        return [float(text.count(letter)) for text in completions]

    share.__name__ = f"count_{letter}"
    return share


def only_long(prompts, completions, **columns):
    return [float(len(text)) if len(text) > 2 else None for text in completions]


def composed():
    order = {"first": Ranked(count("a"), 0, 3, 4), "second": Ranked(count("b"), 0, 3, 4)}
    return WeightedSum(
        {
            "clipped": (Clip(count("a"), 0.0, 1.5), 0.7),
            "gated": (Gate(count("b"), count("a"), otherwise=-0.25), -1.3),
            "ranked": (Lexicographic(order), 2.0),
            "long": (only_long, 0.1),
            "shadow": (count("c"), 0.0),
        }
    )


class Given(BaseCallback):
    """Every reward in the buffer, token by token, and where episodes begin."""

    def __init__(self):
        super().__init__()
        self.rewards, self.starts, self.rollouts = [], [], []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer
        self.rewards.append(buffer.rewards.copy())
        self.starts.append(buffer.episode_starts.copy())
        self.rollouts.append(np.full(len(buffer.rewards), len(self.rollouts)))


def returns_by_rollout(given):
    """The summed rewards of each episode that ended in each rollout."""
    rewards, starts = np.concatenate(given.rewards), np.concatenate(given.starts).astype(bool)
    rollouts = np.concatenate(given.rollouts)
    ended = [[] for _ in given.rewards]
    for env in range(rewards.shape[1]):
        begins = [*np.flatnonzero(starts[:, env])]
        for begin, end in itertools.pairwise(begins):
            ended[rollouts[end - 1]].append(float(rewards[begin:end, env].sum()))
    return ended


def parts_of(row):
    prefix = "reward_components/"
    return {name.removeprefix(prefix): value for name, value in row.items() if prefix in name}


@pytest.fixture
def task():
    register_task(tokenizer=letter_tokenizer(), reward=composed())
    yield ID
    unregister_task()


def test_what_is_logged_is_what_is_optimised(task, tmp_path):
    given = Given()
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    settings = {**SMALL["ppo"], "learning_rate": 0.01, "kl_coef": 0.3}
    agent = textgym.make_agent(
        "ppo", ID, policy=lm, n_envs=4, seed=0, out=tmp_path / "run", **settings
    )
    agent.learn(240, callback=given)
    rows = rows_of(tmp_path / "run/metrics.jsonl")
    ended = returns_by_rollout(given)
    lengths = {row["text/length"] for row in rows}
    assert len(rows) == len(ended) == 6 and not all(length == 6.0 for length in lengths)
    # The last rollout's last episodes have no next start in the buffer: they are left out.
    for row, returns in list(zip(rows, ended, strict=True))[:-1]:
        parts = parts_of(row)
        logged = sum(parts[f"{name}/weighted"] for name in ("clipped", "gated", "ranked", "long"))
        assert row["reward/environment"] == pytest.approx(logged, abs=1e-5)
        assert parts["shadow/weighted"] == 0.0 and parts["shadow"] > 0
        assert row["reward/total"] == pytest.approx(logged - row["kl/weighted"], abs=1e-5)
        assert row["reward/total"] == pytest.approx(np.mean(returns), abs=1e-5)
        gated = parts["gated/count_a/weighted"] + parts["gated/count_b/weighted"]
        assert -1.3 * gated == pytest.approx(parts["gated/weighted"], abs=1e-6)
        ranked = parts["ranked/first/weighted"] + parts["ranked/second/weighted"]
        assert 2.0 * ranked == pytest.approx(parts["ranked/weighted"], abs=1e-6)
    file = next((tmp_path / "run/tensorboard").rglob("events.*"))
    events = EventAccumulator(str(file))
    events.Reload()
    for name in parts_of(rows[0]):
        shown = [event.value for event in events.Scalars(f"reward_components/{name}")]
        kept = [row[f"reward_components/{name}"] for row in rows]
        assert shown == pytest.approx(kept, rel=1e-6), name


@pytest.mark.parametrize("word", ["grpo", "rloo"])
def test_without_a_critic_each_text_is_weighed_by_its_own_sum(word, task, monkeypatch):
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    settings = {**SMALL[word], "learning_rate": 0.01, "kl_coef": 0.0}
    agent = textgym.make_agent(word, ID, policy=lm, n_envs=4, seed=0, **settings)
    compute, texts = type(agent).compute_advantages, []

    def watched(self, totals):
        for episode, total in zip(self.episodes, totals.reshape(-1).tolist(), strict=True):
            parts = call_reward(composed(), [episode.prompt], [episode.completion], {}).components
            logged = sum(parts[f"{n}/weighted"][0] for n in ("clipped", "gated", "ranked", "long"))
            assert total == pytest.approx(logged, abs=1e-5)
            texts.append(len(episode.completion))
        return compute(self, totals)

    monkeypatch.setattr(type(agent), "compute_advantages", watched)
    agent.learn(200)
    assert len(texts) > 20 and len({*texts}) > 2
