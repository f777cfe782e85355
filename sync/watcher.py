"""The watcher of one stream: poll, turn changes into events, commit both in one transaction, again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from his_db.errors import HisError
from sync.audit import Audit, as_json
from sync.capture import Batch, Capture, CaptureSuspended
from sync.clock import Clock, Wait, wait_in_step
from sync.event_chunk import EventChunk, Tally, chunks_of, states_of
from sync.events import Source
from sync.outbox import Backoff, Outbox
from sync.store import Store, StoreError, StreamRow, Transaction
from sync.watch_control import WatchControl
from sync.watch_controls import reseed_done

_LOG = logging.getLogger("his160.sync.watcher")
_PAUSED: Final = timedelta(minutes=1)  # between two looks at whether it is over; whoever ends it wakes the watcher
_SUSPENDED_PAUSE: Final = timedelta(seconds=5)
_BACKOFF: Final = Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30))


@dataclass(slots=True)
class WatcherStatus:
    """How a stream stands. ``state``: ``starting``, ``running``, ``paused`` (by a person, ``paused`` says by whom and
    why), ``suspended`` (an alarm) or ``failing``.

    ``rung``, ``missed``, ``trouble``: see ``Capture``.
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
    rung: str = "D"
    missed: int = 0
    trouble: str = ""
    paused: str = ""
    reseeds: int = 0


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll did."""

    baseline: bool = False
    changes: int = 0
    events: int = 0
    has_more: bool = False


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
        wait: Wait = wait_in_step,
        audit: Audit | None = None,
    ) -> None:
        self._capture = capture
        self._store = store
        self._outbox = outbox
        self._site = site
        self._clock = clock
        self._interval = interval
        self._revision = revision
        self._wait = wait
        self._audit = audit or Audit(store, clock)
        self._wake = asyncio.Event()
        self._stopping = False
        self._reseed = ""
        self._reseeded = ""
        self.status = WatcherStatus(capture.stream)

    def wake(self) -> None:
        """Has the watcher look at once (a signal of the database, a call of the desk)."""
        self._wake.set()

    def stop(self) -> None:
        """Ends ``run`` after the poll under way."""
        self._stopping = True
        self._wake.set()

    def obey(self, control: WatchControl | None) -> bool:
        """What a person has said: pause or go on, from after the poll under way; begin anew. True: pause has changed.

        A reseed that is asked for while the watch is paused is done when it goes on.
        """
        paused = ""
        if control is not None and control.is_paused:
            paused = " ".join(part for part in ("paused by", control.by, control.since, control.note) if part)
        has_changed = bool(paused) is not bool(self.status.paused)
        self.status.paused = paused
        if control is not None and control.waits and control.reseed not in (self._reseed, self._reseeded):
            self._reseed = control.reseed  # taken up by the next poll: one may be under way
            self._wake.set()
        if has_changed:
            self._wake.set()
        return has_changed

    async def run(self) -> None:
        """Polls until ``stop``. Call it once."""
        while not self._stopping:
            self._wake.clear()
            if self.status.paused:
                self.status.state = "paused"
                await self._wait(self._wake, _PAUSED)
            else:
                await self._wait(self._wake, await self._step())

    async def poll_once(self) -> Poll:
        """One poll, committed. Raises HisError, StoreError, CaptureSuspended: then nothing is lost, poll again."""
        source = Source(self._site, self._capture.stream, self._revision())
        reseed = self._reseed
        if reseed:
            self._capture.reseed()
        batch = await self._capture.poll()
        now = self._clock()
        if batch.baseline:
            await self._store.write(lambda transaction: _keep_baseline(transaction, source.stream, batch, now))
            self._capture.confirm(batch.changes)
            events = 0
        else:
            events = await self._commit(source, batch, now)
        if reseed:
            await self._finish_reseed(reseed, batch, events, now)
        self._note(batch, now)
        return Poll(batch.baseline, len(batch.changes), events, batch.has_more)

    async def _finish_reseed(self, number: str, batch: Batch, events: int, now: datetime) -> None:
        """Writes down that it is done. Without that it is done again, which changes nothing any more."""
        aside = sum(state.absent for state in batch.quiet) - batch.moved
        found = {"rows": batch.rows, "changes": len(batch.changes), "events": events, "set_aside": aside}
        result = as_json(**found, moved=batch.moved, unreadable=batch.unreadable)
        entry = self._audit.entry("watch.reseeded", target=self._capture.stream, result="done", parameters=result)

        def unit(transaction: Transaction) -> None:
            reseed_done(transaction, self._capture.stream, number, result)
            transaction.audit.append(entry, now)

        await self._store.write(unit)
        _LOG.info("stream was reseeded", extra={"stream": self._capture.stream, "found": result})
        self._reseeded = number
        self.status.reseeds += 1
        if self._reseed == number:
            self._reseed = ""

    async def _commit(self, source: Source, batch: Batch, now: datetime) -> int:
        """Events and row states, chunk by chunk; each chunk is one transaction."""
        if batch.quiet:
            quiet = batch.quiet
            await self._store.write(lambda transaction: transaction.rows.put_many(source.stream, quiet))
        total, left = 0, len(batch.changes)
        chunks = chunks_of(source, batch, now)
        chunk = next(chunks, None)
        while chunk is not None:
            left -= len(chunk.changes)
            if left:
                tally, following = await self._write_and_make(chunk, chunks)
            else:
                tally, following = await self._store.write(chunk.keep), None
            self._capture.confirm(chunk.changes)
            self.status.suppressed += tally.suppressed
            self.status.strange += tally.strange
            total += tally.events
            if tally.events:
                self._outbox.appended()
            chunk = following
        self.status.events += total
        return total

    async def _write_and_make(self, chunk: EventChunk, chunks: Iterator[EventChunk]) -> tuple[Tally, EventChunk | None]:
        """Keeps the chunk, and makes the next one of them while its commit is on the way to the disk, which takes a
        mass change a tenth of its time. Not before: until then the store's thread needs the interpreter."""
        loop, put = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(put.set)

        writing = asyncio.ensure_future(self._store.write(chunk.keep_and_tell(tell)))
        writing.add_done_callback(lambda _: put.set())  # also when it failed
        try:
            await put.wait()
            following = next(chunks, None)
        except BaseException:
            writing.cancel()
            raise
        return await writing, following

    def _note(self, batch: Batch, now: datetime) -> None:
        status = self.status
        if status.state not in ("starting", "running"):
            _LOG.info("stream is well again", extra={"stream": status.stream})
        status.state, status.failures, status.last_error = "running", 0, ""
        status.polls += 1
        status.last_poll = now
        status.rows, status.unreadable = batch.rows, batch.unreadable
        status.changes += len(batch.changes)
        status.rung, status.missed, status.trouble = self._capture.rung, self._capture.missed, self._capture.trouble
        if batch.watch.poll is not None:
            self._interval = batch.watch.poll

    async def _step(self) -> timedelta:
        """One poll; how long to wait for the next."""
        try:
            if (await self.poll_once()).has_more:
                return timedelta(0)
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
    transaction.rows.put_many(stream, states_of(batch.changes, now))
    transaction.rows.put_stream(StreamRow(stream, now))
