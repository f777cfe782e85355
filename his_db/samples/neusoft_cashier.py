"""The cashier of the neusoft window: what stands in the way of a refund, 医保, 日结, moving an order, clearing holds.

Said for PostgreSQL; on Oracle the same statements in its dialect (`neusoft_oracle`). The window is a program of its
own: it keeps the rules of the package, and writes the rows that the package writes.
"""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from his_db.sample import InsuredBill, WindowRefusal
from his_db.samples.desk import Desk
from his_db.samples.tables import all_rows, changed, fen, one, yuan

Session = Connection | Desk
Row = Mapping[str, object]

_NOW = "pkg_160.f_now()"
_NEITHER_VALID = {"0": "该号已经退号！", "2": "该号已经作废！", "3": "该号已经作废！"}
_HOLDS = "schema_id = :sch AND lock_state = '0' AND oper_date <= pkg_160.f_lock_limit()"
_TAKE = (
    "UPDATE neuhis.fin_opr_schema SET {count} = {count} + 1, order_no = order_no + 1 WHERE id = :sch AND {room} "
    f"AND valid_flag = '1' AND pub_flag = '1' AND see_date >= date_trunc('day', {_NOW})"
)


def check_refund(
    connection: Session, order: Row | None, register: Row | None, right: str, *, insured: bool = False
) -> None:
    """The window's own rules, in its own order. `right`: NET_RIGHT of the operator; `insured`: 2208 is done. Raises
    WindowRefusal."""
    if order is not None and order["order_state"] == "2":
        raise WindowRefusal("该订单已取消！不能退号")
    if order is not None and order["order_state"] == "0":
        raise WindowRefusal("该订单未支付，不能退费！")
    if order is not None and order["order_state"] == "5":
        raise WindowRefusal("该订单已退费！该号已退号")
    if register is None:
        raise WindowRefusal("未找到该挂号记录！")
    if register["ynbook"] == "1" and right == "0":
        raise WindowRefusal("这条挂号记录为网上预约,你没有权利进行退号/废号")
    if register["ynbook"] != "1" and right == "2":
        raise WindowRefusal("此窗口只能为网上预约退号")
    if register["ynsee"] == "1":
        raise WindowRefusal("该号已经看诊,不能作废")
    if str(register["valid_flag"]) in _NEITHER_VALID:
        raise WindowRefusal(_NEITHER_VALID[str(register["valid_flag"])])
    paid_by_insurance = fen(register["pub_cost"]) + fen(register["pay_cost"])
    if paid_by_insurance and not insured:
        raise WindowRefusal("该号为医疗保险号已经有交费记录,不能退费!")
    if insured and not paid_by_insurance:
        raise WindowRefusal("该号不是医保号！")
    _check_documents(connection, register)


def _check_documents(connection: Session, register: Row) -> None:
    clinic = register["clinic_code"]
    recipes = one(
        connection,
        "SELECT COUNT(*) AS recipes FROM neuhis.fin_opb_feedetail "
        "WHERE clinic_code = :clinic AND trans_type = '1' AND cancel_flag = '1'",
        clinic=clinic,
    )
    closed = one(
        connection,
        "SELECT COUNT(*) AS closed FROM neuhis.fin_opb_accountcardfee "
        "WHERE clinic_no = :clinic AND trans_type = '1' AND balance_flag = '1'",
        clinic=clinic,
    )
    if recipes and recipes["recipes"]:
        raise WindowRefusal("存在已结处方请先退处方再退挂号")
    if register["triage_flag"] == "1" and not _allows(connection, "TAKREF"):
        raise WindowRefusal("该号已取号，请先取消取号！")
    if closed and closed["closed"] and not _allows(connection, "DAYREF"):
        raise WindowRefusal("该号已日结，不能退号！")


def _allows(connection: Session, control: str) -> bool:
    """A 控制参数 of the hospital, 1 where there is none."""
    row = one(connection, "SELECT pkg_160.f_control(:code, '1') AS val", code=control)
    return row is not None and row["val"] == "1"


def close_order(connection: Session, order: Row, operator: str, invoice: str) -> None:
    """ORDER_STATE 5 and a history row without REFUND_NO; the cash part is what goes back."""
    changed(
        connection,
        f"UPDATE neuhis.fin_opr_appointmentorder SET order_state = '5', oper_code = :op, oper_date = {_NOW} "
        "WHERE order_id = :no",
        op=operator,
        no=order["order_id"],
    )
    changed(
        connection,
        "INSERT INTO neuhis.fin_opr_bookingpayhistory (order_id, return_reason, oper_id, refund_time, refund_fee, "
        f"invoice_no) SELECT o.order_id, '窗口退号', :op, {_NOW}, r.own_cost * 100, :invoice "
        "FROM neuhis.fin_opr_appointmentorder o JOIN neuhis.fin_opr_register r ON r.clinic_code = o.visiting_num "
        "AND r.trans_type = '1' WHERE o.order_id = :no",
        op=operator,
        invoice=invoice,
        no=order["order_id"],
    )


