"""The zebone sample's window program: writes into the HIS tables as the vendor's own window does, knowing nothing of
his160."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from his_db.sample import Clock, HisRow, OrderRow, WindowRefusal
from his_db.samples.tables import changed, fen, one, open_engine, rows_of, shifted, yuan

_STATE = (
    "CASE WHEN a.EU_STATUS='9' AND a.FLAG_PAY='1' THEN 'REFUNDED' WHEN a.EU_STATUS='9' THEN 'CANCELLED' "
    "WHEN a.EU_STATUS='0' THEN 'BOOKED' WHEN p.EU_STATUS IN ('1','2') THEN 'VISITED' "
    "WHEN p.FLAG_SIGN='1' THEN 'CHECKED_IN' ELSE 'PAID' END"
)
_ORDERS = f"""
SELECT * FROM (
  SELECT a.PK_SCHAPPT AS his_id, a.ORDERID_EXT AS order_no, {_STATE} AS state, a.PK_SCH AS sch, a.TICKETNO AS number,
         a.PK_PI AS patient, a.AMOUNT AS total, COALESCE(c.CODE_EMP, r.CODE_EMP, '') AS operator, a.DATE_REG AS booked,
         (SELECT SUM(s.AMOUNT_ST) FROM BL_SETTLE s WHERE s.PK_PV=a.PK_PV AND s.DT_STTYPE='00') AS paid,
         (SELECT SUM(s.AMOUNT_ST) FROM BL_SETTLE s WHERE s.PK_PV=a.PK_PV AND s.DT_STTYPE='20') AS refunded
    FROM SCH_APPT a LEFT JOIN PV_ENCOUNTER p ON p.PK_PV=a.PK_PV
    LEFT JOIN BD_OU_EMPLOYEE c ON c.PK_EMP=a.PK_EMP_CANCEL LEFT JOIN BD_OU_EMPLOYEE r ON r.PK_EMP=a.PK_EMP_REG
   WHERE a.DEL_FLAG='0' AND (:channel = 0 OR a.DT_APPTYPE='2520'))
WHERE :states = '' OR instr(:states, ',' || state || ',') > 0
ORDER BY booked DESC, his_id LIMIT :limit"""
_FREE = "FLAG_USED='0' AND FLAG_STOP='0' AND DEL_FLAG='0' AND (FLAG_LOCK='0' OR DATE_LOCKEND<=:now)"
_TAKE = f"""
UPDATE SCH_TICKET SET FLAG_USED='1', FLAG_LOCK='0', ID_LOCK=NULL, DATE_LOCKEND=NULL, TS=:now
 WHERE PK_SCHTICKET=(SELECT PK_SCHTICKET FROM SCH_TICKET WHERE PK_SCH=:sch AND {_FREE} AND (FLAG_APPT='1' OR :window=1)
                     ORDER BY CASE WHEN :window=1 THEN FLAG_APPT ELSE '1' END, TICKETNO LIMIT 1)
