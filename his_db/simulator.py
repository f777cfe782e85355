"""The port to a simulator: a payment house or insurance platform that tests, demo and bench can have at home.

A simulator is a real HTTP server with a book of its own (SQLite, durable), which judges the agent afterwards: what was
really done, however often the agent died. It checks our signatures and field rules strictly, is as idempotent as the
real one, and fails as it is told to (`Fault`). Implementations: `his_db/simulators/<name>.py`, listed in
`his_db/registry.py`. Loopback only.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

from his_db.simulator_book import Book


class FaultKind(enum.Enum):
    """What happens to a request instead of its answer. BEFORE: the work is not done; AFTER: it is done and durable."""

    HANG_BEFORE = "hang_before"  # nothing comes until the time is over, then the connection is closed
    HANG_AFTER = "hang_after"
    DROP_BEFORE = "drop_before"  # the connection is closed at once
    DROP_AFTER = "drop_after"
    CUT = "cut"  # done; half of the answer, then closed
    LATE = "late"  # done; the answer comes after `seconds`
    TWICE = "twice"  # done; the same answer twice on one connection
    GARBAGE_BEFORE = "garbage_before"  # status 200 and a proxy's page
    GARBAGE_AFTER = "garbage_after"
    WRAPPER = "wrapper"  # not done; a gateway's own JSON: {"code", "type", "message", "data"}
    WRONG_SIGNATURE = "wrong_signature"  # done; the answer's signature is not ours
    REFUSE = "refuse"  # not done; a refusal of the protocol with `code` and `message`
    STATUS = "status"  # not done; HTTP status `status` and an error page


@dataclass(slots=True)
class Fault:
    """For the next `count` requests whose label has `match` in it (empty: any)."""

    kind: FaultKind
    match: str = ""
    count: int = 1
    skip: int = 0
    """How many matching requests go well before."""
    seconds: float = 30.0
    code: str = ""
    message: str = ""
    """Of a refusal, of a gateway's JSON, of a page."""
    status: int = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request. `headers` by lower-case name; `target` is path and query."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Told:
    """One HTTP answer, signed and all."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json; charset=utf-8"


class Simulator(Protocol):
    """One simulated service over its book. Used by several threads; the book's transactions keep them apart."""

    name: ClassVar[str]
    book: Book

    def label(self, asked: Asked) -> tuple[str, str]:
        """What is asked for (a transaction's number, an operation's name), and its business number; for faults and
        for the list of requests. Never raises."""

    def answer(self, asked: Asked) -> Told:
        """Check, do the work in one durable transaction, answer. A request that is not right is refused as the real
        service does."""

    def refuse(self, asked: Asked, code: str, message: str) -> Told:
        """A refusal of the protocol, properly signed."""

    def spoil(self, told: Told) -> Told:
        """The answer with a signature that is not right, where the protocol signs; else something else of it wrong."""

    def act(self, name: str, values: Mapping[str, Any]) -> Any:
        """What people do there: the patient pays, a refund arrives. Raises KeyError, ValueError."""


class Clock(Protocol):
    """Answers an aware datetime."""

    def __call__(self) -> datetime: ...


class SimulatorMaker(Protocol):
    """What `his_db.registry.SIMULATORS` names."""

    name: ClassVar[str]

    def prepare(self, folder: Path, base_url: str) -> Path:
        """Make keys in `folder` where there are none, and a mapping file that fits; its path."""

    def open(self, folder: Path, book: Path, base_url: str, clock: Clock) -> Simulator:
        """The simulator with the keys in `folder`."""
