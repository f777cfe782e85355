"""The cashier of the zebone sample: paying, giving back whole or in part, 日结. Texts of the vendor (facts §1.3)."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

from sqlalchemy import Connection

from his_db.sample import InsuredBill, WindowRefusal
from his_db.samples.tables import all_rows, changed, fen, one, yuan
from his_db.samples.zebone_rows import employee_of, end_appointment, new_key, order_of, release_ticket

PLATFORMS = ("Y160", "2500", "2510", "2520", "健康网")
"""BL_EXT_PAY.SYSNAME of those whose money goes back whole or not at all."""
_INSURANCE_MODE = "9"


def settle(
    connection: Connection,
    appointment: str,
    operator: str,
    now: str,
    *,
    mode: str,
    order_no: str | None = None,
    bill: InsuredBill | None = None,
) -> None:
    """Encounter, settlement, a deposit for each way of paying; the external payment of `order_no`; 医保 of `bill`."""
    employee, order = employee_of(connection, operator), order_of(connection, appointment)
    total = fen(order["AMOUNT"])
    insured = bill.fund_fen + bill.account_fen if bill else 0
    if bill is not None and insured + bill.cash_fen != total:
        raise WindowRefusal("医保结算金额与挂号费不符")
    trade = None if order_no is None else f"4200{order_no}"
    binds = {
        "id": appointment, "pv": new_key(), "st": new_key(), "now": now, "total": str(yuan(total)),
        "own": str(yuan(total - insured)), "insured": str(yuan(insured)), "hp": "02" if bill else "01", **employee,
    }  # fmt: skip
    _run(connection, _REGISTER, binds)
    deposit = new_key()
    for key, way, amount, number in (
        (deposit, mode, total - insured, trade),
        (new_key(), _INSURANCE_MODE, insured, bill.setl_id if bill else None),
    ):
        if amount:
            more = {"key": key, "mode": way, "amount": str(yuan(amount)), "trade": number}
            _run(connection, (_DEPOSIT,), {**binds, **more})
    if order_no is not None:
        more = {
            "key": new_key(), "mode": mode, "trade": trade, "depo": deposit, "no": order_no, "out": f"M{order_no}",
        }  # fmt: skip
        _run(connection, (_EXTERNAL,), {**binds, **more})
    if bill is not None:
        parts = {"fund": bill.fund_fen, "account": bill.account_fen, "cash": bill.cash_fen}
        amounts = {name: str(yuan(amount)) for name, amount in parts.items()}
        more = {
            "key": new_key(), "psn": bill.person_no, "type": bill.insutype, "mdtrt": bill.mdtrt_id,
            "setl": bill.setl_id, **amounts,
        }  # fmt: skip
        _run(connection, (_INSURED,), {**binds, **more})


def check_refund(connection: Connection, order: dict[str, object], *, insured: bool) -> None:
    """Raises WindowRefusal with the vendor's text when the order may not be refunded. `insured`: 2208 is done."""
    if order["EU_STATUS"] == "9":
        raise WindowRefusal("已取消就诊，请勿重复退号" if order["FLAG_PAY"] == "1" else "该患者已经取消预约")
    if order["EU_STATUS"] == "0":
        raise WindowRefusal("未缴费不能退号")
    if order["PV_STATUS"] in ("1", "2"):
        raise WindowRefusal("该号已经看诊,不能作废")
    if order["FLAG_PRES"] == "1":
        raise WindowRefusal("存在已结处方请先退处方再退挂号")
    row = one(connection, _REFUND_FACTS, pv=order["PK_PV"])
    assert row is not None
    if fen(row["insured"]) and not insured:
        raise WindowRefusal("该号为医疗保险号，请先做医保结算撤销")
    if insured and not fen(row["insured"]):
        raise WindowRefusal("该号不是医保号")
    if row["invoice"]:
        raise WindowRefusal("已打印发票，请收回发票作废后再退号")
    if row["part"]:
        raise WindowRefusal("该号已部分退费，不能再退号")
    if row["sheet"] and row["after_close"] != "1":
        raise WindowRefusal("该号已日结，不能退号")


