"""The port to a kind of mapping: what differs between a table, a query, steps and a procedure.

A kind says which keys it has, checks what only it can check, and compiles a checked mapping into a Runner. A Runner
turns one call into one response with a Session, in the lane's thread. Implementations: `his_db/kinds/<name>.py`, listed
in `his_db/registry.py`; none knows another. Transactions are the caller's: a kind neither begins nor commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from google.protobuf.message import Message

from his_db.document.shape import Field
from his_db.engine import Session
from his_db.mapping.finding import Reporter
from his_db.mapping.model import OperationMapping
from his_db.mapping.paging import Page


class Call(NamedTuple):
    """One call. A tuple: it is made for each, in a third of the time. `key` seeds `$key`; empty in reads.

    `moment` is aware, and then `zone` is the hospital's; or naive on its wall clock in whole seconds, without `zone`.
    """

    request: Message | None
    moment: datetime
    key: str = ""
    lock: timedelta = timedelta(minutes=10)
    page: Page | None = None
    window: tuple[date, date] | None = None
    zone: ZoneInfo | None = None

    @property
    def now(self) -> datetime:
        """Naive: the hospital's wall clock, whole seconds."""
        return self.moment if self.zone is None else wall_clock(self.moment, self.zone)


def wall_clock(moment: datetime, zone: ZoneInfo) -> datetime:
    """An aware instant as the hospital's wall clock: naive, whole seconds."""
    return moment.astimezone(zone).replace(tzinfo=None, microsecond=0)


class Runner(Protocol):
    """A compiled mapping of one operation. Immutable; used by several lane threads at once."""

    def run(self, session: Session, call: Call) -> Message:
        """The response. Raises errors of `his_db.errors`, and the driver's exceptions as they are."""


class Kind(Protocol):
    """One kind. Stateless; made without arguments."""

    name: ClassVar[str]
    effects: ClassVar[frozenset[str]]
    """What it can do: "read", "write"."""

    def keys(self) -> Mapping[str, Field]:
        """The keys of a file of this kind, beside those that every operation file has."""

    def check(self, mapping: OperationMapping, report: Reporter) -> None:
        """Report what only this kind can see. The shape of the file is right when this is called."""

    def compile(self, mapping: OperationMapping) -> Runner:
        """A mapping that passed the check, ready to run. Raises OperationNotMapped for one that says `unsupported`."""


class Flow(dict[str, Mapping[str, Any] | None]):
    """First rows that the SELECT steps of one call read, by step and lower-case column; None: it read none."""
