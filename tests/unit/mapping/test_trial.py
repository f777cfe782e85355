"""`[[test]]` of mapping files: every kind, what passes, and where a failure is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from his_db.mapping.load import MappingSet, load_mapping_set
from his_db.mapping.trial import TestOutcome, run_tests

PACKS = Path(__file__).parents[3] / "his_db/packs"
GET = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "SELECT id, zt, rq, je, bz FROM t WHERE id = :order_no"
[[result]]
fields = [
  { to = "appointment.appointment_id", column = "id" },
  { to = "appointment.state", column = "zt" },
  { to = "appointment.visit_date", column = "rq", date = "%Y%m%d" },
  { to = "appointment.total_fen", column = "je", money = "yuan" },
  { to = "appointment.note", column = "bz", charset = "gbk-raw" },
]
[[test]]
name = "已约"
given = { order_no = "T1" }
sends = { order_no = "T1" }
rows = [ { ID = "1", zt = "BOOKED", rq = "20260302", je = 12.3, bz = "张三" } ]
expect = { appointment = { state = "BOOKED", visit_date = "2026-03-02", total_fen = 1230, note = "张三", cancel_time = "" } }
[[test]]
name = "没有"
given = { order_no = "T1" }
expect = { reason = "APPOINTMENT_NOT_FOUND" }
"""
LOCK = """
schema = 1
operation = "AppointmentService.LockSlot"
kind = "steps"
params = [ { name = "now", from = "$now", datetime = "%H:%M" } ]
[[step]]
name = "take"
sql = "UPDATE t SET a = :order_no, b = :now WHERE id = :slot_id"
expect_rows = 1
fails = "SLOT_TAKEN"
[[step]]
name = "read"
sql = "SELECT id, sj FROM t WHERE id = :slot_id"
[[diagnosis]]
sql = "SELECT 1 FROM t WHERE id = :slot_id AND tz = 1"
reason = "SCHEDULE_SUSPENDED"
[[result]]
into = "lock"
fields = [ { to = "lock_id", column = "id" }, { to = "expire_time", column = "sj" } ]
[[test]]
name = "锁到"
now = 2026-03-02 08:05:00
given = { order_no = "T1", slot_id = "S1" }
sends = { now = "08:05" }
rows = [ { id = 5, sj = 2026-03-02 08:15:00 } ]
expect = { "lock.lock_id" = "5", "lock.expire_time" = 2026-03-02 08:15:00 }
[[test]]
name = "被占"
steps = { take = 0 }
expect = { reason = "SLOT_TAKEN" }
[[test]]
name = "停诊"
changed = 0
diagnosis = 1
expect = { reason = "SCHEDULE_SUSPENDED" }
"""
BOOK = """
schema = 1
operation = "AppointmentService.BookAppointment"
kind = "procedure"
object = "usp_yy"
answer = { read = "AppointmentService.GetAppointment", to = "appointment" }
params = [ { name = "@ddh", from = "order_no" }, { name = "@rc", dir = "return", type = "int" }, { name = "@msg", dir = "out" } ]
[outcome]
from = "@rc"
text = "@msg"
ok = [0]
errors = [ { text = "已被占用", reason = "SLOT_TAKEN" } ]
otherwise = "unknown"
[[test]]
name = "成功"
given = { order_no = "T1" }
returns = { "@rc" = 0 }
answers = [ [ { id = "1", zt = "BOOKED", rq = "20260302" } ] ]
expect = { appointment = { appointment_id = "1" } }
[[test]]
name = "被占"
returns = { rc = -1, "@msg" = "该号已被占用" }
expect = { reason = "SLOT_TAKEN", text = "该号已被占用" }
[[test]]
name = "不明"
expect = { reason = "OUTCOME_UNKNOWN" }
"""
DEPARTMENTS = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "table"
object = "ks"
[[result]]
fields = [ { to = "department_id", column = "code" }, { to = "name", column = "name" } ]
[[test]]
name = "两个"
rows = [ { code = "01 ", name = "内科" }, { code = "02", name = "外科" } ]
expect = { "departments.1.name" = "外科", departments = [ { department_id = "01" }, { department_id = "02" } ] }
"""
CANCEL = """
schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "http"
source = "pay"
headers = [ { name = "Authorization", value = "@env:HIS160_NOT_THERE" } ]
body = '{"no": {{order_no}}}'
[outcome]
from = "code"
ok = [0]
otherwise = "HIS_REFUSED"
[[result]]
fields = [ { to = "lock_id", column = "data.id" } ]
[[test]]
name = "成功"
given = { order_no = "T1" }
sends = { body = '{"no": "T1"}' }
reply = '{"code": 0, "data": {"id": 7}}'
expect = { lock_id = "7" }
[[test]]
name = "拒绝"
reply = '{"code": 1}'
expect = { reason = "HIS_REFUSED" }
[[test]]
name = "出错"
status = 500
expect = { reason = "OUTCOME_UNKNOWN" }
"""
REFUND = """
schema = 1
operation = "PaymentService.RefundPayment"
kind = "unsupported"
why = "不支持"
[[test]]
name = "不支持"
expect = { reason = "OPERATION_NOT_MAPPED" }
"""
WATCH = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
platform_operators = ["jk160"]
vanish = "event"
sql = "SELECT id, zt, czy, sj FROM t"
fields = [
  { to = "appointment_id", column = "id" }, { to = "state", column = "zt" },
  { to = "operator_id", column = "czy" }, { to = "cancel_time", column = "sj" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED and operator_id not in platform_operators"
occurred = "cancel_time"
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> gone"
[[test]]
name = "窗口取消"
before = { id = "1", zt = "BOOKED" }
after = { id = "1", zt = "CANCELLED", czy = "0931", sj = 2026-03-02 09:00:00 }
expect = { event = "CANCELLED", occurred = "2026-03-02 09:00", operator_id = "0931" }
[[test]]
name = "平台取消"
before = { id = "1", zt = "BOOKED" }
after = { id = "1", zt = "CANCELLED", czy = "jk160" }
expect = { event = "none" }
[[test]]
name = "消失"
before = { id = "1", zt = "BOOKED" }
expect = { event = "CANCELLED" }
[[test]]
name = "新建"
after = { id = "1", zt = "BOOKED" }
expect = { event = "none" }
"""
SET = (GET, LOCK, BOOK, DEPARTMENTS, CANCEL, REFUND, WATCH)


