"""Faults that the sandbox plays on purpose, so that a bench can see what the agent does about them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from google.protobuf import duration_pb2
from his160.sandbox.v1 import sandbox_pb2


class Faults:
    """What goes wrong from now on. Healed when made."""

    def __init__(self) -> None:
        self.cut = False
        """Links are cut and refused."""
        self.ack_delay = timedelta(0)
        self.call_delay = timedelta(0)
        self._drop_receipts = 0
        self._retry_events = 0
        self._cut_now = asyncio.Event()

    def set(self, request: sandbox_pb2.SetFaultRequest) -> None:
        """Replace all faults by those of the request. Raises ValueError for an invalid duration."""
        ack_delay, call_delay = _span(request.ack_delay), _span(request.call_delay)
        self.ack_delay, self.call_delay = ack_delay, call_delay
        self._drop_receipts = max(0, request.drop_receipts)
        self._retry_events = max(0, request.retry_events)
        self.cut = request.cut
        if request.cut:
            self._cut_now.set()
            self._cut_now = asyncio.Event()

    async def wait_for_cut(self) -> None:
        """Return when links are cut the next time."""
        await self._cut_now.wait()

    def drops_receipt(self) -> bool:
        """True: this batch gets no receipt. Uses one up."""
        if self._drop_receipts <= 0:
            return False
        self._drop_receipts -= 1
        return True

    def retries_event(self) -> bool:
        """True: this event is answered with OUTCOME_RETRY and not stored. Uses one up."""
        if self._retry_events <= 0:
            return False
        self._retry_events -= 1
        return True


def _span(duration: duration_pb2.Duration) -> timedelta:
    """Never negative. Absent: zero."""
    try:
        return max(timedelta(0), duration.ToTimedelta())
    except OverflowError as error:
        raise ValueError("the duration is too long") from error
