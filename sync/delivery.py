"""Sending the outbox to a sink, until the sink has everything."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from his160.v1 import event_pb2

from sync.clock import Clock, Wait, wait_in_step
from sync.outbox import Backoff, Outbox
from sync.sink import Outcome, Receipt, Sink, SinkUnavailable
from sync.store import StoreError

_LOG = logging.getLogger("his160.sync.delivery")
# Longest sleep without a wake-up. Another process (`his160 outbox retry`) revives events and can wake nobody.
_IDLE = timedelta(seconds=2)
_BACKOFF = Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30))
_KEPT = 1000  # latencies for the percentiles


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """How the delivery stands.

    Latency: from seeing the change in the HIS to the sink's receipt, of the last 1000 events.
    """

    sink: str
    connected: bool
    delivered: int
    rejected: int
    retried: int
    failures: int
    last_error: str
    last_delivery: datetime | None
    latency_median: timedelta | None
    latency_p95: timedelta | None
    latency_max: timedelta | None


Delivered = Callable[[str, Sequence[event_pb2.Event]], None]
"""Is told the sink's name and events that it has stored, once their receipts are written down."""


class Delivery:
    """One loop that sends what is due. ``run`` never ends by an error; ``stop`` ends it after the batch under way."""

    def __init__(
        self,
        outbox: Outbox,
        sink: Sink,
        *,
        clock: Clock,
        batch: int = 200,
        backoff: Backoff = _BACKOFF,
        chance: Callable[[], float] = random.random,
        wait: Wait = wait_in_step,
        delivered: Delivered | None = None,
    ) -> None:
        self._outbox = outbox
        self._sink = sink
        self._clock = clock
        self._batch = batch
        self._backoff = backoff
        self._chance = chance
        self._wait = wait
        self._delivered = delivered
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._empty: object | None = None  # the stamp with which nothing waited, now or later
        self._last_error = ""
        self._last_delivery: datetime | None = None
        self._counts: Counter[Outcome] = Counter()
        self._latencies: deque[timedelta] = deque(maxlen=_KEPT)

    def wake(self) -> None:
        """Has the loop look at once: events came in, or the sink is connected again (ends a backoff)."""
        self._wake.set()

    def stop(self) -> None:
        """Ends ``run`` after the batch under way."""
        self._stopping = True
        self._wake.set()

    def resume(self) -> None:
        """Has ``run`` go on after a ``stop``: call it before, never while it runs."""
        self._stopping = False

    async def run(self) -> None:
        """Delivers until ``stop``."""
        unsubscribe = self._outbox.subscribe(self.wake)
        try:
            while not self._stopping:
                self._wake.clear()  # before looking: what comes in meanwhile wakes the next wait
                await self._wait(self._wake, await self._step())
        finally:
            unsubscribe()

    async def deliver_once(self) -> int:
        """Sends one batch; how many events it held. Raises SinkUnavailable, StoreError."""
        events = await self._outbox.pending(self._batch)
        if not events:
            return 0
        receipts = await self._sink.deliver(events)
        await self._settle(events, receipts)
        return len(events)

    def status(self) -> DeliveryStatus:
        ordered = sorted(self._latencies)
        return DeliveryStatus(
            sink=self._sink.name,
            connected=not self._failures,
            delivered=self._counts[Outcome.STORED],
            rejected=self._counts[Outcome.REJECTED],
            retried=self._counts[Outcome.RETRY],
            failures=self._failures,
            last_error=self._last_error,
            last_delivery=self._last_delivery,
            latency_median=ordered[len(ordered) // 2] if ordered else None,
            latency_p95=ordered[len(ordered) * 95 // 100] if ordered else None,
            latency_max=ordered[-1] if ordered else None,
        )

    async def _step(self) -> timedelta:
        """One look at the outbox; how long to wait for the next."""
        try:
            stamp = await self._outbox.stamp()  # before the look: what comes in meanwhile is news to the next one
            if stamp is not None and stamp == self._empty:
                return _IDLE
            self._empty = None
            if await self.deliver_once():
                self._failures = 0
                return timedelta(0)
            due = await self._outbox.next_due()
            if due is None:
                self._empty = stamp
        except SinkUnavailable as error:
            return self._failed(str(error), error.retry_after)
        except StoreError as error:
            return self._failed(str(error), None)
        except Exception as error:  # noqa: BLE001 - loop border: a defect of a sink must not end the delivery of everything
            _LOG.exception("delivery failed unexpectedly")
            return self._failed(f"unexpected {type(error).__name__}", None)
        return _IDLE if due is None else max(timedelta(0), min(_IDLE, due - self._clock()))

    def _failed(self, detail: str, retry_after: timedelta | None) -> timedelta:
        self._failures += 1
        if self._failures == 1 or detail != self._last_error:  # once for each change, not once for each try
            _LOG.warning("delivery interrupted", extra={"sink": self._sink.name, "detail": detail})
        self._last_error = detail
        if retry_after is not None:
            return min(retry_after, self._backoff.cap)
        return self._backoff.jittered(self._failures, self._chance)

    async def _settle(self, events: Sequence[event_pb2.Event], receipts: Sequence[Receipt]) -> None:
        sent = {event.event_id: event for event in events}
        final: dict[str, Receipt] = {}
        for receipt in receipts:
            known = final.get(receipt.event_id)
            if receipt.event_id not in sent:
                _LOG.warning("receipt for an event that was not sent", extra={"sink": self._sink.name})
            elif known is None or receipt.outcome is Outcome.STORED:  # stored once is stored
                final[receipt.event_id] = receipt
        for event_id in sent.keys() - final.keys():
            final[event_id] = Receipt(event_id, Outcome.RETRY, "the sink gave no receipt")
        by_outcome = {outcome: [r for r in final.values() if r.outcome is outcome] for outcome in Outcome}
        await self._outbox.settle(
            [receipt.event_id for receipt in by_outcome[Outcome.STORED]],
            [(receipt.event_id, receipt.detail) for receipt in by_outcome[Outcome.REJECTED]],
            [(receipt.event_id, receipt.detail, receipt.retry_after) for receipt in by_outcome[Outcome.RETRY]],
        )
        if self._delivered is not None and by_outcome[Outcome.STORED]:
            self._delivered(self._sink.name, [sent[receipt.event_id] for receipt in by_outcome[Outcome.STORED]])
        self._count(sent, by_outcome)

    def _count(self, sent: dict[str, event_pb2.Event], by_outcome: dict[Outcome, list[Receipt]]) -> None:
        now = self._clock()
        self._counts.update({outcome: len(receipts) for outcome, receipts in by_outcome.items()})
        for receipt in by_outcome[Outcome.STORED]:
            captured = sent[receipt.event_id].captured_time.ToDatetime(now.tzinfo)
            self._latencies.append(now - captured)
            self._last_delivery = now
        for receipt in by_outcome[Outcome.REJECTED]:
            _LOG.error("event rejected, its order is parked", extra={"event_id": receipt.event_id})