def load(folder: Path, *texts: str) -> MappingSet:
    for at, text in enumerate(texts):
        (folder / f"{at}.toml").write_text(text, encoding="utf-8")
    return load_mapping_set(folder, sources={"his": "sqlite", "pay": "http"}, timezone="Asia/Shanghai")


def told(outcomes: list[TestOutcome]) -> list[str]:
    return [f"{item.name}: {problem.place} {problem.message}" for item in outcomes for problem in item.problems]


def test_every_kind_passes(tmp_path: Path) -> None:
    outcomes = run_tests(load(tmp_path, *SET))
    assert told(outcomes) == []
    assert len(outcomes) == sum(text.count("[[test]]") for text in SET)
    assert all(outcome.passed for outcome in outcomes)


@pytest.mark.parametrize(("lock", "until", "before"), [('lock = "25m"\n', "08:30", "07:40"), ("", "08:15", "07:55")])
def test_how_long_a_hold_lives_is_said_by_the_file(tmp_path: Path, lock: str, until: str, before: str) -> None:
    """`lock` moves `$lock_until` and `$lock_before`; ten minutes where nothing is said."""
    text = LOCK.replace('kind = "steps"\n', f'kind = "steps"\n{lock}').replace(
        'params = [ { name = "now", from = "$now", datetime = "%H:%M" } ]',
        'params = [ { name = "now", from = "$lock_until", datetime = "%H:%M" }, '
        '{ name = "old", from = "$lock_before", datetime = "%H:%M" } ]',
    )
    text = text.replace("b = :now WHERE id = :slot_id", "b = :now WHERE id = :slot_id AND b < :old")
    text = text.replace('sends = { now = "08:05" }', f'sends = {{ now = "{until}", old = "{before}" }}')
    assert told(run_tests(load(tmp_path, text))) == []


@pytest.mark.parametrize(
    ("text", "right", "wrong", "message"),
    [
        (GET, "total_fen = 1230", "total_fen = 1231", "expected 1231, found 1230"),
        (GET, 'visit_date = "2026-03-02"', 'visit_date = "2026-03-03"', "expected 2026-03-03, found 2026-03-02"),
        (GET, 'sends = { order_no = "T1" }', 'sends = { order_no = "T2" }', "expected T2, found T1"),
        (GET, 'sends = { order_no = "T1" }', 'sends = { ordr = "T2" }', "expected T2, found no such bind"),
        (GET, "APPOINTMENT_NOT_FOUND", "HIS_BUSY", "expected HIS_BUSY, found APPOINTMENT_NOT_FOUND"),
        (GET, 'rq = "20260302"', 'rq = "2026"', "the call failed: MAPPING_MISMATCH"),
        (GET, 'expect = { reason = "APPOINTMENT_NOT_FOUND" }', "expect = {}", "the call failed: APPOINTMENT_NOT_FOUND"),
        (LOCK, "steps = { take = 0 }", "steps = { take = 1 }", "expected SLOT_TAKEN, found MAPPING_MISMATCH"),
        (BOOK, 'text = "该号已被占用" }', 'text = "x" }', "expected x, found 该号已被占用"),
        (DEPARTMENTS, '{ department_id = "02" } ]', "]", "expected 1 items, found 2 items"),
        (WATCH, 'czy = "jk160"', 'czy = "x"', "expected none, found CANCELLED"),
        (WATCH, '"2026-03-02 09:00"', '"2026-03-02 09:01"', "expected 2026-03-02 09:01, found 2026-03-02 09:00:00"),
        (WATCH, "sj = 2026-03-02 09:00:00", 'sj = "neun"', "the call failed: MAPPING_MISMATCH"),
    ],
)
def test_failures_say_where(tmp_path: Path, text: str, right: str, wrong: str, message: str) -> None:
    assert right in text
    changed = text.replace(right, wrong, 1)
    found = told(run_tests(load(tmp_path, *(changed if each is text else each for each in SET))))
    assert any(message in line for line in found), found
    assert all(f"{SET.index(text)}.toml:" in line for line in found)


def test_a_reason_that_did_not_come(tmp_path: Path) -> None:
    changed = LOCK.replace("steps = { take = 0 }", "rows = [ { id = 1, sj = 2026-03-02 08:15:00 } ]")
    assert any("found a LockSlotResponse" in line for line in told(run_tests(load(tmp_path, changed))))


@pytest.mark.parametrize(("pack", "engine"), [("zebone", "sqlite"), ("winning", "postgresql")])
def test_the_packs_pass_their_tests(pack: str, engine: str) -> None:
    found = load_mapping_set(PACKS / pack / "mappings", sources={"his": engine}, timezone="Asia/Shanghai")
    outcomes = run_tests(found)
    assert told(outcomes) == []
    assert len(outcomes) >= 20
    tested = {outcome.mapping for outcome in outcomes}
    writes = {name for name, mapping in found.operations.items() if not mapping.operation.is_read}
    assert writes | found.watches.keys() <= tested
