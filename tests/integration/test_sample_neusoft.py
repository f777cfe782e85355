"""The neusoft sample on its PostgreSQL port: traps, counters, the package's codes, the window's rules and texts, concurrency."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, create_engine, text

from his_db.engine import SourceSettings
from his_db.registry import load_sample
from his_db.sample import FULL, SMALL, CashierWindow, InsuredBill, OrderRow, SampleHis, SampleSummary, WindowRefusal
from his_db.samples.tables import fen
from tests.bounds import in_time

TODAY = datetime.date(2026, 11, 23)


@dataclass(frozen=True, slots=True)
class Sample:
    his: SampleHis
    url: str
    window: CashierWindow
    engine: Engine
    summary: SampleSummary

    def one(self, sql: str, **binds: object) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text(sql), binds).scalar()

    def run(self, sql: str, **binds: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), binds)

    def call(self, procedure: str, *values: object) -> tuple[int, str, list[dict[str, object]]]:
        """o_code, o_msg and the rows of o_cur."""
        marks = ", ".join([f":v{n}" for n in range(len(values))] + ["NULL"] * 3)
        binds = {f"v{n}": value for n, value in enumerate(values)}
        with self.engine.begin() as connection:
            code, sentence, cursor = connection.execute(text(f"CALL pkg_160.{procedure}({marks})"), binds).one()
            assert cursor is not None, "the cursor is always opened"
            rows = connection.execute(text(f'FETCH ALL FROM "{cursor}"')).mappings().all()
        return code, sentence, [dict(row) for row in rows]


@pytest.fixture(scope="module")
def url(postgresql_module_database: SourceSettings) -> str:
    at = postgresql_module_database
    secret = f":{at.password}" if at.password else ""
    return f"postgresql+psycopg://{at.user}{secret}@{at.host}:{at.port}/{at.database}"


@pytest.fixture
def his(url: str) -> Iterator[Sample]:
    sample = load_sample("neusoft")
    summary = sample.create(url, today=TODAY, size=SMALL)
    engine = create_engine(url, pool_size=16)
    opened = Sample(sample, url, sample.window(url), engine, summary)
    yield opened
    opened.window.close()
    engine.dispose()


def schedule_of(his: Sample) -> str:
    return str(
        his.one(
            "SELECT id FROM neuhis.fin_opr_schema s WHERE valid_flag = '1' AND pub_flag = '1' AND schema_type = '1' "
            "AND see_date > :d AND NOT EXISTS (SELECT 1 FROM neuhis.fin_opr_booking b WHERE b.schema_id = s.id) ORDER BY id",
            d=TODAY,
        )
    )


def people_of(his: Sample) -> list[str]:
    with his.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT card_no FROM neuhis.com_patientinfo p WHERE is_valid = '1' AND NOT EXISTS (SELECT 1 FROM "
                "neuhis.com_patientlimit l WHERE l.card_no = p.card_no) AND NOT EXISTS (SELECT 1 FROM "
                "neuhis.fin_opr_appointmentorder o WHERE o.card_no = p.card_no) ORDER BY card_no"
            )
        )
        return [str(row[0]) for row in found]


def counters(his: Sample, schedule: str) -> tuple[int, int, int]:
    """REGED, TEL_REGED, TEL_REGING."""
    with his.engine.connect() as connection:
        row = connection.execute(
            text("SELECT reged, tel_reged, tel_reging FROM neuhis.fin_opr_schema WHERE id = :id"), {"id": schedule}
        ).one()
    return int(row[0]), int(row[1]), int(row[2])


def holds(his: Sample, order_no: str) -> object:
    return his.one("SELECT count(*) FROM neuhis.fin_opr_booking WHERE order_id = :no", no=order_no)


def order_of(his: Sample, his_id: str) -> OrderRow:
    return next(o for o in his.window.orders(channel_only=False, limit=10_000) if o.his_id == his_id)


def lock(his: Sample, order_no: str, schedule: str) -> tuple[int, str, list[dict[str, object]]]:
    return his.call("p_lock", order_no, schedule, "jk160")


def book(his: Sample, order_no: str, schedule: str, card: str) -> tuple[int, str, list[dict[str, object]]]:
    return his.call("p_book", order_no, schedule, card, "160", "0", "jk160")


def pay(his: Sample, order_no: str, amount: object, trade: str = "") -> tuple[int, str, list[dict[str, object]]]:
    trade = trade or f"M{order_no}"
    return his.call("p_pay", order_no, trade, f"42{trade}", amount, "4", "jk160")


def refund(his: Sample, order_no: str, number: str, amount: object) -> tuple[int, str, list[dict[str, object]]]:
    return his.call("p_refund", order_no, "", number, amount, "用户申请", "jk160")


def test_insurance_pays_the_first_parts_of_the_fee(his: Sample) -> None:
    """PUB_COST and PAY_COST of the register row are those of its fee rows, and the red rows give the same back."""
    schedule, card = schedule_of(his), people_of(his)[0]
    fee = fen(
        his.one(
            "SELECT f.reg_fee + f.diag_fee FROM neuhis.fin_com_regfeeset f JOIN neuhis.fin_opr_schema s "
            "ON s.reglevl_code = f.reglevl_code WHERE s.id = :id",
            id=schedule,
        )
    )
    bill = InsuredBill("SETL1", "MDTRT1", "PSN1", "310", fee - 500, 200, 300)
    clinic = his.window.register_insured(schedule, card, bill, operator="0931")
    parts = "sum(own_cost), sum(pub_cost), sum(pay_cost)"
    sums = f"SELECT {parts} FROM neuhis.{{table}} WHERE {{key}} = :clinic AND trans_type = :sign"
    for sign, factor in (("1", 1), ("2", -1)):
        for table, key in (("fin_opb_accountcardfee", "clinic_no"), ("fin_opr_register", "clinic_code")):
            with his.engine.connect() as connection:
                row = connection.execute(
                    text(sums.format(table=table, key=key)), {"clinic": clinic, "sign": sign}
                ).one()
            assert tuple(map(fen, row)) == (factor * 300, factor * (fee - 500), factor * 200), table
        if sign == "1":
            his.window.refund_insured(clinic, "SETL2", operator="0931")


def test_create_counts_again_and_its_traps(his: Sample) -> None:
    assert his.his.create(his.url, today=TODAY, size=SMALL) == his.summary
    orders = his.window.orders(channel_only=False, limit=10_000)
    assert len(orders) == his.summary.registrations
    assert sum(o.state == "REFUNDED" for o in orders) == his.summary.refunds
    for order in orders:
        paid = order.state not in ("BOOKED", "CANCELLED")
        assert order.paid_fen == (order.total_fen if paid else 0)
        assert order.refunded_fen == (order.paid_fen if order.state == "REFUNDED" else 0)
    channel = his.window.orders(channel_only=True, limit=10_000)
    assert 0 < len(channel) < len(orders)
    assert all(o.platform_order_no and o.platform_order_no.startswith("16") for o in channel)
    for trap in (
        "com_department WHERE valid_state = '0'",
        "com_department WHERE dept_name LIKE '% '",
        "fin_opr_schema WHERE doct_code = 'None'",
        "fin_opr_schema WHERE doct_code IS NULL",
        "fin_opr_schema WHERE pub_flag = '0'",
        "fin_opr_schema WHERE valid_flag = '0'",
        "fin_opr_appointmentorder WHERE order_state = '1'",
        "fin_opr_booking WHERE lock_state = '0'",
        "fin_opr_register WHERE trans_type = '2' AND own_cost < 0",
        "com_patientinfo WHERE idenno LIKE '%x'",
        "com_patientinfo WHERE idenno IS NULL AND linkman_name IS NOT NULL",
        "fin_opb_accountcardfee WHERE balance_flag = '1'",
    ):
        assert his.one(f"SELECT count(*) FROM neuhis.{trap}"), trap


def test_nothing_stores_an_empty_text(his: Sample) -> None:
    """'' is NULL in the product."""
    columns = his.one(
        "SELECT string_agg(format('SELECT count(*) AS n FROM neuhis.%I WHERE %I = ''''', table_name, column_name), "
        "' UNION ALL ') FROM information_schema.columns WHERE table_schema = 'neuhis' AND data_type = 'character varying'"
    )
    assert his.one(f"SELECT sum(n) FROM ({columns}) q") == 0


def test_counters_follow_the_orders(his: Sample) -> None:
    wrong = his.one(
        "SELECT count(*) FROM neuhis.fin_opr_schema s WHERE tel_reged <> (SELECT count(*) FROM "
        "neuhis.fin_opr_appointmentorder o WHERE o.schema_id = s.id AND o.order_state IN ('3', '4')) OR tel_reging <> (SELECT "
        "count(*) FROM neuhis.fin_opr_booking b WHERE b.schema_id = s.id AND (b.lock_state = '0' OR EXISTS (SELECT 1 FROM "
        "neuhis.fin_opr_appointmentorder o WHERE o.order_id = b.order_id AND o.order_state = '0'))) "
        "OR tel_reged + tel_reging > tel_lmt OR reged > reg_lmt"
    )
    assert wrong == 0


def test_the_life_of_an_order_moves_the_counters(his: Sample) -> None:
    schedule, card = schedule_of(his), people_of(his)[0]
    on_site, paid, unpaid = counters(his, schedule)
    code, _, [held] = lock(his, "16A1", schedule)
    assert code == 0
    assert lock(his, "16A1", schedule)[2][0]["lock_id"] == held["lock_id"]
    assert counters(his, schedule) == (on_site, paid, unpaid + 1)
    code, _, [order] = book(his, "16A1", schedule, card.lstrip("0"))  # the leading zeros may be missing
    assert (code, order["seeno"], order["total_fee"]) == (0, held["seeno"], held["total_fee"])
    assert book(his, "16A1", schedule, card)[2] == [order]
    assert lock(his, "16A1", schedule)[:2] == (-7, "该订单号已被使用！")
    assert his.call("p_unlock", "16A1", "jk160")[:2] == (-6, "该号已下订单，不能解锁！")
    assert book(his, "16A2", schedule, card)[0] == -10
    assert counters(his, schedule) == (on_site, paid, unpaid + 1)
    fee = order["total_fee"]
    assert refund(his, "16A1", "R1", fee)[0] == -40
    assert pay(his, "16A1", int(str(fee)) + 1)[0] == -31
    assert pay(his, "16A1", fee)[0] == 0
    assert pay(his, "16A1", fee)[0] == 1
    assert pay(his, "16A1", fee, "OTHER")[:2] == (-32, "该订单已支付！")
    assert counters(his, schedule) == (on_site, paid + 1, unpaid)
    assert his.call("p_cancel", "16A1", "", "jk160")[:2] == (-21, "该订单已支付！")
    assert refund(his, "16A1", "R1", int(str(fee)) - 1)[:2] == (-43, "退号的情况下，必须全退!")
    code, sentence, [back] = refund(his, "16A1", "R1", fee)
    assert (code, sentence) == (0, "退号成功，挂号费已退回网银,不需要退现金！")
    assert refund(his, "16A1", "R1", fee)[2] == [back]
    assert refund(his, "16A1", "R2", fee)[:2] == (-41, "该订单已退费！")
    assert counters(his, schedule) == (on_site, paid, unpaid)
    assert holds(his, "16A1") == 0
    rows = his.window.raw(str(order["serial_no"]))
    register = [row for table, row in rows if table == "neuhis.fin_opr_register"]
    assert [(r["trans_type"], r["valid_flag"]) for r in register] == [("1", "0"), ("2", "0")]
    assert register[0]["own_cost"] == -register[1]["own_cost"] > 0  # type: ignore[operator]
    assert register[0]["own_cost"] * 100 == fee  # type: ignore[operator]
    fees = [row for table, row in rows if table == "neuhis.fin_opb_accountcardfee"]
    assert {r["cancel_flag"] for r in fees} == {"2"}
    assert sum(r["tot_cost"] for r in fees) == 0  # type: ignore[misc]


def test_cancel_deletes_the_hold(his: Sample) -> None:
    schedule, people = schedule_of(his), people_of(his)
    before = counters(his, schedule)
    book(his, "16C1", schedule, people[0])
    assert holds(his, "16C1") == 1
    assert his.call("p_cancel", "16C1", "不来了", "jk160")[0] == 0
    assert his.call("p_cancel", "16C1", "不来了", "jk160")[0] == 1
    assert (holds(his, "16C1"), counters(his, schedule)) == (0, before)
    order = book(his, "16C2", schedule, people[1])[2][0]
    his.window.cancel_booking(str(order["serial_no"]), operator="0931")
    assert (holds(his, "16C2"), counters(his, schedule)) == (0, before)
    assert his.call("p_cancel", "16C2", "", "jk160")[:2] == (-9, "该订单已取消！")
    assert pay(his, "16C2", order["total_fee"])[0] == -9
    assert lock(his, "16C2", schedule)[0] == -9
    assert his.call("p_cancel", "16C3", "", "jk160")[0] == -20
    assert his.call("p_cancel", "16FAILED", "", "jk160")[0] == -20


def test_unlock_and_expiry_delete_the_row(his: Sample) -> None:
    schedule, card = schedule_of(his), people_of(his)[0]
    before = counters(his, schedule)
    lock(his, "16U1", schedule)
    assert his.call("p_unlock", "16U1", "jk160")[0] == 0
    assert his.call("p_unlock", "16U1", "jk160")[:2] == (-5, "未找到锁号记录！")
    assert counters(his, schedule) == before
    lock(his, "16U2", schedule)
    his.run("UPDATE neuhis.fin_opr_booking SET oper_date = oper_date - interval '11 minutes' WHERE order_id = '16U2'")
    left = his.one("SELECT tel_left FROM neuhis.vw_160_schema_left WHERE id = :id", id=schedule)
    assert left == his.one("SELECT tel_lmt - tel_reged FROM neuhis.fin_opr_schema WHERE id = :id", id=schedule)
    assert book(his, "16U2", schedule, card)[:2] == (-8, "锁号已超时，请重新选号！")
    first = lock(his, "16U2", schedule)
    assert first[0] == 0
    assert book(his, "16U2", schedule, card)[0] == 0


def test_held_and_unknown_patients_may_not_book(his: Sample) -> None:
    schedule = schedule_of(his)
    held = {kind: his.one("SELECT card_no FROM neuhis.com_patientlimit WHERE kind = :k", k=kind) for kind in "12"}
    assert book(his, "16H1", schedule, str(held["1"]))[0] == -12
    assert book(his, "16H2", schedule, str(held["2"]))[:2] == (-13, "该患者欠费36.50元，请到窗口处理！")
    assert book(his, "16H3", schedule, "99999999")[0] == -14
    assert book(his, "", schedule, "1")[0] == -15
    assert book(his, "16H4", "nothing", "1")[0] == -1
    his.run("UPDATE neuhis.com_controlargument SET control_value = '1' WHERE control_code = 'DUPDEP'")
    card = people_of(his)[0]
    other = his.one(
        "SELECT b.id FROM neuhis.fin_opr_schema a JOIN neuhis.fin_opr_schema b ON b.dept_code = a.dept_code AND b.see_date = "
        "a.see_date AND b.id <> a.id AND b.pub_flag = '1' AND b.valid_flag = '1' WHERE a.id = :id",
        id=schedule,
    )
    if other is not None:
        assert book(his, "16H5", schedule, card)[0] == 0
        assert book(his, "16H6", str(other), card)[0] == -11


def test_past_and_stopped_schedules(his: Sample) -> None:
    schedule, people = schedule_of(his), people_of(his)
    past = his.one(
        "SELECT id FROM neuhis.fin_opr_schema WHERE see_date < :d AND pub_flag = '1' AND valid_flag = '1'", d=TODAY
    )
    assert lock(his, "16P1", str(past))[0] == -4
    order = book(his, "16P2", schedule, people[0])[2][0]
    his.window.suspend_schedule(schedule, operator="0931", reason="医生病假")
    assert lock(his, "16P3", schedule)[:2] == (-3, "该排班已停诊！")
    assert pay(his, "16P2", order["total_fee"])[0] == -30
    with pytest.raises(WindowRefusal, match="停诊"):
        his.window.suspend_schedule(schedule, operator="0931", reason="医生病假")
    his.window.resume_schedule(schedule, operator="0931")
    with pytest.raises(WindowRefusal, match="未停诊"):
        his.window.resume_schedule(schedule, operator="0931")
    his.run(
        "UPDATE neuhis.fin_opr_appointmentorder SET reg_date = :d WHERE order_id = '16P2'",
        d=TODAY - datetime.timedelta(days=1),
    )
    assert his.call("p_cancel", "16P2", "", "jk160")[:2] == (-22, "请在就诊日期之前取消预约！")
    with pytest.raises(WindowRefusal, match=r"^请在就诊日期之前取消预约！$"):
        his.window.cancel_booking(str(order["serial_no"]), operator="0931")


def test_window_texts_of_the_cancel_rules(his: Sample) -> None:
    his_id = his.window.book_for_channel(schedule_of(his), people_of(his)[0], "16W1", paid=True)
    with pytest.raises(WindowRefusal, match=r"^该订单已支付！$"):
        his.window.cancel_booking(his_id, operator="0931")
    his.window.check_in(his_id)
    with pytest.raises(WindowRefusal, match=r"^该订单已取号！$"):
        his.window.cancel_booking(his_id, operator="0931")
    assert his.call("p_cancel", "16W1", "", "jk160")[:2] == (-23, "该订单已取号！")
    his.window.refund(his_id, operator="0932")
    with pytest.raises(WindowRefusal, match=r"^该订单已退费！$"):
        his.window.cancel_booking(his_id, operator="0931")
    assert his.call("p_cancel", "16W1", "", "jk160")[:2] == (-24, "该订单已退费！")
    order = order_of(his, his_id)
    assert (order.state, order.operator, order.refunded_fen) == ("REFUNDED", "0932", order.paid_fen)
    with pytest.raises(WindowRefusal, match="已退费"):
        his.window.refund(his_id, operator="0932")
    with pytest.raises(WindowRefusal, match="操作员不存在"):
        his.window.refund(his_id, operator="nobody")


def test_window_rights_over_platform_orders(his: Sample) -> None:
    schedule, people = schedule_of(his), people_of(his)
    his_id = his.window.book_for_channel(schedule, people[0], "16W2", paid=True)
    with pytest.raises(WindowRefusal, match=r"^这条挂号记录为网上预约,你没有权利进行退号/废号$"):
        his.window.refund(his_id, operator="0935")
    before = counters(his, schedule)
    walk_in = his.window.walk_in(schedule, people[1], operator="0931")
    assert counters(his, schedule) == (before[0] + 1, before[1], before[2])
    with pytest.raises(WindowRefusal, match=r"^此窗口只能为网上预约退号$"):
        his.window.refund(walk_in, operator="0936")
    his.window.refund(walk_in, operator="0935")
    his.window.refund(his_id, operator="0936")
    assert counters(his, schedule) == (before[0], before[1] - 1, before[2])
    invoices = [row["invoice_no"] for table, row in his.window.raw(his_id) if table == "neuhis.fin_opr_register"]
    assert all(str(number).startswith("W") for number in invoices)


def test_take_only_on_the_visit_day_where_the_hospital_says_so(his: Sample) -> None:
    his_id = his.window.book_for_channel(schedule_of(his), people_of(his)[0], "16W3", paid=True)
    his.run("UPDATE neuhis.com_controlargument SET control_value = '1' WHERE control_code = 'TAKEDT'")
    with pytest.raises(WindowRefusal, match="就诊当日"):
        his.window.check_in(his_id)
    his.run("UPDATE neuhis.com_controlargument SET control_value = '0' WHERE control_code = 'TAKEDT'")
    his.window.check_in(his_id)
    his.window.visit(his_id)
    assert order_of(his, his_id).state == "VISITED"
    with pytest.raises(WindowRefusal, match=r"^该号已经看诊,不能作废$"):
        his.window.refund(his_id, operator="0931")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("fin_opr_register SET ynsee = '1' WHERE clinic_code = :c", -42),
        ("fin_opr_register SET valid_flag = '2' WHERE clinic_code = :c", -48),
        ("fin_opr_register SET paykind_code = '02', pub_cost = 5 WHERE clinic_code = :c", -45),
        ("fin_opb_accountcardfee SET balance_flag = '1' WHERE clinic_no = :c", -44),
    ],
)
def test_refund_refusals(his: Sample, change: str, code: int) -> None:
    fee = book(his, "16F1", schedule_of(his), people_of(his)[0])[2][0]["total_fee"]
    clinic = pay(his, "16F1", fee)[2][0]["visiting_num"]
    his.run("UPDATE neuhis.com_controlargument SET control_value = '0' WHERE control_code = 'DAYREF'")
    his.run(f"UPDATE neuhis.{change}", c=clinic)
    assert refund(his, "16F1", "R1", fee)[0] == code


def test_replace_doctor(his: Sample) -> None:
    schedule = schedule_of(his)
    his_id = his.window.book_for_channel(schedule, people_of(his)[0], "16D1", paid=True)
    doctor = his.one(
        "SELECT empl_code FROM neuhis.com_employee WHERE empl_type = 'D' AND valid_state = '1' AND empl_code <> "
        "(SELECT doct_code FROM neuhis.fin_opr_schema WHERE id = :id)",
        id=schedule,
    )
    his.window.replace_doctor(schedule, str(doctor), operator="0934")
    row = next(row for table, row in his.window.raw(his_id) if table == "neuhis.fin_opr_appointmentorder")
    assert (row["doct_code"], row["user_choice"]) == (doctor, "1")
    with pytest.raises(WindowRefusal, match="替诊"):
        his.window.replace_doctor(schedule, str(doctor), operator="0934")
    [(_, schema)] = his.window.raw_schedule(schedule)
    assert schema["old_doct_code"] not in (None, doctor)


def patient(
    his: Sample, name: str, number: str | None, linkman: str | None = None
) -> tuple[int, str, list[dict[str, object]]]:
    return his.call(
        "p_patient",
        name,
        "01",
        number,
        "M",
        datetime.date(1980, 1, 1),
        "12600009999",
        "样例路1号",
        linkman,
        None,
        "jk160",
    )


def test_find_or_create_patient(his: Sample) -> None:
    code, _, [made] = patient(his, "王样例", "440305198001019017")
    assert (code, made["is_new"], len(str(made["card_no"]))) == (0, 1, 10)
    found = patient(his, "王样例", "440305198001019017")[2][0]
    assert (found["card_no"], found["is_new"]) == (made["card_no"], 0)
    assert patient(his, "李样例", "440305198001019017")[0] == -50
    assert patient(his, "", "440305198001019017")[0] == -51
    assert patient(his, "王小样", None)[0] == -51
    child = patient(his, "王小样", None, "陈样例")[2][0]
    assert patient(his, "王小样", "", "陈样例")[2][0]["card_no"] == child["card_no"]
    lower = his.one("SELECT idenno FROM neuhis.com_patientinfo WHERE idenno LIKE '%x'")
    name = his.one("SELECT name FROM neuhis.com_patientinfo WHERE idenno = :n", n=lower)
    assert patient(his, str(name), str(lower).upper())[2][0]["is_new"] == 0


def test_threads_take_every_number_once_and_no_more(his: Sample) -> None:
    schedule, people = schedule_of(his), people_of(his)
    free = int(str(his.one("SELECT tel_left FROM neuhis.vw_160_schema_left WHERE id = :id", id=schedule)))
    barrier = threading.Barrier(8)

    def one(number: int) -> list[object]:
        barrier.wait()
        answers = [book(his, f"16T{number}-{turn}", schedule, people[number * 3 + turn]) for turn in range(3)]
        return [rows[0]["seeno"] for code, _, rows in answers if code == 0]

    with ThreadPoolExecutor(8) as pool:
        taken = [seeno for group in pool.map(one, range(8)) for seeno in group]
    assert len(taken) == len(set(taken)) == min(free, 24)


def test_threads_pay_one_order_once_and_create_one_patient(his: Sample) -> None:
    fee = book(his, "16T9", schedule_of(his), people_of(his)[0])[2][0]["total_fee"]
    barrier = threading.Barrier(8)

    def one(number: int) -> tuple[int, object]:
        barrier.wait()
        paid = pay(his, "16T9", fee, "MT1" if number % 2 else "MT2")[0]
        return paid, patient(his, "赵样例", "440305198001019025")[2][0]["card_no"]

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(8)))
    assert sorted(code for code, _ in done) == [-32] * 4 + [0] + [1] * 3
    assert len({card for _, card in done}) == 1


def test_the_same_number_on_two_schedules_at_once_has_one_winner(his: Sample) -> None:
    with his.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT id FROM neuhis.fin_opr_schema WHERE valid_flag = '1' AND pub_flag = '1' AND see_date > :d ORDER BY id LIMIT 4"
            ),
            {"d": TODAY},
        )
        schedules = [str(row[0]) for row in found]
    barrier = threading.Barrier(len(schedules))

    def one(schedule: str) -> int:
        barrier.wait()
        return lock(his, "16S1", schedule)[0]

    with ThreadPoolExecutor(len(schedules)) as pool:
        codes = sorted(pool.map(one, schedules))
    assert codes == [-7] * (len(schedules) - 1) + [0]


def test_package_and_window_work_together_without_deadlock(his: Sample) -> None:
    schedule, people = schedule_of(his), people_of(his)
    before = counters(his, schedule)
    barrier = threading.Barrier(6)

    def one(number: int) -> None:
        barrier.wait()
        for turn in range(3):
            order_no = f"16K{number}-{turn}"
            code, _, rows = book(his, order_no, schedule, people[number])
            assert code in (0, -2)
            if code != 0:
                continue
            his_id = str(rows[0]["serial_no"])
            if turn % 2:
                assert pay(his, order_no, rows[0]["total_fee"])[0] == 0
                his.window.refund(his_id, operator="0931")
            elif number % 2:
                his.window.cancel_booking(his_id, operator="0932")
            else:
                assert his.call("p_cancel", order_no, "", "jk160")[0] == 0

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert counters(his, schedule) == before


def test_sizes_and_speed(url: str) -> None:
    sample = load_sample("neusoft")
    began = time.monotonic()
    summary = sample.create(url, today=TODAY, size=FULL)
    assert in_time(time.monotonic() - began, 15)
    assert (summary.slots >= 20_000, summary.patients >= 5_000, summary.registrations >= 3_000) == (True, True, True)
