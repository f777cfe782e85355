"""kind = "procedure": result sets, cursors, outcomes by code and by text, on a scripted session and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import appointment_pb2, catalog_pb2, reason_pb2

from his_db.engine import ProcedurePlan, ProcedureResult, Rows, Session, SourceSettings
from his_db.errors import HisBusy, HisRefused, MappingMismatch, OutcomeUnknown
from his_db.generation import CompiledOperation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import engine_for

NOW = datetime(2026, 3, 2, 9, 30)
WINNING = """
schema = 1
operation = "AppointmentService.LockSlot"
kind = "procedure"
object = "usp_yy_lockno"
params = [ { name = "@ddh", from = "order_no" } ]
[outcome]
from = { column = "column1" }
text = { column = "column2" }
ok = ["T"]
errors = [
  { is = "F", text = "已被他人占用", reason = "SLOT_TAKEN" },
  { text = "占用", reason = "NO_SLOT_LEFT" },
  { is = "F", text = "稍后", reason = "HIS_BUSY", retry = "2s" },
  { is = "F", reason = "HIS_REFUSED" },
]
otherwise = "unknown"
[[result]]
into = "lock"
fields = [
  { to = "lock_id", column = "column2" },
  { to = "fee_fen", column = "column3", money = "yuan" },
  { to = "expire_time", column = "column4", datetime = "%Y%m%d%H:%M:%S" },
]
"""
CURSORS = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "procedure"
object = "his.usp_ks"
params = [
  { name = "p_branch", from = "branch", type = "varchar" },
  { name = "o_code", dir = "out", type = "int" },
  { name = "o_doctors", dir = "out", type = "refcursor" },
  { name = "o_depts", dir = "out", type = "refcursor" },
]
[outcome]
from = "o_code"
ok = [0]
otherwise = "unknown"
[[result]]
set = "o_depts"
fields = [ { to = "department_id", column = "id" }, { to = "name", column = "name" }, { to = "branch", column = "p_branch" } ]
"""
CREATE = """
CREATE SCHEMA his;
CREATE PROCEDURE his.usp_ks(IN p_branch varchar, OUT o_code int, INOUT o_doctors refcursor, INOUT o_depts refcursor)
LANGUAGE plpgsql AS $$
BEGIN
  o_code := CASE p_branch WHEN 'x' THEN 9 WHEN 'n' THEN NULL ELSE 0 END;
  o_doctors := 'doctors'; o_depts := 'depts';
  OPEN o_doctors FOR SELECT 'D1' AS id, '张三' AS name;
  OPEN o_depts FOR SELECT * FROM (VALUES ('01  ', '内科'), ('02', '外科')) AS t(id, name);
END $$;
"""


class Scripted:
    """Answers every call with one result."""

    def __init__(self, *sets: Rows, **out: Any) -> None:
        self.result = ProcedureResult(out, sets)

    def call(self, plan: ProcedurePlan, values: Any, *, max_rows: int) -> ProcedureResult:
        return self.result


def scripted(*sets: Rows, **out: Any) -> Session:
    found: Any = Scripted(*sets, **out)
    return found  # type: ignore[no-any-return]


def operation(folder: Path, text: str, engine: str = "postgresql") -> CompiledOperation:
    (folder / "a.toml").write_text(text, encoding="utf-8")
    found = load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai")
    return next(iter(compile_generation(found).operations.values()))


def unnamed(*values: Any) -> Rows:
    return Rows(("",) * len(values), [values], -1)


LOCK = appointment_pb2.LockSlotRequest(request_id="r", order_no="T1", slot_id="S1")


def test_a_row_without_names_is_read_by_place(tmp_path: Path) -> None:
    """卫宁: `select "T", sjh, zje` gives columns without a name, after stray sets."""
    stray = Rows(("msg",), [("建表",)], -1)
    session = scripted(Rows((), (), 1), stray, unnamed("T", "L1", 12.5, "2026030209:40:00"))
    answer: Any = operation(tmp_path, WINNING, "mssql").run(session, LOCK, now=NOW)
    assert (answer.lock.lock_id, answer.lock.fee_fen) == ("L1", 1250)


