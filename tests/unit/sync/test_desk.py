"""What windows tell: checked, kept, followed, and each fact at 160 once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message import Message
from his160.v1 import catalog_pb2, common_pb2, desk_pb2, event_pb2, payment_pb2, reason_pb2

from agent.handlers.desk_service import _ADVICE, _refund
from his_db.errors import HisBusy, HisRefused, HisUnavailable
from sync import order
from sync.captures.snapshot_diff import SnapshotDiff
from sync.desk import Desk
from sync.money_book import RefundProgress, RefundRow
from sync.notice import _AFTER, _BEFORE, _REFUSALS, NoticeKind, Trust, refusal
from sync.outbox import Outbox
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.unit.sync.bench import Clock, MemoryHis, WatchedHis, book, confirm, of_kinds

LOCAL, PLATFORM = desk_pb2.ACCEPTANCE_LOCAL, desk_pb2.ACCEPTANCE_PLATFORM
BOOK, CONFIRM = "AppointmentService.BookAppointment", "PaymentService.ConfirmPayment"


class Site:
    """One HIS, one store, its watcher and its desk. The desk's patience is a count of looks, not of seconds."""

    def __init__(self, his: MemoryHis, store: SqliteStore, clock: Clock, trust: Trust = Trust.HIS) -> None:
        self.his, self.store, self.clock = his, store, clock
        self.outbox = Outbox(store, clock)
        capture = SnapshotDiff(WatchedHis(clock, his), store, "orders", clock=clock)
        self.watcher = Watcher(capture, store, self.outbox, site="440305001", clock=clock)
        self.now = 0.0
        self.woken = 0
        self.on_wait: Callable[[], Any] | None = None
        self.desk = Desk(
            his,
            store,
            self.outbox,
            site="440305001",
            clock=clock,
            zone=ZoneInfo("Asia/Shanghai"),
            wake=self._woken,
            trust=trust,
            monotonic=lambda: self.now,
            wait=self._wait,
        )

    def _woken(self) -> None:
        self.woken += 1

    async def _wait(self, news: asyncio.Event, limit: timedelta) -> None:
        if self.on_wait is not None:
            await self.on_wait()
        self.now += limit.total_seconds()

    async def paid(self, number: str = "T1") -> None:
        await self.his.write(BOOK, book(number), key="k")
        await self.his.write(CONFIRM, confirm(number, number=f"W{number}"), key="k")

    async def tell(self, kind: NoticeKind, request: Message) -> desk_pb2.Acceptance.ValueType:
        told = await self.desk.tell(kind, request, window="desk/window1", deadline=self.now + 3)
        return told.acceptance

    async def sent(self) -> list[event_pb2.Event]:
        return list(await self.outbox.read_after(0))


def cancel(request_id: str = "d1", order_no: str = "T1", operator: str = "0931") -> desk_pb2.CancelOnSiteRequest:
    return desk_pb2.CancelOnSiteRequest(request_id=request_id, order_no=order_no, operator_id=operator, note="患者要求")


def refund(amount: int, request_id: str = "d2", order_no: str = "T1") -> desk_pb2.RefundOnSiteRequest:
    return desk_pb2.RefundOnSiteRequest(
        request_id=request_id, order_no=order_no, operator_id="0931", refund_receipt_no="R1", amount_fen=amount
    )


def cancel_in_his(site: Site, number: str = "T1", operator: str = "0931") -> None:
    site.his.orders[number].state = order.CANCELLED
    site.his.orders[number].operator_id = operator


@pytest.fixture
async def site(his: MemoryHis, store: SqliteStore, clock: Clock) -> Site:
    made = Site(his, store, clock)
    await his.write(BOOK, book(), key="k")
    await made.watcher.poll_once()
    return made


async def test_a_notice_before_the_window_commits_is_kept_and_followed_to_the_platform(site: Site) -> None:
    """The window calls inside its own transaction, commits on our answer, and asks again: the same, further on."""
    assert await site.tell(NoticeKind.CANCEL, cancel()) == LOCAL
    assert site.woken == 1
    assert await site.sent() == []  # nothing has happened in the HIS yet
    cancel_in_his(site)
    await site.watcher.poll_once()
    (event,) = await site.sent()
    assert (event.kind, event.origin) == (event_pb2.EVENT_KIND_CANCELLED, event_pb2.ORIGIN_ON_SITE)
    assert await site.tell(NoticeKind.CANCEL, cancel()) == LOCAL  # 160 has not acknowledged it
    await site.outbox.ack([event.event_id])
    assert await site.tell(NoticeKind.CANCEL, cancel()) == PLATFORM
    assert len(await site.sent()) == 1
    assert await site.desk.overdue(timedelta(0)) == []


async def test_the_answer_waits_for_the_acknowledgement_while_the_window_has_patience(site: Site) -> None:
    cancel_in_his(site)

    async def acknowledge() -> None:
        await site.watcher.poll_once()
        await site.outbox.ack([event.event_id for event in await site.sent()])

    site.on_wait = acknowledge
    # The HIS showed it when it came, so nothing waits for it; the event that the watcher makes only now is its own.
    assert await site.tell(NoticeKind.CANCEL, cancel()) == PLATFORM
    assert of_kinds(await site.sent()) == ["CANCELLED"]


