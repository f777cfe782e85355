"""Every way in which a real HIS shows what its windows did (domain facts §1.3–1.6, §5), in real tables on SQLite and
PostgreSQL, through mapping, capture and event rules to the outbox. docs/zh/watch.md lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from his_db.engine import SourceSettings
from sync.capture import CaptureSuspended
from sync.store import CommandState
from tests.integration.patterns import Bed, watch_file

TABLES = [
    "sch_appt",
    "gh_ghyyk",
    "gh_ghzdk",
    "gh_ghzdk_n",
    "mz_gh_book",
    "fin_opr_booking",
    "ms_yspb",
    "ms_yygh",
    "ms_ghmx",
    "ms_thmx",
    "sch_change",
    "his_note",
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SourceSettings:
    if request.param == "postgresql":
        found: SourceSettings = request.getfixturevalue("postgresql_module_database")
        return found
    path = tmp_path_factory.mktemp("his") / "his.db"
    path.touch()
    return SourceSettings(name="his", engine="sqlite", database=str(path))


@pytest.fixture
async def bed(settings: SourceSettings, tmp_path: Path) -> AsyncIterator[Bed]:
    made = Bed(settings, tmp_path)
    yield made
    await made.end(TABLES)


# 众邦 (schema F): the status column flips, and the operator tells the window from the channel.
APPT = """
CREATE TABLE sch_appt (pk VARCHAR(32), orderid_ext VARCHAR(40), eu_status CHAR(1), flag_pay CHAR(1), pk_sch VARCHAR(32),
    emp_phy VARCHAR(10), pk_emp_cancel VARCHAR(10), date_cancel VARCHAR(19), begin_time VARCHAR(19));
INSERT INTO sch_appt VALUES ('A1', 'T1', '0', '0', 'S1', 'D1', NULL, NULL, '2026-03-02 09:00:00');
INSERT INTO sch_appt VALUES ('A2', 'T2', '1', '1', 'S1', 'D1', NULL, NULL, '2026-03-02 09:30:00');
INSERT INTO sch_appt VALUES ('A3', 'T3', '0', '0', 'S1', 'D1', NULL, NULL, '2026-03-02 10:00:00');
INSERT INTO sch_appt VALUES ('A4', NULL, '1', '1', 'S1', 'D1', NULL, NULL, '2026-03-02 10:30:00')
"""
APPT_SQL = """SELECT pk, orderid_ext, pk_sch, emp_phy, pk_emp_cancel, date_cancel, begin_time,
    CASE WHEN eu_status = '9' AND flag_pay = '1' THEN 'REFUNDED' WHEN eu_status = '9' THEN 'CANCELLED'
         WHEN eu_status = '0' THEN 'BOOKED' ELSE 'PAID' END AS state FROM sch_appt"""
APPT_FIELDS = {
    "appointment_id": "pk",
    "order_no": "orderid_ext",
    "state": "state",
    "patient_id": "pk",
    "schedule_id": "pk_sch",
    "doctor_id": "emp_phy",
    "operator_id": "pk_emp_cancel",
    "cancel_time": 'date_cancel, datetime = "%Y-%m-%d %H:%M:%S"',
    "begin_time": 'begin_time, time = "%Y-%m-%d %H:%M:%S"',
}
APPT_EVENTS = [
    "CANCELLED: state: BOOKED -> CANCELLED",
    "REFUNDED: state: PAID -> REFUNDED",
    "PAID: state: BOOKED -> PAID",
    "RESCHEDULED: schedule_id: * -> *",
    "REPLACED: doctor_id: * -> *",
    "RESCHEDULED: begin_time: * -> *",
]


def cancelled(pk: str, operator: str) -> str:
    return (
        f"UPDATE sch_appt SET eu_status = '9', pk_emp_cancel = '{operator}', date_cancel = '2026-03-02 08:59:30'"
        f" WHERE pk = '{pk}'"
    )


async def test_a_status_flips(bed: Bed) -> None:
    await bed.begin(APPT, watch_file(APPT_SQL, APPT_FIELDS, APPT_EVENTS))
    assert await bed.after(cancelled("A1", "0931"), cancelled("A2", "0931")) == [
        ("CANCELLED", "T1"),
        ("REFUNDED", "T2"),
    ]
    assert await bed.after(cancelled("A4", "0931")) == []  # 160 knows nothing of it
    assert (await bed.poll()).changes == 0


async def test_who_did_it_by_operator(bed: Bed) -> None:
    """jk160 is the platform; a kiosk (zzj) and 微信 (wxgzh) are the hospital's own."""
    await bed.begin(APPT, watch_file(APPT_SQL, APPT_FIELDS, APPT_EVENTS))
    assert await bed.after(cancelled("A1", "jk160")) == []
    assert bed.watcher.status.suppressed == 1
    assert await bed.after(cancelled("A3", "zzj"), cancelled("A2", "wxgzh")) == [
        ("CANCELLED", "T3"),
        ("REFUNDED", "T2"),
    ]


