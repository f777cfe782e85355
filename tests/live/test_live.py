"""Opt-in: SQL Server and Oracle on a server of yours. Their urls also add both to ``tests/conformance/test_engines.py``.

    HIS160_TEST_MSSQL_URL="mssql://sa:password@10.1.1.5:1433/master?driver=freetds" \\
        python -m pytest tests/live tests/conformance/test_engines.py tests/conformance/packs -k "mssql or oracle"

The account must be allowed to create databases (SQL Server) or users (Oracle); everything is made under a random name
and dropped afterwards. Nothing of this has run where it was written: no such server could be had.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from his_db.engine import Engine, Fault, Parameter, ParameterKind, ProcedurePlan, Session
from his_db.errors import HisBusy
from his_db.source import engine_for
from tests.bounds import PATIENCE
from tests.engine_beds import Bed, opted_in_bed

IN, OUT, INOUT, RETURN = ParameterKind.IN, ParameterKind.OUT, ParameterKind.INOUT, ParameterKind.RETURN
MSSQL = (
    """CREATE PROCEDURE usp_lock @id int, @who nvarchar(40), @n int OUTPUT, @msg nvarchar(80) OUTPUT AS
       BEGIN
         SELECT 'F' AS flag, N'号已满' AS msg;
         UPDATE slot SET taken = 1 WHERE id = @id AND taken = 0;
         DECLARE @rc int = CASE WHEN @@ROWCOUNT = 1 THEN 0 ELSE -1 END;
         SELECT @n = @n + 1, @msg = @who + N'：好';
         SELECT id FROM slot ORDER BY id;
         RETURN @rc;
       END""",
    "CREATE PROCEDURE usp_raise @who nvarchar(40) AS"
    " BEGIN DECLARE @t nvarchar(99) = @who + N' 已在黑名单'; RAISERROR(@t, 16, 1); END",
    "CREATE FUNCTION fn_add(@a int, @b int) RETURNS int AS BEGIN RETURN @a + @b; END",
    "CREATE TABLE moment (a datetime2(7), b datetime, c varchar(40), d nvarchar(4000))",
)
ORACLE = (
    """CREATE PROCEDURE usp_lock(p_id NUMBER, p_who VARCHAR2, io_n IN OUT NUMBER, o_msg OUT VARCHAR2, o_rc OUT NUMBER,
                                 o_rows OUT SYS_REFCURSOR) AS
       BEGIN
         UPDATE slot SET taken = 1 WHERE id = p_id AND taken = 0;
         o_rc := CASE WHEN SQL%ROWCOUNT = 1 THEN 0 ELSE -1 END;
         io_n := io_n + 1; o_msg := p_who || '：好';
         OPEN o_rows FOR SELECT id FROM slot ORDER BY id;
       END;""",
    "CREATE PROCEDURE usp_raise(p_who VARCHAR2) AS BEGIN RAISE_APPLICATION_ERROR(-20001, p_who || ' 已在黑名单'); END;",
    "CREATE FUNCTION fn_add(a NUMBER, b NUMBER) RETURN NUMBER AS BEGIN RETURN a + b; END;",
    "CREATE TABLE moment (a TIMESTAMP(6), b DATE, c CHAR(10), d CLOB)",
)


@dataclass(frozen=True, slots=True)
class Live:
    """A bed with the procedures above, and one write session on it."""

    bed: Bed
    engine: Engine
    session: Session

    @property
    def plan(self) -> ProcedurePlan:
        if self.engine.name == "mssql":
            parameters = (
                Parameter("@id"),
                Parameter("@who"),
                Parameter("@n", INOUT, "int"),
                Parameter("@msg", OUT, "nvarchar(80)"),
                Parameter("rc", RETURN, "int"),
            )
        else:
            parameters = (
                Parameter("p_id"),
                Parameter("p_who"),
                Parameter("io_n", INOUT, "number"),
                Parameter("o_msg", OUT, "varchar2(80)"),
                Parameter("o_rc", OUT, "integer"),
                Parameter("o_rows", OUT, "sys_refcursor"),
            )
        return ProcedurePlan("usp_lock", parameters)


@pytest.fixture(params=["mssql", "oracle"])
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with ExitStack() as stack:
        bed = opted_in_bed(request.param, stack)
        for text in MSSQL if request.param == "mssql" else ORACLE:
            bed.look(text)
        engine = engine_for(bed.settings)
        stack.callback(engine.dispose)
        session = engine.open(read_only=False)
        stack.callback(session.close)
        yield Live(bed, engine, session)


def test_procedure(live: Live) -> None:
    names = [parameter.name for parameter in live.plan.parameters]
    for code in (0, -1):
        given: dict[str, Any] = {names[0]: 1, names[1]: "张三", names[2]: 41}
        result = live.session.call(live.plan, given, max_rows=5)
        assert (result.out[names[2]], result.out[names[3]], result.out[names[4]]) == (42, "张三：好", code)
        assert [row[0] for row in result.sets[-1].rows] == [1, 2]
    assert live.session.alive()


def test_function(live: Live) -> None:
    plan = ProcedurePlan(
        "dbo.fn_add" if live.engine.name == "mssql" else "fn_add",
        (Parameter("a"), Parameter("b"), Parameter("r", RETURN, "int")),
        function=True,
    )
    assert live.session.call(plan, {"a": 2, "b": 3}, max_rows=1).out == {"r": 5}


def test_the_his_says_no(live: Live) -> None:
    name = "@who" if live.engine.name == "mssql" else "p_who"
    with pytest.raises(live.engine.driver_errors) as caught:
        live.session.call(ProcedurePlan("usp_raise", (Parameter(name),)), {name: "张三"}, max_rows=1)
    assert live.engine.classify(caught.value, sent=True) is Fault.CONSTRAINT
    assert live.engine.sentence(caught.value) == "张三 已在黑名单"
    assert "张三" not in live.engine.describe(caught.value)


def test_moments_and_long_texts(live: Live) -> None:
    """``datetime2(7)`` keeps microseconds only when the driver knows the type: this is its round trip."""
    values = {
        "a": datetime(2026, 1, 2, 3, 4, 5, 678901),
        "b": datetime(2026, 1, 2, 3, 4, 5),
        "c": "x",
        "d": "张" * 3000,
    }
    live.session.run("INSERT INTO moment VALUES (:a, :b, :c, :d)", values, max_rows=1)
    row = live.session.run("SELECT a, b, c, d FROM moment WHERE b = :b", {"b": values["b"]}, max_rows=1).rows[0]
    assert row[:2] == (values["a"], values["b"])
    assert row[2].rstrip() == "x"
    assert row[3] == values["d"]


def test_decimals(live: Live) -> None:
    live.session.run("INSERT INTO patient (id, fee) VALUES (1, :f)", {"f": Decimal("0.10")}, max_rows=1)
    fee = live.session.run("SELECT fee FROM patient WHERE fee = :f", {"f": Decimal("0.1")}, max_rows=1).rows[0][0]
    assert (type(fee), fee) == (Decimal, Decimal("0.10"))


async def test_deadlock_is_busy(live: Live) -> None:
    meet = threading.Barrier(2)

    def crossing(first: int, second: int) -> Callable[[Session], None]:
        def work(session: Session) -> None:
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": first}, max_rows=1)
            meet.wait(PATIENCE)
            session.run("UPDATE slot SET taken = 1 WHERE id = :i", {"i": second}, max_rows=1)

        return work

    engine = live.bed.engine(lock_timeout=timedelta(seconds=20), statement_timeout=timedelta(seconds=30))
    async with live.bed.lane(engine, read_only=False, workers=2) as lane:
        results = await asyncio.gather(
            lane.transact(crossing(1, 2)), lane.transact(crossing(2, 1)), return_exceptions=True
        )
        assert lane.stats().faults == {"deadlock": 1}
    assert [type(result) for result in results if result is not None] == [HisBusy]
