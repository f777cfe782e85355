"""Identical reads share one statement, and an answer may live for the fraction of a second that its mapping allows.

Who may share what (docs/decisions/0009):
* every read may share a statement that has not begun yet: its answer is as fresh as one of its own;
* a read that may be a little old (`loose`) also shares one that runs, and a cached answer;
* nobody gets an answer begun before the last write of this agent to that source had ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message

from his_db.errors import DeadlinePassed

_CACHED: Final = 512  # answers at most
_CACHED_BYTES: Final = 256 * 1024  # of one answer


@dataclass(frozen=True, slots=True)
class Read:
    """What makes two reads identical: mapping (by identity), and bytes of the request."""

    mapping: Any
    request: bytes
    source: str
    loose: bool
    keep: timedelta | None
    """How long an answer may be used again, from the begin of its read; None: not at all."""

    @property
    def key(self) -> tuple[int, bytes]:
        return id(self.mapping), self.request


@dataclass(slots=True, eq=False)
class _Flight:
    read: Read
    epoch: int
    made_at: float
    task: asyncio.Task[Message] | None = None
    begun: bool = False
    waiters: int = 0
    joined: int = 0

    def begin(self) -> None:
        """From the lane's thread, before the first statement."""
        self.begun = True


@dataclass(frozen=True, slots=True)
class _Cached:
    read: Read  # also keeps the mapping alive, so that its id is not given to another
    epoch: int
    until: float
    answer: Message


Work = Callable[[Callable[[], None]], Coroutine[Any, Any, Message]]
"""Runs the read; calls its argument when the statement begins, from whatever thread."""


class Coalescer:
    """For one event loop. ``clock`` as ``time.monotonic``, the clock of deadlines."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._flights: dict[tuple[int, bytes], _Flight] = {}
        self._cache: dict[tuple[int, bytes], _Cached] = {}
        self._epochs: defaultdict[str, int] = defaultdict(int)
        self.coalesced = 0
        self.cached = 0

    async def share(self, read: Read, work: Work, *, deadline: float | None) -> Message:
        """The answer, the caller's own to keep. Raises what ``work`` raises, and DeadlinePassed."""
        cached = self._cached(read)
        if cached is not None:
            self.cached += 1
            return _copy(cached)
        flight = self._flights.get(read.key)
        if flight is not None and self._may_join(read, flight):
            self.coalesced += 1
        else:
            flight = self._start(read, work)
        flight.joined += 1
        answer = await self._wait(flight, deadline)
        return answer if flight.joined == 1 and read.keep is None else _copy(answer)

    def wrote(self, source: str) -> None:
        """A write to the source has ended, however: what was read before may be wrong now."""
        self._epochs[source] += 1

    def forget(self) -> None:
        """Other mappings run from now on: no answer of the old ones is used again."""
        self._cache.clear()

    def _may_join(self, read: Read, flight: _Flight) -> bool:
        if flight.task is None or flight.task.done():
            return False
        return not flight.begun or (read.loose and flight.epoch == self._epochs[read.source])

    def _start(self, read: Read, work: Work) -> _Flight:
        flight = _Flight(read, self._epochs[read.source], self._clock())
        flight.task = asyncio.create_task(work(flight.begin), name="his160 read")
        self._flights[read.key] = flight
        flight.task.add_done_callback(lambda task: self._ended(flight, task))
        return flight

    def _ended(self, flight: _Flight, task: asyncio.Task[Message]) -> None:
        self._leave(flight)
        if task.cancelled() or task.exception() is not None:  # asked for: also when all callers have gone
            return
        keep = flight.read.keep
        if keep is not None and task.result().ByteSize() <= _CACHED_BYTES:
            self._make_room()
            until = flight.made_at + keep.total_seconds()
            self._cache[flight.read.key] = _Cached(flight.read, flight.epoch, until, task.result())

    async def _wait(self, flight: _Flight, deadline: float | None) -> Message:
        assert flight.task is not None
        flight.waiters += 1
        seconds = None if deadline is None else max(0.0, deadline - self._clock())
        try:
            async with asyncio.timeout(seconds) as limit:
                return await asyncio.shield(flight.task)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlinePassed("the deadline passed while the read waited or ran") from None
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._leave(flight)
                flight.task.cancel()  # nobody wants it: dropped when it has not begun

    def _leave(self, flight: _Flight) -> None:
        if self._flights.get(flight.read.key) is flight:
            del self._flights[flight.read.key]

    def _cached(self, read: Read) -> Message | None:
        if not read.loose or read.keep is None:
            return None
        found = self._cache.get(read.key)
        if found is None or found.until <= self._clock() or found.epoch != self._epochs[read.source]:
            return None
        return found.answer

    def _make_room(self) -> None:
        if len(self._cache) < _CACHED:
            return
        now = self._clock()
        self._cache = {key: item for key, item in self._cache.items() if item.until > now}
        while len(self._cache) >= _CACHED:
            del self._cache[next(iter(self._cache))]


def _copy(answer: Message) -> Message:
    own = type(answer)()
    own.CopyFrom(answer)
    return own