async def test_who_did_it_by_ledger(bed: Bed) -> None:
    """A HIS that writes no 工号: what our own commands account for is ours, and nothing else."""
    await bed.begin(APPT, watch_file(APPT_SQL, APPT_FIELDS, APPT_EVENTS))
    await bed.did("AppointmentService.CancelAppointment", "T1")
    await bed.did("PaymentService.RefundPayment", "T2", state=CommandState.SENT)  # may have been done
    await bed.did("AppointmentService.CancelAppointment", "T3", state=CommandState.REJECTED)
    seen = await bed.after(cancelled("A1", ""), cancelled("A2", ""), cancelled("A3", ""))
    assert seen == [("CANCELLED", "T3")]
    assert bed.watcher.status.suppressed == 2


async def test_a_changed_time_and_a_replaced_doctor(bed: Bed) -> None:
    await bed.begin(APPT, watch_file(APPT_SQL, APPT_FIELDS, APPT_EVENTS))
    seen = await bed.after(
        "UPDATE sch_appt SET begin_time = '2026-03-02 15:00:00' WHERE pk = 'A1'",
        "UPDATE sch_appt SET emp_phy = 'D2' WHERE pk = 'A2'",
        "UPDATE sch_appt SET pk_sch = 'S2', emp_phy = 'D3', begin_time = '2026-03-03 08:00:00' WHERE pk = 'A3'",
    )
    assert seen == [("RESCHEDULED", "T1"), ("REPLACED", "T2"), ("RESCHEDULED", "T3")]  # one event for one change


async def test_a_changed_order_in_a_new_row(bed: Bed) -> None:
    """改签 that writes a new row under the same order number and cancels the old one: one order, moved, not cancelled."""
    sql = f"""SELECT * FROM ({APPT_SQL}) a WHERE a.orderid_ext IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sch_appt later
        WHERE later.orderid_ext = a.orderid_ext AND later.pk > a.pk)"""
    await bed.begin(APPT, watch_file(sql, APPT_FIELDS, APPT_EVENTS, key="order_no"))
    moved = cancelled("A1", "0931") + (
        "; INSERT INTO sch_appt VALUES ('B1', 'T1', '0', '0', 'S7', 'D1', NULL, NULL, '2026-03-04 09:00:00')"
    )
    assert await bed.after(moved) == [("RESCHEDULED", "T1")]
    assert await bed.after(cancelled("B1", "0931")) == [("CANCELLED", "T1")]


