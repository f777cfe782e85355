"""PostgreSQL through psycopg 3; also what speaks its protocol (Kingbase, openGauss).

psycopg is used directly on a held autocommit connection: SQLAlchemy's dialect asks the server questions at connect that
openGauss answers in a way it cannot read.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from his_db.engine import Fault, ParameterKind, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import HANG_MARGIN, CallError, Compiled, HangGuard, Statement, compile_statement
from his_db.postgresql_call import Call, call_for, cursors_in, outputs

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_STREAMED: Final = 1000  # rows from which a read is fetched in chunks, so that max_rows bounds the memory too
_REPORT_CURSOR: Final = "his160_report"
_READS: Final = re.compile(r"\s*(?:select|values|table|with)\b", re.IGNORECASE)
_CHUNKS: Final = psycopg.pq.version() >= 170000  # libpq's chunked rows mode
_IDLE_IN_TRANSACTION: Final = timedelta(seconds=30)
_REFCURSOR: Final = 1790  # pg_type oid
_KEEPALIVE: Final[Mapping[str, Any]] = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms; unacknowledged data, so it does not bound a long statement
}


# What SQLSTATEs mean (PostgreSQL manual, appendix A), then their classes, then the texts of errors without one.
_STATES: Final[Mapping[str, Fault]] = {
    "25006": Fault.READ_ONLY,
    "25P02": Fault.DATA,  # COMMIT of a transaction in which a statement had failed: rolled back
    "25P03": Fault.LOST,  # idle in transaction too long
    "26000": Fault.CONNECT,  # prepared statement gone (a pooler): a new session knows what it prepared
    "2D000": Fault.SCHEMA,  # the procedure commits, the mapping says it does not
    "3D000": Fault.CONNECT,
    "3F000": Fault.SCHEMA,
    "40001": Fault.DEADLOCK,  # serialization failure: the same remedy
    "40002": Fault.CONSTRAINT,
    "40003": Fault.LOST,  # statement completion unknown
    "40P01": Fault.DEADLOCK,
    "42501": Fault.RIGHTS,
    "42601": Fault.SYNTAX,
    "53300": Fault.CONNECT,  # too many connections
    "55006": Fault.LOCK_TIMEOUT,
    "55P03": Fault.LOCK_TIMEOUT,
    "57014": Fault.TIMEOUT,
    "57P01": Fault.LOST,
    "57P02": Fault.LOST,
    "57P03": Fault.CONNECT,  # starting up or shutting down
    "57P04": Fault.LOST,
    "57P05": Fault.LOST,
    "P0001": Fault.CONSTRAINT,  # RAISE EXCEPTION: a rule of the HIS said no
}
_CLASSES: Final[Mapping[str, Fault]] = {
    "08": Fault.LOST,
    "0A": Fault.SCHEMA,
    "21": Fault.DATA,
    "22": Fault.DATA,
    "23": Fault.CONSTRAINT,
    "28": Fault.CONNECT,
    "42": Fault.SCHEMA,
    "P0": Fault.DATA,  # no_data_found, too_many_rows, assert
}
_TEXTS: Final = (
    (re.compile(r"the connection is closed|cannot assign requested|could not send", re.I), Fault.CONNECT),
    (re.compile(r"server closed the connection|terminating connection|connection (?:socket )?(?:was |is )?"
                r"(?:lost|closed|reset|not open)|no connection to the server|consuming input failed"
                r"|could not receive|reset by peer|broken pipe|SSL SYSCALL|timed out", re.I), Fault.LOST),
    (re.compile(r"deadlock", re.I), Fault.DEADLOCK),
    (re.compile(r"lock timeout", re.I), Fault.LOCK_TIMEOUT),
    (re.compile(r"statement timeout|canceling statement", re.I), Fault.TIMEOUT),
)  # fmt: skip
_STALE_PLAN: Final = "cached plan"
_NAMED_CLASSES: Final = frozenset({"42", "3F"})
_OBJECT: Final = re.compile(
    r'["“«](?P<quoted>[\w$.]+)["”»]'  # relation "x", column "y", in any language of the server
    r"|(?P<called>[\w$]+(?:\.[\w$]+)*)\("  # function his.f(integer)
    r"|for (?:table|view|schema|sequence|function|procedure|relation|column) (?P<on>[\w$.]+)"
    r"|column (?P<column>[\w$]+\.[\w$]+)"
)


class PostgresqlSession:
    """See ``his_db.engine.Session``. Autocommit always; ``begin`` sends BEGIN itself."""

    def __init__(self, connection: Connection, engine: PostgresqlEngine, read_only: bool, patience: float) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._engine = engine
        self._statements = engine.statements
        self._read_only = read_only
        self._patience = patience  # seconds until the guard calls the server silent
        self._closing = threading.Lock()
        self._aborted = False
        self.busy_until = 0.0
        self._small: Compiled[str, bool] = Compiled(lambda sql: not (read_only and _READS.match(sql)))

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port. A read whose size is unknown or was large is streamed, which costs a third of its speed."""
        statement = self._statements[sql]
        cursor = self._cursor
        self.busy_until = time.monotonic() + self._patience
        try:
            if not self._small[sql] and not 0 <= statement.rows_seen <= _STREAMED:
                return self._stream(statement, values, max_rows)
            cursor.execute(statement.sql, statement.values(values))
            rows = _fetch(cursor, max_rows)
            statement.rows_seen = len(rows.rows)
            return rows
        finally:
            self.busy_until = 0.0

    def _stream(self, statement: Statement, values: Mapping[str, Any], max_rows: int) -> Rows:
        """Read in chunks and stop after ``max_rows`` + 1; stopping cancels the statement on the server."""
        cursor = self._connection.cursor()
        size = min(max_rows + 1, _STREAMED) if _CHUNKS else 1
        rows: list[tuple[Any, ...]] = []
        stream = cursor.stream(statement.sql, statement.values(values), size=size)
        try:
            for row in stream:
                rows.append(row)
                if len(rows) > max_rows:
                    break
        finally:
            stream.close()  # type: ignore[attr-defined]  # a generator, typed as Iterator
        statement.rows_seen = len(rows)
        if not rows:  # an empty stream does not tell its columns
            self._cursor.execute(statement.sql, statement.values(values))
            return _fetch(self._cursor, max_rows)
        return Rows(_columns(cursor), rows, 0)

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port. A server-side cursor in a transaction of its own; each FETCH is a statement of its own."""
        statement = self._statements[sql]
        self._control("BEGIN")
        try:
            self.busy_until = time.monotonic() + self._patience
            with self._connection.cursor(name=_REPORT_CURSOR) as cursor:
                cursor.execute(statement.sql, statement.values(values))
                columns = tuple(column.name for column in cursor.description or ())
                rows = cursor.fetchmany(size)
                while True:
                    self.busy_until = 0.0  # whoever takes the rows may be slow, and it is not the server's fault
                    yield Rows(columns, rows, 0)
                    self.busy_until = time.monotonic() + self._patience
                    if len(rows) < size or not (rows := cursor.fetchmany(size)):
                        break
            self.commit()
        finally:
            self.busy_until = 0.0
            self.rollback()

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port. Arguments go by name; OUT values are found by name, a RETURN value is a function's only column.

        A refcursor (OUT value or result column) is fetched into a result set; for that a call outside a transaction
        gets one of its own when a parameter is declared ``type = "refcursor"``.
        """
        call = self._engine.calls[plan]
        # A cursor lives only inside a transaction.
        own = call.cursors and self._connection.info.transaction_status == TransactionStatus.IDLE
        self.busy_until = time.monotonic() + self._patience
        try:
            if own:
                self._cursor.execute("BEGIN")
            result = self._call(call, values, max_rows)
            if own:
                self.commit()
            return result
        except BaseException:
            if own:
                self.rollback()
            raise
        finally:
            self.busy_until = 0.0

    def _call(self, call: Call, values: Mapping[str, Any], max_rows: int) -> ProcedureResult:
        cursor = self._cursor
        arguments = {key: values[name] for key, name in call.arguments}
        cursor.execute(call.sql, arguments)
        if cursor.description is None:
            return ProcedureResult(outputs(call.plan, Rows((), (), 0)), ())
        oids = [column.type_code for column in cursor.description]
        rows = _fetch(cursor, max_rows)
        out = outputs(call.plan, rows)
        sets: list[Rows] = []
        own = {p.name.strip('"').lower() for p in call.plan.parameters if p.kind is not ParameterKind.IN}
        if any(column.lower() not in own for column in rows.columns) and not call.scalar:
            sets.append(rows)
        if _REFCURSOR in oids:
            if sets and all(oid == _REFCURSOR for oid in oids):
                sets.clear()  # nothing but cursors
            for name in cursors_in(rows, [oid == _REFCURSOR for oid in oids]):
                cursor.execute(
                    psycopg.sql.SQL("FETCH FORWARD {} FROM {}").format(
                        psycopg.sql.Literal(max_rows + 1), psycopg.sql.Identifier(name)
                    )
                )
                sets.append(_fetch(cursor, max_rows))
        return ProcedureResult(out, tuple(sets))

    def begin(self) -> None:
        """See the port."""
        self._control("BEGIN")

    def commit(self) -> None:
        """See the port. Raises InFailedSqlTransaction when the server answers ROLLBACK: it does so without an error."""
        self._control("COMMIT")
        if self._cursor.statusmessage != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("COMMIT of a failed transaction: the server rolled back")

    def rollback(self) -> None:
        """See the port."""
        if self._connection.info.transaction_status in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN):
            return
        try:
            self._control("ROLLBACK")
        except psycopg.Error:
            self._aborted = True  # a session that cannot roll back must not be used again

    def _control(self, sql: str) -> None:
        self.busy_until = time.monotonic() + self._patience
        try:
            self._cursor.execute(sql, prepare=False)
        finally:
            self.busy_until = 0.0

    def alive(self) -> bool:
        """See the port."""
        return not self._aborted and self._connection.pgconn.status == ConnStatus.OK

    def ping(self) -> bool:
        """See the port."""
        try:
            self._control("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def listen(self, channels: Iterable[str]) -> None:
        """LISTEN to these channels; see ``his_db.wake``. Raises psycopg.Error."""
        for channel in channels:
            self._control(f'LISTEN "{channel}"')

    def heard(self, limit: float) -> frozenset[str]:
        """Channels notified, waiting at most ``limit`` seconds for the first; see ``his_db.wake``. Raises
        psycopg.Error: a server that is gone without a word is found by the keepalive of TCP, in half a minute."""
        told = self._connection.notifies(timeout=limit, stop_after=1)  # and what came in the same packet
        return frozenset(notify.channel for notify in told)

    def abort(self) -> None:
        """See the port. Shuts the socket down: psycopg must not be closed while another thread is inside it."""
        with self._closing:
            self._aborted = True
            if self._connection.closed:
                return
            try:
                wire = socket.socket(fileno=self._connection.fileno())
                try:
                    wire.shutdown(socket.SHUT_RDWR)
                finally:
                    wire.detach()  # the descriptor stays libpq's
            except (OSError, psycopg.Error):
                return

    def close(self) -> None:
        """See the port."""
        self._engine.guard.remove(self)
        with self._closing:
            try:
                self._connection.close()
            except psycopg.Error:
                return


class PostgresqlEngine:
    """See ``his_db.engine.Engine``.

    ``settings.options`` are libpq's (``sslmode``, ``sslrootcert``, …) and ``prepare = "off"``, for a pooler that
    shares server sessions between statements.
    """

    name = "postgresql"
    driver_errors: tuple[type[Exception], ...] = (psycopg.Error, CallError, OSError)

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self.statements: Compiled[str, Statement] = Compiled(
            lambda sql: compile_statement(sql, "pyformat", typed_null_test="boolean")
        )
        self.calls: Compiled[ProcedurePlan, Call] = Compiled(call_for)
        self.guard = HangGuard(settings.name)

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> PostgresqlSession:
        """See the port. Raises psycopg.OperationalError."""
        settings = self._settings
        options = dict(settings.options)
        prepare = options.pop("prepare", "on")
        timeout = statement_timeout or settings.statement_timeout
        given = {
            "host": settings.host,
            "port": settings.port,
            "dbname": settings.database,
            "user": settings.user,
            "password": settings.password,
        }
        standard = {
            "connect_timeout": max(2, round(settings.connect_timeout.total_seconds())),  # libpq takes 1 as 2
            "client_encoding": "UTF8",
            "application_name": "his160",
        }
        connection = psycopg.connect(
            autocommit=True,
            prepare_threshold=None if prepare == "off" else 5,
            **{**_KEEPALIVE, **standard, **options, **{key: value for key, value in given.items() if value}},
        )
        try:
            self._set_up(connection, read_only, timeout)
        except BaseException:
            connection.close()
            raise
        session = PostgresqlSession(connection, self, read_only, (timeout + HANG_MARGIN).total_seconds())
        self.guard.add(session)
        return session

    def _set_up(self, connection: Connection, read_only: bool, timeout: timedelta) -> None:
        """Session settings in one round trip; singly where a relative of PostgreSQL does not know one of them."""
        wanted = {
            "statement_timeout": _milliseconds(timeout),
            "default_transaction_read_only": "on" if read_only else "off",
            "lock_timeout": _milliseconds(self._settings.lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION),
            "TimeZone": self._settings.timezone,
        }
        if self._settings.schema:
            wanted["search_path"] = self._settings.schema
        one = "set_config(%s, %s, false)"
        try:
            pairs = [part for pair in wanted.items() for part in pair]
            connection.execute("SELECT " + ", ".join([one] * len(wanted)), pairs)
        except psycopg.errors.UndefinedObject:
            for name, value in wanted.items():
                try:
                    connection.execute("SELECT " + one, (name, value))
                except psycopg.errors.UndefinedObject:
                    if name in ("statement_timeout", "default_transaction_read_only", "search_path"):
                        raise

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if isinstance(error, CallError):
            return Fault.SCHEMA
        if not isinstance(error, psycopg.Error):
            return Fault.OTHER
        state = error.sqlstate
        if state:
            if state == "0A000" and _STALE_PLAN in str(error):
                return Fault.CONNECT  # a table changed under a prepared statement: a new session prepares it anew
            return _STATES.get(state) or _CLASSES.get(state[:2]) or Fault.OTHER
        text = str(error)
        broken = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        if broken and not sent:
            return Fault.CONNECT
        if broken:
            for pattern, fault in _TEXTS:
                if pattern.search(text):
                    return fault
            return Fault.LOST
        if isinstance(error, psycopg.DataError):
            return Fault.DATA  # psycopg could not read or write a value
        if isinstance(error, (psycopg.ProgrammingError, psycopg.NotSupportedError)):
            return Fault.SCHEMA  # a bind without a value, a type that psycopg cannot bind
        return Fault.OTHER

    def describe(self, error: BaseException) -> str:
        """Code and object. The message itself is shown only for connecting, where the server has no values yet."""
        if isinstance(error, CallError):
            return str(error)
        if not isinstance(error, psycopg.Error):
            return type(error).__name__
        state = error.sqlstate
        if not state:
            if isinstance(error, psycopg.OperationalError):
                return str(error).strip().partition("\n")[0][:200]
            return type(error).__name__
        diag = error.diag
        named = [name for name in (diag.table_name, diag.column_name, diag.constraint_name) if name]
        if not named and state[:2] in _NAMED_CLASSES:
            found = _OBJECT.search(diag.message_primary or "")
            if found is not None:
                named = [next(group for group in found.groups() if group)]
        return " ".join([state, type(error).__name__, *named])

    def sentence(self, error: BaseException) -> str:
        """The text of RAISE EXCEPTION."""
        if isinstance(error, psycopg.errors.RaiseException):
            return error.diag.message_primary or ""
        return ""

    def server_version(self, session: Any) -> str:
        """See the port."""
        return str(session.run("SELECT version()", {}, max_rows=1).rows[0][0])

    def dispose(self) -> None:
        """See the port."""
        self.guard.stop()


def _columns(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[str, ...]:
    result = cursor.pgresult
    if result is None:
        return ()
    return tuple([(result.fname(n) or b"").decode() for n in range(result.nfields)])


def _fetch(cursor: psycopg.Cursor[tuple[Any, ...]], max_rows: int) -> Rows:
    columns = _columns(cursor)
    if not columns:
        return Rows((), (), cursor.rowcount)
    result = cursor.pgresult
    reads = result is not None and (result.command_status or b"").startswith(b"SELECT")
    return Rows(columns, cursor.fetchmany(max_rows + 1), 0 if reads else cursor.rowcount)


def _milliseconds(value: timedelta) -> str:
    return str(max(1, value // timedelta(milliseconds=1)))
