"""One run of the check tells everything: no mistake hides another, and none makes up a second one.

A good set, and mistakes that a person makes in it. Each alone gives exactly its own problem; two together give both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest

from his_db.document.problem import DocumentError, Severity
from his_db.mapping.load import load_mapping_set

GOOD = {
    "catalog/list_slots.toml": '''schema = 1
operation = "CatalogService.ListSlots"
kind = "query"
timeout = "3s"
sql = """
SELECT t.PK_SCHTICKET AS pk, t.PK_SCH AS sch, t.TICKETNO AS no, t.B AS b, t.E AS e, t.FLAG AS flag
FROM SCH_TICKET t WHERE t.PK_SCH = :schedule_id ORDER BY t.PK_SCHTICKET
"""
[[result]]
fields = [
  { to = "slot_id", column = "pk" },
  { to = "schedule_id", column = "sch" },
  { to = "queue_no", column = "no" },
  { to = "free_count", const = 1 },
  { to = "begin_time", column = "b", time = "%H%M" },
  { to = "end_time", column = "e", time = "%H%M" },
  { to = "state", column = "flag", codes = "slot_state" },
]
''',
    "appointment/unlock_slot.toml": """schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "procedure"
object = "usp_yy_unlockno"
params = [
  { name = "ddh", from = "order_no" },
  { name = "czyh", const = "jk160" },
  { name = "rc", dir = "return", type = "int" },
  { name = "msg", dir = "out", type = "varchar(200)" },
]
[outcome]
from = "rc"
ok = [0]
text = "msg"
errors = [
  { is = -1, reason = "SLOT_TAKEN" },
  { is = -9, reason = "HIS_BUSY", retry = "2s" },
]
otherwise = "unknown"
[[result]]
fields = [ { to = "lock_id", column = "ddh" } ]
[[test]]
name = "被占"
given = { order_no = "T1" }
returns = { rc = -1, msg = "已被锁定" }
expect = { reason = "SLOT_TAKEN" }
""",
    "appointment/lock_slot.toml": """schema = 1
operation = "AppointmentService.LockSlot"
kind = "steps"
params = [
  { name = "now", from = "$now", datetime = "%Y-%m-%d %H:%M:%S" },
  { name = "fee", step = "look.fee" },
]
[[step]]
name = "look"
sql = "SELECT s.FEE AS fee FROM SCH_SCH s WHERE s.PK_SCH = :schedule_id"
[[step]]
name = "take"
sql = "UPDATE SCH_TICKET SET FLAG = 1, FEE = :fee, TS = :now WHERE PK_SCHTICKET = :slot_id AND FLAG = 0"
expect_rows = 1
fails = "SLOT_TAKEN"
[[step]]
name = "read"
sql_file = "read.sql"
result = true
[[diagnosis]]
after = "take"
sql = "SELECT 1 FROM SCH_SCH WHERE PK_SCH = :schedule_id AND FLAG_STOP = 1"
reason = "SCHEDULE_SUSPENDED"
[[result]]
fields = [
  { to = "lock.lock_id", column = "pk" },
  { to = "lock.slot_id", column = "pk" },
  { to = "lock.fee_fen", column = "fee", money = "yuan" },
  { to = "lock.expire_time", column = "until", datetime = "%Y-%m-%d %H:%M:%S" },
]
""",
    "appointment/read.sql": """SELECT t.PK_SCHTICKET AS pk, t.FEE AS fee, t.DATE_LOCKEND AS until -- 号源
FROM SCH_TICKET t WHERE t.PK_SCHTICKET = :slot_id
""",
    "codes/slot_state.toml": """schema = 1
codes = "slot_state"
note = "号源状态"
map = [
  { his = 0, is = "FREE" },
  { his = 1, is = "TAKEN" },
]
""",
    "watch/orders.toml": '''schema = 1
watch = "orders"
subject = "appointment"
window = { past_days = 1, future_days = 14 }
key = "appointment_id"
platform_operators = ["jk160"]
sql = """
SELECT a.XH AS xh, a.ZT AS zt, a.RQ AS rq, a.GH AS gh FROM YY a WHERE a.RQ BETWEEN :from_date AND :to_date
"""
fields = [
  { to = "appointment_id", column = "xh" },
  { to = "state", column = "zt" },
  { to = "visit_date", column = "rq", date = "%Y%m%d" },
  { to = "operator_id", column = "gh" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED and operator_id not in platform_operators"
''',
    "report/day.toml": """schema = 1
