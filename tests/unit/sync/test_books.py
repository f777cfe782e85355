from __future__ import annotations

from sync import order
from sync.books import Book, BookEntry, Fault, compare


def test_three_books_that_agree() -> None:
    entries = [BookEntry("T1", order.PAID, 2500), BookEntry("T2", order.REFUNDED, 2500, 2500)]
    result = compare(entries, entries, entries)
    assert (result.orders, result.agreeing, list(result.differences)) == (2, 2, [])


def test_every_way_to_differ() -> None:
    his = [
        BookEntry("T1", order.PAID, 2500),
        BookEntry("T2", order.REFUNDED, 2500, 2500),
        BookEntry("T3", order.BOOKED),
    ]
    ledger = [BookEntry("T1", order.PAID, 2000), BookEntry("T2", order.PAID, 2500), BookEntry("T3", order.BOOKED)]
    relay = [his[0], his[1], his[1], BookEntry("T9", order.BOOKED)]
    result = compare(his, ledger, relay)
    found = {(item.order_no, item.book, item.fault) for item in result.differences}
    assert found == {
        ("T1", Book.LEDGER, Fault.PAID),
        ("T2", Book.LEDGER, Fault.STATE),
        ("T2", Book.LEDGER, Fault.REFUNDED),
        ("T2", Book.RELAY, Fault.REPEATED),
        ("T3", Book.RELAY, Fault.MISSING),
        ("T9", Book.HIS, Fault.MISSING),
    }
    assert result.counts[Fault.MISSING] == 2
    assert (result.orders, result.agreeing) == (4, 0)
    state = next(item for item in result.differences if item.fault is Fault.STATE)
    assert (state.his, state.other) == ("REFUNDED", "PAID")