# 卫宁 (schema A): a red row names the original; a row is written with jlzt 9 first and counts only when it is 0.
GHZDK = """
CREATE TABLE gh_ghyyk (xh INTEGER, wbddh VARCHAR(40), jlzt INTEGER);
CREATE TABLE gh_ghzdk (xh INTEGER, yyxh INTEGER, txh INTEGER, jlzt INTEGER, czyh VARCHAR(10), czrq CHAR(16), zje NUMERIC(12,2));
CREATE TABLE gh_ghzdk_n (xh INTEGER, yyxh INTEGER, txh INTEGER, jlzt INTEGER, czyh VARCHAR(10), czrq CHAR(16), zje NUMERIC(12,2));
INSERT INTO gh_ghyyk VALUES (1, 'T1', 1);
INSERT INTO gh_ghyyk VALUES (2, 'T2', 0);
INSERT INTO gh_ghzdk VALUES (11, 1, NULL, 0, 'jk160', '2026030108:00:00', 25)
"""
GHZDK_SQL = """SELECT y.xh, y.wbddh, z.zje, -r.zje AS tkje, r.czrq, COALESCE(r.czyh, z.czyh) AS czyh,
    CASE WHEN y.jlzt = 2 THEN 'CANCELLED' WHEN r.xh IS NOT NULL OR z.jlzt = 1 THEN 'REFUNDED'
         WHEN z.xh IS NOT NULL THEN 'PAID' ELSE 'BOOKED' END AS zt
FROM gh_ghyyk y
LEFT JOIN {registrations} z ON z.yyxh = y.xh AND z.txh IS NULL AND z.jlzt <> 9
LEFT JOIN {registrations} r ON r.txh = z.xh AND r.jlzt <> 9"""
UNION = "(SELECT * FROM gh_ghzdk UNION SELECT * FROM gh_ghzdk_n)"
GHZDK_FIELDS = {
    "appointment_id": "xh",
    "order_no": "wbddh",
    "state": "zt",
    "patient_id": "xh",
    "schedule_id": "xh",
    "paid_fen": 'zje, money = "yuan"',
    "refunded_fen": 'tkje, money = "yuan"',
    "operator_id": "czyh",
    "cancel_time": 'czrq, datetime = "%Y%m%d%H:%M:%S"',
}
GHZDK_EVENTS = [
    "REFUNDED: state: PAID -> REFUNDED",
    "PAID: state: BOOKED -> PAID",
    "CANCELLED: state: BOOKED -> CANCELLED",
]
RED = "INSERT INTO gh_ghzdk VALUES (12, 1, 11, {jlzt}, '0931', '2026030209:01:00', -25)"


def red_rows(registrations: str = "gh_ghzdk") -> str:
    return watch_file(GHZDK_SQL.format(registrations=registrations), GHZDK_FIELDS, GHZDK_EVENTS)


async def test_a_red_row_in_three_transactions_is_one_refund(bed: Bed) -> None:
    """Half-written, then real, then the original is marked: one event, with the red row's operator, time and amount."""
    await bed.begin(GHZDK, red_rows())
    assert await bed.after(RED.format(jlzt=9)) == []
    bed.commit("UPDATE gh_ghzdk SET jlzt = 2 WHERE xh = 12")
    await bed.poll()
    (event,) = await bed.new()
    after = event.appointment_after
    assert (event.order_no, after.operator_id, after.paid_fen, after.refunded_fen) == ("T1", "0931", 2500, 2500)
    assert event.occurred_time.seconds == 0  # the rule names no field
    assert after.cancel_time.ToJsonString() == "2026-03-02T01:01:00Z"
    assert await bed.after("UPDATE gh_ghzdk SET jlzt = 1 WHERE xh = 11") == []


async def test_the_original_is_marked_before_its_red_row(bed: Bed) -> None:
    await bed.begin(GHZDK, red_rows())
    seen = await bed.after("UPDATE gh_ghzdk SET jlzt = 1 WHERE xh = 11", RED.format(jlzt=2))
    assert seen == [("REFUNDED", "T1")]


