"""Comparing the three books of an order: what the HIS holds, what the ledger answered, what the relay was told. Pure.

Used by the demo, the chaos run and reconciliation. 对账 on keys, never on days.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from his160.v1 import common_pb2


class Book(enum.Enum):
    """Whose word it is."""

    HIS = "HIS"
    LEDGER = "LEDGER"
    RELAY = "RELAY"


class Fault(enum.Enum):
    """How two books differ."""

    MISSING = "MISSING"  # 单边账: one book has the order, the other has not
    REPEATED = "REPEATED"  # 重复: one book has it more than once
    STATE = "STATE"  # 状态不符
    PAID = "PAID"  # 金额不符
    REFUNDED = "REFUNDED"  # 退款不符


@dataclass(frozen=True, slots=True)
class BookEntry:
    """One order in one book. Amounts in 分, 0 or more."""

    order_no: str
    state: common_pb2.AppointmentState.ValueType
    paid_fen: int = 0
    refunded_fen: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where ``book`` differs from the HIS (MISSING: the book that lacks the order; REPEATED: the one that repeats it).

    ``his`` and ``other`` are what the two say, as text.
    """

    order_no: str
    fault: Fault
    book: Book
    his: str = ""
    other: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences by order number, and how many orders the books hold together."""

    orders: int
    agreeing: int
    differences: Sequence[Difference]

    @property
    def counts(self) -> Mapping[Fault, int]:
        found = Counter(difference.fault for difference in self.differences)
        return {fault: found[fault] for fault in Fault}


def compare(his: Iterable[BookEntry], ledger: Iterable[BookEntry], relay: Iterable[BookEntry]) -> Comparison:
    """Compares the ledger's and the relay's book with the HIS, which has the last word."""
    differences: list[Difference] = []
    books = {
        book: _by_order(book, entries, differences)
        for book, entries in ((Book.HIS, his), (Book.LEDGER, ledger), (Book.RELAY, relay))
    }
    orders = sorted({order_no for entries in books.values() for order_no in entries})
    for order_no in orders:
        truth = books[Book.HIS].get(order_no)
        if truth is None:
            holder = next(entries[order_no] for entries in books.values() if order_no in entries)
            differences.append(Difference(order_no, Fault.MISSING, Book.HIS, other=_state(holder)))
            continue
        for book in (Book.LEDGER, Book.RELAY):
            entry = books[book].get(order_no)
            if entry is None:
                differences.append(Difference(order_no, Fault.MISSING, book, his=_state(truth)))
            else:
                differences.extend(between(book, truth, entry))
    differences.sort(key=lambda difference: (difference.order_no, difference.book.value, difference.fault.value))
    differing = {difference.order_no for difference in differences}
    return Comparison(len(orders), len(orders) - len(differing), differences)


def _by_order(book: Book, entries: Iterable[BookEntry], differences: list[Difference]) -> dict[str, BookEntry]:
    found: dict[str, BookEntry] = {}
    for entry in entries:
        if entry.order_no in found:
            differences.append(Difference(entry.order_no, Fault.REPEATED, book, other=_state(entry)))
        found[entry.order_no] = entry
    return found


def between(book: Book, truth: BookEntry, entry: BookEntry) -> Iterable[Difference]:
    """Where an order in a book differs from the same order in the HIS."""
    if truth.state != entry.state:
        yield Difference(truth.order_no, Fault.STATE, book, _state(truth), _state(entry))
    if truth.paid_fen != entry.paid_fen:
        yield Difference(truth.order_no, Fault.PAID, book, str(truth.paid_fen), str(entry.paid_fen))
    if truth.refunded_fen != entry.refunded_fen:
        yield Difference(truth.order_no, Fault.REFUNDED, book, str(truth.refunded_fen), str(entry.refunded_fen))


def _state(entry: BookEntry) -> str:
    return common_pb2.AppointmentState.Name(entry.state).removeprefix("APPOINTMENT_STATE_")
