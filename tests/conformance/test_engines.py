"""What every engine must do, on real databases; and what a lane makes of each engine's failures.

Part 1 runs for every engine; part 2 is PostgreSQL over a wire that we cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import reason_pb2

from his_db.breaker import Breaker
from his_db.engine import Engine, Fault, Parameter, ParameterKind, ProcedurePlan, Session, SourceSettings
from his_db.errors import HisBusy, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.lane import Lane
from his_db.source import engine_for
from tests.servers import PostgresqlServer
from tests.tcp_proxy import TcpProxy

GRACE = timedelta(seconds=5)
SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c",
    "postgresql": "SELECT pg_sleep(60)",
}
TABLES = """
CREATE TABLE patient (id INTEGER PRIMARY KEY, name VARCHAR(40), fee NUMERIC(10, 2), born DATE, seen TIMESTAMP);
CREATE TABLE slot (id INTEGER PRIMARY KEY, taken INTEGER NOT NULL CHECK (taken IN (0, 1)));
INSERT INTO slot VALUES (1, 0), (2, 0);
"""


@dataclass(frozen=True, slots=True)
class Bed:
    """One engine on a real database with TABLES in it. ``look`` runs SQL behind the engine's back and gives rows."""

    settings: SourceSettings
    look: Callable[[str], list[tuple[Any, ...]]]

    def engine(self, **changes: Any) -> Engine:
        return engine_for(replace(self.settings, **changes))

    @asynccontextmanager
    async def lane(self, engine: Engine | None = None, **options: Any) -> AsyncIterator[Lane]:
        engine = engine or self.engine()
        lane = Lane("test", engine, **{"workers": 1, "queue_limit": 10, "read_only": True, **options})
        try:
            yield lane
        finally:
            await lane.close(GRACE)
            engine.dispose()


def _sqlite_bed(path: Path) -> Bed:
    def look(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()

    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
    return Bed(SourceSettings(name="his", engine="sqlite", database=str(path)), look)


def _postgresql_bed(server: PostgresqlServer, settings: SourceSettings) -> Bed:
    def look(sql: str) -> list[tuple[Any, ...]]:
        with server.connect(settings.database) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    look(TABLES)
    return Bed(settings, look)


@pytest.fixture(params=["sqlite", "postgresql"])
def bed(request: pytest.FixtureRequest) -> Bed:
    if request.param == "sqlite":
        return _sqlite_bed(request.getfixturevalue("sqlite_path"))
    server = request.getfixturevalue("postgresql_server")
    return _postgresql_bed(server, request.getfixturevalue("postgresql_database")())


@pytest.fixture
def pg(postgresql_server: PostgresqlServer, postgresql_database: Callable[[], SourceSettings]) -> Bed:
    return _postgresql_bed(postgresql_server, postgresql_database())


@pytest.fixture
def wire(pg: Bed, postgresql_server: PostgresqlServer) -> Iterator[tuple[Bed, TcpProxy]]:
    """A PostgreSQL bed whose engines connect through a proxy."""
    with TcpProxy(postgresql_server.wire) as proxy:
        yield Bed(replace(pg.settings, host="127.0.0.1", port=proxy.port), pg.look), proxy


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


def fault_of(engine: Engine, work: Callable[[], object]) -> Fault:
    with pytest.raises(engine.driver_errors) as caught:
        work()
    return engine.classify(caught.value, sent=True)


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
    assert read.columns == ("name", "fee", "born", "seen")
    assert [row[0] for row in read.rows] == names
    assert Decimal(str(read.rows[0][1])) == Decimal("12.5")
    assert str(read.rows[0][2]) == "1990-02-28"
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


def test_colons_that_are_no_binds(opened: Any) -> None:
    _, session = opened(read_only=True)
    sql = """SELECT '12:30' || ':00' || :x /* :not */ AS ":t" -- :nor this"""
    rows = session.run(sql, {"x": "!"}, max_rows=1)
    assert (rows.columns, list(rows.rows)) == ((":t",), [("12:30:00!",)])


@pytest.mark.parametrize("times", [1, 3])
def test_max_rows_fetches_one_more(opened: Any, times: int) -> None:
    """The first run of a statement and the later ones may take different ways."""
    _, session = opened(read_only=True)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000) SELECT n FROM c"
    for sql in (numbers, f"SELECT * FROM ({numbers}) AS q"):
        for _ in range(times):
            assert len(session.run(sql, {}, max_rows=10).rows) == 11
            assert len(session.run(sql, {}, max_rows=9000).rows) == 5000
    assert session.alive()
    empty = session.run("SELECT id, name FROM patient", {}, max_rows=10)
    assert (empty.columns, list(empty.rows)) == (("id", "name"), [])


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
        ("SELECT no_such_function(1)", Fault.SCHEMA),
        ("INSERT INTO slot (id, no_such) VALUES (9, 0)", Fault.SCHEMA),
        ("SELEC 1", Fault.SYNTAX),
        ("SELECT (1", Fault.SYNTAX),
        ("INSERT INTO slot VALUES (1, 0)", Fault.CONSTRAINT),
        ("INSERT INTO slot VALUES (9, 5)", Fault.CONSTRAINT),
        ("INSERT INTO slot VALUES (9, NULL)", Fault.CONSTRAINT),
    ],
)
def test_statement_faults(opened: Any, sql: str, fault: Fault) -> None:
    engine, session = opened()
    assert fault_of(engine, lambda: session.run(sql, {}, max_rows=1)) is fault
    assert session.alive()
    assert session.run("SELECT 1", {}, max_rows=1).rows[0][0] == 1