async def test_red_rows_alone_can_be_watched(bed: Bed) -> None:
    """Where only the red rows have a place of their own: each is new, and names the original's order."""
    sql = """SELECT r.xh, y.wbddh, r.czyh, 'REFUNDED' AS zt FROM gh_ghzdk r
        JOIN gh_ghzdk z ON z.xh = r.txh JOIN gh_ghyyk y ON y.xh = z.yyxh WHERE r.txh IS NOT NULL AND r.jlzt = 2"""
    fields = {name: GHZDK_FIELDS[name] for name in ("appointment_id", "order_no", "state", "patient_id", "operator_id")}
    await bed.begin(GHZDK, watch_file(sql, {**fields, "schedule_id": "xh"}, ["REFUNDED: state: new -> REFUNDED"]))
    assert await bed.after(RED.format(jlzt=9)) == []
    assert await bed.after("UPDATE gh_ghzdk SET jlzt = 2 WHERE xh = 12") == [("REFUNDED", "T1")]
    assert await bed.after("DELETE FROM gh_ghzdk WHERE xh = 12", polls=3) == []  # tidied up: nothing is taken back


async def test_half_written_rows_wait_for_their_other_half(bed: Bed) -> None:
    await bed.begin(GHZDK, red_rows())
    half = "INSERT INTO gh_ghzdk VALUES (21, 2, NULL, 9, '0931', '2026030209:01:00', 25)"
    assert await bed.after(half, "DELETE FROM gh_ghzdk WHERE xh = 21") == []  # the window gave it up
    assert await bed.after(half, "UPDATE gh_ghzdk SET jlzt = 0 WHERE xh = 21") == [("PAID", "T2")]


async def test_rows_move_to_the_history_table(bed: Bed) -> None:
    """At night, at once or by copy and delete; a refund of the moved row the day after is seen all the same."""
    await bed.begin(GHZDK, red_rows(UNION))
    copy, delete = "INSERT INTO gh_ghzdk_n SELECT * FROM gh_ghzdk", "DELETE FROM gh_ghzdk"
    assert await bed.after(copy, delete) == []
    assert await bed.after(RED.format(jlzt=2)) == [("REFUNDED", "T1")]


async def test_history_that_is_not_read_makes_no_cancellations(bed: Bed) -> None:
    """A mapping that reads the current table alone: a few rows are set aside, very many stop the stream."""
    sql = "SELECT xh, wbddh, CASE jlzt WHEN 2 THEN 'CANCELLED' ELSE 'BOOKED' END AS zt FROM gh_ghyyk"
    fields = {"appointment_id": "xh", "order_no": "wbddh", "state": "zt", "patient_id": "xh", "schedule_id": "xh"}
    many = "".join(f"; INSERT INTO gh_ghyyk VALUES ({n}, 'T{n}', 0)" for n in range(100, 160))
    await bed.begin(GHZDK + many, watch_file(sql, fields, ["CANCELLED: state: BOOKED -> CANCELLED"]))
    assert await bed.after("DELETE FROM gh_ghyyk WHERE xh = 2", polls=3) == []
    with pytest.raises(CaptureSuspended):
        await bed.after("DELETE FROM gh_ghyyk WHERE xh >= 100")
    assert await bed.new() == []


# 新致 (schema D): texts and strings where others have codes and times.
BOOK = """
CREATE TABLE mz_gh_book (bookid NUMERIC(12,0), app_order VARCHAR(40), yyzt CHAR(4), memo VARCHAR(60), canceltime VARCHAR(30));
INSERT INTO mz_gh_book VALUES (1, 'T1', '1', '', NULL);
INSERT INTO mz_gh_book VALUES (2, 'T2', '2', '已缴费', NULL);
INSERT INTO mz_gh_book VALUES (3, 'T3', '2', '', NULL);
INSERT INTO mz_gh_book VALUES (4, 'T4', '1', '', NULL)
"""


