"""Oracle through python-oracledb: thin mode from 12.1, thick mode (with an Instant Client) for 11.2.

Oracle has no read-only sessions that autocommit: statements of a read session are looked at, and the account's grants
must do the rest. It has no lock time-out for DML either: ``call_timeout`` bounds a wait. ``''`` is NULL, CHAR comes
padded, dates are bound and fetched natively, so no NLS setting of the session matters; it stays as the server has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import oracledb

from his_db.bound_sql import BoundSql, bind_numbers, reads_only
from his_db.connect_deadline import connect_within
from his_db.engine import Fault, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import CallError, Compiled, ReadOnlyError, fault_of_ours
from his_db.oracle_call import Bind, Call, call_for
from his_db.oracle_errors import fault_of, login_text, object_in, raised, text_of

_FETCHED: Final = 500  # rows a round trip
_MODE_LOCK: Final = threading.Lock()
_MODES: Final[list[str]] = []  # the one that this process has entered
_TYPES: Final[Mapping[str, Any]] = {
    "varchar": oracledb.DB_TYPE_VARCHAR,
    "nvarchar": oracledb.DB_TYPE_NVARCHAR,
    "char": oracledb.DB_TYPE_CHAR,
    "nchar": oracledb.DB_TYPE_NCHAR,
    "number": Decimal,
    "integer": int,
    "date": oracledb.DB_TYPE_DATE,
    "timestamp": oracledb.DB_TYPE_TIMESTAMP,
    "clob": oracledb.DB_TYPE_CLOB,
    "nclob": oracledb.DB_TYPE_NCLOB,
    "blob": oracledb.DB_TYPE_BLOB,
    "raw": oracledb.DB_TYPE_RAW,
    "boolean": oracledb.DB_TYPE_BOOLEAN,
    "cursor": oracledb.DB_TYPE_CURSOR,
}


class OracleSession:
    """See ``his_db.engine.Session``. The driver commits each statement, except between ``begin`` and the end."""

    def __init__(self, connection: Any, engine: OracleEngine, read_only: bool) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._cursor.arraysize = _FETCHED
        self._cursor.prefetchrows = _FETCHED + 1
        self._engine = engine
        self._aborted = False
        self._closed = False
        self._allowed: Compiled[str, bool] = Compiled(lambda sql: not read_only or reads_only(sql, "oracle"))

    def run(self, sql: str, values: Mapping[str, Any], *, max_rows: int) -> Rows:
        """See the port. Whole numbers come as int, others as Decimal; CLOB as text, BLOB as bytes."""
        statement = self._engine.statements[sql]
        if not self._allowed[sql]:
            raise ReadOnlyError("a read session may only SELECT")
        given = {f"b{number}": value for number, value in enumerate(statement.values(values))}
        cursor = self._cursor
        self._type_dates(cursor, given)
        cursor.execute(statement.sql, given)
        return _rows(cursor, max_rows)

    def stream(self, sql: str, values: Mapping[str, Any], *, size: int) -> Iterator[Rows]:
        """See the port."""
        statement = self._engine.statements[sql]
        if not self._allowed[sql]:
            raise ReadOnlyError("a read session may only SELECT")
        given = {f"b{number}": value for number, value in enumerate(statement.values(values))}
        with self._connection.cursor() as cursor:
            cursor.arraysize = size
            self._type_dates(cursor, given)
            cursor.execute(statement.sql, given)
            found = _rows(cursor, size - 1)
            while True:
                yield found
                if len(found.rows) < size or not (found := _rows(cursor, size - 1)).rows:
                    return

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port. A REF CURSOR is a result set, in the order of the parameters; implicit results come after."""
        call: Call = self._engine.calls[plan]
        given: dict[str, Any] = {}
        with self._connection.cursor() as cursor:
            asked: list[tuple[Bind, Any]] = []
            for bind in call.binds:
                value = values[bind.name] if bind.given else None
                if bind.asked:
                    variable = cursor.var(_TYPES[bind.type], bind.size)
                    if bind.given:
                        variable.setvalue(0, value)
                    asked.append((bind, variable))
                    value = variable
                given[bind.key] = value
            self._type_dates(cursor, given)
            cursor.execute(call.sql, given)
            if call.rows:
                return ProcedureResult({}, (_rows(cursor, max_rows),))
            out: dict[str, Any] = {}
            sets: list[Rows] = []
            for bind, variable in asked:
                value = variable.getvalue()
                if bind.type == "cursor":
                    if value is not None:
                        sets.append(_rows(value, max_rows))
                        value.close()
                    continue
                out[bind.name] = value.read() if value is not None and hasattr(value, "read") else value
            sets.extend(_rows(implicit, max_rows) for implicit in cursor.getimplicitresults())
            return ProcedureResult(out, tuple(sets))

    def begin(self) -> None:
        """See the port. Nothing is sent: a transaction begins with its first change."""
        if not self.alive():
            raise oracledb.InterfaceError("DPY-1001: not connected to database")
        self._connection.autocommit = False

    def commit(self) -> None:
        """See the port."""
        self._connection.commit()
        self._connection.autocommit = True

    def rollback(self) -> None:
        """See the port."""
        if not self.alive():
            return
        try:
            self._connection.rollback()
            self._connection.autocommit = True
        except oracledb.Error:
            self._aborted = True  # a session that cannot roll back must not be used again

    def alive(self) -> bool:
        """See the port. The driver knows of what it has noticed itself."""
        return not self._aborted and not self._closed and bool(self._connection.is_healthy())

    def ping(self) -> bool:
        """See the port."""
        try:
            self._connection.ping()
        except (oracledb.Error, OSError):
            return False
        return True

    def abort(self) -> None:
        """See the port. Sends a break; for a server that does not even hear that, ``call_timeout`` ends the wait on
        our side."""
        self._aborted = True
        try:
            self._connection.cancel()
        except (oracledb.Error, OSError):
            return

    def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        self._closed = True
        try:
            self._connection.close()
        except (oracledb.Error, OSError):
            return

    @staticmethod
    def _type_dates(cursor: Any, given: Mapping[str, Any]) -> None:
        """A datetime of whole seconds goes as DATE: compared with a TIMESTAMP, an indexed DATE column would be
        converted row by row."""
        dates = {
            key: oracledb.DB_TYPE_DATE
            for key, value in given.items()
            if type(value) is datetime and not value.microsecond
        }
        if dates:
            cursor.setinputsizes(**dates)