def mark(connection: Session, register: Row, change: str) -> None:
    """A change of the positive register row."""
    changed(
        connection,
        f"UPDATE neuhis.fin_opr_register SET {change} WHERE clinic_code = :clinic AND trans_type = '1'",
        clinic=register["clinic_code"],
    )


def take_on_site(connection: Session, schedule_id: str) -> int:
    """The next number of the on-site quota. Raises WindowRefusal."""
    return _take(connection, schedule_id, "reged", "reged < reg_lmt", "该排班现场限额已满，无号可挂！")


def take_booked(connection: Session, schedule_id: str, *, paid: bool) -> int:
    """The next number of the platform's quota; holds that ran out make room. Raises WindowRefusal."""
    sweep(connection, schedule_id)
    count = "tel_reged" if paid else "tel_reging"
    return _take(connection, schedule_id, count, "tel_reged + tel_reging < tel_lmt", "该排班预约限额已满！")


def _take(connection: Session, schedule_id: str, count: str, room: str, full: str) -> int:
    taken = changed(connection, _TAKE.format(count=count, room=room), sch=schedule_id)
    columns = "order_no, valid_flag, pub_flag"  # of the row that the UPDATE holds
    schema = one(connection, f"SELECT {columns} FROM neuhis.fin_opr_schema WHERE id = :sch", sch=schedule_id)
    if taken == 1 and schema is not None:
        return int(str(schema["order_no"]))
    if schema is None or schema["pub_flag"] != "1":
        raise WindowRefusal("该排班不存在！")
    raise WindowRefusal("该排班已停诊！" if schema["valid_flag"] == "0" else full)


def insurance_parts(connection: Session, schedule_id: str, bill: InsuredBill | None) -> dict[str, object]:
    """`pub` and `pay` of a registration: 记账 and 个人账户 in 元. Raises WindowRefusal when the bill is not the fee."""
    if bill is None:
        return {"pub": yuan(0), "pay": yuan(0)}
    fee = one(
        connection,
        "SELECT f.reg_fee + f.chck_fee + f.diag_fee + f.oth_fee AS fee FROM neuhis.fin_opr_schema s "
        "JOIN neuhis.fin_com_regfeeset f ON f.reglevl_code = s.reglevl_code AND f.pact_code = '1' WHERE s.id = :sch",
        sch=schedule_id,
    )
    if fee is None or bill.fund_fen + bill.account_fen + bill.cash_fen != fen(fee["fee"]):
        raise WindowRefusal("医保结算金额与挂号费不符！")
    return {"pub": yuan(bill.fund_fen), "pay": yuan(bill.account_fen)}


def record_settlement(connection: Session, clinic: str, bill: InsuredBill) -> None:
    """FIN_IPR_SIINMAININFO of a registration at the window: its number at 医保 is the CLINIC_CODE."""
    changed(
        connection,
        "INSERT INTO neuhis.fin_ipr_siinmaininfo (inpatient_no, trans_type, type_code, invoice_no, card_no, "
        "valid_flag, psn_no, insutype, mdtrt_id, ipt_otp_no, setl_id, setl_time, med_type, tot_cost, pub_cost, "
        "pay_cost, own_cost, fund_pay_sumamt, hosp_part_amt, oper_code, oper_date) SELECT clinic_code, '1', '1', "
        "invoice_no, card_no, '1', :psn, :kind, :mdtrt, clinic_code, :setl, oper_date, '12', "
        "own_cost + pub_cost + pay_cost, pub_cost, pay_cost, own_cost, pub_cost, 0, oper_code, oper_date "
        "FROM neuhis.fin_opr_register WHERE clinic_code = :clinic AND trans_type = '1'",
        psn=bill.person_no, kind=bill.insutype, mdtrt=bill.mdtrt_id, setl=bill.setl_id, clinic=clinic,
    )  # fmt: skip


def reverse_settlement(connection: Session, clinic: object, reversal: str, operator: str) -> None:
    """The settlement's negative row, with the number of 2208; its original is not valid any more."""
    changed(connection, _RED, clinic=clinic, setl=reversal, op=operator)
    changed(
        connection,
        "UPDATE neuhis.fin_ipr_siinmaininfo SET valid_flag = '0' WHERE inpatient_no = :clinic AND trans_type = '1'",
        clinic=clinic,
    )


