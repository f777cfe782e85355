"""The bsoft sample on a real MariaDB or MySQL: creation, traps, window program; its mapping under pressure."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.type import date_pb2
from his160.v1 import common_pb2, reason_pb2
from sqlalchemy import Engine, text

from his_db import contract
from his_db.access import HisAccess
from his_db.errors import HisRefused
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.sample import SMALL, CashierWindow, InsuredBill, OrderRow, SampleSummary, WindowRefusal, hospital_now
from his_db.samples.bsoft import BsoftSample, open_mysql
from his_db.source import Source, settings_from_url
from tests.servers import MariadbServer

PACK = Path(__file__).resolve().parents[2] / "his_db" / "packs" / "bsoft"
R = reason_pb2
_SID = "CONCAT_WS('.', DATE_FORMAT(GZRQ, '%Y%m%d'), KSDM, COALESCE(YPYS, YSDM), ZBLB)"


@dataclass(frozen=True, slots=True)
class Sample:
    url: str
    window: CashierWindow
    engine: Engine
    summary: SampleSummary
    today: dt.date

    def one(self, sql: str, **binds: object) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(text(sql), binds).scalar()

    def run(self, sql: str, **binds: object) -> int:
        with self.engine.begin() as connection:
            return connection.execute(text(sql), binds).rowcount


@pytest.fixture(scope="module")
def url(mariadb_server: MariadbServer) -> Iterator[str]:
    with mariadb_server.database() as at:
        secret = f":{at.password}" if at.password else ""
        yield f"mysql+pymysql://{at.user}{secret}@{at.host}:{at.port or 3306}/{at.database}"


@pytest.fixture
def sample(url: str) -> Iterator[Sample]:
    today = hospital_now().date()
    summary = BsoftSample().create(url, today=today, size=SMALL)
    window, engine = BsoftSample().window(url), open_mysql(url)
    try:
        yield Sample(url, window, engine, summary, today)
    finally:
        window.close()
        engine.dispose()


@pytest.fixture(scope="session")
def generation() -> Generation:
    return compile_generation(load_mapping_set(PACK / "mappings", sources={"his": "mysql"}, timezone="Asia/Shanghai"))


@pytest.fixture
async def his(sample: Sample, generation: Generation) -> AsyncIterator[HisAccess]:
    source = Source(settings_from_url("his", sample.url), None)
    try:
        yield HisAccess({"his": source}, generation)
    finally:
        await source.close()


def sessions(sample: Sample) -> list[str]:
    """Open sessions of later days with a doctor and without locks."""
    sql = (
        f"SELECT {_SID} FROM MS_YSPB p WHERE GZRQ > :today AND TGBZ = 0 AND YYXE > 0 AND YSDM <> '0' AND NOT EXISTS "
        "(SELECT 1 FROM MS_YYGHHY h WHERE h.HYZT = '1' AND h.HYKS = p.KSDM AND h.HYYS = p.YSDM) ORDER BY 1"
    )
    with sample.engine.connect() as connection:
        return [row[0] for row in connection.execute(text(sql), {"today": sample.today})]


def people(sample: Sample) -> list[str]:
    sql = (
        "SELECT BRID FROM MS_BRDA b WHERE ZXBZ = 0 AND NOT EXISTS (SELECT 1 FROM MS_YYXZ z WHERE z.BRID = b.BRID) "
        "AND NOT EXISTS (SELECT 1 FROM MS_GHMX x WHERE x.BRID = b.BRID) "
        "AND NOT EXISTS (SELECT 1 FROM MS_YYGH y WHERE y.BRID = b.BRID) ORDER BY BRID"
    )
    with sample.engine.connect() as connection:
        return [str(row[0]) for row in connection.execute(text(sql))]


def session_row(sample: Sample, schedule: str) -> dict[str, Any]:
    return dict(sample.window.raw_schedule(schedule)[0][1])


def left(sample: Sample, schedule: str) -> int:
    row = session_row(sample, schedule)
    return int(row["GHXE"] - row["YYRS"] - row["YGRS"])


def order(sample: Sample, his_id: str) -> OrderRow:
    return next(o for o in sample.window.orders(channel_only=False, limit=10_000) if o.his_id == his_id)


def book(sample: Sample, *, paid: bool, order_no: str = "16T0001") -> tuple[str, str]:
    schedule = sessions(sample)[0]
    return schedule, sample.window.book_for_channel(schedule, people(sample)[0], order_no, paid=paid)


# --- the sample ---------------------------------------------------------------------------------------------------


def test_create_counts_and_again(sample: Sample) -> None:
    assert sample.summary.patients == SMALL.patients
    assert sample.summary.slots > 300
    assert BsoftSample().create(sample.url, today=sample.today, size=SMALL) == sample.summary
    orders = sample.window.orders(channel_only=False, limit=10_000)
    assert len(orders) == sample.summary.registrations
    assert sum(o.state == "REFUNDED" for o in orders) == sample.summary.refunds
    channel = sample.window.orders(channel_only=True, limit=10_000)
    assert 0 < len(channel) < len(orders)
    assert all(o.platform_order_no and o.platform_order_no.startswith("16") for o in channel)
    assert len(sample.window.orders(channel_only=True, limit=3)) == 3
    assert {o.state for o in sample.window.orders(channel_only=False, states=("PAID",), limit=99)} == {"PAID"}


def test_books_agree(sample: Sample) -> None:
    for row in sample.window.orders(channel_only=False, limit=10_000):
        if row.state in ("BOOKED", "CANCELLED"):
            assert (row.paid_fen, row.refunded_fen) == (0, 0)
        else:
            assert row.paid_fen == row.total_fen > 0
            assert row.refunded_fen == (row.paid_fen if row.state == "REFUNDED" else 0)
    held = "SELECT SUM(YYRS) FROM MS_YSPB"
    assert sample.one(held) == sample.one("SELECT COUNT(*) FROM MS_YYGHHY WHERE HYZT IN ('1', '2')")


def test_day_sheets_agree_with_the_rows(sample: Sample) -> None:
    """MS_GHRB = registrations minus refunds of that operator and JZRQ; a refund counts on its own day."""
    with sample.engine.connect() as connection:
        sheets = connection.execute(text("SELECT CZGH, JZRQ, ZJJE, FPZS, THSL, THJE FROM MS_GHRB")).all()
        assert sheets
        for operator, closed, net, count, back_count, back in sheets:
            binds = {"op": operator, "closed": closed}
            taken = connection.execute(
                text("SELECT COUNT(*), COALESCE(SUM(GHJE + ZLJE), 0) FROM MS_GHMX WHERE CZGH = :op AND JZRQ = :closed"),
                binds,
            ).one()
            given = connection.execute(
                text(
                    "SELECT COUNT(*), COALESCE(SUM(x.GHJE + x.ZLJE), 0) FROM MS_THMX t JOIN MS_GHMX x ON x.SBXH = t.SBXH "
                    "WHERE t.CZGH = :op AND t.JZRQ = :closed"
                ),
                binds,
            ).one()
            assert (count, back_count) == (taken[0], given[0])
            assert round(net, 2) == round(taken[1] - given[1], 2)
            assert round(back, 2) == round(given[1], 2)
    assert sample.one("SELECT COUNT(*) FROM MS_GHMX WHERE JZRQ IS NULL")


def test_traps(sample: Sample) -> None:
    assert sample.one("SELECT COUNT(*) FROM MS_BRDA WHERE CAST(CSNY AS CHAR) = '0000-00-00'")
    assert sample.one("SELECT COUNT(*) FROM MS_YYGHHY WHERE CAST(TYSJ AS CHAR) = '0000-00-00 00:00:00'")
    assert sample.one("SELECT MAX(CHAR_LENGTH(SFZH)) FROM MS_YYGHHY") == 1
    assert sample.one("SELECT COUNT(*) FROM MS_GHKS WHERE ZLF <> ROUND(ZLF, 2)")
    assert sample.one("SELECT COUNT(*) FROM MS_GHMX WHERE ZLJE <> ROUND(ZLJE, 2)")
    assert sample.one("SELECT COUNT(*) FROM MS_YYGHHY WHERE HYZT = '1' AND DDSJ < :t", t=f"{sample.today}") == 1
    assert sample.one("SELECT COUNT(*) FROM MS_YSPB WHERE YSDM = '0' AND COALESCE(YYKSSJ, '') = ''")
    assert sample.one("SELECT COUNT(*) FROM MS_BRDA WHERE BRXM LIKE '%䶮%' OR BRXM LIKE '%㛃%'")
    assert sample.one(
        "SELECT COUNT(*) FROM MS_THMX t JOIN MS_GHMX x ON x.SBXH = t.SBXH WHERE DATE(t.THRQ) <> DATE(x.GHSJ)"
    )


def test_a_sample_of_another_day_runs_on_that_day(url: str) -> None:
    day = dt.date(2027, 2, 1)
    BsoftSample().create(url, today=day, size=SMALL)
    window = BsoftSample().window(url)
    try:
        engine = open_mysql(url)
        made = Sample(url, window, engine, SampleSummary(0, 0, 0, 0, 0, 0, 0, 0), day)
        _, his_id = book(made, paid=False)
        booked = next(row["YYRQ"] for table, row in window.raw(his_id) if table == "MS_YYGH")
        engine.dispose()
    finally:
        window.close()
    assert isinstance(booked, dt.datetime)
    assert booked.date() in (day, day + dt.timedelta(days=1))  # the test may run over midnight


# --- the window program -------------------------------------------------------------------------------------------


def test_cancel_booking(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=False)
    before = left(sample, schedule)
    sample.window.cancel_booking(his_id, operator="0931")
    row = order(sample, his_id)
    assert (row.state, row.operator, row.platform_order_no) == ("CANCELLED", "0931", "16T0001")
    assert left(sample, schedule) == before + 1
    for action in (sample.window.cancel_booking, sample.window.refund):
        with pytest.raises(WindowRefusal, match="该患者已经取消预约"):
            action(his_id, operator="0931")


def test_refund(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    before = left(sample, schedule)
    with pytest.raises(WindowRefusal, match="请在挂号处退号"):
        sample.window.cancel_booking(his_id, operator="0931")
    sample.window.refund(his_id, operator="0932")
    row = order(sample, his_id)
    assert (row.state, row.operator, row.refunded_fen) == ("REFUNDED", "0932", row.paid_fen)
    assert left(sample, schedule) == before + 1
    tables = [table for table, _ in sample.window.raw(his_id)]
    assert tables == ["MS_YYGH", "MS_YYGHHY", "MS_GHMX", "MS_THMX", "MS_MZXX", "MS_FKXX", "MS_FKXX", "MS_FKXX"]
    with pytest.raises(WindowRefusal, match="已退号"):
        sample.window.refund(his_id, operator="0932")
    assert order(sample, his_id) == row


def test_refusals(sample: Sample) -> None:
    _, his_id = book(sample, paid=False)
    with pytest.raises(WindowRefusal, match="未缴费不能退号"):
        sample.window.refund(his_id, operator="0931")
    with pytest.raises(WindowRefusal, match="未缴费"):
        sample.window.check_in(his_id)
    with pytest.raises(WindowRefusal, match="操作员不存在"):
        sample.window.cancel_booking(his_id, operator="nobody")
    for unknown in ("99", "G99", "abc"):
        with pytest.raises(WindowRefusal, match="未找到预约"):
            sample.window.refund(unknown, operator="0931")
    with pytest.raises(WindowRefusal, match="排班不存在"):
        sample.window.walk_in("20991231.1.1.1", people(sample)[1], operator="0931")
    assert order(sample, his_id).state == "BOOKED"


def test_check_in_and_visit(sample: Sample) -> None:
    _, his_id = book(sample, paid=True)
    sample.window.check_in(his_id)
    assert order(sample, his_id).state == "CHECKED_IN"
    with pytest.raises(WindowRefusal, match="已经签到"):
        sample.window.check_in(his_id)
    sample.window.visit(his_id)
    assert order(sample, his_id).state == "VISITED"
    with pytest.raises(WindowRefusal, match="已经就诊过了"):
        sample.window.visit(his_id)
    with pytest.raises(WindowRefusal, match="不能作废"):
        sample.window.refund(his_id, operator="0931")


def test_suspend_is_one_flag_and_nothing_else(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    before = session_row(sample, schedule)
    sample.window.suspend_schedule(schedule, operator="0933", reason="医生病假")
    assert session_row(sample, schedule) == {**before, "TGBZ": 1}
    assert order(sample, his_id).state == "PAID"
    with pytest.raises(WindowRefusal, match="停"):
        sample.window.suspend_schedule(schedule, operator="0933", reason="医生病假")
    with pytest.raises(WindowRefusal, match="停"):
        sample.window.walk_in(schedule, people(sample)[1], operator="0931")
    sample.window.resume_schedule(schedule, operator="0933")
    assert session_row(sample, schedule) == before
    with pytest.raises(WindowRefusal, match="未停诊"):
        sample.window.resume_schedule(schedule, operator="0933")


def test_replaced_twice_keeps_the_id(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    gone = sample.window.book_for_channel(schedule, people(sample)[0], "16T0002", paid=False)
    sample.window.cancel_booking(gone, operator="0931")
    planned = schedule.split(".")[2]
    busy = f"SELECT 1 FROM MS_YSPB WHERE YSDM = YGDM AND GZRQ = '{schedule[:8]}'"
    with sample.engine.connect() as connection:
        sql = f"SELECT YGDM FROM GY_YGDM WHERE YGLB = 1 AND ZFPB = 0 AND YGDM <> :planned AND NOT EXISTS ({busy})"
        free = [row[0] for row in connection.execute(text(sql), {"planned": planned})]
    for doctor in free[:2]:
        sample.window.replace_doctor(schedule, doctor, operator="0934")
        rows = dict(sample.window.raw(his_id))
        assert (rows["MS_YYGH"]["YSDM"], rows["MS_GHMX"]["YSDM"]) == (doctor, doctor)
        assert (session_row(sample, schedule)["YSDM"], session_row(sample, schedule)["YPYS"]) == (doctor, planned)
        assert order(sample, his_id).schedule_id == schedule
        with pytest.raises(WindowRefusal, match="替诊"):
            sample.window.replace_doctor(schedule, doctor, operator="0934")
    assert dict(sample.window.raw(gone)[0][1])["YSDM"] == planned
    assert order(sample, gone).schedule_id == schedule
    sample.window.refund(his_id, operator="0931")
    assert session_row(sample, schedule)["YYRS"] == sample.one(
        "SELECT COUNT(*) FROM MS_YYGHHY WHERE HYZT = '2' AND HYYS = :d AND DATE(HYSJ) = :day",
        d=planned,
        day=schedule[:8],
    )


def test_walk_in_takes_every_number_and_no_more(sample: Sample) -> None:
    schedule, who = sessions(sample)[0], people(sample)
    free = left(sample, schedule)
    made = [sample.window.walk_in(schedule, who[n % len(who)], operator="0935") for n in range(free)]
    assert len(set(made)) == free
    with pytest.raises(WindowRefusal, match="挂满"):
        sample.window.walk_in(schedule, who[0], operator="0935")
    row = order(sample, made[0])
    assert (row.state, row.operator, row.platform_order_no, row.schedule_id) == ("PAID", "0935", None, schedule)
    sample.window.check_in(made[1])
    assert order(sample, made[1]).state == "CHECKED_IN"
    sample.window.refund(made[0], operator="0936")
    assert (order(sample, made[0]).state, order(sample, made[0]).operator) == ("REFUNDED", "0936")
    assert left(sample, schedule) == 1
    assert sample.window.half_written(schedule, who[0]) is None


BILL = InsuredBill("440300S1", "D1", "44030000000000000123", "310", 900, 100, 1000)


def test_insured_at_the_window_and_its_red_rows(sample: Sample) -> None:
    """Fund, account and cash are apart; the reversal is a row of its own, and all of it adds up to nothing."""
    schedule = next(s for s in sessions(sample) if order_fee(sample, s) == 2000)
    his_id = sample.window.register_insured(schedule, people(sample)[0], BILL, operator="0931")
    rows = [(table, row) for table, row in sample.window.raw(his_id)]
    found = dict(rows)
    assert (found["MS_GHMX"]["BRXZ"], found["MS_GHMX"]["NJJBLSH"], found["MS_GHMX"]["ZHJE"]) == (2, "440300S1", 1.0)
    assert (found["MS_MZXX"]["JJZFJE"], found["MS_MZXX"]["XJJE"], found["MS_MZXX"]["ZJJE"]) == (9.0, 10.0, 20.0)
    assert [(r["FKFS"], r["FKJE"], r["FKHM"]) for t, r in rows if t == "MS_FKXX"] == [
        (1, 10.0, None),
        (9, 10.0, "440300S1"),
    ]
    with pytest.raises(WindowRefusal, match="医疗保险号"):
        sample.window.refund(his_id, operator="0931")
    sample.window.refund_insured(his_id, "440300S2", operator="0932")
    for sql in (
        "SUM(FKJE) FROM MS_FKXX JOIN MS_MZXX USING (MZXH)",
        "SUM(ZFY + JJZE + ZHZF + XJZF) FROM YB_GHJS y JOIN MS_MZXX USING (MZXH)",
    ):
        assert sample.one(f"SELECT {sql} WHERE GHGL = :s", s=his_id[1:]) == 0
    assert sample.one("SELECT JSID FROM YB_GHJS WHERE SBXH = :s AND JSLX = 2", s=his_id[1:]) == "440300S2"
    wrong = dataclasses.replace(BILL, cash_fen=1001)
    with pytest.raises(WindowRefusal, match="不符"):
        sample.window.register_insured(schedule, people(sample)[1], wrong, operator="0931")
    assert not sample.one("SELECT COUNT(*) FROM MS_GHMX WHERE BRID = :b", b=people(sample)[1])


def order_fee(sample: Sample, schedule: str) -> int:
    return int(sample.one("SELECT ROUND((GHF + ZLF) * 100) FROM MS_GHKS WHERE KSDM = :k", k=schedule.split(".")[1]))


def test_the_day_sheet_says_what_was_taken_how(sample: Sample) -> None:
    """MS_GHRB by cash, 医保 and the rest; its details by mode; a refund of the next day is on the next sheet."""
    sample.run("UPDATE MS_GHMX SET JZRQ = '2020-01-01' WHERE CZGH = '0936' AND JZRQ IS NULL")
    sample.run("UPDATE MS_THMX SET JZRQ = '2020-01-01' WHERE CZGH = '0936' AND JZRQ IS NULL")
    schedule = next(s for s in sessions(sample) if order_fee(sample, s) == 2000)
    first = sample.window.register_insured(schedule, people(sample)[0], BILL, operator="0936")
    second = sample.window.walk_in(schedule, people(sample)[1], operator="0936")
    sample.window.refund(second, operator="0936")
    sample.window.walk_in(schedule, people(sample)[2], operator="0936")
    closed = sample.window.close_day(operator="0936").split("@")[1]
    sheet = "SELECT {} FROM MS_GHRB WHERE CZGH = '0936' AND JZRQ = :d"
    columns = {"ZJJE": 40.0, "XJJE": 30.0, "QTYS": 0.0, "YBZFHJ": 10.0, "FPZS": 3, "THSL": 1, "THJE": 20.0}
    assert {name: sample.one(sheet.format(name), d=closed) for name in columns} == columns
    details = "SELECT FKJE FROM MS_GHRB_FKMX WHERE CZGH = '0936' AND JZRQ = :d AND FKFS = :m"
    assert (sample.one(details, d=closed, m=1), sample.one(details, d=closed, m=9)) == (30.0, 10.0)
    sample.run("UPDATE GY_XTCS SET CSZ = '0' WHERE CSMC = 'RJHTH'")
    with pytest.raises(WindowRefusal, match="已日结"):
        sample.window.refund_insured(first, "440300S2", operator="0936")
    sample.run("UPDATE GY_XTCS SET CSZ = '1' WHERE CSMC = 'RJHTH'")
    sample.window.refund_insured(first, "440300S2", operator="0936")
    assert sample.one("SELECT COUNT(*) FROM MS_GHMX WHERE CZGH = '0936' AND JZRQ IS NULL") == 0
    assert sample.one("SELECT COUNT(*) FROM MS_THMX WHERE CZGH = '0936' AND JZRQ IS NULL") == 1


def test_the_vendor_clears_holds_of_every_channel(sample: Sample) -> None:
    """The sample's hold that ran out yesterday goes, one of WeChat that did too; one that is good stays."""
    schedule = sessions(sample)[0]
    held = sample.window.book_for_channel(schedule, people(sample)[0], "16T9", paid=False)
    sample.run("UPDATE MS_YYGHHY SET HYZT = '1', SOURCE = 2, DDSJ = '2020-01-01 00:00:00' WHERE DDH = '16T9'")
    sample.run("DELETE FROM MS_YYGH WHERE YYXH = :y", y=held)
    before = sample.one("SELECT SUM(YYRS) FROM MS_YSPB")
    assert sample.window.clear_holds() == 2
    assert sample.one("SELECT SUM(YYRS) FROM MS_YSPB") == before - 2
    assert sample.one("SELECT SUM(YYRS) FROM MS_YSPB") == sample.one(
        "SELECT COUNT(*) FROM MS_YYGHHY WHERE HYZT IN ('1', '2')"
    )
    assert sample.window.clear_holds() == 0


