"""Rows of the zebone sample that several of its programs read and write: orders, tickets, operators, change records."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import uuid

from sqlalchemy import Connection

from his_db.sample import WindowRefusal
from his_db.samples.tables import changed, one

_FREE = "FLAG_USED='0' AND FLAG_STOP='0' AND DEL_FLAG='0' AND (FLAG_LOCK='0' OR DATE_LOCKEND<=:now)"
_TAKE = f"""
UPDATE SCH_TICKET SET FLAG_USED='1', FLAG_LOCK='0', ID_LOCK=NULL, DATE_LOCKEND=NULL, TS=:now
 WHERE PK_SCHTICKET=(SELECT PK_SCHTICKET FROM SCH_TICKET WHERE PK_SCH=:sch AND {_FREE} AND (FLAG_APPT='1' OR :window=1)
                     ORDER BY CASE WHEN :window=1 THEN FLAG_APPT ELSE '1' END, TICKETNO LIMIT 1)
RETURNING PK_SCHTICKET, TICKETNO, BEGIN_TIME, END_TIME"""
SAME_FEE = """
SELECT 1 AS same FROM SCH_SCH s JOIN SCH_SRV v ON v.PK_SCHSRV=s.PK_SCHSRV
 WHERE s.PK_SCH=:sch AND s.PK_SCH<>:old AND ROUND(v.PRICE_REG+v.PRICE_DIAG-:amount, 2)=0"""
RESCHEDULE = (
    "UPDATE SCH_APPT SET OLD_PK_SCH=PK_SCH, OLD_PK_SCHTICKET=PK_SCHTICKET, PK_SCH=:sch, PK_SCHTICKET=:ticket, "
    "TICKETNO=:no, BEGIN_TIME=:begin, END_TIME=:end, TS=:now WHERE PK_SCHAPPT=:id",
    "UPDATE SCH_APPT SET DATE_APPT=s.DATE_WORK, PK_SCHRES=s.PK_SCHRES, PK_SCHSRV=s.PK_SCHSRV, PK_DEPT_EX=s.PK_DEPT, "
    "PK_EMP_PHY=r.PK_EMP, NAME_EMP_PHY=(SELECT NAME_EMP FROM BD_OU_EMPLOYEE e WHERE e.PK_EMP=r.PK_EMP) "
    "FROM SCH_SCH s JOIN SCH_RESOURCE r ON r.PK_SCHRES=s.PK_SCHRES "
    "WHERE SCH_APPT.PK_SCHAPPT=:id AND s.PK_SCH=:sch",
    "UPDATE PV_ENCOUNTER SET PK_SCH=a.PK_SCH, PK_DEPT=a.PK_DEPT_EX, PK_EMP_PHY=a.PK_EMP_PHY, "
    "NAME_EMP_PHY=a.NAME_EMP_PHY, TICKETNO=a.TICKETNO, DATE_BEGIN=a.BEGIN_TIME, TS=:now "
    "FROM SCH_APPT a WHERE a.PK_SCHAPPT=:id AND PV_ENCOUNTER.PK_PV=a.PK_PV",
)
"""改诊: the appointment, then its encounter if there is one."""


def new_key() -> str:
    """A random key of 32 upper-case hex digits."""
    return uuid.uuid4().hex.upper()


def take_ticket(connection: Connection, schedule: str, now: str, *, at_window: bool) -> dict[str, object]:
    """Takes a number of an open session; the window has numbers of its own. Raises WindowRefusal."""
    target = one(connection, "SELECT FLAG_STOP, EU_STATUS FROM SCH_SCH WHERE PK_SCH=:s AND DEL_FLAG='0'", s=schedule)
    if target is None or target["FLAG_STOP"] != "0" or target["EU_STATUS"] != "8":
        raise WindowRefusal("排班不存在或已停用")
    ticket = one(connection, _TAKE, sch=schedule, now=now, window=int(at_window))
    if ticket is None:
        raise WindowRefusal("已无可预约号")
    return ticket


def order_of(connection: Connection, his_id: str) -> dict[str, object]:
    row = one(
        connection,
        "SELECT a.*, p.EU_STATUS AS PV_STATUS, p.FLAG_PRES AS FLAG_PRES FROM SCH_APPT a LEFT JOIN PV_ENCOUNTER p "
        "ON p.PK_PV=a.PK_PV WHERE a.PK_SCHAPPT=:id AND a.DEL_FLAG='0'",
        id=his_id,
    )
    if row is None:
        raise WindowRefusal("未找到预约")
    return row


def employee_of(connection: Connection, operator: str) -> dict[str, object]:
    row = one(
        connection,
        "SELECT PK_EMP AS emp, NAME_EMP AS name FROM BD_OU_EMPLOYEE WHERE CODE_EMP=:code AND DEL_FLAG='0'",
        code=operator,
    )
    if row is None:
        raise WindowRefusal("操作员不存在")
    return row


def end_appointment(connection: Connection, his_id: str, employee: dict[str, object], now: str, paid: str) -> None:
    done = changed(
        connection,
        "UPDATE SCH_APPT SET FLAG_CANCEL='1', EU_STATUS='9', PK_EMP_CANCEL=:emp, NAME_EMP_CANCEL=:name, "
        "DATE_CANCEL=:now, "
        "TS=:now WHERE PK_SCHAPPT=:id AND EU_STATUS=:paid",
        id=his_id, now=now, paid=paid, **employee,
    )  # fmt: skip
    if done != 1:
        raise WindowRefusal("该患者已经取消预约")


def release_ticket(connection: Connection, order: dict[str, object], now: str) -> None:
    changed(
        connection,
        "UPDATE SCH_TICKET SET FLAG_USED='0', TS=:now, FLAG_STOP=(SELECT FLAG_STOP FROM SCH_SCH s "
        "WHERE s.PK_SCH=SCH_TICKET.PK_SCH) WHERE PK_SCHTICKET=:ticket AND FLAG_USED='1' AND :norelease='0'",
        now=now, ticket=order["PK_SCHTICKET"], norelease=order["FLAG_NORELEASE"],
    )  # fmt: skip


def log_change(
    connection: Connection, schedule: str, kind: str, employee: dict[str, object], now: str, note: str, *,
    old: str | None = None, new: str | None = None,
) -> None:  # fmt: skip
    changed(
        connection,
        "INSERT INTO SCH_MODLOG (PK_SCHMOD, PK_SCH, EU_MODTYPE, PK_SCHRES_OLD, PK_SCHRES_NEW, PK_EMP_MOD, "
        "NAME_EMP_MOD, "
        "DATE_MOD, NOTE) VALUES (:key, :sch, :kind, :old, :new, :emp, :name, :now, :note)",
        key=new_key(), sch=schedule, kind=kind, old=old, new=new, now=now, note=note, **employee,
    )  # fmt: skip