def close_day(connection: Session, operator: str) -> str:
    """A FIN_OPR_DAYREPORT row over the operator's fee rows that no sheet has; answers BALANCE_NO. Raises
    WindowRefusal."""
    who = "SELECT 1 FROM neuhis.com_employee WHERE empl_code = :op FOR UPDATE"
    all_rows(connection, who, op=operator)  # one sheet at a time
    found = one(
        connection,
        "SELECT COUNT(*) AS n FROM neuhis.fin_opb_accountcardfee WHERE fee_oper = :op AND balance_flag = '0'",
        op=operator,
    )
    if found is None or not found["n"]:
        raise WindowRefusal("没有需要日结的数据！")
    number = one(connection, "SELECT lpad(CAST(nextval('neuhis.seq_fin_opr_balance') AS text), 14, '0') AS balance_no")
    assert number is not None
    changed(connection, _SHEET, op=operator, number=number["balance_no"])
    changed(
        connection,
        "UPDATE neuhis.fin_opb_accountcardfee SET balance_flag = '1', balance_no = :number, balance_opcd = fee_oper, "
        f"balance_date = {_NOW} WHERE fee_oper = :op AND balance_flag = '0'",
        number=number["balance_no"],
        op=operator,
    )
    return str(number["balance_no"])


def lock_both(connection: Session, his_id: str, schedule_id: str) -> None:
    """Locks the session of an order and another one, in the order of their keys."""
    all_rows(
        connection,
        "SELECT id FROM neuhis.fin_opr_schema WHERE id = :sch OR id = (SELECT schema_id "
        "FROM neuhis.fin_opr_appointmentorder WHERE serial_no = :id) ORDER BY id FOR UPDATE",
        sch=schedule_id,
        id=his_id,
    )


def move(connection: Session, order: Row, schedule_id: str, operator: str) -> None:
    """改诊: order, hold and registration get another session of the same fee and its next number; the old one's quota
    goes back. Raises WindowRefusal."""
    paid = order["order_state"] == "3"
    fee = one(connection, _SAME_FEE, sch=schedule_id, old=order["schema_id"])
    if fee is None:
        raise WindowRefusal("改诊的挂号级别费用不同，请退号重挂！")
    number = take_booked(connection, schedule_id, paid=paid)
    count = "tel_reged" if paid else "tel_reging"
    sql = f"UPDATE neuhis.fin_opr_schema SET {count} = {count} - 1 WHERE id = :old AND {count} > 0"
    changed(connection, sql, old=order["schema_id"])
    target = one(connection, _TARGET, sch=schedule_id, no=number, next=number + 1)
    assert target is not None
    binds = {**target, "num": number, "order_id": order["order_id"], "clinic": order["visiting_num"], "op": operator}
    for statement in _MOVE:
        changed(connection, statement, **{name: value for name, value in binds.items() if f":{name}" in statement})


def sweep(connection: Session, schedule_id: object) -> int:
    """The holds of one session that ran out, its row locked first: the rows are deleted, the quota goes back."""
    all_rows(connection, "SELECT 1 FROM neuhis.fin_opr_schema WHERE id = :sch FOR UPDATE", sch=schedule_id)
    gone = changed(connection, f"DELETE FROM neuhis.fin_opr_booking WHERE {_HOLDS}", sch=schedule_id)
    if gone:
        sql = "UPDATE neuhis.fin_opr_schema SET tel_reging = tel_reging - :n WHERE id = :sch"
        changed(connection, sql, n=gone, sch=schedule_id)
    return gone


def clear_holds(connection: Session) -> int:
    """`sweep` of every session that has such holds."""
    rows = all_rows(
        connection,
        "SELECT DISTINCT schema_id FROM neuhis.fin_opr_booking WHERE lock_state = '0' "
        "AND oper_date <= pkg_160.f_lock_limit() ORDER BY schema_id",
    )
    return sum(sweep(connection, row["schema_id"]) for row in rows)


def prescribe(connection: Session, register: Row) -> None:
    """One paid line of a prescription."""
    changed(
        connection,
        "INSERT INTO neuhis.fin_opb_feedetail (recipe_no, sequence_no, trans_type, clinic_code, card_no, item_name, "
        "own_cost, pay_flag, cancel_flag, oper_code, oper_date) "
        "SELECT lpad(CAST(nextval('neuhis.seq_fin_opb_recipe') AS text), 14, '0'), 1, '1', clinic_code, card_no, "
        f"'阿莫西林胶囊', 12.5, '1', '1', '0931', {_NOW} FROM neuhis.fin_opr_register "
        "WHERE clinic_code = :clinic AND trans_type = '1'",
        clinic=register["clinic_code"],
    )


