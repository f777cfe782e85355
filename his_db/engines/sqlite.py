"""SQLite: the sample HIS of the demo and of the tests, and the small site systems that really run on it.

We change nothing in the file's set-up (journal mode stays what it is) and never create a file.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import CallError, Compiled, Statement, compile_statement

_NATIVE: Final = frozenset({str, int, float, bytes, bool, type(None)})
_OPCODES: Final = 2000  # virtual machine steps between two looks at the clock, well under a millisecond
_TRUSTED: Final = 0.05  # seconds for which a reader believes that the file is still there, without looking
_NEVER: Final = float("-inf")
_EXACT_DIGITS: Final = 15  # a REAL keeps so many decimal digits

# Primary result codes (low byte of the extended code); https://www.sqlite.org/rescode.html
_CODES: Final[Mapping[int, Fault]] = {
    3: Fault.RIGHTS,  # PERM
    5: Fault.LOCK_TIMEOUT,  # BUSY
    6: Fault.LOCK_TIMEOUT,  # LOCKED
    8: Fault.READ_ONLY,  # READONLY
    9: Fault.TIMEOUT,  # INTERRUPT: our progress handler
    10: Fault.LOST,  # IOERR
    11: Fault.LOST,  # CORRUPT
    14: Fault.CONNECT,  # CANTOPEN
    15: Fault.LOCK_TIMEOUT,  # PROTOCOL: lost the race for the WAL locks
    17: Fault.SCHEMA,  # SCHEMA
    18: Fault.DATA,  # TOOBIG
    19: Fault.CONSTRAINT,
    20: Fault.DATA,  # MISMATCH
    23: Fault.RIGHTS,  # AUTH
    25: Fault.SCHEMA,  # RANGE
    26: Fault.CONNECT,  # NOTADB
}
_EXTENDED: Final[Mapping[int, Fault]] = {
    517: Fault.DEADLOCK,  # BUSY_SNAPSHOT: our snapshot is stale, only a new transaction helps
    264: Fault.LOST,  # READONLY_RECOVERY: the HIS died, its next write mends the file; until then nobody can read
    776: Fault.LOST,  # READONLY_ROLLBACK: the same
    1032: Fault.LOST,  # READONLY_DBMOVED: the file was replaced under us
}
_TEXTS: Final = (
    (re.compile(r"no such (table|column|function|view|index|module|collation)|has no column|ambiguous column"
                r"|wrong number of arguments|values for \d+ columns|number of result columns"), Fault.SCHEMA),
    (re.compile(r"syntax error|incomplete input|unrecognized token|one statement at a time"), Fault.SYNTAX),
    (re.compile(r"interrupted"), Fault.TIMEOUT),
    (re.compile(r"locked|busy"), Fault.LOCK_TIMEOUT),
    (re.compile(r"readonly|read-only"), Fault.READ_ONLY),
    (re.compile(r"integer overflow|out of range|JSON"), Fault.DATA),
    (re.compile(r"unable to open|not a database"), Fault.CONNECT),
    (re.compile(r"closed database"), Fault.LOST),
)  # fmt: skip
_OBJECT: Final = re.compile(
    r"(?:no such \w+|has no column named|ambiguous column name|constraint failed):? ([\w$]+(?:\.[\w$]+)*)"
)
_TRIGGER: Final = 1811  # CONSTRAINT_TRIGGER: RAISE(ABORT, text) in a trigger
_WAL_AND_LOCKS: Final = frozenset({5, 6, 15})


class SqliteSession:
    """See ``his_db.engine.Session``. The driver never begins a transaction by itself (``isolation_level=None``)."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        statements: Compiled[str, Statement],
        timeout: float,
        *,
        read_only: bool,
    ) -> None:
        self._connection = connection
        self._path = path
        self._file = _identity(path)
        self._statements = statements
        self._timeout = timeout
        self._until = 0.0
        self._trusted = _TRUSTED if read_only else 0.0
        self._looked_at = _NEVER
        self._open = True
        self._aborted = False
        connection.set_progress_handler(self._overdue, _OPCODES)

    def _overdue(self) -> bool:
        return self._aborted or time.monotonic() > self._until

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port. Dates and times are bound as ISO text, Decimal as REAL (as text beyond 15 digits)."""
        cursor = self._execute(sql, values)
        try:
            described = cursor.description  # made anew for each look
            if described is None:
                return Rows((), (), cursor.rowcount)
            rows = cursor.fetchmany(max_rows + 1)
            return Rows(tuple([column[0] for column in described]), rows, max(cursor.rowcount, 0))
        finally:
            cursor.close()  # a statement not read to its end would hold its lock

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port."""
        cursor = self._execute(sql, values)
        try:
            columns = tuple(column[0] for column in cursor.description or ())
            rows = cursor.fetchmany(size)
            while True:
                yield Rows(columns, rows, 0)
                self._until = time.monotonic() + self._timeout
                if len(rows) < size or not (rows := cursor.fetchmany(size)):
                    return
        finally:
            cursor.close()

    def _execute(self, sql: str, values: Mapping[str, Any]) -> sqlite3.Cursor:
        self._until = time.monotonic() + self._timeout
        for value in values.values():
            if type(value) not in _NATIVE:
                values = {name: _adapt(each) for name, each in values.items()}
                break
        return self._connection.execute(self._statements[sql].sql, values)

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """Always raises CallError (SCHEMA): SQLite has no procedures."""
        raise CallError("SQLite has no stored procedures: map this operation with kind = steps")

    def begin(self) -> None:
        """BEGIN IMMEDIATE: the write lock is taken now, so that no later statement meets a stale snapshot."""
        self._until = time.monotonic() + self._timeout
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """See the port. BUSY here (a reader holds on, without WAL) leaves the transaction open, to be rolled back."""
        self._until = time.monotonic() + self._timeout
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """See the port."""
        self._until = time.monotonic() + self._timeout
        try:
            # After an INTERRUPT, FULL or IOERR SQLite may have rolled back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._open = False

    def alive(self) -> bool:
        """False also when the file was moved away or replaced: the connection would go on with the old one.

        A reader looks at most every 50 ms: what it reads of the old file meanwhile it could have read just before.
        """
        if not self._open or self._aborted:
            return False
        now = time.monotonic()
        if now - self._looked_at < self._trusted:
            return True
        is_same = _identity(self._path) == self._file
        self._looked_at = now if is_same else _NEVER
        return is_same

    def ping(self) -> bool:
        """See the port."""
        self._looked_at = _NEVER
        return self.alive()

    def abort(self) -> None:
        """See the port."""
        self._aborted = True
        try:
            self._connection.interrupt()
        except sqlite3.Error:
            self._open = False

    def close(self) -> None:
        """See the port."""
        self._open = False
        try:
            self._connection.close()
        except sqlite3.Error:
            return