async def test_text_markers(bed: Bed) -> None:
    """A remark that says 退号, a state as text with trailing spaces, a cancel time as free text."""
    sql = """SELECT bookid, app_order, memo, canceltime,
        CASE WHEN memo LIKE '%退号%' OR memo LIKE '%作废%' THEN CASE WHEN TRIM(yyzt) = '2' THEN 'REFUNDED' ELSE 'CANCELLED' END
             WHEN TRIM(yyzt) = '3' THEN 'CANCELLED' WHEN TRIM(yyzt) = '2' THEN 'PAID' ELSE 'BOOKED' END AS zt FROM mz_gh_book"""
    fields = {
        "appointment_id": "bookid",
        "order_no": "app_order",
        "state": "zt",
        "patient_id": "bookid",
        "schedule_id": "bookid",
        "note": "memo, trim = true",
        "cancel_time": 'canceltime, datetime = ["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S"], empty = [""]',
    }
    rules = [
        "REFUNDED: state: PAID -> REFUNDED",
        "CANCELLED: state: BOOKED -> CANCELLED",
        "SUSPENDED: note: * -> 医生停诊 and state = BOOKED|PAID",
    ]
    await bed.begin(BOOK, watch_file(sql, fields, rules))
    seen = await bed.after(
        "UPDATE mz_gh_book SET memo = '窗口退号 ', canceltime = '2026/03/02 08:59:00' WHERE bookid = 2",
        "UPDATE mz_gh_book SET yyzt = '3', canceltime = '' WHERE bookid = 1",
        "UPDATE mz_gh_book SET memo = '患者作废' WHERE bookid = 4",
        "UPDATE mz_gh_book SET memo = '医生停诊' WHERE bookid = 3",
        "UPDATE mz_gh_book SET memo = '已通知患者' WHERE bookid = 3",
    )
    assert seen == [("REFUNDED", "T2"), ("CANCELLED", "T1"), ("CANCELLED", "T4"), ("SUSPENDED", "T3")]


async def test_a_value_that_cannot_be_read_waits(bed: Bed) -> None:
    """A time that is no time (Oracle's MM for minutes): the row is counted, and told once it can be read."""
    sql = "SELECT bookid, app_order, canceltime, CASE WHEN yyzt = '3' THEN 'CANCELLED' ELSE 'BOOKED' END AS zt FROM mz_gh_book"
    fields = {
        "appointment_id": "bookid",
        "order_no": "app_order",
        "state": "zt",
        "patient_id": "bookid",
        "schedule_id": "bookid",
        "cancel_time": 'canceltime, datetime = "%Y-%m-%d %H:%M:%S"',
    }
    await bed.begin(BOOK, watch_file(sql, fields, ["CANCELLED: state: BOOKED -> CANCELLED"]))
    assert (
        await bed.after("UPDATE mz_gh_book SET yyzt = '3', canceltime = '2026-03-02 09:93:30' WHERE bookid = 1") == []
    )
    assert bed.watcher.status.unreadable == 1
    assert await bed.after("UPDATE mz_gh_book SET canceltime = '2026-03-02 09:03:30'") == [("CANCELLED", "T1")]


# 东软 (schema B): a hold is a row that is deleted, by us, by the window, by the night.
LOCKS = """
CREATE TABLE fin_opr_booking (lock_id VARCHAR(20), order_no VARCHAR(40), schema_id VARCHAR(14), oper_id VARCHAR(10));
INSERT INTO fin_opr_booking VALUES ('L1', 'T1', 'S1', 'jk160');
INSERT INTO fin_opr_booking VALUES ('L2', 'T2', 'S1', 'jk160');
INSERT INTO fin_opr_booking VALUES ('L3', 'T3', 'S1', 'jk160');
INSERT INTO fin_opr_booking VALUES ('L4', 'T4', 'S1', 'jk160')
"""


def locks() -> str:
    fields = {
        "appointment_id": "lock_id",
        "order_no": "order_no",
        "state": "state",
        "patient_id": "lock_id",
        "schedule_id": "schema_id",
        "operator_id": "oper_id",
    }
    sql = "SELECT lock_id, order_no, schema_id, oper_id, 'LOCKED' AS state FROM fin_opr_booking"
    return watch_file(sql, fields, ["CANCELLED: state: LOCKED -> gone"], vanish="event")


