"""The bare driver: sqlite3 or psycopg in threads, the same statements, nothing of his160 in between."""

from __future__ import annotations

import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psycopg

from agent.demo.hospital import Hospital
from his_db.engine import ProcedurePlan
from his_db.held_connection import compile_statement
from his_db.postgresql_call import call_for
from his_db.source import settings_from_url
from tests.bench.load import Sample
from tests.bench.packs import Order, Statement, psycopg_url

CONNECTIONS: Final = 2  # as many as a lane of the agent holds

_KEY: Final = re.compile(r"[0-9A-F]{32}")

Prepared = tuple[str, Mapping[str, Any]]
Rows = Sequence[tuple[Any, ...]]


class Driver(Protocol):
    """One held connection."""

    def run(self, prepared: Prepared) -> Rows:
        """Execute and fetch everything as tuples."""

    def begin(self) -> None:
        """Open a write transaction."""

    def commit(self) -> None:
        """Commit it."""

    def close(self) -> None:
        """Close the connection."""


class SqliteDriver:
    """sqlite3, autocommit until ``begin``, as durable as the agent's session (the file's WAL, synchronous FULL)."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)

    def run(self, prepared: Prepared) -> Rows:
        """See the port."""
        return self._connection.execute(*prepared).fetchall()

    def begin(self) -> None:
        """See the port."""
        self._connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """See the port."""
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """See the port."""
        self._connection.close()


class PsycopgDriver:
    """psycopg 3, autocommit, one cursor, statements prepared by the driver."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(psycopg_url(url), autocommit=True)
        self._cursor = self._connection.cursor()

    def run(self, prepared: Prepared) -> Rows:
        """See the port."""
        sql, values = prepared
        self._cursor.execute(sql.encode(), values)
        return self._cursor.fetchall() if self._cursor.description else ()

    def begin(self) -> None:
        """See the port."""
        self._cursor.execute("BEGIN", prepare=False)

    def commit(self) -> None:
        """See the port."""
        self._cursor.execute("COMMIT", prepare=False)

    def close(self) -> None:
        """See the port."""
        self._connection.close()


def connect(hospital: Hospital) -> Driver:
    """A held connection to the sample HIS."""
    if hospital.kind == "sqlite":
        return SqliteDriver(settings_from_url("his", hospital.url).database)
    return PsycopgDriver(hospital.url)


@dataclass(frozen=True, slots=True)
class Script:
    """Statements in the driver's own style, and which binds are the order's: bind name -> field of ``Order``."""

    statements: tuple[tuple[str, Mapping[str, Any], Mapping[str, str]], ...]

    def of(self, order: Order | None = None) -> list[Prepared]:
        """The statements with the order's values put in."""
        if order is None:
            return [(sql, values) for sql, values, _ in self.statements]
        return [
            (sql, {**values, **{bind: _field(order, name) for bind, name in own.items()}})
            for sql, values, own in self.statements
        ]


def script(kind: str, statements: Sequence[Statement], order: Order | None = None) -> Script:
    """A script of recorded statements; values that are ``order``'s own become its fields."""
    names = ("order_no", "schedule_id", "slot_id", "patient_id", "key", "KEY")
    found = []
    for statement in statements:
        sql, values = _native(kind, statement)
        own: dict[str, str] = {}
        if order is not None:
            for bind, value in values.items():
                # The first field that fits: where session and slot are the same thing, either will do.
                name = next((name for name in names if str(value) == _field(order, name)), None)
                if name is None and isinstance(value, str) and _KEY.fullmatch(value):
                    name = "KEY"  # a primary key that the mapping derives from $key
                if name is not None:
                    own[bind] = name
        found.append((sql, values, own))
    return Script(tuple(found))


def _field(order: Order, name: str) -> str:
    return order.key.upper() if name == "KEY" else str(getattr(order, name))


def _native(kind: str, statement: Statement) -> tuple[str, dict[str, Any]]:
    if isinstance(statement.sql, ProcedurePlan):
        call = call_for(statement.sql)
        return call.sql, {bind: statement.values[name] for bind, name in call.arguments}
    if kind == "sqlite":
        return statement.sql, dict(statement.values)  # the driver knows :name itself
    compiled = compile_statement(statement.sql, "pyformat", typed_null_test="boolean")
    return compiled.sql, dict(compiled.values(statement.values))


def read(prepared: Sequence[Prepared]) -> Callable[[Driver], None]:
    """Work that reads."""

    def work(driver: Driver) -> None:
        for each in prepared:
            driver.run(each)

    return work


def write(prepared: Sequence[Prepared]) -> Callable[[Driver], None]:
    """Work that writes: begin, statements, commit. The last statement reads what was written: nothing is a defect."""

    def work(driver: Driver) -> None:
        driver.begin()
        rows: Rows = ()
        for each in prepared:
            rows = driver.run(each)
        driver.commit()
        if not rows:
            raise AssertionError("the bare driver wrote nothing")

    return work


class BarePool:
    """A few threads with a connection each, and one queue: what the agent's lane would be without the agent."""

    def __init__(self, hospital: Hospital) -> None:
        self._drivers = [connect(hospital) for _ in range(CONNECTIONS)]

    @property
    def drivers(self) -> Sequence[Driver]:
        """The held connections, while nothing runs on them."""
        return self._drivers

    def close(self) -> None:
        """Close the connections."""
        for driver in self._drivers:
            driver.close()

    def run(self, works: Sequence[Callable[[Driver], None]], in_flight: int) -> Sample:
        """Each work once, ``in_flight`` of them asked for at a time. Raises what the driver raised."""
        return self._run(iter(works), in_flight, None)

    def run_for(self, work: Callable[[Driver], None], in_flight: int, seconds: float) -> Sample:
        """The same work again and again."""
        return self._run(iter(lambda: work, None), in_flight, seconds)

    def _run(self, works: Any, in_flight: int, seconds: float | None) -> Sample:
        """A closed loop: whoever ends a call asks for the next, so a latency holds the wait for a connection."""
        asked: queue.SimpleQueue[tuple[float, Callable[[Driver], None]] | None] = queue.SimpleQueue()
        times: list[float] = []
        failures: list[Exception] = []
        guard = threading.Lock()
        until = None if seconds is None else time.perf_counter() + seconds
        drivers = self._drivers[: min(in_flight, CONNECTIONS)]

        def ask() -> None:
            with guard:
                over = until is not None and time.perf_counter() >= until
                work = None if over else next(works, None)
            asked.put(None if work is None else (time.perf_counter(), work))

        def serve(driver: Driver) -> None:
            while (item := asked.get()) is not None:
                try:
                    item[1](driver)
                except (sqlite3.Error, psycopg.Error, AssertionError) as error:
                    failures.append(error)
                    break
                times.append(time.perf_counter() - item[0])
                ask()

        started = time.perf_counter()
        for _ in range(in_flight):
            ask()
        threads = [threading.Thread(target=serve, args=(driver,), name="bench-bare") for driver in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return Sample(tuple(times), time.perf_counter() - started)
