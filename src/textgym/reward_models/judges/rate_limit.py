"""When the next request may start: evenly spaced, and after the pauses that a server asks for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from textgym.errors import InputError


class RateLimit:
    """Starts that are at least 60 / per_minute seconds apart.

    :param per_minute: requests a minute; None for as many as come.
    :param clock: seconds that only grow.
    :param sleep: waits for so many seconds.
    :raises InputError: if `per_minute` is not above 0.
    """

    def __init__(
        self,
        per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if per_minute is not None and not per_minute > 0:
            raise InputError(f"requests_per_minute must be above 0, got {per_minute!r}")
        self.spacing = 60 / per_minute if per_minute else 0.0
        self.clock, self.sleep = clock, sleep
        self._next = self._pause_ends = float("-inf")

    async def turn(self) -> None:
        """Wait for a start of one's own."""
        while True:
            at = max(self.clock(), self._next, self._pause_ends)
            self._next = at + self.spacing
            while (left := at - self.clock()) > 0:
                await self.sleep(left)
            if at >= self._pause_ends:  # else a pause was asked for meanwhile
                return

    def pause(self, seconds: float) -> None:
        """No request starts within so many seconds from now."""
        self._pause_ends = max(self._pause_ends, self.clock() + seconds)