async def test_a_lock_row_vanishes(bed: Bed) -> None:
    """The window gives a held number to somebody else; what we booked, gave back, or may have, is no news for 160."""
    await bed.begin(LOCKS, locks())
    await bed.did("AppointmentService.BookAppointment", "T1")
    await bed.did("AppointmentService.UnlockSlot", "T2")
    await bed.did("AppointmentService.BookAppointment", "T3", state=CommandState.REJECTED)
    gone = [f"DELETE FROM fin_opr_booking WHERE lock_id = 'L{number}'" for number in (1, 2, 3, 4)]
    assert await bed.after(*gone, polls=2) == [("CANCELLED", "T3"), ("CANCELLED", "T4")]
    assert bed.watcher.status.suppressed == 2


async def test_a_lock_row_that_was_away_for_one_look_is_not_gone(bed: Bed) -> None:
    """A HIS that deletes and writes anew in two transactions."""
    await bed.begin(LOCKS, locks())
    again = "INSERT INTO fin_opr_booking VALUES ('L1', 'T1', 'S1', 'jk160')"
    assert await bed.after("DELETE FROM fin_opr_booking WHERE lock_id = 'L1'", again) == []


async def test_an_old_command_of_ours_does_not_hide_a_deletion(bed: Bed) -> None:
    await bed.begin(LOCKS, locks())
    await bed.did("AppointmentService.CancelAppointment", "T9")
    bed.clock.advance(hours=1)
    again = "INSERT INTO fin_opr_booking VALUES ('L9', 'T9', 'S1', 'jk160')"
    assert await bed.after(again, "DELETE FROM fin_opr_booking WHERE lock_id = 'L9'", polls=2) == [("CANCELLED", "T9")]


# 创业 (schema C): 停挂 is a flag without operator and time; the doctor is part of the key.
YSPB = """
CREATE TABLE ms_yspb (gzrq VARCHAR(10), ksdm INTEGER, ysdm VARCHAR(18), zblb INTEGER, tgbz INTEGER, yykssj VARCHAR(5));
CREATE TABLE ms_yygh (yyxh INTEGER, ddh VARCHAR(32), ghrq VARCHAR(10), ksdm INTEGER, ysdm VARCHAR(18), zblb INTEGER, ghbz INTEGER);
INSERT INTO ms_yspb VALUES ('2026-03-02', 7, '0201', 1, 0, '08:00');
INSERT INTO ms_yspb VALUES ('2026-03-02', 7, '0202', 1, 0, '08:00');
INSERT INTO ms_yygh VALUES (1, 'T1', '2026-03-02', 7, '0201', 1, 0);
INSERT INTO ms_yygh VALUES (2, 'T2', '2026-03-02', 7, '0202', 1, 0)
"""
YSPB_FIELDS = {
    "schedule_id": "pbid",
    "visit_date": 'gzrq, date = "%Y-%m-%d"',
    "period": "wb",
    "state": "zt",
    "department_id": "ksdm",
    "doctor_id": "ysdm",
    "begin_time": 'yykssj, time = "%H:%M"',
    "fee_fen": 'fee, money = "fen"',
    "free_count": "fee",
}
YSPB_SQL = """SELECT gzrq || '.' || ksdm || '.' || ysdm || '.' || zblb AS pbid, gzrq, ksdm, ysdm, yykssj, 0 AS fee,
    CASE zblb WHEN 1 THEN 'MORNING' ELSE 'AFTERNOON' END AS wb, CASE tgbz WHEN 1 THEN 'SUSPENDED' ELSE 'OPEN' END AS zt
FROM ms_yspb"""
YSPB_EVENTS = [
    "SUSPENDED: state: OPEN -> SUSPENDED",
    "RESUMED: state: SUSPENDED -> OPEN",
    "REPLACED: doctor_id: * -> *",
    "RESCHEDULED: begin_time: * -> *",
    "SUSPENDED: state: OPEN -> gone",
]


def sessions(sql: str = YSPB_SQL, vanish: str = "event") -> str:
    rules = YSPB_EVENTS if vanish == "event" else YSPB_EVENTS[:-1]
    return watch_file(sql, YSPB_FIELDS, rules, name="schedules", subject="schedule", key="schedule_id", vanish=vanish)


