"""两方核对: the orders of a day as 160 was told of them, against the rows of the HIS. A report of the agent's own.

Matched by order number, never by day: a day says which orders are looked at, all of each is compared. An order that is
in the HIS under the platform's channel and of which the agent knows nothing counts only when it was made while the
agent was there.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2
from his160.v1 import appointment_pb2, common_pb2, reason_pb2, report_pb2

from his_db.compiled_report import PIECE, ReportReading, ReportSink
from his_db.errors import HisRefused
from his_db.mapping.cron import Cron
from his_db.report_rows import NULL, number_value, text_value
from sync.books import Book, BookEntry, Fault, between
from sync.composed_reads import ReadPort
from sync.platform_book import PlatformOrder, orders_of, platform_order, watched_since
from sync.store import Store, Transaction

NAME: Final = "D2"
TITLE: Final = "两方核对（160 与 HIS）"
LIST: Final = "AppointmentService.ListAppointments"
GET: Final = "AppointmentService.GetAppointment"
_DAY: Final = timedelta(days=1)
_WINDOW: Final = (1, 58)  # clinic days around the day; ListAppointments takes sixty
_PAGE: Final = 1000
_TEXT, _FEN, _DATE = report_pb2.COLUMN_KIND_TEXT, report_pb2.COLUMN_KIND_FEN, report_pb2.COLUMN_KIND_DATE
_COLUMNS: Final = (
    ("dzrq", "对账日期", _DATE),
    ("ddh", "160订单号", _TEXT),
    ("jzrq", "就诊日期", _DATE),
    ("hisdh", "HIS预约单号", _TEXT),
    ("shddh", "商户订单号", _TEXT),
    ("jg", "核对结果", _TEXT),
    ("ptzt", "160状态", _TEXT),
    ("hiszt", "HIS状态", _TEXT),
    ("ptss", "160实收", _FEN),
    ("hisss", "HIS实收", _FEN),
    ("pttk", "160退款", _FEN),
    ("histk", "HIS退款", _FEN),
    ("cyje", "差异金额", _FEN),
    ("zjgz", "160最近获知时间", _TEXT),
    ("jy", "处理建议", _TEXT),
)
_STATES: Final = {
    common_pb2.APPOINTMENT_STATE_LOCKED: "锁号",
    common_pb2.APPOINTMENT_STATE_BOOKED: "已预约",
    common_pb2.APPOINTMENT_STATE_PAID: "已缴费",
    common_pb2.APPOINTMENT_STATE_CHECKED_IN: "已取号",
    common_pb2.APPOINTMENT_STATE_VISITED: "已就诊",
    common_pb2.APPOINTMENT_STATE_CANCELLED: "已取消",
    common_pb2.APPOINTMENT_STATE_REFUNDED: "已退号",
    common_pb2.APPOINTMENT_STATE_SUSPENDED: "停诊",
}


class Finding(enum.Enum):
    """What is wrong with an order, and what to do."""

    OPEN = ("结果未知", "先核实未知结果：his160 ledger resolve 订单号")
    MISSING = ("160有HIS无", "查证据 his160 ledger show 订单号；已收款的补登或退款")
    EXTRA = ("HIS有160无", "核实该单来源和渠道；确为平台订单的请 160 补单")
    STATE = ("状态不符", "以 HIS 为准核实；窗口改动未上报的检查 his160 watch status")
    PAID = ("金额不符", "核对收据与支付账单，更正有误的一方")
    REFUNDED = ("退款不符", "核对退款单；HIS 已退而 160 未退的，请 160 原路退回")
    UNTOLD = ("160状态未同步", "事件未送达：his160 outbox list --state pending|dead")

    @property
    def title(self) -> str:
        return str(self.value[0])

    @property
    def advice(self) -> str:
        return str(self.value[1])


SAME: Final = "一致"
_MONEY_STAYS: Final = "停诊未退款：请退号退费（名单见 R8）"
_FAULTS: Final = {Fault.STATE: Finding.STATE, Fault.PAID: Finding.PAID, Fault.REFUNDED: Finding.REFUNDED}


@dataclass(frozen=True, slots=True)
class Compared:
    """One order in both books. ``findings`` empty: they agree."""

    order_no: str
    platform: PlatformOrder | None
    his: common_pb2.Appointment | None
    findings: tuple[Finding, ...]

    @property
    def difference_fen(self) -> int:
        """What the HIS kept more than 160 believes."""
        return _net(self.his) - _net(self.platform.appointment if self.platform else None)

    @property
    def advice(self) -> str:
        """What to do; empty: nothing. Books that agree may agree about money that has to go back."""
        told = [finding.advice for finding in self.findings]
        if self.his is not None and self.his.state == common_pb2.APPOINTMENT_STATE_SUSPENDED and _net(self.his) > 0:
            told.append(_MONEY_STAYS)
        return "；".join(told)


def compared(order_no: str, platform: PlatformOrder | None, his: common_pb2.Appointment | None) -> Compared:
    """Compare one order. Pure."""
    findings: list[Finding] = []
    told = None if platform is None else platform.appointment
    if platform is not None and platform.open:
        findings.append(Finding.OPEN)  # what follows may be no more than that
    elif his is None:
        findings += [Finding.MISSING] if told is not None else []
    elif told is None:
        findings.append(Finding.EXTRA)
    else:
        findings += [_FAULTS[difference.fault] for difference in between(Book.LEDGER, _entry(his), _entry(told))]
    if platform is not None and platform.untold:
        findings.append(Finding.UNTOLD)
    return Compared(order_no, platform, his, tuple(findings))


@dataclass(frozen=True, slots=True)
class DayReport:
    """``Reportable`` and ``OwnReport``. ``streams``: names of the watches; ``store``: the ledger's."""

    his: ReadPort
    store: Store
    zone: ZoneInfo
    streams: Callable[[], Collection[str]]
    name: str = NAME
    title: str = TITLE
    period: str = "day"
    quiet: tuple[tuple[time, time], ...] = ()
    cron: Cron | None = field(default_factory=lambda: Cron("20 6 * * *"))

    @property
    def definition(self) -> report_pb2.Report:
        columns = [
            report_pb2.ReportColumn(name=name, title=title, kind=kind, total=kind == _FEN)
            for name, title, kind in _COLUMNS
        ]
        return report_pb2.Report(name=self.name, title=self.title, columns=columns)

    def is_possible(self) -> bool:
        """See ``OwnReport``: without a look at one order there is nothing to compare."""
        return self.his.maps(GET)

    async def read(self, days: tuple[date, date], sink: ReportSink) -> ReportReading:
        """See ``OwnReport``. Raises HisError, StoreError."""
        rows: list[bytes] = []
        digest = hashlib.sha256()
        day = days[0]
        while day <= days[1]:
            for item in await self.compare(day):
                for part in (item.his, item.platform.appointment if item.platform else None):
                    digest.update(b"-" if part is None else part.SerializeToString(deterministic=True))
                rows.append(_row(day, item, self.zone))
            day += _DAY
        for at in range(0, len(rows), PIECE):
            sink.take(rows[at : at + PIECE])
        return ReportReading(len(rows), digest.digest())

    async def compare(self, day: date) -> Sequence[Compared]:
        """Every order of the day in both books, those with findings first."""
        since, until = (datetime.combine(at, time(), self.zone).astimezone(UTC) for at in (day, day + _DAY))
        orders, begun = await self.store.read(lambda work: self._platform(work, since, until))
        rows = await self._listed(day)
        found = [
            compared(number, order, rows.get(number) or await self._looked_up(number))
            for number, order in orders.items()
        ]
        for number, row in rows.items():
            if number not in orders and _within(row, since, until) and _made_since(row, begun):
                found.append(compared(number, await self._any_word(number), row))
        known = [item for item in found if item.his is not None or item.findings]
        return sorted(known, key=lambda item: (not item.findings, item.order_no))

    def _platform(
        self, work: Transaction, since: datetime, until: datetime
    ) -> tuple[Mapping[str, PlatformOrder], datetime | None]:
        orders = {number: platform_order(work, number) for number in sorted(orders_of(work, since, until))}
        return orders, watched_since(work, self.streams())

    async def _any_word(self, number: str) -> PlatformOrder | None:
        order = await self.store.read(lambda work: platform_order(work, number))
        return order if order.appointment is not None or order.open or order.untold else None

    async def _listed(self, day: date) -> Mapping[str, common_pb2.Appointment]:
        """Platform orders of the HIS around the day, by number. Nothing where the site does not map the list."""
        found: dict[str, common_pb2.Appointment] = {}
        if not self.his.maps(LIST):
            return found
        first, last = (_date(day + timedelta(days=days)) for days in (-_WINDOW[0], _WINDOW[1]))
        token = ""
        while True:
            request = appointment_pb2.ListAppointmentsRequest(
                from_date=first, to_date=last, platform_only=True, page_size=_PAGE, page_token=token
            )
            answer = await self.his.read(LIST, request)
            assert isinstance(answer, appointment_pb2.ListAppointmentsResponse)
            found.update({row.order_no: row for row in answer.appointments if row.order_no})
            token = answer.next_page_token
            if not token:
                return found

    async def _looked_up(self, number: str) -> common_pb2.Appointment | None:
        try:
            answer = await self.his.read(GET, appointment_pb2.GetAppointmentRequest(order_no=number))
        except HisRefused as refused:
            if refused.reason == reason_pb2.REASON_APPOINTMENT_NOT_FOUND:
                return None
            raise
        assert isinstance(answer, appointment_pb2.GetAppointmentResponse)
        return answer.appointment


