"""The bsoft sample's window program: writes the MS_* tables as the vendor's own window does, knowing nothing of his160.

Order of locks in every transaction: the session's row of MS_YSPB first, then the order's rows.
"""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import datetime
import random
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from his_db.sample import Clock, HisRow, InsuredBill, OrderRow, WindowRefusal
from his_db.samples import bsoft_cashier as cashier
from his_db.samples.bsoft_cashier import SESSION
from his_db.samples.bsoft_rows import schedule_key
from his_db.samples.tables import changed, fen, one, rows_of, stamp

WALK_IN = "G"
"""Prefix of a walk-in's id (its SBXH): MS_YYGH and MS_GHMX count separately."""

_STATE = (
    "CASE WHEN GHBZ = 9 THEN 'CANCELLED' WHEN THBZ = 1 THEN 'REFUNDED' WHEN JZZT > 0 THEN 'VISITED' "
    "WHEN GHBZ = 1 OR QHSJ IS NOT NULL THEN 'CHECKED_IN' WHEN SBXH IS NOT NULL THEN 'PAID' ELSE 'BOOKED' END"
)
_PAID = "x.GHJE + x.ZLJE + x.ZJFY + x.BLJE"
_ORDERS = f"""
SELECT o.*, {_STATE} AS state FROM (
  SELECT CAST(y.YYXH AS CHAR) AS his_id, CASE h.SOURCE WHEN 160 THEN h.DDH END AS order_no, h.SOURCE, y.GHRQ, y.KSDM,
         h.HYYS, y.ZBLB, y.JZXH, y.BRID, h.ZFJE AS total, {_PAID} AS paid, y.GHBZ, x.THBZ, x.JZZT, x.QHSJ, x.SBXH,
         COALESCE(t.CZGH, CASE y.GHBZ WHEN 9 THEN y.DJGH END, x.CZGH, y.DJGH) AS operator, y.YYRQ AS made
    FROM MS_YYGH y JOIN MS_YYGHHY h ON h.HYXH = y.ZCID LEFT JOIN MS_GHMX x ON x.SBXH = y.SBXH
    LEFT JOIN MS_THMX t ON t.SBXH = x.SBXH
  UNION ALL
  SELECT CONCAT('{WALK_IN}', x.SBXH), NULL, 0, x.GHRQ, x.KSDM, COALESCE(p.YPYS, x.YSDM), x.ZBLB, x.JZXH, x.BRID,
         {_PAID}, {_PAID}, 0, x.THBZ, x.JZZT, x.QHSJ, x.SBXH, COALESCE(t.CZGH, x.CZGH), x.GHSJ
    FROM MS_GHMX x LEFT JOIN MS_THMX t ON t.SBXH = x.SBXH
    LEFT JOIN MS_YSPB p ON p.GZRQ = x.GHRQ AND p.KSDM = x.KSDM AND p.YSDM = x.YSDM AND p.ZBLB = x.ZBLB
   WHERE x.YYBZ = 0) o
WHERE (:channel = 0 OR o.SOURCE = 160) HAVING :states = '' OR LOCATE(CONCAT(',', state, ','), :states) > 0
ORDER BY made DESC, SBXH DESC, his_id DESC LIMIT :limit"""


@dataclass(frozen=True, slots=True)
class Clinic:
    """A session: the parts of its id."""

    day: datetime.date
    department: int
    planned: str
    session: int

    @property
    def binds(self) -> dict[str, object]:
        return {"day": self.day, "ks": self.department, "planned": self.planned, "session": self.session}