def give_back(connection: Connection, order: dict[str, object], employee: dict[str, object], now: str) -> None:
    """退号退费: appointment and encounter 9, red settlement and deposits, the number back. REFUND_NO stays NULL."""
    end_appointment(connection, str(order["PK_SCHAPPT"]), employee, now, "1")
    binds = {"pv": order["PK_PV"], "st": new_key(), "now": now, **employee}
    _run(connection, _GIVE_BACK, binds)
    release_ticket(connection, order, now)


def give_back_part(
    connection: Connection, order: dict[str, object], amount_fen: int, employee: dict[str, object], now: str
) -> None:
    """A red settlement of type 21 over `amount_fen`, in cash. Raises WindowRefusal for platform orders and nonsense."""
    row = one(
        connection,
        "SELECT MAX(SYSNAME) AS sysname FROM BL_EXT_PAY WHERE PK_PV=:pv AND FLAG_PAY='1' AND DEL_FLAG='0'",
        pv=order["PK_PV"],
    )
    if row is not None and row["sysname"] in PLATFORMS:
        raise WindowRefusal("健康160支付订单不支持部分退费")
    check_refund(connection, order, insured=False)
    if not 0 < amount_fen < fen(order["AMOUNT"]):
        raise WindowRefusal("部分退费金额不正确")
    binds = {
        "pv": order["PK_PV"], "st": new_key(), "key": new_key(), "now": now, "part": str(yuan(amount_fen)), **employee,
    }  # fmt: skip
    _run(connection, _GIVE_BACK_PART, binds)


def close_day(connection: Connection, employee: dict[str, object], now: str) -> str:
    """BL_CC and BL_CC_PAY over the operator's open rows, which get its key. Raises WindowRefusal when there is none."""
    sheet, emp = new_key(), employee["emp"]
    open_rows = one(connection, _OPEN, emp=emp)
    if open_rows is None or not open_rows["n"]:
        raise WindowRefusal("没有需要日结的数据")
    changed(connection, _SHEET, key=sheet, now=now, **employee)
    for row in all_rows(connection, _BY_MODE, emp=emp):
        changed(connection, _SHEET_LINE, key=new_key(), sheet=sheet, **row)
    for table, column in (("BL_SETTLE", "PK_EMP_ST"), ("BL_DEPOSIT", "PK_EMP_PAY")):
        changed(connection, _CLOSE.format(table=table, column=column), sheet=sheet, emp=emp, now=now)
    return sheet


def _run(connection: Connection, statements: tuple[str, ...], binds: dict[str, object]) -> None:
    for statement in statements:
        changed(connection, statement, **{name: value for name, value in binds.items() if f":{name}" in statement})