RETURNING PK_SCHTICKET, TICKETNO, BEGIN_TIME, END_TIME"""


class ZeboneWindow:
    """`WindowProgram` over the SQLite file. The HIS id of an order is `PK_SCHAPPT`, of a schedule `PK_SCH`, of a
    patient `PK_PI`."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._engine = open_engine(url)
        with self._engine.connect() as connection:
            row = one(connection, "SELECT VAL FROM BD_SYSPARAM WHERE CODE_PARAM='SAMPLE_DAY_SHIFT'")
        self._clock = shifted(clock, int(str(row["VAL"])) if row else 0)

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def _now(self) -> str:
        return self._clock().strftime("%Y-%m-%d %H:%M:%S")

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
                schedule_id=r["sch"],
                number=r["number"],
                patient_id=r["patient"],
                total_fen=fen(r["total"]),
                paid_fen=fen(r["paid"]),
                refunded_fen=-fen(r["refunded"]),
                operator=r["operator"],
            )
            for r in rows
        ]

    def cancel_booking(self, his_id: str, *, operator: str) -> None:
        """EU_STATUS 0 to 9, ticket back; paid, cancelled, visited and past orders are refused."""
        now = self._now()
        with self._transaction() as connection:
            order = _order(connection, his_id)
            if order["EU_STATUS"] == "9":
                raise WindowRefusal("该患者已经取消预约")
            if order["PV_STATUS"] in ("1", "2"):
                raise WindowRefusal("该患者已经就诊过了")
            if order["EU_STATUS"] == "1":
                raise WindowRefusal("请在挂号处退号！")
            if str(order["DATE_APPT"])[:10] < now[:10]:
                raise WindowRefusal("该时间不能取消预约")
            _end_appointment(connection, his_id, _employee(connection, operator), now, "0")
            _release(connection, order, now)

    def refund(self, his_id: str, *, operator: str) -> None:
        """Red-ink settlement and deposit, encounter and appointment 9, ticket back. The external payment keeps
        REFUND_NO NULL."""
        now = self._now()
        with self._transaction() as connection:
            order = _order(connection, his_id)
            if order["EU_STATUS"] == "9":
                raise WindowRefusal("已取消就诊，请勿重复退号" if order["FLAG_PAY"] == "1" else "该患者已经取消预约")
            if order["EU_STATUS"] == "0":
                raise WindowRefusal("未缴费不能退号")
            if order["PV_STATUS"] in ("1", "2"):
                raise WindowRefusal("该号已经看诊,不能作废")
            if order["FLAG_PRES"] == "1":
                raise WindowRefusal("存在已结处方请先退处方再退挂号")
            employee = _employee(connection, operator)
            _end_appointment(connection, his_id, employee, now, "1")
            changed(
                connection,
                "UPDATE PV_ENCOUNTER SET EU_STATUS='9', FLAG_CANCEL='1', DATE_CANCEL=:now, PK_EMP_CANCEL=:emp, "
                "NAME_EMP_CANCEL=:name, TS=:now WHERE PK_PV=:pv AND EU_STATUS='0'",
                now=now, pv=order["PK_PV"], **employee,
            )  # fmt: skip
            _red_rows(connection, str(order["PK_PV"]), employee, now)
            _release(connection, order, now)

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """FLAG_STOP on the schedule and its unused tickets, a stop record, a change record."""
        now = self._now()
        with self._transaction() as connection:
            employee = _employee(connection, operator)
            done = changed(
                connection,
                "UPDATE SCH_SCH SET FLAG_STOP='1', MODITY_TIME=:now, TS=:now WHERE PK_SCH=:sch AND FLAG_STOP='0'",
                now=now, sch=schedule_id,
            )  # fmt: skip
            if done != 1:
                raise WindowRefusal("排班不存在或已停诊")
            changed(
                connection,
                "UPDATE SCH_TICKET SET FLAG_STOP='1', TS=:now WHERE PK_SCH=:sch AND FLAG_USED='0'",
                now=now, sch=schedule_id,
            )  # fmt: skip
            changed(
                connection,
                "INSERT INTO SCH_SCHSTOP (PK_SCHSTOP, PK_SCH, PK_EMP_STOP, CODE_EMP_STOP, NAME_EMP_STOP, DATE_STOP, "
                "DATE_END, EU_NOON, NOTE, TS) SELECT :key, s.PK_SCH, :emp, :code, :name, :now, "
                "substr(s.DATE_WORK,1,10)||' 23:59:59', CASE d.CODE_DATESLOT WHEN '0101' THEN '1' WHEN '0102' THEN '2' "
                "ELSE '3' END, :reason, :now FROM SCH_SCH s JOIN BD_DATESLOT d ON d.PK_DATESLOT=s.PK_DATESLOT "
                "WHERE s.PK_SCH=:sch",
                key=_key(), code=operator, now=now, sch=schedule_id, reason=reason, **employee,
            )  # fmt: skip
            _log(connection, schedule_id, "1", employee, now, reason)

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """The reverse of `suspend_schedule`; the stop record is marked deleted."""
        now = self._now()
        with self._transaction() as connection:
            employee = _employee(connection, operator)
            done = changed(
                connection,
                "UPDATE SCH_SCH SET FLAG_STOP='0', MODITY_TIME=:now, TS=:now WHERE PK_SCH=:sch AND FLAG_STOP='1'",
                now=now, sch=schedule_id,
            )  # fmt: skip
            if done != 1:
                raise WindowRefusal("该排班未停诊")
            changed(
                connection,
                "UPDATE SCH_TICKET SET FLAG_STOP='0', TS=:now WHERE PK_SCH=:sch AND FLAG_STOP='1'",
                now=now, sch=schedule_id,
            )  # fmt: skip
            changed(
                connection,
                "UPDATE SCH_SCHSTOP SET DEL_FLAG='1', TS=:now WHERE PK_SCH=:sch AND DEL_FLAG='0'",
                now=now, sch=schedule_id,
            )  # fmt: skip
            _log(connection, schedule_id, "5", employee, now, "恢复出诊")

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """Another PK_SCHRES on the schedule; open appointments follow. `doctor_id` is 工号 or PK_EMP."""
        now = self._now()
        with self._transaction() as connection:
            employee = _employee(connection, operator)
            resource = one(
                connection,
                "SELECT r.PK_SCHRES AS res, r.PK_EMP AS emp, e.NAME_EMP AS doctor "
                "FROM SCH_RESOURCE r JOIN BD_OU_EMPLOYEE e ON e.PK_EMP=r.PK_EMP "
                "WHERE :doc IN (r.PK_EMP, e.CODE_EMP) AND r.DEL_FLAG='0' AND e.FLAG_ACTIVE='1'",
                doc=doctor_id,
            )  # fmt: skip
            schedule = one(connection, "SELECT PK_SCHRES FROM SCH_SCH WHERE PK_SCH=:sch", sch=schedule_id)
            if resource is None or schedule is None or schedule["PK_SCHRES"] == resource["res"]:
                raise WindowRefusal("替诊医生不存在或与原医生相同")
            binds = {"sch": schedule_id, "res": resource["res"], "now": now}
            changed(
                connection,
                "UPDATE SCH_SCH SET PK_SCHRES_OLD=COALESCE(PK_SCHRES_OLD, PK_SCHRES), PK_SCHRES=:res, "
                "MODITY_TIME=:now, "
                "TS=:now WHERE PK_SCH=:sch",
                **binds,
            )
            changed(
                connection,
                "UPDATE SCH_APPT SET PK_SCHRES=:res, PK_EMP_PHY=:doc, NAME_EMP_PHY=:doctor, TS=:now "
                "WHERE PK_SCH=:sch AND EU_STATUS IN ('0','1')",
                doc=resource["emp"], doctor=resource["doctor"], **binds,
            )  # fmt: skip
            old = str(schedule["PK_SCHRES"])
            _log(connection, schedule_id, "4", employee, now, "替诊", old=old, new=str(resource["res"]))

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """Takes a window number first, else the lowest free one; cash."""
        with self._transaction() as connection:
            appointment = self._book(connection, schedule_id, patient_id, operator, "2530", None)
            self._pay(connection, appointment, operator, "1", None)
        return appointment

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """As 健康160 would have: operator jk160, DT_APPTYPE 2520, WeChat money."""
        with self._transaction() as connection:
            appointment = self._book(connection, schedule_id, patient_id, "jk160", "2520", platform_order_no)
            if paid:
                self._pay(connection, appointment, "jk160", "15", platform_order_no)
        return appointment

    def check_in(self, his_id: str) -> None:
        """FLAG_SIGN of the encounter."""
        self._visit_step(his_id, "FLAG_SIGN='1', DATE_SIGN=:now", "FLAG_SIGN='0'", "该患者已经签到")

    def visit(self, his_id: str) -> None:
        """EU_STATUS of the encounter 0 to 1."""
        self._visit_step(his_id, "EU_STATUS='1', DATE_CLINIC=:now", "EU_STATUS='0'", "该患者已经就诊过了")

    def half_written(self, schedule_id: str, patient_id: str) -> str | None:
        """This vendor writes in one transaction: no such rows."""
        return None

    def raw(self, his_id: str) -> list[HisRow]:
        """Appointment, ticket, encounter, settlements, deposits, external payments."""
        settles = "SELECT PK_SETTLE FROM BL_SETTLE WHERE PK_PV=:pv"
        with self._engine.connect() as connection:
            found = rows_of(connection, "SCH_APPT", "PK_SCHAPPT=:id", id=his_id)
            for _, row in list(found):
                visit = row["PK_PV"]
                found += rows_of(connection, "SCH_TICKET", "PK_SCHTICKET=:ticket", ticket=row["PK_SCHTICKET"])
                found += rows_of(connection, "PV_ENCOUNTER", "PK_PV=:pv", pv=visit)
                found += rows_of(connection, "BL_SETTLE", "PK_PV=:pv ORDER BY DATE_ST, DT_STTYPE", pv=visit)
                found += rows_of(
                    connection, "BL_DEPOSIT", f"PK_SETTLE IN ({settles}) ORDER BY EU_DIRECT DESC", pv=visit
                )
                found += rows_of(
                    connection, "BL_EXT_PAY", "PK_PV=:pv OR SERIAL_NO=:serial", pv=visit, serial=row["ORDERID_EXT"]
                )
        return found

    def raw_schedule(self, schedule_id: str) -> list[HisRow]:
        """Schedule, stop records, change records."""
        with self._engine.connect() as connection:
            return [
                row
                for table in ("SCH_SCH", "SCH_SCHSTOP", "SCH_MODLOG")
                for row in rows_of(connection, table, "PK_SCH=:sch ORDER BY rowid", sch=schedule_id)
            ]

    def _visit_step(self, his_id: str, change: str, guard: str, text_done: str) -> None:
        now = self._now()
        with self._transaction() as connection:
            order = _order(connection, his_id)
            if order["EU_STATUS"] != "1":
                raise WindowRefusal("该号未缴费或已退号")
            sql = f"UPDATE PV_ENCOUNTER SET {change}, TS=:now WHERE PK_PV=:pv AND FLAG_CANCEL='0' AND {guard}"
            if changed(connection, sql, now=now, pv=order["PK_PV"]) != 1:
                raise WindowRefusal(text_done)

    def _book(
        self, connection: Connection, schedule: str, patient: str, operator: str, channel: str, order_no: str | None
    ) -> str:
        now, appointment = self._now(), _key()
        employee = _employee(connection, operator)
        target = one(
            connection, "SELECT FLAG_STOP, EU_STATUS FROM SCH_SCH WHERE PK_SCH=:s AND DEL_FLAG='0'", s=schedule
        )
        if target is None or target["FLAG_STOP"] != "0" or target["EU_STATUS"] != "8":
            raise WindowRefusal("排班不存在或已停用")
        ticket = one(connection, _TAKE, sch=schedule, now=now, window=int(channel == "2530"))
        if ticket is None:
            raise WindowRefusal("已无可预约号")
        done = changed(
            connection,
            "INSERT INTO SCH_APPT (PK_SCHAPPT, PK_ORG, CODE_APPT, DT_APPTYPE, PK_SCH, PK_SCHTICKET, TICKETNO, "
            "PK_SCHRES, "
            "PK_SCHSRV, PK_DEPT_EX, PK_EMP_PHY, NAME_EMP_PHY, PK_PI, NAME_PI, DATE_APPT, BEGIN_TIME, END_TIME, AMOUNT, "
            "EU_STATUS, DATE_REG, PK_EMP_REG, NAME_EMP_REG, ORDERID_EXT, TS) "
            "SELECT :id, s.PK_ORG, :code, :channel, s.PK_SCH, :ticket, :no, s.PK_SCHRES, s.PK_SCHSRV, s.PK_DEPT, "
            "r.PK_EMP, "
            "e.NAME_EMP, p.PK_PI, p.NAME_PI, s.DATE_WORK, :begin, :end, v.PRICE_REG+v.PRICE_DIAG, '0', :now, :emp, "
            ":name, "
            ":order_no, :now FROM SCH_SCH s JOIN SCH_SRV v ON v.PK_SCHSRV=s.PK_SCHSRV JOIN SCH_RESOURCE r "
            "ON r.PK_SCHRES=s.PK_SCHRES LEFT JOIN BD_OU_EMPLOYEE e ON e.PK_EMP=r.PK_EMP JOIN PI_MASTER p ON "
            "p.PK_PI=:pi "
            "WHERE s.PK_SCH=:sch AND p.DEL_FLAG='0'",
            id=appointment, code=f"{int(appointment[:8], 16) % 100_000_000:08d}", channel=channel,
            ticket=ticket["PK_SCHTICKET"], no=ticket["TICKETNO"], begin=ticket["BEGIN_TIME"], end=ticket["END_TIME"],
            now=now, order_no=order_no, pi=patient, sch=schedule, **employee,
        )  # fmt: skip
        if done != 1:
            raise WindowRefusal("该卡号在His中未登记")
        return appointment

    def _pay(self, connection: Connection, appointment: str, operator: str, mode: str, order_no: str | None) -> None:
        now, visit, settle, deposit = self._now(), _key(), _key(), _key()
        employee = _employee(connection, operator)
        order = _order(connection, appointment)
        total = str(yuan(fen(order["AMOUNT"])))
        trade = None if order_no is None else f"4200{order_no}"
        binds = {"id": appointment, "pv": visit, "st": settle, "depo": deposit, "now": now, "total": total, **employee}
        changed(
            connection,
            "UPDATE SCH_APPT SET EU_STATUS='1', FLAG_PAY='1', DATE_PAY=:now, PK_PV=:pv, TS=:now "
            "WHERE PK_SCHAPPT=:id AND EU_STATUS='0'",
            **binds,
        )
        changed(
            connection,
            "INSERT INTO PV_ENCOUNTER (PK_PV, PK_ORG, CODE_PV, PK_PI, NAME_PI, PK_DEPT, PK_EMP_PHY, NAME_EMP_PHY, "
            "PK_SCH, "
            "PK_SCHAPPT, TICKETNO, DATE_BEGIN, DATE_REG, PK_EMP_REG, TS) SELECT :pv, PK_ORG, 'P'||substr(:pv,1,12), "
            "PK_PI, "
            "NAME_PI, PK_DEPT_EX, PK_EMP_PHY, NAME_EMP_PHY, PK_SCH, PK_SCHAPPT, TICKETNO, BEGIN_TIME, :now, :emp, :now "
            "FROM SCH_APPT WHERE PK_SCHAPPT=:id",
            **binds,
        )
        changed(
            connection,
            "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, CODE_ST, RECEIPT_NO, DT_STTYPE, AMOUNT_ST, "
            "AMOUNT_PI, "
            "AMOUNT_REG, AMOUNT_DIAG, DATE_ST, PK_EMP_ST, NAME_EMP_ST, TS) SELECT :st, a.PK_ORG, a.PK_PI, :pv, "
            "'S'||substr(:st,1,12), 'F'||substr(:st,1,10), '00', :total, :total, v.PRICE_REG, v.PRICE_DIAG, :now, "
            ":emp, "
            ":name, :now FROM SCH_APPT a JOIN SCH_SRV v ON v.PK_SCHSRV=a.PK_SCHSRV WHERE a.PK_SCHAPPT=:id",
            **binds,
        )
        changed(
            connection,
            "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, "
            "PK_EMP_PAY, "
            "NAME_EMP_PAY, TRADE_NO, TS) SELECT :depo, :st, PK_PI, :pv, 1, :total, :mode, :now, :emp, :name, :trade, "
            ":now "
            "FROM SCH_APPT WHERE PK_SCHAPPT=:id",
            mode=mode, trade=trade, **binds,
        )  # fmt: skip
        if order_no is not None:
            changed(
                connection,
                "INSERT INTO BL_EXT_PAY (PK_EXTPAY, PK_ORG, AMOUNT, EU_PAYTYPE, PAY_RESULT, FLAG_PAY, DATE_PAY, "
                "TRADE_NO, "
                "SERIAL_NO, OUT_TRADE_NO, SYSNAME, PK_PI, PK_PV, PK_SETTLE, PK_DEPO, NOTE, TS) SELECT :key, PK_ORG, "
                ":total, "
                ":mode, 'SUCCESS', '1', :now, :trade, :no, :out, 'Y160', PK_PI, :pv, :st, :depo, '用于退号', :now "
                "FROM SCH_APPT WHERE PK_SCHAPPT=:id",
                key=_key(), mode=mode, trade=trade, no=order_no, out=f"M{order_no}", **binds,
            )  # fmt: skip


