"""One held connection of an ODBC-like driver (pyodbc, mssql-python, dmPython): ``?`` binds, all result sets drained.

Written against PEP 249 and the driver's module, which is handed in: no driver is imported here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from his_db.bound_sql import BoundSql, reads_only
from his_db.engine import ProcedurePlan, ProcedureResult, Rows
from his_db.held_connection import CallError, Compiled, HangGuard, ReadOnlyError

SILENT_STATES: Final = frozenset({"HYT00", "HYT01"})


@dataclass(frozen=True, slots=True)
class Batch:
    """A call made ready. ``arguments``: parameter names in the order of the ``?``; ``out``: (column of the last
    SELECT, parameter name), told from stray result sets by exactly these columns; ``scalar``: the first column of the
    first result set is this parameter's value; ``sets``: whether other result sets are answers."""

    sql: str
    arguments: tuple[str, ...]
    out: tuple[tuple[str, str], ...] = ()
    scalar: str = ""


@dataclass(frozen=True, slots=True)
class Manners:
    """What differs by database: the statements around a transaction, and how to read a driver.

    ``check_reads``: the server has no read-only sessions, so statements are looked at. ``sizes``: what to tell the
    driver about the types of binds (``setinputsizes``), None: nothing. ``is_dead``: the connection must not be used
    after this error.
    """

    engine: str  # for the scanner
    begin: str
    commit: str
    rollback: str
    ping: str
    check_reads: bool
    sizes: Callable[[Sequence[Any]], Sequence[Any] | None]
    is_dead: Callable[[BaseException], bool]


class OdbcSession:
    """See ``his_db.engine.Session``. Autocommit always; ``begin`` sends the statement that begins a transaction."""

    def __init__(
        self,
        connection: Any,
        *,
        manners: Manners,
        errors: tuple[type[Exception], ...],
        statements: Compiled[str, BoundSql],
        calls: Compiled[ProcedurePlan, Batch],
        read_only: bool,
        guard: HangGuard,
        patience: float,
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._manners = manners
        self._errors = errors
        self._statements = statements
        self._calls = calls
        self._guard = guard
        self._patience = patience
        self._closing = threading.Lock()
        self._open = True
        self.busy_until = 0.0
        check = read_only and manners.check_reads
        self._allowed: Compiled[str, bool] = Compiled(lambda sql: not check or reads_only(sql, manners.engine))

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port."""
        statement = self._statements[sql]
        if not self._allowed[sql]:
            raise ReadOnlyError("a read session may only SELECT")
        given = statement.values(values)
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(statement.sql, given)
            rows = self._first_set(max_rows)
            if rows.columns:
                self._forget()
            return rows
        except self._errors as error:
            self._judge(error)
            raise
        finally:
            self.busy_until = 0.0

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port."""
        statement = self._statements[sql]
        if not self._allowed[sql]:
            raise ReadOnlyError("a read session may only SELECT")
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(statement.sql, statement.values(values))
            found = self._first_set(size - 1)
            while True:
                self.busy_until = 0.0
                yield found
                self.busy_until = time.monotonic() + self._patience
                if len(found.rows) < size:
                    break
                found = self._set(size - 1)
                if not found.rows:
                    break
            self._forget()
        except GeneratorExit:
            self._forget()
            raise
        except self._errors as error:
            self._judge(error)
            raise
        finally:
            self.busy_until = 0.0

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port. Raises CallError when the batch ended without its last SELECT."""
        batch = self._calls[plan]
        given = [values[name] for name in batch.arguments]
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(batch.sql, given)
            sets = self._all_sets(max_rows)
        except self._errors as error:
            self._judge(error)
            raise
        finally:
            self.busy_until = 0.0
        return _answer(plan, batch, sets)

    def begin(self) -> None:
        """See the port."""
        self._control(self._manners.begin)

    def commit(self) -> None:
        """See the port."""
        self._control(self._manners.commit)

    def rollback(self) -> None:
        """See the port."""
        if not self._open:
            return
        try:
            self._control(self._manners.rollback)
        except self._errors:
            self._open = False  # a session that cannot roll back must not be used again

    def alive(self) -> bool:
        """See the port."""
        return self._open

    def ping(self) -> bool:
        """See the port."""
        try:
            self._control(self._manners.ping)
            self._forget()
        except self._errors:
            return False
        return self._open

    def abort(self) -> None:
        """See the port. ``SQLCancel`` asks the server over the same connection; a server that is silent is left to
        the driver's own query time-out, which counts on the client."""
        self._open = False
        try:
            cancel = getattr(self._cursor, "cancel", None)
            if cancel is not None:
                cancel()
        except self._errors:
            return

    def close(self) -> None:
        """See the port."""
        self._open = False
        self._guard.remove(self)
        with self._closing:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            try:
                connection.close()
            except self._errors:
                return

    def _execute(self, sql: str, given: Sequence[Any]) -> None:
        if not self._open:
            raise CallError("the session is closed")
        cursor = self._cursor
        if not given:
            cursor.execute(sql)
            return
        sizes = self._manners.sizes(given)
        if sizes is not None:
            cursor.setinputsizes(sizes)
        try:
            cursor.execute(sql, given)
        finally:
            if sizes is not None:
                cursor.setinputsizes(None)

    def _first_set(self, max_rows: int) -> Rows:
        """The first result set with columns: a trigger's counts come as empty sets before it. Without any, the sum
        of changes is the count of the first."""
        cursor = self._cursor
        changed = cursor.rowcount
        while cursor.description is None:
            if not cursor.nextset():
                return Rows((), (), changed)
        return self._set(max_rows)

    def _all_sets(self, max_rows: int) -> list[Rows]:
        cursor = self._cursor
        sets: list[Rows] = []
        while True:
            if cursor.description is not None:
                sets.append(self._set(max_rows))
            if not cursor.nextset():
                return sets

    def _set(self, max_rows: int) -> Rows:
        rows = [tuple(row) for row in self._cursor.fetchmany(max_rows + 1)]
        return Rows(tuple([column[0] for column in self._cursor.description]), rows, 0)

    def _forget(self) -> None:
        """Close the result, not the cursor: unread rows go, and the prepared statement stays. Errors that the server
        put behind the rows (a conversion in row 10) are raised here."""
        while self._cursor.nextset():
            pass

    def _judge(self, error: BaseException) -> None:
        if self._manners.is_dead(error):
            # Its server session would hold locks until the connection is gone.
            self._open = False

    def _control(self, sql: str) -> None:
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(sql, ())
        except self._errors as error:
            self._judge(error)
            raise
        finally:
            self.busy_until = 0.0


def _answer(plan: ProcedurePlan, batch: Batch, sets: list[Rows]) -> ProcedureResult:
    out: dict[str, Any] = {}
    if batch.out:
        shape = tuple(column for column, _ in batch.out)
        last = next((rows for rows in reversed(sets) if tuple(c.lower() for c in rows.columns) == shape), None)
        if last is None or not last.rows:
            raise CallError(f"{plan.object}: ended without giving its OUT and RETURN values")
        sets = [rows for rows in sets if rows is not last]
        out = {name: value for (_, name), value in zip(batch.out, last.rows[0], strict=True)}
    if batch.scalar:
        if not sets or not sets[0].rows:
            raise CallError(f"{plan.object}: gave no value")
        out[batch.scalar] = sets.pop(0).rows[0][0]
    return ProcedureResult(out, tuple(sets))
