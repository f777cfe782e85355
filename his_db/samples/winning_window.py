"""The winning sample's window program: writes into the HIS tables as the vendor's own window does, knowing nothing
of his160.

Lock order as in the procedures: the schedule's row first, then the order's. The red rows are made by the vendor's
own `his.fn_hc`.
"""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import datetime
from decimal import Decimal

from sqlalchemy import Connection, Engine

from his_db.sample import HisRow, InsuredBill, OrderRow, WindowRefusal
from his_db.samples import winning_cashier as cashier
from his_db.samples.desk import Desk, DeskPool
from his_db.samples.tables import all_rows, changed, fen, one, rows_of
from his_db.samples.winning_money import move_history

_STATE = (
    "CASE WHEN y.jlzt=2 THEN 'CANCELLED' WHEN r.xh IS NOT NULL OR z.jlzt=1 THEN 'REFUNDED' WHEN z.jlzt=9 THEN "
    "'HALF_WRITTEN' "
    "WHEN z.jsbz>0 THEN 'VISITED' WHEN z.fzbz=1 THEN 'CHECKED_IN' WHEN js.sjh IS NOT NULL THEN 'PAID' "
    "ELSE 'BOOKED' END"
)
_ORDERS = f"""
SELECT * FROM (
  SELECT COALESCE(y.xh, z.xh) AS his_id, y.wbddh AS order_no, {_STATE} AS state, COALESCE(y.pbmxid, z.pbmxid) AS sch,
         COALESCE(y.yyhx, z.ghhx) AS num, COALESCE(y.patid, z.patid) AS patient, COALESCE(y.djje, js.zje, 0) AS
         total,
         COALESCE(js.zje, 0) AS paid, COALESCE(-rj.zje, 0) AS refunded,
         trim(COALESCE(r.czyh, y.qxczyh, z.czyh, y.czyh)) AS operator, COALESCE(y.djrq, z.czrq) AS booked
    FROM his.gh_ghyyk y
    FULL JOIN (SELECT * FROM his.vw_ghzdk WHERE txh IS NULL) z ON z.yyxh = y.xh AND z.jlzt <> 9
    LEFT JOIN his.vw_ghzdk r ON r.txh = z.xh
    LEFT JOIN his.vw_brjsk js ON js.ghxh = z.xh AND js.tsjh IS NULL
    LEFT JOIN his.vw_brjsk rj ON rj.ghxh = r.xh
   WHERE (:channel = 0 OR y.kfsdm = '160')) o
WHERE :states = '*' OR strpos(:states, ',' || state || ',') > 0
ORDER BY booked DESC, his_id DESC LIMIT :limit"""
_NOW = "his.fn_rq16(his.fn_dqsj())"