# --- the mapping where this vendor is peculiar --------------------------------------------------------------------


async def read(his: HisAccess, operation: str, **fields: Any) -> Any:
    return await his.read(operation, contract.operation(operation).request_class(**fields))


async def write(his: HisAccess, operation: str, **fields: Any) -> Any:
    request = contract.operation(operation).request_class(**fields)
    return await his.write(operation, request, key=f"{operation}{fields}")


async def refused(awaitable: Any) -> int:
    with pytest.raises(HisRefused) as caught:
        await awaitable
    return caught.value.reason


def lock(his: HisAccess, schedule: str, order_no: str) -> Any:
    return write(his, "AppointmentService.LockSlot", order_no=order_no, schedule_id=schedule, slot_id=schedule)


def booking(his: HisAccess, schedule: str, order_no: str, patient: str) -> Any:
    fields = {"order_no": order_no, "schedule_id": schedule, "slot_id": schedule, "patient_id": patient}
    return write(his, "AppointmentService.BookAppointment", **fields)


async def test_an_order_number_that_does_not_fit_is_refused_not_cut(sample: Sample, his: HisAccess) -> None:
    schedule, patient = sessions(sample)[0], people(sample)[0]
    assert await refused(lock(his, schedule, "1" * 33)) == R.REASON_INVALID_REQUEST
    assert await refused(booking(his, schedule, "1" * 33, patient)) == R.REASON_INVALID_REQUEST
    made = (await booking(his, schedule, "1" * 32, patient)).appointment
    pay = {"order_no": "1" * 32, "amount_fen": made.total_fen, "method": common_pb2.PAYMENT_METHOD_WECHAT}
    too_long = write(his, "PaymentService.ConfirmPayment", out_trade_no="2" * 41, **pay)
    assert await refused(too_long) == R.REASON_INVALID_REQUEST
    too_long = write(his, "PaymentService.ConfirmPayment", out_trade_no="2" * 40, transaction_id="3" * 41, **pay)
    assert await refused(too_long) == R.REASON_INVALID_REQUEST
    paid = await write(his, "PaymentService.ConfirmPayment", out_trade_no="2" * 40, transaction_id="3" * 40, **pay)
    assert (paid.payment.out_trade_no, paid.payment.transaction_id) == ("2" * 40, "3" * 40)
    assert sample.one("SELECT SFZH FROM MS_YYGHHY WHERE DDH = :o", o="1" * 32) is None


