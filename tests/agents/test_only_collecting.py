"""Without a prior and before the first answers the loop only collects: nothing moves the policy."""

import pytest
from textgym_people import human_reward, likes_a, new_store
from textgym_resuming import ID, SMALL, digests, register_task, unregister_task
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym.reward_models.people.simulated import answer_open
from textgym.reward_models.shadows import WithShadows

WORDS = ("ppo", "a2c", "trpo", "nlpo", "grpo", "dqn")


@pytest.fixture
def agent_of(tmp_path):
    """A function `(word, reward)` that builds an agent, and the store beside it."""

    def build(word, reward, **keywords):
        unregister_task_if_there()
        register_task(tokenizer=letter_tokenizer(), reward=reward)
        settings = {"learning_rate": 0.05, **SMALL[word], **keywords}
        if word == "dqn":
            settings["learning_starts"] = 20
        lm = tiny_lm(spread=6.0, num_hidden_layers=1)
        return textgym.make_agent(word, ID, policy=lm, n_envs=4, seed=0, **settings)

    def unregister_task_if_there():
        if ID in textgym.registry.tasks:
            unregister_task()

    yield build
    unregister_task_if_there()


@pytest.fixture
def store(tmp_path):
    with new_store(tmp_path / "labels.db") as store:
        yield store


def beta_of(agent):
    buffer = getattr(agent, "rollout_buffer", None)
    kl = getattr(agent, "kl", None) or getattr(buffer, "kl", None)
    return None if kl is None else kl.coefficient


@pytest.mark.parametrize("word", WORDS)
def test_nothing_moves_until_the_first_refit_and_everything_after(word, agent_of, store):
    agent = agent_of(word, human_reward(store))
    before, beta = digests(agent), beta_of(agent)
    said = r"'human' only collects: without a prior the policy stays as it is until 4 answers are"
    with pytest.warns(UserWarning, match=said + r" in \(0 so far\)"):
        agent.learn(120)
    assert digests(agent) == before and beta_of(agent) == beta
    assert agent._n_updates == 0 and agent.num_timesteps >= 120
    assert len(store.items()) > 4  # it has asked, all the while
    answer_open(store, likes_a)
    agent.learn(120, reset_num_timesteps=False)
    assert digests(agent) != before and agent._n_updates > 0


def test_the_rollout_before_the_first_refit_was_paid_nothing_and_is_not_learned_from(
    agent_of, store
):
    """Answers come in the middle of a rollout: the update after it is left out, the next is not."""
    agent = agent_of("ppo", human_reward(store))
    updates = []

    def answer(names, _):
        done = names["self"].num_timesteps
        if done == 100:
            answer_open(store, likes_a)
        if done % 40 == 4:  # the first step of a rollout
            updates.append(names["self"]._n_updates)
        return True

    with pytest.warns(UserWarning, match="only collects"):
        agent.learn(200, callback=answer)
    assert [refit.step for refit in store.refits()] == [120]
    assert updates == [0, 0, 0, 0, 2]  # two epochs an update


def test_a_prior_is_learned_from_at_once(agent_of, store):
    def prior(prompts, completions, **columns):
        return [float(text.count("a")) for text in completions]

    agent = agent_of("ppo", human_reward(store, prior=prior))
    before = digests(agent)
    agent.learn(40)
    assert digests(agent) != before


def test_people_who_only_look_on_hold_nothing_back(agent_of, store):
    def letters(prompts, completions, **columns):
        return [float(text.count("a")) for text in completions]

    agent = agent_of("ppo", WithShadows(letters, {"people": human_reward(store)}))
    before = digests(agent)
    with pytest.warns(UserWarning, match="only collects"):
        agent.learn(40)
    assert digests(agent) != before


def test_an_agent_that_waits_is_saved_by_stable_baselines3_as_any_other(agent_of, store, tmp_path):
    agent = agent_of("ppo", human_reward(store), kl_coef=0.0, kl_target=None)
    agent.save(tmp_path / "agent.zip")
    again = type(agent).load(tmp_path / "agent.zip")
    assert digests(again)[".policy.value_net.bias"] == digests(agent)[".policy.value_net.bias"]
    assert "train" not in vars(again)
