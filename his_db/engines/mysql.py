"""MySQL from 5.6 and MariaDB through PyMySQL.

Row counts are matched rows (CLIENT.FOUND_ROWS), not changed ones: an UPDATE that finds its row and leaves it as it was
counts 1, as on every other engine; guarded steps rely on that. Results are always streamed, so ``max_rows`` bounds the
memory whatever the statement gives.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from his_db.bound_sql import SCANNERS, reads_only
from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import (
    HANG_MARGIN,
    CallError,
    Compiled,
    HangGuard,
    ReadOnlyError,
    Statement,
    compile_statement,
    fault_of_ours,
)
from his_db.mysql_call import Call, call_for
from his_db.mysql_errors import NUMBERS, OWN_NUMBERS, SIGNAL, object_in

_DRAINED: Final = 5000  # unread rows that are read off; more cost the connection
_DEADLOCK: Final = 1213
_HELPER_TIMEOUT: Final = 2  # seconds for the connection that kills
# Modes that change how literals and names read: what the checker and the scanner take them for must be what runs.
_DIALECT_MODES: Final = frozenset(
    [
        *("ANSI", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT", "IGNORE_SPACE"),
        *("ORACLE", "MSSQL", "DB2", "POSTGRESQL", "MAXDB"),
    ]
)
_STRICT: Final = "STRICT_TRANS_TABLES"  # a text too long is refused, not cut
_UNKNOWN: Final = frozenset({1193, 1232, 1298})  # no such variable, not for this one, no such time zone
_SSL_KEYS: Final = ("ssl_ca", "ssl_cert", "ssl_key")
_CONVERSIONS: Final[dict[Any, Any]] = {
    **conversions,
    FIELD_TYPE.BIT: lambda bits: int.from_bytes(bits, "big"),
}


class MysqlSession:
    """See ``his_db.engine.Session``. Autocommit always; ``begin`` sends START TRANSACTION itself."""

    def __init__(self, connection: Any, engine: MysqlEngine, *, check_reads: bool, thread: int, patience: float):
        self._connection = connection
        self._cursor: Any = SSCursor(connection)
        self._engine = engine
        self._check_reads = check_reads
        self._thread = thread
        self._patience = patience  # seconds until the guard calls the server silent
        self._closing = threading.Lock()
        self._aborted = False
        self._doomed = False  # a deadlock has rolled the transaction back
        self.busy_until = 0.0

    def replica(self, given: Mapping[str, Any]) -> Any:
        """See ``MysqlEngine.replica``."""
        return self._engine.replica(given)

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port. TIME comes as timedelta, BIT as int, '0000-00-00' and other impossible dates as text."""
        statement = self._engine.statements[sql]
        if self._check_reads and not reads_only(sql, "mysql"):
            raise ReadOnlyError("a read session may only SELECT")
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(statement.sql, values)
            return self._rows(max_rows)
        finally:
            self.busy_until = 0.0

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port. The rows are never buffered here: the server sends as they are taken."""
        statement = self._engine.statements[sql]
        if self._check_reads and not reads_only(sql, "mysql"):
            raise ReadOnlyError("a read session may only SELECT")
        self.busy_until = time.monotonic() + self._patience
        try:
            self._execute(statement.sql, values)
            columns = tuple([column[0] for column in self._cursor.description or ()])
            rows = self._cursor.fetchmany(size)
            while True:
                self.busy_until = 0.0
                yield Rows(columns, rows or [], 0)
                self.busy_until = time.monotonic() + self._patience
                if len(rows) < size or not (rows := self._cursor.fetchmany(size)):
                    return
        finally:
            if self._unread():
                self._drain()
            self.busy_until = 0.0

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port. Arguments go by position, in the order of the mapping."""
        call: Call = self._engine.calls[plan]
        given = {key: values[name] for key, name in call.arguments}
        sets: list[Rows] = []
        out: dict[str, Any] = {}
        self.busy_until = time.monotonic() + self._patience
        try:
            if call.before:
                self._execute(call.before, given)
            self._execute(call.sql, given)
            while True:
                rows = self._rows(max_rows)
                if rows.columns:
                    sets.append(rows)
                if not self._cursor.nextset():
                    break
            if call.after:
                self._execute(call.after, {})
                out.update(zip(call.outs, self._rows(1).rows[0], strict=True))
        finally:
            self.busy_until = 0.0
        if call.returns:
            out[call.returns] = sets.pop(0).rows[0][0]
        return ProcedureResult(out, tuple(sets))

    def begin(self) -> None:
        """See the port."""
        self._doomed = False
        self._control("START TRANSACTION")

    def commit(self) -> None:
        """See the port. A deadlock has rolled back all of it: COMMIT would be answered OK, so it is not asked."""
        if self._doomed:
            raise pymysql.err.OperationalError(_DEADLOCK, "the transaction was rolled back before COMMIT")
        self._control("COMMIT")

    def rollback(self) -> None:
        """See the port."""
        if not self.alive():
            return
        try:
            self._control("ROLLBACK")
        except pymysql.Error:
            self._aborted = True  # a session that cannot roll back must not be used again

    def alive(self) -> bool:
        """See the port."""
        return not self._aborted and bool(self._connection.open)

    def ping(self) -> bool:
        """See the port."""
        try:
            self.busy_until = time.monotonic() + self._patience
            self._connection.ping(reconnect=False)
        except (pymysql.Error, OSError):
            return False
        finally:
            self.busy_until = 0.0
        return True

    def abort(self) -> None:
        """See the port. Shuts the socket down, and kills the statement on the server from a connection of its own:
        the server would not notice the loss before it has rows to send, and hold its locks until then."""
        with self._closing:
            self._aborted = True
            wire = getattr(self._connection, "_sock", None)
            if wire is None:
                return
            try:
                twin = socket.socket(fileno=wire.fileno())  # not through TLS, whose object the other thread is using
                try:
                    twin.shutdown(socket.SHUT_RDWR)
                finally:
                    twin.detach()
            except OSError:
                return
        threading.Thread(target=self._engine.kill, args=(self._thread,), daemon=True).start()

    def close(self) -> None:
        """See the port."""
        self._engine.guard.remove(self)
        with self._closing:
            healthy = self.alive() and not self._unread()
            self._forget()
            try:
                if healthy:
                    self._connection.close()
                else:
                    self._connection._force_close()  # QUIT would wait for the rest of a result
            except (pymysql.Error, OSError):
                return

    def _execute(self, sql: str, values: Mapping[str, Any]) -> None:
        try:
            self._cursor.execute(sql, values if isinstance(values, dict) else dict(values))
        except KeyError as error:  # raised by ``%`` while the values are put in
            raise CallError(f"no value for the bind :{error.args[0]}") from None
        except pymysql.Error as error:
            if error.args and error.args[0] == _DEADLOCK:
                self._doomed = True
            raise

    def _rows(self, max_rows: int) -> Rows:
        cursor = self._cursor
        if cursor.description is None:
            return Rows((), (), cursor.rowcount)
        rows = cursor.fetchmany(max_rows + 1)
        if self._unread():
            self._drain()
        return Rows(tuple([column[0] for column in cursor.description]), rows or [], 0)

    def _unread(self) -> bool:
        result = self._connection._result
        return result is not None and bool(result.unbuffered_active)

    def _drain(self) -> None:
        """Leave the connection ready for the next statement; a new one is cheaper than reading a million rows off."""
        for _ in range(_DRAINED):
            if self._cursor.fetchone() is None:
                return
        self.abort()
        self._forget()

    def _forget(self) -> None:
        """PyMySQL would read an unfinished result to its end when the objects are collected."""
        for result in (self._connection._result, self._cursor._result):
            if result is not None:
                result.unbuffered_active = result.has_next = False

    def _control(self, sql: str) -> None:
        self.busy_until = time.monotonic() + self._patience
        try:
            self._cursor.execute(sql)
        finally:
            self.busy_until = 0.0