def stopped(doctor: str, flag: int) -> str:
    return f"UPDATE ms_yspb SET tgbz = {flag} WHERE ysdm = '{doctor}'"


async def test_a_stop_flag_without_operator(bed: Bed) -> None:
    """TGBZ says neither who nor when: on site, because no command of the contract stops a session."""
    await bed.begin(YSPB, sessions(), name="schedules")
    bed.commit(stopped("0201", 1))
    await bed.poll()
    (event,) = await bed.new()
    assert event.schedule_after.operator_id == ""
    assert not event.HasField("occurred_time")
    one = "2026-03-02.7.0201.1"
    seen = await bed.after(stopped("0201", 0), stopped("0201", 1))
    assert seen == [("RESUMED", one), ("SUSPENDED", one)]
    bed.commit(stopped("0201", 0), stopped("0201", 1))  # there and back between two looks: nothing to tell
    assert (await bed.poll()).changes == 0


async def test_orders_of_a_stopped_session(bed: Bed) -> None:
    """The order's own rows do not change; the session says it, and the doctor who takes over frees it again."""
    sql = """SELECT y.yyxh, y.ddh, y.ysdm, CASE WHEN y.ghbz = 9 THEN 'CANCELLED' WHEN p.tgbz = 1 THEN 'SUSPENDED' ELSE 'BOOKED' END AS zt
        FROM ms_yygh y JOIN ms_yspb p ON p.gzrq = y.ghrq AND p.ksdm = y.ksdm AND p.zblb = y.zblb AND p.ysdm = y.ysdm"""
    fields = {
        "appointment_id": "yyxh",
        "order_no": "ddh",
        "state": "zt",
        "patient_id": "yyxh",
        "schedule_id": "yyxh",
        "doctor_id": "ysdm",
    }
    rules = [
        "CANCELLED: state: BOOKED|SUSPENDED -> CANCELLED",
        "REPLACED: doctor_id: * -> *",
        "SUSPENDED: state: BOOKED -> SUSPENDED",
        "RESUMED: state: SUSPENDED -> BOOKED",
    ]
    await bed.begin(YSPB, watch_file(sql, fields, rules))
    assert await bed.after(stopped("0201", 1)) == [("SUSPENDED", "T1")]
    assert await bed.after("UPDATE ms_yygh SET ysdm = '0202' WHERE yyxh = 1") == [("REPLACED", "T1")]
    assert await bed.after("UPDATE ms_yygh SET ghbz = 9 WHERE yyxh = 1") == [("CANCELLED", "T1")]


async def test_a_doctor_who_is_part_of_the_key_is_replaced(bed: Bed) -> None:
    """The session under its old key is gone, so it is stopped; 160 sees the new one in the schedules it reads."""
    await bed.begin(YSPB, sessions(), name="schedules")
    seen = await bed.after("UPDATE ms_yspb SET ysdm = '0309' WHERE ysdm = '0201'", polls=2)
    assert seen == [("SUSPENDED", "2026-03-02.7.0201.1")]


async def test_a_session_that_keeps_its_key_has_another_doctor_or_time(bed: Bed) -> None:
    by_room = YSPB_SQL.replace("ysdm || '.' ||", "CASE ysdm WHEN '0202' THEN 'B' ELSE 'A' END || '.' ||")
    await bed.begin(YSPB, sessions(by_room, "ignore"), name="schedules")
    one = "2026-03-02.7.A.1"
    seen = await bed.after(
        "UPDATE ms_yspb SET ysdm = '0309' WHERE ysdm = '0201'",
        "UPDATE ms_yspb SET yykssj = '10:00' WHERE ysdm = '0309'",
    )
    assert seen == [("REPLACED", one), ("RESCHEDULED", one)]


