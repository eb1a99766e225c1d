"""The closed loop without a policy: what is asked, when it is refitted, what a lost store does."""

import numpy as np
import pytest
from textgym_people import FlakyLabels, human_reward, likes_a, new_store

from textgym.errors import InputError, StorageError
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.simulated import answer_open
from textgym.states import load_state_of, state_of

pytestmark = pytest.mark.filterwarnings("ignore:.* only collects:UserWarning")


@pytest.fixture
def store(tmp_path):
    with new_store(tmp_path / "labels.db") as store:
        yield store


def texts_of(rollout, count=16):
    """Completions of one prompt, a few letters each."""
    rng = np.random.default_rng(rollout)
    return ["".join(rng.choice(list("abcd"), 6)) for _ in range(count)]


def play(reward, rollout, step=None):
    """One rollout of 16 texts; returns what the reward paid and told."""
    step = 100 * rollout if step is None else step
    reward.begin_rollout(step)
    texts = texts_of(rollout)
    answer = reward(["p "] * len(texts), texts)
    return answer, reward.end_rollout(step + 100)


def test_the_policys_texts_are_asked_about_with_who_wrote_them(store):
    reward = human_reward(store, run="mine")
    _, told = play(reward, 3)
    items = store.items()
    assert len(items) == told.figures["human/waiting"] == 6
    assert {item.query for item in items} == {"random"}  # nothing can disagree yet
    written = set(texts_of(3))
    asked = [text.text for item in items for text in item.texts]
    assert set(asked) <= written and len(set(asked)) == 12
    assert items[0].texts[0].source == {"run": "mine", "step": 400}
    assert items[0].prompt == "p "


def test_nobody_answers_and_the_rollouts_go_on_with_fresh_pairs(store):
    reward = human_reward(store)
    for rollout in range(12):
        answer, told = play(reward, rollout)
        assert answer.scores == [0.0] * 16  # it only collects
        assert told.figures["human/labels"] == 0
        assert told.figures["human/waiting"] <= 6
    closed = [item for item in store.items() if not item.is_open]
    assert closed  # stale ones made room
    assert sum(item.is_open for item in store.items()) == 6


def test_answers_refit_the_reward_and_the_refit_is_noted(store):
    reward = human_reward(store, run="mine")
    play(reward, 0)
    assert len(answer_open(store, likes_a, most=3)) == 3
    _, told = play(reward, 1)
    assert told.figures["human/labels"] == 0 and store.refits() == []  # 4 are needed
    answer_open(store, likes_a, most=3)
    _, told = play(reward, 2)
    assert told.figures["human/labels"] == 6 == told.labels
    (refit,) = store.refits("mine")
    assert refit.step == 300
    assert refit.answers == tuple(event.id for event in store.events())
    answer, _ = play(reward, 3)
    counts = [text.count("a") for text in texts_of(3)]
    assert np.corrcoef(answer.scores, counts)[0, 1] > 0.9
    assert set(answer.components) == {"disagreement"}
    by_step = {item.texts[0].source["step"]: item.query for item in store.items()}
    assert by_step == {100: "random", 200: "random", 300: "disagreement"}


def test_agreement_is_of_the_model_before_it_saw_the_answers(store):
    """The first model is of somebody who likes a, the new answers of one who likes it not."""

    def hates_a(prompt, first, second, rng):
        return likes_a(prompt, second, first, rng)

    reward = human_reward(store)
    play(reward, 0)
    answer_open(store, likes_a, most=6)
    first = play(reward, 1)[1].by_labels
    assert set(first) == {"fit"} and first["fit"] > 0.6  # nothing stood before it
    clear = [(Text("aaaaa" + c), Text("bcdcb" + c)) for c in "bcd"]
    store.add_items([NewItem("p ", pair, priority=1e9) for pair in clear])
    answer_open(store, hates_a, name="other", most=3)
    told = play(reward, 2)[1]
    assert told.by_labels["agreement"] == 0.0
    assert told.labels == 9


def test_the_prior_is_paid_until_there_are_answers_and_is_measured(store):
    def prior(prompts, completions, **columns):
        return [float(text.count("a")) for text in completions]

    reward = human_reward(store, prior=prior)
    answer, _ = play(reward, 0)
    assert list(answer.scores) == [text.count("a") for text in texts_of(0)]
    answer_open(store, likes_a, most=6)
    assert play(reward, 1)[1].figures["human/agreement"] == 1.0


