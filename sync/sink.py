"""The port to where events go. Implementations: ``sync/sinks/*.py`` (and the relay's, in the agent room)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from his160.v1 import event_pb2


class SinkUnavailable(Exception):
    """The sink cannot be reached now. What it has stored of the batch is not known; the batch is sent again.

    The text holds no personal data.
    """

    def __init__(self, detail: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Outcome(enum.Enum):
    """What a sink did with one event."""

    STORED = "STORED"  # now or before
    REJECTED = "REJECTED"  # for good; a person must look
    RETRY = "RETRY"  # not now


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sink's word on one event. ``retry_after`` comes with RETRY; None: the delivery's own pace."""

    event_id: str
    outcome: Outcome
    detail: str = ""
    retry_after: timedelta | None = None


class Sink(Protocol):
    """Takes events. STORED means: on the other side's disk. Taking one event twice is harmless."""

    @property
    def name(self) -> str: ...

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        """One receipt for each event, in any order; an event without one is sent again. Raises SinkUnavailable."""

    async def close(self) -> None:
        """Gives back what it holds; nothing waits in it. May be called twice."""
