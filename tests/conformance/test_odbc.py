"""The ODBC plumbing of SQL Server (``OdbcSession`` over pyodbc) on real servers: PostgreSQL's and MariaDB's drivers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyodbc
import pytest

from his_db.bound_sql import bind_places
from his_db.engine import ProcedurePlan
from his_db.engines.mssql import MssqlEngine, _is_dead
from his_db.held_connection import CallError, Compiled, HangGuard, ReadOnlyError
from his_db.mssql_errors import told
from his_db.odbc_session import Batch, Manners, OdbcSession
from tests.engine_beds import Bed, bed_of
from tests.servers import unavailable
from tests.tcp_proxy import TcpProxy

DRIVERS = {"postgresql": "PostgreSQL Unicode", "mariadb": "MariaDB Unicode"}
SLOW = {"postgresql": "SELECT pg_sleep(60)", "mariadb": "SELECT SLEEP(60)"}
ERRORS = (pyodbc.Error, CallError)


@dataclass(frozen=True, slots=True)
class Odbc:
    """A bed reached through ODBC. ``calls`` is filled by hand: what a batch looks like differs by server."""

    kind: str
    bed: Bed
    calls: Compiled[ProcedurePlan, Batch]

    def open(self, *, read_only: bool = False, port: int = 0) -> OdbcSession:
        settings = self.bed.settings
        user = settings.user or "postgres"
        text = (
            f"DRIVER={{{DRIVERS[self.kind]}}};SERVER={settings.host or '127.0.0.1'};PORT={port or self.port};"
            f"DATABASE={settings.database};UID={user};PWD={settings.password}"
        )
        maker: Any = MssqlEngine._sizes
        engine: Any = type("Engine", (), {"_driver": "msodbcsql"})()

        def sizes(given: Sequence[Any]) -> Sequence[Any] | None:
            return maker(engine, given)  # type: ignore[no-any-return]

        manners = Manners(
            engine="postgresql" if self.kind == "postgresql" else "mysql",
            begin="BEGIN",
            commit="COMMIT",
            rollback="ROLLBACK",
            ping="SELECT 1",
            check_reads=True,
            sizes=sizes,
            is_dead=_is_dead,
        )
        return OdbcSession(
            pyodbc.connect(text, autocommit=True, timeout=5),
            manners=manners,
            errors=ERRORS,
            statements=Compiled(lambda sql: bind_places(sql, manners.engine)),
            calls=self.calls,
            read_only=read_only,
            guard=HangGuard("odbc"),
            patience=60.0,
        )

    @property
    def port(self) -> int:
        return self.bed.settings.port or {"postgresql": 5432, "mariadb": 3306}[self.kind]


@pytest.fixture(params=[f"odbc/{kind}" for kind in DRIVERS])
def odbc(request: pytest.FixtureRequest) -> Odbc:
    kind = request.param.partition("/")[2]
    if DRIVERS[kind] not in pyodbc.drivers():
        unavailable("odbc", f"the ODBC driver {DRIVERS[kind]} is not installed")
    bed = bed_of("mysql" if kind == "mariadb" else kind, request)
    if bed.settings.host.startswith("/"):
        unavailable("odbc", "the server is reached through a socket")
    return Odbc(kind, bed, Compiled(lambda plan: Batch(plan.object, ())))


@pytest.fixture
def session(odbc: Odbc) -> Iterator[OdbcSession]:
    with closing(odbc.open()) as session:
        yield session


def test_values_come_back_as_they_went(odbc: Odbc, session: OdbcSession) -> None:
    # MariaDB's driver tells pyodbc that its timestamps have whole seconds, and pyodbc then sends no others.
    micro = 678901 if odbc.kind == "postgresql" else 0
    names = ["张三", "𠅤", "ascii", "'; DROP TABLE patient; --", "100%s ?", "", None, "x" * 40]
    for number, name in enumerate(names):
        values = {
            "i": number, "n": name, "f": Decimal("12.50"), "b": date(1990, 2, 28),
            "s": datetime(2026, 1, 2, 3, 4, 5, micro),
        }  # fmt: skip
        rows = session.run("INSERT INTO patient VALUES (:i, :n, :f, :b, :s)", values, max_rows=1)
        assert (rows.columns, list(rows.rows), rows.changed) == ((), [], 1)
    read = session.run("SELECT name, fee, born, seen FROM patient ORDER BY id", {}, max_rows=100)
    assert [row[0] for row in read.rows] == names
    assert all(type(row) is tuple for row in read.rows)
    assert read.rows[0][1:] == (Decimal("12.50"), date(1990, 2, 28), datetime(2026, 1, 2, 3, 4, 5, micro))
    nulls = {"i": 99, "n": None, "f": None, "b": None, "s": None}
    session.run("INSERT INTO patient VALUES (:i, :n, :f, :b, :s)", nulls, max_rows=1)
    found = session.run("SELECT name, fee, born, seen FROM patient WHERE id = :i", {"i": 99}, max_rows=1)
    assert found.rows == [(None, None, None, None)]


def test_optional_filter_with_text_and_null(session: OdbcSession) -> None:
    sql = "SELECT count(*) FROM slot WHERE (CAST(:i AS CHAR(9)) IS NULL OR id = :i) AND :t = '?:t'"
    assert session.run(sql, {"i": 1, "t": "?:t"}, max_rows=1).rows[0][0] == 1
    assert session.run(sql, {"i": None, "t": "?:t"}, max_rows=1).rows[0][0] == 2


def test_missing_bind_is_a_mapping_fault(session: OdbcSession) -> None:
    with pytest.raises(CallError):
        session.run("SELECT :x", {}, max_rows=1)


@pytest.mark.parametrize("times", [3])
def test_max_rows_fetches_one_more(odbc: Odbc, session: OdbcSession, times: int) -> None:
    odbc.bed.look("CREATE TABLE d (n INT)")
    odbc.bed.look("INSERT INTO d VALUES " + ", ".join(f"({n})" for n in range(100)))
    for _ in range(times):
        rows = session.run("SELECT a.n FROM d a, d b", {}, max_rows=10)
        assert (rows.columns, len(rows.rows)) == (("n",), 11)
        assert len(session.run("SELECT a.n FROM d a, d b", {}, max_rows=20000).rows) == 10000
    assert session.ping()


def test_a_read_session_cannot_write(odbc: Odbc) -> None:
    """What keeps SQL Server's read sessions from writing: the statement is looked at, and never sent."""
    with closing(odbc.open(read_only=True)) as session:
        for sql in ("UPDATE slot SET taken = 1", "WITH x AS (SELECT 1) DELETE FROM slot", "SELECT 1; DELETE FROM slot"):
            with pytest.raises(ReadOnlyError):
                session.run(sql, {}, max_rows=1)
        assert session.run("SELECT count(*) FROM slot", {}, max_rows=1).rows == [(2,)]