class WinningWindow:
    """`WindowProgram` over the schema `his`. HIS id of an order: `gh_ghyyk.xh`, of a walk-in `gh_ghzdk.xh` (one
    sequence)."""

    def __init__(self, engine: Engine | DeskPool) -> None:
        self._engine = engine

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def orders(self, *, channel_only: bool, states: tuple[str, ...] | None = None, limit: int) -> list[OrderRow]:
        """Newest first."""
        wanted = "*" if states is None else f",{','.join(states)},"
        binds = {"channel": int(channel_only), "states": wanted, "limit": limit}
        with self._engine.connect() as connection:
            rows = all_rows(connection, _ORDERS, **binds)
        return [
            OrderRow(
                his_id=str(r["his_id"]),
                platform_order_no=r["order_no"],
                state=r["state"],
                schedule_id=str(r["sch"]),
                number=r["num"],
                patient_id=str(r["patient"]),
                total_fen=fen(r["total"]),
                paid_fen=fen(r["paid"]),
                refunded_fen=fen(r["refunded"]),
                operator=r["operator"],
            )
            for r in rows
        ]

    def cancel_booking(self, his_id: str, *, operator: str) -> None:
        """jlzt 0 to 2, counter back; paid, cancelled and past orders are refused."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking = _booking(connection, his_id)
            if booking is None:
                raise WindowRefusal("未找到预约记录！")
            if booking["jlzt"] == 1:
                raise WindowRefusal("请在挂号处退号！")
            if booking["jlzt"] == 2:
                raise WindowRefusal("该患者已经取消预约")
            past = one(
                connection,
                "SELECT CASE WHEN left(:d, 8) < his.fn_rq8(his.fn_dqsj()) THEN 1 ELSE 0 END AS past",
                d=booking["yyrq"],
            )
            if past and past["past"]:
                raise WindowRefusal("请在就诊日期之前取消预约！")
            changed(
                connection,
                f"UPDATE his.gh_ghyyk SET jlzt = 2, qxczyh = :op, qxrq = {_NOW}, qxyy = '窗口取消' WHERE xh = :xh AND "
                "jlzt = 0",
                op=operator,
                xh=booking["xh"],
            )
            register = _register(connection, his_id)
            if register is None:
                cashier.give_number_back(connection, booking["pbmxid"])
            else:  # 预约即挂号
                self._reverse(connection, register["xh"], operator)

    def refund(self, his_id: str, *, operator: str) -> None:
        """Red row, red lines, red settlement without tkdh, counter back; gh_ghyyk stays as it is."""
        self._refund(his_id, operator, None)

    def refund_insured(self, his_id: str, reversal_setl_id: str, *, operator: str) -> None:
        """As `refund`; yb_gbjsk becomes 已撤销."""
        self._refund(his_id, operator, reversal_setl_id)

    def _refund(self, his_id: str, operator: str, reversal: str | None) -> None:
        insured = reversal is not None
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking = _booking(connection, his_id)
            if booking is not None and booking["jlzt"] == 2:
                raise WindowRefusal("该患者已经取消预约")
            register = _register(connection, his_id)
            if register is None and booking is None:
                raise WindowRefusal("未找到预约记录！")
            if booking is not None and booking["jlzt"] == 0:
                raise WindowRefusal("未缴费不能退号！")
            if register is None:
                raise WindowRefusal("该号已经看诊,不能作废")
            cashier.check_refund(connection, register, insured=insured)
            if not self._reverse(connection, register["xh"], operator):
                raise WindowRefusal("该号已退号！")
            if reversal is not None:
                cashier.reverse_insurance(connection, register["xh"], reversal)

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """tzbz with reason, operator and time."""
        self._change_schedule(
            schedule_id,
            operator,
            f"tzbz = 1, tzyy = :reason, tzczyh = :op, tzrq = {_NOW}",
            "tzbz = 0",
            "排班不存在或已停诊",
            reason=reason,
        )

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """tzbz 0; reason, operator and time are blanked: no trace is left."""
        self._change_schedule(
            schedule_id, operator, "tzbz = 0, tzyy = NULL, tzczyh = NULL, tzrq = NULL", "tzbz = 1", "该排班未停诊"
        )

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """ysdm of the schedule, of its open bookings and valid registrations."""
        with self._engine.connect() as connection:
            doctor = one(
                connection, "SELECT name FROM his.yy_zgbmk WHERE id = :id AND lb = 1 AND jlzt = 0", id=doctor_id
            )
        if doctor is None:
            raise WindowRefusal("替诊医生不存在或与原医生相同")
        self._change_schedule(
            schedule_id,
            operator,
            f"tdysdm = COALESCE(tdysdm, ysdm), ysdm = :doctor, tdczyh = :op, tdrq = {_NOW}",
            "ysdm <> :doctor",
            "替诊医生不存在或与原医生相同",
            "UPDATE his.gh_ghyyk SET ysdm = :doctor WHERE pbmxid = :pb AND jlzt IN (0, 1)",
            "UPDATE his.gh_ghzdk SET ysdm = :doctor, ysmc = :name WHERE pbmxid = :pb AND jlzt = 0",
            doctor=doctor_id,
            name=doctor["name"],
        )

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """gh_ghzdk without booking, cash in xjje."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            number = self._take(connection, schedule_id)
            xh = _insert_register(connection, schedule_id, patient_id, number, operator, None)
            cashier.settle(connection, xh)
        return xh

    def register_insured(self, schedule_id: str, patient_id: str, bill: InsuredBill, *, operator: str) -> str:
        """As `walk_in`, with ybje, ybjszt 1 and a row of yb_gbjsk."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            number = self._take(connection, schedule_id)
            xh = _insert_register(connection, schedule_id, patient_id, number, operator, None)
            cashier.settle(connection, xh, bill=bill)
        return xh

    def refund_part(self, his_id: str, amount_fen: int, *, operator: str) -> None:
        """Refused: of a platform order for its own reason, of any other because 挂号 goes back whole here."""
        with self._engine.begin() as connection:
            booking = _booking(connection, his_id)
            ours = booking is not None and str(booking["kfsdm"]).strip() == "160"
        raise WindowRefusal("健康160支付订单不支持部分退费" if ours else "退号必须全退！")

    def close_day(self, *, operator: str) -> str:
        """gh_rjz over the operator's settlements without rjxh, those of the N table too."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            return cashier.close_day(connection, operator)

    def reschedule(self, his_id: str, schedule_id: str, *, operator: str) -> None:
        """pbmxid, number, time, department and doctor of booking and registration; counters of both sessions."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking, register = _booking(connection, his_id), _register(connection, his_id)
            seen = register is not None and (register["jlzt"] != 0 or int(str(register["jsbz"])) > 0)
            if booking is None or booking["jlzt"] == 2 or seen:
                raise WindowRefusal("该预约已取消或已就诊，不能改诊！")
            same = one(connection, cashier.SAME_FEE, pb=Decimal(schedule_id), old=booking["pbmxid"], je=booking["djje"])
            if same is None:
                raise WindowRefusal("改诊的号别费用不同，请退号重挂！")
            number = self._take(connection, schedule_id)
            cashier.give_number_back(connection, booking["pbmxid"])
            cashier.move(connection, booking["xh"], Decimal(schedule_id), number)

    def prescribe(self, his_id: str) -> None:
        """cfbz of the registration."""
        self._visit_step(his_id, "cfbz = 1", "cfbz = 0", "已有处方")

    def clear_holds(self) -> int:
        """zt 0 to 3 of locks that ran out, their numbers back to the counters."""
        with self._engine.begin() as connection:
            return cashier.clear_holds(connection)

    def night_job(self) -> int:
        """Visits of more than three days ago move to the N tables, with their settlements."""
        with self._engine.begin() as connection:
            row = one(connection, "SELECT his.fn_rq8(his.fn_dqsj()) AS today")
            assert row is not None
            return move_history(connection, datetime.date.fromisoformat(str(row["today"])))

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """As 健康160 would have: kfsdm 160, operator jk160, WeChat money."""
        with self._engine.begin() as connection:
            number = self._take(connection, schedule_id)
            row = one(
                connection,
                "INSERT INTO his.gh_ghyyk (patid, hzxm, sfzh, lxdh, yyrq, djrq, ksdm, ysdm, pbmxid, yyhx, djbz, "
                "djje, kfsdm, "
                f"wbddh, czyh, jlzt) SELECT b.patid, b.hzxm, b.sfzh, b.lxdh, {_START}, {_NOW}, p.ksdm, p.ysdm, "
                "p.pbmxid, "
                "CAST(:no AS int), CAST(:paid AS smallint), p.ghf + p.zlf, '160', :order_no, 'jk160', CAST(:paid AS "
                "smallint) "
                "FROM his.gh_yy_pbzbmx p, his.sf_brxxk b WHERE p.pbmxid = :pb AND b.patid = :pat AND b.jlzt = 0 "
                "RETURNING xh",
                no=number, paid=int(paid), order_no=platform_order_no, pb=Decimal(schedule_id), pat=Decimal(patient_id),
            )  # fmt: skip
            if row is None:
                raise WindowRefusal("该卡号在His中未登记！")
            if paid:
                xh = _insert_register(connection, schedule_id, patient_id, number, "jk160", str(row["xh"]))
                cashier.settle(connection, xh, order_no=platform_order_no)
        return str(row["xh"])

    def check_in(self, his_id: str) -> None:
        """fzbz 0 to 1."""
        self._visit_step(his_id, f"fzbz = 1, fzrq = {_NOW}", "fzbz = 0", "该患者已经签到")

    def visit(self, his_id: str) -> None:
        """jsbz 0 to 1."""
        self._visit_step(his_id, f"jsbz = 1, jzrq = {_NOW}", "jsbz = 0", "该患者已经就诊过了")

    def half_written(self, schedule_id: str, patient_id: str) -> str | None:
        """A committed gh_ghzdk row with jlzt 9 and neither lines nor settlement."""
        with self._engine.begin() as connection:
            return _insert_register(
                connection, schedule_id, patient_id, self._take(connection, schedule_id), "0931", None
            )

    def raw(self, his_id: str) -> list[HisRow]:
        """Booking, registration and red row, lines, settlements; current and N tables."""
        with self._engine.connect() as connection:
            found = rows_of(connection, "his.gh_ghyyk", "xh = :id", id=Decimal(his_id))
            numbers: list[object] = []
            for table in ("his.gh_ghzdk", "his.gh_nghzdk"):
                rows = rows_of(connection, table, "yyxh = :id OR xh = :id OR txh = :id ORDER BY xh", id=Decimal(his_id))
                numbers += [row["xh"] for _, row in rows]
                found += rows
            for table, order in (
                ("his.gh_ghmxk", "mxxh"),
                ("his.sf_brjsk", "sfrq"),
                ("his.sf_nbrjsk", "sfrq"),
                ("his.yb_gbjsk", "jsxh"),
            ):
                binds = {f"n{place}": number for place, number in enumerate(numbers or [None])}
                wanted = ", ".join(f":{name}" for name in binds)
                found += rows_of(connection, table, f"ghxh IN ({wanted}) ORDER BY {order}", **binds)
        return found

    def raw_schedule(self, schedule_id: str) -> list[HisRow]:
        """The schedule row; this vendor keeps no stop or change records."""
        with self._engine.connect() as connection:
            return rows_of(connection, "his.gh_yy_pbzbmx", "pbmxid = :pb", pb=Decimal(schedule_id))

    def _reverse(self, connection: Connection | Desk, xh: object, operator: str) -> bool:
        """The vendor's own 红冲; False when the registration is not valid any more."""
        row = one(connection, "SELECT his.fn_hc(:xh, :op, NULL, '窗口退号') AS sjh", xh=xh, op=operator)
        return row is not None and row["sjh"] is not None

    def _take(self, connection: Connection | Desk, schedule_id: str) -> int:
        """The vendor's own 取号. Raises WindowRefusal."""
        row = one(connection, "SELECT o_hx, o_code, o_msg FROM his.fn_qh(:pb)", pb=Decimal(schedule_id))
        assert row is not None
        if row["o_code"] != 0:
            raise WindowRefusal(str(row["o_msg"]))
        return int(str(row["o_hx"]))

    def _change_schedule(
        self, schedule_id: str, operator: str, change: str, guard: str, refusal: str, *more: str, **binds: object
    ) -> None:
        with self._engine.begin() as connection:
            _operator(connection, operator)
            sql = f"UPDATE his.gh_yy_pbzbmx SET {change} WHERE pbmxid = :pb AND {guard}"
            if changed(connection, sql, pb=Decimal(schedule_id), op=operator, **binds) != 1:
                raise WindowRefusal(refusal)
            for statement in more:
                changed(connection, statement, pb=Decimal(schedule_id), **binds)

    def _visit_step(self, his_id: str, change: str, guard: str, refusal: str) -> None:
        with self._engine.begin() as connection:
            register = _register(connection, his_id)
            if register is None or register["jlzt"] != 0 or not register["jssjh"]:
                raise WindowRefusal("该号未缴费或已退号")
            sql = f"UPDATE his.gh_ghzdk SET {change} WHERE xh = :xh AND jlzt = 0 AND {guard}"
            if changed(connection, sql, xh=register["xh"]) != 1:
                raise WindowRefusal(refusal)


