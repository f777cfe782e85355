"""What every engine needs around a held connection: statements compiled once, and a guard against silent servers.

The binds ``:name`` of a statement are written into the driver's own style once; the text then runs on a cursor of the
held driver connection. Measured: 0.95 of the bare driver, where SQLAlchemy Core's ``execute`` on a held connection
keeps 0.65 and brings row objects that nobody here uses; its dialect of PostgreSQL alone takes 2 MB of an idle agent.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, Protocol, TypeVar

from his_db.engine import Fault

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_STATEMENTS: Final = 2048  # a mapping set has a few hundred; more means somebody builds SQL with values in it
HANG_MARGIN: Final = timedelta(seconds=5)  # past the server's own time-outs, before we call it silent
_GUARD_PERIOD: Final = 1.0  # seconds between two looks at the running calls

# Literals, quoted names, comments, casts, then binds. Dollar quoting and E'' are PostgreSQL's, harmless elsewhere.
_TOKEN: Final = re.compile(
    r"""(?P<opaque> (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/
          | (?<![\w$])\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$ | ::+ | := )
      | (?<![:\w\\]):(?P<bind>[^\W\d]\w*)(?P<null>\s+IS\s+(?:NOT\s+)?NULL\b)?
      | (?P<colon>:)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
NULL_SUFFIX: Final = "__isnull"

Style = Literal["named", "pyformat"]


class CallError(Exception):
    """A call that this engine cannot make as the mapping describes it (classified SCHEMA). Holds no values."""


class ReadOnlyError(CallError):
    """A read session was given a statement that writes (classified READ_ONLY), where the server itself has none."""


def fault_of_ours(error: BaseException) -> Fault | None:
    """Of what our own code raises before a driver says anything; None: ask the driver's error."""
    if isinstance(error, ReadOnlyError):
        return Fault.READ_ONLY
    if isinstance(error, CallError):
        return Fault.SCHEMA
    return Fault.DATA if isinstance(error, UnicodeError) else None


@dataclass(slots=True)
class Statement:
    """SQL in the driver's own bind style. ``null_tests``: names whose ``:name IS NULL`` needs a typed bind of its own.

    ``rows_seen`` is the engine's memory of how many rows it gave last (-1: never run).
    """

    sql: str
    null_tests: tuple[str, ...]
    rows_seen: int = field(default=-1)

    def values(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The binds to give to the driver."""
        if not self.null_tests:
            return given
        more = {name + NULL_SUFFIX: None if given[name] is None else True for name in self.null_tests}
        return {**given, **more}


def compile_statement(
    sql: str, style: Style, *, typed_null_test: str = "", scanner: re.Pattern[str] = _TOKEN
) -> Statement:
    """Write ``:name`` binds in a driver's style. Colons in literals, comments, quoted names and ``::`` are no binds.

    ``style`` as PEP 249 names it: ``named`` (``:name``, as it is), ``pyformat`` (``%(name)s``; every other % is
    doubled, also in literals, for the driver halves them there too). ``scanner`` says where binds are not, for engines
    that quote otherwise (``his_db.bound_sql.SCANNERS``).

    ``typed_null_test``: SQL type to which the bind of ``:name IS NULL`` is cast, as a separate bind, on engines that
    infer a bind's type from its first use (PostgreSQL refuses ``$1 IS NULL OR column = $1`` for text and NULL).
    """
    null_tests: list[str] = []
    place = "%({})s" if style == "pyformat" else ":{}"

    def replace(match: re.Match[str]) -> str:
        name = match["bind"]
        if name is None:
            return match[0]
        null = match["null"] or ""
        if not null or not typed_null_test:
            return place.format(name) + null
        if name not in null_tests:
            null_tests.append(name)
        return f"CAST({place.format(name + NULL_SUFFIX)} AS {typed_null_test}){null}"

    text = sql.replace("%", "%%") if style == "pyformat" else sql
    return Statement(sql=scanner.sub(replace, text), null_tests=tuple(null_tests))


class Compiled(dict[K, V]):
    """A cache that compiles what it does not hold yet. Shared by threads: a race compiles twice, harmlessly."""

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= _STATEMENTS:
            self.clear()
        value = self[key] = self._make(key)
        return value


class Guarded(Protocol):
    """A session that the guard may break. ``busy_until``: time of the guard's clock, 0.0 while nothing runs."""

    busy_until: float

    def abort(self) -> None:
        """Break the running call, from the guard's thread."""


class HangGuard:
    """Breaks calls whose server neither answers nor times out (a firewall that drops silently, a frozen host).

    Server-side time-outs do not help there, and TCP waits for minutes. One daemon thread per engine, started with
    the first session; ``check`` is what it does each second.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._name = name
        self._sessions: weakref.WeakSet[Guarded] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, session: Guarded) -> None:
        """Watch a session until it is removed or garbage."""
        with self._lock:
            self._sessions.add(session)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._loop, name=f"his160-{self._name}-guard", daemon=True)
                self._thread.start()

    def remove(self, session: Guarded) -> None:
        """Watch it no longer."""
        with self._lock:
            self._sessions.discard(session)

    def check(self) -> int:
        """Abort every call that is overdue; how many there were."""
        now = self.clock()
        with self._lock:
            overdue = [session for session in self._sessions if 0.0 < session.busy_until < now]
        for session in overdue:
            session.abort()
        return len(overdue)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(_GUARD_PERIOD):
            self.check()
