"""The zebone sample's window program: writes into the HIS tables as the vendor's own window does, knowing nothing of
his160."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from his_db.sample import Clock, HisRow, InsuredBill, OrderRow, WindowRefusal
from his_db.samples import zebone_cashier as cashier
from his_db.samples.tables import changed, fen, one, open_engine, rows_of, shifted
from his_db.samples.zebone_rows import (
    RESCHEDULE,
    SAME_FEE,
    employee_of,
    end_appointment,
    log_change,
    new_key,
    order_of,
    release_ticket,
    take_ticket,
)

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
         (SELECT SUM(s.AMOUNT_ST) FROM BL_SETTLE s WHERE s.PK_PV=a.PK_PV AND s.DT_STTYPE IN ('20','21')) AS refunded
    FROM SCH_APPT a LEFT JOIN PV_ENCOUNTER p ON p.PK_PV=a.PK_PV
    LEFT JOIN BD_OU_EMPLOYEE c ON c.PK_EMP=a.PK_EMP_CANCEL LEFT JOIN BD_OU_EMPLOYEE r ON r.PK_EMP=a.PK_EMP_REG
   WHERE a.DEL_FLAG='0' AND (:channel = 0 OR a.DT_APPTYPE='2520'))
WHERE :states = '' OR instr(:states, ',' || state || ',') > 0
ORDER BY booked DESC, his_id LIMIT :limit"""


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
            order = order_of(connection, his_id)
            if order["EU_STATUS"] == "9":
                raise WindowRefusal("该患者已经取消预约")
            if order["PV_STATUS"] in ("1", "2"):
                raise WindowRefusal("该患者已经就诊过了")
            if order["EU_STATUS"] == "1":
                raise WindowRefusal("请在挂号处退号！")
            if str(order["DATE_APPT"])[:10] < now[:10]:
                raise WindowRefusal("该时间不能取消预约")
            end_appointment(connection, his_id, employee_of(connection, operator), now, "0")
            release_ticket(connection, order, now)

    def refund(self, his_id: str, *, operator: str) -> None:
        """Red-ink settlement and deposit, encounter and appointment 9, ticket back. The external payment keeps
        REFUND_NO NULL."""
        now = self._now()
        with self._transaction() as connection:
            order = order_of(connection, his_id)
            cashier.check_refund(connection, order, insured=False)
            employee = employee_of(connection, operator)
            cashier.give_back(connection, order, employee, now)

    def suspend_schedule(self, schedule_id: str, *, operator: str, reason: str) -> None:
        """FLAG_STOP on the schedule and its unused tickets, a stop record, a change record."""
        now = self._now()
        with self._transaction() as connection:
            employee = employee_of(connection, operator)
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
                key=new_key(), code=operator, now=now, sch=schedule_id, reason=reason, **employee,
            )  # fmt: skip
            log_change(connection, schedule_id, "1", employee, now, reason)

    def resume_schedule(self, schedule_id: str, *, operator: str) -> None:
        """The reverse of `suspend_schedule`; the stop record is marked deleted."""
        now = self._now()
        with self._transaction() as connection:
            employee = employee_of(connection, operator)
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
            log_change(connection, schedule_id, "5", employee, now, "恢复出诊")

    def replace_doctor(self, schedule_id: str, doctor_id: str, *, operator: str) -> None:
        """Another PK_SCHRES on the schedule; open appointments follow. `doctor_id` is 工号 or PK_EMP."""
        now = self._now()
        with self._transaction() as connection:
            employee = employee_of(connection, operator)
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
            log_change(connection, schedule_id, "4", employee, now, "替诊", old=old, new=str(resource["res"]))

    def walk_in(self, schedule_id: str, patient_id: str, *, operator: str) -> str:
        """Takes a window number first, else the lowest free one; cash."""
        with self._transaction() as connection:
            appointment = self._book(connection, schedule_id, patient_id, operator, "2530", None)
            cashier.settle(connection, appointment, operator, self._now(), mode="1")
        return appointment

    def register_insured(self, schedule_id: str, patient_id: str, bill: InsuredBill, *, operator: str) -> str:
        """As `walk_in`, with DT_HP 02, AMOUNT_INSU, a deposit of mode 9 and a row of INS_QGYB_ST."""
        with self._transaction() as connection:
            appointment = self._book(connection, schedule_id, patient_id, operator, "2530", None)
            cashier.settle(connection, appointment, operator, self._now(), mode="1", bill=bill)
        return appointment

    def refund_insured(self, his_id: str, reversal_setl_id: str, *, operator: str) -> None:
        """As `refund`; INS_QGYB_ST becomes 已撤销."""
        now = self._now()
        with self._transaction() as connection:
            order = order_of(connection, his_id)
            cashier.check_refund(connection, order, insured=True)
            cashier.give_back(connection, order, employee_of(connection, operator), now)
            changed(
                connection,
                "UPDATE INS_QGYB_ST SET EU_STATUS='1', SETL_ID_CANC=:setl, DATE_CANC=:now, TS=:now "
                "WHERE PK_PV=:pv AND EU_STATUS='0'",
                setl=reversal_setl_id, now=now, pv=order["PK_PV"],
            )  # fmt: skip

    def refund_part(self, his_id: str, amount_fen: int, *, operator: str) -> None:
        """A settlement of type 21 over the part, of walk-ins; what a platform took goes back whole or not at all."""
        with self._transaction() as connection:
            order = order_of(connection, his_id)
            cashier.give_back_part(connection, order, amount_fen, employee_of(connection, operator), self._now())

    def close_day(self, *, operator: str) -> str:
        """BL_CC and BL_CC_PAY over all rows of the operator without PK_CC; answers PK_CC."""
        with self._transaction() as connection:
            return cashier.close_day(connection, employee_of(connection, operator), self._now())

    def reschedule(self, his_id: str, schedule_id: str, *, operator: str) -> None:
        """Another PK_SCH and PK_SCHTICKET on appointment and encounter, OLD_* keep the former ones; a change record."""
        now = self._now()
        with self._transaction() as connection:
            employee = employee_of(connection, operator)
            order = order_of(connection, his_id)
            if order["EU_STATUS"] == "9" or order["PV_STATUS"] in ("1", "2"):
                raise WindowRefusal("该预约已取消或已就诊，不能改诊")
            same = one(connection, SAME_FEE, sch=schedule_id, amount=order["AMOUNT"], old=order["PK_SCH"])
            if same is None:
                raise WindowRefusal("改诊的号别费用不同，请退号重挂")
            ticket = take_ticket(connection, schedule_id, now, at_window=False)
            release_ticket(connection, order, now)
            binds = {
                "id": his_id, "sch": schedule_id, "now": now, "ticket": ticket["PK_SCHTICKET"],
                "no": ticket["TICKETNO"], "begin": ticket["BEGIN_TIME"], "end": ticket["END_TIME"],
            }  # fmt: skip
            for statement in RESCHEDULE:
                changed(connection, statement, **{k: v for k, v in binds.items() if f":{k}" in statement})
            log_change(connection, schedule_id, "6", employee, now, "改诊")

    def prescribe(self, his_id: str) -> None:
        """FLAG_PRES of the encounter."""
        self._visit_step(his_id, "FLAG_PRES='1'", "FLAG_PRES='0'", "已有处方")

    def print_invoice(self, his_id: str, *, operator: str) -> None:
        """A row of BL_INVOICE: it must come back before the registration is refunded."""
        with self._transaction() as connection:
            employee, order = employee_of(connection, operator), order_of(connection, his_id)
            done = changed(
                connection,
                "INSERT INTO BL_INVOICE (PK_INVOICE, PK_SETTLE, CODE_INV, DATE_INV, PK_EMP_INV) "
                "SELECT :key, PK_SETTLE, 'E'||substr(PK_SETTLE,1,15), :now, :emp FROM BL_SETTLE "
                "WHERE PK_PV=:pv AND DT_STTYPE='00' AND FLAG_CANC='0'",
                key=new_key(), now=self._now(), emp=employee["emp"], pv=order["PK_PV"],
            )  # fmt: skip
            if done != 1:
                raise WindowRefusal("未缴费不能打印发票")

    def clear_holds(self) -> int:
        """This vendor cleans up nothing: a hold that ran out counts as free. 0."""
        return 0

    def night_job(self) -> int:
        """No history tables: 0."""
        return 0

    def book_for_channel(self, schedule_id: str, patient_id: str, platform_order_no: str, *, paid: bool) -> str:
        """As 健康160 would have: operator jk160, DT_APPTYPE 2520, WeChat money."""
        with self._transaction() as connection:
            appointment = self._book(connection, schedule_id, patient_id, "jk160", "2520", platform_order_no)
            if paid:
                cashier.settle(connection, appointment, "jk160", self._now(), mode="15", order_no=platform_order_no)
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
        """Appointment, ticket, encounter, settlements, deposits, external payments, 医保 settlements."""
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
                found += rows_of(connection, "INS_QGYB_ST", "PK_PV=:pv ORDER BY SETL_TIME", pv=visit)
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
            order = order_of(connection, his_id)
            if order["EU_STATUS"] != "1":
                raise WindowRefusal("该号未缴费或已退号")
            sql = f"UPDATE PV_ENCOUNTER SET {change}, TS=:now WHERE PK_PV=:pv AND FLAG_CANCEL='0' AND {guard}"
            if changed(connection, sql, now=now, pv=order["PK_PV"]) != 1:
                raise WindowRefusal(text_done)

    def _book(
        self, connection: Connection, schedule: str, patient: str, operator: str, channel: str, order_no: str | None
    ) -> str:
        now, appointment = self._now(), new_key()
        employee = employee_of(connection, operator)
        ticket = take_ticket(connection, schedule, now, at_window=channel == "2530")
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
