"""What every engine must do, on real databases; and what a lane makes of each engine's failures.

Part 1 runs for every engine (SQL Server and Oracle where their urls are given), part 2 is SQLite, part 3 PostgreSQL,
part 4 PostgreSQL and MariaDB over a wire that we cut. MySQL's own ways: ``test_engine_mysql.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pymysql
import pytest
from his160.v1 import catalog_pb2, reason_pb2

from his_db.breaker import Breaker
from his_db.engine import Engine, Fault, Parameter, ParameterKind, ProcedurePlan, Session, SourceSettings
from his_db.errors import HisBusy, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import engine_for
from tests.bounds import PATIENCE
from tests.engine_beds import SLOW, Bed, bed_of, dual, fault_of, joined, numbers, opted_in_engines, sqlite_bed
from tests.servers import PostgresqlServer
from tests.tcp_proxy import TcpProxy

# SQL Server and Oracle take part where ``tests/live`` would: with a url of theirs in the environment.
ENGINES = ["sqlite", "postgresql", "mysql", *opted_in_engines()]
BEGIN = {"postgresql": b"BEGIN", "mysql": b"START TRANSACTION"}
COMMIT = {"postgresql": b"COMMIT", "mysql": b"\x03COMMIT"}  # with the command's byte: not READ COMMITTED


@pytest.fixture(params=ENGINES)
def bed(request: pytest.FixtureRequest) -> Bed:
    return bed_of(request.param, request)


@pytest.fixture
def pg(request: pytest.FixtureRequest) -> Bed:
    return bed_of("postgresql", request)


@pytest.fixture(params=["postgresql", "mysql"])
def net(request: pytest.FixtureRequest) -> Bed:
    """An engine whose server we reach over a wire and may end sessions on."""
    return bed_of(request.param, request)


def _wire_of(engine: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue({"postgresql": "postgresql_server", "mysql": "mariadb_server"}[engine]).wire


@pytest.fixture
def wire(net: Bed, request: pytest.FixtureRequest) -> Iterator[tuple[Bed, TcpProxy]]:
    """A bed whose engines connect through a proxy."""
    with TcpProxy(_wire_of(net.settings.engine, request)) as proxy:
        yield Bed(replace(net.settings, host="127.0.0.1", port=proxy.port), net.look), proxy


@pytest.fixture
def opened(bed: Bed) -> Iterator[Callable[..., tuple[Engine, Session]]]:
    """Opens sessions and closes them all."""
    held: list[tuple[Engine, Session]] = []

    def open_one(*, read_only: bool = False, **changes: Any) -> tuple[Engine, Session]:
        engine = bed.engine(**changes)
        held.append((engine, engine.open(read_only=read_only)))
        return held[-1]

    yield open_one
    for engine, session in held:
        session.close()
        engine.dispose()


# --- part 1: every engine -------------------------------------------------------------------------------------------


def test_values_come_back_as_they_went(bed: Bed, opened: Any) -> None:
    _, session = opened()
    names = ["张三", "𠅤", "㛃", "'; DROP TABLE patient; --", "100%s :x", "", None]
    for number, name in enumerate(names):
        values = {
            "i": number, "n": name, "f": Decimal("12.50"), "b": date(1990, 2, 28), "s": datetime(2026, 1, 2, 3, 4, 5)
        }  # fmt: skip
        rows = session.run("INSERT INTO patient VALUES (:i, :n, :f, :b, :s)", values, max_rows=1)
        assert (rows.columns, list(rows.rows), rows.changed) == ((), [], 1)
    read = session.run("SELECT name, fee, born, seen FROM patient ORDER BY id", {}, max_rows=100)
    assert tuple(column.lower() for column in read.columns) == ("name", "fee", "born", "seen")
    oracle = bed.settings.engine == "oracle"
    assert [row[0] for row in read.rows] == [(name or None) if oracle else name for name in names]  # '' is NULL there
    assert Decimal(str(read.rows[0][1])) == Decimal("12.5")
    assert str(read.rows[0][2])[:10] == "1990-02-28"
    assert str(read.rows[0][3]) == "2026-01-02 03:04:05"
    assert read.changed == 0
    equal = session.run("SELECT count(*) FROM patient WHERE fee = :f AND born = :b", values, max_rows=1)
    assert equal.rows[0][0] == len(names)


def test_optional_filter_with_text_and_null(opened: Any) -> None:
    """The filter every DBA writes; PostgreSQL alone cannot type its first bind."""
    _, session = opened(read_only=True)
    sql = "SELECT count(*) FROM slot WHERE (:i IS NULL OR id = :i) AND (:t IS NOT NULL OR taken = 0)"
    assert session.run(sql, {"i": None, "t": None}, max_rows=1).rows[0][0] == 2
    assert session.run(sql, {"i": 1, "t": "x"}, max_rows=1).rows[0][0] == 1
    assert session.run("SELECT count(*) FROM patient WHERE (:n IS NULL OR name = :n)", {"n": "x"}, max_rows=1).rows


def test_colons_that_are_no_binds(bed: Bed, opened: Any) -> None:
    _, session = opened(read_only=True)
    engine = bed.settings.engine
    text = joined(engine, "'12:30'", "':00'", ":x")
    sql = f"""SELECT {text} /* :not */ AS ":t" {dual(engine)} -- :nor this"""
    rows = session.run(sql, {"x": "!"}, max_rows=1)
    assert (rows.columns, list(rows.rows)) == ((":t",), [("12:30:00!",)])


DEPARTMENTS = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "table"
object = "patient"
where = [ { column = "name", from = "branch", optional = true } ]
[[result]]
page_key = "id"
fields = [ { to = "department_id", column = "id" }, { to = "name", column = "name" } ]
"""


