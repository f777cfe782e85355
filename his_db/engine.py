"""The port to a database engine: what differs between SQL Server, Oracle, MySQL, PostgreSQL and SQLite.

An engine opens sessions; a session is one held connection, used by one lane thread only. Everything above it
(lanes, mapping kinds, capture) is written against these two protocols and knows no driver.
Implementations: ``his_db/engines/<name>.py``, listed in ``his_db/registry.py``, tested by one conformance suite.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple, Protocol


class Fault(enum.Enum):
    """What an exception of a driver means, whatever its class or code (design 3-mapping: one table per engine)."""

    CONNECT = "connect"  # no connection, or lost before the statement was sent: nothing happened
    LOST = "lost"  # the connection broke after a statement was sent: in a write, outcome unknown
    DEADLOCK = "deadlock"  # we were the victim; the transaction is rolled back
    LOCK_TIMEOUT = "lock_timeout"  # the lock could not be had in time; the statement is undone
    TIMEOUT = "timeout"  # the statement ran too long and was cancelled by the server
    CONSTRAINT = "constraint"  # unique, foreign key, check
    RIGHTS = "rights"  # missing grant
    SCHEMA = "schema"  # no such table, column, procedure; wrong number or type of parameters
    SYNTAX = "syntax"  # the statement is not SQL of this engine
    DATA = "data"  # value out of range, wrong format
    READ_ONLY = "read_only"  # a read session tried to write
    OTHER = "other"


# Drivers that no installation brings by itself: engine -> (module, what pip calls it).
EXTRA_DRIVERS: Final[Mapping[str, tuple[str, str]]] = {"dm": ("dmPython", "his160[dm]")}


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How to reach one HIS database. ``password`` is already resolved from its reference; repr hides it."""

    name: str
    engine: str
    database: str  # database name; path of the file for SQLite
    host: str = ""
    port: int = 0  # 0: the engine's usual port
    user: str = ""
    password: str = field(default="", repr=False)
    schema: str = ""  # default schema / search path; empty: the engine's own
    timezone: str = "Asia/Shanghai"
    connect_timeout: timedelta = timedelta(seconds=5)
    statement_timeout: timedelta = timedelta(seconds=10)
    lock_timeout: timedelta = timedelta(seconds=3)
    options: Mapping[str, str] = field(default_factory=dict)


class Rows(NamedTuple):
    """What one statement gave: column names as the driver reports them, tuples, and the count of rows changed.

    ``columns`` is empty for a statement without a result set; ``changed`` is -1 where the driver does not know.
    A tuple itself: it is made for every statement, in a third of the time.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    changed: int


class ParameterKind(enum.Enum):
    """Direction of a procedure's parameter."""

    IN = "in"
    OUT = "out"
    INOUT = "inout"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a procedure, in the procedure's order. ``type``: the engine's own type name, may be empty."""

    name: str
    kind: ParameterKind = ParameterKind.IN
    type: str = ""


@dataclass(frozen=True, slots=True)
class ProcedurePlan:
    """A call prepared once. ``function`` tells a function that returns a row (PostgreSQL OUT, table functions)."""

    object: str
    parameters: tuple[Parameter, ...]
    function: bool = False


@dataclass(frozen=True, slots=True)
class ProcedureResult:
    """OUT, INOUT and RETURN values by parameter name, and the result sets in order."""

    out: Mapping[str, Any]
    sets: tuple[Rows, ...]


class Session(Protocol):
    """One held connection. Not thread-safe: one lane thread owns it.

    Reads run in autocommit on a read-only session; writes between ``begin`` and ``commit``/``rollback``.
    All methods raise the driver's exception as it is; ``Engine.classify`` says what it means.
    """

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """Run one statement with named binds ``:name``. Fetches at most ``max_rows`` + 1 rows."""

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """Run one SELECT and give its rows in pieces of at most ``size``: at least one piece, the memory of one piece.

        For reports. Each fetch has the statement time-out to itself. Closing the iterator early ends the statement.
        """

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """Call a procedure; ``values`` are the IN and INOUT values by parameter name. Drains every result set."""

    def begin(self) -> None:
        """Start a write transaction."""

    def commit(self) -> None:
        """Commit it."""

    def rollback(self) -> None:
        """Undo it. Never raises when the connection is already dead."""

    def alive(self) -> bool:
        """False when the connection is known to be broken."""

    def ping(self) -> bool:
        """Ask the server for a sign of life (one round trip); False when there is none. Never raises."""

    def abort(self) -> None:
        """From another thread: break the call that runs now; it then raises what ``classify`` calls LOST or TIMEOUT.

        For a server that no longer answers and for shutdown. The session is not ``alive`` afterwards. Never raises.
        """

    def close(self) -> None:
        """Close the connection. Never raises."""


class Engine(Protocol):
    """A kind of database. One instance per source."""

    name: str
    driver_errors: tuple[type[Exception], ...]  # what sessions raise: the driver's PEP 249 ``Error`` and our own

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> Session:
        """Open a connection with time-outs, charset and isolation set. Raises the driver's exception."""

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """What an exception means. ``sent``: a statement had been given to the driver."""

    def describe(self, error: BaseException) -> str:
        """The error's code and the object it names: English, without values or patient data, fit for a log."""

    def sentence(self, error: BaseException) -> str:
        """What the HIS itself said (RAISE EXCEPTION, RAISERROR), else "". Never logged: it may name a patient."""

    def server_version(self, session: Session) -> str:
        """Version text of the server, for status and doctor."""

    def dispose(self) -> None:
        """Release what the engine holds beyond its sessions."""
