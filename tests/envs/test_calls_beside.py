"""Calls in threads beside something that goes on meanwhile; nobody here waits for a clock."""

import copy
import threading

import pytest

from textgym.envs.calls_beside import CallsBeside


def test_what_comes_while_all_calls_are_busy_goes_into_the_next_together():
    has_begun, may_end = threading.Event(), threading.Event()

    def ask(items):
        has_begun.set()
        assert may_end.wait(30)
        return [10 * item for item in items]

    calls = CallsBeside(ask, 1)
    calls.submit([1])
    assert has_begun.wait(30)
    for item in (2, 3, 4):
        calls.submit([item])
    may_end.set()
    assert calls.collect() == [([1], [10]), ([2, 3, 4], [20, 30, 40])]
    assert calls.collect() == []
    calls.submit([5])
    assert calls.collect() == [([5], [50])]


@pytest.mark.parametrize("workers", [2, 5])
def test_as_many_calls_at_a_time_as_there_are_workers(workers):
    begun = threading.Semaphore(0)
    meet = threading.Barrier(workers, timeout=30)  # broken unless all are there at once

    def ask(items):
        begun.release()
        meet.wait()
        return items[0]

    calls = CallsBeside(ask, workers)
    for item in range(workers):
        calls.submit([item])
        assert begun.acquire(timeout=30), "the call does not wait for the others"
    assert sorted(answer for _, answer in calls.collect()) == list(range(workers))


def test_an_error_is_an_answer_of_its_own_batch():
    def ask(items):
        if items == [2]:
            raise ValueError("two")
        return items[0]

    calls = CallsBeside(ask, 1)
    answers = []
    for item in (1, 2, 3):
        calls.submit([item])
        answers += calls.collect()
    assert [items for items, _ in answers] == [[1], [2], [3]]
    assert answers[0][1] == 1 and str(answers[1][1]) == "two" and answers[2][1] == 3


def test_a_copy_begins_with_nothing_asked():
    has_begun, may_end = threading.Event(), threading.Event()

    def ask(items):
        has_begun.set()
        assert may_end.wait(30)
        return sum(items)

    calls = CallsBeside(ask, 1)
    calls.submit([1])
    assert has_begun.wait(30)
    calls.submit([2])  # one call is under way, one item is gathered
    twin = copy.deepcopy(calls)
    assert twin.collect() == []
    may_end.set()
    twin.submit([5])
    assert twin.collect() == [([5], 5)]
    assert calls.collect() == [([1], 1), ([2], 2)]
