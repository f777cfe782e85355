"""Identical reads share one statement, and an answer may live for the fraction of a second that its mapping allows.

Who may share what (docs/decisions/0009):
* every read may share a statement that has not begun yet: its answer is as fresh as one of its own;
* a read that may be a little old (`loose`) also shares one that runs, and a cached answer;
* nobody gets an answer begun before the last write of this agent to that source had ended.

A crowd that asks the same (放号) is answered in steps: a statement is followed by an identical one only after STEP, or
as soon as as many callers wait for it as there lately were at once, for then nobody else is to come. One caller after
the other is never kept waiting, and nobody longer than a step.

While somebody books, a crowd that looks at this and that has to leave him the machine: then no statement of the source
is followed by an identical one before its step is over, whoever waits for it. Those steps differ in length, half a STEP
to a whole one: else all who look would be answered in one moment, and he would have to wait behind them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message

from his_db.deadlines import Deadlines
from his_db.errors import DeadlinePassed

_CACHED: Final = 512  # answers at most
_CACHED_BYTES: Final = 256 * 1024  # of one answer
STEP: Final = 0.3  # seconds between the begins of identical statements while a crowd asks
_MANY: Final = 8  # who browse a source at once, from which on those who write there come first
_LATELY: Final = 1.0  # seconds, at most twice that: how long a crowd is remembered
_DEMANDS: Final = 512  # requests remembered at most


@dataclass(frozen=True, slots=True)
class Read:
    """What makes two reads identical: mapping (by identity), and bytes of the request."""

    mapping: Any
    request: bytes
    source: str
    loose: bool
    keep: timedelta | None
    """How long an answer may be used again, from the begin of its read; None: not at all."""
    browses: bool = False
    """It looks at what there is (排班, 号源), as crowds do; a look that belongs to a command does not."""

    @property
    def key(self) -> tuple[int, bytes]:
        return id(self.mapping), self.request


@dataclass(slots=True, eq=False)
class _Demand:
    """How many callers ask at once: ``now``, at most in this second (``peak``) and in the one before it."""

    since: float
    now: int = 0
    peak: int = 0
    before: int = 0
    begun_at: float = -STEP  # of the last identical statement

    def enter(self, clock: float) -> None:
        if clock - self.since >= _LATELY:
            self.before = self.peak if clock - self.since < 2 * _LATELY else 0
            self.since, self.peak = clock, 0
        self.now += 1
        self.peak = max(self.peak, self.now)

    @property
    def lately(self) -> int:
        return max(self.peak, self.before)


@dataclass(slots=True, eq=False)
class _Source:
    """What goes on at one source: those who browse there, whatever they ask, and its writes.

    ``epoch``: writes that have ended; ``writing``: those under way; ``wrote_at``: when the last one ended.
    """

    readers: _Demand
    epoch: int = 0
    writing: int = 0
    wrote_at: float = -STEP

    def gives_way(self, clock: float) -> bool:
        """Whether those who browse are so many that they leave the machine to those who write."""
        return (self.writing > 0 or clock - self.wrote_at < STEP) and self.readers.lately >= _MANY


@dataclass(slots=True, eq=False)
class _Flight:
    read: Read
    epoch: int
    made_at: float
    demand: _Demand
    task: asyncio.Task[Message] | None = None
    begun: bool = False
    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    joined: int = 0
    complete: asyncio.Event | None = None
    """Set when all who can be expected wait; None when it does not wait for them."""
    gives_way: bool = False
    """It waits for its step whoever waits for it."""

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
    """For one event loop. ``clock`` as ``time.monotonic``, the clock of deadlines; ``chance`` as ``random.random``."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._flights: dict[tuple[int, bytes], _Flight] = {}
        self._cache: dict[tuple[int, bytes], _Cached] = {}
        self._sources: defaultdict[str, _Source] = defaultdict(lambda: _Source(_Demand(self._clock())))
        self._deadlines: Deadlines[asyncio.Future[None]] | None = None
        self._demands: dict[tuple[int, bytes], _Demand] = {}
        self.coalesced = 0
        self.cached = 0

    async def share(self, read: Read, work: Work, *, deadline: float | None) -> Message:
        """The answer, the caller's own to keep. Raises what ``work`` raises, and DeadlinePassed."""
        cached = self._cached(read)
        if cached is not None:
            self.cached += 1
            return _copy(cached)
        demands = [self._demand(read), *([self._sources[read.source].readers] if read.browses else [])]
        for demand in demands:
            demand.enter(self._clock())
        try:
            flight = self._flights.get(read.key)
            if flight is not None and self._may_join(read, flight):
                self.coalesced += 1
            else:
                flight = self._start(read, work, demands[0])
            flight.joined += 1
            answer = await self._wait(flight, deadline)
        finally:
            for demand in demands:
                demand.now -= 1
        return answer if flight.joined == 1 and read.keep is None else _copy(answer)

    @contextmanager
    def writing(self, source: str) -> Iterator[None]:
        """A write to the source runs. When it has ended, however, what was read before may be wrong."""
        found = self._sources[source]
        found.writing += 1
        try:
            yield
        finally:
            found.writing -= 1
            found.wrote_at = self._clock()
            found.epoch += 1

    def forget(self) -> None:
        """Other mappings run from now on: no answer of the old ones is used again."""
        self._cache.clear()

    def _may_join(self, read: Read, flight: _Flight) -> bool:
        if flight.task is None or flight.task.done():
            return False
        return not flight.begun or (read.loose and flight.epoch == self._sources[read.source].epoch)

    def _start(self, read: Read, work: Work, demand: _Demand) -> _Flight:
        now, source = self._clock(), self._sources[read.source]
        flight = _Flight(read, source.epoch, now, demand)
        gives_way = read.browses and source.gives_way(now)
        step = STEP * (1 - self._chance() / 2) if gives_way else STEP
        left = demand.begun_at + step - now
        if left > 0 and (gives_way or demand.lately > 1):
            flight.complete = asyncio.Event()
            flight.gives_way = gives_way
            flight.task = asyncio.create_task(self._in_step(flight, work, left), name="his160 read")
        else:
            demand.begun_at = now
            flight.task = asyncio.create_task(work(flight.begin), name="his160 read")
        self._flights[read.key] = flight
        flight.task.add_done_callback(lambda task: self._ended(flight, task))
        return flight

    async def _in_step(self, flight: _Flight, work: Work, left: float) -> Message:
        """The work, after ``left`` seconds or when all who can be expected wait for it."""
        assert flight.complete is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await flight.complete.wait()
        flight.epoch, flight.made_at = self._sources[flight.read.source].epoch, self._clock()
        flight.demand.begun_at = flight.made_at
        return await work(flight.begin)

    def _demand(self, read: Read) -> _Demand:
        demand = self._demands.get(read.key)
        if demand is None:
            if len(self._demands) >= _DEMANDS:
                now = self._clock()
                self._demands = {
                    key: each for key, each in self._demands.items() if each.now or now - each.since < 2 * _LATELY
                }
            demand = self._demands[read.key] = _Demand(self._clock())
        return demand

    def _ended(self, flight: _Flight, task: asyncio.Task[Message]) -> None:
        self._leave(flight)
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(None)
        if task.cancelled() or task.exception() is not None:  # asked for: also when all callers have gone
            return
        keep = flight.read.keep
        if keep is not None and task.result().ByteSize() <= _CACHED_BYTES:
            self._make_room()
            until = flight.made_at + keep.total_seconds()
            self._cache[flight.read.key] = _Cached(flight.read, flight.epoch, until, task.result())

    async def _wait(self, flight: _Flight, deadline: float | None) -> Message:
        """Wait for the flight, whose task goes on while anybody waits: nobody is cancelled with somebody else."""
        assert flight.task is not None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        leave = None
        if deadline is not None:
            if self._deadlines is None:
                self._deadlines = Deadlines(loop, _pass)
            leave = self._deadlines.enter(waiter, deadline, now=self._clock())
        flight.waiters.add(waiter)
        if flight.complete is not None and not flight.gives_way and len(flight.waiters) >= flight.demand.lately:
            flight.complete.set()
        try:
            await waiter
        finally:
            flight.waiters.discard(waiter)
            if leave is not None:
                leave()
            if not flight.waiters and not flight.task.done():
                self._leave(flight)
                flight.task.cancel()  # nobody wants it: dropped when it has not begun
        return flight.task.result()

    def _leave(self, flight: _Flight) -> None:
        if self._flights.get(flight.read.key) is flight:
            del self._flights[flight.read.key]

    def _cached(self, read: Read) -> Message | None:
        if not read.loose or read.keep is None:
            return None
        found = self._cache.get(read.key)
        if found is None or found.until <= self._clock() or found.epoch != self._sources[read.source].epoch:
            return None
        return found.answer

    def _make_room(self) -> None:
        if len(self._cache) < _CACHED:
            return
        now = self._clock()
        self._cache = {key: item for key, item in self._cache.items() if item.until > now}
        while len(self._cache) >= _CACHED:
            del self._cache[next(iter(self._cache))]


def _pass(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(DeadlinePassed("the deadline passed while the read waited or ran"))


def _copy(answer: Message) -> Message:
    own = type(answer)()
    own.CopyFrom(answer)
    return own