def _key() -> str:
    return uuid.uuid4().hex.upper()


def _order(connection: Connection, his_id: str) -> dict[str, object]:
    row = one(
        connection,
        "SELECT a.*, p.EU_STATUS AS PV_STATUS, p.FLAG_PRES AS FLAG_PRES FROM SCH_APPT a LEFT JOIN PV_ENCOUNTER p "
        "ON p.PK_PV=a.PK_PV WHERE a.PK_SCHAPPT=:id AND a.DEL_FLAG='0'",
        id=his_id,
    )
    if row is None:
        raise WindowRefusal("未找到预约")
    return row


def _employee(connection: Connection, operator: str) -> dict[str, object]:
    row = one(
        connection,
        "SELECT PK_EMP AS emp, NAME_EMP AS name FROM BD_OU_EMPLOYEE WHERE CODE_EMP=:code AND DEL_FLAG='0'",
        code=operator,
    )
    if row is None:
        raise WindowRefusal("操作员不存在")
    return row


def _end_appointment(connection: Connection, his_id: str, employee: dict[str, object], now: str, paid: str) -> None:
    done = changed(
        connection,
        "UPDATE SCH_APPT SET FLAG_CANCEL='1', EU_STATUS='9', PK_EMP_CANCEL=:emp, NAME_EMP_CANCEL=:name, "
        "DATE_CANCEL=:now, "
        "TS=:now WHERE PK_SCHAPPT=:id AND EU_STATUS=:paid",
        id=his_id, now=now, paid=paid, **employee,
    )  # fmt: skip
    if done != 1:
        raise WindowRefusal("该患者已经取消预约")