def test_kind_table_pages_by_its_key(bed: Bed, opened: Any, tmp_path: Path) -> None:
    """The SQL that SQLAlchemy writes for the engine, run on it: each page begins behind the last, none twice."""
    _, session = opened()
    for number in range(1, 24):
        values = {"i": number, "n": "内科" if number % 2 else "外科"}
        session.run("INSERT INTO patient (id, name) VALUES (:i, :n)", values, max_rows=1)
    (tmp_path / "departments.toml").write_text(DEPARTMENTS, encoding="utf-8")
    found = load_mapping_set(tmp_path, sources={"his": bed.settings.engine}, timezone="Asia/Shanghai")
    operation = compile_generation(found).operation("CatalogService.ListDepartments")

    def pages(branch: str) -> list[list[int]]:
        request = catalog_pb2.ListDepartmentsRequest(page_size=10, branch=branch)
        seen: list[list[int]] = []
        while True:
            answer: Any = operation.run(session, request, now=datetime(2026, 3, 2, 9, 30))
            seen.append([int(item.department_id) for item in answer.departments])
            if not answer.next_page_token:
                return seen
            request.page_token = answer.next_page_token

    assert pages("") == [list(range(1, 11)), list(range(11, 21)), [21, 22, 23]]
    assert pages("外科") == [list(range(2, 21, 2)), [22]]
    assert pages("' OR 1=1 --") == [[]]


def test_a_held_read_session_sees_what_was_committed(opened: Any) -> None:
    """No snapshot is held between two reads: MySQL's REPEATABLE READ would show a watch yesterday's rows."""
    _, reader = opened(read_only=True)
    _, writer = opened()
    sql = "SELECT taken FROM slot WHERE id = 1"
    assert reader.run(sql, {}, max_rows=1).rows[0][0] == 0
    writer.begin()
    writer.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)
    writer.commit()
    assert reader.run(sql, {}, max_rows=1).rows[0][0] == 1