def test_faults_name_objects_and_no_values(opened: Any) -> None:
    engine, session = opened()
    cases = [
        ("SELECT * FROM gh_no_such WHERE name = :n", "gh_no_such"),
        ("INSERT INTO slot (id, taken) SELECT 1, 0 WHERE :n = :n", "slot"),
        ("SELECT CAST(:n AS INTEGER) / no_such FROM slot", "no_such"),
    ]
    for sql, expected in cases:
        with pytest.raises(engine.driver_errors) as caught:
            session.run(sql, {"n": "李秘密"}, max_rows=1)
        told = engine.describe(caught.value)
        assert expected in told
        assert "李秘密" not in told


def test_missing_bind_is_a_mapping_fault(opened: Any) -> None:
    engine, session = opened()
    assert fault_of(engine, lambda: session.run("SELECT :x", {}, max_rows=1)) is Fault.SCHEMA


def test_statement_timeout(bed: Bed, opened: Any) -> None:
    engine, session = opened(read_only=True, statement_timeout=timedelta(milliseconds=50))
    assert fault_of(engine, lambda: session.run(SLOW[engine.name], {}, max_rows=1)) is Fault.TIMEOUT
    assert session.alive()
    assert session.run("SELECT 1", {}, max_rows=1).rows[0][0] == 1


def test_abort_breaks_a_running_call(opened: Any) -> None:
    engine, session = opened(read_only=True)
    timer = threading.Timer(0.05, session.abort)
    timer.start()
    assert fault_of(engine, lambda: session.run(SLOW[engine.name], {}, max_rows=1)) in (Fault.LOST, Fault.TIMEOUT)
    timer.join()
    assert not session.alive()


def test_lock_timeout(opened: Any) -> None:
    _, holder = opened()
    engine, waiter = opened(lock_timeout=timedelta(milliseconds=50))
    holder.begin()
    holder.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)

    def take() -> None:
        waiter.begin()
        waiter.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)

    assert fault_of(engine, take) is Fault.LOCK_TIMEOUT
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
            await run("INSERT INTO slot SELECT 1, 0 WHERE :n = :n")
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
        proxy = TcpProxy(request.getfixturevalue("postgresql_server").wire)
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
    bed = _sqlite_bed(sqlite_path)
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


def test_sqlite_trigger_and_procedures(sqlite_path: Path) -> None:
    bed = _sqlite_bed(sqlite_path)
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


async def test_deadlock_is_busy(pg: Bed) -> None:
    """Two transactions lock two rows in opposite order; the server picks its victim, which may simply try again."""
    meet = threading.Barrier(2)

    def crossing(first: int, second: int) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": first}, max_rows=1)
            meet.wait(10)
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": second}, max_rows=1)

        return work

    engine = pg.engine(lock_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=30))
    async with pg.lane(engine, read_only=False, workers=2) as lane:
        results = await asyncio.gather(
            lane.transact(crossing(1, 2)), lane.transact(crossing(2, 1)), return_exceptions=True
        )
        assert lane.stats().faults == {"deadlock": 1}
    assert [type(result) for result in results if result is not None] == [HisBusy]


