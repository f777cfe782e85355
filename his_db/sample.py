"""The port of a sample HIS: a realistic hospital database for tests, demos and rehearsals, with its window program.

A sample HIS knows nothing of his160. Its tables are made the way the vendor makes them; the window program writes
into them the way
a real window program does (domain facts §1.3, §1.6, §5.2). Implementations live in `his_db/samples/`, named in its
`registry.py`.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Clock = Callable[[], datetime.datetime]
"""Answers the hospital's wall clock: a naive local time, as the HIS itself stores it."""

_HOSPITAL_ZONE = datetime.timezone(datetime.timedelta(hours=8))


def hospital_now() -> datetime.datetime:
    """The default clock: China's wall clock (UTC+8, no summer time), naive, in whole seconds."""
    return datetime.datetime.now(_HOSPITAL_ZONE).replace(tzinfo=None, microsecond=0)


@dataclass(frozen=True, slots=True)
class SampleSize:
    """How large a sample HIS is made. Schedules cover `days` days from today and `past_days` before it."""

    departments: int
    doctors: int
    days: int
    past_days: int
    patients: int
    past_registrations: int
    coming_registrations: int


FULL = SampleSize(
    departments=24, doctors=132, days=14, past_days=10, patients=5200, past_registrations=3200, coming_registrations=600
)
SMALL = SampleSize(
    departments=4, doctors=8, days=3, past_days=2, patients=100, past_registrations=40, coming_registrations=24
)


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What `SampleHis.create` made: counts of rows, hidden ones (deleted, unpublished) included."""

    departments: int
    doctors: int
    operators: int
    patients: int
    schedules: int
    slots: int
    registrations: int
    refunds: int


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One appointment or on-site registration as the HIS tables tell it.

    `state` is one of BOOKED, PAID, CHECKED_IN, VISITED, CANCELLED, REFUNDED, HALF_WRITTEN. `operator` is the 工号 of
    who made the
    latest cancellation or refund, else of who made the order. `number` is the queue number (号序). Amounts are
    integer 分.
    """

    his_id: str
    platform_order_no: str | None
    state: str
    schedule_id: str
    number: int
    patient_id: str
    total_fen: int
    paid_fen: int
    refunded_fen: int
    operator: str


@dataclass(frozen=True, slots=True)
class InsuredBill:
    """What the window's own 医保 program has settled (2207A) for a registration. Amounts are integer 分; they must add
    up to the fee."""

    setl_id: str
    mdtrt_id: str
    person_no: str
    insutype: str
    fund_fen: int
    account_fen: int
    cash_fen: int


HisRow = tuple[str, dict[str, object]]
"""A table name and one row of it."""


class WindowRefusal(Exception):
    """The window program says no; the text is what it shows its user (Chinese, the vendor's own wording)."""


class WindowProgram(Protocol):
    """The hospital's own window program. Every write is one committed transaction straight on the HIS tables.

    Ids are the HIS's own as text. Writes raise `WindowRefusal` with the vendor's text and change nothing when the
    HIS's rules forbid
    them. `operator` is a 工号 such as '0931'.
    """

    def orders(self, *, channel_only: bool, states: tuple[str, ...] | None = None, limit: int) -> list[OrderRow]:
        """Orders, newest first; `channel_only` = only those of 健康160."""
        ...

    def cancel_booking(self, his_id: str, *, operator: str) -> None:
        """取消预约 of an unpaid booking."""
        ...

    def refund(self, his_id: str, *, operator: str) -> None:
        """退号退费 of a paid registration: red-ink rows, the number goes back."""
        ...

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """停诊."""
        ...

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """恢复出诊."""
        ...

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """替诊: another doctor holds the same clinic."""
        ...

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """现场挂号, paid in cash; answers the HIS id."""
        ...

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """Puts an earlier platform order into the HIS as 健康160 would have (virtual operator jk160); answers the
        HIS id."""
        ...

    def check_in(self, his_id: str) -> None:
        """取号/签到."""
        ...

    def visit(self, his_id: str) -> None:
        """接诊: the doctor sees the patient."""
        ...

    def half_written(self, schedule_id: str, patient_id: str) -> str | None:
        """Leaves a committed half-written registration behind where the vendor knows such rows; else answers None."""
        ...

    def raw(self, his_id: str) -> list[HisRow]:
        """All HIS rows that belong to an order."""
        ...

    def raw_schedule(self, schedule_id: str) -> list[HisRow]:
        """The HIS rows of a schedule: itself, its stop and change records."""
        ...

    def close(self) -> None:
        """Gives the database connections back."""
        ...


class CashierWindow(WindowProgram, Protocol):
    """The window with its cashier: 医保, 日结, and what else a vendor's program does to registrations."""

    def register_insured(self, schedule_id: str, patient_id: str, bill: InsuredBill, *, operator: str) -> str:
        """现场医保挂号: 医保 pays its part, the rest is cash; answers the HIS id."""
        ...

    def refund_insured(self, his_id: str, reversal_setl_id: str, *, operator: str) -> None:
        """医保退号: the window has reversed the settlement (2208) and writes the red rows. `refund` refuses such an
        order."""
        ...

    def refund_part(self, his_id: str, amount_fen: int, *, operator: str) -> None:
        """部分退费; refused for orders of the platform ("健康160支付订单不支持部分退费"), by most vendors for all."""
        ...

    def close_day(self, *, operator: str) -> str:
        """日结 of all that the operator took and gave back since their last one; answers the number of the sheet."""
        ...

    def reschedule(self, his_id: str, schedule_id: str, *, operator: str) -> None:
        """改诊: an open order moves to another session of the same fee; its old number goes back."""
        ...

    def prescribe(self, his_id: str) -> None:
        """开单: a document that must be undone before the registration can be refunded."""
        ...

    def clear_holds(self) -> int:
        """The vendor's own clean-up of holds that ran out; answers how many."""
        ...

    def night_job(self) -> int:
        """The vendor's nightly move of old rows to history tables; answers how many registrations (0: it has none)."""
        ...


class SampleHis(Protocol):
    """A vendor's sample HIS."""

    @property
    def name(self) -> str:
        """The pack it belongs to, e.g. "zebone"."""
        ...

    @property
    def mappings(self) -> str:
        """The folder of the pack whose mappings fit this sample: "mappings", or that of a port to another engine."""
        ...

    @property
    def engine(self) -> str:
        """Name of the engine that `url` must lead to: "sqlite", "postgresql", "mysql", "mssql" or "oracle"."""
        ...

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops whatever sample is there and makes a new one; the same arguments make the same hospital.

        `url` is an SQLAlchemy URL. When `today` is not the clock's day the sample keeps the difference and its own
        clock (procedures,
        window program) runs that many days apart, so that a hospital of a fixed day still behaves as if it were that
        day.
        """
        ...

    def window(self, url: str, *, clock: Clock = hospital_now) -> WindowProgram:
        """The window program of the hospital at `url`."""
        ...