_AMOUNTS = (
    "tot_cost, pub_cost, pay_cost, own_cost, fulamt_ownpay_amt, overlmt_selfpay, preselfpay_amt, inscp_scp_amt, "
    "act_pay_dedc, hifp_pay, cvlserv_pay, hifes_pay, hifmi_pay, hifob_pay, maf_pay, oth_pay, fund_pay_sumamt, "
    "psn_part_amt, acct_mulaid_pay, hosp_part_amt"
)
_KEPT = (
    "inpatient_no, type_code, invoice_no, card_no, psn_no, insutype, insuplc_admdvs, mdtrt_id, ipt_otp_no, "
    "chrg_bchno, clr_type, clr_way, clr_optins, med_type"
)
_RED = (
    f"INSERT INTO neuhis.fin_ipr_siinmaininfo ({_KEPT}, {_AMOUNTS}, trans_type, valid_flag, setl_id, setl_time, "
    f"oper_code, oper_date) SELECT {_KEPT}, -{_AMOUNTS.replace(', ', ', -')}, '2', '0', :setl, {_NOW}, :op, {_NOW} "
    "FROM neuhis.fin_ipr_siinmaininfo WHERE inpatient_no = :clinic AND trans_type = '1'"
)
_SHEET = f"""
INSERT INTO neuhis.fin_opr_dayreport (balance_no, begin_date, end_date, oper_id, sum_count, sum_regfee, sum_chkfee,
    sum_digfee, sum_othfee, sum_owncost, sum_paycost, sum_pubcost, sum_cardfee, sum_casefee)
SELECT :number, MIN(fee_date), {_NOW}, MAX(fee_oper), COUNT(DISTINCT CASE trans_type WHEN '1' THEN clinic_no END)
       - COUNT(DISTINCT CASE trans_type WHEN '2' THEN clinic_no END),
       SUM(CASE fee_type WHEN '3' THEN tot_cost ELSE 0 END), SUM(CASE fee_type WHEN '5' THEN tot_cost ELSE 0 END),
       SUM(CASE fee_type WHEN '4' THEN tot_cost ELSE 0 END), SUM(CASE fee_type WHEN '6' THEN tot_cost ELSE 0 END),
       SUM(own_cost), SUM(pay_cost), SUM(pub_cost), SUM(CASE fee_type WHEN '1' THEN tot_cost ELSE 0 END),
       SUM(CASE fee_type WHEN '2' THEN tot_cost ELSE 0 END)
  FROM neuhis.fin_opb_accountcardfee WHERE fee_oper = :op AND balance_flag = '0'"""
_SAME_FEE = """
SELECT s.id FROM neuhis.fin_opr_schema s JOIN neuhis.fin_opr_schema o ON o.id = :old AND o.id <> s.id
  JOIN neuhis.fin_com_regfeeset f ON f.reglevl_code = s.reglevl_code AND f.pact_code = '1'
  JOIN neuhis.fin_com_regfeeset g ON g.reglevl_code = o.reglevl_code AND g.pact_code = '1'
 WHERE s.id = :sch
   AND f.reg_fee + f.chck_fee + f.diag_fee + f.oth_fee = g.reg_fee + g.chck_fee + g.diag_fee + g.oth_fee"""
_TARGET = """
SELECT s.id AS sch, s.see_date AS day, s.noon_code AS noon, s.dept_code AS dept, s.dept_name AS dname,
       s.doct_code AS doct, s.doct_name AS ename, s.reglevl_code AS levl, s.reglevl_name AS lname, s.begin_time AS bt,
       s.end_time AS et,
       pkg_160.f_segment(s.begin_time, s.end_time, s.reg_lmt + s.tel_lmt, :no) AS st,
       pkg_160.f_segment(s.begin_time, s.end_time, s.reg_lmt + s.tel_lmt, :next) AS ed
  FROM neuhis.fin_opr_schema s WHERE s.id = :sch"""
_MOVE = (
    "UPDATE neuhis.fin_opr_appointmentorder SET schema_id = :sch, dept_code = :dept, doct_code = :doct, "
    "reg_date = :day, time_flag = :noon, start_time = :st, end_time = :ed, seeno = :num, oper_code = :op, "
    f"oper_date = {_NOW} WHERE order_id = :order_id",
    "UPDATE neuhis.fin_opr_booking SET schema_id = :sch, dept_id = :dept, doctor_id = :doct, reg_date = :day, "
    "time_flag = :noon, start_time = :st, end_time = :ed, seeno = :num WHERE order_id = :order_id",
    "UPDATE neuhis.fin_opr_register SET schema_no = :sch, dept_code = :dept, dept_name = :dname, doct_code = :doct, "
    "doct_name = :ename, reg_date = :day, noon_code = :noon, reglevl_code = :levl, reglevl_name = :lname, "
    "seeno = :num, begin_time = :bt, end_time = :et "
    "WHERE clinic_code = :clinic AND trans_type = '1' AND valid_flag = '1'",
)