class SqliteEngine:
    """See ``his_db.engine.Engine``. ``settings.database`` is the path of an existing file."""

    name = "sqlite"
    driver_errors: tuple[type[Exception], ...] = (sqlite3.Error, CallError, OverflowError, OSError)

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._statements: Compiled[str, Statement] = Compiled(lambda sql: compile_statement(sql, "named"))

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> SqliteSession:
        """See the port. Raises sqlite3.OperationalError when there is no file: it is never created."""
        settings = self._settings
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{Path(settings.database).absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=settings.lock_timeout.total_seconds(),  # the driver's name for busy_timeout
            isolation_level=None,
            check_same_thread=False,  # one lane thread owns it; ``abort`` and a final ``close`` may come from another
            cached_statements=256,
        )
        try:
            if read_only:
                connection.execute("PRAGMA query_only = ON")  # holds for attached files and temporary tables as well
            connection.execute("SELECT count(*) FROM sqlite_master")  # opening reads nothing: is it a database at all?
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF not in _WAL_AND_LOCKS:  # locked for the moment is reachable
                connection.close()
                raise
        timeout = statement_timeout or settings.statement_timeout
        return SqliteSession(
            connection, settings.database, self._statements, timeout.total_seconds(), read_only=read_only
        )

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if isinstance(error, CallError):
            return Fault.SCHEMA
        if isinstance(error, OverflowError):
            return Fault.DATA  # an integer of more than 64 bits
        if not isinstance(error, sqlite3.Error):
            return Fault.OTHER
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None:
            fault = _EXTENDED.get(code) or _CODES.get(code & 0xFF)
            if fault is not None:
                return fault
        text = str(error)
        for pattern, fault in _TEXTS:
            if pattern.search(text):
                return fault
        # Without a code it is the driver's own: wrong number or type of binds.
        if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
            return Fault.SCHEMA
        return Fault.OTHER if sent else Fault.CONNECT

    def describe(self, error: BaseException) -> str:
        """See the port."""
        if isinstance(error, CallError):
            return str(error)
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        # The text of a trigger is the HIS's own sentence and may name a patient.
        found = None if getattr(error, "sqlite_errorcode", 0) == _TRIGGER else _OBJECT.search(str(error))
        return f"{code} {found[1]}" if found else str(code)

    def sentence(self, error: BaseException) -> str:
        """See the port."""
        return str(error) if getattr(error, "sqlite_errorcode", 0) == _TRIGGER else ""

    def server_version(self, session: Any) -> str:
        """See the port."""
        return f"SQLite {session.run('SELECT sqlite_version()', {}, max_rows=1).rows[0][0]}"

    def dispose(self) -> None:
        """See the port."""
        self._statements.clear()


def _adapt(value: Any) -> Any:
    if isinstance(value, Decimal):
        # SQLite has no decimals: a NUMERIC column stores REAL, and text would never equal a computed sum.
        return float(value) if len(value.as_tuple().digits) <= _EXACT_DIGITS else str(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (date, time_of_day)):
        return value.isoformat()
    return value


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