class BsoftWindow:
    """`CashierWindow` over the MS_* tables. HIS id of an order: MS_YYGH.YYXH; of a walk-in 'G' + MS_GHMX.SBXH."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._now = clock

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def orders(self, *, channel_only: bool, states: tuple[str, ...] | None = None, limit: int) -> list[OrderRow]:
        """Newest first."""
        wanted = "" if states is None else f",{','.join(states)},"
        binds = {"channel": int(channel_only), "states": wanted, "limit": limit}
        with self._engine.connect() as connection:
            rows = connection.execute(text(_ORDERS), binds).mappings().all()
        return [
            OrderRow(
                his_id=r["his_id"],
                platform_order_no=r["order_no"],
                state=r["state"],
                schedule_id=schedule_key(r["GHRQ"], r["KSDM"], r["HYYS"], r["ZBLB"]),
                number=r["JZXH"],
                patient_id=str(r["BRID"]),
                total_fen=fen(r["total"]),
                paid_fen=fen(r["paid"]),
                refunded_fen=fen(r["paid"]) if r["THBZ"] == 1 else 0,
                operator=r["operator"],
            )
            for r in rows
        ]

    def cancel_booking(self, his_id: str, *, operator: str) -> None:
        """GHBZ 0 to 9 and DJGH; 号源 3 with TYSJ; YYRS back. Paid, cancelled and past orders are refused."""
        now = self._now()
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking = _booking(connection, his_id)
            if booking is None:
                raise WindowRefusal("未找到预约记录")
            if booking["GHBZ"] == 9:
                raise WindowRefusal("该患者已经取消预约")
            if booking["SBXH"] is not None:
                raise WindowRefusal("已缴费，请在挂号处退号")
            if str(booking["GHRQ"]) < str(now.date()):
                raise WindowRefusal("请在就诊日期之前取消预约")
            changed(
                connection,
                "UPDATE MS_YYGH SET GHBZ = 9, DJGH = :op, QXSJ = :at WHERE YYXH = :yyxh AND GHBZ = 0 AND SBXH IS NULL",
                op=operator,
                at=f"{now.year}/{now.month}/{now.day} {now.hour}:{now:%M:%S}",
                yyxh=booking["YYXH"],
            )
            _release(connection, booking, now)

    def refund(self, his_id: str, *, operator: str) -> None:
        """THBZ 0 to 1, a row in MS_THMX, receipt void, a negative payment without number; the quota back."""
        self._give_back(his_id, operator, None)

    def refund_insured(self, his_id: str, reversal_setl_id: str, *, operator: str) -> None:
        """As `refund`; the payment of mode 9 and the settlement of YB_GHJS get negative rows with 2208's number."""
        self._give_back(his_id, operator, reversal_setl_id)

    def refund_part(self, his_id: str, amount_fen: int, *, operator: str) -> None:
        """This vendor gives back no parts."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            cashier.refuse_part(connection, _order(connection, his_id)[1])

    def close_day(self, *, operator: str) -> str:
        """JZRQ on all rows of the operator that have none, MS_GHRB and MS_GHRB_FKMX; answers operator and JZRQ."""
        with self._engine.begin() as connection:
            _operator(connection, operator)
            return cashier.close_day(connection, operator, self._now())

    def reschedule(self, his_id: str, schedule_id: str, *, operator: str) -> None:
        """Session, number and time of MS_YYGH, MS_YYGHHY and the valid MS_GHMX; the counters of both."""
        now, target = self._now(), parse_clinic(schedule_id)
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking, register = _order(connection, his_id)
            if booking is None or booking["GHBZ"] == 9:
                raise WindowRefusal("该预约已取消或已就诊，不能改诊")
            if register is not None and (register["THBZ"] != 0 or register["JZZT"] != 0):
                raise WindowRefusal("该预约已取消或已就诊，不能改诊")
            same = one(connection, cashier.SAME_FEE, ks=target.department, old=booking["HYKS"])
            if same is None or schedule_id == _schedule_of(booking):
                raise WindowRefusal("改诊的号别费用不同，请退号重挂")
            number = _take(connection, target, "YYRS", now)
            _back(connection, booking)
            cashier.move(connection, booking, target.binds, number)

    def prescribe(self, his_id: str) -> None:
        """A row of MS_CF01."""
        now = self._now()
        with self._engine.begin() as connection:
            _, register = _valid(connection, his_id)
            changed(
                connection,
                "INSERT INTO MS_CF01 (JGID, GHXH, BRID, KSDM, YSDM, KFRQ) SELECT JGID, SBXH, BRID, KSDM, YSDM, :now "
                "FROM MS_GHMX WHERE SBXH = :s",
                now=now,
                s=register["SBXH"],
            )

    def clear_holds(self) -> int:
        """HYZT 1 to 3 of holds that ran out, whoever made them."""
        with self._engine.begin() as connection:
            return cashier.clear_holds(connection, self._now())

    def night_job(self) -> int:
        """No history tables: 0."""
        return 0

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """TGBZ 0 to 1 and nothing else: PHIS keeps neither who nor when nor why."""
        self._flip(schedule_id, operator, "TGBZ = 1", "TGBZ = 0", "排班不存在或已停诊")

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """TGBZ 1 to 0."""
        self._flip(schedule_id, operator, "TGBZ = 0", "TGBZ = 1", "该排班未停诊")

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """YSDM of the session (part of its primary key!), of its open bookings and valid registrations; YPYS keeps the
        first doctor. MS_YYGHHY.HYYS, cancelled and refunded orders keep the planned one."""
        clinic = parse_clinic(schedule_id)
        with self._engine.begin() as connection:
            _operator(connection, operator)
            row = _lock(connection, clinic)
            known = one(connection, "SELECT YGXM FROM GY_YGDM WHERE YGDM = :id AND YGLB = 1 AND ZFPB = 0", id=doctor_id)
            if row is None or known is None or row["YSDM"] == doctor_id:
                raise WindowRefusal("替诊医生不存在或与原医生相同")
            binds = {**clinic.binds, "new": doctor_id}
            busy = one(
                connection,
                "SELECT 1 AS busy FROM MS_YSPB WHERE GZRQ = :day AND KSDM = :ks AND ZBLB = :session "
                "AND :new IN (YSDM, YPYS) AND COALESCE(YPYS, YSDM) <> :planned",
                **binds,
            )
            if busy is not None:
                raise WindowRefusal("替诊医生同一午别已有排班")
            old = {"day": clinic.day, "ks": clinic.department, "session": clinic.session, "old": row["YSDM"]}
            # SET works from left to right here: YPYS must come before YSDM.
            changed(connection, f"UPDATE MS_YSPB SET YPYS = COALESCE(YPYS, YSDM), YSDM = :new WHERE {SESSION}", **binds)
            for statement in _REPLACE:
                changed(connection, statement, **old, new=doctor_id)

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """MS_GHMX without booking or 号源, cash; YGRS + 1."""
        return self._at_window(schedule_id, patient_id, operator, None)

    def register_insured(self, schedule_id: str, patient_id: str, bill: InsuredBill, *, operator: str) -> str:
        """As `walk_in`, with BRXZ 2, ZHJE, JJZFJE, a payment of mode 9 and a row of YB_GHJS."""
        return self._at_window(schedule_id, patient_id, operator, bill)

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """As 健康160 would have: SOURCE 160, DJGH jk160, WeChat money in QTYS."""
        now, clinic = self._now(), parse_clinic(schedule_id)
        with self._engine.begin() as connection:
            number = _take(connection, clinic, "YYRS", now)
            binds = {
                **clinic.binds, "number": number, "brid": patient_id, "order_no": platform_order_no, "now": now,
                "at": stamp(now), "code": f"{random.randrange(10**8):08d}",  # noqa: S311 - a sample's 预约密码
            }  # fmt: skip
            if changed(connection, _HOLD, **{k: v for k, v in binds.items() if k not in ("now", "code")}) != 1:
                raise WindowRefusal("该病人未建档")
            hold = one(connection, "SELECT LAST_INSERT_ID() AS hyxh")
            assert hold is not None
            wanted = ("brid", "number", "now", "code")
            changed(connection, _BOOK, hyxh=hold["hyxh"], **{k: binds[k] for k in wanted}, **clinic.binds)
            booking = one(connection, "SELECT LAST_INSERT_ID() AS yyxh")
            assert booking is not None
            if paid:
                order = (int(str(hold["hyxh"])), platform_order_no)
                sbxh = cashier.settle(connection, clinic.binds, patient_id, number, "jk160", now, channel=order)
                changed(connection, "UPDATE MS_YYGH SET SBXH = :s WHERE YYXH = :y", s=sbxh, y=booking["yyxh"])
        return str(booking["yyxh"])

    def check_in(self, his_id: str) -> None:
        """取号: GHBZ 0 to 1 and QHSJ."""
        now = self._now()
        with self._engine.begin() as connection:
            booking, register = _valid(connection, his_id)
            if register["QHSJ"] is not None:
                raise WindowRefusal("该患者已经签到")
            changed(connection, "UPDATE MS_GHMX SET QHSJ = :now WHERE SBXH = :s", now=now, s=register["SBXH"])
            if booking is not None:
                changed(connection, "UPDATE MS_YYGH SET GHBZ = 1 WHERE YYXH = :y AND GHBZ = 0", y=booking["YYXH"])

    def visit(self, his_id: str) -> None:
        """JZZT 0 to 1 and JZYS."""
        with self._engine.begin() as connection:
            _, register = _valid(connection, his_id)
            if register["JZZT"] != 0:
                raise WindowRefusal("该患者已经就诊过了")
            changed(connection, "UPDATE MS_GHMX SET JZZT = 1, JZYS = YSDM WHERE SBXH = :s", s=register["SBXH"])

    def half_written(self, schedule_id: str, patient_id: str) -> str | None:
        """This vendor writes a registration in one transaction: no such rows."""
        return None

    def raw(self, his_id: str) -> list[HisRow]:
        """Booking, 号源, registration, refund, receipt, payments, 医保."""
        with self._engine.connect() as connection:
            found: list[HisRow] = []
            if his_id.startswith(WALK_IN):
                sbxh: object = his_id[len(WALK_IN) :]
            else:
                found += rows_of(connection, "MS_YYGH", "YYXH = :id", id=his_id)
                sbxh = found[0][1]["SBXH"] if found else None
                found += rows_of(connection, "MS_YYGHHY", "HYXH = :id", id=found[0][1]["ZCID"] if found else None)
            for table, condition in (
                ("MS_GHMX", "SBXH = :id"),
                ("MS_THMX", "SBXH = :id"),
                ("MS_MZXX", "GHGL = :id"),
                ("MS_FKXX", "MZXH IN (SELECT MZXH FROM MS_MZXX WHERE GHGL = :id) ORDER BY JLXH"),
                ("YB_GHJS", "SBXH = :id ORDER BY JSXH"),
            ):
                found += rows_of(connection, table, condition, id=sbxh)
        return found

    def raw_schedule(self, schedule_id: str) -> list[HisRow]:
        """The session's row; this vendor keeps no stop or change records."""
        with self._engine.connect() as connection:
            return rows_of(connection, "MS_YSPB", SESSION, **parse_clinic(schedule_id).binds)

    def _at_window(self, schedule_id: str, patient_id: str, operator: str, bill: InsuredBill | None) -> str:
        now, clinic = self._now(), parse_clinic(schedule_id)
        with self._engine.begin() as connection:
            _operator(connection, operator)
            number = _take(connection, clinic, "YGRS", now)
            sbxh = cashier.settle(connection, clinic.binds, patient_id, number, operator, now, bill=bill)
        return f"{WALK_IN}{sbxh}"

    def _give_back(self, his_id: str, operator: str, reversal: str | None) -> None:
        now = self._now()
        with self._engine.begin() as connection:
            _operator(connection, operator)
            booking, register = _order(connection, his_id)
            cashier.check_refund(connection, booking, register, insured=reversal is not None)
            assert register is not None
            cashier.give_back(connection, register["SBXH"], operator, now, reversal=reversal)
            if booking is not None:
                _release(connection, booking, now)
                return
            changed(
                connection,
                "UPDATE MS_YSPB SET YGRS = YGRS - 1 WHERE GZRQ = :day AND KSDM = :ks AND ZBLB = :session "
                "AND YSDM = :doctor AND YGRS > 0",
                day=register["GHRQ"], ks=register["KSDM"], session=register["ZBLB"], doctor=register["YSDM"],
            )  # fmt: skip

    def _flip(self, schedule_id: str, operator: str, change: str, guard: str, refusal: str) -> None:
        with self._engine.begin() as connection:
            _operator(connection, operator)
            sql = f"UPDATE MS_YSPB SET {change} WHERE {SESSION} AND {guard}"
            if changed(connection, sql, **parse_clinic(schedule_id).binds) != 1:
                raise WindowRefusal(refusal)