def _row(day: date, item: Compared, zone: ZoneInfo) -> bytes:
    told = item.platform.appointment if item.platform else None
    either = item.his or told
    visit = either.visit_date if either is not None and either.HasField("visit_date") else None
    moment = item.platform.told if item.platform else None
    return b"".join(
        (
            text_value(day.isoformat()),
            text_value(item.order_no),
            NULL if visit is None else text_value(f"{visit.year:04d}-{visit.month:02d}-{visit.day:02d}"),
            _text(either.appointment_id if either is not None else ""),
            _text((item.his.out_trade_no if item.his else "") or (told.out_trade_no if told else "")),
            text_value("、".join(finding.title for finding in item.findings) or SAME),
            _text(_state(told)),
            _text(_state(item.his)),
            *(_fen(side, name) for name in ("paid_fen", "refunded_fen") for side in (told, item.his)),
            number_value(item.difference_fen),
            _text("" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}"),
            _text(item.advice),
        )
    )


def _text(text: str) -> bytes:
    return text_value(text) if text else NULL


def _fen(appointment: common_pb2.Appointment | None, name: str) -> bytes:
    return NULL if appointment is None else number_value(getattr(appointment, name))


def _state(appointment: common_pb2.Appointment | None) -> str:
    return "" if appointment is None else _STATES.get(appointment.state, "未知")


def _net(appointment: common_pb2.Appointment | None) -> int:
    return 0 if appointment is None else appointment.paid_fen - appointment.refunded_fen


def _entry(appointment: common_pb2.Appointment) -> BookEntry:
    return BookEntry(appointment.order_no, appointment.state, appointment.paid_fen, appointment.refunded_fen)


def _date(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _within(row: common_pb2.Appointment, since: datetime, until: datetime) -> bool:
    """Whether anything happened to the order in that time, as far as the HIS keeps when."""
    names = ("book_time", "pay_time", "cancel_time")
    return any(row.HasField(name) and since <= _moment(getattr(row, name)) < until for name in names)  # type: ignore[arg-type]


def _made_since(row: common_pb2.Appointment, begun: datetime | None) -> bool:
    """Whether the agent was there when the order was made; an agent that never watched cannot tell."""
    return begun is not None and row.HasField("book_time") and _moment(row.book_time) >= begun