_START = "his.fn_yysj(p.zbrq, p.kssj, p.jssj, p.jgfz, CAST(:no AS int))"


def _operator(connection: Connection | Desk, code: str) -> None:
    if one(connection, "SELECT id FROM his.yy_zgbmk WHERE id = :id AND jlzt = 0", id=code) is None:
        raise WindowRefusal("操作员不存在")


def _booking(connection: Connection | Desk, his_id: str) -> dict[str, object] | None:
    """The booking, with its schedule's row locked first."""
    all_rows(
        connection,
        "SELECT 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = (SELECT pbmxid FROM his.gh_ghyyk WHERE xh = :id) FOR UPDATE",
        id=Decimal(his_id),
    )
    return one(connection, "SELECT * FROM his.gh_ghyyk WHERE xh = :id FOR UPDATE", id=Decimal(his_id))


def _register(connection: Connection | Desk, his_id: str) -> dict[str, object] | None:
    """The original registration of an order or walk-in (not half written), its schedule's row locked first."""
    condition = "(yyxh = :id OR (xh = :id AND yyxh IS NULL)) AND txh IS NULL AND jlzt IN (0, 1)"
    all_rows(
        connection,
        "SELECT 1 FROM his.gh_yy_pbzbmx WHERE pbmxid IN "
        f"(SELECT pbmxid FROM his.gh_ghzdk WHERE {condition}) FOR UPDATE",
        id=Decimal(his_id),
    )
    return one(
        connection, f"SELECT * FROM his.gh_ghzdk WHERE {condition} ORDER BY xh DESC FOR UPDATE", id=Decimal(his_id)
    )