def parse_clinic(schedule_id: str) -> Clinic:
    """'20261125.101.2003.1'. Raises WindowRefusal when it is none."""
    try:
        day, department, planned, session = schedule_id.split(".")
        return Clinic(datetime.date.fromisoformat(day), int(department), planned, int(session))
    except ValueError:
        raise WindowRefusal("排班不存在或已停诊") from None


def _operator(connection: Connection, code: str) -> None:
    if one(connection, "SELECT YGDM FROM GY_YGDM WHERE YGDM = :id AND ZFPB = 0", id=code) is None:
        raise WindowRefusal("操作员不存在")


def _lock(connection: Connection, clinic: Clinic) -> dict[str, object] | None:
    return one(connection, f"SELECT * FROM MS_YSPB WHERE {SESSION} FOR UPDATE", **clinic.binds)


def _booking(connection: Connection, his_id: str) -> dict[str, object] | None:
    """The booking with its 号源, after its session's row has been locked."""
    sql = (
        "SELECT y.*, h.HYYS, h.HYXH, h.HYKS, h.ZBLB AS HYZB FROM MS_YYGH y JOIN MS_YYGHHY h ON h.HYXH = y.ZCID "
        "WHERE y.YYXH = :id"
    )
    number = his_id if his_id.isdigit() else "0"
    first = one(connection, sql, id=number)
    if first is None:
        return None
    _lock(connection, Clinic(first["GHRQ"], first["KSDM"], first["HYYS"], first["ZBLB"]))  # type: ignore[arg-type]
    return one(connection, f"{sql} FOR UPDATE", id=number)


