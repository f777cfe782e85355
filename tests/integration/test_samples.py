"""Both sample HIS: creation, traps, the window program, and the procedures of winning under concurrency."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, text

from his_db.engine import SourceSettings
from his_db.registry import load_sample
from his_db.sample import FULL, SMALL, OrderRow, SampleHis, SampleSummary, WindowProgram, WindowRefusal
from tests.servers import url_of

TODAY = datetime.date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Sample:
    his: SampleHis
    url: str
    window: WindowProgram
    engine: Engine
    summary: SampleSummary

    def one(self, sql: str, **binds: object) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text(sql), binds).scalar()

    def run(self, sql: str, **binds: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), binds)

    def call(self, procedure: str, outs: int, *values: object, commit: bool = True) -> tuple[object, ...]:
        marks = ", ".join([f":v{n}" for n in range(len(values))] + ["NULL"] * outs)
        with self.engine.connect() as connection:
            binds = {f"v{n}": value for n, value in enumerate(values)}
            row = connection.execute(text(f"CALL his.{procedure}({marks})"), binds).one()
            if commit:
                connection.commit()
        return tuple(row)


@pytest.fixture(scope="module")
def postgres_url(postgresql_module_database: SourceSettings) -> str:
    """A fresh database on the server of the suite, which may not be skipped where HIS160_REQUIRE names it."""
    return "postgresql+psycopg" + url_of(postgresql_module_database).removeprefix("postgresql")


def _open(name: str, url: str) -> Sample:
    his = load_sample(name)
    summary = his.create(url, today=TODAY, size=SMALL)
    engine = create_engine(url, pool_size=24)
    if name == "zebone":

        @event.listens_for(engine, "connect")
        def wait_for_writers(connection: object, _: object) -> None:
            connection.execute("PRAGMA busy_timeout=10000")  # type: ignore[attr-defined]

    return Sample(his, url, his.window(url), engine, summary)


@pytest.fixture(params=["zebone", "winning"])
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sample]:
    name = request.param
    url = f"sqlite:///{tmp_path}/his.db" if name == "zebone" else request.getfixturevalue("postgres_url")
    opened = _open(name, url)
    yield opened
    opened.window.close()
    opened.engine.dispose()


@pytest.fixture
def winning(postgres_url: str) -> Iterator[Sample]:
    opened = _open("winning", postgres_url)
    yield opened
    opened.window.close()
    opened.engine.dispose()


@pytest.fixture
def zebone(tmp_path: Path) -> Iterator[Sample]:
    opened = _open("zebone", f"sqlite:///{tmp_path}/his.db")
    yield opened
    opened.window.close()
    opened.engine.dispose()


_OPEN = {
    "zebone": "SELECT PK_SCH FROM SCH_SCH s WHERE FLAG_STOP='0' AND EU_STATUS='8' AND DATE_WORK > '2026-11-24' "
    "AND EXISTS (SELECT 1 FROM SCH_RESOURCE r WHERE r.PK_SCHRES=s.PK_SCHRES AND r.EU_RESTYPE='1') ORDER BY PK_SCH",
    "winning": "SELECT pbmxid FROM his.gh_yy_pbzbmx p WHERE tzbz=0 AND jlzt=0 AND zbrq > '20261123' AND ysdm <> '' "
    "AND NOT EXISTS (SELECT 1 FROM his.gh_yy_sdk k WHERE k.pbmxid = p.pbmxid) ORDER BY pbmxid",
}
_PATIENTS = {
    "zebone": "SELECT PK_PI FROM PI_MASTER p WHERE DEL_FLAG='0' AND NOT EXISTS (SELECT 1 FROM PI_LOCK l WHERE "
    "l.PK_PI=p.PK_PI) AND NOT EXISTS (SELECT 1 FROM SCH_APPT a WHERE a.PK_PI=p.PK_PI) ORDER BY CODE_PI",
    "winning": "SELECT patid FROM his.sf_brxxk p WHERE jlzt=0 AND NOT EXISTS (SELECT 1 FROM his.gh_yy_hmd h WHERE "
    "h.patid=p.patid) AND NOT EXISTS (SELECT 1 FROM his.vw_ghzdk z WHERE z.patid=p.patid) "
    "AND NOT EXISTS (SELECT 1 FROM his.gh_ghyyk y WHERE y.patid=p.patid) ORDER BY patid",
}
_REMAINING = {
    "zebone": "SELECT COUNT(*) FROM SCH_TICKET WHERE PK_SCH=:id AND FLAG_USED='0' AND FLAG_STOP='0'",
    "winning": "SELECT syhs FROM his.vw_yy_hysl WHERE pbmxid=:id",
}


def schedule_of(sample: Sample) -> str:
    return str(sample.one(_OPEN[sample.his.name]))


def patients_of(sample: Sample) -> list[str]:
    with sample.engine.connect() as connection:
        return [str(row[0]) for row in connection.execute(text(_PATIENTS[sample.his.name]))]


def remaining(sample: Sample, schedule: str) -> int:
    value: object = schedule if sample.his.name == "zebone" else Decimal(schedule)
    return int(str(sample.one(_REMAINING[sample.his.name], id=value)))


def order_of(sample: Sample, his_id: str) -> OrderRow:
    return next(o for o in sample.window.orders(channel_only=False, limit=10_000) if o.his_id == his_id)


def book(sample: Sample, *, paid: bool, order_no: str = "16T0001") -> tuple[str, str]:
    schedule = schedule_of(sample)
    return schedule, sample.window.book_for_channel(schedule, patients_of(sample)[0], order_no, paid=paid)


def test_create_counts_and_again(sample: Sample) -> None:
    assert sample.summary.patients == SMALL.patients
    assert sample.summary.slots > 300
    assert sample.his.create(sample.url, today=TODAY, size=SMALL) == sample.summary
    orders = sample.window.orders(channel_only=False, states=None, limit=10_000)
    assert len([o for o in orders if o.state != "HALF_WRITTEN"]) == sample.summary.registrations
    assert sum(o.state == "REFUNDED" for o in orders) == sample.summary.refunds
    channel = sample.window.orders(channel_only=True, limit=10_000)
    assert 0 < len(channel) < len(orders)
    assert all(o.platform_order_no and o.platform_order_no.startswith("16") for o in channel)
    assert len(sample.window.orders(channel_only=True, limit=3)) == 3


def test_books_agree(sample: Sample) -> None:
    for order in sample.window.orders(channel_only=False, limit=10_000):
        if order.state in ("BOOKED", "CANCELLED", "HALF_WRITTEN"):
            assert (order.paid_fen, order.refunded_fen) == (0, 0)
        else:
            assert order.paid_fen == order.total_fen > 0
            assert order.refunded_fen == (order.paid_fen if order.state == "REFUNDED" else 0)


def test_cancel_booking(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=False)
    before = remaining(sample, schedule)
    assert order_of(sample, his_id).state == "BOOKED"
    sample.window.cancel_booking(his_id, operator="0931")
    order = order_of(sample, his_id)
    assert (order.state, order.operator, order.platform_order_no) == ("CANCELLED", "0931", "16T0001")
    assert remaining(sample, schedule) == before + 1
    with pytest.raises(WindowRefusal, match="该患者已经取消预约"):
        sample.window.cancel_booking(his_id, operator="0931")
    with pytest.raises(WindowRefusal, match="该患者已经取消预约"):
        sample.window.refund(his_id, operator="0931")


def test_refund(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    before = remaining(sample, schedule)
    with pytest.raises(WindowRefusal, match="请在挂号处退号"):
        sample.window.cancel_booking(his_id, operator="0931")
    sample.window.refund(his_id, operator="0932")
    order = order_of(sample, his_id)
    assert (order.state, order.operator, order.refunded_fen) == ("REFUNDED", "0932", order.paid_fen)
    assert remaining(sample, schedule) == before + 1
    tables = [table for table, _ in sample.window.raw(his_id)]
    assert tables.count("BL_SETTLE" if sample.his.name == "zebone" else "his.sf_brjsk") == 2
    with pytest.raises(WindowRefusal, match="退号"):
        sample.window.refund(his_id, operator="0932")
    assert order_of(sample, his_id) == order


def test_refund_refusals(sample: Sample) -> None:
    _, his_id = book(sample, paid=False)
    with pytest.raises(WindowRefusal, match="未缴费不能退号"):
        sample.window.refund(his_id, operator="0931")
    with pytest.raises(WindowRefusal, match="操作员不存在"):
        sample.window.cancel_booking(his_id, operator="nobody")
    with pytest.raises(WindowRefusal, match="未找到预约"):
        sample.window.refund("99", operator="0931")
    assert order_of(sample, his_id).state == "BOOKED"


def test_check_in_and_visit(sample: Sample) -> None:
    _, his_id = book(sample, paid=True)
    sample.window.check_in(his_id)
    assert order_of(sample, his_id).state == "CHECKED_IN"
    with pytest.raises(WindowRefusal, match="已经签到"):
        sample.window.check_in(his_id)
    sample.window.visit(his_id)
    assert order_of(sample, his_id).state == "VISITED"
    with pytest.raises(WindowRefusal, match="已经就诊过了"):
        sample.window.visit(his_id)
    with pytest.raises(WindowRefusal, match="该号已经看诊,不能作废"):
        sample.window.refund(his_id, operator="0931")


def test_check_in_needs_payment(sample: Sample) -> None:
    _, his_id = book(sample, paid=False)
    with pytest.raises(WindowRefusal, match="未缴费"):
        sample.window.check_in(his_id)


def test_suspend_and_resume(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    before = remaining(sample, schedule)
    sample.window.suspend_schedule(schedule, operator="0933", reason="医生病假")
    assert order_of(sample, his_id).state == "PAID"
    rows = sample.window.raw_schedule(schedule)
    assert any("医生病假" in row.values() for _, row in rows)
    with pytest.raises(WindowRefusal, match="停"):
        sample.window.suspend_schedule(schedule, operator="0933", reason="医生病假")
    with pytest.raises(WindowRefusal, match="停"):
        sample.window.walk_in(schedule, patients_of(sample)[1], operator="0931")
    sample.window.resume_schedule(schedule, operator="0933")
    assert remaining(sample, schedule) == before
    with pytest.raises(WindowRefusal, match="未停诊"):
        sample.window.resume_schedule(schedule, operator="0933")
    sample.window.walk_in(schedule, patients_of(sample)[1], operator="0931")


def test_refund_of_a_stopped_schedule_frees_nothing_to_sell(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    sample.window.suspend_schedule(schedule, operator="0933", reason="设备检修")
    sample.window.refund(his_id, operator="0931")
    assert order_of(sample, his_id).state == "REFUNDED"
    with pytest.raises(WindowRefusal):
        sample.window.book_for_channel(schedule, patients_of(sample)[1], "16T0002", paid=False)


def test_replace_doctor(sample: Sample) -> None:
    schedule, his_id = book(sample, paid=True)
    if sample.his.name == "zebone":
        doctor = sample.one(
            "SELECT PK_EMP FROM SCH_RESOURCE WHERE PK_EMP IS NOT NULL AND PK_SCHRES <> (SELECT PK_SCHRES FROM SCH_SCH "
            "WHERE PK_SCH=:s)",
            s=schedule,
        )
        column, table = "PK_EMP_PHY", "SCH_APPT"
    else:
        doctor = sample.one(
            "SELECT trim(id) FROM his.yy_zgbmk WHERE lb=1 AND jlzt=0 AND id <> (SELECT ysdm FROM his.gh_yy_pbzbmx "
            "WHERE pbmxid=:s)",
            s=Decimal(schedule),
        )
        column, table = "ysdm", "his.gh_ghyyk"
    sample.window.replace_doctor(schedule, str(doctor), operator="0934")
    row = next(row for name, row in sample.window.raw(his_id) if name == table)
    assert str(row[column]).strip() == doctor
    with pytest.raises(WindowRefusal, match="替诊"):
        sample.window.replace_doctor(schedule, str(doctor), operator="0934")


def test_walk_in_takes_every_number_and_no_more(sample: Sample) -> None:
    schedule, people = schedule_of(sample), patients_of(sample)
    free = remaining(sample, schedule)
    made = [sample.window.walk_in(schedule, people[n % len(people)], operator="0935") for n in range(free)]
    assert len(set(made)) == free
    assert remaining(sample, schedule) == 0
    with pytest.raises(WindowRefusal, match="号"):
        sample.window.walk_in(schedule, people[0], operator="0935")
    order = order_of(sample, made[0])
    assert (order.state, order.operator, order.platform_order_no) == ("PAID", "0935", None)
    assert not [o for o in sample.window.orders(channel_only=True, limit=10_000) if o.his_id in made]
    sample.window.refund(made[0], operator="0936")
    assert order_of(sample, made[0]).state == "REFUNDED"
    assert remaining(sample, schedule) == 1


def test_half_written(sample: Sample) -> None:
    his_id = sample.window.half_written(schedule_of(sample), patients_of(sample)[0])
    if sample.his.name == "zebone":
        assert his_id is None
        return
    assert his_id is not None
    assert order_of(sample, his_id).state == "HALF_WRITTEN"
    with pytest.raises(WindowRefusal):
        sample.window.refund(his_id, operator="0931")


def test_the_window_runs_on_the_samples_day(sample: Sample) -> None:
    today = f"{TODAY}" if sample.his.name == "zebone" else f"{TODAY:%Y%m%d}"
    _, his_id = book(sample, paid=False)
    key = "DATE_REG" if sample.his.name == "zebone" else "djrq"
    shown = next(str(row[key]) for _, row in sample.window.raw(his_id) if key in row)
    after = TODAY + datetime.timedelta(days=1)  # the test may run over midnight
    assert shown.startswith((today, f"{after}", f"{after:%Y%m%d}"))


# --- zebone -------------------------------------------------------------------------------------------------------


def test_zebone_traps(zebone: Sample) -> None:
    assert zebone.one("PRAGMA journal_mode") == "wal"
    for table in ("BD_OU_DEPT", "BD_OU_EMPLOYEE", "PI_MASTER"):
        assert zebone.one(f"SELECT COUNT(*) FROM {table} WHERE DEL_FLAG='1'")
    assert zebone.one("SELECT COUNT(*) FROM SCH_SCH WHERE EU_STATUS='0'")
    assert zebone.one("SELECT COUNT(*) FROM SCH_SCHSTOP")
    assert zebone.one("SELECT COUNT(*) FROM PI_MASTER WHERE TS IS NULL")
    assert zebone.one("SELECT COUNT(*) FROM SCH_TICKET WHERE FLAG_LOCK='1' AND DATE_LOCKEND < '2026-11-23'") == 1
    assert zebone.one("SELECT COUNT(*) FROM SCH_APPT WHERE FLAG_NORELEASE='1' AND EU_STATUS='9'") == 1
    assert zebone.one("SELECT COUNT(*) FROM BL_EXT_PAY WHERE REFUND_NO IS NULL AND DATE_REFUND IS NOT NULL")
    assert (
        zebone.one(
            "SELECT COUNT(*) FROM SCH_SCH s WHERE CNT_USED <> (SELECT COUNT(*) FROM SCH_TICKET t WHERE "
            "t.PK_SCH=s.PK_SCH AND t.FLAG_USED='1')"
        )
        == 0
    )


def test_zebone_guarded_lock_has_one_winner(zebone: Sample) -> None:
    schedule = schedule_of(zebone)
    slot = zebone.one("SELECT PK_SCHTICKET FROM SCH_TICKET WHERE PK_SCH=:s AND FLAG_USED='0' LIMIT 1", s=schedule)
    barrier = threading.Barrier(8)

    def lock(number: int) -> int:
        barrier.wait()
        with zebone.engine.begin() as connection:
            return connection.execute(
                text(
                    "UPDATE SCH_TICKET SET FLAG_LOCK='1', ID_LOCK=:o, DATE_LOCKEND='2026-11-23 12:10:00' WHERE "
                    "PK_SCHTICKET=:t AND FLAG_USED='0' AND FLAG_STOP='0' AND (FLAG_LOCK='0' OR ID_LOCK=:o OR "
                    "DATE_LOCKEND<='2026-11-23 12:00:00')"
                ),
                {"o": f"16L{number}", "t": slot},
            ).rowcount

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lock, range(8))) == 1


_JK160 = "(SELECT PK_EMP FROM BD_OU_EMPLOYEE WHERE CODE_EMP='jk160')"
_ORDER = "(SELECT PK_PV FROM SCH_APPT WHERE ORDERID_EXT=:o)"
_FREE_TICKET = (
    "UPDATE SCH_TICKET SET FLAG_USED='0', TS=:now WHERE FLAG_USED='1' AND PK_SCHTICKET="
    "(SELECT PK_SCHTICKET FROM SCH_APPT WHERE ORDERID_EXT=:o)"
)
_ZEBONE_STEPS = {
    "book": [
        "UPDATE SCH_TICKET SET FLAG_USED='1', FLAG_LOCK='0', ID_LOCK=NULL, TS=:now WHERE PK_SCHTICKET=:slot AND "
        "FLAG_USED='0' AND FLAG_STOP='0' AND (FLAG_LOCK='0' OR ID_LOCK=:o OR DATE_LOCKEND<=:now)",
        "INSERT INTO SCH_APPT (PK_SCHAPPT, PK_ORG, CODE_APPT, DT_APPTYPE, PK_SCH, PK_SCHTICKET, TICKETNO, PK_SCHRES, "
        "PK_SCHSRV, PK_DEPT_EX, PK_EMP_PHY, PK_PI, NAME_PI, DATE_APPT, BEGIN_TIME, END_TIME, AMOUNT, DATE_REG, "
        "PK_EMP_REG, ORDERID_EXT, TS) SELECT upper(hex(randomblob(16))), s.PK_ORG, '00000001', '2520', s.PK_SCH, "
        "t.PK_SCHTICKET, t.TICKETNO, s.PK_SCHRES, s.PK_SCHSRV, s.PK_DEPT, r.PK_EMP, p.PK_PI, p.NAME_PI, s.DATE_WORK, "
        f"t.BEGIN_TIME, t.END_TIME, v.PRICE_REG+v.PRICE_DIAG, :now, {_JK160}, :o, :now FROM SCH_TICKET t JOIN "
        "SCH_SCH s "
        "ON s.PK_SCH=t.PK_SCH JOIN SCH_SRV v ON v.PK_SCHSRV=s.PK_SCHSRV JOIN SCH_RESOURCE r ON r.PK_SCHRES=s.PK_SCHRES "
        "JOIN PI_MASTER p ON p.PK_PI=:pi WHERE t.PK_SCHTICKET=:slot AND s.FLAG_STOP='0' AND s.EU_STATUS='8' "
        "AND NOT EXISTS (SELECT 1 FROM SCH_APPT WHERE ORDERID_EXT=:o)",
    ],
    "confirm": [
        "UPDATE SCH_APPT SET EU_STATUS='1', FLAG_PAY='1', DATE_PAY=:now, PK_PV=:pv, TS=:now WHERE ORDERID_EXT=:o AND "
        "EU_STATUS='0' AND ROUND(AMOUNT*100)=:fen AND EXISTS (SELECT 1 FROM SCH_SCH s WHERE s.PK_SCH=SCH_APPT.PK_SCH "
        "AND s.FLAG_STOP='0')",
        "INSERT INTO PV_ENCOUNTER (PK_PV, PK_ORG, CODE_PV, PK_PI, NAME_PI, PK_DEPT, PK_EMP_PHY, PK_SCH, PK_SCHAPPT, "
        "TICKETNO, DATE_BEGIN, DATE_REG, PK_EMP_REG, TS) SELECT PK_PV, PK_ORG, 'P'||substr(PK_PV,1,12), PK_PI, "
        "NAME_PI, "
        f"PK_DEPT_EX, PK_EMP_PHY, PK_SCH, PK_SCHAPPT, TICKETNO, BEGIN_TIME, :now, {_JK160}, :now FROM SCH_APPT "
        "WHERE ORDERID_EXT=:o",
        "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, AMOUNT_REG, "
        "AMOUNT_DIAG, "
        "DATE_ST, PK_EMP_ST, TS) SELECT upper(hex(randomblob(16))), a.PK_ORG, a.PK_PI, a.PK_PV, '00', a.AMOUNT, "
        "a.AMOUNT, "
        f"v.PRICE_REG, v.PRICE_DIAG, :now, {_JK160}, :now FROM SCH_APPT a JOIN SCH_SRV v ON v.PK_SCHSRV=a.PK_SCHSRV "
        "WHERE a.ORDERID_EXT=:o",
        "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, "
        "PK_EMP_PAY, "
        "TRADE_NO, TS) SELECT upper(hex(randomblob(16))), PK_SETTLE, PK_PI, PK_PV, 1, AMOUNT_ST, '15', :now, "
        f"{_JK160}, "
        f"'4200', :now FROM BL_SETTLE WHERE PK_PV={_ORDER} AND DT_STTYPE='00'",
        "INSERT INTO BL_EXT_PAY (PK_EXTPAY, PK_ORG, AMOUNT, EU_PAYTYPE, FLAG_PAY, DATE_PAY, TRADE_NO, SERIAL_NO, "
        "OUT_TRADE_NO, SYSNAME, PK_PI, PK_PV, PK_SETTLE, TS) SELECT upper(hex(randomblob(16))), PK_ORG, "
        "AMOUNT_ST, '15', "
        f"'1', :now, '4200', :o, 'M1', 'Y160', PK_PI, PK_PV, PK_SETTLE, :now FROM BL_SETTLE WHERE PK_PV={_ORDER}",
    ],
    "refund": [
        f"UPDATE SCH_APPT SET EU_STATUS='9', FLAG_CANCEL='1', DATE_CANCEL=:now, PK_EMP_CANCEL={_JK160}, TS=:now WHERE "
        "ORDERID_EXT=:o AND EU_STATUS='1' AND NOT EXISTS (SELECT 1 FROM PV_ENCOUNTER p WHERE "
        "p.PK_PV=SCH_APPT.PK_PV AND "
        "p.EU_STATUS IN ('1','2'))",
        f"UPDATE PV_ENCOUNTER SET EU_STATUS='9', FLAG_CANCEL='1', DATE_CANCEL=:now, TS=:now WHERE PK_PV={_ORDER} "
        "AND EU_STATUS='0'",
        "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, AMOUNT_REG, "
        "AMOUNT_DIAG, "
        "DATE_ST, PK_EMP_ST, PK_SETTLE_CANC, TS) SELECT upper(hex(randomblob(16))), PK_ORG, PK_PI, PK_PV, '20', "
        "-AMOUNT_ST, "
        f"-AMOUNT_PI, -AMOUNT_REG, -AMOUNT_DIAG, :now, {_JK160}, PK_SETTLE, :now FROM BL_SETTLE WHERE "
        f"PK_PV={_ORDER} AND "
        "DT_STTYPE='00' AND FLAG_CANC='0'",
        f"UPDATE BL_SETTLE SET FLAG_CANC='1', TS=:now WHERE PK_PV={_ORDER} AND DT_STTYPE='00' AND FLAG_CANC='0'",
        "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, "
        "PK_EMP_PAY, "
        "TRADE_NO, PK_DEPO_BACK, TS) SELECT upper(hex(randomblob(16))), s.PK_SETTLE, d.PK_PI, d.PK_PV, -1, -d.AMOUNT, "
        f"d.DT_PAYMODE, :now, {_JK160}, d.TRADE_NO, d.PK_DEPO, :now FROM BL_DEPOSIT d JOIN BL_SETTLE s ON "
        f"s.PK_SETTLE_CANC=d.PK_SETTLE WHERE d.PK_PV={_ORDER} AND d.EU_DIRECT=1",
        "UPDATE BL_EXT_PAY SET REFUND_NO='R1', DATE_REFUND=:now, AMOUNT_REFUND=AMOUNT, TS=:now WHERE SERIAL_NO=:o AND "
        "FLAG_PAY='1' AND REFUND_NO IS NULL AND DATE_REFUND IS NULL",
        _FREE_TICKET,
    ],
}


def test_zebone_is_written_by_guarded_statements(zebone: Sample) -> None:
    schedule = schedule_of(zebone)
    free = remaining(zebone, schedule)
    slot = zebone.one("SELECT PK_SCHTICKET FROM SCH_TICKET WHERE PK_SCH=:s AND FLAG_USED='0' LIMIT 1", s=schedule)
    fee = zebone.one(
        "SELECT PRICE_REG+PRICE_DIAG FROM SCH_SRV v JOIN SCH_SCH s ON s.PK_SCHSRV=v.PK_SCHSRV WHERE PK_SCH=:s",
        s=schedule,
    )
    binds = {
        "o": "16Z1",
        "slot": slot,
        "pi": patients_of(zebone)[0],
        "pv": "AB" * 16,
        "now": "2026-11-23 09:00:00",
        "fen": int(Decimal(str(fee)) * 100),
    }
    left = {"book": free - 1, "confirm": free - 1, "refund": free}
    states = {"book": "BOOKED", "confirm": "PAID", "refund": "REFUNDED"}
    for step, statements in _ZEBONE_STEPS.items():
        with zebone.engine.begin() as connection:
            counts = [connection.execute(text(sql), binds).rowcount for sql in statements]
        assert counts == [1] * len(statements)
        with zebone.engine.begin() as connection:
            assert connection.execute(text(statements[0]), binds).rowcount == 0
        order = next(o for o in zebone.window.orders(channel_only=True, limit=3) if o.platform_order_no == "16Z1")
        assert (order.state, order.operator) == (states[step], "jk160")
        assert remaining(zebone, schedule) == left[step]
        used = "SELECT CNT_USED - (SELECT COUNT(*) FROM SCH_TICKET WHERE PK_SCH=:s AND FLAG_USED='1') FROM SCH_SCH"
        assert zebone.one(used + " WHERE PK_SCH=:s", s=schedule) == 0


# --- winning ------------------------------------------------------------------------------------------------------


def test_winning_traps(winning: Sample) -> None:
    assert winning.one("SELECT count(*) FROM his.gh_ghzdk WHERE jlzt = 9") == 1
    assert winning.one("SELECT count(*) FROM his.gh_ghzdk z JOIN his.vw_ghzdk o ON o.xh = z.txh WHERE z.jlzt = 2")
    assert winning.one("SELECT count(*) FROM his.yy_ksbmk WHERE name <> rtrim(name)")
    assert winning.one("SELECT count(*) FROM his.gh_yy_pbzbmx WHERE ysdm = '' AND octet_length(ysdm) = 6")
    assert winning.one("SELECT count(*) FROM his.gh_yy_pbzbmx WHERE tzbz = 1 AND tzrq IS NOT NULL")
    assert winning.one("SELECT count(*) FROM his.gh_yy_sdk WHERE zt = 0 AND sxsj < '20261123'") == 1
    assert winning.one("SELECT count(*) FROM his.sf_brxxk WHERE sfzh LIKE '%x'") == 1
    assert winning.one("SELECT count(*) FROM his.yy_config") == 6
    assert winning.one(
        "SELECT count(*) FROM (SELECT 1 FROM his.vw_ghzdk WHERE jlzt = 0 GROUP BY pbmxid, ghhx HAVING count(*) > 1) d"
    )
    assert winning.one(
        "SELECT count(*) FROM his.vw_ghzdk r JOIN his.vw_ghzdk z ON z.xh = r.txh "
        "WHERE left(r.czrq, 8) <> left(z.czrq, 8)"
    )


def lock(sample: Sample, order_no: str, schedule: str) -> tuple[object, ...]:
    return sample.call("usp_yy_lockno", 7, order_no, Decimal(schedule), "jk160")


def test_lock_is_idempotent_and_unlock_gives_back(winning: Sample) -> None:
    schedule = schedule_of(winning)
    free = remaining(winning, schedule)
    first = lock(winning, "16P1", schedule)
    assert first[0] == 0
    assert lock(winning, "16P1", schedule) == first
    assert remaining(winning, schedule) == free - 1
    other = str(winning.one(_OPEN["winning"] + " OFFSET 1"))
    assert other != schedule
    assert lock(winning, "16P1", other)[:2] == (-7, "预约单号已被使用！")
    assert winning.call("usp_yy_unlockno", 2, "16P1", "jk160")[0] == 0
    assert winning.call("usp_yy_unlockno", 2, "16P1", "jk160")[0] == 0
    assert remaining(winning, schedule) == free
    assert winning.call("usp_yy_unlockno", 2, "16NONE", "jk160")[0] == -5
    assert lock(winning, "", schedule)[0] == -15


def test_procedures_do_not_commit(winning: Sample) -> None:
    schedule = schedule_of(winning)
    free = remaining(winning, schedule)
    row = winning.call("usp_yy_lockno", 7, "16R1", Decimal(schedule), "jk160", commit=False)
    assert row[0] == 0
    assert remaining(winning, schedule) == free


def test_lock_refusals(winning: Sample) -> None:
    schedule = schedule_of(winning)
    assert lock(winning, "16X1", "1")[:2] == (-1, "排班不存在或已停用！")
    winning.run("UPDATE his.gh_yy_pbzbmx SET zgh = ygh WHERE pbmxid = :s", s=Decimal(schedule))
    assert lock(winning, "16X2", schedule)[:2] == (-2, "该排班已无号源！")
    winning.run("UPDATE his.gh_yy_pbzbmx SET tzbz = 1 WHERE pbmxid = :s", s=Decimal(schedule))
    assert lock(winning, "16X3", schedule)[:2] == (-3, "该排班已停诊或作废！")
    past = winning.one("SELECT pbmxid FROM his.gh_yy_pbzbmx WHERE zbrq < '20261123' AND ygh < zgh AND jlzt = 0")
    assert lock(winning, "16X4", str(past))[:2] == (-4, "排班已过期！")


def test_twenty_threads_lock_the_last_five_numbers(winning: Sample) -> None:
    schedule = schedule_of(winning)
    winning.run("UPDATE his.gh_yy_pbzbmx SET zgh = ygh + 5 WHERE pbmxid = :s", s=Decimal(schedule))
    barrier = threading.Barrier(20)

    def one(number: int) -> tuple[object, ...]:
        barrier.wait()
        return lock(winning, f"16C{number}", schedule)

    with ThreadPoolExecutor(20) as pool:
        rows = list(pool.map(one, range(20)))
    won = [row for row in rows if row[0] == 0]
    assert len(won) == 5
    assert len({row[3] for row in won}) == 5
    assert {row[0] for row in rows} == {0, -2}
    assert remaining(winning, schedule) == 0


def test_expired_locks_are_swept_when_the_schedule_is_full(winning: Sample) -> None:
    schedule, people = schedule_of(winning), patients_of(winning)
    winning.run("UPDATE his.gh_yy_pbzbmx SET zgh = ygh + 1 WHERE pbmxid = :s", s=Decimal(schedule))
    assert lock(winning, "16E1", schedule)[0] == 0
    assert lock(winning, "16E2", schedule)[0] == -2
    winning.run("UPDATE his.gh_yy_sdk SET sxsj = '2026010100:00:00' WHERE ddh = '16E1'")
    assert remaining(winning, schedule) == 1
    booking = winning.call("usp_yy_yysq", 6, "16E1", Decimal(schedule), Decimal(people[0]), "160", "jk160")
    assert booking[:2] == (-8, "锁号已失效，请重新选号！")
    assert lock(winning, "16E2", schedule)[0] == 0
    assert remaining(winning, schedule) == 0


def submit(sample: Sample, order_no: str, schedule: str, patient: str) -> tuple[object, ...]:
    return sample.call("usp_yy_yysq", 6, order_no, Decimal(schedule), Decimal(patient), "160", "jk160")


def pay(sample: Sample, order_no: str, amount: object, trade: str = "") -> tuple[object, ...]:
    trade = trade or f"M{order_no}"
    return sample.call("usp_yy_zfhx", 7, order_no, trade, f"42{trade}", amount, "15", "jk160", 0, None)


def refund(sample: Sample, order_no: str, refund_no: str, amount: object) -> tuple[object, ...]:
    return sample.call("usp_gh_thtf", 4, order_no, "", "", refund_no, amount, "jk160", "用户申请")


def test_book_pay_refund_by_procedures(winning: Sample) -> None:
    schedule, patient = schedule_of(winning), patients_of(winning)[0]
    free = remaining(winning, schedule)
    locked = lock(winning, "16B1", schedule)
    booked = submit(winning, "16B1", schedule, patient)
    assert (booked[0], booked[3], booked[4], booked[5]) == (0, locked[3], locked[4], locked[6])
    assert submit(winning, "16B1", schedule, patient) == booked
    assert lock(winning, "16B1", schedule)[0] == -7
    assert winning.call("usp_yy_unlockno", 2, "16B1", "jk160")[0] == -6
    assert submit(winning, "16B2", schedule, patient)[:2] == (-10, "已存在预约记录,请到窗口确认！")
    amount = Decimal(str(booked[5]))
    assert refund(winning, "16B1", "R1", amount)[0] == -40
    wrong = pay(winning, "16B1", amount + 1)
    assert wrong[:2] == (-31, f"HIS结算金额【{amount}】与支付金额【{amount + 1}】不符!")
    assert pay(winning, "16B0", amount)[0] == -20
    paid = pay(winning, "16B1", amount)
    assert paid[0] == 0
    again = pay(winning, "16B1", amount)
    assert (again[0], again[2], again[3]) == (1, paid[2], paid[3])
    assert pay(winning, "16B1", amount, "OTHER")[0] == -32
    assert winning.call("usp_yy_yyqx", 2, "16B1", "jk160", "")[:2] == (-21, "请在挂号处退号！")
    assert remaining(winning, schedule) == free - 1
    order = next(o for o in winning.window.orders(channel_only=True, limit=5) if o.platform_order_no == "16B1")
    assert (order.state, order.operator, order.paid_fen) == ("PAID", "jk160", int(amount * 100))
    assert refund(winning, "16B1", "R1", amount - 1)[:2] == (-43, "健康160支付订单不支持部分退费")
    back = refund(winning, "16B1", "R1", amount)
    assert (back[0], back[3]) == (0, amount)
    assert refund(winning, "16B1", "R1", amount)[::2] == (1, back[2])
    assert refund(winning, "16B1", "R2", amount)[0] == -41
    assert remaining(winning, schedule) == free
    assert order_of(winning, order.his_id).state == "REFUNDED"


def test_cancel_by_procedure(winning: Sample) -> None:
    schedule, people = schedule_of(winning), patients_of(winning)
    free = remaining(winning, schedule)
    assert submit(winning, "16D1", schedule, people[0])[0] == 0
    assert winning.call("usp_yy_yyqx", 2, "16D1", "jk160", "用户取消")[0] == 0
    assert winning.call("usp_yy_yyqx", 2, "16D1", "jk160", "用户取消")[0] == 1
    assert remaining(winning, schedule) == free
    booked = submit(winning, "16D2", schedule, people[1])
    winning.window.cancel_booking(str(booked[2]), operator="0931")
    assert winning.call("usp_yy_yyqx", 2, "16D2", "jk160", "")[:2] == (-9, "该患者已经取消预约")
    assert pay(winning, "16D2", booked[5])[0] == -9
    assert winning.call("usp_yy_yyqx", 2, "16D3", "jk160", "")[0] == -20


def test_stopped_meanwhile_refuses_payment(winning: Sample) -> None:
    schedule = schedule_of(winning)
    booked = submit(winning, "16S1", schedule, patients_of(winning)[0])
    winning.window.suspend_schedule(schedule, operator="0931", reason="医生病假")
    assert pay(winning, "16S1", booked[5])[:2] == (-30, "您所预约的医生已停诊，无法完成支付，请到窗口确认！")
    assert submit(winning, "16S2", schedule, patients_of(winning)[1])[0] == -3


def test_held_and_unknown_patients_may_not_book(winning: Sample) -> None:
    schedule = schedule_of(winning)
    held = {lx: winning.one("SELECT patid FROM his.gh_yy_hmd WHERE lx = :lx", lx=lx) for lx in (2, 3)}
    assert submit(winning, "16H1", schedule, str(held[2]))[0] == -12
    assert submit(winning, "16H2", schedule, str(held[3]))[:2] == (-13, "患者欠费【36.50】元，请到窗口处理！")
    assert submit(winning, "16H3", schedule, "1")[0] == -14


def test_refund_refusals_of_winning(winning: Sample) -> None:
    schedule, people = schedule_of(winning), patients_of(winning)
    for n, (change, code) in enumerate(
        [
            ("UPDATE his.gh_ghzdk SET jsbz = 1 WHERE xh = :xh", -42),
            ("UPDATE his.gh_ghzdk SET cfbz = 1 WHERE xh = :xh", -46),
            ("UPDATE his.sf_brjsk SET ybjszt = 1, ybje = 5 WHERE ghxh = :xh", -45),
            ("UPDATE his.sf_brjsk SET rjxh = 1 WHERE ghxh = :xh", -44),
            ("UPDATE his.gh_ghzdk SET fzbz = 1 WHERE xh = :xh", -49),
        ]
    ):
        amount = submit(winning, f"16F{n}", schedule, people[n])[5]
        paid = pay(winning, f"16F{n}", amount)
        winning.run("UPDATE his.yy_config SET config = '否' WHERE id IN ('GH021', 'GH022')")
        winning.run(change, xh=paid[2])
        assert refund(winning, f"16F{n}", f"RF{n}", amount)[0] == code
    assert pay(winning, "16F9", amount)[0] == -20
    assert pay(winning, "16F0", amount, "")[0] == 1


def test_twelve_threads_pay_one_order_once(winning: Sample) -> None:
    schedule = schedule_of(winning)
    amount = submit(winning, "16G1", schedule, patients_of(winning)[0])[5]
    barrier = threading.Barrier(12)

    def one(number: int) -> object:
        barrier.wait()
        return pay(winning, "16G1", amount, "MG1" if number % 2 else "MG2")[0]

    with ThreadPoolExecutor(12) as pool:
        codes = sorted(int(str(code)) for code in pool.map(one, range(12)))
    assert codes == [-32] * 6 + [0] + [1] * 5
    assert winning.one("SELECT count(*) FROM his.sf_brjsk WHERE wbddh = '16G1'") == 1


def register(sample: Sample, name: str, number: str, phone: str = "12600009999") -> tuple[object, ...]:
    guardian = None if number else "陈样例"
    return sample.call(
        "usp_gh_jbxxdj", 5, name, "01", number, "男", "19800101", phone, "样例路1号", guardian, None, None, "jk160"
    )


def test_find_or_create_patient(winning: Sample) -> None:
    created = register(winning, "王样例", "440305198001019017")
    assert (created[0], created[4]) == (0, 1)
    found = register(winning, "王样例", "440305198001019017")
    assert (found[0], found[2], found[4]) == (0, created[2], 0)
    assert register(winning, "李样例", "440305198001019017")[:2] == (-50, "证件号码已存在但姓名不一致，请到窗口核实！")
    assert register(winning, "", "440305198001019017")[0] == -51
    child = register(winning, "王小样", "")
    assert register(winning, "王小样", "")[2] == child[2]
    lower = winning.one("SELECT sfzh FROM his.sf_brxxk WHERE sfzh LIKE '%x'")
    name = winning.one("SELECT hzxm FROM his.sf_brxxk WHERE sfzh = :n", n=lower)
    assert register(winning, str(name), str(lower).upper())[4] == 0


def test_threads_create_one_patient(winning: Sample) -> None:
    barrier = threading.Barrier(10)

    def one(_: int) -> object:
        barrier.wait()
        return register(winning, "赵样例", "440305198001019025")[2]

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(one, range(10)))) == 1


def test_locks_cancels_and_window_work_together_without_deadlock(winning: Sample) -> None:
    schedule, people = schedule_of(winning), patients_of(winning)
    free = remaining(winning, schedule)
    barrier = threading.Barrier(12)

    def one(number: int) -> None:
        barrier.wait()
        for turn in range(4):
            order_no = f"16K{number}-{turn}"
            booked = submit(winning, order_no, schedule, people[number])
            if booked[0] != 0:
                continue
            if turn % 2:
                assert pay(winning, order_no, booked[5])[0] == 0
                winning.window.refund(str(booked[2]), operator="0931")
            elif number % 2:
                winning.window.cancel_booking(str(booked[2]), operator="0932")
            else:
                assert winning.call("usp_yy_yyqx", 2, order_no, "jk160", "")[0] == 0

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(12)))
    assert remaining(winning, schedule) == free


def test_full_size_on_both(tmp_path: Path, postgres_url: str) -> None:
    for name, url in (("zebone", f"sqlite:///{tmp_path}/full.db"), ("winning", postgres_url)):
        summary = load_sample(name).create(url, today=TODAY, size=FULL)
        assert summary.slots >= 20_000
        assert summary.patients >= 5_000
        assert summary.registrations >= 3_000