# 创业 and 东软: money that the day report has closed, and money that was given back in part.
GHMX = """
CREATE TABLE ms_ghmx (sbxh INTEGER, ddh VARCHAR(32), ghje NUMERIC(10,2), thje NUMERIC(10,2), thbz INTEGER, jzrq VARCHAR(19));
CREATE TABLE ms_thmx (sbxh INTEGER, czgh VARCHAR(10), thrq VARCHAR(19), jzrq VARCHAR(19));
INSERT INTO ms_ghmx VALUES (1, 'T1', 25, 0, 0, NULL);
INSERT INTO ms_ghmx VALUES (2, 'T2', 25, 0, 0, NULL);
INSERT INTO ms_ghmx VALUES (3, 'T3', 12.3, 0, 0, NULL)
"""
GHMX_SQL = """SELECT x.sbxh, x.ddh, x.ghje, x.thje, t.czgh, CASE x.jzrq IS NULL WHEN true THEN '' ELSE '已日结' END AS bz,
    CASE WHEN x.thbz = 1 THEN 'REFUNDED' ELSE 'PAID' END AS zt FROM ms_ghmx x LEFT JOIN ms_thmx t ON t.sbxh = x.sbxh"""
GHMX_FIELDS = {
    "appointment_id": "sbxh",
    "order_no": "ddh",
    "state": "zt",
    "patient_id": "sbxh",
    "schedule_id": "sbxh",
    "paid_fen": 'ghje, money = "yuan"',
    "refunded_fen": 'thje, money = "yuan"',
    "operator_id": "czgh",
    "note": "bz",
}


async def test_a_refund_of_money_that_was_closed(bed: Bed) -> None:
    """日结 touches every row of the day and is no event; the refund the day after is one, and says so."""
    await bed.begin(GHMX, watch_file(GHMX_SQL, GHMX_FIELDS, ["REFUNDED: state: PAID -> REFUNDED"]))
    assert await bed.after("UPDATE ms_ghmx SET jzrq = '2026-03-01 17:30:00'") == []
    bed.commit(
        "UPDATE ms_ghmx SET thbz = 1, thje = 25 WHERE sbxh = 1;"
        " INSERT INTO ms_thmx VALUES (1, '0935', '2026-03-02 09:10:00', NULL)"
    )
    await bed.poll()
    (event,) = await bed.new()
    after = event.appointment_after
    assert (event.order_no, after.note, after.refunded_fen, after.operator_id) == ("T1", "已日结", 2500, "0935")
    assert await bed.after("UPDATE ms_thmx SET jzrq = '2026-03-02 17:30:00'") == []


async def test_a_part_given_back_is_no_refund_of_the_order(bed: Bed) -> None:
    """The order stays paid and nothing is told; the rest given back, it is refunded as a whole."""
    sql = GHMX_SQL.replace("WHEN x.thbz = 1", "WHEN x.thbz = 1 AND x.thje = x.ghje")
    await bed.begin(GHMX, watch_file(sql, GHMX_FIELDS, ["REFUNDED: state: PAID -> REFUNDED"]))
    assert await bed.after("UPDATE ms_ghmx SET thbz = 1, thje = 10 WHERE sbxh = 2") == []
    assert await bed.after("UPDATE ms_ghmx SET thje = 25 WHERE sbxh = 2") == [("REFUNDED", "T2")]
    assert bed.watcher.status.strange == 0


async def test_a_part_that_a_mapping_calls_a_refund_is_counted(bed: Bed) -> None:
    """160 has no partial refunds: it is told with the amounts, and the status counts what should not be."""
    await bed.begin(GHMX, watch_file(GHMX_SQL, GHMX_FIELDS, ["REFUNDED: state: PAID -> REFUNDED"]))
    bed.commit("UPDATE ms_ghmx SET thbz = 1, thje = 10 WHERE sbxh = 3")
    await bed.poll()
    (event,) = await bed.new()
    assert (event.appointment_after.paid_fen, event.appointment_after.refunded_fen) == (1230, 1000)
    assert bed.watcher.status.strange == 1
