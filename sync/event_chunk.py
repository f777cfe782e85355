"""Some changes of a poll on their way into the store: their events and the rows' states, kept by one transaction.

What needs no look into the store is made beforehand. So the next chunk is made while the disk takes this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from his160.v1 import event_pb2

from sync import notice_match
from sync import outbox as outbox_rules
from sync.capture import Batch, Change, contents
from sync.events import EventMaker, Made, Source, is_strange
from sync.store import NewEvent, RowState, Transaction

CHUNK: Final = 500  # changes in one transaction: a mass suspension must not keep commands from the writer


@dataclass(frozen=True, slots=True)
class Tally:
    """What has come of a chunk. ``suppressed``: changes that were the platform's own, or told before. ``strange``:
    transitions that the state machine does not know."""

    events: int
    suppressed: int
    strange: int


class EventChunk:
    """``changes`` of one poll; ``keep`` is the unit for the store."""

    def __init__(self, source: Source, maker: EventMaker, changes: Sequence[Change], now: datetime) -> None:
        self.changes = changes
        self._stream = source.stream
        self._now = now
        self._seen: list[tuple[Change, Made, NewEvent]] = []
        for change in changes:
            made = maker.made_of(change)
            if made is not None:
                payload = maker.payload(made, event_pb2.ORIGIN_ON_SITE)
                self._seen.append((change, made, NewEvent(made.event_id, made.lane, payload)))
        self._states = states_of(changes, now)
        self._strange = sum(map(is_strange, changes))

    def keep(self, transaction: Transaction) -> Tally:
        """Events and states, as part of a unit. May be called again when the unit was lost."""
        suppressed = 0
        told = transaction.notices.open_among({event.lane for _, _, event in self._seen})  # nearly always none
        events: list[NewEvent] = []
        for change, made, event in self._seen:
            is_told = event.lane in told
            origin = made.origin or EventMaker.origin_of(transaction, change, made)
            if origin == event_pb2.ORIGIN_PLATFORM and not (
                is_told and notice_match.told(transaction, event.lane, made.kind)
            ):
                suppressed += 1  # 160 knows: it was its own command
                continue
            if (
                change.before is None
                and change.version > 1
                and outbox_rules.is_latest(transaction, event.lane, event.payload)
            ):
                suppressed += 1  # a row that had left the window (a clock that jumped) and is back as it was
                continue
            if is_told and notice_match.settle(transaction, event.lane, made.kind, event.event_id, self._now):
                suppressed += 1  # 160 knows: the window's own word was sent
            else:
                events.append(event)
        added = transaction.events.append_many(events, self._now)
        transaction.rows.put_many(self._stream, self._states)
        return Tally(len(added), suppressed, self._strange)

    def keep_and_tell(self, put: Callable[[], None]) -> Callable[[Transaction], Tally]:
        """``keep`` as a unit that says (from the store's thread) when only the commit is left to do."""

        def unit(transaction: Transaction) -> Tally:
            tally = self.keep(transaction)
            put()
            return tally

        return unit


def chunks_of(source: Source, batch: Batch, now: datetime) -> Iterator[EventChunk]:
    """The poll's changes chunk by chunk, each made when it is asked for."""
    maker = EventMaker(source, batch.watch, now)
    changes = iter(batch.changes)
    while some := list(islice(changes, CHUNK)):
        yield EventChunk(source, maker, some, now)


def states_of(changes: Sequence[Change], now: datetime) -> list[RowState]:
    """The rows as they are known from now on."""
    return [RowState(change.key, change.version, contents(change)[1], now) for change in changes]
