"""Training against a discriminator: the record, a policy that follows it, and exact resuming."""

import pytest
from textgym_people import LetterCounts
from textgym_resuming import ID, SMALL, digests, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.reward_models.adversarial.adversarial_reward import AdversarialReward

pytestmark = [
    pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*the discriminator has:UserWarning"),
]
CORPUS = [f"{'a' * (3 + i % 5)}{'b' * (i % 3)}" for i in range(15)] + [
    "a" * i for i in range(2, 12)
]


@pytest.fixture
def task():
    yield register_task
    unregister_task()


class Watched(AdversarialReward):
    """Remembers how often the policy wrote the letter a, of all letters."""

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        self.shares = []

    def end_rollout(self, step):
        text = "".join(self._texts)
        self.shares.append(text.count("a") / len(text))
        return super().end_rollout(step)


def agent_of(word, out, **settings):
    reward = Watched(CORPUS, LetterCounts(), seed=1)
    register_task(tokenizer=letter_tokenizer(), reward=reward)
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    agent = textgym.make_agent(
        word, ID, policy=lm, seed=0, out=out, checkpoint_tokens=100, keep=9,
        **{"n_envs": 4, "learning_rate": 0.01, **SMALL[word], **settings},
    )  # fmt: skip
    return agent, reward


def test_a_policy_learns_to_write_like_the_corpus(task, tmp_path):
    agent, reward = agent_of("ppo", tmp_path / "run", n_envs=16, batch_size=80)
    agent.learn(4000)
    # The two chase each other, so the highest four rollouts in a row count: of four seeds they rise
    # by .15 to .37, without learning by less than 0.
    shares = reward.shares
    highest = max(sum(shares[i : i + 4]) / 4 for i in range(len(shares) - 3))
    assert highest > sum(shares[:2]) / 2 + 0.08
    rows = rows_of(tmp_path / "run/metrics.jsonl")
    assert len(rows) == len(reward.shares) and all("adversarial/loss" in row for row in rows)
    assert "adversarial/accuracy" not in rows[0]
    assert all(0 <= row["adversarial/accuracy"] <= 1 for row in rows[1:])
    assert all(0 < row["reward_components/is_real"] < 1 for row in rows)


@pytest.mark.parametrize("word", ["ppo", "grpo"])
def test_a_run_that_was_killed_goes_on_to_the_last_bit(word, task, tmp_path):
    run = tmp_path / "run"
    whole, _ = agent_of(word, run)
    whole.learn(360)
    digest, recorded = digests(whole), rows_of(run / "metrics.jsonl")
    unregister_task()
    steps = sorted(int(place.name[5:]) for place in run.glob("checkpoints/step-*"))
    early = next(step for step in steps if step >= 100)
    agent_of(word, None)  # registers the task again, with a reward that knows nothing
    again = textgym.load_agent(run / f"checkpoints/step-{early}", out=run, exact=True)
    again.learn(360 - early, reset_num_timesteps=False)
    assert digests(again) == digest
    assert rows_of(run / "metrics.jsonl") == recorded
