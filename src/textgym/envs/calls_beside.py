"""Calls of the reward model in threads, beside the rollout that goes on meanwhile."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CallsBeside(Generic[Item, Answer]):
    """Asks about items as they come, in at most so many calls at a time.

    What comes while all of them are busy is gathered, and goes into the next call together: the
    slower the answers, the larger the batches. Threads live only while there is something to ask.
    A copy, by `copy` or `pickle`, begins with nothing asked.

    :param ask: answers for a batch; what it raises is handed out by `collect`.
    :param workers: calls at a time.
    """

    def __init__(self, ask: Callable[[Sequence[Item]], Answer], workers: int) -> None:
        self.ask, self.workers = ask, workers
        self._change = threading.Condition()
        self._gathered: list[Item] = []
        self._answers: list[tuple[list[Item], Answer | BaseException]] = []
        self._busy = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without calls under way and their threads."""
        return {"ask": self.ask, "workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        CallsBeside.__init__(self, **state)

    def submit(self, items: Sequence[Item]) -> None:
        """Have items asked about as soon as a call is free."""
        with self._change:
            self._gathered += items
            if self._busy < self.workers and self._gathered:
                self._busy += 1
                threading.Thread(target=self._work, name="reward", daemon=True).start()

    def collect(self) -> list[tuple[list[Item], Answer | BaseException]]:
        """Wait for all answers: each batch with what came of it, every one handed out once."""
        with self._change:
            self._change.wait_for(lambda: self._busy == 0)
            answers, self._answers = self._answers, []
            return answers

    def _work(self) -> None:
        while True:
            with self._change:
                items, self._gathered = self._gathered, []
                if not items:
                    self._busy -= 1
                    self._change.notify_all()
                    return
            outcome: Answer | BaseException
            try:
                outcome = self.ask(items)
            except BaseException as error:
                outcome = error
            with self._change:
                self._answers.append((items, outcome))
