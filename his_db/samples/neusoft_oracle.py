"""The neusoft sample on Oracle: the pack's own tables and package, the rows of its PostgreSQL port."""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import Connection

from his_db.engine import Parameter, ParameterKind, ProcedurePlan
from his_db.sample import FULL, CashierWindow, Clock, SampleSize, SampleSummary, hospital_now
from his_db.samples.desk import Desk, DeskPool, Dialect, slash_batches
from his_db.samples.neusoft import fill
from his_db.samples.neusoft_window import NeusoftWindow, accepted
from his_db.samples.population import build_world
from his_db.samples.tables import changed, sql_file

_OUT = ParameterKind.OUT
_ANSWER = (
    Parameter("o_code", _OUT, "number"),
    Parameter("o_msg", _OUT, "varchar2(200)"),
    Parameter("o_cur", _OUT, "sys_refcursor"),
)
_RULES = (
    (r"lpad\(CAST\(nextval\('neuhis\.(\w+)'\) AS text\), (\d+), '0'\)", r"LPAD(\1.NEXTVAL, \2, '0')"),
    (r"\bneuhis\.", ""),  # the sample's own user owns the tables
    (r"\bdate_trunc\('day', (pkg_160\.f_now\(\))\)", r"TRUNC(\1)"),
    (r"\bstrpos\(", "INSTR("),
    (r"\A\s*(SELECT .*)\sLIMIT :limit\Z", r"SELECT * FROM (\1) WHERE ROWNUM <= :limit"),  # 11.2 has no FETCH FIRST
    (r"\A(SELECT (?!.*\bFROM\b).*)\Z", r"\1 FROM DUAL"),
)


def _plan(name: str, *given: str) -> ProcedurePlan:
    return ProcedurePlan(f"pkg_160.{name}", (*map(Parameter, given), *_ANSWER))


_BOOK = _plan("p_book", "p_order_id", "p_schema_id", "p_card_no", "p_source", "p_order_type", "p_oper")
_PAY = _plan("p_pay", "p_order_id", "p_trade_no", "p_txn_code", "p_amount", "p_pay_mode", "p_oper")
_REVERSE = ProcedurePlan(
    "pkg_160.f_reverse",
    (Parameter("p_clinic"), Parameter("p_oper"), Parameter("invoice", ParameterKind.RETURN, "varchar2(14)")),
    function=True,
)
# X_REGISTER is the package's own secret: the window writes the same rows itself.
_REGISTER = """
INSERT INTO fin_opr_register (clinic_code, trans_type, card_no, reg_date, noon_code, name, idenno, sex_code, birthday,
    paykind_code, paykind_name, pact_code, reglevl_code, reglevl_name, dept_code, dept_name, seeno, doct_code,
    doct_name, ynregchrg, ynbook, ynfr, reg_fee, chck_fee, diag_fee, oth_fee, own_cost, pub_cost, pay_cost, valid_flag,
    oper_code, oper_date, ynsee, check_flag, rela_phone, begin_time, end_time, invoice_no, schema_no,
    in_source, triage_flag)
SELECT :clinic, '1', p.card_no, s.see_date, s.noon_code, p.name, p.idenno, p.sex_code, p.birthday,
       CASE WHEN :pub + :pay > 0 THEN '02' ELSE '01' END, CASE WHEN :pub + :pay > 0 THEN '医保' ELSE '自费' END,
       CASE WHEN :pub + :pay > 0 THEN '2' ELSE '1' END, s.reglevl_code,
       s.reglevl_name, s.dept_code, s.dept_name, :number, s.doct_code, s.doct_name, '1', '0', '1', f.reg_fee,
       f.chck_fee, f.diag_fee, f.oth_fee, f.reg_fee + f.chck_fee + f.diag_fee + f.oth_fee - :pub - :pay, :pub, :pay,
       '1', :op, pkg_160.f_now(), '0', '0', p.home_tel, s.begin_time, s.end_time, :invoice, s.id, '0', '0'
  FROM fin_opr_schema s, com_patientinfo p, fin_com_regfeeset f
 WHERE s.id = :sch AND p.card_no = :card AND f.pact_code = '1' AND f.reglevl_code = s.reglevl_code"""