async def test_the_same_number_of_another_channel_is_not_ours(sample: Sample, his: HisAccess) -> None:
    schedule, patient = sessions(sample)[0], people(sample)[0]
    sample.window.book_for_channel(schedule, people(sample)[1], "16O1", paid=False)
    sample.run("UPDATE MS_YYGHHY SET SOURCE = 2 WHERE DDH = '16O1'")
    assert (
        await refused(read(his, "AppointmentService.GetAppointment", order_no="16O1")) == R.REASON_APPOINTMENT_NOT_FOUND
    )
    assert (
        await refused(write(his, "AppointmentService.CancelAppointment", order_no="16O1"))
        == R.REASON_APPOINTMENT_NOT_FOUND
    )
    made = (await booking(his, schedule, "16O1", patient)).appointment
    assert (made.patient_id, made.channel) == (patient, "160")
    await write(his, "AppointmentService.CancelAppointment", order_no="16O1")
    assert sample.one("SELECT HYZT FROM MS_YYGHHY WHERE DDH = '16O1' AND SOURCE = 2") == "2"


async def test_ids_are_not_read_loosely(sample: Sample, his: HisAccess) -> None:
    """MySQL takes '100023x' for 100023 where a number column is compared with text."""
    schedule, patient = sessions(sample)[0], people(sample)[0]
    for wrong in (f"{patient}x", f"{patient} OR 1=1", "", "x"):
        assert await refused(booking(his, schedule, "16L1", wrong)) == R.REASON_PATIENT_NOT_FOUND
    for wrong in (f"{schedule}x", schedule.replace(".", ".0", 1), "2026-99-99.1.1.1", "x", f"{schedule}.1"):
        assert await refused(booking(his, wrong, "16L1", patient)) == R.REASON_SCHEDULE_NOT_FOUND
        assert not (await read(his, "CatalogService.ListSlots", schedule_id=wrong)).slots
    made = (await booking(his, schedule, "16L1", patient)).appointment
    wrong_id = read(his, "AppointmentService.GetAppointment", order_no="16L1", appointment_id=f"{made.appointment_id}x")
    assert await refused(wrong_id) == R.REASON_APPOINTMENT_NOT_FOUND
    by_patient = (
        await read(
            his,
            "AppointmentService.ListAppointments",
            from_date=date_pb2.Date(year=2000, month=1, day=1),
            to_date=date_pb2.Date(year=2100, month=1, day=1),
            patient_id=patient,
        )
    ).appointments
    assert [a.appointment_id for a in by_patient] == [made.appointment_id]


