"""Ctrl-C that waits."""

import os
import signal
import threading

import pytest

from textgym.interrupts import deferred_interrupt


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_only_raises_a_flag_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as is_interrupted:
        assert not is_interrupted()
        interrupt()
        assert is_interrupted()
        interrupt()
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_and_beside_another_handler_nothing_changes():
    heard = []

    def inside():
        with deferred_interrupt() as is_interrupted:
            heard.append(is_interrupted())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert heard == [False]
    previous = signal.signal(signal.SIGINT, lambda number, frame: heard.append("theirs"))
    try:
        with deferred_interrupt() as is_interrupted:
            interrupt()
            assert not is_interrupted()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert heard == [False, "theirs"]