class OracleEngine:
    """See ``his_db.engine.Engine``. ``settings.database``: a service name, or a whole connect descriptor ``(…)``.

    ``settings.options``: ``mode`` (``thin``, ``thick``; one per process), ``client_dir`` (thick: the Instant Client's
    folder), ``sid = "yes"`` (the database is a SID), ``protocol`` (``tcp``, ``tcps``), ``wallet_dir``,
    ``nls_date_format`` (only for procedures that rely on one).
    """

    name = "oracle"
    driver_errors: tuple[type[Exception], ...] = (oracledb.Error, CallError, OSError, UnicodeError)

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self.statements: Compiled[str, BoundSql] = Compiled(lambda sql: bind_numbers(sql, "oracle"))
        self.calls: Compiled[ProcedurePlan, Call] = Compiled(call_for)

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> OracleSession:
        """See the port. Raises oracledb.Error, CallError for the wrong mode, ConnectTimeout for a silent listener."""
        settings = self._settings
        _enter_mode(settings)
        seconds = max(0.1, settings.connect_timeout.total_seconds())
        arguments = connect_arguments(settings)
        connection = connect_within(seconds, lambda: oracledb.connect(**arguments))
        try:
            connection.autocommit = True
            connection.outputtypehandler = _fetched_as
            timeout = statement_timeout or settings.statement_timeout
            connection.call_timeout = max(1, timeout // timedelta(milliseconds=1))
            connection.module = "his160"
            connection.action = settings.name[:32]
            with connection.cursor() as cursor:
                for statement in session_statements(settings):
                    cursor.execute(statement)
        except BaseException:
            connection.close()
            raise
        return OracleSession(connection, self, read_only)

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if (ours := fault_of_ours(error)) is not None:
            return ours
        if isinstance(error, OSError):
            return Fault.LOST if sent else Fault.CONNECT
        if not isinstance(error, oracledb.Error):
            return Fault.OTHER
        return fault_of(error) if sent else Fault.CONNECT

    def describe(self, error: BaseException) -> str:
        """Code and object. The message itself only where nobody is connected yet."""
        if isinstance(error, (CallError, TimeoutError)):
            return str(error)
        if not isinstance(error, oracledb.Error):
            return type(error).__name__
        said = raised(error)
        if said is not None:
            return f"{said[0]} raised by the database's own code"
        text = text_of(error)
        code = text.partition(":")[0] if "-" in text.partition(":")[0] else type(error).__name__
        if fault_of(error) is Fault.CONNECT or code.startswith("DPY-6"):
            return login_text(error)
        named = object_in(text)
        return f"{code} {named}" if named else code

    def sentence(self, error: BaseException) -> str:
        """The text of RAISE_APPLICATION_ERROR."""
        said = raised(error) if isinstance(error, oracledb.Error) else None
        return said[1] if said else ""

    def server_version(self, session: Any) -> str:
        """See the port."""
        return f"Oracle {session._connection.version} ({'thin' if oracledb.is_thin_mode() else 'thick'})"

    def dispose(self) -> None:
        """See the port."""
        self.statements.clear()


def connect_arguments(settings: SourceSettings) -> dict[str, Any]:
    """What ``oracledb.connect`` is given."""
    options = settings.options
    arguments: dict[str, Any] = {"user": settings.user, "password": settings.password}
    if settings.database.lstrip().startswith("("):
        return {**arguments, "dsn": settings.database}
    arguments |= {
        "host": settings.host or "127.0.0.1",
        "port": settings.port or 1521,
        ("sid" if options.get("sid") == "yes" else "service_name"): settings.database,
        "tcp_connect_timeout": max(0.1, settings.connect_timeout.total_seconds()),
        "expire_time": 2,  # minutes; the network's keep-alive
    }
    if options.get("protocol"):
        arguments["protocol"] = options["protocol"]
    if options.get("wallet_dir"):
        arguments |= {"wallet_location": options["wallet_dir"], "config_dir": options["wallet_dir"]}
    return arguments


def session_statements(settings: SourceSettings) -> list[str]:
    """What a new session is told. Raises CallError for a schema or time zone that is no name."""
    statements = []
    zone, schema, dates = settings.timezone, settings.schema, settings.options.get("nls_date_format", "")
    if zone:
        if not all(part.replace("_", "").replace("-", "").replace("+", "").isalnum() for part in zone.split("/")):
            raise CallError("timezone is not a name of a time zone")
        statements.append(f"ALTER SESSION SET TIME_ZONE = '{zone}'")
    if schema:
        if not schema.replace("_", "").replace("$", "").replace("#", "").isalnum():
            raise CallError("schema is not an identifier of Oracle")
        statements.append(f"ALTER SESSION SET CURRENT_SCHEMA = {schema}")
    if dates:
        if "'" in dates:
            raise CallError("nls_date_format holds a quote")
        statements.append(f"ALTER SESSION SET NLS_DATE_FORMAT = '{dates}'")
    return statements


def _enter_mode(settings: SourceSettings) -> None:
    """Thin or thick is decided once per process, by the first connection. Raises CallError for the other one."""
    mode = settings.options.get("mode", "thin")
    if mode not in ("thin", "thick"):
        raise CallError("options.mode of an Oracle source is thin or thick")
    with _MODE_LOCK:
        if _MODES and mode not in _MODES:
            raise CallError(f"this process runs Oracle's {_MODES[0]} mode: all its Oracle sources need that mode")
        if _MODES:
            return
        if mode == "thick":
            try:
                oracledb.init_oracle_client(lib_dir=settings.options.get("client_dir") or None)
            except oracledb.Error as error:
                raise CallError(f"Oracle thick mode: {text_of(error).partition(chr(10))[0][:200]}") from None
        _MODES.append(mode)


def _fetched_as(cursor: Any, metadata: Any) -> Any:
    """Decimal instead of float, text and bytes instead of locators."""
    kind = metadata.type_code
    if kind is oracledb.DB_TYPE_NUMBER:
        if metadata.scale == 0 and metadata.precision:
            return None  # int
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    other = {
        oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
        oracledb.DB_TYPE_NCLOB: oracledb.DB_TYPE_LONG_NVARCHAR,
        oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
    }.get(kind)
    return cursor.var(other, arraysize=cursor.arraysize) if other is not None else None


def _rows(cursor: Any, max_rows: int) -> Rows:
    if cursor.description is None:
        return Rows((), (), cursor.rowcount)
    return Rows(tuple([column[0] for column in cursor.description]), cursor.fetchmany(max_rows + 1), 0)