async def test_what_the_watcher_has_reported_before_is_acknowledged_at_once(site: Site) -> None:
    cancel_in_his(site)
    await site.watcher.poll_once()
    await site.outbox.ack([event.event_id for event in await site.sent()])
    assert await site.tell(NoticeKind.CANCEL, cancel()) == PLATFORM


async def test_a_window_that_cancels_under_the_platforms_operator_is_still_the_window(site: Site) -> None:
    await site.tell(NoticeKind.CANCEL, cancel())
    cancel_in_his(site, operator="jk160")
    await site.watcher.poll_once()
    assert [event.origin for event in await site.sent()] == [event_pb2.ORIGIN_ON_SITE]


async def test_without_a_watch_the_word_is_enough_and_the_same_fact_seen_later_goes_out_once(
    his: MemoryHis, store: SqliteStore, clock: Clock
) -> None:
    site = Site(his, store, clock, Trust.WORD)
    await his.write(BOOK, book(), key="k")
    await site.watcher.poll_once()
    await site.tell(NoticeKind.CANCEL, cancel())
    (event,) = await site.sent()
    assert event.appointment_before.state == order.BOOKED
    assert (event.appointment_after.state, event.appointment_after.operator_id) == (order.CANCELLED, "0931")
    assert not event.appointment_after.patient_name
    cancel_in_his(site)
    await site.watcher.poll_once()
    assert len(await site.sent()) == 1
    assert site.watcher.status.suppressed == 1
    assert await site.desk.overdue(timedelta(0)) == []


async def test_the_same_request_is_one_notice_and_another_content_is_refused(site: Site) -> None:
    both = await asyncio.gather(*(site.tell(NoticeKind.CANCEL, cancel()) for _ in range(2)))
    assert both == [LOCAL, LOCAL]
    rows = await site.store.read(lambda work: work.notices.open(10))
    assert len(rows) == 1
    with pytest.raises(HisRefused) as refused:
        await site.tell(NoticeKind.CANCEL, cancel(operator="0932"))
    assert refused.value.reason == reason_pb2.REASON_REQUEST_ID_REUSED


async def test_refunds_are_all_or_nothing(site: Site) -> None:
    await site.his.write(CONFIRM, confirm(), key="k")
    with pytest.raises(HisRefused) as refused:
        await site.tell(NoticeKind.REFUND, refund(1000))
    assert refused.value.reason == reason_pb2.REASON_PARTIAL_REFUND_REFUSED
    assert await site.tell(NoticeKind.REFUND, refund(2500)) == LOCAL


@pytest.mark.parametrize("payer", ["PLATFORM", "HOSPITAL", "ACCEPTED", "UNSPECIFIED"])
async def test_a_refund_says_who_gives_the_money_back_and_moves_none(
    site: Site, monkeypatch: pytest.MonkeyPatch, payer: str
) -> None:
    """The order was paid online; the window is told not to pay cash, and whether anybody else begins the refund."""
    await site.his.write(CONFIRM, confirm(), key="k")
    calls: list[str] = []
    plain = site.his.write

    async def write(operation: str, *given: Any, **more: Any) -> Any:
        calls.append(operation)
        return await plain(operation, *given, **more)

    monkeypatch.setattr(site.his, "write", write)
    monkeypatch.setattr(site.his, "maps", lambda operation: payer == "HOSPITAL")
    if payer == "ACCEPTED":
        number = site.his.orders["T1"].out_trade_no
        now = site.clock()
        row = RefundRow("R-1", "order:T1", number, 2500, RefundProgress.PROCESSING, now, now)
        await site.store.write(lambda work: work.refunds.put(row))
    expected = desk_pb2.RefundPayer.Value(f"REFUND_PAYER_{payer}")
    request = refund(2500)
    first = await site.desk.tell(NoticeKind.REFUND, request, window="desk/window1", deadline=site.now + 3)
    assert first.payer == (desk_pb2.REFUND_PAYER_PLATFORM if payer == "UNSPECIFIED" else expected)
    if payer == "UNSPECIFIED":
        site.his.read_faults.append(HisBusy("slow"))
    again = await site.desk.tell(NoticeKind.REFUND, request, window="desk/window1", deadline=site.now + 3)
    assert again.payer == expected
    assert bool(again.found) == (payer != "UNSPECIFIED")
    assert calls == []

    answer = _refund(request, again)
    assert (answer.payer, answer.refund.amount_fen) == (expected, 2500)
    assert answer.advice.startswith("请勿退现金；")
    on_its_way = payer in ("PLATFORM", "ACCEPTED")
    assert (answer.refund.state == payment_pb2.REFUND_STATE_PROCESSING) == on_its_way
    site.his.orders["T1"].state = order.REFUNDED
    shown = _refund(
        request, await site.desk.tell(NoticeKind.REFUND, request, window="desk/window1", deadline=site.now + 3)
    )
    # The red row of a hospital that has the money says nothing about the money.
    assert (shown.refund.state == payment_pb2.REFUND_STATE_DONE) == (payer != "HOSPITAL")


