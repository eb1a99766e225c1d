"""An `async def` reward model as one that is called like any other."""

import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any


class AsyncReward:
    """Runs a coroutine function in an event loop of its own, and waits for what it returns.

    The loop runs in a daemon thread from the first call on, so that calls from several threads wait
    side by side, and clients that belong to a loop can be kept from call to call.

    :param reward: an `async def` function, or an object with such a `__call__`.
    :param name: how it is called in logs and errors.
    """

    is_async = True

    def __init__(self, reward: Callable[..., Any], name: str) -> None:
        self.reward, self.name = reward, name
        self.__signature__ = inspect.signature(reward)
        self._lock = threading.Lock()
        self._running: Any = None

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """What the coroutine returns, or raises."""
        import asyncio

        answer = _contained(self.reward, arguments, keywords)
        return asyncio.run_coroutine_threadsafe(answer, self._loop()).result()

    def _loop(self) -> Any:
        import asyncio

        with self._lock:
            if self._running is None:
                self._running = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_run, args=(self._running,), name=f"reward {self.name}", daemon=True
                )
                thread.start()
                weakref.finalize(self, self._running.call_soon_threadsafe, self._running.stop)
            return self._running

    def __reduce__(self) -> Any:
        """Copies have a loop of their own."""
        return AsyncReward, (self.reward, self.name)


def is_async(reward: object) -> bool:
    """Whether a callable gives a coroutine."""
    call = getattr(reward, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(call)


def _run(loop: Any) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _contained(
    reward: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """The answer; what would end the loop, and with it every later call, is an ordinary error."""
    try:
        return await reward(*arguments, **keywords)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
