"""What kinds `http` and `gateway` and engine `http` say to each other: a request, a reply, a session for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from his_db.engine import Fault


class HttpFault(Exception):
    """What went wrong with an exchange, already classified. The text holds no values."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `target` goes behind the base URL: path and query, ASCII, already percent-encoded."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back, whole: a body longer than the limit is an error of the session. `headers` in their order."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str:
        """The first header of that name, in any case; empty when there is none."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")


@runtime_checkable
class Exchanger(Protocol):
    """What a session of engine `http` has beside `his_db.engine.Session`.

    `goes_out` is false for the session of a `[[test]]`: secrets are not read for it.
    """

    goes_out: bool

    def exchange(self, request: HttpRequest) -> HttpReply:
        """Send and read the whole reply, whatever its status. Raises HttpFault: CONNECT when nothing was sent, LOST or
        TIMEOUT when it may have arrived, DATA for a reply that is too long."""