def _order(connection: Connection, his_id: str) -> tuple[dict[str, object] | None, dict[str, object] | None]:
    """Booking and registration; a walk-in has no booking."""
    if not his_id.startswith(WALK_IN):
        booking = _booking(connection, his_id)
        number = None if booking is None else booking["SBXH"]
    else:
        booking, number = None, his_id[len(WALK_IN) :]
        where = "(GZRQ, KSDM, YSDM, ZBLB) = (SELECT GHRQ, KSDM, YSDM, ZBLB FROM MS_GHMX WHERE SBXH = :s)"
        connection.execute(text(f"SELECT 1 FROM MS_YSPB WHERE {where} FOR UPDATE"), {"s": number})
    return booking, one(connection, "SELECT * FROM MS_GHMX WHERE SBXH = :s FOR UPDATE", s=number)


def _valid(connection: Connection, his_id: str) -> tuple[dict[str, object] | None, dict[str, object]]:
    booking, register = _order(connection, his_id)
    if register is None or register["THBZ"] != 0:
        raise WindowRefusal("该号未缴费或已退号")
    return booking, register


def _release(connection: Connection, booking: dict[str, object], now: datetime.datetime) -> None:
    """号源 3 with TYSJ, YYRS - 1."""
    changed(
        connection, "UPDATE MS_YYGHHY SET HYZT = '3', TYSJ = :now WHERE HYXH = :h AND HYZT = '2'",
        now=now, h=booking["HYXH"],
    )  # fmt: skip
    _back(connection, booking)


