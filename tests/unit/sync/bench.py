"""A small HIS in memory, a clock to turn by hand, and stores that fail when told: what the tests of this room share."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message
from his160.v1 import appointment_pb2, common_pb2, event_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db.errors import HisRefused, OperationNotMapped, OutcomeUnknown, SwitchedOff
from sync.store import Store, StoreUnavailable, Transaction
from sync.stores.sqlite import SqliteStore

T = TypeVar("T")
BOOK = "AppointmentService.BookAppointment"
CANCEL = "AppointmentService.CancelAppointment"
LOCK = "AppointmentService.LockSlot"
UNLOCK = "AppointmentService.UnlockSlot"
CONFIRM = "PaymentService.ConfirmPayment"
REFUND = "PaymentService.RefundPayment"
ENSURE = "PatientService.EnsurePatient"
FEE = 2500
SITE_SERVICES = (
    "MerchantService.",
    "InsuranceGatewayService.",
    "MobilePaymentService.",
    "InsuredRegistrationService.",
    "RefundCheckService.",
)


class Clock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


class Crash(Exception):
    """Stands for the process dying: whatever was not on disk is gone."""


def book(order_no: str = "T1", request_id: str = "r1", slot: str = "S1") -> appointment_pb2.BookAppointmentRequest:
    return appointment_pb2.BookAppointmentRequest(
        request_id=request_id, order_no=order_no, patient_id="P1", schedule_id="D1", slot_id=slot
    )


def lock(order_no: str = "T1", request_id: str = "l1", slot: str = "S1") -> appointment_pb2.LockSlotRequest:
    return appointment_pb2.LockSlotRequest(
        request_id=request_id, order_no=order_no, schedule_id="D1", slot_id=slot, patient_id="P1"
    )


def cancel(order_no: str = "T1", request_id: str = "c1", note: str = "") -> appointment_pb2.CancelAppointmentRequest:
    return appointment_pb2.CancelAppointmentRequest(request_id=request_id, order_no=order_no, note=note)


def confirm(
    order_no: str = "T1", request_id: str = "p1", number: str = "W1", amount: int = FEE
) -> payment_pb2.ConfirmPaymentRequest:
    return payment_pb2.ConfirmPaymentRequest(
        request_id=request_id,
        order_no=order_no,
        out_trade_no=number,
        transaction_id="wx" + number,
        amount_fen=amount,
        method=common_pb2.PAYMENT_METHOD_WECHAT,
    )


def refund(
    order_no: str = "T1", request_id: str = "f1", number: str = "R1", amount: int = FEE, note: str = ""
) -> payment_pb2.RefundPaymentRequest:
    return payment_pb2.RefundPaymentRequest(
        request_id=request_id,
        order_no=order_no,
        out_trade_no="W1",
        out_refund_no=number,
        amount_fen=amount,
        note=note,
    )


def ensure(request_id: str = "e1", name: str = "测试甲") -> patient_pb2.EnsurePatientRequest:
    return patient_pb2.EnsurePatientRequest(
        request_id=request_id,
        name=name,
        document_type="01",
        document_no="11010519491231002x",
        mobile="13800000000",
    )


Fault = Callable[[Callable[[], Message]], Any]


def lost_before(work: Callable[[], Message]) -> Message:
    """The connection breaks before the HIS has the statement, but we cannot know."""
    raise OutcomeUnknown("connection lost")


def lost_after(work: Callable[[], Message]) -> Message:
    """The HIS does it, the answer is lost."""
    work()
    raise OutcomeUnknown("connection lost")


def raising(error: BaseException) -> Fault:
    def fault(work: Callable[[], Message]) -> Message:
        raise error

    return fault


def crash_after(work: Callable[[], Message]) -> Message:
    work()
    raise asyncio.CancelledError


class MemoryHis:
    """Orders, payments, refunds and patients as a HIS keeps them. ``faults`` are used up by the next writes.

    ``effects`` counts what was really done, by operation and business number: the proof of "once".
    """

    def __init__(self) -> None:
        self.orders: dict[str, common_pb2.Appointment] = {}
        self.payments: dict[str, payment_pb2.Payment] = {}
        self.refunds: dict[str, payment_pb2.Refund] = {}
        self.patients: list[patient_pb2.Patient] = []
        self.effects: Counter[tuple[str, str]] = Counter()
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.keys: list[str] = []
        self.faults: deque[Fault] = deque()
        self.read_faults: deque[Exception] = deque()
        self.unmapped: set[str] = set()
        self.off: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.operator = "jk160"

    async def write(self, operation: str, request: Message, *, key: str, deadline: float | None = None) -> Message:
        self.writes.append(operation)
        self.keys.append(key)
        if self.gate is not None:
            await self.gate.wait()
        else:
            await asyncio.sleep(0)

        def work() -> Message:
            return self._write(operation, request)

        if self.faults:
            outcome = self.faults.popleft()(work)
            assert isinstance(outcome, Message)
            return outcome
        return work()

    async def read(self, operation: str, request: Message, *, deadline: float | None = None) -> Message:
        self.reads.append(operation)
        await asyncio.sleep(0)
        if self.read_faults:
            raise self.read_faults.popleft()
        if operation in self.unmapped:
            raise OperationNotMapped(operation)
        return self._read(operation, request)

    def enter(self, operation: str, /) -> None:
        if operation in self.off:
            raise SwitchedOff(operation)

    def maps(self, operation: str, /) -> bool:
        """The HIS alone: no payment house and no 医保 beside it."""
        return not operation.startswith(SITE_SERVICES) and operation not in self.unmapped

    def _read(self, operation: str, request: Any) -> Message:
        match operation.partition(".")[2]:
            case "GetAppointment":
                found = self.orders.get(request.order_no)
                if found is None:
                    raise HisRefused(reason_pb2.REASON_APPOINTMENT_NOT_FOUND, "no such order")
                return appointment_pb2.GetAppointmentResponse(appointment=found)
            case "GetPayment":
                payment = self.payments.get(request.out_trade_no)
                if payment is None:
                    raise HisRefused(reason_pb2.REASON_PAYMENT_NOT_FOUND, "no such payment")
                return payment_pb2.GetPaymentResponse(payment=payment)
            case "GetRefund":
                refund = self.refunds.get(request.out_refund_no)
                if refund is None:
                    raise HisRefused(reason_pb2.REASON_REFUND_NOT_FOUND, "no such refund")
                return payment_pb2.GetRefundResponse(refund=refund)
            case "FindPatients":
                same = [patient for patient in self.patients if patient.document_no == request.document_no]
                return patient_pb2.FindPatientsResponse(patients=same)
        raise OperationNotMapped(operation)

    def _write(self, operation: str, request: Any) -> Message:
        match operation.partition(".")[2]:
            case "LockSlot":
                return self._lock(request)
            case "UnlockSlot":
                return appointment_pb2.UnlockSlotResponse(lock_id=request.lock_id)
            case "BookAppointment":
                return self._book(request)
            case "CancelAppointment":
                return self._cancel(request)
            case "ConfirmPayment":
                return self._confirm(request)
            case "RefundPayment":
                return self._refund(request)
            case "EnsurePatient":
                return self._ensure(request)
        raise OperationNotMapped(operation)

    def _lock(self, request: appointment_pb2.LockSlotRequest) -> Message:
        self.effects[LOCK, request.order_no] += 1
        return appointment_pb2.LockSlotResponse(
            lock=appointment_pb2.SlotLock(lock_id=request.order_no, slot_id=request.slot_id, fee_fen=FEE)
        )

    def _book(self, request: appointment_pb2.BookAppointmentRequest) -> Message:
        old = self.orders.get(request.order_no)
        if old is not None and old.state not in (
            common_pb2.APPOINTMENT_STATE_CANCELLED,
            common_pb2.APPOINTMENT_STATE_REFUNDED,
        ):
            raise HisRefused(reason_pb2.REASON_DUPLICATE_APPOINTMENT, "exists", text="张三已预约")
        self.effects[BOOK, request.order_no] += 1
        order = common_pb2.Appointment(
            order_no=request.order_no,
            appointment_id="A" + request.order_no,
            state=common_pb2.APPOINTMENT_STATE_BOOKED,
            patient_id=request.patient_id,
            patient_name="张三",
            schedule_id=request.schedule_id,
            slot_id=request.slot_id,
            total_fen=FEE,
            operator_id=self.operator,
        )
        self.orders[request.order_no] = order
        return appointment_pb2.BookAppointmentResponse(appointment=order)

    def _order(self, order_no: str) -> common_pb2.Appointment:
        if order_no not in self.orders:
            raise HisRefused(reason_pb2.REASON_APPOINTMENT_NOT_FOUND, "no such order")
        return self.orders[order_no]

    def _cancel(self, request: appointment_pb2.CancelAppointmentRequest) -> Message:
        order = self._order(request.order_no)
        if order.state == common_pb2.APPOINTMENT_STATE_CANCELLED:
            raise HisRefused(reason_pb2.REASON_ALREADY_CANCELLED, "cancelled before")
        if order.state != common_pb2.APPOINTMENT_STATE_BOOKED:
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "paid")
        self.effects[CANCEL, request.order_no] += 1
        order.state = common_pb2.APPOINTMENT_STATE_CANCELLED
        order.operator_id = self.operator
        return appointment_pb2.CancelAppointmentResponse(appointment=order)

    def _confirm(self, request: payment_pb2.ConfirmPaymentRequest) -> Message:
        order = self._order(request.order_no)
        if request.amount_fen != order.total_fen:
            raise HisRefused(reason_pb2.REASON_AMOUNT_MISMATCH, "the HIS wants another amount")
        if order.state != common_pb2.APPOINTMENT_STATE_BOOKED:
            raise HisRefused(reason_pb2.REASON_ALREADY_PAID, "not waiting for payment")
        self.effects[CONFIRM, request.out_trade_no] += 1
        order.state = common_pb2.APPOINTMENT_STATE_PAID
        order.paid_fen = request.amount_fen
        order.out_trade_no = request.out_trade_no
        order.operator_id = self.operator
        payment = payment_pb2.Payment(
            out_trade_no=request.out_trade_no,
            order_no=request.order_no,
            state=payment_pb2.PAYMENT_STATE_PAID,
            amount_fen=request.amount_fen,
        )
        self.payments[request.out_trade_no] = payment
        return payment_pb2.ConfirmPaymentResponse(appointment=order, payment=payment)

    def _refund(self, request: payment_pb2.RefundPaymentRequest) -> Message:
        order = self._order(request.order_no)
        if order.state != common_pb2.APPOINTMENT_STATE_PAID:
            raise HisRefused(reason_pb2.REASON_ALREADY_REFUNDED, "not paid any more")
        self.effects[REFUND, request.out_refund_no] += 1
        order.state = common_pb2.APPOINTMENT_STATE_REFUNDED
        order.refunded_fen = request.amount_fen
        order.out_refund_no = request.out_refund_no
        order.operator_id = self.operator
        refund = payment_pb2.Refund(
            out_refund_no=request.out_refund_no,
            order_no=request.order_no,
            state=payment_pb2.REFUND_STATE_DONE,
            amount_fen=request.amount_fen,
        )
        self.refunds[request.out_refund_no] = refund
        return payment_pb2.RefundPaymentResponse(refund=refund, appointment=order)

    def _ensure(self, request: patient_pb2.EnsurePatientRequest) -> Message:
        for patient in self.patients:
            if patient.document_no == request.document_no:
                return patient_pb2.EnsurePatientResponse(patient=patient)
        self.effects[ENSURE, request.document_no] += 1
        patient = patient_pb2.Patient(
            patient_id=f"P{len(self.patients)}", name=request.name, document_no=request.document_no, sex=request.sex
        )
        self.patients.append(patient)
        return patient_pb2.EnsurePatientResponse(patient=patient, created=True)


class FailingStore:
    """A store before another one that raises at labelled points: ``fail(label, after=n)``.

    Labels: ``before`` (nothing was kept) and ``after`` (it was kept, but the process died before it knew).
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.points: dict[str, list[int]] = {}

    def fail(self, label: str, skip: int = 0) -> None:
        self.points[label] = [skip]

    @property
    def identity(self) -> str:
        return self.store.identity

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        self._check("before", StoreUnavailable("disk full"))
        value = await self.store.write(unit)
        self._check("after", Crash())
        return value

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return await self.store.read(unit)

    async def stamp(self) -> object | None:
        return await self.store.stamp()

    async def close(self) -> None:
        await self.store.close()

    def _check(self, label: str, error: Exception) -> None:
        point = self.points.get(label)
        if point is None:
            return
        if point[0] == 0:
            del self.points[label]
            raise error
        point[0] -= 1