@pytest.mark.parametrize("size", [1000, 1667, 5000, 6000])
def test_a_stream_gives_every_row_in_pieces(bed: Bed, opened: Any, size: int) -> None:
    _, session = opened(read_only=True)
    many = numbers(bed.settings.engine)
    pieces = list(session.stream(many, {}, size=size))
    assert [len(piece.rows) for piece in pieces] == [
        *[size] * (5000 // size), *([5000 % size] if 5000 % size else [])
    ]  # fmt: skip
    whole = session.run(many, {}, max_rows=5000).rows
    assert sorted(row[0] for piece in pieces for row in piece.rows) == sorted(row[0] for row in whole)
    assert {tuple(name.lower() for name in piece.columns) for piece in pieces} == {("n",)}
    assert session.run(bed.one, {}, max_rows=1).rows[0][0] == 1


def test_a_stream_has_columns_also_without_rows_and_takes_binds(opened: Any) -> None:
    _, session = opened(read_only=True)
    sql = "SELECT id, taken FROM slot WHERE id = :i AND (:t IS NULL OR taken = 0)"
    assert [list(map(tuple, piece.rows)) for piece in session.stream(sql, {"i": 2, "t": None}, size=10)] == [[(2, 0)]]
    (piece,) = session.stream(sql, {"i": 99, "t": "x"}, size=10)
    assert [name.lower() for name in piece.columns] == ["id", "taken"]
    assert not piece.rows


def test_a_stream_that_is_left_leaves_the_session_usable(bed: Bed, opened: Any) -> None:
    _, session = opened(read_only=True)
    pieces = session.stream(numbers(bed.settings.engine), {}, size=100)
    next(pieces)
    pieces.close()
    if session.alive():  # MariaDB cannot be told to stop sending: there the connection may be the price
        assert session.run(bed.one, {}, max_rows=1).rows[0][0] == 1
    else:
        assert bed.settings.engine == "mysql"


def test_a_stream_of_nonsense_is_a_fault_of_the_mapping(opened: Any) -> None:
    engine, session = opened(read_only=True)
    assert fault_of(engine, lambda: list(session.stream("SELECT x FROM nowhere_at_all", {}, size=10))) is Fault.SCHEMA
    assert session.run("SELECT count(*) FROM slot", {}, max_rows=1).rows[0][0] == 2


@pytest.mark.parametrize("times", [1, 3])
def test_max_rows_fetches_one_more(bed: Bed, opened: Any, times: int) -> None:
    """The first run of a statement and the later ones may take different ways."""
    _, session = opened(read_only=True)
    many = numbers(bed.settings.engine)
    for sql in (many, f"SELECT * FROM ({many}) q"):
        for _ in range(times):
            assert len(session.run(sql, {}, max_rows=10).rows) == 11
            assert len(session.run(sql, {}, max_rows=9000).rows) == 5000
    assert session.alive()
    empty = session.run("SELECT id, name FROM patient", {}, max_rows=10)
    assert (tuple(column.lower() for column in empty.columns), list(empty.rows)) == (("id", "name"), [])


def test_a_read_session_cannot_write(bed: Bed, opened: Any) -> None:
    engine, session = opened(read_only=True)
    for sql in ("UPDATE slot SET taken = 1", "DELETE FROM slot", "CREATE TABLE more (id INTEGER)"):
        assert fault_of(engine, lambda sql=sql: session.run(sql, {}, max_rows=1)) is Fault.READ_ONLY
    assert bed.look("SELECT sum(taken), count(*) FROM slot") == [(0, 2)]


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("SELECT * FROM gh_no_such", Fault.SCHEMA),
        ("SELECT no_such FROM slot", Fault.SCHEMA),
        ("SELECT no_such_function(1) FROM slot", Fault.SCHEMA),
        ("INSERT INTO slot (id, no_such) VALUES (9, 0)", Fault.SCHEMA),
        ("SELEC 1", Fault.SYNTAX),
        ("SELECT (1", Fault.SYNTAX),
        ("INSERT INTO slot VALUES (1, 0)", Fault.CONSTRAINT),
        ("INSERT INTO slot VALUES (9, 5)", Fault.CONSTRAINT),
        ("INSERT INTO slot VALUES (9, NULL)", Fault.CONSTRAINT),
    ],
)
def test_statement_faults(bed: Bed, opened: Any, sql: str, fault: Fault) -> None:
    engine, session = opened()
    assert fault_of(engine, lambda: session.run(sql, {}, max_rows=1)) is fault
    assert session.alive()
    assert session.run(bed.one, {}, max_rows=1).rows[0][0] == 1


def test_faults_name_objects_and_no_values(bed: Bed, opened: Any) -> None:
    engine, session = opened()
    key = {"mysql": "PRIMARY", "mssql": "PK_", "oracle": "SYS_"}.get(engine.name, "slot")
    cases = [
        ("SELECT * FROM gh_no_such WHERE name = :n", "" if engine.name == "oracle" else "gh_no_such"),
        (f"INSERT INTO slot (id, taken) SELECT 1, 0{dual(engine.name)} WHERE :n = :n", key),
        ("SELECT CAST(:n AS INTEGER) / no_such FROM slot", "no_such"),
    ]
    for sql, expected in cases:
        with pytest.raises(engine.driver_errors) as caught:
            session.run(sql, {"n": "李秘密"}, max_rows=1)
        told = engine.describe(caught.value)
        assert expected.lower() in told.lower()
        assert "李秘密" not in told


def test_missing_bind_is_a_mapping_fault(opened: Any) -> None:
    engine, session = opened()
    sql = "SELECT :x" + dual(engine.name)
    assert fault_of(engine, lambda: session.run(sql, {}, max_rows=1)) is Fault.SCHEMA


def test_statement_timeout(bed: Bed, opened: Any) -> None:
    engine, session = opened(read_only=True, statement_timeout=timedelta(milliseconds=50))
    assert fault_of(engine, lambda: session.run(SLOW[engine.name], {}, max_rows=1)) is Fault.TIMEOUT
    if engine.name == "mssql":
        assert not session.alive()  # its connection is not worth trusting after a time-out
        return
    assert session.alive()
    assert session.run(bed.one, {}, max_rows=1).rows[0][0] == 1