def _schedule_of(booking: dict[str, object]) -> str:
    day = booking["GHRQ"]
    assert isinstance(day, datetime.date)
    return schedule_key(day, booking["HYKS"], booking["HYYS"], booking["HYZB"])


def _back(connection: Connection, booking: dict[str, object]) -> None:
    """YYRS - 1 of the booking's session."""
    changed(
        connection,
        f"UPDATE MS_YSPB SET YYRS = YYRS - 1 WHERE {SESSION} AND YYRS > 0",
        day=booking["GHRQ"], ks=booking["HYKS"], planned=booking["HYYS"], session=booking["ZBLB"],
    )  # fmt: skip


def _take(connection: Connection, clinic: Clinic, counter: str, now: datetime.datetime) -> int:
    """The next 就诊序号, counted in YGRS (on site) or YYRS (booking). Sweeps locks that ran out."""
    row = _lock(connection, clinic)
    if row is None or row["TGBZ"] != 0:
        raise WindowRefusal("排班不存在或已停诊")
    minutes = one(connection, "SELECT CAST(CSZ AS SIGNED) AS m FROM GY_XTCS WHERE CSMC = 'YYSDSJ'")
    assert minutes is not None
    expired = stamp(now - datetime.timedelta(minutes=int(str(minutes["m"]))))
    cashier.sweep(connection, clinic.binds, now, str(expired))
    quota = " AND YYRS < YYXE" if counter == "YYRS" else ""
    sql = (
        f"UPDATE MS_YSPB SET {counter} = {counter} + 1, JZXH = JZXH + 1 WHERE {SESSION} AND TGBZ = 0 "
        f"AND YYRS + YGRS < GHXE{quota}"
    )
    if changed(connection, sql, **clinic.binds) != 1:
        raise WindowRefusal("该午别号已挂满")
    return int(str(row["JZXH"])) + 1