def open_sqlite(path: Path, clock: Clock, *, exclusive: bool = False, max_pages: int = 0) -> SqliteStore:
    return SqliteStore(path / "state.db", clock, exclusive=exclusive, max_pages=max_pages)


@dataclass(frozen=True, slots=True)
class Rule:
    """``state: before -> after``; empty sets mean any."""

    kind: int
    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    is_new: bool = False
    field: str = "state"
    occurred: str | None = None

    def matches(self, before: Message | None, after: Message | None) -> bool:
        if after is None or self.is_new != (before is None):
            return False
        new = getattr(after, self.field)
        if self.after and new not in self.after:
            return False
        if before is None:
            return True
        old = getattr(before, self.field)
        return old != new and (not self.before or old in self.before)


S = common_pb2
ORDER_RULES = (
    Rule(event_pb2.EVENT_KIND_BOOKED, after=frozenset({S.APPOINTMENT_STATE_BOOKED}), is_new=True),
    Rule(event_pb2.EVENT_KIND_PAID, after=frozenset({S.APPOINTMENT_STATE_PAID})),
    Rule(event_pb2.EVENT_KIND_CANCELLED, after=frozenset({S.APPOINTMENT_STATE_CANCELLED}), occurred="cancel_time"),
    Rule(event_pb2.EVENT_KIND_REFUNDED, after=frozenset({S.APPOINTMENT_STATE_REFUNDED})),
    Rule(event_pb2.EVENT_KIND_SUSPENDED, after=frozenset({S.APPOINTMENT_STATE_SUSPENDED})),
    Rule(event_pb2.EVENT_KIND_CHECKED_IN, after=frozenset({S.APPOINTMENT_STATE_CHECKED_IN})),
    Rule(event_pb2.EVENT_KIND_REPLACED, field="doctor_id"),
)
SCHEDULE_RULES = (
    Rule(event_pb2.EVENT_KIND_SUSPENDED, after=frozenset({S.SCHEDULE_STATE_SUSPENDED})),
    Rule(event_pb2.EVENT_KIND_RESUMED, after=frozenset({S.SCHEDULE_STATE_OPEN})),
)


