"""达梦 DM8 through dmPython: an extra. No server was at hand: nothing here has run on one.

dmPython 2.6.1 itself was run against ports that are closed, silent, or hang up. Error numbers: `his_db/dm_errors.py`.
Like Oracle: ``''`` is NULL, CHAR comes padded. The driver is loaded when the engine is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

from his_db.bound_sql import BoundSql, bind_places
from his_db.connect_deadline import connect_within
from his_db.dm_errors import fault_of, number_of, sentence_of, words_of
from his_db.engine import Fault, ParameterKind, ProcedurePlan, ProcedureResult, Rows, SourceSettings
from his_db.held_connection import HANG_MARGIN, CallError, Compiled, HangGuard, fault_of_ours
from his_db.odbc_session import Batch, Manners, OdbcSession
from his_db.oracle_call import call_for


class DmSession(OdbcSession):
    """See ``his_db.engine.Session``. Transactions are the driver's switch; OUT values come from ``callproc``."""

    def begin(self) -> None:
        """See the port."""
        if not self.alive():
            raise CallError("the session is closed")
        self._connection.autoCommit = False

    def commit(self) -> None:
        """See the port."""
        self._connection.commit()
        self._connection.autoCommit = True

    def rollback(self) -> None:
        """See the port."""
        if not self.alive():
            return
        try:
            self._connection.rollback()
            self._connection.autoCommit = True
        except self._errors:
            self._open = False

    def call(self, plan: ProcedurePlan, values: Mapping[str, Any], *, max_rows: int) -> ProcedureResult:
        """See the port. Arguments go by position, in the order of the mapping."""
        call_for(plan)  # for its checks of the names
        arguments = [p for p in plan.parameters if p.kind is not ParameterKind.RETURN]
        given = [values[p.name] if p.kind in (ParameterKind.IN, ParameterKind.INOUT) else None for p in arguments]
        returns = next((p.name for p in plan.parameters if p.kind is ParameterKind.RETURN), "")
        with self._connection.cursor() as cursor:
            answer = list(cursor.callfunc(plan.object, *given) if returns else cursor.callproc(plan.object, *given))
            out: dict[str, Any] = {returns: answer.pop(0)} if returns else {}
            for parameter, value in zip(arguments, answer, strict=False):
                if parameter.kind is not ParameterKind.IN:
                    out[parameter.name] = value
            sets: list[Rows] = []
            while cursor.description is not None:
                columns = tuple([column[0] for column in cursor.description])
                sets.append(Rows(columns, [tuple(row) for row in cursor.fetchmany(max_rows + 1)], 0))
                if not cursor.nextset():
                    break
        return ProcedureResult(out, tuple(sets))


class DmEngine:
    """See ``his_db.engine.Engine``. Raises CallError when dmPython is not installed."""

    name = "dm"

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        try:
            self._module: Any = import_module("dmPython")
        except ImportError:
            raise CallError("the driver of 达梦 is not installed: pip install dmPython") from None
        self.driver_errors: tuple[type[Exception], ...] = (self._module.Error, CallError, OSError, UnicodeError)
        self.statements: Compiled[str, BoundSql] = Compiled(lambda sql: bind_places(sql, "dm"))
        self.calls: Compiled[ProcedurePlan, Batch] = Compiled(lambda plan: Batch(plan.object, ()))
        self.guard = HangGuard(settings.name)
        self._manners = Manners(
            engine="dm",
            begin="",
            commit="",
            rollback="",
            ping="SELECT 1 FROM DUAL",
            check_reads=True,
            sizes=_no_sizes,
            is_dead=lambda error: self.classify(error, sent=True) in (Fault.LOST, Fault.CONNECT, Fault.TIMEOUT),
        )

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> DmSession:
        """See the port."""
        settings, module = self._settings, self._module
        timeout = statement_timeout or settings.statement_timeout
        login = max(1, -(-settings.connect_timeout // timedelta(seconds=1)))
        arguments = {
            "user": settings.user,
            "password": settings.password,
            "server": settings.host or "127.0.0.1",
            "port": settings.port or 5236,
            "autoCommit": True,
            "local_code": module.PG_UTF8,
            "login_timeout": login,
            "connection_timeout": max(1, -(-timeout // timedelta(seconds=1))),
            "txn_isolation": module.ISO_LEVEL_READ_COMMITTED,
            "access_mode": module.DSQL_MODE_READ_ONLY if read_only else module.DSQL_MODE_READ_WRITE,
            "app_name": "his160",
        }
        if settings.schema or settings.database:
            arguments["schema"] = settings.schema or settings.database
        connection = connect_within(login + 1, lambda: self._connect(arguments))
        session = DmSession(
            connection,
            manners=self._manners,
            errors=self.driver_errors,
            statements=self.statements,
            calls=self.calls,
            read_only=read_only,
            guard=self.guard,
            patience=(timeout + HANG_MARGIN).total_seconds(),
        )
        self.guard.add(session)
        return session

    def _connect(self, arguments: Mapping[str, Any]) -> Any:
        """dmPython 2.5 tells a refused connection as a SystemError that hides its own error."""
        try:
            return self._module.connect(**arguments)
        except SystemError as error:
            inner = error.__context__ or error.__cause__
            if isinstance(inner, self._module.Error):
                raise inner from None
            raise CallError("dmPython: the connection failed, and the driver does not say why") from error

    def classify(self, error: BaseException, *, sent: bool) -> Fault:
        """See the port."""
        if (ours := fault_of_ours(error)) is not None:
            return ours
        if not isinstance(error, (self._module.Error, OSError)):
            return Fault.OTHER
        if not sent:
            return Fault.CONNECT
        if isinstance(error, OSError):
            return Fault.LOST
        return fault_of(number_of(error))

    def describe(self, error: BaseException) -> str:
        """The number and words of our own: what DM's messages hold is not known well enough to show them."""
        if isinstance(error, (CallError, TimeoutError)):
            return str(error)
        number = number_of(error)
        return words_of(number) if number else type(error).__name__

    def sentence(self, error: BaseException) -> str:
        """The text of RAISE_APPLICATION_ERROR."""
        return sentence_of(error)

    def server_version(self, session: Any) -> str:
        """See the port."""
        banner = session.run("SELECT BANNER FROM V$VERSION", {}, max_rows=10).rows[0][0]
        return f"DM {banner}"

    def dispose(self) -> None:
        """See the port."""
        self.guard.stop()


def _no_sizes(_: Sequence[Any]) -> None:
    return None