def test_caution_takes_off_the_members_disagreement(store):
    play(human_reward(store), 0)
    careful = human_reward(store, caution=2.0)
    answer_open(store, likes_a)
    one, two = (
        reward(["p "] * 3, ["aab", "bcd", "dda"]) for reward in (human_reward(store), careful)
    )
    spread = np.array(one.components["disagreement"])
    assert spread.min() > 0
    assert np.array(two.scores) == pytest.approx(np.array(one.scores) - 2 * spread)


def test_ties_count_and_skips_do_not(store):
    reward = human_reward(store, first=3)
    pairs = [("a", "b"), ("c", "d"), ("ab", "cd"), ("aa", "bb")]
    store.add_items([NewItem("p ", (Text(x), Text(y))) for x, y in pairs])
    given = {"a": "first", "c": "tie", "ab": None, "aa": "both_bad"}
    answer_open(store, lambda prompt, first, second, rng: given[first])
    play(reward, 0)
    answered = reward._log.answered(reward.fitted)
    labels = {
        answered.texts[i]: y
        for i, y in zip(answered.pairs.first, answered.pairs.label, strict=True)
    }
    assert labels == {"p a": 1.0, "p c": 0.5, "p aa": 0.5}


def test_an_answer_that_was_undone_is_left_out_of_later_fits(store):
    reward = human_reward(store)
    play(reward, 0)
    events = answer_open(store, likes_a, most=5)
    play(reward, 1)
    assert reward.fitted == [event.id for event in events]
    store.undo("simulated", "undo-1", events[0].id)
    answer_open(store, likes_a, most=4)
    play(reward, 2)
    assert events[0].id not in reward.fitted and len(reward.fitted) == 8


def test_a_run_of_the_same_name_makes_the_same_refits_again(store):
    """Although all the answers are there from the start, and more came since."""
    first = human_reward(store, run="mine")
    paid = []
    for rollout in range(6):
        paid.append(play(first, rollout)[0].scores)
        answer_open(store, likes_a, most=2)
    answer_open(store, likes_a)
    assert [refit.step for refit in store.refits()] == [300, 500]
    count = len(store.items())
    again = human_reward(store, run="mine")
    for rollout in range(5):  # from 500 on it is free
        assert list(play(again, rollout)[0].scores) == list(paid[rollout])
    assert len(store.refits()) == 2 and len(store.items()) == count  # nothing more is asked


def test_a_state_goes_on_to_the_last_bit(store):
    reward = human_reward(store)
    for rollout in range(3):
        play(reward, rollout)
        answer_open(store, likes_a, most=4)
    state = state_of(reward, "human")
    other = human_reward(store)
    load_state_of(other, state, "human")
    assert other.run == reward.run
    assert play(other, 3)[0].scores == play(reward, 3)[0].scores
    assert state_of(reward, "x")["fitted"].tolist() == state_of(other, "x")["fitted"].tolist()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"features": "others"}, "features must be 'letters'"),
        ({"fitted_at": -2}, "fitted_at must be a whole number"),
        ({"heads": {"weights": np.ones((2, 3))}}, "weights"),
        ({"heads": {"weights": np.ones((1, 4)), "mean": np.zeros(1), "std": np.zeros(1)}}, "std"),
    ],
)
def test_a_made_up_state_is_refused(store, change, expected):
    state = human_reward(store).state_dict() | change
    with pytest.raises(InputError, match=expected):
        human_reward(store).load_state_dict(state)


def play_prompts(reward, rollout, prompts):
    reward.begin_rollout(100 * rollout)
    texts = texts_of(rollout, 4 * len(prompts))
    reward([prompt for prompt in prompts for _ in range(4)], texts)
    return reward.end_rollout(100 * rollout + 100)


def test_answers_about_prompts_that_are_set_aside_are_never_fitted(store):
    prompts = [f"prompt {n} " for n in range(12)]
    reward = human_reward(store, run="mine", held_out=0.5)
    for rollout in range(4):
        told = play_prompts(reward, rollout, prompts)
        answer_open(store, likes_a, most=8)
    items = {item.id: item for item in store.items()}
    aside = {item.prompt for item in items.values() if item.query == "held_out"}
    own = {item.prompt for item in items.values() if item.query != "held_out"}
    assert aside and own and not aside & own
    by_event = {event.id: items[event.item].query for event in store.events()}
    assert reward.fitted and "held_out" not in {by_event[number] for number in reward.fitted}
    assert list(by_event.values()).count("held_out") >= 8
    assert 0.5 < told.by_labels["held_out_accuracy"] <= 1.0
    other = human_reward(store, run="other")  # another loop on this store leaves them alone too
    other.begin_rollout(0)
    assert "held_out" not in {by_event[number] for number in other.fitted} and other.fitted


