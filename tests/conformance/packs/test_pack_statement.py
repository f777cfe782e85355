"""Every pack on its sample HIS: the statement of a day (对账明细) is what was paid and given back on it, each once."""

from __future__ import annotations

import datetime as dt
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from his160.v1 import common_pb2, payment_pb2

from tests.conformance.packs import insured
from tests.conformance.packs.hospital import Hospital, booked, date, pay, read, refund

CHINA = dt.timezone(dt.timedelta(hours=8))


async def statement(h: Hospital, day: dt.date, size: int) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        answer = await read(h, "ReportService.ListStatement", date=date(day), page_size=size, page_token=token)
        found.extend(answer.entries)
        token = answer.next_page_token
        if not token:
            return found


def day_of(moment: Timestamp) -> dt.date:
    return moment.ToDatetime(CHINA).date()


async def test_the_statement_of_a_day(hospital: Hospital) -> None:
    """Cash of the platform's orders alone: what 医保 paid is not in it, nor walk-ins, nor what was never paid."""
    orders = [await booked(hospital) for _ in range(5)]
    kept, back, at_window, part, _ = orders
    first = (await pay(hospital, kept)).payment
    for order in (back, at_window):
        await pay(hospital, order)
    await insured.register(hospital, part)
    whole = await booked(hospital)
    parts = insured.split(whole.total_fen)
    parts.fund_fen, parts.cash_fen = parts.fund_fen + parts.cash_fen, 0
    await insured.register(hospital, whole, split=parts)
    given = (await refund(hospital, back)).refund
    hospital.window.refund(at_window.appointment_id, operator="0932")
    await insured.red(hospital, part)

    days = {day_of(first.pay_time), day_of(given.refund_time)}  # two at midnight
    entries = [entry for day in sorted(days) for entry in await statement(hospital, day, 200)]
    ours = {order.order_no: order for order in (*orders, whole)}
    paid = {e.payment.order_no: e.payment for e in entries if e.HasField("payment") and e.payment.order_no in ours}
    gone = {e.refund.order_no: e.refund for e in entries if e.HasField("refund") and e.refund.order_no in ours}
    cash = insured.split(part.total_fen).cash_fen
    assert {n: p.amount_fen for n, p in paid.items()} == {
        kept.order_no: kept.total_fen,
        back.order_no: back.total_fen,
        at_window.order_no: at_window.total_fen,
        part.order_no: cash,
    }
    assert {n: r.amount_fen for n, r in gone.items()} == {
        back.order_no: back.total_fen,
        at_window.order_no: at_window.total_fen,
        part.order_no: cash,
    }
    assert paid[kept.order_no] == first
    assert first.state == payment_pb2.PAYMENT_STATE_PAID
    assert paid[back.order_no].state == payment_pb2.PAYMENT_STATE_REFUNDED
    assert paid[back.order_no].refunded_fen == back.total_fen
    assert paid[part.order_no].method == common_pb2.PAYMENT_METHOD_WECHAT
    assert gone[back.order_no] == given
    assert (gone[at_window.order_no].out_refund_no, gone[part.order_no].out_refund_no) == ("", "R" + part.order_no)
    assert {r.out_trade_no for r in gone.values()} == {"M" + n for n in gone}

    counted = [e for e in entries if e.HasField("payment")] + [e for e in entries if e.HasField("refund")]
    assert len(counted) == len(entries)
    for day in days:
        assert await statement(hospital, day, 3) == await statement(hospital, day, 200)
    assert await statement(hospital, hospital.today + dt.timedelta(days=30), 200) == []