def _insert_register(
    connection: Connection | Desk, schedule_id: str, patient_id: str, number: int, operator: str, booking: str | None
) -> str:
    """The gh_ghzdk row as it is first written: jlzt 9."""
    row = one(
        connection,
        "INSERT INTO his.gh_ghzdk (patid, blh, ybdm, cardno, yyxh, hzxm, py, czyh, czrq, ghrq, ksdm, ksmc, ysdm, "
        "ysmc, ghhx, "
        "lybz, ghlb, pbmxid, appjkdm, jlzt) SELECT b.patid, b.blh, b.ybdm, b.cardno, CAST(:booking AS numeric), "
        "b.hzxm, b.py, "
        f":op, {_NOW}, {_START}, p.ksdm, k.name, p.ysdm, g.name, CAST(:no AS int), CASE WHEN CAST(:booking AS "
        "numeric) IS NULL "
        "THEN 0 ELSE 1 END, p.ghlb, p.pbmxid, CASE WHEN CAST(:booking AS numeric) IS NULL THEN 'ck' ELSE '160' END, 9 "
        "FROM his.gh_yy_pbzbmx p JOIN his.yy_ksbmk k ON k.id = p.ksdm LEFT JOIN his.yy_zgbmk g ON g.id = p.ysdm "
        "JOIN his.sf_brxxk b ON b.patid = :pat AND b.jlzt = 0 WHERE p.pbmxid = :pb RETURNING xh",
        booking=None if booking is None else Decimal(booking),
        op=operator, no=number, pat=Decimal(patient_id), pb=Decimal(schedule_id),
    )  # fmt: skip
    if row is None:
        raise WindowRefusal("该卡号在His中未登记！")
    return str(row["xh"])