def test_statement_faults(session: OdbcSession) -> None:
    for sql, states in (
        ("SELECT * FROM gh_no_such", {"42P01", "42S02"}),
        ("SELEC 1", {"42601", "42000"}),
        ("INSERT INTO slot VALUES (1, 0)", {"23505", "23000"}),
    ):
        with pytest.raises(pyodbc.Error) as caught:
            session.run(sql, {}, max_rows=1)
        assert told(caught.value).state in states
        assert session.alive()
        assert session.run("SELECT 1", {}, max_rows=1).rows[0][0] == 1


def test_rollback_undoes_and_commit_keeps(odbc: Odbc, session: OdbcSession) -> None:
    for end, taken in ((session.rollback, 0), (session.commit, 1)):
        session.begin()
        session.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)
        end()
        assert odbc.bed.look("SELECT taken FROM slot WHERE id = 1") == [(taken,)]
    session.rollback()


def test_result_sets_are_drained(odbc: Odbc, session: OdbcSession) -> None:
    """One batch; its last SELECT is known by its columns, stray sets by theirs."""
    if odbc.kind == "mariadb":
        odbc.bed.look(
            "CREATE PROCEDURE p(a INT) BEGIN SELECT 'F' AS flag, '号已满' AS msg; DO 0; UPDATE slot SET taken = 1;"
            " SELECT id FROM slot ORDER BY id; SELECT a AS his160_r, '好' AS his160_1; END"
        )
        sql = "CALL p(?)"
    else:
        sql = (
            "SELECT 'F' AS flag, '号已满' AS msg; UPDATE slot SET taken = 1; SELECT id FROM slot ORDER BY id;"
            " SELECT CAST(? AS INT) AS his160_r, '好' AS his160_1"
        )
    plan = ProcedurePlan(sql, ())
    odbc.calls[plan] = Batch(sql, ("a",), out=(("his160_r", "@rc"), ("his160_1", "@msg")))
    for _ in range(2):
        result = session.call(plan, {"a": -3}, max_rows=1)
        assert result.out == {"@rc": -3, "@msg": "好"}
        assert [(rows.columns, list(rows.rows)) for rows in result.sets] == [
            (("flag", "msg"), [("F", "号已满")]), (("id",), [(1,), (2,)])
        ]  # fmt: skip
    assert session.run("SELECT sum(taken) FROM slot", {}, max_rows=1).rows[0][0] == 2
    lost = ProcedurePlan("lost", ())
    odbc.calls[lost] = Batch("SELECT 1 AS other", (), out=(("his160_r", "@rc"),))
    with pytest.raises(CallError):
        session.call(lost, {}, max_rows=1)


def test_abort_breaks_a_running_call(odbc: Odbc) -> None:
    with closing(odbc.open()) as session:
        timer = threading.Timer(0.1, session.abort)
        timer.start()
        with pytest.raises(pyodbc.Error):
            session.run(SLOW[odbc.kind], {}, max_rows=1)
        timer.join()
        assert not session.alive()


def test_a_lost_connection_is_dead(odbc: Odbc) -> None:
    with TcpProxy((odbc.bed.settings.host, odbc.port)) as proxy, closing(odbc.open(port=proxy.port)) as session:
        assert session.ping()
        proxy.cut()
        with pytest.raises(pyodbc.Error) as caught:
            session.run("SELECT 1", {}, max_rows=1)
        assert told(caught.value).state.startswith(("08", "HY"))
        assert not session.ping()
