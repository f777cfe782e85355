"""How a situation is brought about in the vendor's own tables, where the window program has no action for it.

One entry a pack: what is in force there, and the statements. Binds: `:patient` a patient of the HIS, `:order` the
platform's order number, `:value` on or off.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text

from his_db.samples.desk import DeskPool, Dialect
from his_db.samples.neusoft_oracle import PL_SQL
from his_db.samples.winning_mssql import TRANSACT_SQL
from tests.conformance.packs.hospital import Hospital

_DIALECTS: Mapping[str, Dialect] = {"winning_mssql": TRANSACT_SQL, "neusoft_oracle": PL_SQL}


@dataclass(frozen=True, slots=True)
class VendorTables:
    """`blocked`, `in_arrears`: a hold on the patient. `run_out`: the order's hold has run out. `rules`: name -> (statement,
    on, off). `days`: moves the HIS's own clock; "" where it has none, for the agent's clock counts. `closed`: the money
    of the order is day-closed. `gone`, `back`: the row of the order's session is out of sight, and there again. `open_money`: how many settlements of an operator are not day-closed."""

    open_money: str
    blocked: str
    in_arrears: str
    closed: str
    rules: Mapping[str, tuple[str, Any, Any]]
    run_out: str = ""
    days: str = ""
    gone: str = ""
    back: str = ""


ZEBONE = VendorTables(
    open_money="SELECT COUNT(*) FROM BL_SETTLE s JOIN BD_OU_EMPLOYEE e ON e.PK_EMP = s.PK_EMP_ST "
    "WHERE e.CODE_EMP = :operator AND s.PK_CC IS NULL",
    blocked="INSERT INTO PI_LOCK (PK_PILOCK, PK_PI, EU_LOCKTYPE, DATE_BEGIN) "
    "VALUES (upper(hex(randomblob(16))), :patient, '2', '2020-01-01 00:00:00')",
    in_arrears="INSERT INTO PI_LOCK (PK_PILOCK, PK_PI, EU_LOCKTYPE, AMOUNT) "
    "VALUES (upper(hex(randomblob(16))), :patient, '3', 36.5)",
    closed="UPDATE BL_SETTLE SET FLAG_CC = '1', PK_CC = 'X' WHERE PK_PV IN "
    "(SELECT PK_PV FROM SCH_APPT WHERE ORDERID_EXT = :order)",
    rules={
        "one_a_day": ("UPDATE BD_SYSPARAM SET VAL = :value WHERE CODE_PARAM = 'SCH0012'", "1", "0"),
        "refund_after_close": ("UPDATE BD_SYSPARAM SET VAL = :value WHERE CODE_PARAM = 'BL0007'", "1", "0"),
        "refund_after_check_in": ("UPDATE BD_SYSPARAM SET VAL = :value WHERE CODE_PARAM = 'BL0008'", "1", "0"),
    },
)

WINNING = VendorTables(
    open_money="SELECT COUNT(*) FROM his.vw_brjsk WHERE czyh = :operator AND rjxh IS NULL",
    blocked="INSERT INTO his.gh_yy_hmd (patid, lx, jlzt) VALUES (CAST(:patient AS numeric), 2, 0)",
    in_arrears="INSERT INTO his.gh_yy_hmd (patid, lx, je, jlzt) VALUES (CAST(:patient AS numeric), 3, 36.5, 0)",
    closed="UPDATE his.sf_brjsk SET rjxh = 1 WHERE wbddh = :order",
    rules={
        "one_a_day": ("UPDATE his.yy_config SET config = :value WHERE id = 'GH030'", "是", "否"),
        "refund_after_close": ("UPDATE his.yy_config SET config = :value WHERE id = 'GH021'", "是", "否"),
        "refund_after_check_in": ("UPDATE his.yy_config SET config = :value WHERE id = 'GH022'", "是", "否"),
        "booking_registers": ("UPDATE his.yy_config SET config = :value WHERE id = 'GH031'", "是", "否"),
    },
    run_out="UPDATE his.gh_yy_sdk SET sxsj = '2020010100:00:00' WHERE ddh = :order AND zt = 0",
    days="UPDATE his.yy_config SET config = :value WHERE id = 'SJPY'",
)

