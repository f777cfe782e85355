"""Each invariant of the chaos run can fail: honest books pass all of them, and each kind of harm breaks the one it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.store import CommandRow, CommandState
from tests.chaos.books import Books, HisBook, HisHold, HisOrder, HisSession, HouseBook, Money, Said, Trade
from tests.chaos.invariants import BOOK, CANCEL, INVARIANTS, LOCK, PATIENT, PAY, REFUND, SETTLE, UNLOCK, Kind, judge
from tests.chaos.process import Answer

NOW = datetime(2026, 3, 2, tzinfo=UTC)
PAID = HisOrder("T1", "A1", "PAID", "S1", "S1#5", 2500, (Money("M1", 2500),))
REFUNDED = replace(PAID, state="REFUNDED", refunds=(Money("R1", 2500),))
SESSION = HisSession("S1", 10, 3, 3)


def answer(operation: str, request_id: str, code: str = "", reason: str = "", content: bytes = b"x") -> Answer:
    return Answer(operation, request_id, content, code, reason)


def told(operation: str, number: str = "", *, request_id: str = "q1", order_no: str = "T1", **more: Any) -> Said:
    return Said(operation, request_id, order_no, number or order_no, answer(operation, request_id, **more))


def row(operation: str, state: CommandState, natural_key: str = "order_no:T1", **more: Any) -> CommandRow:
    return CommandRow("q1", operation, b"", b"", "T1", natural_key, state, NOW, NOW, **more)


def books(
    *orders: HisOrder,
    holds: tuple[HisHold, ...] = (),
    session: HisSession = SESSION,
    ledger: tuple[CommandRow, ...] = (),
    said: tuple[Said, ...] = (),
    patients: dict[str, int] | None = None,
) -> Books:
    return Books(HisBook(orders, holds, {"S1": session}, patients or {}), ledger, said, {"S1": SESSION})


CASH = replace(PAID, cash_fen=600, insured=(True,))
PAID_TRADE = Trade("M1", 600, True)


def houses(
    order: HisOrder, trade: Trade, ledger: tuple[CommandRow, ...], settled: tuple[str, ...] = ("SETTLED",)
) -> Books:
    return replace(books(order, ledger=ledger), houses={"T1": HouseBook((trade,), settled)})


def test_honest_books_of_houses_pass() -> None:
    assert judge(houses(CASH, PAID_TRADE, (row(SETTLE, CommandState.DONE),))) == []
    at_work = (row(SETTLE, CommandState.UNKNOWN, detail="cut off", probes=1),)
    assert judge(houses(replace(CASH, cash_fen=0, insured=()), PAID_TRADE, at_work)) == []
    # Paid, and the agent never heard of it: 160 will say so, or the patient will.
    assert judge(houses(replace(CASH, cash_fen=0), PAID_TRADE, ())) == []


def test_honest_books_pass() -> None:
    ledger = (
        row(BOOK, CommandState.DONE),
        row(PAY, CommandState.DONE, "out_trade_no:M1"),
        row(REFUND, CommandState.DONE, "out_refund_no:R1"),
        row(REFUND, CommandState.UNKNOWN, "out_refund_no:R2", detail="the probe failed", probes=1),
    )
    said = (
        told(LOCK),
        told(BOOK, request_id="q2"),
        told(PAY, "M1", request_id="q3"),
        told(PAY, "M1", request_id="q3"),
        told(REFUND, "R1", request_id="q4", code="UNAVAILABLE", reason="OUTCOME_UNKNOWN"),
        told(REFUND, "R1", request_id="q4"),
        told(PAY, "M9", request_id="q5", code="FAILED_PRECONDITION", reason="ALREADY_REFUNDED"),
        told(PATIENT, "d1", request_id="q6"),
    )
    assert judge(books(REFUNDED, ledger=ledger, said=said, patients={"d1": 1})) == []


BROKEN: dict[str, list[Books]] = {
    "no_oversell": [
        books(PAID, replace(PAID, order_no="T2", his_id="A2")),
        books(PAID, holds=(HisHold("T2", "S1", "S1#5"),)),
        books(session=HisSession("S1", 2, 4, 4)),
    ],
    "counters_count": [books(session=HisSession("S1", 10, 3, 2))],
    "one_order": [books(PAID, replace(PAID, his_id="A2", place="S1#6"))],
    "no_double_charge": [
        books(replace(PAID, charges=(Money("M1", 2500), Money("M2", 2500)))),
        books(replace(PAID, charges=(Money("M1", 2400),))),
    ],
    "no_double_refund": [
        books(replace(REFUNDED, refunds=(Money("R1", 2500), Money("R2", 2500)))),
        books(REFUNDED, replace(REFUNDED, order_no="T2", his_id="A2")),
    ],
    "no_halves": [books(replace(PAID, halves=("deposits: 0 for 1",)))],
    "one_patient": [books(patients={"d1": 2})],
    "money_is_where_the_his_says": [
        houses(CASH, Trade("M1", 600, True, (Money("R1", 600), Money("R2", 600))), (row(PAY, CommandState.DONE),)),
        houses(CASH, Trade("M1", 600, True, (Money("R1", 600),)), (row(PAY, CommandState.DONE),)),
        houses(replace(CASH, cash_fen=0), Trade("M1", 600, True), (row(SETTLE, CommandState.REJECTED),)),
        houses(CASH, Trade("M1", 600, False), ()),
    ],
    "insurance_is_what_the_his_says": [
        houses(CASH, PAID_TRADE, (row(SETTLE, CommandState.DONE),), ("SETTLED", "SETTLED")),
        houses(CASH, PAID_TRADE, (row(SETTLE, CommandState.DONE),), ("CANCELLED", "NEGATIVE")),
        houses(replace(CASH, insured=(False,)), PAID_TRADE, (row(SETTLE, CommandState.DONE),), ("SETTLED",)),
    ],
    "paid_has_place": [books(replace(PAID, state="CANCELLED"))],
    "done_is_done": [
        books(said=(told(LOCK),)),
        books(said=(told(BOOK),)),
        books(PAID, said=(told(CANCEL),)),
        books(replace(PAID, charges=()), said=(told(PAY, "M1"),)),
        books(PAID, said=(told(REFUND, "R1"),)),
        books(said=(told(PATIENT, "d1"),)),
        books(said=(told(LOCK), told(UNLOCK, request_id="q2")), holds=(HisHold("T1", "S1", "S1#5"),)),
    ],
    "refused_is_not_done": [
        books(PAID, said=(told(PAY, "M1", code="NOT_FOUND", reason="PAYMENT_NOT_FOUND"),)),
        books(PAID, said=(told(BOOK, code="ALREADY_EXISTS", reason="DUPLICATE_APPOINTMENT"),)),
        books(replace(PAID, state="CANCELLED", charges=()), said=(told(CANCEL, code="FAILED_PRECONDITION"),)),
        books(REFUNDED, said=(told(REFUND, "R1", code="FAILED_PRECONDITION", reason="ALREADY_REFUNDED"),)),
        books(holds=(HisHold("T1", "S1", "S1#5"),), said=(told(LOCK, code="FAILED_PRECONDITION"),)),
    ],
    "unknown_is_no_failure": [
        books(said=(told(BOOK, code="INTERNAL"),)),
        books(
            said=(told(BOOK, code="FAILED_PRECONDITION"),),
            ledger=(row(BOOK, CommandState.UNKNOWN, detail="cut off", probes=1),),
        ),
    ],
    "same_id_same_answer": [
        books(PAID, said=(told(BOOK), told(BOOK, content=b"y"))),
        books(said=(told(PAY, "M1", code="NOT_FOUND", reason="A"), told(PAY, "M1", code="NOT_FOUND", reason="B"))),
    ],
    "ledger_is_true": [
        books(ledger=(row(BOOK, CommandState.DONE),)),
        books(PAID, ledger=(row(BOOK, CommandState.REJECTED),)),
        books(PAID, ledger=(row(PAY, CommandState.RETRYABLE, "out_trade_no:M1"),)),
    ],
    "audit_is_whole": [replace(books(), audit_break="row 7 is missing")],
    "ledger_is_final": [
        books(ledger=(row(BOOK, CommandState.SENT),)),
        books(ledger=(row(PAY, CommandState.UNKNOWN, "out_trade_no:M1"),)),
    ],
}


@pytest.mark.parametrize("name", [invariant.__name__ for invariant in INVARIANTS])
def test_it_can_fail(name: str) -> None:
    for broken in BROKEN[name]:
        assert name in {finding.invariant for finding in judge(broken)}, broken


def test_a_repetition_of_an_old_unlock_says_nothing_about_a_later_hold() -> None:
    said = (
        told(LOCK),
        Said(UNLOCK, "q2", "T1", "T1", None),
        told(LOCK, request_id="q3"),
        told(UNLOCK, request_id="q2"),
    )
    assert judge(books(holds=(HisHold("T1", "S1", "S1#5"),), said=said)) == []


def test_a_booking_whose_order_was_cancelled_since_may_be_refused_as_cancelled() -> None:
    cancelled = replace(PAID, state="CANCELLED", charges=())
    refused = (told(BOOK, code="FAILED_PRECONDITION", reason="ALREADY_CANCELLED"),)
    ledger = (row(BOOK, CommandState.REJECTED),)
    assert judge(books(cancelled, said=refused, ledger=ledger)) == []
    standing = judge(books(replace(cancelled, state="BOOKED"), said=refused, ledger=ledger))
    assert {finding.invariant for finding in standing} == {"refused_is_not_done", "ledger_is_true"}


def test_kinds_are_the_columns_of_the_table() -> None:
    kinds = {finding.kind for group in BROKEN.values() for each in group for finding in judge(each)}
    assert kinds == set(Kind)
