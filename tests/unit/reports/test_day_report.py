"""两方核对: every kind of difference, on the orders of a real sample HIS and a real ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.message import Message
from his160.v1 import appointment_pb2, common_pb2, event_pb2

from his_db.access import HisAccess
from his_db.errors import HisRefused
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.mapping.load import load_mapping_set
from his_db.registry import load_sample
from his_db.report_rows import row_values
from his_db.sample import SMALL, WindowProgram, hospital_now
from his_db.source import Source, settings_from_url
from sync.day_report import GET, SAME, Compared, DayReport, Finding, compared
from sync.outbox import lane_of_order
from sync.platform_book import PlatformOrder
from sync.store import CommandRow, CommandState, Store, StreamRow, open_store

ZONE = ZoneInfo("Asia/Shanghai")
PACK = Path(__file__).resolve().parents[3] / "his_db" / "packs" / "zebone" / "mappings"
DAY = hospital_now().date()
NOON = datetime.combine(DAY, time(12), ZONE).astimezone(UTC)
BOOK = "AppointmentService.BookAppointment"
S = common_pb2


def order(state: Any, paid: int = 0, refunded: int = 0) -> common_pb2.Appointment:
    return common_pb2.Appointment(order_no="T1", state=state, paid_fen=paid, refunded_fen=refunded)


def told(appointment: common_pb2.Appointment | None, **more: bool) -> PlatformOrder:
    return PlatformOrder("T1", appointment, NOON, **{"open": False, "untold": False, **more})


BOOKED, PAID, GONE = (
    order(S.APPOINTMENT_STATE_BOOKED),
    order(S.APPOINTMENT_STATE_PAID, 2500),
    order(S.APPOINTMENT_STATE_REFUNDED, 2500, 2500),
)


@pytest.mark.parametrize(
    ("platform", "his", "findings", "fen"),
    [
        (told(PAID), PAID, [], 0),
        (told(PAID), None, [Finding.MISSING], -2500),
        (None, PAID, [Finding.EXTRA], 2500),
        (told(None), PAID, [Finding.EXTRA], 2500),
        (told(None), None, [], 0),
        (told(BOOKED), PAID, [Finding.STATE, Finding.PAID], 2500),
        (told(PAID), GONE, [Finding.STATE, Finding.REFUNDED], -2500),
        (told(order(S.APPOINTMENT_STATE_PAID, 2400)), PAID, [Finding.PAID], 100),
        (told(PAID, open=True), None, [Finding.OPEN], -2500),
        (told(PAID, untold=True), PAID, [Finding.UNTOLD], 0),
        (told(PAID, untold=True), GONE, [Finding.STATE, Finding.REFUNDED, Finding.UNTOLD], -2500),
    ],
)
def test_one_order(
    platform: PlatformOrder | None, his: common_pb2.Appointment | None, findings: list[Finding], fen: int
) -> None:
    found = compared("T1", platform, his)
    assert list(found.findings) == findings
    assert found.difference_fen == fen


@pytest.mark.parametrize(
    ("state", "paid", "refunded", "is_told"),
    [
        (S.APPOINTMENT_STATE_SUSPENDED, 2500, 0, True),
        (S.APPOINTMENT_STATE_SUSPENDED, 2500, 2500, False),
        (S.APPOINTMENT_STATE_SUSPENDED, 0, 0, False),
        (S.APPOINTMENT_STATE_PAID, 2500, 0, False),
    ],
)
def test_money_of_a_suspended_session_is_told_though_the_books_agree(
    state: Any, paid: int, refunded: int, is_told: bool
) -> None:
    found = compared("T1", told(order(state, paid, refunded)), order(state, paid, refunded))
    assert found.findings == ()
    assert found.advice == ("停诊未退款：请退号退费（名单见 R8）" if is_told else "")


@pytest.fixture(scope="module")
def generation() -> Generation:
    return compile_generation(load_mapping_set(PACK, sources={"his": "sqlite"}, timezone=str(ZONE)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load_sample("zebone").create(f"sqlite:///{file}", today=DAY, size=SMALL)
    return file


class Bed:
    """The hospital, its window, and a ledger to write into."""

    def __init__(self, his: GuardedHis, window: WindowProgram, store: Store) -> None:
        self.his, self.window, self.store = his, window, store
        self.report = DayReport(his, store, ZONE, lambda: ["orders"])

    def an_order(self, state: str) -> Any:
        return next(
            row for row in self.window.orders(channel_only=True, states=(state,), limit=50) if row.platform_order_no
        )

    async def seen(self, number: str) -> common_pb2.Appointment:
        answer: Any = await self.his.read(GET, appointment_pb2.GetAppointmentRequest(order_no=number))
        found: common_pb2.Appointment = answer.appointment
        return found

    async def ledger(self, number: str, appointment: common_pb2.Appointment | None, **changes: Any) -> None:
        result = (
            b""
            if appointment is None
            else appointment_pb2.BookAppointmentResponse(appointment=appointment).SerializeToString()
        )
        row = CommandRow(
            f"r-{number}", BOOK, b"p", b"e", number, f"order_no:{number}", CommandState.DONE, NOON, NOON,
            result=result, finished_time=NOON,
        )  # fmt: skip
        await self.store.write(lambda work: work.commands.put(replace(row, **changes)))

    async def event(self, number: str, after: common_pb2.Appointment, at: datetime = NOON) -> None:
        event = event_pb2.Event(
            event_id=number, order_no=number, subject=S.SUBJECT_APPOINTMENT, appointment_after=after
        )
        await self.store.write(
            lambda work: work.events.append(number, lane_of_order(number), event.SerializeToString(), at)
        )

    async def found(self, day: date = DAY) -> dict[str, Compared]:
        return {item.order_no: item for item in await self.report.compare(day)}


@pytest.fixture
async def bed(tmp_path: Path, made: Path, generation: Generation) -> AsyncIterator[Bed]:
    file = tmp_path / "his.db"
    file.write_bytes(made.read_bytes())
    url = f"sqlite:///{file}"
    source, window = Source(settings_from_url("his", url)), load_sample("zebone").window(url)
    store = open_store(tmp_path / "state.db", lambda: NOON)
    # The agent came today at noon: what is older than that in the HIS is no news.
    await store.write(lambda work: work.rows.put_stream(StreamRow("orders", NOON)))
    try:
        yield Bed(GuardedHis(HisAccess({"his": source}, generation)), window, store)
    finally:
        window.close()
        await source.close()
        await store.close()


async def test_books_that_agree(bed: Bed) -> None:
    number = bed.an_order("PAID").platform_order_no
    await bed.ledger(number, await bed.seen(number))
    assert [(item.order_no, item.findings) for item in (await bed.found()).values()] == [(number, ())]
    assert await bed.found(DAY - timedelta(days=1)) == {}


async def test_a_refund_that_160_was_not_told_of(bed: Bed) -> None:
    row = bed.an_order("PAID")
    await bed.ledger(row.platform_order_no, await bed.seen(row.platform_order_no))
    bed.window.refund(row.his_id, operator="0931")
    item = (await bed.found())[row.platform_order_no]
    assert item.findings == (Finding.STATE, Finding.REFUNDED)
    assert item.difference_fen == -row.paid_fen
    await bed.event(row.platform_order_no, await bed.seen(row.platform_order_no), NOON + timedelta(minutes=1))
    assert (await bed.found())[row.platform_order_no].findings == (Finding.UNTOLD,)
    await bed.store.write(lambda work: work.events.ack([row.platform_order_no], NOON))
    assert (await bed.found())[row.platform_order_no].findings == ()


async def test_missing_unknown_and_never_told(bed: Bed) -> None:
    await bed.ledger("T404", PAID)
    await bed.ledger("T405", None, state=CommandState.UNKNOWN, result=b"")
    await bed.ledger("T406", None, state=CommandState.REJECTED, result=b"")
    found = await bed.found()
    assert {number: item.findings for number, item in found.items()} == {
        "T404": (Finding.MISSING,),
        "T405": (Finding.OPEN,),
    }


async def test_an_order_of_the_platform_that_nobody_sent(bed: Bed) -> None:
    row = bed.an_order("PAID")
    bed.window.refund(row.his_id, operator="0931")
    assert await bed.found() == {}, "older than the agent"
    await bed.store.write(lambda work: work.rows.put_stream(StreamRow("orders", NOON - timedelta(days=400))))
    assert (await bed.found(hospital_now().date()))[row.platform_order_no].findings == (Finding.EXTRA,)


async def test_rows_of_the_report(bed: Bed) -> None:
    number = bed.an_order("PAID").platform_order_no
    await bed.ledger(number, await bed.seen(number))
    await bed.ledger("T404", PAID)

    class Sink:
        rows: list[bytes] = []

        def begin(self) -> None: ...

        def take(self, rows: Sequence[bytes]) -> None:
            self.rows += rows

    sink = Sink()
    reading = await bed.report.read((DAY - timedelta(days=1), DAY), sink)
    assert reading.rows == len(sink.rows) == 2
    names = [column.name for column in bed.report.definition.columns]
    first, second = (dict(zip(names, row_values(row), strict=True)) for row in sink.rows)
    assert (first["ddh"], first["jg"], first["ptzt"], first["hiszt"], first["ptss"], first["hisss"], first["cyje"]) == (
        "T404", "160有HIS无", "已缴费", None, 2500, None, -2500,
    )  # fmt: skip
    assert "his160 ledger show" in str(first["jy"])
    assert (second["ddh"], second["jg"], second["jy"]) == (number, SAME, None)
    assert second["ptss"] == second["hisss"] != 0
    assert second["dzrq"] == DAY.isoformat()


async def test_a_his_that_does_not_answer_is_no_difference(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    await bed.ledger("T404", PAID)
    read = bed.his.read

    async def refusing(operation: str, request: Message, **more: Any) -> Message:
        if operation == GET:
            raise HisRefused(S.SUBJECT_REPORT, "something else")  # type: ignore[arg-type]
        return await read(operation, request, **more)

    monkeypatch.setattr(bed.his, "read", refusing)
    with pytest.raises(HisRefused):
        await bed.found()