@dataclass(slots=True)
class Watch:
    """A compiled watch: rows are ``(serialised message,)``, unreadable when the bytes are ``b"?"``."""

    name: str = "orders"
    subject: str = "appointment"
    message_class: type[Message] = common_pb2.Appointment
    poll: timedelta | None = None
    platform_operators: frozenset[str] = frozenset({"jk160"})
    vanish: str = "ignore"
    rules: Sequence[Rule] = ORDER_RULES
    outside: set[str] = field(default_factory=set)
    feeds: Sequence[Any] = ()
    reads_keys: bool = True
    reconcile: timedelta = timedelta(seconds=30)
    orders: timedelta = timedelta(seconds=10)

    def key_of(self, row: tuple[Any, ...], /) -> Any:
        return common_pb2.Appointment.FromString(row[0]).appointment_id

    def build(self, row: tuple[Any, ...], /) -> Message:
        if row[0] == b"?":
            raise HisRefused(reason_pb2.REASON_MAPPING_MISMATCH, "unmapped code")
        return self.message_class.FromString(row[0])

    def build_all(self, rows: Sequence[tuple[Any, ...]], /) -> None:
        """As a mapping that has what can only be built row by row."""

    def window_contains(self, message: Message, now: datetime, /) -> bool:
        return getattr(message, "schedule_id") not in self.outside  # noqa: B009


