"""Whether readers slow bookings down: the same bookings in turn without and with a crowd that only looks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from his160.v1 import appointment_pb2, catalog_pb2, common_pb2

from agent.rush.caller import Caller, OutOfTime, Refused
from agent.rush.figures import Times, times

_ROUNDS: Final = 2  # of each kind, in turn, so that a slow minute of the machine meets both
LOCK: Final = "AppointmentService.LockSlot"
BOOK: Final = "AppointmentService.BookAppointment"
_LIST: Final = "CatalogService.ListSlots"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Times of the booking calls (holding and booking) without and with readers, and of the readers' own calls."""

    without: Times
    with_readers: Times
    reads: Times

    @property
    def ratio(self) -> float:
        """Booking p99 with readers, as a multiple of that without."""
        return self.with_readers.p99 / self.without.p99 if self.without.p99 else 0.0

    def summary(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "booking_without_readers": self.without.summary(),
            "booking_with_readers": self.with_readers.summary(),
            "reads": self.reads.summary(),
            "booking_p99_ratio": round(self.ratio, 2),
        }


@dataclass(frozen=True, slots=True)
class Crowd:
    """``bookings`` of each kind by ``bookers`` at once; ``readers`` at once, who look without end."""

    bookings: int
    bookers: int
    readers: int


class Bookings:
    """A stock of numbers to book one after the other, each for another patient of the session."""

    def __init__(self, sessions: Sequence[common_pb2.Schedule], patients: Sequence[str], prefix: str) -> None:
        self._sessions = sessions
        self._patients = patients
        self._prefix = prefix
        self._number = 0
        self._slots: list[catalog_pb2.Slot] = []

    async def fill(self, caller: Caller) -> None:
        """Look up the numbers, once."""
        for session in self._sessions:
            request = catalog_pb2.ListSlotsRequest(schedule_id=session.schedule_id, free_only=True, realtime=True)
            answer = await caller.call(_LIST, request)
            self._slots += [slot for slot in answer.slots for _ in range(slot.free_count)]

    async def one(self, caller: Caller) -> None:
        """Hold and book the next number."""
        number = self._number
        self._number += 1
        slot = self._slots[number]
        order_no = f"{self._prefix}{number:05d}"
        patient = self._patients[number % len(self._patients)]
        common = {"order_no": order_no, "schedule_id": slot.schedule_id, "slot_id": slot.slot_id, "patient_id": patient}
        try:
            await caller.call(LOCK, appointment_pb2.LockSlotRequest(request_id=f"{order_no}-l", **common))
            await caller.call(BOOK, appointment_pb2.BookAppointmentRequest(request_id=f"{order_no}-b", **common))
        except Refused:
            return  # a blocked patient of the sample: counted by the tally, not timed apart


async def compare(caller: Caller, bookings: Bookings, looked_at: Sequence[str], crowd: Crowd, seed: int) -> Comparison:
    """Run the rounds. ``looked_at``: sessions that the readers look at. Raises OutOfTime."""
    chance = random.Random(seed)  # noqa: S311 - which session a reader looks at is no secret
    await bookings.fill(caller)
    await _book(caller, bookings, Crowd(crowd.bookers * 2, crowd.bookers, 0))  # warms both ends
    each = crowd.bookings // _ROUNDS
    without: list[float] = []
    with_readers: list[float] = []
    reads: list[float] = []
    for _ in range(_ROUNDS):
        without += await _book(caller, bookings, Crowd(each, crowd.bookers, 0))
        caller.tally.seconds.pop(_LIST, None)
        readers = [asyncio.create_task(_read(caller, looked_at, chance)) for _ in range(crowd.readers)]
        try:
            with_readers += await _book(caller, bookings, Crowd(each, crowd.bookers, 0))
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        reads += caller.tally.seconds.pop(_LIST, [])
    return Comparison(times(without), times(with_readers), times(reads))


async def _book(caller: Caller, bookings: Bookings, crowd: Crowd) -> list[float]:
    """Seconds of the booking calls."""
    for operation in (LOCK, BOOK):
        caller.tally.seconds.pop(operation, None)
    left = iter(range(crowd.bookings))

    async def booker() -> None:
        for _ in left:
            await bookings.one(caller)

    await asyncio.gather(*(booker() for _ in range(crowd.bookers)))
    return [*caller.tally.seconds[LOCK], *caller.tally.seconds[BOOK]]


async def _read(caller: Caller, looked_at: Sequence[str], chance: random.Random) -> None:
    while True:
        request = catalog_pb2.ListSlotsRequest(schedule_id=chance.choice(looked_at), free_only=True, realtime=True)
        try:
            await caller.call(_LIST, request)
        except (Refused, OutOfTime):
            return
