"""A pack on its sample HIS: what the pack suites share. It speaks the contract only; what a HIS calls things stays in the mapping."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.type import date_pb2
from his160.v1 import catalog_pb2, common_pb2, patient_pb2, payment_pb2, reason_pb2

from his_db import contract
from his_db.access import HisAccess
from his_db.errors import HisRefused
from his_db.sample import CashierWindow, OrderRow

ROOT = Path(__file__).resolve().parents[3]
ZONE = "Asia/Shanghai"
SILENT_STOP = {"bsoft"}  # its 停诊 is one flag: no operator, no reason
ORDER_NO_LENGTH = {"bsoft": 32}  # longer order numbers do not fit its column and are refused, never cut
R = reason_pb2
State = common_pb2


@dataclass(slots=True)
class AgentClock:
    """The agent's clock, that much in front of the real one."""

    ahead: dt.timedelta = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.ahead


@dataclass(frozen=True, slots=True)
class Hospital:
    """`clock` is the agent's; a HIS with procedures has one of its own."""

    name: str
    url: str
    his: HisAccess
    window: CashierWindow
    today: dt.date
    clock: AgentClock


def date(day: dt.date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def day_of(given: date_pb2.Date) -> dt.date:
    return dt.date(given.year, given.month, given.day)


def order_no() -> str:
    return "T" + uuid.uuid4().hex[:20]


def key() -> str:
    return uuid.uuid4().hex


async def read(h: Hospital, operation: str, **fields: Any) -> Any:
    return await h.his.read(operation, contract.operation(operation).request_class(**fields))


async def write(h: Hospital, operation: str, **fields: Any) -> Any:
    request = contract.operation(operation).request_class(request_id=key(), **fields)
    return await h.his.write(operation, request, key=request.request_id)


async def schedules(h: Hospital, *, page_size: int = 500, **more: Any) -> list[common_pb2.Schedule]:
    found: list[common_pb2.Schedule] = []
    token = ""
    while True:
        answer = await read(
            h,
            "CatalogService.ListSchedules",
            from_date=date(h.today),
            to_date=date(h.today + dt.timedelta(days=14)),
            page_size=page_size,
            page_token=token,
            **more,
        )
        found.extend(answer.schedules)
        token = answer.next_page_token
        if not token:
            return found


async def open_schedules(h: Hospital, *, free: int = 5) -> list[common_pb2.Schedule]:
    """Sessions of later days with that many free numbers."""
    return [
        s
        for s in await schedules(h)
        if s.state == State.SCHEDULE_STATE_OPEN and s.free_count >= free and day_of(s.visit_date) > h.today
    ]


async def open_schedule(h: Hospital, *, skip: int = 0) -> common_pb2.Schedule:
    """A session of a later day that has at least five free numbers."""
    later = await open_schedules(h)
    return later[skip % len(later)]


async def free_slot(h: Hospital, schedule_id: str) -> catalog_pb2.Slot:
    answer = await read(h, "CatalogService.ListSlots", schedule_id=schedule_id, free_only=True)
    return answer.slots[0]


_NUMBERS = itertools.count(1)


def document_number() -> str:
    """A valid document number of nobody (there is no region 99), never the same twice."""
    number = next(_NUMBERS)
    serial, day, year = number % 1000, number // 1000 % 336, number // 336_000 % 40
    body = f"990305{1960 + year}{1 + day // 28:02d}{1 + day % 28:02d}{serial:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]


async def patient(h: Hospital) -> patient_pb2.Patient:
    """A new patient."""
    full = document_number()
    answer = await write(
        h,
        "PatientService.EnsurePatient",
        name=f"测试{full[6:14]}{full[14:17]}",
        document_type="01",
        document_no=full,
        mobile="12600000000",
        sex="1" if int(full[16]) % 2 else "2",
        birthday=date_pb2.Date(year=int(full[6:10]), month=int(full[10:12]), day=int(full[12:14])),
    )
    assert answer.created
    found = patient_pb2.Patient()
    found.CopyFrom(answer.patient)
    found.document_no = full
    return found


def lock(h: Hospital, session: str, slot: str, number: str, **more: Any) -> Awaitable[Any]:
    fields = {"order_no": number, "schedule_id": session, "slot_id": slot, **more}
    return write(h, "AppointmentService.LockSlot", **fields)


def book(h: Hospital, session: str, slot: str, who: str, number: str, **more: Any) -> Awaitable[Any]:
    fields = {"order_no": number, "patient_id": who, "schedule_id": session, "slot_id": slot, **more}
    return write(h, "AppointmentService.BookAppointment", **fields)


async def booked(
    h: Hospital, *, schedule: common_pb2.Schedule | None = None, patient_id: str = ""
) -> common_pb2.Appointment:
    session = schedule or await open_schedule(h)
    slot = await free_slot(h, session.schedule_id)
    who = patient_id or (await patient(h)).patient_id
    number = order_no()
    held = await lock(h, session.schedule_id, slot.slot_id, number, patient_id=who)
    answer = await book(h, session.schedule_id, slot.slot_id, who, number, lock_id=held.lock.lock_id)
    appointment = answer.appointment
    assert isinstance(appointment, common_pb2.Appointment)
    return appointment


async def pay(h: Hospital, order: common_pb2.Appointment, **more: Any) -> payment_pb2.ConfirmPaymentResponse:
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "out_trade_no": "M" + order.order_no,
        "transaction_id": "W" + order.order_no,
        "amount_fen": order.total_fen,
        "method": common_pb2.PAYMENT_METHOD_WECHAT,
    }
    fields.update(more)
    request = payment_pb2.ConfirmPaymentRequest(request_id=key(), **fields)
    request.pay_time.FromDatetime(dt.datetime.now(dt.UTC))
    answer = await h.his.write("PaymentService.ConfirmPayment", request, key=request.request_id)
    assert isinstance(answer, payment_pb2.ConfirmPaymentResponse)
    return answer