@dataclass(frozen=True, slots=True)
class Snapshot:
    rows: Sequence[tuple[str, tuple[Any, ...]]]
    now: datetime
    refused: int = 0


class WatchedHis:
    """The watch side: rows by key, set by the tests (``put``), or taken from a MemoryHis."""

    def __init__(self, clock: Clock, his: MemoryHis | None = None) -> None:
        self.clock = clock
        self.his = his
        self.current = Watch()
        self.rows: dict[str, bytes] = {}
        self.extra: list[tuple[str, tuple[Any, ...]]] = []
        self.error: Exception | None = None
        self._last: list[tuple[str, tuple[Any, ...]]] = []

    def put(self, key: str, message: Message) -> None:
        self.rows[key] = message.SerializeToString(deterministic=True)

    def order(self, key: str, state: int, **fields: Any) -> None:
        values: dict[str, Any] = {"order_no": "T" + key, "patient_name": "张三", "schedule_id": "D1"}
        values.update(fields)
        self.put(
            key,
            common_pb2.Appointment(appointment_id=key, state=common_pb2.AppointmentState.ValueType(state), **values),
        )

    def watch(self, name: str, /) -> Watch:
        return self.current

    async def snapshot(self, name: str, /, *, watch: Any = None) -> Snapshot:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.his is not None:
            for order_no, order in self.his.orders.items():
                self.put(order_no, order)
        rows = [(key, (content,)) for key, content in self.rows.items()] + self.extra
        if rows != self._last:  # the same rows are the same list, as HisAccess gives them
            self._last = rows
        return Snapshot(self._last, self.clock())


def of_kinds(events: Collection[event_pb2.Event]) -> list[str]:
    return [event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_") for event in events]