async def test_rare_characters_are_different_names(sample: Sample, his: HisAccess) -> None:
    """Under utf8mb4_general_ci all characters beyond the BMP are equal."""
    fields = {"document_type": "01", "document_no": "440305199001019017", "mobile": "12600000000", "sex": "1"}
    made = (await write(his, "PatientService.EnsurePatient", name="李𠅤", **fields)).patient
    assert (
        await refused(write(his, "PatientService.EnsurePatient", name="李𠀀", **fields))
        == R.REASON_PATIENT_NAME_MISMATCH
    )
    find = {"document_type": "01", "document_no": "440305199001019017"}
    found = await read(his, "PatientService.FindPatients", name="李𠅤", **find)
    assert [p.patient_id for p in found.patients] == [made.patient_id]
    assert not (await read(his, "PatientService.FindPatients", name="李𠀀", **find)).patients


async def test_a_cancel_time_that_is_text_in_two_forms(sample: Sample, his: HisAccess) -> None:
    """MS_YYGH.QXSJ: '2026/3/2 8:05:09' of the window, '2026-03-02 08:05:09' of an interface; the sibling tables have DATETIME."""
    schedule, who = sessions(sample)[0], people(sample)
    times = []
    for number, at in (("16X1", "2026/3/2 8:05:09"), ("16X2", None)):
        made = (await booking(his, schedule, number, who[0])).appointment
        if at is None:
            await write(his, "AppointmentService.CancelAppointment", order_no=number)
            assert "-" in sample.one("SELECT QXSJ FROM MS_YYGH WHERE YYXH = :y", y=made.appointment_id)
        else:
            sample.window.cancel_booking(made.appointment_id, operator="0931")
            assert "/" in sample.one("SELECT QXSJ FROM MS_YYGH WHERE YYXH = :y", y=made.appointment_id)
            sample.run("UPDATE MS_YYGH SET QXSJ = :t WHERE YYXH = :y", t=at, y=made.appointment_id)
        found = (await read(his, "AppointmentService.GetAppointment", order_no=number)).appointment
        times.append(found.cancel_time.ToDatetime())
    assert times[0] == dt.datetime(2026, 3, 2, 0, 5, 9)
    assert times[1].date() >= sample.today - dt.timedelta(days=1)