def test_abort_breaks_a_running_call(opened: Any) -> None:
    engine, session = opened(read_only=True)
    timer = threading.Timer(0.05, session.abort)
    timer.start()
    assert fault_of(engine, lambda: session.run(SLOW[engine.name], {}, max_rows=1)) in (Fault.LOST, Fault.TIMEOUT)
    timer.join()
    assert not session.alive()


def test_lock_timeout(opened: Any) -> None:
    _, holder = opened()
    engine, waiter = opened(lock_timeout=timedelta(milliseconds=50), statement_timeout=timedelta(seconds=2))
    holder.begin()
    holder.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)

    def take() -> None:
        waiter.begin()
        waiter.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)

    # Oracle has no lock time-out for DML: the call's own ends the wait.
    assert fault_of(engine, take) is (Fault.TIMEOUT if engine.name == "oracle" else Fault.LOCK_TIMEOUT)
    waiter.rollback()
    holder.rollback()
    take()
    waiter.commit()


def test_rollback_undoes_and_commit_keeps(bed: Bed, opened: Any) -> None:
    _, session = opened()
    for end, taken in ((session.rollback, 0), (session.commit, 1)):
        session.begin()
        session.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)
        end()
        assert bed.look("SELECT taken FROM slot WHERE id = 1") == [(taken,)]
    session.rollback()  # nothing open: no complaint
    session.close()
    session.close()
    assert not session.alive()


def test_version(opened: Any) -> None:
    engine, session = opened(read_only=True)
    assert any(digit in engine.server_version(session) for digit in "0123456789")
    assert session.ping()


async def test_connect_failure_is_unavailable(bed: Bed) -> None:
    changes: dict[str, Any] = {"database": bed.settings.database + "_gone"}
    async with bed.lane(bed.engine(**changes)) as lane:
        with pytest.raises(HisUnavailable) as caught:
            await lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1))
        assert caught.value.retry_after is not None
    if bed.settings.engine == "sqlite":
        assert not Path(changes["database"]).exists()


async def test_lane_translates(bed: Bed) -> None:
    async with bed.lane(read_only=False) as lane:

        def run(sql: str) -> Any:
            return lane.transact(lambda s: s.run(sql, {"n": "李秘密"}, max_rows=1))

        with pytest.raises(HisRefused) as refused:
            await run(f"INSERT INTO slot SELECT 1, 0{dual(bed.settings.engine)} WHERE :n = :n")
        assert refused.value.reason == reason_pb2.REASON_HIS_REFUSED
        for sql in ("SELECT * FROM gh_no_such WHERE name = :n", "SELEC :n"):
            with pytest.raises(MappingMismatch) as mismatch:
                await run(sql)
            assert "李秘密" not in str(mismatch.value)
            assert mismatch.value.__context__ is None  # the driver's text does not travel along
        stats = lane.stats()
        assert stats.faults == {"constraint": 1, "schema": 1, "syntax": 1}
        assert stats.open_sessions == 1