def test_nothing_more_is_asked_once_there_are_enough_answers(store):
    prompts = [f"prompt {n} " for n in range(12)]
    reward = human_reward(store, run="mine", held_out=0.25, most=9)
    for rollout in range(6):
        play_prompts(reward, rollout, prompts)
        answer_open(store, likes_a)
    play_prompts(reward, 6, prompts)
    asked = [item.query == "held_out" for item in store.items()]
    assert (asked.count(False), asked.count(True)) == (9, 3)
    assert len(store.events()) == 12


def test_what_is_open_is_closed_where_others_gave_the_answers(store):
    reward = human_reward(store, run="mine", most=6)
    play(reward, 0)
    assert sum(item.is_open for item in store.items()) == 6
    store.add_items(
        [NewItem("p ", (Text("a" * k), Text("b" * k)), priority=1e9) for k in range(1, 7)]
    )
    answer_open(store, likes_a, most=6)
    _, told = play(reward, 1)
    assert told.figures["human/waiting"] == 0 and told.labels == 6
    assert [item.is_open for item in store.items()][:6] == [False] * 6


def test_a_store_that_is_gone_is_one_warning_and_the_run_goes_on(store):
    labels = FlakyLabels(store)
    reward = human_reward(labels)
    play(reward, 0)
    answer_open(store, likes_a, most=6)
    play(reward, 1)
    fitted, paid = list(reward.fitted), reward.heads
    labels.is_gone, before = True, labels.calls
    with pytest.warns(
        UserWarning,
        match=r"locked by another program; the run goes on with the rew"
        r"ard it has \(6 answers\) and tries again later",
    ):
        play(reward, 2)
    for rollout in range(3, 9):
        play(reward, rollout)
    assert labels.calls - before == 3  # after 1, 2, then 4 rollouts
    assert reward.fitted == fitted and reward.heads is paid
    labels.is_gone = False
    answer_open(store, likes_a, most=6)
    with pytest.warns(UserWarning, match="the store of labels is reached again"):
        for rollout in range(9, 18):
            play(reward, rollout)
    assert len(reward.fitted) > 6


def test_a_store_that_is_gone_at_the_start_stops_the_run(store):
    labels = FlakyLabels(store)
    labels.is_gone = True
    with pytest.raises(StorageError, match="locked by another program"):
        human_reward(labels).begin_rollout(0)


def test_refits_that_a_run_must_make_again_need_no_store_once_it_was_read(store):
    first = human_reward(store, run="mine")
    play(first, 0)
    answer_open(store, likes_a, most=6)
    play(first, 1)
    labels = FlakyLabels(store)
    again = human_reward(labels, run="mine")
    again.begin_rollout(0)
    labels.is_gone = True
    with pytest.warns(UserWarning, match="locked"):
        again.end_rollout(100)
    again.begin_rollout(100)
    again.end_rollout(200)
    assert again.fitted == first.fitted
    assert np.array_equal(again.heads.weights, first.heads.weights)


def test_outside_of_training_it_is_fitted_to_all_answers_and_nothing_is_noted(store):
    store.add_items([NewItem("p ", (Text("a" * k), Text("b" * k))) for k in range(1, 7)])
    answer_open(store, likes_a)
    reward = human_reward(store)
    good, bad = reward(["p ", "p "], ["aaa", "bbb"]).scores
    assert good > 0.5 and bad < -0.5
    assert store.refits() == [] and len(store.items()) == 6
    assert reward.state_dict()["heads"] is None


def test_another_store_in_its_place_is_not_mixed_in(store, tmp_path):
    labels = FlakyLabels(store)
    reward = human_reward(labels)
    play(reward, 0)
    with new_store(tmp_path / "other.db") as other:
        labels.store = other
        with pytest.warns(UserWarning, match="another store of labels than before"):
            play(reward, 1)
        assert other.items() == []


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"waiting": 0}, "waiting must be at least 1, got 0"),
        ({"caution": -1.0}, "caution must be from 0, got -1"),
        ({"queries": "best"}, "unknown query rule 'best'"),
        ({"held_out": 0.95}, "held_out must be from 0 to 0.9, got 0.95"),
        ({"most": 3}, "most must be at least first=4, got 3"),
    ],
)
def test_settings_out_of_range_are_refused(store, keywords, expected):
    with pytest.raises(InputError, match=expected):
        human_reward(store, **keywords)