async def test_zero_dates_are_absent(sample: Sample, his: HisAccess) -> None:
    zero = str(sample.one("SELECT BRID FROM MS_BRDA WHERE CAST(CSNY AS CHAR) = '0000-00-00' AND ZXBZ = 0 LIMIT 1"))
    found = (await read(his, "PatientService.FindPatients", patient_id=zero)).patients[0]
    assert not found.HasField("birthday")
    schedule, held = sessions(sample)[0], sample.one("SELECT BRID FROM MS_YYXZ WHERE XZLX = 1")
    assert await refused(booking(his, schedule, "16Z1", str(held))) == R.REASON_PATIENT_BLOCKED
    owing = sample.one("SELECT BRID FROM MS_YYXZ WHERE XZLX = 2")
    assert await refused(booking(his, schedule, "16Z1", str(owing))) == R.REASON_PATIENT_IN_ARREARS
    made = (await booking(his, schedule, "16Z2", people(sample)[0])).appointment
    assert not made.HasField("cancel_time")


async def test_twenty_orders_for_the_last_five_numbers(sample: Sample, his: HisAccess) -> None:
    schedule = sessions(sample)[0]
    sample.run(f"UPDATE MS_YSPB SET YYXE = YYRS + 5, GHXE = 99 WHERE {_SID} = :s", s=schedule)

    async def attempt(number: int) -> int:
        try:
            return int((await lock(his, schedule, f"16C{number}")).lock.queue_no)
        except HisRefused as error:
            assert error.reason == R.REASON_NO_SLOT_LEFT
            return 0

    numbers = [n for n in await asyncio.gather(*(attempt(n) for n in range(20))) if n]
    assert len(numbers) == len(set(numbers)) == 5
    row = session_row(sample, schedule)
    assert row["YYRS"] == row["YYXE"]