def _terminate(pg: Bed) -> None:
    pg.look(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_idle_connection_lost_is_not_noticed(pg: Bed) -> None:
    async with pg.lane() as reads, pg.lane(read_only=False) as writes:
        for _ in range(2):
            assert (await reads.run(lambda s: s.run("SELECT 7", {}, max_rows=1))).rows[0] == (7,)
            await writes.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
            _terminate(pg)
        assert reads.stats().faults == writes.stats().faults == {"lost": 1}


@pytest.mark.parametrize("inside", [False, True])
async def test_lost_in_mid_statement(pg: Bed, inside: bool) -> None:
    """Before COMMIT a break is harmless, except around a procedure that may commit by itself."""

    def work(session: Session) -> None:
        session.run("UPDATE slot SET taken = 1", {}, max_rows=1)
        killer = threading.Timer(0.1, _terminate, [pg])
        killer.start()
        try:
            session.run("SELECT pg_sleep(60)", {}, max_rows=1)
        finally:
            killer.join()

    async with pg.lane(read_only=False) as lane:
        with pytest.raises(OutcomeUnknown if inside else HisUnavailable):
            await lane.transact(work, may_commit_inside=inside)
        assert lane.stats().open_sessions == 0
        assert pg.look("SELECT sum(taken) FROM slot") == [(0,)]
        assert (await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))).changed == 2


async def test_read_lost_on_a_fresh_connection_is_not_repeated(pg: Bed) -> None:
    calls: list[int] = []

    def work(session: Session) -> None:
        calls.append(1)
        _terminate(pg)
        session.run("SELECT 1", {}, max_rows=1)

    async with pg.lane() as lane:
        with pytest.raises(HisUnavailable):
            await lane.run(work)
    assert calls == [1]


@pytest.mark.parametrize("deliver", [True, False])
async def test_cut_at_commit_is_unknown(wire: tuple[Bed, TcpProxy], deliver: bool) -> None:
    """The agent cannot tell the two apart, and the database differs: that is why it must ask, not guess."""
    bed, proxy = wire
    async with bed.lane(read_only=False) as lane:
        proxy.cut_at(b"COMMIT", deliver=deliver)
        with pytest.raises(OutcomeUnknown):
            await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
        assert await asyncio.to_thread(proxy.drained.wait, 10)
        assert bed.look("SELECT sum(taken) FROM slot") == [(2 if deliver else 0,)]
        assert (await lane.run(lambda s: s.run("SELECT 1", {}, max_rows=1))).rows[0] == (1,)


@pytest.mark.parametrize("statement", [b"BEGIN", b"UPDATE"])
async def test_cut_before_commit_is_nothing(wire: tuple[Bed, TcpProxy], statement: bytes) -> None:
    bed, proxy = wire
    async with bed.lane(read_only=False) as lane:
        proxy.cut_at(statement)
        with pytest.raises(HisUnavailable):
            await lane.transact(lambda s: s.run("UPDATE slot SET taken = 1", {}, max_rows=1))
        assert await asyncio.to_thread(proxy.drained.wait, 10)
        assert bed.look("SELECT sum(taken) FROM slot") == [(0,)]


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
        started.wait(5)
        engine.guard.clock = lambda: float("inf")  # as if its patience were over
        while not engine.guard.check() and thread.is_alive():
            thread.join(0.01)
        thread.join(5)
        assert faults == [Fault.LOST]
        assert not session.alive()
    engine.dispose()


async def test_changed_table_under_a_prepared_statement(pg: Bed) -> None:
    async with pg.lane() as lane:

        def work(session: Session) -> int:
            return len(session.run("SELECT * FROM slot", {}, max_rows=5).columns)

        for _ in range(10):
            assert await lane.run(work) == 2
        pg.look("ALTER TABLE slot ADD COLUMN note text")
        assert await lane.run(work) == 3
