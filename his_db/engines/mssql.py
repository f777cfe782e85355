"""SQL Server from 2008 through pyodbc (Microsoft's ODBC driver, or FreeTDS) or through mssql-python.

A driver is loaded when the engine is made, not before. The server has no read-only sessions: statements of a read
session are looked at, and the account's grants must do the rest.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from his_db.bound_sql import BoundSql, bind_places
from his_db.engine import Fault, ProcedurePlan, SourceSettings
from his_db.held_connection import HANG_MARGIN, CallError, Compiled, HangGuard, fault_of_ours
from his_db.mssql_call import batch_for
from his_db.mssql_errors import REMEDIES, fault_of, object_in, raised, told
from his_db.odbc_session import SILENT_STATES, Batch, Manners, OdbcSession

DRIVERS: Final = ("auto", "msodbcsql", "freetds", "mssql-python")
_NAMED: Final = re.compile(r"ODBC Driver (\d+) for SQL Server")
_PLAIN: Final = re.compile(r"[\w.,\\-]+")
_WHEELS: Final = ("mssql_python_odbc", "mssql_python")  # the driver's own; early mssql-python carried it itself
_LOGIN_STATES: Final = frozenset({"08001", "08004", "28000", "IM002", "IM003", "IM004", "01000"})
_SIZES: Final = (40, 400, 4000)  # declared lengths of text binds: few, so that the server keeps few plans
_VARCHAR: Final = 12  # SQL_VARCHAR
_WVARCHAR: Final = -9  # SQL_WVARCHAR


class MssqlEngine:
    """See ``his_db.engine.Engine``.

    ``settings.options``: ``driver`` (``auto``, ``msodbcsql``, ``freetds``, ``mssql-python``, or the name or path of an
    ODBC driver), ``encrypt`` (``yes``, ``no``, ``strict``; default yes), ``trust_server_certificate`` (``yes``,
    ``no``; default yes: encrypted, but anybody could be the server), ``application_intent`` (``ReadOnly`` for a
    readable secondary), ``text_binds`` (``ascii``: ASCII text goes as varchar, so that an index on a varchar column
    is used, other text as nvarchar; ``nvarchar``: all of it), ``tds_version`` (FreeTDS, default 7.3).
    """

    name = "mssql"

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        wanted = settings.options.get("driver", "auto")
        self._driver, self._path = _choose(wanted)
        if self._driver == "mssql-python":
            self._module: Any = import_module("mssql_python")
            self._module.pooling(enabled=False)  # a closed connection must be closed: its session may hold locks
        else:
            self._module = import_module("pyodbc")
            self._module.pooling = False
        refused = getattr(self._module, "ConnectionStringParseError", CallError)
        self.driver_errors: tuple[type[Exception], ...] = (
            self._module.Error, CallError, refused, OSError, UnicodeError
        )  # fmt: skip
        self.statements: Compiled[str, BoundSql] = Compiled(lambda sql: bind_places(sql, "mssql"))
        self.calls: Compiled[ProcedurePlan, Batch] = Compiled(batch_for)
        self.guard = HangGuard(settings.name)
        self._manners = Manners(
            engine="mssql",
            begin="BEGIN TRANSACTION",
            commit="COMMIT TRANSACTION",
            # A procedure may have rolled back already, and XACT_ABORT does so at every error: then 3903 (FreeTDS).
            rollback="IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION",
            ping="SELECT 1",
            check_reads=True,
            sizes=self._sizes if settings.options.get("text_binds", "ascii") == "ascii" else _no_sizes,
            is_dead=_is_dead,
        )

    def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> OdbcSession:
        """See the port. Raises the driver's Error, or CallError when no driver is installed."""
        timeout = statement_timeout or self._settings.statement_timeout
        connection = self._connect(read_only, _seconds(timeout))
        try:
            cursor = connection.cursor()
            cursor.execute(self._set_up(read_only))
            cursor.close()
        except BaseException:
            connection.close()
            raise
        session = OdbcSession(
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

    def _connect(self, read_only: bool, seconds: int) -> Any:
        login = _seconds(self._settings.connect_timeout)
        text = connection_string(self._settings, self._driver, self._path, read_only=read_only)
        if self._driver == "mssql-python":
            # Its ``timeout`` is that of statements; SQL_ATTR_LOGIN_TIMEOUT (103) is that of connecting.
            return self._module.connect(text, autocommit=True, attrs_before={103: login}, timeout=seconds)
        connection = self._module.connect(text, autocommit=True, timeout=login)
        try:
            connection.timeout = seconds
        except self._module.Error:  # a driver without it: the guard bounds its calls
            return connection
        return connection

    def _set_up(self, read_only: bool) -> str:
        """Session settings in one batch. The language and the date format stay: procedures rely on them."""
        lines = [
            "SET NOCOUNT OFF",  # row counts are what guarded steps go by
            "SET IMPLICIT_TRANSACTIONS OFF",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            f"SET LOCK_TIMEOUT {max(1, self._settings.lock_timeout // timedelta(milliseconds=1))}",
            "SET DEADLOCK_PRIORITY LOW",  # if somebody must lose, then we, not the window
            f"SET XACT_ABORT {'OFF' if read_only else 'ON'}",
        ]
        return "; ".join(lines)

    def _sizes(self, given: Sequence[Any]) -> Sequence[Any] | None:
        """Types of text binds. nvarchar against an indexed varchar column scans; varchar cannot hold all of Chinese.
        ASCII text is the same in both, and keys are ASCII: so these go as varchar."""
        if self._driver == "mssql-python" or not any(type(value) is str for value in given):
            return None  # mssql-python does the same by itself
        return [_size(value) if type(value) is str else None for value in given]

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
        what = told(error)
        fault = fault_of(what)
        if fault is Fault.OTHER and what.state in ("", "HY000") and "closed" in what.text.lower():
            return Fault.CONNECT
        if fault is Fault.OTHER and isinstance(error, self._module.ProgrammingError):
            return Fault.SCHEMA  # the driver's own: wrong number of binds, a type it cannot bind
        return fault

    def describe(self, error: BaseException) -> str:
        """State, number and object. The message itself only where nobody is connected yet."""
        if isinstance(error, CallError):
            return str(error)
        if not isinstance(error, self._module.Error):
            return type(error).__name__
        what = told(error)
        code = " ".join(part for part in (what.state, str(what.native or "")) if part) or type(error).__name__
        if raised(what):
            return f"{code} raised by the database's own code"
        if what.state in _LOGIN_STATES or fault_of(what) is Fault.CONNECT or "login timeout" in what.text.lower():
            remedy = next((f" ({text})" for sign, text in REMEDIES if sign in what.text), "")
            return f"{code} {what.text[:200]}{remedy}"
        named = object_in(what.text)
        return f"{code} {named}" if named else code

    def sentence(self, error: BaseException) -> str:
        """The text of RAISERROR or THROW."""
        if not isinstance(error, self._module.Error):
            return ""
        what = told(error)
        return what.text if raised(what) else ""

    def server_version(self, session: Any) -> str:
        """See the port."""
        wanted = (f"CAST(SERVERPROPERTY('{name}') AS varchar(80))" for name in ("ProductVersion", "Edition"))
        sql = f"SELECT {', '.join(wanted)}"
        number, edition = session.run(sql, {}, max_rows=1).rows[0]
        return f"SQL Server {number} {edition}"

    def dispose(self) -> None:
        """See the port."""
        self.guard.stop()


def connection_string(settings: SourceSettings, driver: str, path: str, *, read_only: bool) -> str:
    """The ODBC connection string; what is not plain goes in braces, so that no ``;`` or ``}`` of a password ends it."""
    options = settings.options
    host, port = settings.host or "127.0.0.1", settings.port
    pairs: list[tuple[str, str]] = []
    if driver == "freetds":
        pairs += [("DRIVER", path), ("SERVER", host)]
        if "\\" not in host:
            pairs.append(("PORT", str(port or 1433)))
        pairs += [("TDS_Version", options.get("tds_version", "7.3")), ("ClientCharset", "UTF-8")]
        if options.get("encrypt", "yes") == "no":
            pairs.append(("Encryption", "off"))
    else:
        # A named instance is found by the browser service, unless a port is given.
        address = host if "\\" in host and not port else f"{host.partition(chr(92))[0]},{port or 1433}"
        if driver != "mssql-python":
            pairs.append(("DRIVER", path))
        pairs += [
            ("SERVER", address),
            ("Encrypt", options.get("encrypt", "yes")),
            ("TrustServerCertificate", options.get("trust_server_certificate", "yes")),
        ]
        if read_only and options.get("application_intent"):
            pairs.append(("ApplicationIntent", options["application_intent"]))
    pairs.append(("DATABASE", settings.database))
    if settings.user:
        pairs += [("UID", settings.user), ("PWD", settings.password)]
    else:
        pairs.append(("Trusted_Connection", "yes"))
    if driver != "mssql-python":  # which has a name of its own and takes no other
        pairs.append(("APP", "his160"))
    return ";".join(f"{key}={_escaped(key, value)}" for key, value in pairs) + ";"


def _escaped(key: str, value: str) -> str:
    if key != "DRIVER" and _PLAIN.fullmatch(value):
        return value
    return "{" + value.replace("}", "}}") + "}"


def _choose(wanted: str) -> tuple[str, str]:
    """(kind, name or path of the ODBC driver). Raises CallError, with what to install, when there is none."""
    if wanted == "mssql-python":
        return wanted, ""
    if wanted not in DRIVERS:
        return ("freetds" if "freetds" in wanted.lower() or "tdsodbc" in wanted.lower() else "msodbcsql"), wanted
    if wanted in ("auto", "msodbcsql"):
        found = _microsoft()
        if found:
            return "msodbcsql", found
    if wanted in ("auto", "freetds"):
        found = next((name for name in _installed() if "freetds" in name.lower()), "")
        if found:
            return "freetds", found
    if wanted == "auto" and find_spec("mssql_python") is not None:
        return "mssql-python", ""
    what = "pip install mssql-python-odbc, or Microsoft's ODBC driver, or Debian's tdsodbc"
    raise CallError(f"no driver for SQL Server (driver = {wanted}): {what}")


def _installed() -> list[str]:
    try:
        return list(import_module("pyodbc").drivers())
    except ImportError:
        return []


def _microsoft() -> str:
    """Microsoft's driver: installed, the newest; else the one that the wheel of mssql-python brings along, by path."""
    if not _importable("pyodbc"):
        return ""
    named = [(int(match[1]), name) for name in _installed() if (match := _NAMED.fullmatch(name))]
    if named:
        return max(named)[1]
    if sys.platform == "win32":
        return ""
    specs = (find_spec(wheel) for wheel in _WHEELS)
    folders = [Path(spec.origin).parent / "libs" for spec in specs if spec is not None and spec.origin is not None]
    system = "macos" if sys.platform == "darwin" else "linux/debian_ubuntu"
    if sys.platform == "linux" and not Path("/etc/debian_version").exists():
        system = "linux/alpine" if Path("/etc/alpine-release").exists() else "linux/rhel"
    machine = {"aarch64": "arm64", "AMD64": "x86_64"}.get(_machine(), _machine())
    libraries = (path for at in folders for path in sorted((at / system / machine / "lib").glob("libmsodbcsql*")))
    return next((str(path) for path in libraries), "")


def _machine() -> str:
    import platform

    return platform.machine()


def _importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:  # pyodbc without libodbc
        return False
    return True


def _size(value: str) -> tuple[int, int, int] | None:
    length = next((size for size in _SIZES if len(value) <= size), 0)
    if not length:
        return None  # long texts: as the driver likes
    return (_VARCHAR if value.isascii() else _WVARCHAR, length, 0)


def _no_sizes(_: Sequence[Any]) -> None:
    return None


def _is_dead(error: BaseException) -> bool:
    """After a time-out Microsoft's driver gives 08S01 for everything, and its server session keeps its locks."""
    if isinstance(error, CallError):
        return False
    what = told(error)
    return what.state in SILENT_STATES or what.state.startswith("08") or fault_of(what) in (Fault.LOST, Fault.CONNECT)


def _seconds(value: timedelta) -> int:
    return max(1, -(-value // timedelta(seconds=1)))