async def test_an_order_holds_one_session_at_a_time(sample: Sample, his: HisAccess) -> None:
    first, second = sessions(sample)[:2]
    held = (await lock(his, first, "16H1")).lock
    assert await refused(lock(his, second, "16H1")) == R.REASON_DUPLICATE_APPOINTMENT
    assert (await lock(his, first, "16H1")).lock.queue_no == held.queue_no
    await write(his, "AppointmentService.UnlockSlot", order_no="16H1")
    assert (await lock(his, second, "16H1")).lock.slot_id == second


async def test_locks_that_ran_out_are_swept_when_the_next_comes(sample: Sample, his: HisAccess) -> None:
    schedule, who = sessions(sample)[0], people(sample)
    sample.run(f"UPDATE MS_YSPB SET YYXE = YYRS + 2 WHERE {_SID} = :s", s=schedule)
    await lock(his, schedule, "16E1")
    await lock(his, schedule, "16E2")
    assert await refused(lock(his, schedule, "16E3")) == R.REASON_NO_SLOT_LEFT
    sample.run("UPDATE MS_YYGHHY SET DDSJ = '2020-01-01 00:00:00' WHERE DDH IN ('16E1', '16E2')")
    slot = (await read(his, "CatalogService.ListSlots", schedule_id=schedule)).slots[0]
    assert slot.free_count == 2
    await booking(his, schedule, "16E3", who[0])
    assert sample.one("SELECT COUNT(*) FROM MS_YYGHHY WHERE DDH IN ('16E1', '16E2') AND HYZT = '3'") == 2
    assert session_row(sample, schedule)["YYXE"] - session_row(sample, schedule)["YYRS"] == 1
    await write(his, "AppointmentService.UnlockSlot", order_no="16E1")
    assert session_row(sample, schedule)["YYXE"] - session_row(sample, schedule)["YYRS"] == 1
    # A lock that ran out but was not swept is no longer good; locking again renews it.
    await lock(his, schedule, "16E4")
    sample.run("UPDATE MS_YYGHHY SET DDSJ = '2020-01-01 00:00:00' WHERE DDH = '16E4'")
    assert await refused(booking(his, schedule, "16E4", who[1])) == R.REASON_LOCK_EXPIRED
    await lock(his, schedule, "16E4")
    kept = (await booking(his, schedule, "16E4", who[1])).appointment
    assert kept.state == common_pb2.APPOINTMENT_STATE_BOOKED


