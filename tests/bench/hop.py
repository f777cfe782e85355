"""The floor of a lane: event loop → thread → event loop and nothing else, to which every blocking driver is bound.

One queue, threads that hold a driver each, results that share a wake-up of the loop. No limits, deadlines, breakers,
counters, errors: what is left of a lane when everything that it is for is taken away.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.bare import Driver

Work = Callable[[Driver], Any]


class Hop:
    """Make it in the event loop; ``close`` ends its threads, not the drivers."""

    def __init__(self, drivers: Sequence[Driver]) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[tuple[asyncio.Future[Any], Work] | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._scheduled = False
        self._threads = [threading.Thread(target=self._serve, args=(driver,), name="bench-hop") for driver in drivers]
        for thread in self._threads:
            thread.start()

    def run(self, work: Work) -> asyncio.Future[Any]:
        """``work`` in a thread; what it raises ends the bench."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._asked.put((future, work))
        return future

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, driver: Driver) -> None:
        while (asked := self._asked.get()) is not None:
            future, work = asked
            self._done.append((future, work(driver)))
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        while self._done:
            future, result = self._done.popleft()
            future.set_result(result)


async def rate(drivers: Sequence[Driver], work: Work, in_flight: int, seconds: float) -> float:
    """Works a second, ``in_flight`` of them asked for at a time."""
    hop = Hop(drivers)
    until = time.perf_counter() + seconds
    count = 0

    async def loop() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await hop.run(work)
            count += 1

    try:
        started = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(in_flight)))
        return count / (time.perf_counter() - started)
    finally:
        hop.close()
