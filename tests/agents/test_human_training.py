"""Training on people's answers: what is recorded, and runs that go on to the last bit."""

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from textgym_people import FlakyLabels, human_reward, likes_a, new_store
from textgym_resuming import ID, SMALL, digests, register_task, rows_of, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.agents.runs.rollout_rewards import rollout_begins
from textgym.errors import StorageError
from textgym.reward_models.people.simulated import answer_open
from textgym.reward_models.shadows import WithShadows

pytestmark = pytest.mark.filterwarnings("ignore:.* only collects:UserWarning")
TOKENS = 360  # rollouts of 40
OF_THE_MOMENT = ("human/answers", "human/waiting")  # what the store held just then


class Person(BaseCallback):
    """Answers a few pairs while a rollout is played, up to a step."""

    def __init__(self, store, until):
        super().__init__()
        self.store, self.until = store, until

    def _on_rollout_start(self):
        if self.num_timesteps < self.until:
            answer_open(self.store, likes_a, most=3)

    def _on_step(self):
        return True


@pytest.fixture
def task():
    yield register_task
    unregister_task()


def agent_of(word, out, reward):
    register_task(tokenizer=letter_tokenizer(), reward=reward)
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    settings = {"learning_rate": 0.01, **SMALL[word]}
    return textgym.make_agent(
        word, ID, policy=lm, n_envs=4, seed=0, out=out, checkpoint_tokens=100, keep=9, **settings
    )


def rows(run):
    found = rows_of(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in OF_THE_MOMENT} for row in found]


@pytest.mark.parametrize("word", ["ppo", "grpo"])
def test_a_run_that_was_killed_makes_its_refits_again_to_the_last_bit(word, task, tmp_path):
    """Back at a checkpoint, with answers in the store that its first life did not have yet."""
    run = tmp_path / "run"
    with new_store(tmp_path / "labels.db") as store:
        whole = agent_of(word, run, human_reward(store))
        whole.learn(TOKENS, callback=Person(store, 300))
        digest, recorded, refits = digests(whole), rows(run), store.refits()
        assert len(refits) >= 2 and refits[-1].step > 200
        unregister_task()

        register_task(tokenizer=letter_tokenizer(), reward=human_reward(store))
        steps = {int(place.name[5:]) for place in run.glob("checkpoints/step-*")}
        early = min(step for step in steps if step >= 100)
        assert early < refits[-1].step
        place = run / f"checkpoints/step-{early}"
        again = textgym.load_agent(place, out=run, exact=True)
        assert again.num_timesteps == early
        again.learn(TOKENS - early, reset_num_timesteps=False)
        assert digests(again) == digest
        assert rows(run) == recorded
        assert store.refits() == refits


def test_the_record_has_the_labels_and_curves_over_them(task, tmp_path):
    run = tmp_path / "run"
    with new_store(tmp_path / "labels.db") as store:
        agent_of("ppo", run, human_reward(store)).learn(240, callback=Person(store, 240))
        refits = store.refits()
    labels = [row["human/labels"] for row in rows_of(run / "metrics.jsonl")]
    assert labels == sorted(labels) and labels[-1] == len(refits[-1].answers)
    events = EventAccumulator(str(next((run / "tensorboard").iterdir())))
    events.Reload()
    drawn = [point.step for point in events.Scalars("human_by_labels/fit")]
    assert drawn == [len(refit.answers) for refit in refits]


def test_a_store_that_goes_away_stops_no_run(task, tmp_path):
    class Breaks(Person):
        def _on_rollout_start(self):
            self.store.is_gone = self.num_timesteps >= 120

    with new_store(tmp_path / "labels.db") as store:
        labels = FlakyLabels(store)
        agent = agent_of("ppo", tmp_path / "run", human_reward(labels))
        with pytest.warns(UserWarning, match="the run goes on with the reward it has"):
            agent.learn(240, callback=Breaks(labels, 240))
    assert agent.num_timesteps == 240


def test_people_are_heard_inside_a_wrapper_and_texts_of_evaluations_are_not_asked_about(
    task, tmp_path
):
    with new_store(tmp_path / "labels.db") as store:
        human = human_reward(store, waiting=100)
        agent = agent_of("ppo", tmp_path / "run", WithShadows(human, {}))
        agent.learn(80)
        before = len(store.items())
        assert before > 0
        human(["a"] * 2, ["dddd", "cccc"])
        rollout_begins(agent.get_env(), 80)
        human.end_rollout(120)
        assert len(store.items()) == before


def test_a_store_that_is_gone_at_the_start_is_an_error(task, tmp_path):
    with new_store(tmp_path / "labels.db") as store:
        labels = FlakyLabels(store)
        labels.is_gone = True
        agent = agent_of("ppo", tmp_path / "run", human_reward(labels))
        before = {k: v.clone() for k, v in agent.policy.state_dict().items()}
        with pytest.raises(StorageError, match="locked"):
            agent.learn(80)
        now = agent.policy.state_dict()
        assert all(torch.equal(before[key], now[key]) for key in before)