async def test_failed_work_leaves_nothing(bed: Bed) -> None:
    async with bed.lane(read_only=False) as lane:

        def half(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1", {}, max_rows=1)
            raise HisRefused(reason_pb2.REASON_SLOT_TAKEN, "test")

        def bug(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1", {}, max_rows=1)
            raise KeyError("column")

        with pytest.raises(HisRefused):
            await lane.transact(half)
        with pytest.raises(KeyError):
            await lane.transact(bug)
        assert bed.look("SELECT sum(taken) FROM slot") == [(0,)]
        await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1 WHERE id = 2", {}, max_rows=1))
        assert bed.look("SELECT sum(taken) FROM slot") == [(1,)]


async def test_two_workers_compete_for_one_slot(bed: Bed) -> None:
    def take(session: Session) -> int:
        return session.run("UPDATE slot SET taken = 1 WHERE id = 1 AND taken = 0", {}, max_rows=1).changed

    async with bed.lane(read_only=False, workers=3, queue_limit=50) as lane:
        won = await asyncio.gather(*(lane.transact(take) for _ in range(20)))
    assert sorted(won) == [0] * 19 + [1]


async def test_breaker_and_recovery(bed: Bed, request: pytest.FixtureRequest) -> None:
    """The database goes away and comes back: fail fast meanwhile, one probe, then work."""
    now = [100.0]
    breaker = Breaker(clock=lambda: now[0], jitter=lambda: 0.0)
    if bed.settings.engine == "sqlite":
        path = Path(bed.settings.database)
        away, settings = path.with_suffix(".away"), bed.settings
        down, up = (lambda: path.rename(away)), (lambda: away.rename(path))
    else:
        if bed.settings.engine not in BEGIN:
            pytest.skip(f"{bed.settings.engine}: not applicable, no proxy in front of it")
        proxy = TcpProxy(_wire_of(bed.settings.engine, request))
        request.addfinalizer(proxy.close)
        settings = replace(bed.settings, host="127.0.0.1", port=proxy.port)
        down, up = proxy.cut, proxy.heal

    def one(session: Session) -> Any:
        return session.run("SELECT 1", {}, max_rows=1).rows[0][0]

    async with bed.lane(engine_for(settings), breaker=breaker, clock=lambda: now[0]) as lane:
        assert await lane.run(one) == 1
        down()
        with pytest.raises(HisUnavailable):
            await lane.run(one)  # reconnects in vain
        up()
        with pytest.raises(HisUnavailable):
            await lane.run(one)  # too early: not even tried
        assert lane.stats().faults["connect"] == 1
        assert breaker.state().ok is False
        now[0] += 1.0
        assert await lane.run(one) == 1
        assert breaker.state().ok is True


# --- part 2: SQLite -------------------------------------------------------------------------------------------------


def test_sqlite_leaves_the_file_alone(sqlite_path: Path) -> None:
    bed = sqlite_bed(sqlite_path)
    engine = bed.engine()
    for mode in ("delete", "wal"):
        bed.look(f"PRAGMA journal_mode = {mode}")
        for read_only in (True, False):
            session = engine.open(read_only=read_only)
            session.run("SELECT * FROM slot", {}, max_rows=5)
            session.close()
        assert bed.look("PRAGMA journal_mode") == [(mode,)]


def test_sqlite_says_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "his.db"
    path.write_bytes(b"x" * 4096)
    engine = engine_for(SourceSettings(name="his", engine="sqlite", database=str(path)))
    with pytest.raises(sqlite3.DatabaseError) as caught:
        engine.open(read_only=True)
    assert engine.classify(caught.value, sent=False) is Fault.CONNECT


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody replace a file that is open")
def test_sqlite_sees_that_the_file_was_replaced(sqlite_path: Path) -> None:
    """A writer at once: what it writes into the old file would be lost. A reader looks every few milliseconds."""
    engine = sqlite_bed(sqlite_path).engine()
    with closing(engine.open(read_only=False)) as writer, closing(engine.open(read_only=True)) as reader:
        assert writer.alive()
        assert reader.alive()
        other = sqlite_path.with_name("other.db")
        other.write_bytes(sqlite_path.read_bytes())
        other.replace(sqlite_path)
        assert not writer.alive()
        assert not reader.ping()
        assert not reader.alive()
        end = time.monotonic() + 5
        with closing(engine.open(read_only=True)) as again:
            assert again.alive()
            sqlite_path.unlink()
            while again.alive():
                assert time.monotonic() < end


def test_sqlite_trigger_and_procedures(sqlite_path: Path) -> None:
    bed = sqlite_bed(sqlite_path)
    bed.look("CREATE TRIGGER no BEFORE DELETE ON slot BEGIN SELECT RAISE(ABORT, '张三不能退号'); END")
    engine = bed.engine()
    with closing(engine.open(read_only=False)) as session:
        with pytest.raises(sqlite3.IntegrityError) as caught:
            session.run("DELETE FROM slot", {}, max_rows=1)
        assert engine.classify(caught.value, sent=True) is Fault.CONSTRAINT
        assert engine.sentence(caught.value) == "张三不能退号"
        assert "张三" not in engine.describe(caught.value)
        assert fault_of(engine, lambda: session.call(ProcedurePlan("p", ()), {}, max_rows=1)) is Fault.SCHEMA


# --- part 3: PostgreSQL ---------------------------------------------------------------------------------------------

PROCEDURES = """
CREATE SCHEMA his;
CREATE PROCEDURE his.usp_lock(p_id int, p_who varchar, INOUT io_n int, OUT o_code int, OUT o_msg varchar)
LANGUAGE plpgsql AS $$ BEGIN
  UPDATE public.slot SET taken = 1 WHERE id = p_id AND taken = 0;
  o_code := CASE WHEN FOUND THEN 0 ELSE -1 END; o_msg := p_who || '：好'; io_n := io_n + 1;
END $$;
CREATE PROCEDURE his.usp_quiet(p_id int) LANGUAGE sql AS 'UPDATE public.slot SET taken = 1 WHERE id = p_id';
CREATE PROCEDURE his.usp_commits(p_id int) LANGUAGE plpgsql AS $$ BEGIN
  UPDATE public.slot SET taken = 1 WHERE id = p_id; COMMIT; PERFORM pg_sleep(60); END $$;
CREATE PROCEDURE his.usp_raises(p_name varchar) LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION '% 已在黑名单', p_name; END $$;
CREATE FUNCTION his.fn_add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE FUNCTION his.fn_out(a int, OUT o_twice int, OUT o_text varchar) LANGUAGE sql AS
  $$ SELECT a * 2, '倍'::varchar $$;
CREATE FUNCTION his.fn_rows(a int) RETURNS TABLE (n int, t text) LANGUAGE sql AS
  $$ SELECT g, '行' || g FROM generate_series(1, a) g $$;
CREATE FUNCTION his.fn_cursor(a int, OUT c1 refcursor) LANGUAGE plpgsql AS
  $$ BEGIN OPEN c1 FOR SELECT g AS n FROM generate_series(1, a) g; END $$;
"""
IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN


@pytest.fixture
def called(pg: Bed) -> Iterator[tuple[Engine, Session, Bed]]:
    pg.look(PROCEDURES)
    engine = pg.engine(schema="his,public")
    session = engine.open(read_only=False)
    yield engine, session, pg
    session.close()
    engine.dispose()


def test_procedure_in_out_inout(called: tuple[Engine, Session, Bed]) -> None:
    _, session, _ = called
    plan = ProcedurePlan(
        "his.usp_lock",
        (  # not the procedure's order: arguments go by name
            Parameter("o_msg", OUT),
            Parameter("P_WHO", IN, "varchar(2)"),
            Parameter("o_code", OUT, "int"),
            Parameter("io_n", INOUT, "int"),
            Parameter("p_id", IN),
        ),
    )
    for code in (0, -1):
        result = session.call(plan, {"p_id": 1, "P_WHO": "张三丰", "io_n": 41}, max_rows=1)
        assert dict(result.out) == {"o_msg": "张三丰：好", "o_code": code, "io_n": 42}
        assert result.sets == ()
    assert session.call(ProcedurePlan("usp_quiet", (Parameter("p_id"),)), {"p_id": 2}, max_rows=1).out == {}
    numbered = tuple(Parameter(str(n), kind, "") for n, kind in enumerate((IN, IN, INOUT, OUT, OUT), 1))
    result = session.call(ProcedurePlan("his.usp_lock", numbered), {"1": 1, "2": "李", "3": 1}, max_rows=1)
    assert dict(result.out) == {"3": 2, "4": -1, "5": "李：好"}


def test_functions(called: tuple[Engine, Session, Bed]) -> None:
    _, session, _ = called
    a = Parameter("a")
    plan = ProcedurePlan("fn_add", (a, Parameter("b"), Parameter("r", RETURN)), function=True)
    assert session.call(plan, {"a": 2, "b": 3}, max_rows=1).out == {"r": 5}
    plan = ProcedurePlan("his.fn_out", (a, Parameter("o_text", OUT), Parameter("o_twice", OUT)), function=True)
    assert session.call(plan, {"a": 4}, max_rows=1).out == {"o_text": "倍", "o_twice": 8}
    result = session.call(ProcedurePlan("his.fn_rows", (a,), function=True), {"a": 3}, max_rows=1)
    assert (result.out, result.sets[0].columns, len(result.sets[0].rows)) == ({}, ("n", "t"), 2)
    plan = ProcedurePlan("his.fn_cursor", (a, Parameter("c1", OUT, "refcursor")), function=True)
    result = session.call(plan, {"a": 3}, max_rows=10)
    assert [list(rows.rows) for rows in result.sets] == [[(1,), (2,), (3,)]]


@pytest.mark.parametrize(
    ("plan", "values", "fault"),
    [
        (ProcedurePlan("his.usp_none", (Parameter("p_id"),)), {"p_id": 1}, Fault.SCHEMA),
        (ProcedurePlan("his.usp_quiet", (Parameter("p_x"),)), {"p_x": 1}, Fault.SCHEMA),
        (ProcedurePlan("his.usp_quiet; DROP TABLE slot", ()), {}, Fault.SCHEMA),
        (ProcedurePlan("his.usp_quiet", (Parameter("p_id", IN, "int); DROP TABLE slot"),)), {"p_id": 1}, Fault.SCHEMA),
        (ProcedurePlan("his.usp_quiet", (Parameter("r", RETURN),)), {}, Fault.SCHEMA),
        (ProcedurePlan("his.usp_quiet", (Parameter("p_id"),)), {"p_id": "壹"}, Fault.DATA),
        (ProcedurePlan("his.usp_raises", (Parameter("p_name"),)), {"p_name": "张三"}, Fault.CONSTRAINT),
    ],
)  # fmt: skip
def test_calls_that_fail(called: tuple[Engine, Session, Bed], plan: Any, values: Any, fault: Fault) -> None:
    engine, session, bed = called
    with pytest.raises(engine.driver_errors) as caught:
        session.call(plan, values, max_rows=1)
    assert engine.classify(caught.value, sent=True) is fault
    assert "张三" not in engine.describe(caught.value)
    assert engine.sentence(caught.value) == ("张三 已在黑名单" if fault is Fault.CONSTRAINT else "")
    assert bed.look("SELECT count(*) FROM slot") == [(2,)]


async def test_a_procedure_that_commits_itself(called: tuple[Engine, Session, Bed]) -> None:
    _, _, bed = called
    plan = ProcedurePlan("his.usp_commits", (Parameter("p_id"),))
    engine = bed.engine(statement_timeout=timedelta(milliseconds=100))
    async with bed.lane(engine, read_only=False) as lane:

        def work(session: Session) -> Any:
            return session.call(plan, {"p_id": 1}, max_rows=1)

        with pytest.raises(MappingMismatch):  # in a transaction PostgreSQL forbids it: the mapping is wrong
            await lane.transact(work)
        assert bed.look("SELECT taken FROM slot WHERE id = 1") == [(0,)]
        with pytest.raises(OutcomeUnknown):
            await lane.transact(work, autocommit=True)
        assert bed.look("SELECT taken FROM slot WHERE id = 1") == [(1,)]


def test_rights(pg: Bed, postgresql_server: PostgresqlServer) -> None:
    role = f"reader_{pg.settings.database}"
    pg.look(f'CREATE ROLE "{role}" LOGIN')
    try:
        engine = pg.engine(user=role)
        with closing(engine.open(read_only=True)) as session:
            assert fault_of(engine, lambda: session.run("SELECT * FROM slot", {}, max_rows=1)) is Fault.RIGHTS
        engine.dispose()
    finally:
        pg.look(f'DROP ROLE "{role}"')


def test_session_settings(pg: Bed) -> None:
    engine = pg.engine(schema="his", timezone="Asia/Urumqi", lock_timeout=timedelta(seconds=2))
    with closing(engine.open(read_only=True, statement_timeout=timedelta(seconds=7))) as session:
        names = [
            "statement_timeout",
            "lock_timeout",
            "default_transaction_read_only",
            "client_encoding",
            "search_path",
            "TimeZone",
            "application_name",
            "idle_in_transaction_session_timeout",
        ]
        found = [session.run(f"SHOW {name}", {}, max_rows=1).rows[0][0] for name in names]
    engine.dispose()
    assert found == ["7s", "2s", "on", "UTF8", "his", "Asia/Urumqi", "his160", "30s"]


async def test_refusal_at_commit_is_a_refusal(pg: Bed) -> None:
    pg.look("ALTER TABLE slot ADD CONSTRAINT one UNIQUE (taken, id) DEFERRABLE INITIALLY DEFERRED")
    pg.look("ALTER TABLE slot DROP CONSTRAINT slot_pkey")
    async with pg.lane(read_only=False) as lane:
        with pytest.raises(HisRefused) as caught:
            await lane.transact(lambda s: s.run("INSERT INTO slot VALUES (1, 0)", {}, max_rows=1))
        assert "23505" in caught.value.detail
        assert "one" in caught.value.detail
        assert pg.look("SELECT count(*) FROM slot") == [(2,)]

        def swallow(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1", {}, max_rows=1)
            with pytest.raises(Exception, match="gh_no_such"):
                session.run("SELECT * FROM gh_no_such", {}, max_rows=1)

        with pytest.raises(MappingMismatch):  # the server answers ROLLBACK to COMMIT, without an error
            await lane.transact(swallow)


async def test_changed_table_under_a_prepared_statement(pg: Bed) -> None:
    async with pg.lane() as lane:

        def work(session: Session) -> int:
            return len(session.run("SELECT * FROM slot", {}, max_rows=5).columns)

        for _ in range(10):
            assert await lane.run(work) == 2
        pg.look("ALTER TABLE slot ADD COLUMN note text")
        assert await lane.run(work) == 3


# --- part 4: PostgreSQL and MariaDB on a wire ------------------------------------------------------------------------


async def test_deadlock_is_busy(net: Bed) -> None:
    """Two transactions lock two rows in opposite order; the server picks its victim, which may simply try again."""
    meet = threading.Barrier(2)

    def crossing(first: int, second: int) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": first}, max_rows=1)
            meet.wait(PATIENCE)
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": second}, max_rows=1)

        return work

    engine = net.engine(lock_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=30))
    async with net.lane(engine, read_only=False, workers=2) as lane:
        results = await asyncio.gather(
            lane.transact(crossing(1, 2)), lane.transact(crossing(2, 1)), return_exceptions=True
        )
        assert lane.stats().faults == {"deadlock": 1}
    assert [type(result) for result in results if result is not None] == [HisBusy]


def _terminate(net: Bed) -> None:
    if net.settings.engine == "mysql":
        for (number,) in net.look("SELECT id FROM information_schema.processlist WHERE db = DATABASE()"):
            if number != net.look("SELECT CONNECTION_ID()")[0][0]:
                with contextlib.suppress(pymysql.err.OperationalError):  # our own look, gone by now
                    net.look(f"KILL {number}")
        return
    net.look(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_idle_connection_lost_is_not_noticed(net: Bed) -> None:
    async with net.lane() as reads, net.lane(read_only=False) as writes:
        for _ in range(2):
            assert (await reads.run(lambda s: s.run("SELECT 7", {}, max_rows=1))).rows[0] == (7,)
            await writes.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
            _terminate(net)
        assert reads.stats().faults == writes.stats().faults == {"lost": 1}


@pytest.mark.parametrize("inside", [False, True])
async def test_lost_in_mid_statement(net: Bed, inside: bool) -> None:
    """Before COMMIT a break is harmless, except around a procedure that may commit by itself."""

    def work(session: Session) -> None:
        session.run("UPDATE slot SET taken = 1", {}, max_rows=1)
        killer = threading.Timer(0.1, _terminate, [net])
        killer.start()
        try:
            session.run(SLOW[net.settings.engine], {}, max_rows=1)
        finally:
            killer.join()

    async with net.lane(read_only=False) as lane:
        with pytest.raises(OutcomeUnknown if inside else HisUnavailable):
            await lane.transact(work, may_commit_inside=inside)
        assert lane.stats().open_sessions == 0
        assert net.look("SELECT sum(taken) FROM slot") == [(0,)]
        assert (await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))).changed == 2


async def test_read_lost_on_a_fresh_connection_is_not_repeated(net: Bed) -> None:
    calls: list[int] = []

    def work(session: Session) -> None:
        calls.append(1)
        _terminate(net)
        session.run("SELECT 1", {}, max_rows=1)

    async with net.lane() as lane:
        with pytest.raises(HisUnavailable):
            await lane.run(work)
    assert calls == [1]


@pytest.mark.parametrize("deliver", [True, False])
async def test_cut_at_commit_is_unknown(wire: tuple[Bed, TcpProxy], deliver: bool) -> None:
    """The agent cannot tell the two apart, and the database differs: that is why it must ask, not guess."""
    bed, proxy = wire
    async with bed.lane(read_only=False) as lane:
        proxy.cut_at(COMMIT[bed.settings.engine], deliver=deliver)
        with pytest.raises(OutcomeUnknown):
            await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
        assert await asyncio.to_thread(proxy.drained.wait, PATIENCE)
        assert bed.look("SELECT sum(taken) FROM slot") == [(2 if deliver else 0,)]
        assert (await lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1))).rows[0] == (1,)