_FEES = """
INSERT INTO fin_opb_accountcardfee (invoice_no, trans_type, fee_type, card_no, tot_cost, fee_oper, fee_date,
    balance_flag, cancel_flag, clinic_no, own_cost, pub_cost, pay_cost, pay_type)
SELECT q.invoice_no, '1', q.kind, q.card_no, q.cost, q.oper_code, q.oper_date, '0', '1', q.clinic_code,
       q.cost - q.pub - q.pay, q.pub, q.pay, '0'
  FROM (SELECT t.*, GREATEST(LEAST(t.upto, t.pub_cost) - t.upto + t.cost, 0) AS pub,
               GREATEST(LEAST(t.upto, t.pub_cost + t.pay_cost) - GREATEST(t.upto - t.cost, t.pub_cost), 0) AS pay
          FROM (SELECT r.*, '3' AS kind, reg_fee AS cost, reg_fee AS upto FROM fin_opr_register r
                UNION ALL SELECT r.*, '4', diag_fee, reg_fee + diag_fee FROM fin_opr_register r
                UNION ALL SELECT r.*, '5', chck_fee, reg_fee + diag_fee + chck_fee FROM fin_opr_register r) t
         WHERE t.clinic_code = :clinic AND t.trans_type = '1') q
 WHERE q.cost <> 0"""


def _drop(kind: str, name: str) -> str:
    """Oracle before 23 has no DROP … IF EXISTS: 942, 2289 and 4043 are "there is none"."""
    more = " CASCADE CONSTRAINTS PURGE" if kind == "TABLE" else ""
    return (
        f"BEGIN EXECUTE IMMEDIATE 'DROP {kind} {name}{more}'; "
        "EXCEPTION WHEN OTHERS THEN IF SQLCODE NOT IN (-942, -2289, -4043) THEN RAISE; END IF; END;"
    )


PL_SQL = Dialect(engine="oracle", rules=_RULES, batches=slash_batches, drop=_drop, counted={})


class NeusoftOracleSample:
    """Creates tables and package in the schema of the url's user, and opens the window program."""

    name = "neusoft"
    mappings = "mappings"
    engine = "oracle"

    def create(
        self, url: str, *, today: datetime.date, size: SampleSize = FULL, seed: int = 160, clock: Clock = hospital_now
    ) -> SampleSummary:
        """Drops the sample's objects and makes them anew; the rows in one transaction."""
        return create(DeskPool(url, PL_SQL), today=today, size=size, seed=seed, clock=clock)

    def window(self, url: str, *, clock: Clock = hospital_now) -> CashierWindow:
        """The window program on that database. Its times are the server's own (`PKG_160.F_NOW`): `clock` is not
        used."""
        return NeusoftOracleWindow(DeskPool(url, PL_SQL))


def create(pool: DeskPool, *, today: datetime.date, size: SampleSize, seed: int, clock: Clock) -> SampleSummary:
    """The sample on the pool's server; gives the pool back."""
    world = build_world(today, size, seed)
    try:
        pool.build([sql_file("neusoft", f"oracle/{name}") for name in ("schema.sql", "package.sql")])
        with pool.begin() as desk:
            return fill(desk, world, (today - clock().date()).days)
    finally:
        pool.dispose()


class NeusoftOracleWindow(NeusoftWindow):
    """The window of the port; what changes rows inside the package is called, not selected."""

    def _reverse(self, connection: Connection | Desk, clinic: str, operator: str) -> str | None:
        invoice = _call(connection, _REVERSE, p_clinic=clinic, p_oper=operator)["invoice"]
        return None if invoice is None else str(invoice)

    def _book(self, connection: Connection | Desk, schedule_id: str, patient_id: str, order_no: str) -> None:
        out = _call(
            connection, _BOOK, p_order_id=order_no, p_schema_id=schedule_id, p_card_no=patient_id, p_source="160",
            p_order_type="0", p_oper="jk160",
        )  # fmt: skip
        accepted(out)

    def _pay(self, connection: Connection | Desk, order_no: str, fee: object) -> None:
        out = _call(
            connection, _PAY, p_order_id=order_no, p_trade_no=f"M{order_no}", p_txn_code=f"4200{order_no}",
            p_amount=fee, p_pay_mode="4", p_oper="jk160",
        )  # fmt: skip
        accepted(out)

    def _write_register(self, connection: Connection | Desk, **binds: object) -> None:
        changed(connection, _REGISTER, **binds)
        changed(connection, _FEES, clinic=binds["clinic"])


def _call(connection: Connection | Desk, plan: ProcedurePlan, **values: object) -> dict[str, Any]:
    assert isinstance(connection, Desk)
    return dict(connection.call(plan, values))