class MysqlEngine:
    """See ``his_db.engine.Engine``.

    ``settings.options``: ``ssl`` (``off``, or ``required`` without a check of the certificate), ``ssl_ca``,
    ``ssl_cert``, ``ssl_key``, ``ssl_verify_identity`` (``on``), ``charset`` (default utf8mb4, utf8 on servers that do
    not know it), ``sql_mode = "server"`` (leave the session as the server makes it), ``kill = "off"`` (behind a proxy
    that shares server connections).
    """

    name = "mysql"
    driver_errors: tuple[type[Exception], ...] = (pymysql.Error, CallError, OSError, UnicodeError)

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        scanner = SCANNERS["mysql"]
        self.statements: Compiled[str, Statement] = Compiled(
            lambda sql: compile_statement(sql, "pyformat", scanner=scanner)
        )
        self.calls: Compiled[ProcedurePlan, Call] = Compiled(call_for)
        self.guard = HangGuard(settings.name)

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> MysqlSession:
        """See the port. Raises pymysql.OperationalError."""
        settings = self._settings
        timeout = statement_timeout or settings.statement_timeout
        seconds = max(1.0, settings.connect_timeout.total_seconds())
        try:
            connection = self._connect(seconds, settings.options.get("charset", "utf8mb4"))
        except pymysql.Error as error:
            if error.args[0] != 1115 or "charset" in settings.options:  # unknown character set
                raise
            connection = self._connect(seconds, "utf8")
        try:
            with connection.cursor() as cursor:
                check_reads, thread = self._set_up(cursor, read_only, timeout)
            # The handshake is bounded by it, statements by the server's own time-outs and the guard.
            connection._read_timeout = connection._write_timeout = None
        except BaseException:
            connection._force_close()
            raise
        patience = (timeout + HANG_MARGIN).total_seconds()
        session = MysqlSession(connection, self, check_reads=check_reads, thread=thread, patience=patience)
        self.guard.add(session)
        return session

    def kill(self, thread: int) -> None:
        """End a connection on the server, from one of our own. Never raises: what cannot be killed times out."""
        if self._settings.options.get("kill") == "off":
            return
        try:
            helper = self._connect(_HELPER_TIMEOUT, "utf8")
            try:
                with helper.cursor() as cursor:
                    cursor.execute(f"KILL CONNECTION {thread:d}")
            finally:
                helper._force_close()
        except (pymysql.Error, OSError):
            return

    def replica(self, given: Mapping[str, Any]) -> Any:
        """A connection for the replication protocol, with time-outs that stay: what is read there ends by itself.

        ``given``: what the library that reads wants of it. Raises pymysql.Error.
        """
        seconds = max(1.0, self._settings.statement_timeout.total_seconds())
        wanted = {key: given[key] for key in ("cursorclass",) if key in given}
        return self._connect(seconds, "utf8", database=given.get("db") or given.get("database"), **wanted)

    def _connect(self, seconds: float, charset: str, *, database: str | None = None, **more: Any) -> Any:
        settings, options = self._settings, self._settings.options
        given: dict[str, Any] = {key: options[key] for key in _SSL_KEYS if options.get(key)}
        if "ssl_ca" in given:
            given["ssl_verify_cert"] = True  # PyMySQL would take any certificate, even with a CA to check it by
        if options.get("ssl") == "off":
            given["ssl_disabled"] = True
        elif options.get("ssl") == "required" and not given:
            given["ssl"] = {"check_hostname": False, "verify_mode": "none"}
        if options.get("ssl_verify_identity") == "on":
            given["ssl_verify_identity"] = True
        if settings.host.startswith("/"):
            given["unix_socket"] = settings.host
        else:
            given["host"] = settings.host or "127.0.0.1"
        return pymysql.connect(
            port=settings.port or 3306,
            user=settings.user,
            password=settings.password,
            database=database or settings.schema or settings.database,
            charset=charset,
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS,
            conv=_CONVERSIONS,
            connect_timeout=seconds,
            read_timeout=seconds,
            write_timeout=seconds,
            program_name="his160",
            **given,
            **more,
        )

    def _set_up(self, cursor: Any, read_only: bool, timeout: timedelta) -> tuple[bool, int]:
        """Session settings. Whether statements must be checked for reading only, and the server's number of us."""
        cursor.execute("SELECT VERSION(), CONNECTION_ID(), @@sql_mode, @@global.log_bin, @@session.binlog_format")
        version, thread, mode, binlog, row_format = cursor.fetchone()
        seconds = max(1, -(-self._settings.lock_timeout // timedelta(seconds=1)))
        maria = "mariadb" in version.lower()
        wanted: list[tuple[str, Any]] = [
            ("max_statement_time", timeout.total_seconds())
            if maria
            else ("max_execution_time", max(1, timeout // timedelta(milliseconds=1))),
            ("innodb_lock_wait_timeout", seconds),
            ("lock_wait_timeout", seconds),
            ("time_zone", self._settings.timezone),
        ]
        if self._settings.options.get("sql_mode") != "server":
            kept = [name for name in mode.split(",") if name and name not in _DIALECT_MODES | {_STRICT}]
            wanted.append(("sql_mode", ",".join([*kept, _STRICT])))
        for name, value in wanted:
            try:
                cursor.execute(f"SET SESSION {name} = %s", (value,))
            except pymysql.Error as error:  # a server older than the variable, or without time zone tables
                if error.args[0] not in _UNKNOWN:
                    raise
                if name == "time_zone":
                    cursor.execute("SET SESSION time_zone = %s", (_offset(value),))
        # READ COMMITTED: short snapshots. MySQL 5.6's statement-based binary log refuses writes in it (error 1665).
        if read_only or not (binlog in (1, "1", "ON") and row_format == "STATEMENT"):
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if not read_only:
            return False, int(thread)
        try:
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
        except pymysql.ProgrammingError:  # before 5.6.5
            return True, int(thread)
        return False, int(thread)

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if (ours := fault_of_ours(error)) is not None:
            return ours
        if isinstance(error, OSError):
            return Fault.LOST if sent else Fault.CONNECT
        if not isinstance(error, pymysql.Error):
            return Fault.OTHER
        if _signalled(error):
            return Fault.CONSTRAINT
        fault = NUMBERS.get(_number(error))
        if not sent and fault in (None, Fault.LOST, Fault.RIGHTS):
            return Fault.CONNECT
        if fault is not None:
            return fault
        if isinstance(error, pymysql.InterfaceError):
            return Fault.CONNECT  # (0, ""): the connection was closed before; nothing was sent
        if isinstance(error, pymysql.InternalError):
            return Fault.LOST  # packets out of order
        if isinstance(error, pymysql.ProgrammingError):
            return Fault.SCHEMA
        return Fault.OTHER

    def describe(self, error: BaseException) -> str:
        """Number and object. The message itself only where nobody is connected yet."""
        if isinstance(error, CallError):
            return str(error)
        if not isinstance(error, pymysql.Error):
            return type(error).__name__
        number, text = _number(error), _text(error)
        if _signalled(error):
            return f"{number} raised by the database's own code"
        if NUMBERS.get(number) is Fault.CONNECT:
            return f"{number} {text.strip()[:200]}"
        named = object_in(text)
        return " ".join([str(number), type(error).__name__, *([named] if named else [])])

    def sentence(self, error: BaseException) -> str:
        """The text of SIGNAL."""
        return _text(error) if isinstance(error, pymysql.Error) and _signalled(error) else ""

    def server_version(self, session: Any) -> str:
        """See the port."""
        version = str(session.run("SELECT VERSION()", {}, max_rows=1).rows[0][0])
        return version if "mariadb" in version.lower() else f"MySQL {version}"

    def dispose(self) -> None:
        """See the port."""
        self.guard.stop()


def _number(error: pymysql.Error) -> int:
    number = error.args[0] if error.args else 0
    return number & 0xFFFF if isinstance(number, int) else 0  # PyMySQL reads it as a signed number


def _text(error: pymysql.Error) -> str:
    return str(error.args[1]) if len(error.args) > 1 else ""


def _signalled(error: pymysql.Error) -> bool:
    number = _number(error)
    return number == SIGNAL or number >= OWN_NUMBERS or getattr(error, "sqlstate", None) == "45000"


def _offset(zone: str) -> str:
    """The offset of now, ``+08:00``, for servers without time zone tables. China has had one offset since 1992."""
    text = datetime.now(ZoneInfo(zone)).strftime("%z")
    return f"{text[:3]}:{text[3:5]}"
