"""The end of the story, three books side by side: HIS (read by the window program), ledger (the agent's own store),
relay (what it was told by answers and events). The comparison itself is ``sync.books``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from his160.v1 import appointment_pb2, common_pb2, event_pb2

from agent.demo.site import Site
from agent.demo.story import Order, Story, state_name
from agent.sandbox.client import CallFailed
from sync.books import BookEntry, Difference
from sync.books import compare as compare_entries
from sync.clock import utc_now
from sync.platform_book import appointment_in
from sync.store import CommandState, EventState, Transaction, open_store

_ALL: Final = 100_000
_EVENTS_SECONDS: Final = 10.0

Book = Mapping[str, BookEntry]
Word = tuple[datetime, common_pb2.Appointment]


@dataclass(frozen=True, slots=True)
class Books:
    """The three books by order number, and what does not agree, in words."""

    orders: tuple[str, ...]
    his: Book
    ledger: Book
    relay: Book
    differences: tuple[str, ...]

    @property
    def consistent(self) -> bool:
        """Whether all three agree, and every order of the story is in them."""
        return not self.differences and len(self.his) == len(self.orders)

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "consistent": self.consistent,
            "his": len(self.his),
            "ledger": len(self.ledger),
            "relay": len(self.relay),
            "differences": list(self.differences),
        }


def compare(site: Site, story: Story) -> Books:
    """Read all books for the orders of the story and compare them. The agent goes on running meanwhile."""
    orders = [order for order in story.orders if order.his_id]
    numbers = tuple(order.order_no for order in orders)
    site.wait_for(lambda: site.status().outbox_pending == 0, "an empty outbox", _EVENTS_SECONDS)
    story.book.take()
    his = _his_book(story, numbers)
    ledger, findings = asyncio.run(_ledger_book(site, orders))
    relay = {number: _entry(story.book.told[number]) for number in numbers if number in story.book.told}
    findings += [_text(item) for item in compare_entries(his.values(), ledger.values(), relay.values()).differences]
    findings += _answers(story, orders, his)
    findings += _repeated(story)
    return Books(numbers, his, ledger, relay, tuple(findings))


def shown(entry: BookEntry | None) -> str:
    """``PAID 2500/0``: state, paid and refunded 分."""
    return "-" if entry is None else f"{state_name(entry.state)} {entry.paid_fen}/{entry.refunded_fen}"


def _text(difference: Difference) -> str:
    return (
        f"{difference.order_no}: {difference.fault.value} {difference.book.value} "
        f"(HIS {difference.his or '-'}, {difference.other or '-'})"
    )


def _his_book(story: Story, numbers: Sequence[str]) -> dict[str, BookEntry]:
    found = {}
    for row in story.window.orders(channel_only=True, limit=_ALL):
        number = row.platform_order_no
        if number is not None and number in numbers:
            state = common_pb2.AppointmentState.Value(f"APPOINTMENT_STATE_{row.state}")
            found[number] = BookEntry(number, state, row.paid_fen, row.refunded_fen)
    return found


async def _ledger_book(site: Site, orders: Sequence[Order]) -> tuple[dict[str, BookEntry], list[str]]:
    """The last word of the agent's store on each order: commands done, events queued, in the order of their times."""
    store = open_store(site.store, utc_now, exclusive=False)
    try:
        return await store.read(lambda transaction: _read_ledger(transaction, orders))
    finally:
        await store.close()


def _read_ledger(transaction: Transaction, orders: Sequence[Order]) -> tuple[dict[str, BookEntry], list[str]]:
    findings: list[str] = []
    words: dict[str, list[Word]] = {order.order_no: [] for order in orders}
    for order in orders:
        for row in transaction.commands.of_order(order.order_no):
            if row.state.is_open:
                findings.append(f"{order.order_no}: {row.operation} is still {row.state.value}")
            said = appointment_in(row.operation, row.result) if row.state is CommandState.DONE else None
            if said is not None:
                words[order.order_no].append((row.finished_time or row.received_time, said))
    for state in EventState:
        for queued in transaction.events.listed(state, _ALL):
            event = event_pb2.Event.FromString(queued.payload)
            if event.order_no in words and event.HasField("appointment_after"):
                words[event.order_no].append((queued.created_time, event.appointment_after))
                if state is not EventState.ACKED:
                    findings.append(f"{event.order_no}: an event is {state.value}")
    return {number: _entry(max(said, key=lambda word: word[0])[1]) for number, said in words.items() if said}, findings


def _answers(story: Story, orders: Sequence[Order], his: Book) -> list[str]:
    """What ``GetAppointment`` says now, where it is not what the HIS says."""
    found = []
    for order in orders:
        request = appointment_pb2.GetAppointmentRequest(order_no=order.order_no)
        try:
            said = _entry(story.book.call("AppointmentService.GetAppointment", request).appointment)
        except CallFailed as error:
            found.append(f"{order.order_no}: GetAppointment {error}")
            continue
        if said != his.get(order.order_no):
            found.append(f"{order.order_no}: GetAppointment {shown(said)}, HIS {shown(his.get(order.order_no))}")
    return found


def _repeated(story: Story) -> list[str]:
    """Facts that arrived under two ids: the same kind for the same order in the same state twice."""
    seen: set[tuple[Any, ...]] = set()
    found = []
    for stored in story.book.events:
        event = stored.event
        if event.subject != common_pb2.SUBJECT_APPOINTMENT:
            continue
        fact = (event.appointment_id, event.kind, event.appointment_after.state)
        if fact in seen:
            found.append(f"{event.order_no}: {event_pb2.EventKind.Name(event.kind)} arrived under two ids")
        seen.add(fact)
    return found


def _entry(appointment: common_pb2.Appointment) -> BookEntry:
    return BookEntry(appointment.order_no, appointment.state, appointment.paid_fen, appointment.refunded_fen)
