"""What kind `http` and engine `http` say to each other: a request, a reply, and a session that exchanges them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `target` goes behind the base URL: path and query, ASCII, already percent-encoded."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back, whole: a body longer than the limit is an error of the session."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


@runtime_checkable
class Exchanger(Protocol):
    """What a session of engine `http` has beside `his_db.engine.Session`.

    `goes_out` is false for the session of a `[[test]]`: secrets are not read for it.
    """

    goes_out: bool

    def exchange(self, request: HttpRequest) -> HttpReply:
        """Send and read the whole reply, whatever its status. Raises what `Engine.classify` says CONNECT about when
        nothing was sent, LOST or TIMEOUT when it may have arrived, DATA for a reply that is too long."""
