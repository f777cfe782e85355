"""The commands that die: for each its request, what must have happened before, and what another caller might do next."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message
from google.type import date_pb2
from his160.v1 import appointment_pb2, common_pb2, patient_pb2, payment_pb2

from tests.chaos.his_books import digest
from tests.chaos.invariants import BOOK, CANCEL, LOCK, PATIENT, PAY, REFUND, UNLOCK
from tests.chaos.site import Place

_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

Requests: TypeAlias = "Mapping[str, tuple[str, Callable[[Customer, str], Any]]]"


@dataclass(frozen=True, slots=True)
class Customer:
    """A patient of 160 with one order. ``order_no`` is at most 32 characters. ``notes``: what the patient was told and needs
    for later commands. ``requests``: more steps than the usual ones."""

    order_no: str
    place: Place
    requests: Requests = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def request(self, step: str, attempt: str = "") -> tuple[str, Message]:
        """Operation and request of a step; ``attempt`` makes another request_id of the same command."""
        operation, make = self.requests.get(step) or _REQUESTS[step]
        return operation, make(self, f"{self.order_no}-{step}{attempt}")

    def remember(self, step: str, response: Any) -> None:
        """Keep what a later step needs."""
        if step == "quote":
            self.notes["split"] = response.settlement.split
        if step == "settle":
            self.notes["setl_id"] = response.settlement.setl_id

    def number(self, step: str) -> str:
        """The business number by which the HIS's book shows the step."""
        numbers = {
            "pay": self.out_trade_no,
            "confirm": self.out_trade_no,
            "pay_wrong": self.wrong_trade_no,
            "refund": self.out_refund_no,
            "patient": digest(self.document_no),
        }
        return numbers.get(step, self.order_no)

    @property
    def out_trade_no(self) -> str:
        return f"M{self.order_no}"

    @property
    def wrong_trade_no(self) -> str:
        return f"W{self.order_no}"

    @property
    def out_refund_no(self) -> str:
        return f"R{self.order_no}"

    @property
    def document_no(self) -> str:
        """A number of nobody, valid by GB 11643."""
        chance = zlib.crc32(self.order_no.encode())
        body = f"990305{1950 + chance % 50}{1 + chance // 50 % 12:02d}{1 + chance // 600 % 28:02d}{chance // 16800 % 1000:03d}"
        total = sum(int(figure) * weight for figure, weight in zip(body, _WEIGHTS, strict=True))
        return body + "10X98765432"[total % 11]


def _lock(who: Customer, request_id: str) -> Message:
    return appointment_pb2.LockSlotRequest(
        request_id=request_id,
        order_no=who.order_no,
        schedule_id=who.place.schedule_id,
        slot_id=who.place.slot_id,
        patient_id=who.place.patient_id,
    )


def _unlock(who: Customer, request_id: str) -> Message:
    return appointment_pb2.UnlockSlotRequest(request_id=request_id, order_no=who.order_no, slot_id=who.place.slot_id)


def _book(who: Customer, request_id: str) -> Message:
    return appointment_pb2.BookAppointmentRequest(
        request_id=request_id,
        order_no=who.order_no,
        patient_id=who.place.patient_id,
        schedule_id=who.place.schedule_id,
        slot_id=who.place.slot_id,
    )


def _cancel(who: Customer, request_id: str) -> Message:
    return appointment_pb2.CancelAppointmentRequest(request_id=request_id, order_no=who.order_no, note="用户取消")


def _pay(who: Customer, request_id: str) -> Message:
    request = payment_pb2.ConfirmPaymentRequest(
        request_id=request_id,
        order_no=who.order_no,
        out_trade_no=who.out_trade_no,
        transaction_id=f"4200{who.order_no}",
        amount_fen=who.place.fee_fen,
        method=common_pb2.PAYMENT_METHOD_WECHAT,
    )
    request.pay_time.FromJsonString("2026-03-02T01:00:00Z")
    return request


def _pay_wrong(who: Customer, request_id: str) -> Any:
    request: Any = _pay(who, request_id)
    request.out_trade_no = who.wrong_trade_no
    request.amount_fen += 1
    return request


def _refund(who: Customer, request_id: str) -> Message:
    return payment_pb2.RefundPaymentRequest(
        request_id=request_id,
        order_no=who.order_no,
        out_trade_no=who.out_trade_no,
        out_refund_no=who.out_refund_no,
        amount_fen=who.place.fee_fen,
        note="用户退号",
    )


def _patient(who: Customer, request_id: str) -> Message:
    number = who.document_no
    return patient_pb2.EnsurePatientRequest(
        request_id=request_id,
        name="测试甲",
        document_type="01",
        document_no=number,
        mobile="12600000000",
        sex="1" if int(number[16]) % 2 else "2",
        birthday=date_pb2.Date(year=int(number[6:10]), month=int(number[10:12]), day=int(number[12:14])),
    )


_REQUESTS: Final[Requests] = {
    "lock": (LOCK, _lock),
    "unlock": (UNLOCK, _unlock),
    "book": (BOOK, _book),
    "cancel": (CANCEL, _cancel),
    "pay": (PAY, _pay),
    "pay_wrong": (PAY, _pay_wrong),
    "refund": (REFUND, _refund),
    "patient": (PATIENT, _patient),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One command under fire. ``prepare``: steps done before (``@…``: what people do); ``next``: what the same patient may do instead of waiting.

    ``refused``: the HIS says no to it, which must stay a no.
    """

    name: str
    step: str
    prepare: tuple[str, ...] = ()
    next: str = ""
    refused: bool = False


SCENES: Final = (
    Scene("LockSlot", "lock", next="book"),
    Scene("UnlockSlot", "unlock", ("lock",), next="lock"),
    Scene("BookAppointment", "book", ("lock",), next="cancel"),
    Scene("BookAppointment without a hold", "book", next="cancel"),
    Scene("CancelAppointment", "cancel", ("lock", "book"), next="pay"),
    Scene("ConfirmPayment", "pay", ("lock", "book"), next="refund"),
    Scene("ConfirmPayment of a wrong amount", "pay_wrong", ("lock", "book"), next="pay", refused=True),
    Scene("RefundPayment", "refund", ("lock", "book", "pay"), next="cancel"),
    Scene("EnsurePatient", "patient", next="lock"),
)