def _release(connection: Connection, order: dict[str, object], now: str) -> None:
    changed(
        connection,
        "UPDATE SCH_TICKET SET FLAG_USED='0', TS=:now, FLAG_STOP=(SELECT FLAG_STOP FROM SCH_SCH s "
        "WHERE s.PK_SCH=SCH_TICKET.PK_SCH) WHERE PK_SCHTICKET=:ticket AND FLAG_USED='1' AND :norelease='0'",
        now=now, ticket=order["PK_SCHTICKET"], norelease=order["FLAG_NORELEASE"],
    )  # fmt: skip


def _red_rows(connection: Connection, visit: str, employee: dict[str, object], now: str) -> None:
    binds = {"pv": visit, "st": _key(), "depo": _key(), "now": now, **employee}
    changed(
        connection,
        "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, CODE_ST, RECEIPT_NO, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, "
        "AMOUNT_INSU, AMOUNT_DISC, AMOUNT_REG, AMOUNT_DIAG, DATE_ST, PK_EMP_ST, NAME_EMP_ST, REASON_CANC, "
        "PK_SETTLE_CANC, TS) "
        "SELECT :st, PK_ORG, PK_PI, PK_PV, CODE_ST||'R', RECEIPT_NO||'R', '20', -AMOUNT_ST, -AMOUNT_PI, -AMOUNT_INSU, "
        "-AMOUNT_DISC, -AMOUNT_REG, -AMOUNT_DIAG, :now, :emp, :name, '退号', PK_SETTLE, :now FROM BL_SETTLE "
        "WHERE PK_PV=:pv AND DT_STTYPE='00' AND FLAG_CANC='0'",
        **binds,
    )
    changed(
        connection,
        "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, "
        "PK_EMP_PAY, "
        "NAME_EMP_PAY, TRADE_NO, PK_DEPO_BACK, TS) SELECT :depo, :st, PK_PI, PK_PV, -1, -AMOUNT, DT_PAYMODE, :now, "
        ":emp, "
        ":name, TRADE_NO, PK_DEPO, :now FROM BL_DEPOSIT WHERE EU_DIRECT=1 AND PK_SETTLE IN "
        "(SELECT PK_SETTLE FROM BL_SETTLE WHERE PK_PV=:pv AND DT_STTYPE='00' AND FLAG_CANC='0')",
        **binds,
    )
    for sql in (
        "UPDATE BL_SETTLE SET FLAG_CANC='1', TS=:now WHERE PK_PV=:pv AND DT_STTYPE='00' AND FLAG_CANC='0'",
        "UPDATE BL_EXT_PAY SET DATE_REFUND=:now, AMOUNT_REFUND=AMOUNT, TS=:now WHERE PK_PV=:pv AND DATE_REFUND IS NULL",
    ):
        changed(connection, sql, **binds)


def _log(
    connection: Connection, schedule: str, kind: str, employee: dict[str, object], now: str, note: str, *,
    old: str | None = None, new: str | None = None,
) -> None:  # fmt: skip
    changed(
        connection,
        "INSERT INTO SCH_MODLOG (PK_SCHMOD, PK_SCH, EU_MODTYPE, PK_SCHRES_OLD, PK_SCHRES_NEW, PK_EMP_MOD, "
        "NAME_EMP_MOD, "
        "DATE_MOD, NOTE) VALUES (:key, :sch, :kind, :old, :new, :emp, :name, :now, :note)",
        key=_key(), sch=schedule, kind=kind, old=old, new=new, now=now, note=note, **employee,
    )  # fmt: skip
