"""Code values in the live data: the different values of each column that feeds a code are counted, so that those no map
knows are found before a call meets them.

Bounded: the newest rows by primary key up to ROWS of each column, VALUES different values, SECONDS for each statement,
BUDGET for one source; one read-only session; on SQL Server without waiting for anybody's lock (READUNCOMMITTED).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from his_db.catalogue.grant_script import quoted
from his_db.catalogue.model import Catalogue
from his_db.document.finding import NOTHING, Words
from his_db.engine import Fault, Session
from his_db.mapping.convert_in import Convert, Unconvertible, code_text, raw_text
from his_db.workbench.coded_fields import CodeColumn, CodedField, coded_columns
from his_db.workbench.site import Connection
from his_db.workbench.usage import Use

ROWS: Final = 100_000
VALUES: Final = 60  # titles of a large hospital: 40
SECONDS: Final = 5
BUDGET: Final = 90.0  # seconds
_SHOWN: Final = 16  # characters of a code: what is longer may be anything


@dataclass(frozen=True, slots=True)
class CodeCount:
    """One value of the data. `text`: as code maps compare it, empty where it is not shown; `shown`: for people;
    `verdict`: known, caught (by `otherwise` of the map), or unknown."""

    text: str
    shown: str
    rows: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Census:
    """The values of a column as a field reads them, most frequent first. `rows`: how many were looked at; `is_whole`:
    all there are. `failed`: why they could not be counted, else empty."""

    coded: CodedField
    where: str
    rows: int = 0
    is_whole: bool = True
    counts: tuple[CodeCount, ...] = ()
    failed: Words = NOTHING


@dataclass(frozen=True, slots=True)
class _Counted:
    """(value, rows) as the database gave them, or why not."""

    values: tuple[tuple[Any, int], ...] = ()
    failed: Words = NOTHING


def take_census(
    connection: Connection,
    uses: Sequence[Use],
    catalogue: Catalogue,
    *,
    rows: int = ROWS,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Census, ...]:
    """One for each column and map, however many mappings read it. Raises SourceFailed when the source is lost."""
    readers: dict[CodeColumn, list[CodedField]] = {}
    for use in uses:
        for coded, columns in coded_columns(use, catalogue):
            for column in columns:
                readers.setdefault(column, []).append(coded)
    if not readers:
        return ()
    found: list[Census] = []
    session = _opened(connection)
    try:
        limit = clock() + BUDGET
        for column, fields in readers.items():
            late = Words("no time was left", "总时间已用完")
            counted = _counted(connection, session, column, rows) if clock() < limit else _Counted(failed=late)
            if counted is None:
                continue
            alike = {(coded.spec.codes, coded.field.full_name, coded.spec.true): coded for coded in reversed(fields)}
            found.extend(_census(column, coded, counted, rows) for coded in reversed(alike.values()))
    finally:
        session.close()
    return tuple(found)


def _opened(connection: Connection) -> Session:
    engine = connection.engine
    try:
        return engine.open(read_only=True, statement_timeout=timedelta(seconds=SECONDS))
    except engine.driver_errors as error:
        raise connection.failed(error) from None


def _counted(connection: Connection, session: Session, column: CodeColumn, rows: int) -> _Counted | None:
    """None where the catalogue says already what is wrong: no such column, no right."""
    engine = connection.engine
    try:
        found = session.run(census_sql(engine.name, column, rows), {}, max_rows=VALUES).rows
    except engine.driver_errors as error:
        fault = engine.classify(error, sent=True)
        if fault in {Fault.CONNECT, Fault.LOST} or not session.alive():
            raise connection.failed(error) from None
        if fault in {Fault.SCHEMA, Fault.RIGHTS}:
            return None
        if fault in {Fault.TIMEOUT, Fault.LOCK_TIMEOUT}:
            return _Counted(failed=Words(f"it took more than {SECONDS} s", f"超过 {SECONDS} 秒未完成"))
        detail = engine.describe(error)
        return _Counted(failed=Words(f"the database refuses it: {detail}", f"数据库拒绝：{detail}"))
    if len(found) > VALUES:
        words = Words(
            f"more than {VALUES} different values: this is no code", f"不同取值超过 {VALUES} 个，不像是代码列"
        )
        return _Counted(failed=words)
    return _Counted(tuple((value, int(count)) for value, count in found))


def census_sql(engine: str, column: CodeColumn, rows: int) -> str:
    """Value and count, most frequent first, of at most `rows` rows."""
    origin, table = column.origin, column.table
    where = " AND ".join(f"({condition})" for condition in origin.conditions)
    keys = ", ".join(f"{quoted(engine, name)} DESC" for name in table.primary_key)
    top = f"TOP ({rows}) " if engine == "mssql" else ""
    hint = " WITH (READUNCOMMITTED)" if engine == "mssql" else ""
    inner = f"SELECT {top}{origin.expression} AS v FROM {origin.table}{hint}"  # noqa: S608 - of the mapping's own SELECT
    inner += f" WHERE {where}" if where else ""
    inner += f" ORDER BY {keys}" if keys else ""
    if engine in {"oracle", "dm"}:  # 11g has no FETCH FIRST
        inner = f"SELECT v FROM ({inner}) WHERE ROWNUM <= {rows}"  # noqa: S608 - as above
    elif engine != "mssql":
        inner += f" LIMIT {rows}"
    return f"SELECT v, COUNT(*) AS n FROM ({inner}) census GROUP BY v ORDER BY COUNT(*) DESC"  # noqa: S608 - as above


def _census(column: CodeColumn, coded: CodedField, counted: _Counted, limit: int) -> Census:
    rows = sum(count for _, count in counted.values)
    convert = coded.convert()
    merged: dict[tuple[str, str], int] = {}
    for value, count in counted.values:
        verdict = _verdict(coded, convert, value)
        key = (_text(coded, value), verdict)
        merged[key] = merged.get(key, 0) + count
    counts = tuple(
        CodeCount(text if _may_be_shown(coded, text) else "", _shown(coded, text), count, verdict)
        for (text, verdict), count in sorted(merged.items(), key=lambda item: (-item[1], item[0]))
    )
    return Census(coded, column.where, rows, rows < limit, counts, counted.failed)


def _text(coded: CodedField, value: Any) -> str:
    if value is None:
        return ""
    try:
        return code_text(raw_text(value) if coded.spec.charset else value)
    except Unconvertible:
        return code_text(value)


def _verdict(coded: CodedField, convert: Convert, value: Any) -> str:
    """What a call would make of the value."""
    if not _text(coded, value):
        return "known"  # absent: no code at all
    try:
        convert(value)
    except Unconvertible:
        return "unknown"
    codes = coded.codes
    if codes is None:
        return "known"
    known = {code_text(pair.his) for pair in codes.pairs} | {code_text(item) for item in coded.spec.empty}
    return "known" if _text(coded, value) in known else "caught"


def _may_be_shown(coded: CodedField, text: str) -> bool:
    return not coded.personal and len(text) <= _SHOWN and text.isprintable()


def _shown(coded: CodedField, text: str) -> str:
    if not text:
        return "NULL"
    return f'"{text}"' if _may_be_shown(coded, text) else f"***({len(text)})"