@pytest.mark.parametrize(
    ("row", "error", "reason"),
    [
        (("F", "该号已被他人占用!"), HisRefused, reason_pb2.REASON_SLOT_TAKEN),
        (("F", "占用"), HisRefused, reason_pb2.REASON_NO_SLOT_LEFT),
        (("X", "占用"), HisRefused, reason_pb2.REASON_NO_SLOT_LEFT),
        (("F", "请稍后"), HisBusy, reason_pb2.REASON_HIS_BUSY),
        (("F", None), HisRefused, reason_pb2.REASON_HIS_REFUSED),
        ((None, None), OutcomeUnknown, reason_pb2.REASON_OUTCOME_UNKNOWN),
        (("", ""), OutcomeUnknown, reason_pb2.REASON_OUTCOME_UNKNOWN),
        (("F",), MappingMismatch, reason_pb2.REASON_MAPPING_MISMATCH),
        ((), MappingMismatch, reason_pb2.REASON_MAPPING_MISMATCH),
    ],
)
def test_texts_decide_in_order(tmp_path: Path, row: Sequence[Any], error: type[Exception], reason: int) -> None:
    sets = (unnamed(*row),) if row else ()
    with pytest.raises(error) as caught:
        operation(tmp_path, WINNING, "mssql").run(scripted(*sets), LOCK, now=NOW)
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert "占用" not in str(caught.value)


def test_a_parameter_that_does_not_come_back_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingMismatch, match="no value for the parameter o_code"):
        operation(tmp_path, CURSORS).run(scripted(), catalog_pb2.ListDepartmentsRequest(), now=NOW)


def test_a_read_with_an_unknown_code_is_a_mismatch(tmp_path: Path) -> None:
    for code in (9, None, "x"):
        with pytest.raises(MappingMismatch, match="a code that the mapping does not know"):
            operation(tmp_path, CURSORS).run(scripted(o_code=code), catalog_pb2.ListDepartmentsRequest(), now=NOW)


def test_cursors_of_postgresql(tmp_path: Path, postgresql_database: Callable[[], SourceSettings]) -> None:
    engine = engine_for(postgresql_database())
    session = engine.open(read_only=False)
    try:
        session.run(CREATE.partition(";")[0], {}, max_rows=1)
        session.run(CREATE.partition(";")[2], {}, max_rows=1)
        compiled = operation(tmp_path, CURSORS)
        session.begin()
        answer: Any = compiled.run(session, catalog_pb2.ListDepartmentsRequest(branch="东"), now=NOW)
        found = [(item.department_id, item.name, item.branch) for item in answer.departments]
        assert found == [("01", "内科", "东"), ("02", "外科", "东")]
        for branch in ("x", "n"):
            session.rollback()  # closes the cursors
            session.begin()
            with pytest.raises(MappingMismatch, match="a code that the mapping does not know"):
                compiled.run(session, catalog_pb2.ListDepartmentsRequest(branch=branch), now=NOW)
        session.rollback()
    finally:
        session.close()
        engine.dispose()


COMMITTED = """
schema = 1
operation = "AppointmentService.CancelAppointment"
kind = "procedure"
object = "usp_qx"
commits = "{commits}"
params = [ {{ name = "@ddh", from = "order_no" }}, {{ name = "@rc", dir = "return" }} ]
{answer}
[outcome]
from = "@rc"
ok = [0]
errors = [ {{ is = 1, reason = "ALREADY_PAID" }} ]
otherwise = "unknown"
{result}
"""
RESULT = """
[[result]]
fields = [ { to = "appointment.appointment_id", column = "id" }, { to = "appointment.state", column = "zt" } ]
"""
GET = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT id, zt FROM t WHERE id = :order_no"
"""


class Empty(Scripted):
    """And every SELECT gives nothing."""

    def run(self, sql: str, values: Any, *, max_rows: int) -> Rows:
        return Rows(("id", "zt"), [], -1)


@pytest.mark.parametrize("commits", ["caller", "procedure", "unknown"])
@pytest.mark.parametrize("by_answer", [False, True])
def test_nothing_to_answer_with_after_a_commit_is_no_refusal(tmp_path: Path, commits: str, by_answer: bool) -> None:
    answer = 'answer = { read = "AppointmentService.GetAppointment", to = "appointment" }' if by_answer else ""
    text = COMMITTED.format(commits=commits, answer="", result="" if by_answer else RESULT)
    text = text.replace("kind =", f"{answer}\nkind =", 1)
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    (tmp_path / "b.toml").write_text(GET + RESULT, encoding="utf-8")
    found = load_mapping_set(tmp_path, sources={"his": "mssql"}, timezone="Asia/Shanghai")
    compiled = compile_generation(found).operation("AppointmentService.CancelAppointment")
    request = appointment_pb2.CancelAppointmentRequest(request_id="r", order_no="T1")
    session: Any = Empty(Rows(("id", "zt"), [], -1), **{"@rc": 0})
    with pytest.raises(HisRefused if commits == "caller" else OutcomeUnknown) as caught:
        compiled.run(session, request, now=NOW)
    assert type(caught.value) is (HisRefused if commits == "caller" else OutcomeUnknown)
    refused: Any = Empty(**{"@rc": 1})
    with pytest.raises(HisRefused):
        compiled.run(refused, request, now=NOW)