async def refund(h: Hospital, order: common_pb2.Appointment, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "out_trade_no": "M" + order.order_no,
        "out_refund_no": "R" + order.order_no,
        "amount_fen": order.total_fen,
        "note": "患者改期",
    }
    fields.update(more)
    return await write(h, "PaymentService.RefundPayment", **fields)


async def check_refund(h: Hospital, order: common_pb2.Appointment, **more: Any) -> str:
    """退费预检查, asked before any money goes back; answers the HIS's key of the order."""
    fields: dict[str, Any] = {
        "order_no": order.order_no,
        "out_trade_no": "M" + order.order_no,
        "amount_fen": order.total_fen,
    }
    fields.update(more)
    return str((await read(h, "RefundCheckService.CheckRefund", **fields)).appointment_id)


async def cancel(h: Hospital, number: str, **more: Any) -> Any:
    return await write(h, "AppointmentService.CancelAppointment", order_no=number, **more)


def row_of(h: Hospital, his_id: str) -> OrderRow:
    """An order or walk-in as the window tells it. Looked for among all: orders of one second come in any order."""
    [found] = [row for row in h.window.orders(channel_only=False, limit=100_000) if row.his_id == his_id]
    return found


async def appointment_of(h: Hospital, number: str) -> common_pb2.Appointment:
    found = (await read(h, "AppointmentService.GetAppointment", order_no=number)).appointment
    assert isinstance(found, common_pb2.Appointment)
    return found


async def refused(awaitable: Awaitable[Any]) -> int:
    with pytest.raises(HisRefused) as caught:
        await awaitable
    return caught.value.reason


async def changes(h: Hospital, name: str, action: Any) -> list[tuple[int, Any, Any]]:
    """(event kind, before, after) of what one window action changes in a stream."""
    watch = h.his.watch(name)
    before = dict((await h.his.snapshot(name)).rows)
    action()
    after = dict((await h.his.snapshot(name)).rows)
    found = []
    for row_key, row in after.items():
        if before.get(row_key) == row:
            continue
        old = watch.build(before[row_key]) if row_key in before else None
        new = watch.build(row)
        kind = next((rule.kind for rule in watch.rules if rule.matches(old, new)), None)
        if kind is not None:
            found.append((kind, old, new))
    return found