_REPLACE = (
    "UPDATE MS_YYGH y LEFT JOIN MS_GHMX x ON x.SBXH = y.SBXH SET y.YSDM = :new WHERE y.GHRQ = :day AND y.KSDM = :ks "
    "AND y.ZBLB = :session AND y.YSDM = :old AND y.GHBZ IN (0, 1) AND COALESCE(x.THBZ, 0) = 0",
    "UPDATE MS_GHMX SET YSDM = :new WHERE GHRQ = :day AND KSDM = :ks AND ZBLB = :session AND YSDM = :old AND THBZ = 0 "
    "AND JZZT = 0",
)
_HOLD = """
INSERT INTO MS_YYGHHY (HYKS, HYJG, HYYS, HYSJ, HYZT, BRID, SFZH, ZBLB, SOURCE, CARDID, CARDTYPE, PATIENTNAME,
    TELEPHONENO, SDXH, GHF, ZLF, ZFJE, DDH, DDSJ)
SELECT p.KSDM, p.JGID, :planned, TIMESTAMP(p.GZRQ, COALESCE(NULLIF(p.YYKSSJ, ''), w.YYKSSJ))
    + INTERVAL (:number - 1) * COALESCE(NULLIF(p.YYJG, ''), w.YYJG, 10) MINUTE, '2', b.BRID, LEFT(b.SFZH, 1), p.ZBLB,
    160, LEFT(b.JZKH, 20), '01', LEFT(b.BRXM, 20), b.LXDH, :number, k.GHF, k.ZLF, ROUND(k.GHF + k.ZLF, 2),
    :order_no, :at
FROM MS_YSPB p JOIN MS_GHKS k ON k.KSDM = p.KSDM
LEFT JOIN MS_KSPB w ON w.GHRQ = DAYOFWEEK(p.GZRQ) AND w.ZBLB = p.ZBLB AND w.GHKS = p.KSDM
JOIN MS_BRDA b ON b.BRID = :brid AND b.ZXBZ = 0
WHERE p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session AND COALESCE(p.YPYS, p.YSDM) = :planned"""
_BOOK = """
INSERT INTO MS_YYGH (JGID, YYMM, BRID, GHRQ, KSDM, ZBLB, YSDM, YYRQ, JZXH, ZCID, DJGH)
SELECT p.JGID, :code, :brid, p.GZRQ, p.KSDM, p.ZBLB, p.YSDM, :now, :number, :hyxh, 'jk160' FROM MS_YSPB p
WHERE p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session AND COALESCE(p.YPYS, p.YSDM) = :planned"""
