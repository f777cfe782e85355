"""The watcher of one stream: poll, turn changes into events, commit both in one transaction, again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from google.protobuf.message import Message
from his160.v1 import event_pb2

from his_db.errors import HisError
from sync import outbox as outbox_rules
from sync.capture import Batch, Capture, CaptureSuspended, Change
from sync.clock import Clock, Wait, wait_for
from sync.events import Source, event_of, is_strange
from sync.outbox import Backoff, Outbox
from sync.store import RowState, Store, StoreError, StreamRow, Transaction

_LOG = logging.getLogger("his160.sync.watcher")
_CHUNK: Final = 500  # changes in one transaction: a mass suspension must not keep commands from the writer
_SUSPENDED_PAUSE: Final = timedelta(seconds=5)
_BACKOFF: Final = Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30))


@dataclass(slots=True)
class WatcherStatus:
    """How a stream stands. ``state``: ``starting``, ``running``, ``suspended`` (an alarm) or ``failing``.

    ``suppressed``: changes that were the platform's own. ``strange``: transitions that the state machine does not know.
    """

    stream: str
    state: str = "starting"
    polls: int = 0
    failures: int = 0  # in a row
    last_poll: datetime | None = None
    last_error: str = ""
    rows: int = 0
    unreadable: int = 0
    changes: int = 0
    events: int = 0
    suppressed: int = 0
    strange: int = 0


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll did."""

    baseline: bool = False
    changes: int = 0
    events: int = 0


@dataclass(slots=True)
class _Tally:
    events: int = 0
    suppressed: int = 0
    strange: int = 0
    states: list[RowState] = field(default_factory=list)


class Watcher:
    """Runs one capture. ``run`` never ends by an error; ``stop`` ends it after the poll under way."""

    def __init__(
        self,
        capture: Capture,
        store: Store,
        outbox: Outbox,
        *,
        site: str,
        clock: Clock,
        interval: timedelta = timedelta(milliseconds=500),
        revision: Callable[[], str] = lambda: "",
        wait: Wait = wait_for,
    ) -> None:
        self._capture = capture
        self._store = store
        self._outbox = outbox
        self._site = site
        self._clock = clock
        self._interval = interval
        self._revision = revision
        self._wait = wait
        self._wake = asyncio.Event()
        self._stopping = False
        self.status = WatcherStatus(capture.stream)

    def wake(self) -> None:
        """Has the watcher look at once (a signal of the database, a call of the desk)."""
        self._wake.set()

    def stop(self) -> None:
        """Ends ``run`` after the poll under way."""
        self._stopping = True
        self._wake.set()

    def accept(self) -> None:
        """A person says that the vanished rows are gone for good reason: ends a suspension, without events."""
        self._capture.accept()
        self._wake.set()

    async def run(self) -> None:
        """Polls until ``stop``. Call it once."""
        while not self._stopping:
            self._wake.clear()
            await self._wait(self._wake, await self._step())

    async def poll_once(self) -> Poll:
        """One poll, committed. Raises HisError, StoreError, CaptureSuspended: then nothing is lost, poll again."""
        source = Source(self._site, self._capture.stream, self._revision())
        batch = await self._capture.poll()
        now = self._clock()
        if batch.baseline:
            await self._store.write(lambda transaction: _keep_baseline(transaction, source.stream, batch, now))
            self._capture.confirm(batch.changes)
            events = 0
        else:
            events = await self._commit(source, batch, now)
        self._note(batch, now)
        return Poll(batch.baseline, len(batch.changes), events)

    async def _commit(self, source: Source, batch: Batch, now: datetime) -> int:
        """Events and row states, chunk by chunk; each chunk is one transaction."""
        if batch.quiet:
            quiet = batch.quiet
            await self._store.write(lambda transaction: transaction.rows.put_many(source.stream, quiet))
        total = 0
        changes = iter(batch.changes)
        while chunk := list(islice(changes, _CHUNK)):
            tally = await self._store.write(_unit(source, batch, chunk, now))
            self._capture.confirm(chunk)
            self.status.suppressed += tally.suppressed
            self.status.strange += tally.strange
            total += tally.events
            if tally.events:
                self._outbox.appended()
        self.status.events += total
        return total

    def _note(self, batch: Batch, now: datetime) -> None:
        status = self.status
        if status.state not in ("starting", "running"):
            _LOG.info("stream is well again", extra={"stream": status.stream})
        status.state, status.failures, status.last_error = "running", 0, ""
        status.polls += 1
        status.last_poll = now
        status.rows, status.unreadable = batch.rows, batch.unreadable
        status.changes += len(batch.changes)
        if batch.watch.poll is not None:
            self._interval = batch.watch.poll

    async def _step(self) -> timedelta:
        """One poll; how long to wait for the next."""
        try:
            await self.poll_once()
        except CaptureSuspended as error:
            self._failed("suspended", str(error))
            return max(self._interval, _SUSPENDED_PAUSE)
        except (HisError, StoreError) as error:
            self._failed("failing", f"{type(error).__name__}: {error}")
            return max(self._interval, _BACKOFF.limit(self.status.failures))
        except Exception as error:  # noqa: BLE001 - loop border: one stream's defect must not end the rest
            _LOG.exception("poll failed unexpectedly", extra={"stream": self.status.stream})
            self._failed("failing", f"unexpected {type(error).__name__}")
            return max(self._interval, _BACKOFF.limit(self.status.failures))
        return self._interval

    def _failed(self, state: str, detail: str) -> None:
        status = self.status
        if status.state != state:  # once for each change of state, not once for each poll
            _LOG.warning("stream interrupted", extra={"stream": status.stream, "state": state, "detail": detail})
        status.state, status.last_error = state, detail
        status.failures += 1


def _keep_baseline(transaction: Transaction, stream: str, batch: Batch, now: datetime) -> None:
    transaction.rows.put_many(stream, [_state(change, now) for change in batch.changes])
    transaction.rows.put_stream(StreamRow(stream, now))


def _unit(source: Source, batch: Batch, changes: Sequence[Change], now: datetime) -> Callable[[Transaction], _Tally]:
    def unit(transaction: Transaction) -> _Tally:
        tally = _Tally()
        for change in changes:
            tally.strange += is_strange(change)
            event = event_of(transaction, source, batch.watch, change, now)
            if event is None:
                continue
            if event.origin == event_pb2.ORIGIN_PLATFORM:  # 160 knows: it was its own command
                tally.suppressed += 1
            elif outbox_rules.append(transaction, event, now):
                tally.events += 1
        transaction.rows.put_many(source.stream, [_state(change, now) for change in changes])
        return tally

    return unit


def _state(change: Change, now: datetime) -> RowState:
    return RowState(change.key, change.version, _content(change.after), now)


def _content(message: Message | None) -> bytes | None:
    return None if message is None else message.SerializeToString(deterministic=True)
