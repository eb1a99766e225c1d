"""The queue held against a model of it, whatever raters do in whatever order."""

import os
import shutil
import tempfile
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scipy.stats import binom

from textgym.reward_models.people import queue
from textgym.reward_models.people.records import NewItem, Reply, Text, counted, standing
from textgym.reward_models.people.store import ConflictError, LabelStore

RATERS = st.sampled_from(["anna", "ben", "cleo", "dora"])
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # commits wait for no disk
K, LEASE = 2, 100.0


def pairs(n, start=0, **more):
    return [
        NewItem(f"{i}", (Text("x"), Text("y")), key=f"{i}", **more) for i in range(start, start + n)
    ]


class Queue(RuleBasedStateMachine):
    """Raters come, answer, answer again, undo, skip and vanish; the server is started anew."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=MEMORY)
        self.now, self.log, self.shown, self.replies = 1000.0, [], {}, {}
        self.gold, self.closed, self.keys, self.items = set(), set(), 0, 0
        self.repeat_after, queue.REPEAT_AFTER = queue.REPEAT_AFTER, 1
        self.open()

    def open(self):
        self.store = LabelStore(
            f"{self.folder}/labels.db",
            clock=lambda: self.now,
            lease=LEASE,
            raters=K,
            repeats=0.3,
            gold=0.2,
            seed=1,
        )

    def key(self):
        self.keys += 1
        return f"key {self.keys}"

    def answers_of(self, item):
        """Who answered an item, by the log; skips and repeats aside."""
        return {
            event.rater
            for event in standing(self.log)
            if event.item == item and event.choice != "skip" and not event.is_repeat
        }

    def leases_of(self, item):
        """Who holds it now."""
        answered = {event.showing for event in standing(self.log)}
        return {
            showing.rater
            for showing in self.shown.values()
            if showing.item.id == item
            and showing.expires_at > self.now
            and not showing.is_repeat
            and showing.id not in answered
        }

    def is_held(self, showing):
        """Whether a rater holds it already: also after an undo, whoever else has it by then."""
        return showing is not None and showing.expires_at > self.now

    @rule(n=st.integers(1, 3), is_gold=st.booleans())
    def add_items(self, n, is_gold):
        ids = self.store.add_items(pairs(n, self.items, gold="first" if is_gold else None))
        assert ids == list(range(self.items + 1, self.items + n + 1))
        self.items += n
        if is_gold:
            self.gold |= set(ids)

    @rule(order=st.permutations(["anna", "ben", "cleo", "dora"]), count=st.integers(1, 3))
    def all_ask(self, order, count):
        for rater in order:
            self.ask_for(rater, count)

    @rule(rater=RATERS, count=st.integers(1, 3))
    def ask(self, rater, count):
        self.ask_for(rater, count)

    def ask_for(self, rater, count):
        before = {id: showing for id, showing in self.shown.items() if showing.rater == rater}
        said = {(e.item, e.is_repeat) for e in standing(self.log) if e.rater == rater}
        for showing in self.store.next(rater, count):
            item = showing.item.id
            assert showing.rater == rater and showing.expires_at == self.now + LEASE
            assert item not in self.closed
            assert (item, showing.is_repeat) not in said  # nobody is asked twice
            if showing.id in before:  # the order stays
                assert showing.is_swapped == before[showing.id].is_swapped
            if showing.is_repeat:
                first = next(s for s in before.values() if s.item.id == item and not s.is_repeat)
                assert showing.is_swapped != first.is_swapped
            elif item not in self.gold and not self.is_held(before.get(showing.id)):
                others = (self.answers_of(item) | self.leases_of(item)) - {rater}
                assert len(others) < K
            self.shown[showing.id] = showing

    @precondition(lambda self: self.shown)
    @rule(data=st.data(), choice=st.sampled_from(["a", "b", "tie", "both_bad", "skip"]))
    def answer(self, data, choice):
        showing = self.shown[data.draw(st.sampled_from(sorted(self.shown)))]
        reason = "other" if choice == "skip" else None
        reply = Reply(showing.id, self.key(), choice, reason=reason)
        if showing.id in {event.showing for event in standing(self.log)}:
            with pytest.raises(ConflictError):
                self.store.answer(showing.rater, reply)
            return
        event = self.store.answer(showing.rater, reply)
        swap = {"first": "second", "second": "first"}
        plain = {"a": "first", "b": "second", "skip": None}.get(choice, choice)
        assert event.winner == (swap.get(plain, plain) if showing.is_swapped else plain)
        self.replies[event.id] = reply
        self.log.append(event)

    @precondition(lambda self: self.replies)
    @rule(data=st.data())
    def answer_again(self, data):
        number = data.draw(st.sampled_from(sorted(self.replies)))
        event = next(event for event in self.log if event.id == number)
        assert self.store.answer(event.rater, self.replies[number]) == event

    @rule(rater=RATERS)
    def undo(self, rater):
        mine = [event for event in standing(self.log) if event.rater == rater]
        key = self.key()
        undone = self.store.undo(rater, key)
        if not mine:
            assert undone is None
            return
        event, showing = undone
        assert event.undoes == mine[-1].id and showing.id == mine[-1].showing
        assert self.store.undo(rater, key)[0] == event  # a retry takes nothing more back
        self.shown[showing.id] = showing
        self.log.append(event)

    @rule(seconds=st.sampled_from([1.0, LEASE + 1]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def restart(self):
        self.store.close()
        self.open()

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def close_item(self, data):
        item = data.draw(st.integers(1, self.items))
        self.store.close_items([item])
        self.closed.add(item)

    @invariant()
    def the_log_only_grows_and_says_everything(self):
        assert self.store.events() == self.log
        for rater in self.store.raters():
            mine = [event for event in standing(self.log) if event.rater == rater]
            assert [event for event, _ in self.store.history(rater, 1000)] == mine[::-1]
        answers = counted(self.log, K, sorted(self.gold))
        assert all(n <= K for n in Counter(event.item for event in answers).values())
        assert len({(event.item, event.rater) for event in answers}) == len(answers)

    def teardown(self):
        """No pair is stuck: once all leases are out, as many new raters as needed finish all."""
        self.now += LEASE + 1
        for rater in ("new", "newer", "newest"):
            while showings := self.store.next(rater, 20):
                for showing in showings:
                    self.store.answer(rater, Reply(showing.id, self.key(), "a"))
        answers = counted(self.store.events(), K, sorted(self.gold))
        found = Counter(event.item for event in answers)
        wanted = set(range(1, self.items + 1)) - self.gold - self.closed
        assert {item: found[item] for item in wanted} == dict.fromkeys(wanted, K)
        self.store.close()
        queue.REPEAT_AFTER = self.repeat_after
        shutil.rmtree(self.folder)


# All of R33: TEXTGYM_QUEUE_RUNS=1000 TEXTGYM_QUEUE_STEPS=50 pytest FILE -k TestQueue
TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=int(os.environ.get("TEXTGYM_QUEUE_RUNS", "12")),
    stateful_step_count=int(os.environ.get("TEXTGYM_QUEUE_STEPS", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def memory():
    folder = tempfile.mkdtemp(dir=MEMORY)
    yield folder
    shutil.rmtree(folder)


def test_sides_are_balanced_and_repeats_and_gold_come_at_their_shares(memory):
    with LabelStore(f"{memory}/l.db", raters=4, repeats=0.05, gold=0.05, seed=3) as store:
        store.add_items([*pairs(500), *pairs(80, 500, gold="first")])
        shown = []
        for rater in ("anna", "ben", "cleo", "dora"):
            for _ in range(25):
                for showing in store.next(rater, 20):
                    shown.append(showing)
                    key = f"{showing.id}"
                    store.answer(rater, Reply(showing.id, key, "a"))
    assert len(shown) == 2000
    swapped = sum(showing.is_swapped for showing in shown)
    low, high = binom.interval(0.997, 2000, 0.5)  # three standard deviations
    assert low <= swapped <= high
    low, high = binom.interval(0.997, 2000, 0.05)
    assert low <= sum(showing.is_repeat for showing in shown) <= high
    assert low <= sum(showing.item.gold is not None for showing in shown) <= high
    orders = [
        [s.item.id for s in shown if s.rater == rater and not s.is_repeat and not s.item.gold]
        for rater in ("anna", "ben")
    ]
    assert orders[0] != orders[1] and sorted(orders[0]) != orders[0]


def test_a_repeat_comes_ten_answers_later_at_least_and_never_of_what_is_closed(memory):
    with LabelStore(f"{memory}/l.db", repeats=0.5, gold=0.0) as store:
        store.add_items(pairs(100))
        answered, gaps = [], []
        for turn in range(80):
            [showing] = store.next("anna")
            item = showing.item.id
            if showing.is_repeat:
                gaps.append(turn - 1 - answered.index(item))
            store.answer("anna", Reply(showing.id, f"{turn}", "a"))
            answered.append(item)
            if turn == 5:
                store.close_items(answered[:3])
    assert len(gaps) > 20 and min(gaps) == queue.REPEAT_AFTER
    assert not set(answered[:3]) & set(answered[3:])


def test_a_higher_priority_comes_first(memory):
    with LabelStore(f"{memory}/l.db", repeats=0.0, gold=0.0) as store:
        store.add_items([*pairs(20), *pairs(2, 20, priority=1.0)])
        assert {showing.item.id for showing in store.next("anna", 2)} == {21, 22}
