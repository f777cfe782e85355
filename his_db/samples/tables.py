"""What both samples need to fill and read HIS tables: SQL files, bulk inserts, 元 and 分."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import datetime
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text

from his_db.sample import Clock, HisRow
from his_db.samples.desk import Desk

_PACKS = pathlib.Path(__file__).resolve().parent.parent / "packs"
_CENT = Decimal("0.01")


def sql_file(vendor: str, name: str) -> str:
    """The text of `his_db/packs/<vendor>/sample/<name>`."""
    return (_PACKS / vendor / "sample" / name).read_text(encoding="utf-8")


def open_engine(url: str) -> Engine:
    """An engine for `url`: SQLite waits ten seconds for another writer, PostgreSQL does not compile short queries."""
    arguments: dict[str, object] = {"timeout": 10} if url.startswith("sqlite") else {"options": "-c jit=off"}
    return create_engine(url, connect_args=arguments)


@contextmanager
def postgresql_made(url: str, schemas: str, scripts: Iterable[str]) -> Iterator[Connection]:
    """Drops the schemas, runs the scripts, and lets the block fill the tables, all in one transaction; then ANALYZE."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schemas} CASCADE")
            driver = connection.connection.driver_connection
            assert driver is not None
            for script in scripts:
                driver.execute(script)  # many statements at once: psycopg's simple protocol, no parameters
            yield connection
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    finally:
        engine.dispose()


def bulk(connection: Connection | Desk, table: str, columns: str, rows: Iterable[Sequence[object]]) -> int:
    """Inserts all rows by executemany; `columns` are names separated by blanks. Returns their number."""
    if isinstance(connection, Desk):
        return connection.bulk(table, columns, rows)
    data = [tuple(row) for row in rows]
    if not data:
        return 0
    names = columns.split()
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join([mark] * len(names))})"
    connection.exec_driver_sql(statement, data)
    return len(data)


def all_rows(connection: Connection | Desk, sql: str, **binds: object) -> list[dict[str, Any]]:
    """All rows as dicts."""
    if isinstance(connection, Desk):
        return connection.rows(sql, binds)
    return [dict(row) for row in connection.execute(text(sql), binds).mappings()]


def one(connection: Connection | Desk, sql: str, **binds: object) -> dict[str, object] | None:
    """The first row as a dict, or None."""
    if isinstance(connection, Desk):
        return next(iter(connection.rows(sql, binds)), None)
    row = connection.execute(text(sql), binds).mappings().first()
    return None if row is None else dict(row)


def rows_of(connection: Connection | Desk, table: str, condition: str, **binds: object) -> list[HisRow]:
    """All rows of `table` that meet the condition, tagged with the table's name."""
    return [(table, row) for row in all_rows(connection, f"SELECT * FROM {table} WHERE {condition}", **binds)]


def changed(connection: Connection | Desk, sql: str, **binds: object) -> int:
    """Runs one statement and returns its row count."""
    if isinstance(connection, Desk):
        return connection.run(sql, binds).changed
    return connection.execute(text(sql), binds).rowcount


def yuan(fen: int) -> Decimal:
    """分 to 元 with two decimals."""
    return (Decimal(fen) / 100).quantize(_CENT)


def fen(value: object) -> int:
    """元 as any driver gives it (Decimal, int, float, text, NULL) to 分, rounded."""
    return int((Decimal(str(value or 0)) * 100).to_integral_value())


def key(kind: str, number: object) -> str:
    """A deterministic 32-character upper-case key."""
    return hashlib.md5(f"{kind}:{number}".encode(), usedforsecurity=False).hexdigest().upper()


def stamp(moment: datetime.datetime | None) -> str | None:
    """'yyyy-MM-dd HH:mm:ss'."""
    return None if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def stamp16(moment: datetime.datetime | None) -> str | None:
    """'yyyyMMddHH:mm:ss'."""
    return None if moment is None else moment.strftime("%Y%m%d%H:%M:%S")


def shifted(clock: Clock, days: int) -> Clock:
    """The clock, that many days apart."""
    return lambda: clock() + datetime.timedelta(days=days)
