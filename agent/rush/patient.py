"""What one patient does in a rush: look, choose, hold, book, perhaps pay; and what came of it."""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from his160.v1 import appointment_pb2, catalog_pb2, common_pb2, payment_pb2

from agent.rush.caller import Caller, OutOfTime, Refused
from sync.clock import utc_now

_TAKEN: Final = frozenset({"SLOT_TAKEN", "NO_SLOT_LEFT", "LOCK_EXPIRED", "SLOT_NOT_FOUND"})
_LOOK_AGAIN: Final = 0.3  # seconds of a person's eyes and thumb
_LOOKS: Final = 60


class End(enum.Enum):
    """How it ended for a patient."""

    BOOKED = "booked"
    PAID = "paid"
    NONE_LEFT = "none left"
    REFUSED = "refused"
    OUT_OF_TIME = "out of time"

    @property
    def is_served(self) -> bool:
        """Whether the patient has an appointment."""
        return self in (End.BOOKED, End.PAID)


@dataclass(slots=True)
class Story:
    """One patient's rush. ``arrival``: place in the order of arrival, from 0. Times in seconds since the release."""

    arrival: int
    order_no: str
    patient_id: str
    wants_to_pay: bool
    end: End = End.OUT_OF_TIME
    schedule_id: str = ""
    queue_no: int = 0
    began: float = 0.0
    ended: float = 0.0
    in_doubt: bool = False
    """It ended while a booking or payment was unanswered."""


class Patient:
    """``go`` once. ``released``: reading of ``time.monotonic()`` of the release."""

    def __init__(
        self, story: Story, caller: Caller, sessions: Sequence[common_pb2.Schedule], chance: random.Random
    ) -> None:
        self.story = story
        self._caller = caller
        self._fees = {session.schedule_id: session.fee_fen for session in sessions}
        self._wishes = list(self._fees)
        chance.shuffle(self._wishes)
        self._chance = chance
        self._attempts = 0

    async def go(self, released: float, after: float) -> None:
        """Arrive ``after`` seconds from the release, and try until booked, until nothing is left, or out of time."""
        story = self.story
        await asyncio.sleep(max(0.0, released + after - time.monotonic()))
        story.began = time.monotonic() - released
        try:
            story.end = await self._try()
        except OutOfTime:
            story.end = End.OUT_OF_TIME
        except Refused:
            story.end = End.REFUSED
        story.ended = time.monotonic() - released

    async def _try(self) -> End:
        for self._attempts in range(_LOOKS):
            slot = await self._look()
            if slot is None:
                return End.NONE_LEFT
            if await self._hold(slot) and await self._book_or_leave(slot):
                return await self._pay() if self.story.wants_to_pay else End.BOOKED
            await asyncio.sleep(self._chance.uniform(0, _LOOK_AGAIN))
        return End.NONE_LEFT

    async def _look(self) -> catalog_pb2.Slot | None:
        """A free slot of the session most wished for that has any; sessions seen full are not looked at again."""
        while self._wishes:
            wanted = self._wishes[0]
            request = catalog_pb2.ListSlotsRequest(schedule_id=wanted, free_only=True, realtime=True)
            answer = await self._caller.call("CatalogService.ListSlots", request)
            if answer.slots:
                found: catalog_pb2.Slot = self._chance.choice(answer.slots)
                return found
            self._wishes.pop(0)
        return None

    async def _hold(self, slot: catalog_pb2.Slot) -> bool:
        story = self.story
        request = appointment_pb2.LockSlotRequest(
            request_id=f"{story.order_no}-l{self._attempts}",
            order_no=story.order_no,
            schedule_id=slot.schedule_id,
            slot_id=slot.slot_id,
            patient_id=story.patient_id,
        )
        return await self._take("AppointmentService.LockSlot", request)

    async def _book_or_leave(self, slot: catalog_pb2.Slot) -> bool:
        """Whoever is refused for what he is (a blacklist, arrears) gives the number back to the others."""
        try:
            return await self._book(slot)
        except Refused:
            story = self.story
            request_id = f"{story.order_no}-u{self._attempts}"
            request = appointment_pb2.UnlockSlotRequest(
                request_id=request_id, order_no=story.order_no, slot_id=slot.slot_id
            )
            await self._caller.call("AppointmentService.UnlockSlot", request)
            raise

    async def _book(self, slot: catalog_pb2.Slot) -> bool:
        story = self.story
        request = appointment_pb2.BookAppointmentRequest(
            request_id=f"{story.order_no}-b{self._attempts}",
            order_no=story.order_no,
            patient_id=story.patient_id,
            schedule_id=slot.schedule_id,
            slot_id=slot.slot_id,
        )
        story.in_doubt = True
        booked = await self._take("AppointmentService.BookAppointment", request)
        story.in_doubt = False
        if booked:
            story.schedule_id = slot.schedule_id
        return booked

    async def _take(
        self, operation: str, request: appointment_pb2.LockSlotRequest | appointment_pb2.BookAppointmentRequest
    ) -> bool:
        """False when somebody else was faster."""
        try:
            answer = await self._caller.call(operation, request)
        except Refused as refused:
            if refused.reason in _TAKEN:
                return False
            self.story.in_doubt = False
            raise
        if isinstance(answer, appointment_pb2.BookAppointmentResponse):
            self.story.queue_no = answer.appointment.queue_no
        return True

    async def _pay(self) -> End:
        story = self.story
        request = payment_pb2.ConfirmPaymentRequest(
            request_id=f"{story.order_no}-p",
            order_no=story.order_no,
            out_trade_no=f"M{story.order_no}",
            transaction_id=f"4200{story.order_no}",
            amount_fen=self._fees[story.schedule_id],
            method=common_pb2.PAYMENT_METHOD_WECHAT,
        )
        request.pay_time.FromDatetime(utc_now())
        story.in_doubt = True
        await self._caller.call("PaymentService.ConfirmPayment", request)
        story.in_doubt = False
        return End.PAID
