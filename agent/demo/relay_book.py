"""The relay's book of the story: what the relay was told, by answers and by events, in the order it came."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from google.protobuf.message import Message
from his160.sandbox.v1 import sandbox_pb2
from his160.v1 import common_pb2, event_pb2

from agent.sandbox.client import SandboxClient

_PAGE: Final = 1000


class EventMissing(Exception):
    """An event did not arrive in time."""


class RelayBook:
    """Calls through the sandbox and remembers the last word on every order. Amounts are 分."""

    def __init__(self, client: SandboxClient) -> None:
        self._client = client
        self._position = max((stored.position for stored in client.events(page_size=_PAGE)), default=0)
        self.told: dict[str, common_pb2.Appointment] = {}
        """Order number -> the order as the relay was told last."""
        self.events: list[sandbox_pb2.StoredEvent] = []
        """Events that arrived since the story began."""

    def call(self, operation: str, request: Message) -> Any:
        """One call over the link. Raises CallFailed."""
        answer = self._client.call(operation, request)
        if "appointment" in answer.DESCRIPTOR.fields_by_name and answer.HasField("appointment"):
            self._tell(answer.appointment)
        return answer

    def wait_event(
        self, wanted: Callable[[event_pb2.Event], bool], what: str, seconds: float = 30.0
    ) -> sandbox_pb2.StoredEvent:
        """The first event of the story that is wanted, waiting for it. Raises EventMissing."""
        until = time.monotonic() + seconds
        while True:
            for stored in self.events:
                if wanted(stored.event):
                    return stored
            left = until - time.monotonic()
            if left <= 0:
                raise EventMissing(f"{what}: no event within {seconds:.0f} s")
            self.take(timedelta(seconds=left))

    def take(self, wait: timedelta | None = None) -> None:
        """Take the events that have arrived, waiting for the first when there is none."""
        for stored in self._client.events(self._position, wait, _PAGE):
            self._position = max(self._position, stored.position)
            self.events.append(stored)
            if stored.event.HasField("appointment_after"):
                self._tell(stored.event.appointment_after)

    def of_order(self, order_no: str) -> list[event_pb2.Event]:
        """Events of an order so far."""
        return [stored.event for stored in self.events if stored.event.order_no == order_no]

    def _tell(self, appointment: common_pb2.Appointment) -> None:
        if appointment.order_no:
            copy = common_pb2.Appointment()
            copy.CopyFrom(appointment)
            self.told[appointment.order_no] = copy