_REGISTER = (
    "UPDATE SCH_APPT SET EU_STATUS='1', FLAG_PAY='1', DATE_PAY=:now, PK_PV=:pv, TS=:now "
    "WHERE PK_SCHAPPT=:id AND EU_STATUS='0'",
    "INSERT INTO PV_ENCOUNTER (PK_PV, PK_ORG, CODE_PV, PK_PI, NAME_PI, PK_DEPT, PK_EMP_PHY, NAME_EMP_PHY, PK_SCH, "
    "PK_SCHAPPT, TICKETNO, DATE_BEGIN, DATE_REG, PK_EMP_REG, DT_HP, TS) SELECT :pv, PK_ORG, 'P'||substr(:pv,1,12), "
    "PK_PI, NAME_PI, PK_DEPT_EX, PK_EMP_PHY, NAME_EMP_PHY, PK_SCH, PK_SCHAPPT, TICKETNO, BEGIN_TIME, :now, :emp, :hp, "
    ":now FROM SCH_APPT WHERE PK_SCHAPPT=:id",
    "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, CODE_ST, RECEIPT_NO, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, "
    "AMOUNT_INSU, AMOUNT_REG, AMOUNT_DIAG, DATE_ST, PK_EMP_ST, NAME_EMP_ST, TS) SELECT :st, a.PK_ORG, a.PK_PI, :pv, "
    "'S'||substr(:st,1,12), 'F'||substr(:st,1,10), '00', :total, :own, :insured, v.PRICE_REG, v.PRICE_DIAG, :now, "
    ":emp, :name, :now FROM SCH_APPT a JOIN SCH_SRV v ON v.PK_SCHSRV=a.PK_SCHSRV WHERE a.PK_SCHAPPT=:id",
)
_DEPOSIT = (
    "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, PK_EMP_PAY, "
    "NAME_EMP_PAY, TRADE_NO, TS) SELECT :key, :st, PK_PI, :pv, 1, :amount, :mode, :now, :emp, :name, :trade, :now "
    "FROM SCH_APPT WHERE PK_SCHAPPT=:id"
)
_EXTERNAL = (
    "INSERT INTO BL_EXT_PAY (PK_EXTPAY, PK_ORG, AMOUNT, EU_PAYTYPE, PAY_RESULT, FLAG_PAY, DATE_PAY, TRADE_NO, "
    "SERIAL_NO, OUT_TRADE_NO, SYSNAME, PK_PI, PK_PV, PK_SETTLE, PK_DEPO, NOTE, TS) SELECT :key, PK_ORG, :total, :mode, "
    "'SUCCESS', '1', :now, :trade, :no, :out, 'Y160', PK_PI, :pv, :st, :depo, '用于退号', :now FROM SCH_APPT "
    "WHERE PK_SCHAPPT=:id"
)
_INSURED = (
    "INSERT INTO INS_QGYB_ST (PK_INSST, PK_SETTLE, PK_PV, PK_PI, PSN_NO, INSUTYPE, MDTRT_ID, IPT_OTP_NO, SETL_ID, "
    "SETL_TIME, MED_TYPE, MEDFEE_SUMAMT, FUND_PAY_SUMAMT, ACCT_PAY, PSN_CASH_PAY, HOSP_PART_AMT, TS) SELECT :key, :st, "
    ":pv, PK_PI, :psn, :type, :mdtrt, 'P'||substr(:pv,1,12), :setl, :now, '12', :total, :fund, :account, :cash, 0, "
    ":now FROM SCH_APPT WHERE PK_SCHAPPT=:id"
)
_ORIGINAL = "PK_PV=:pv AND DT_STTYPE='00' AND FLAG_CANC='0'"
_REFUND_FACTS = (
    "SELECT COALESCE(SUM(s.AMOUNT_INSU), 0) AS insured, MAX(s.PK_CC) AS sheet, "
    "(SELECT VAL FROM BD_SYSPARAM WHERE CODE_PARAM='BL0007') AS after_close, "
    "(SELECT COUNT(*) FROM BL_SETTLE p WHERE p.PK_PV=:pv AND p.DT_STTYPE='21') AS part, "
    "(SELECT COUNT(*) FROM BL_INVOICE i JOIN BL_SETTLE o ON o.PK_SETTLE=i.PK_SETTLE WHERE o.PK_PV=:pv AND "
    "i.FLAG_CANCEL='0') AS invoice FROM BL_SETTLE s WHERE s.PK_PV=:pv AND s.DT_STTYPE='00'"
)
_GIVE_BACK = (
    "UPDATE PV_ENCOUNTER SET EU_STATUS='9', FLAG_CANCEL='1', DATE_CANCEL=:now, PK_EMP_CANCEL=:emp, "
    "NAME_EMP_CANCEL=:name, TS=:now WHERE PK_PV=:pv AND EU_STATUS='0'",
    "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, CODE_ST, RECEIPT_NO, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, "
    "AMOUNT_INSU, AMOUNT_DISC, AMOUNT_REG, AMOUNT_DIAG, DATE_ST, PK_EMP_ST, NAME_EMP_ST, REASON_CANC, PK_SETTLE_CANC, "
    "TS) SELECT :st, PK_ORG, PK_PI, PK_PV, CODE_ST||'R', RECEIPT_NO||'R', '20', -AMOUNT_ST, -AMOUNT_PI, -AMOUNT_INSU, "
    f"-AMOUNT_DISC, -AMOUNT_REG, -AMOUNT_DIAG, :now, :emp, :name, '退号', PK_SETTLE, :now FROM BL_SETTLE "
    f"WHERE {_ORIGINAL}",
    "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, PK_EMP_PAY, "
    "NAME_EMP_PAY, TRADE_NO, PK_DEPO_BACK, TS) SELECT upper(hex(randomblob(16))), :st, PK_PI, PK_PV, -1, -AMOUNT, "
    "DT_PAYMODE, :now, :emp, :name, TRADE_NO, PK_DEPO, :now FROM BL_DEPOSIT WHERE EU_DIRECT=1 AND PK_SETTLE IN "
    f"(SELECT PK_SETTLE FROM BL_SETTLE WHERE {_ORIGINAL})",
    f"UPDATE BL_SETTLE SET FLAG_CANC='1', TS=:now WHERE {_ORIGINAL}",
    "UPDATE BL_EXT_PAY SET DATE_REFUND=:now, AMOUNT_REFUND=AMOUNT, TS=:now WHERE PK_PV=:pv AND DATE_REFUND IS NULL",
)
_GIVE_BACK_PART = (
    "INSERT INTO BL_SETTLE (PK_SETTLE, PK_ORG, PK_PI, PK_PV, CODE_ST, RECEIPT_NO, DT_STTYPE, AMOUNT_ST, AMOUNT_PI, "
    "AMOUNT_DIAG, DATE_ST, PK_EMP_ST, NAME_EMP_ST, REASON_CANC, PK_SETTLE_CANC, TS) SELECT :st, PK_ORG, PK_PI, PK_PV, "
    "CODE_ST||'B', RECEIPT_NO||'B', '21', -:part, -:part, -:part, :now, :emp, :name, '部分退费', PK_SETTLE, :now "
    f"FROM BL_SETTLE WHERE {_ORIGINAL}",
    "INSERT INTO BL_DEPOSIT (PK_DEPO, PK_SETTLE, PK_PI, PK_PV, EU_DIRECT, AMOUNT, DT_PAYMODE, DATE_PAY, PK_EMP_PAY, "
    "NAME_EMP_PAY, PK_DEPO_BACK, TS) SELECT :key, :st, PK_PI, PK_PV, -1, -:part, DT_PAYMODE, :now, :emp, :name, "
    "PK_DEPO, :now FROM BL_DEPOSIT WHERE EU_DIRECT=1 AND PK_SETTLE IN "
    f"(SELECT PK_SETTLE FROM BL_SETTLE WHERE {_ORIGINAL})",
)
_OPEN = "SELECT COUNT(*) AS n FROM BL_SETTLE WHERE PK_EMP_ST=:emp AND PK_CC IS NULL AND DEL_FLAG='0'"
_SHEET = (
    "INSERT INTO BL_CC (PK_CC, PK_EMP_CC, NAME_EMP_CC, DATE_BEGIN, DATE_END, AMT_SETTLE, AMT_INSU, AMT_PI, "
    "AMT_PI_BACK, CNT_INV, CNT_INV_CANC, DATE_CC, FLAG_CLEAR) SELECT :key, :emp, :name, MIN(DATE_ST), MAX(DATE_ST), "
    "ROUND(SUM(AMOUNT_ST), 2), ROUND(SUM(AMOUNT_INSU), 2), "
    "ROUND(SUM(CASE WHEN AMOUNT_ST>0 THEN AMOUNT_PI ELSE 0 END), 2), "
    "ROUND(SUM(CASE WHEN AMOUNT_ST<0 THEN -AMOUNT_PI ELSE 0 END), 2), SUM(AMOUNT_ST>0), SUM(AMOUNT_ST<0), :now, '1' "
    "FROM BL_SETTLE WHERE PK_EMP_ST=:emp AND PK_CC IS NULL AND DEL_FLAG='0'"
)
_BY_MODE = (
    "SELECT DT_PAYMODE AS mode, ROUND(SUM(CASE EU_DIRECT WHEN 1 THEN AMOUNT ELSE 0 END), 2) AS taken, "
    "ROUND(-SUM(CASE EU_DIRECT WHEN -1 THEN AMOUNT ELSE 0 END), 2) AS back, SUM(EU_DIRECT=1) AS takes, "
    "SUM(EU_DIRECT=-1) AS backs FROM BL_DEPOSIT WHERE PK_EMP_PAY=:emp AND PK_CC IS NULL AND DEL_FLAG='0' "
    "GROUP BY DT_PAYMODE"
)
_SHEET_LINE = (
    "INSERT INTO BL_CC_PAY (PK_CCPAY, PK_CC, DT_PAYMODE, AMT, AMT_BACK, CNT_TRADE, CNT_TRADE_BACK) "
    "VALUES (:key, :sheet, :mode, :taken, :back, :takes, :backs)"
)
_CLOSE = "UPDATE {table} SET FLAG_CC='1', PK_CC=:sheet, TS=:now WHERE {column}=:emp AND PK_CC IS NULL AND DEL_FLAG='0'"