[report.R1]
title = "日对账"
sql = "SELECT b.RQ AS rq, b.JE AS je FROM BB b WHERE b.RQ BETWEEN :from_date AND :to_date ORDER BY b.RQ"
columns = [
  { name = "rq", title = "日期", kind = "date", date = "%Y%m%d" },
  { name = "je", title = "金额", kind = "fen", money = "yuan" },
]
schedule = "30 6 * * *"
[report.R2]
title = "退号"
sql = "SELECT b.RQ AS rq FROM TH b WHERE b.RQ BETWEEN :from_date AND :to_date ORDER BY b.RQ"
columns = [ { name = "rq", title = "日期", kind = "text" } ]
""",
}


@dataclass(frozen=True, slots=True)
class Slip:
    """`old` in `file` becomes `new`: what the check says of it."""

    file: str
    old: str
    new: str
    codes: tuple[str, ...]


def slip(file: str, old: str, new: str, *codes: str) -> Slip:
    return Slip(next(name for name in GOOD if file in name), old, new, codes)


SLIPS = (
    # keys and values of the wrong shape
    slip("list_slots", "timeout =", "tiemout =", "H120"),
    slip("list_slots", '"3s"', '"3 s"', "H127"),
    slip("list_slots", "[[result]]", "[[reslt]]", "H120"),
    slip("list_slots", '"no"', "7", "H122"),
    slip("list_slots", '"queue_no", column', '"queue_no", colum', "H120"),
    slip("unlock", 'otherwise = "unknown"', 'otherwize = "unknown"', "H120"),
    slip("unlock", 'dir = "return"', 'dir = "retrn"', "H123"),
    slip("unlock", 'retry = "2s"', "retry = 2", "H122"),
    slip("/lock_slot", "expect_rows = 1", 'expect_rows = "one"', "H122"),
    slip("/lock_slot", 'name = "take"', 'nmae = "take"', "H120"),
    slip("slot_state", "his = 1", "hsi = 1", "H120"),
    slip("orders", 'subject = "appointment"', 'subject = "apointment"', "H123"),
    slip("orders", "past_days = 1", "past_days = -1", "H125"),
    slip("day", 'kind = "fen"', 'kind = "yuan"', "H123"),
    # what the contract wants
    slip("list_slots", '  { to = "state", column = "flag", codes = "slot_state" },\n', "", "H209"),
    slip("list_slots", 'to = "slot_id"', 'to = "slotid"', "H208", "H209"),
    slip("list_slots", "slot_state", "slot_stat", "H215"),
    slip("unlock", "SLOT_TAKEN", "SLOT_TOOK", "H217"),
    slip("unlock", 'from = "rc"', 'from = "rcc"', "H224"),
    slip("unlock", 'from = "order_no"', 'from = "orderno"', "H207"),
    slip("/lock_slot", ', money = "yuan"', "", "H212"),
    slip("/lock_slot", "look.fee", "loook.fee", "H223"),
    slip("slot_state", '"TAKEN"', '"TOKEN"', "H213"),
    slip("orders", "state: BOOKED ->", "sate: BOOKED ->", "H225"),
    slip("orders", 'key = "appointment_id"', 'key = "order_no"', "H226"),
    # SQL
    slip("list_slots", "t.TICKETNO AS no", "t.TICKETNO AS nr", "H309"),
    slip("list_slots", ":schedule_id", ":schedul_id", "H221"),
    slip("/lock_slot", " WHERE PK_SCHTICKET = :slot_id AND FLAG = 0", "", "H303"),
    slip("/lock_slot", "SELECT 1 FROM SCH_SCH", "DELETE FROM SCH_SCH", "H301"),
    slip("/lock_slot", '"read.sql"', '"raed.sql"', "H228"),
    slip("orders", "SELECT a.XH", "EXEC xp_cmdshell 'x' -- a.XH", "H304", "H305"),
    slip("day", ' ORDER BY b.RQ"\ncolumns = [ {', '; DROP TABLE TH"\ncolumns = [ {', "H300", "H304"),
    slip("day", '"30 6 * * *"', '"30 66 * * *"', "H236"),
    # what is no TOML, one line each
    slip("list_slots", '"CatalogService.ListSlots"', "“CatalogService.ListSlots”", "H107"),
    slip("list_slots", '{ to = "queue_no", column = "no" }', '{ to = "queue_no" column = "no" }', "H101"),
    slip("slot_state", 'is = "FREE" }', "is = FREE }", "H108"),
    slip("orders", 'column = "gh" },', 'column = "gh" }，', "H107"),
)


# Pairs of which nobody can know the second: a code map that no field uses any more, a column whose name is no name.
UNKNOWABLE = ({"", '"TOKEN"'}, {"7", "t.TICKETNO AS nr"})


def found(folder: Path, slips: tuple[Slip, ...] = ()) -> set[tuple[str, int, str]]:
    """(file, line, code) of every error of the set with these slips in it."""
    texts = dict(GOOD)
    for each in slips:
        assert each.old in texts[each.file], each
        texts[each.file] = texts[each.file].replace(each.old, each.new, 1)
    write(folder, texts)
    try:
        load_mapping_set(folder, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    except DocumentError as error:
        problems = [problem for problem in error.problems if problem.severity is Severity.ERROR]
        assert all(problem.message and problem.message_zh for problem in problems)
        return {(problem.place.file, problem.place.line, problem.code) for problem in problems}
    return set()


def write(folder: Path, texts: dict[str, str] = GOOD) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_the_set_is_good(tmp_path: Path) -> None:
    assert found(tmp_path) == set()


@pytest.mark.parametrize("each", SLIPS, ids=lambda each: f"{Path(each.file).stem} {each.new[:40]}")
def test_one_slip_is_told_and_nothing_made_up(each: Slip, tmp_path: Path) -> None:
    told = found(tmp_path, (each,))
    assert sorted(code for _, _, code in told) == sorted(each.codes), told
    assert {file for file, _, _ in told} == {each.file} | ({"codes/slot_state.toml"} & {file for file, _, _ in told})


def test_no_slip_hides_another(tmp_path: Path) -> None:
    """Every pair of slips that do not stand on one line: the problems of both, and no others."""
    alone = {}
    for each in SLIPS:
        folder = tmp_path / str(len(alone))
        folder.mkdir()
        alone[each] = found(folder, (each,))
    hidden, made_up = [], []
    folder = tmp_path / "pair"
    folder.mkdir()
    for at, (one, two) in enumerate(itertools.combinations(SLIPS, 2)):
        if (one.file == two.file and not apart(one, two)) or {one.new, two.new} in UNKNOWABLE:
            continue
        if one.file != two.file and "codes/" not in one.file + two.file and at % 17:
            continue  # files that take nothing from each other: a sample will do
        told = found(folder, (one, two))
        wanted = alone[one] | alone[two]
        if one.file == two.file and one.old.count("\n") + two.old.count("\n"):
            told, wanted = ({(file, 0, code) for file, _, code in each} for each in (told, wanted))
        hidden += [(one.new, two.new, missing) for missing in wanted - told]
        made_up += [(one.new, two.new, more) for more in told - wanted]
    assert hidden == []
    assert made_up == []


def test_a_file_in_gbk_is_one_problem_and_its_mistakes_are_told_too(tmp_path: Path) -> None:
    slips = (slip("slot_state", '"TAKEN"', '"TOKEN"'), slip("unlock", "SLOT_TAKEN", "SLOT_TOOK"))
    wanted = found(tmp_path, slips)
    for name in ("codes/slot_state.toml", "appointment/unlock_slot.toml", "appointment/read.sql"):
        path = tmp_path / name
        path.write_bytes(path.read_text(encoding="utf-8").encode("gbk"))
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    told = {(problem.place.file, problem.place.line, problem.code) for problem in caught.value.problems}
    assert wanted <= told
    assert sorted(code for _, _, code in told - wanted) == ["H102", "H102", "H102"]


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_file_that_cannot_be_read_is_not_called_missing(tmp_path: Path, name: str) -> None:
    """Half of it saved, the rest NULs: what others take from it is there, and nobody knows what it says."""
    write(tmp_path)
    (tmp_path / "appointment" / "unlock_slot.toml").write_text(
        GOOD["appointment/unlock_slot.toml"].replace('object = "', 'probe = "CatalogService.ListSlots"\nobject = "'),
        encoding="utf-8",
    )
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: len(raw) // 2] + b"\0" * 512)
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    told = [(problem.place.file, problem.code) for problem in caught.value.problems]
    # Its request has no schedule to ask for a list of slots with; that is so whatever the file says.
    assert [each for each in told if each[1] != "H218"] == [(name, "H105")]


def apart(one: Slip, two: Slip) -> bool:
    """Whether two slips of a file touch different lines."""
    text = GOOD[one.file]
    lines = []
    for each in (one, two):
        at = text.index(each.old)
        lines.append(set(range(text.count("\n", 0, at), text.count("\n", 0, at + len(each.old)) + 1)))
    return not lines[0] & lines[1]
