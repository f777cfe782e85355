"""What a source does beside its catalogue, for ``his160 doctor``: its clock, its handling of Chinese, its time-outs.

Reads only; nothing of a patient is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from his_db.document.finding import Words
from his_db.document.problem import Place, Problem, Severity
from his_db.engine import Fault
from his_db.workbench.site import Connection, SourceFailed

CUT: Final = timedelta(seconds=1)
TOLERANCE: Final = timedelta(seconds=2)  # a busy server, a slow network; less than the guard's own margin


@dataclass(frozen=True, slots=True)
class ClockReading:
    """``ahead``: the database's clock minus ours, at the middle of the round trip; ``doubt``: half of that trip."""

    ahead: timedelta
    doubt: timedelta


@dataclass(frozen=True, slots=True)
class CutReading:
    """How long a statement ran that asks for far more than its time-out, and whether it was ended in time."""

    limit: timedelta
    took: timedelta
    works: bool


def read_clock(connection: Connection, now: Callable[[], datetime]) -> ClockReading:
    """The database's UTC clock against ours. Raises SourceFailed."""
    before = now()
    try:
        value = connection.session.run(connection.reader.statements["clock"], {}, max_rows=1).rows[0][0]
    except connection.engine.driver_errors as error:
        raise connection.failed(error) from None
    doubt = (now() - before) / 2
    return ClockReading(_instant(value) - (before + doubt), doubt)


def _instant(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def cut_a_statement(connection: Connection, limit: timedelta = CUT, *, tolerance: timedelta = TOLERANCE) -> CutReading:
    """Run a statement of many seconds with a short time-out, on a session of its own. Raises SourceFailed.

    The time alone tells: MySQL ends a SLEEP that is cut without an error.
    """
    engine = connection.engine
    began = time.monotonic()
    try:
        session = engine.open(read_only=True, statement_timeout=limit)
        try:
            began = time.monotonic()
            session.run(connection.reader.statements["delay"], {}, max_rows=1)
        finally:
            session.close()
    except engine.driver_errors as error:
        if engine.classify(error, sent=True) not in {Fault.TIMEOUT, Fault.LOST}:
            raise connection.failed(error) from None
    took = timedelta(seconds=time.monotonic() - began)
    return CutReading(limit, took, took <= limit + tolerance)


def charset_problem(connection: Connection) -> Problem | None:
    """Whether a Chinese text comes back as it was sent, as literal and as bind. Raises SourceFailed."""
    engine = connection.engine
    what = Words("cannot be sent or read in this charset", "无法用当前字符集收发")
    try:
        changed = connection.reader.charset(connection.session)
    except UnicodeError:
        pass  # the charset of the connection cannot say these characters: the driver itself refuses
    except engine.driver_errors as error:
        if engine.classify(error, sent=True) is not Fault.DATA:
            raise connection.failed(error) from None
    else:
        if not changed:
            return None
        what = Words(f"comes back as {changed!r}", f"往返后变成 {changed!r}")
    message = Words(f"source {connection.name}: Chinese text {what.en}", f"数据源 {connection.name}：中文{what.zh}")
    fix = Words("set the charset in [source.<name>.options]", "请在 [source.<name>.options] 中设置正确的字符集")
    return about_source(connection.name, "H501", message, fix)


def unreachable(error: SourceFailed) -> Problem:
    """The source cannot be used."""
    message = Words(
        f"source {error.source} does not answer: {error.fault.value} {error.detail}",
        f"数据源 {error.source} 无法使用：{error.detail}",
    )
    fix = Words("check host, port, user, password and database", "请检查地址、端口、账号、密码和库名")
    return about_source(error.source, "H500", message, fix)


def about_source(name: str, code: str, message: Words, fix: Words, severity: Severity = Severity.ERROR) -> Problem:
    """A finding about a source as a whole."""
    return Problem(Place(f"[source.{name}]", 1, 1), code, message.en, message.zh, fix.en, fix.zh, severity)