async def test_a_replaced_session_is_booked_and_paid_under_its_old_id(sample: Sample, his: HisAccess) -> None:
    schedule, who = sessions(sample)[0], people(sample)
    made = (await booking(his, schedule, "16R1", who[0])).appointment
    doctor = sample.one(
        "SELECT YGDM FROM GY_YGDM WHERE YGLB = 1 AND ZFPB = 0 AND YGDM NOT IN (SELECT YSDM FROM MS_YSPB WHERE GZRQ = :d)",
        d=schedule[:8],
    )
    sample.window.replace_doctor(schedule, doctor, operator="0933")
    later = (await booking(his, schedule, "16R2", who[1])).appointment
    assert (later.schedule_id, later.doctor_id) == (schedule, doctor)
    assert await refused(booking(his, schedule, "16R3", who[0])) == R.REASON_DUPLICATE_APPOINTMENT
    pay = {"amount_fen": made.total_fen, "method": common_pb2.PAYMENT_METHOD_WECHAT, "transaction_id": "W"}
    paid = await write(his, "PaymentService.ConfirmPayment", order_no="16R1", out_trade_no="M16R1", **pay)
    assert (paid.appointment.schedule_id, paid.appointment.doctor_id) == (schedule, doctor)
    cancelled = await write(his, "AppointmentService.CancelAppointment", order_no="16R2")
    assert cancelled.appointment.schedule_id == schedule
    day = date_pb2.Date(year=int(schedule[:4]), month=int(schedule[4:6]), day=int(schedule[6:8]))
    listed = (await read(his, "CatalogService.ListSuspensions", from_date=day, to_date=day)).suspensions
    mine = next(s for s in listed if s.schedule.schedule_id == schedule)
    assert (mine.schedule.doctor_id, mine.replacement_doctor_id) == (schedule.split(".")[2], doctor)