@pytest.mark.parametrize("statement", [b"", b"UPDATE"])
async def test_cut_before_commit_is_nothing(wire: tuple[Bed, TcpProxy], statement: bytes) -> None:
    bed, proxy = wire
    async with bed.lane(read_only=False) as lane:
        proxy.cut_at(statement or BEGIN[bed.settings.engine])
        with pytest.raises(HisUnavailable):
            await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
        assert await asyncio.to_thread(proxy.drained.wait, PATIENCE)
        assert bed.look("SELECT sum(taken) FROM slot") == [(0,)]


def test_a_silent_server_is_broken_off(wire: tuple[Bed, TcpProxy]) -> None:
    """A firewall that drops silently: no server time-out arrives; the guard breaks the call."""
    bed, proxy = wire
    engine: Any = bed.engine()
    with closing(engine.open(read_only=True)) as session:
        session.run("SELECT 1", {}, max_rows=1)
        proxy.stall("down")
        started = threading.Event()
        faults: list[Fault] = []

        def call() -> None:
            started.set()
            faults.append(fault_of(engine, lambda: session.run("SELECT 2", {}, max_rows=1)))

        thread = threading.Thread(target=call)
        thread.start()
        started.wait(PATIENCE)
        engine.guard.clock = lambda: float("inf")  # as if its patience were over
        while not engine.guard.check() and thread.is_alive():
            thread.join(0.01)
        thread.join(PATIENCE)
        assert faults == [Fault.LOST]
        assert not session.alive()
    engine.dispose()