def test_every_payer_has_an_advice() -> None:
    assert set(_ADVICE) == set(desk_pb2.RefundPayer.values())
    assert len(set(_ADVICE.values())) == len(_ADVICE)


async def test_a_slow_his_does_not_turn_a_cancellation_away_but_a_refund(site: Site) -> None:
    site.his.read_faults.extend([HisBusy("slow"), HisBusy("slow")])
    assert await site.tell(NoticeKind.CANCEL, cancel()) == LOCAL
    with pytest.raises(HisUnavailable):
        await site.tell(NoticeKind.REFUND, refund(2500))
    cancel_in_his(site)
    await site.watcher.poll_once()
    assert of_kinds(await site.sent()) == ["CANCELLED"]
    assert await site.desk.overdue(timedelta(0)) == []


async def test_what_the_his_never_shows_becomes_a_persons_business(site: Site, clock: Clock) -> None:
    await site.tell(NoticeKind.CANCEL, cancel())
    assert await site.desk.overdue(timedelta(minutes=10)) == []
    clock.advance(minutes=11)
    (row,) = await site.desk.overdue(timedelta(minutes=10))
    assert (row.subject, row.request_id) == ("order:T1", "d1")


async def test_orders_of_other_channels_and_unknown_ones_are_refused(site: Site) -> None:
    site.his.orders["T1"].order_no = ""
    for number in ("T1", "T9"):
        with pytest.raises(HisRefused) as refused:
            await site.tell(NoticeKind.CANCEL, cancel(order_no=number))
        assert refused.value.reason == reason_pb2.REASON_APPOINTMENT_NOT_FOUND


async def test_check_in_is_for_the_day_of_the_visit(site: Site) -> None:
    await site.his.write(CONFIRM, confirm(), key="k")
    request = desk_pb2.CheckInRequest(request_id="d3", order_no="T1", operator_id="zzj01")
    day = site.his.orders["T1"].visit_date
    day.year, day.month, day.day = 2026, 11, 24
    with pytest.raises(HisRefused) as refused:
        await site.tell(NoticeKind.CHECK_IN, request)
    assert refused.value.reason == reason_pb2.REASON_ILLEGAL_TRANSITION
    day.day = 23
    assert await site.tell(NoticeKind.CHECK_IN, request) == LOCAL


async def test_a_suspension_names_every_session_and_those_the_his_shows(
    his: MemoryHis, store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(his, store, clock)
    sessions = [
        common_pb2.Schedule(
            schedule_id=f"S{number}",
            period=common_pb2.PERIOD_MORNING,
            state=common_pb2.SCHEDULE_STATE_SUSPENDED if number == 1 else common_pb2.SCHEDULE_STATE_OPEN,
        )
        for number in (1, 2, 3)
    ]
    sessions[2].period = common_pb2.PERIOD_AFTERNOON
    asked: list[Any] = []

    async def read(operation: str, request: Message, *, deadline: float | None = None) -> Message:
        asked.append(request)
        return catalog_pb2.ListSchedulesResponse(schedules=sessions)

    monkeypatch.setattr(his, "read", read)
    request = desk_pb2.SuspendScheduleRequest(
        request_id="d4", doctor_id="D1", period=common_pb2.PERIOD_MORNING, operator_id="0931"
    )
    told = await site.desk.tell(NoticeKind.SUSPEND, request, window="desk/w", deadline=3)
    assert [found.schedule_id for found in told.found if isinstance(found, common_pb2.Schedule)] == ["S1", "S2"]
    assert (asked[0].from_date.day, asked[0].realtime) == (23, True)
    waiting = await store.read(lambda work: work.notices.open(10))
    assert [row.subject for row in waiting] == ["schedule:S2"]


@pytest.mark.parametrize("kind", [NoticeKind.CANCEL, NoticeKind.REFUND, NoticeKind.CHECK_IN])
@pytest.mark.parametrize("state", [value for value in common_pb2.AppointmentState.values() if value])
def test_every_state_has_an_answer_for_every_notice(kind: NoticeKind, state: int) -> None:
    found = common_pb2.Appointment(order_no="T1", state=order.State(state), paid_fen=2500, total_fen=2500)
    reason = refusal(kind, found, amount_fen=2500)
    allowed = state in _BEFORE[kind] | _AFTER[kind]
    if kind is NoticeKind.CANCEL and state == order.SUSPENDED:
        assert reason == reason_pb2.REASON_ALREADY_PAID  # its money must go back
    elif allowed:
        assert reason == reason_pb2.REASON_UNSPECIFIED
    else:
        assert state in _REFUSALS[kind], "a state without a reason of its own"
        assert reason == _REFUSALS[kind][order.State(state)]