async def test_float_residues_are_the_amount(sample: Sample, his: HisAccess) -> None:
    schedule = sample.one(
        f"SELECT {_SID} FROM MS_YSPB p JOIN MS_GHKS k USING (KSDM) WHERE k.ZLF <> ROUND(k.ZLF, 2) AND p.GZRQ > :t AND p.TGBZ = 0 "
        "AND p.YYXE > p.YYRS LIMIT 1",
        t=sample.today,
    )
    made = (await booking(his, schedule, "16F1", people(sample)[0])).appointment
    assert made.total_fen % 10 == 0
    pay = {"amount_fen": made.total_fen, "method": common_pb2.PAYMENT_METHOD_WECHAT, "transaction_id": "W"}
    paid = await write(his, "PaymentService.ConfirmPayment", order_no="16F1", out_trade_no="M16F1", **pay)
    assert paid.appointment.paid_fen == paid.payment.amount_fen == made.total_fen
    sample.run("UPDATE MS_GHMX SET JZRQ = NOW() WHERE HYXH = (SELECT HYXH FROM MS_YYGHHY WHERE DDH = '16F1')")
    refund = {"out_trade_no": "M16F1", "out_refund_no": "R16F1", "amount_fen": made.total_fen}
    back = await write(his, "PaymentService.RefundPayment", order_no="16F1", **refund)
    assert back.appointment.refunded_fen == made.total_fen
    # Day-closed yesterday, refunded today: the refund is open for today's sheet.
    assert sample.one(
        "SELECT COUNT(*) FROM MS_THMX t JOIN MS_GHMX x ON x.SBXH = t.SBXH WHERE x.PAYTYPE = '160' AND t.JZRQ IS NULL"
    )