_SETTING = "UPDATE GY_XTCS SET CSZ = :value WHERE CSMC = '{name}'"
BSOFT = VendorTables(
    open_money="SELECT COUNT(*) FROM (SELECT SBXH FROM MS_GHMX WHERE CZGH = :operator AND JZRQ IS NULL "
    "UNION ALL SELECT SBXH FROM MS_THMX WHERE CZGH = :operator AND JZRQ IS NULL) m",
    blocked="INSERT INTO MS_YYXZ (BRID, XZLX, KSRQ, JSRQ) VALUES (:patient, 1, '2020-01-01', NULL)",
    in_arrears="INSERT INTO MS_YYXZ (BRID, XZLX, KSRQ, JSRQ) VALUES (:patient, 2, '2020-01-01', NULL)",
    closed="UPDATE MS_GHMX SET JZRQ = NOW() WHERE HYXH IN (SELECT HYXH FROM MS_YYGHHY WHERE DDH = :order)",
    rules={
        "one_a_day": (_SETTING.format(name="YYTKXZ"), "1", "0"),
        "refund_after_close": (_SETTING.format(name="RJHTH"), "1", "0"),
        "refund_after_check_in": (_SETTING.format(name="QHHTH"), "1", "0"),
    },
    run_out="UPDATE MS_YYGHHY SET DDSJ = '2020-01-01 00:00:00' WHERE DDH = :order AND HYZT = '1'",
    gone="UPDATE MS_YSPB p JOIN MS_YYGHHY h ON h.DDH = :order AND p.GZRQ = DATE(h.HYSJ) AND p.KSDM = h.HYKS AND p.ZBLB = h.ZBLB "
    "AND COALESCE(p.YPYS, p.YSDM) = h.HYYS SET p.GZRQ = p.GZRQ + INTERVAL 9000 DAY",
    back="UPDATE MS_YSPB SET GZRQ = GZRQ - INTERVAL 9000 DAY WHERE GZRQ > CURRENT_DATE + INTERVAL 5000 DAY",
)

_CONTROL = "UPDATE neuhis.com_controlargument SET control_value = :value WHERE control_code = '{code}'"
_LIMIT = "INSERT INTO neuhis.com_patientlimit (card_no, kind, amount, valid_state) VALUES (:patient, '{kind}', {amount}, '1')"
NEUSOFT = VendorTables(
    open_money="SELECT COUNT(*) FROM neuhis.fin_opb_accountcardfee WHERE fee_oper = :operator AND balance_flag = '0'",
    blocked=_LIMIT.format(kind=1, amount="NULL"),
    in_arrears=_LIMIT.format(kind=2, amount="36.5"),
    closed="UPDATE neuhis.fin_opb_accountcardfee SET balance_flag = '1', balance_no = '00000000000001' WHERE clinic_no IN "
    "(SELECT visiting_num FROM neuhis.fin_opr_appointmentorder WHERE order_id = :order)",
    rules={
        "one_a_day": (_CONTROL.format(code="DUPDEP"), "1", "0"),
        "refund_after_close": (_CONTROL.format(code="DAYREF"), "1", "0"),
        "refund_after_check_in": (_CONTROL.format(code="TAKREF"), "1", "0"),
    },
    run_out="UPDATE neuhis.fin_opr_booking SET oper_date = pkg_160.f_lock_limit() WHERE order_id = :order AND lock_state = '0'",
    days=_CONTROL.format(code="OFFSET"),
    gone="UPDATE neuhis.fin_opr_schema SET id = 'GONE' WHERE id = "
    "(SELECT schema_id FROM neuhis.fin_opr_appointmentorder WHERE order_id = :order)",
    back="UPDATE neuhis.fin_opr_schema SET id = "
    "(SELECT schema_id FROM neuhis.fin_opr_appointmentorder WHERE order_id = :order) WHERE id = 'GONE'",
)

TABLES: Mapping[str, VendorTables] = {
    "zebone": ZEBONE, "winning": WINNING, "winning_mssql": WINNING, "bsoft": BSOFT, "neusoft": NEUSOFT, "neusoft_oracle": NEUSOFT,
}  # fmt: skip
OFF_AT_FIRST = {"one_a_day", "booking_registers"}
"""Rules that a sample is made without; the others are on."""
CHANGED: set[str] = set()
"""Rules that a test has changed."""


def run(h: Hospital, statement: str, **binds: Any) -> list[tuple[Any, ...]]:
    """One statement on the HIS, committed; its rows."""
    used = {name: value for name, value in binds.items() if f":{name}" in statement}
    if h.name in _DIALECTS:
        pool = DeskPool(h.url, _DIALECTS[h.name])
        with pool.begin() as desk:
            rows = [tuple(row) for row in desk.run(statement, used).rows]
        pool.dispose()
        return rows
    engine = create_engine(h.url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement), used)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def count(h: Hospital, what: str, **binds: Any) -> int:
    """The number that a statement of the pack's tables gives."""
    [(found,)] = run(h, getattr(TABLES[h.name], what), **binds)
    return int(found)


def rule(h: Hospital, name: str, *, on: bool) -> None:
    """Sets a rule of the hospital."""
    statement, yes, no = TABLES[h.name].rules[name]
    run(h, statement, value=yes if on else no)
    (CHANGED.add if on == (name in OFF_AT_FIRST) else CHANGED.discard)(name)


def rules_back(h: Hospital) -> None:
    """The rules are again those that the sample is made with."""
    for name in sorted(CHANGED):
        rule(h, name, on=name not in OFF_AT_FIRST)
    CHANGED.clear()


def pass_time(h: Hospital, *, days: int = 0, order: str = "") -> None:
    """Lets days pass for agent and HIS; or the hold of `order` run out."""
    tables = TABLES[h.name]
    if order and tables.run_out:
        run(h, tables.run_out, order=order)
    elif tables.days:
        run(h, tables.days, value=str(days))
    h.clock.ahead = dt.timedelta(days=days) if days else dt.timedelta(minutes=30 if order and not tables.run_out else 0)
