"""What is MySQL's and MariaDB's own: types, row counts, session settings, procedures, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pymysql
import pytest

from his_db.engine import Engine, Fault, Parameter, ParameterKind, ProcedurePlan, Session
from his_db.errors import OutcomeUnknown
from tests.bounds import PATIENCE
from tests.engine_beds import Bed, bed_of, fault_of
from tests.servers import MariadbServer

IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN
PROCEDURES = (
    """CREATE PROCEDURE usp_lock(p_id INT, p_who VARCHAR(40), INOUT io_n INT, OUT o_code INT, OUT o_msg VARCHAR(40),
                                 OUT o_at DATETIME, OUT o_fee DECIMAL(10, 2)) BEGIN
         UPDATE slot SET taken = 1 WHERE id = p_id AND taken = 0;
         SET o_code = IF(ROW_COUNT() = 1, 0, -1), io_n = io_n + 1, o_msg = CONCAT(p_who, '：好'),
             o_at = '2026-01-02 03:04:05', o_fee = 12.5;
       END""",
    """CREATE PROCEDURE usp_sets(n INT, OUT o INT) BEGIN
         SELECT 'F' AS flag, '号已满' AS msg; UPDATE slot SET taken = 1; SELECT seq FROM many WHERE seq <= n; SET o = n;
       END""",
    "CREATE PROCEDURE usp_signal(p VARCHAR(40)) BEGIN DECLARE t VARCHAR(99) DEFAULT CONCAT(p, ' 已在黑名单');"
    " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = t; END",
    "CREATE PROCEDURE usp_own_number(p INT) SIGNAL SQLSTATE '45001' SET MYSQL_ERRNO = 45001, MESSAGE_TEXT = '张三不能退号'",
    "CREATE PROCEDURE usp_commits(p_id INT) BEGIN UPDATE slot SET taken = 1 WHERE id = p_id; COMMIT;"
    " SELECT count(*) FROM many a, many b, many c, many d; END",
    "CREATE FUNCTION fn_add(a INT, b INT) RETURNS INT DETERMINISTIC RETURN a + b",
)


@pytest.fixture
def bed(request: pytest.FixtureRequest) -> Bed:
    return bed_of("mysql", request)


@pytest.fixture
def opened(bed: Bed) -> Iterator[Callable[..., tuple[Engine, Any]]]:
    held: list[tuple[Engine, Session]] = []

    def open_one(*, read_only: bool = False, **changes: Any) -> tuple[Engine, Any]:
        engine = bed.engine(**changes)
        held.append((engine, engine.open(read_only=read_only)))
        return held[-1]

    yield open_one
    for engine, session in held:
        session.close()
        engine.dispose()


@pytest.fixture
def called(bed: Bed, opened: Any) -> tuple[Engine, Any, Bed]:
    bed.look("CREATE TABLE many (seq INT PRIMARY KEY)")
    bed.look("INSERT INTO many VALUES " + ", ".join(f"({n})" for n in range(1, 301)))
    for text in PROCEDURES:
        bed.look(text)
    return (*opened(), bed)


def test_types(bed: Bed, opened: Any) -> None:
    """Zero dates never crash and are never mistaken for a date."""
    bed.look(
        "CREATE TABLE t (b BIT(1), b9 BIT(9), f TINYINT(1), d DATE, dt DATETIME(6), ti TIME, de DECIMAL(20, 6),"
        " n VARCHAR(20), x BLOB, e ENUM('甲', '乙'), u BIGINT UNSIGNED, y YEAR)"
    )
    bed.look(
        "SET STATEMENT sql_mode = '' FOR INSERT INTO t VALUES (b'1', b'100000001', 2, '0000-00-00', '2026-00-01',"
        " '-25:00:01', 12345678901234.567890, '𠅤', X'00FF', '乙', 18446744073709551615, 2026)"
    )
    _, session = opened(read_only=True)
    row = session.run("SELECT * FROM t WHERE d = '0000-00-00'", {}, max_rows=1).rows[0]
    assert row == (
        1, 257, 2, "0000-00-00", "2026-00-01 00:00:00.000000", -timedelta(hours=25, seconds=1),
        Decimal("12345678901234.567890"), "𠅤", b"\x00\xff", "乙", 18446744073709551615, 2026,
    )  # fmt: skip
    sql = "SELECT :a, :b, :c, :d, :e, :f"
    values = {"a": True, "b": timedelta(hours=8), "c": datetime(2026, 1, 2, 3, 4, 5, 678), "d": Decimal("0.10"),
              "e": b"\x00'", "f": date(2026, 1, 2)}  # fmt: skip
    assert session.run(sql, values, max_rows=1).rows[0] == (
        1, "08:00:00", "2026-01-02 03:04:05.000678", Decimal("0.10"), b"\x00'", "2026-01-02"
    )  # fmt: skip


def test_row_counts_are_matched_rows(opened: Any) -> None:
    """A guarded step that finds its row in the wanted state already has not failed."""
    _, session = opened()
    for _ in range(2):
        assert session.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1).changed == 1
    assert session.run("UPDATE slot SET taken = 1 WHERE id = 9", {}, max_rows=1).changed == 0


def test_literals_with_backslashes_and_hash_comments(opened: Any) -> None:
    _, session = opened(read_only=True)
    sql = "SELECT 'it\\'s :a', \"x\\\":b\", :c # :d\n"
    assert session.run(sql, {"c": "\\'; DROP TABLE slot; -- %s"}, max_rows=1).rows == [
        ("it's :a", 'x":b', "\\'; DROP TABLE slot; -- %s")
    ]


def test_session_settings(opened: Any) -> None:
    engine, session = opened(read_only=True, lock_timeout=timedelta(milliseconds=2100))
    wanted = ("tx_isolation", "innodb_lock_wait_timeout", "character_set_client", "tx_read_only", "autocommit")
    if "MariaDB" not in engine.server_version(session):
        wanted = ("transaction_isolation", *wanted[1:3], "transaction_read_only", "autocommit")
    sql = "SELECT " + ", ".join(f"@@{name}" for name in wanted) + ", @@sql_mode, @@time_zone"
    row = session.run(sql, {}, max_rows=1).rows[0]
    assert row[:5] == ("READ-COMMITTED", 3, "utf8mb4", 1, 1)
    assert "STRICT_TRANS_TABLES" in row[5]
    assert "ANSI" not in row[5]
    assert row[6] in ("Asia/Shanghai", "+08:00")
    _, plain = opened(options={"sql_mode": "server"})
    assert plain.run("SELECT @@sql_mode = @@global.sql_mode", {}, max_rows=1).rows == [(1,)]


def test_a_million_rows_cost_little(bed: Bed, opened: Any) -> None:
    """A result that nobody will read costs the connection, not the memory and not the wait."""
    bed.look("CREATE TABLE d (n INT)")
    bed.look("INSERT INTO d VALUES " + ", ".join(f"({n})" for n in range(100)))
    _, session = opened(read_only=True)
    rows = session.run("SELECT a.n FROM d a, d b, d c, d e", {}, max_rows=10)  # 100,000,000
    assert len(rows.rows) == 11
    assert not session.alive()


def test_too_long_text_is_refused_not_cut(opened: Any) -> None:
    engine, session = opened()
    sql = "INSERT INTO patient (id, name) VALUES (1, :n)"
    assert fault_of(engine, lambda: session.run(sql, {"n": "张" * 41}, max_rows=1)) is Fault.DATA


def test_procedure_in_out_inout(called: tuple[Engine, Any, Bed]) -> None:
    _, session, bed = called
    plan = ProcedurePlan(
        f"{bed.settings.database}.usp_lock",
        (
            Parameter("p_id"),
            Parameter("p_who"),
            Parameter("io_n", INOUT, "int"),
            Parameter("o_code", OUT, "int"),
            Parameter("o_msg", OUT, "varchar(40)"),
            Parameter("o_at", OUT, "datetime"),
            Parameter("o_fee", OUT, "decimal(10,2)"),
        ),
    )
    for code in (0, -1):
        result = session.call(plan, {"p_id": 1, "p_who": "张'三", "io_n": 41}, max_rows=1)
        assert dict(result.out) == {
            "io_n": 42, "o_code": code, "o_msg": "张'三：好", "o_at": datetime(2026, 1, 2, 3, 4, 5),
            "o_fee": Decimal("12.50"),
        }  # fmt: skip
        assert result.sets == ()


def test_several_result_sets_are_drained(called: tuple[Engine, Any, Bed]) -> None:
    _, session, _ = called
    plan = ProcedurePlan("usp_sets", (Parameter("n"), Parameter("o", OUT, "int")))
    for _ in range(2):
        result = session.call(plan, {"n": 300}, max_rows=5)
        assert [(rows.columns, len(rows.rows)) for rows in result.sets] == [(("flag", "msg"), 1), (("seq",), 6)]
        assert result.out == {"o": 300}
    assert session.run("SELECT 1", {}, max_rows=1).rows == [(1,)]


def test_function(called: tuple[Engine, Any, Bed]) -> None:
    _, session, _ = called
    plan = ProcedurePlan("fn_add", (Parameter("a"), Parameter("b"), Parameter("r", RETURN)), function=True)
    assert session.call(plan, {"a": 2, "b": 3}, max_rows=1).out == {"r": 5}


@pytest.mark.parametrize(
    ("plan", "values", "fault", "sentence"),
    [
        (ProcedurePlan("usp_none", (Parameter("p"),)), {"p": 1}, Fault.SCHEMA, ""),
        (ProcedurePlan("usp_own_number", ()), {}, Fault.SCHEMA, ""),
        (ProcedurePlan("usp_signal; DROP TABLE slot", ()), {}, Fault.SCHEMA, ""),
        (ProcedurePlan("fn_add", (Parameter("o", OUT),), function=True), {}, Fault.SCHEMA, ""),
        (ProcedurePlan("usp_signal", (Parameter("r", RETURN),)), {}, Fault.SCHEMA, ""),
        (ProcedurePlan("usp_own_number", (Parameter("p"),)), {"p": "壹"}, Fault.DATA, ""),
        (ProcedurePlan("usp_signal", (Parameter("p"),)), {"p": "张三"}, Fault.CONSTRAINT, "张三 已在黑名单"),
        (ProcedurePlan("usp_own_number", (Parameter("p"),)), {"p": 1}, Fault.CONSTRAINT, "张三不能退号"),
    ],
)
def test_calls_that_fail(called: tuple[Engine, Any, Bed], plan: Any, values: Any, fault: Fault, sentence: str) -> None:
    engine, session, _ = called
    with pytest.raises(engine.driver_errors) as caught:
        session.call(plan, values, max_rows=1)
    assert engine.classify(caught.value, sent=True) is fault
    assert "张三" not in engine.describe(caught.value)
    assert engine.sentence(caught.value) == sentence
    assert session.run("SELECT count(*) FROM slot", {}, max_rows=1).rows == [(2,)]


def test_a_reading_session_calls_nothing_that_writes(called: tuple[Engine, Any, Bed], opened: Any) -> None:
    engine, session = opened(read_only=True)
    plan = ProcedurePlan("usp_sets", (Parameter("n"), Parameter("o", OUT, "int")))
    assert fault_of(engine, lambda: session.call(plan, {"n": 1}, max_rows=1)) is Fault.READ_ONLY


async def test_a_procedure_that_commits_itself(called: tuple[Engine, Any, Bed]) -> None:
    _, _, bed = called
    plan = ProcedurePlan("usp_commits", (Parameter("p_id"),))
    engine = bed.engine(statement_timeout=timedelta(milliseconds=200))
    async with bed.lane(engine, read_only=False) as lane:
        with pytest.raises(OutcomeUnknown):
            await lane.transact(lambda s: s.call(plan, {"p_id": 1}, max_rows=1), may_commit_inside=True)
        assert bed.look("SELECT taken FROM slot WHERE id = 1") == [(1,)]


def test_rights(bed: Bed, mariadb_server: MariadbServer) -> None:
    user = f"r_{bed.settings.database}"[-30:]
    bed.look(f"CREATE USER `{user}`@`%` IDENTIFIED BY 'x'")
    try:
        bed.look(f"GRANT SELECT ON `{bed.settings.database}`.patient TO `{user}`@`%`")
        engine = bed.engine(user=user, password="x")
        with closing(engine.open(read_only=True)) as session:
            assert fault_of(engine, lambda: session.run("SELECT * FROM slot", {}, max_rows=1)) is Fault.RIGHTS
            assert session.run("SELECT * FROM patient", {}, max_rows=1).columns
        engine.dispose()
        wrong = bed.engine(user=user, password="y")
        with pytest.raises(pymysql.Error) as caught:
            wrong.open(read_only=True)
        assert wrong.classify(caught.value, sent=False) is Fault.CONNECT
    finally:
        bed.look(f"DROP USER `{user}`@`%`")


def test_abort_ends_the_statement_on_the_server(bed: Bed, opened: Any) -> None:
    """A broken socket alone would leave it running, with its locks."""
    _, session = opened()
    session.begin()
    session.run("UPDATE slot SET taken = 1 WHERE id = 1", {}, max_rows=1)
    thread = threading.Timer(0.1, session.abort)
    thread.start()
    with pytest.raises(pymysql.Error):
        session.run("SELECT SLEEP(60)", {}, max_rows=1)
    thread.join()
    _, other = opened(lock_timeout=timedelta(seconds=5))
    assert other.run("UPDATE slot SET taken = 0 WHERE id = 1", {}, max_rows=1).changed == 1


def test_a_deadlock_that_was_swallowed_cannot_commit(opened: Any) -> None:
    """After a deadlock MySQL answers OK to COMMIT, of nothing."""
    _, first = opened(lock_timeout=timedelta(seconds=20))
    engine, second = opened(lock_timeout=timedelta(seconds=20))
    failures: list[Fault] = []
    meet = threading.Barrier(2)

    def crossing(session: Any, ids: tuple[int, int]) -> None:
        session.begin()
        session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": ids[0]}, max_rows=1)
        meet.wait(PATIENCE)
        try:
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": ids[1]}, max_rows=1)
        except pymysql.Error:
            failures.append(fault_of(engine, session.commit))
            session.rollback()
        else:
            session.commit()

    threads = [threading.Thread(target=crossing, args=pair) for pair in ((first, (1, 2)), (second, (2, 1)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == [Fault.DEADLOCK]
