"""The cashier of the winning sample: paying, 医保, 日结, moving an order, what stands in the way of a refund.

Said for PostgreSQL; on SQL Server the same statements in its dialect (`winning_mssql`).
"""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

from decimal import Decimal

from sqlalchemy import Connection

from his_db.sample import InsuredBill, WindowRefusal
from his_db.samples.desk import Desk
from his_db.samples.tables import all_rows, changed, fen, one, yuan

Session = Connection | Desk

_NOW = "his.fn_rq16(his.fn_dqsj())"
_BACK = "UPDATE his.gh_yy_pbzbmx SET ygh = CASE WHEN ygh > 0 THEN ygh - 1 ELSE 0 END WHERE pbmxid = :pb"
SAME_FEE = "SELECT 1 AS same FROM his.gh_yy_pbzbmx WHERE pbmxid = :pb AND pbmxid <> :old AND ghf + zlf = :je"


def settle(connection: Session, xh: str, *, order_no: str | None = None, bill: InsuredBill | None = None) -> None:
    """Lines and settlement of a registration, then jlzt 9 to 0. Cash without `order_no`, else WeChat."""
    fee = one(
        connection,
        "SELECT p.ghf + p.zlf AS je FROM his.gh_ghzdk z JOIN his.gh_yy_pbzbmx p ON p.pbmxid = z.pbmxid "
        "WHERE z.xh = :xh",
        xh=Decimal(xh),
    )
    assert fee is not None
    total, insured = fen(fee["je"]), bill.fund_fen + bill.account_fen if bill else 0
    if bill is not None and insured + bill.cash_fen != total:
        raise WindowRefusal("医保结算金额与挂号费不符！")
    own, zero = yuan(total - insured), yuan(0)
    binds: dict[str, object] = {
        "xh": Decimal(xh), "total": yuan(total), "own": own, "insured": yuan(insured), "order_no": order_no,
        "cash": own if order_no is None else zero, "online": zero if order_no is None else own,
        "zph": order_no and f"M{order_no}", "lsh": order_no and f"4200{order_no}",
        "mode": "01" if order_no is None else "15", "mdtrt": bill and bill.mdtrt_id, "setl": bill and bill.setl_id,
        "done": 1 if bill else 0,
    }  # fmt: skip
    for statement in _SETTLE:
        changed(connection, statement, **{name: value for name, value in binds.items() if f":{name}" in statement})
    if bill is not None:
        changed(
            connection, _INSURED, xh=Decimal(xh), psn=bill.person_no, kind=bill.insutype, mdtrt=bill.mdtrt_id,
            setl=bill.setl_id, total=yuan(total), fund=yuan(bill.fund_fen), account=yuan(bill.account_fen),
            cash=yuan(bill.cash_fen), zero=zero,
        )  # fmt: skip


def check_refund(connection: Session, register: dict[str, object], *, insured: bool) -> None:
    """Raises WindowRefusal with the vendor's text. `insured`: 2208 is done."""
    if register["jlzt"] == 1:
        raise WindowRefusal("该号已退号！")
    if int(str(register["jsbz"])) > 0:
        raise WindowRefusal("该号已经看诊,不能作废")
    if int(str(register["cfbz"])) > 0:
        raise WindowRefusal("存在已结处方请先退处方再退挂号")
    money = one(
        connection,
        "SELECT s.ybje, s.rjxh, his.fn_config('GH021', '是') AS after_close FROM his.sf_brjsk s "
        "WHERE s.ghxh = :xh AND s.tsjh IS NULL",
        xh=register["xh"],
    )
    if money is None:
        raise WindowRefusal("未缴费不能退号！")
    if fen(money["ybje"]) and not insured:
        raise WindowRefusal("该号为医疗保险号已经有交费记录,不能退费!")
    if insured and not fen(money["ybje"]):
        raise WindowRefusal("该号不是医保号！")
    if money["rjxh"] is not None and money["after_close"] != "是":
        raise WindowRefusal("该号已日结，不能退号！")


def reverse_insurance(connection: Session, xh: object, reversal: str) -> None:
    """yb_gbjsk 有效 to 已撤销."""
    changed(
        connection,
        f"UPDATE his.yb_gbjsk SET jlzt = 1, cxjsid = :setl, cxrq = {_NOW} WHERE ghxh = :xh AND jlzt = 0",
        setl=reversal,
        xh=xh,
    )


def close_day(connection: Session, operator: str) -> str:
    """One row of gh_rjz; answers rjxh. Raises WindowRefusal when nothing is open."""
    open_rows = one(
        connection,
        "SELECT COUNT(*) AS n FROM his.vw_brjsk WHERE czyh = :op AND rjxh IS NULL",
        op=operator,
    )
    if open_rows is None or not open_rows["n"]:
        raise WindowRefusal("没有需要日结的数据")
    number = one(connection, "SELECT COALESCE(MAX(rjxh), 9000) + 1 AS rjxh FROM his.gh_rjz")
    assert number is not None
    changed(connection, _SHEET, op=operator, rjxh=number["rjxh"])
    for table in ("his.sf_brjsk", "his.sf_nbrjsk"):
        sql = f"UPDATE {table} SET rjxh = :rjxh WHERE czyh = :op AND rjxh IS NULL"
        changed(connection, sql, op=operator, rjxh=number["rjxh"])
    return str(number["rjxh"])


def give_number_back(connection: Session, schedule: object) -> None:
    """ygh - 1."""
    changed(connection, _BACK, pb=schedule)


def move(connection: Session, booking: object, schedule: Decimal, number: int) -> None:
    """改诊: the booking and its valid registration get another session and number."""
    for statement in _MOVE:
        changed(connection, statement, xh=booking, pb=schedule, no=number)


def clear_holds(connection: Session) -> int:
    """Locks that ran out get zt 3, session by session, its row locked first."""
    stale = f"zt = 0 AND sxsj <= {_NOW}"
    rows = all_rows(connection, f"SELECT DISTINCT pbmxid FROM his.gh_yy_sdk WHERE {stale} ORDER BY pbmxid")
    cleared = 0
    for row in rows:
        all_rows(connection, "SELECT 1 FROM his.gh_yy_pbzbmx WHERE pbmxid = :pb FOR UPDATE", pb=row["pbmxid"])
        ended = changed(connection, f"UPDATE his.gh_yy_sdk SET zt = 3 WHERE pbmxid = :pb AND {stale}", pb=row["pbmxid"])
        changed(connection, "UPDATE his.gh_yy_pbzbmx SET ygh = ygh - :n WHERE pbmxid = :pb", n=ended, pb=row["pbmxid"])
        cleared += ended
    return cleared


_SETTLE = (
    "INSERT INTO his.gh_ghmxk (ghxh, xmdm, xmmc, xmdj, xmsl, dxmdm, dxmmc, zfdj, yhdj, isghf) "
    "SELECT z.xh, t.d, t.m, t.j, 1, '01', '挂号诊疗', t.j, 0, t.f FROM his.gh_ghzdk z "
    "JOIN his.gh_yy_pbzbmx p ON p.pbmxid = z.pbmxid, LATERAL (VALUES ('GHF', '挂号费', p.ghf, 1), "
    "('ZLF', '诊疗费', p.zlf, 2)) AS t (d, m, j, f) WHERE z.xh = :xh AND t.j > 0",
    "INSERT INTO his.sf_brjsk (sjh, patid, ghxh, czyh, sfrq, ksdm, hzxm, blh, ybdm, zje, zfje, ybje, xjje, zpje, zffs, "
    "zph, jylsh, wbddh, zxlsh, jslsh, ybjszt, appjkdm, gxrq, jlzt) SELECT to_char(his.fn_dqsj(), 'YYMMDD') || "
    "lpad(CAST(nextval('his.seq_sjh') AS text), 8, '0'), z.patid, z.xh, z.czyh, z.czrq, z.ksdm, z.hzxm, z.blh, "
    "z.ybdm, CAST(:total AS numeric(12,2)), CAST(:own AS numeric(12,2)), CAST(:insured AS numeric(12,2)), "
    "CAST(:cash AS numeric(12,2)), CAST(:online AS numeric(12,2)), :mode, :zph, :lsh, CAST(:order_no AS varchar), "
    "CAST(:mdtrt AS varchar), CAST(:setl AS varchar), CAST(:done AS smallint), z.appjkdm, z.czrq, 0 "
    "FROM his.gh_ghzdk z WHERE z.xh = :xh",
    "UPDATE his.gh_ghzdk SET jlzt = 0, jssjh = (SELECT sjh FROM his.sf_brjsk WHERE ghxh = :xh) "
    "WHERE xh = :xh AND jlzt = 9",
)
_INSURED = (
    "INSERT INTO his.yb_gbjsk (sjh, ghxh, yyxh, rybh, xzlx, jzid, jzlsh, jsid, jssj, yllb, zje, jjzf, zhzf, xjzf, "
    "yyfd, "
    "jlzt) SELECT s.sjh, s.ghxh, z.yyxh, :psn, :kind, :mdtrt, CAST(z.xh AS varchar), :setl, s.sfrq, '12', :total, "
    ":fund, :account, :cash, :zero, 0 FROM his.sf_brjsk s JOIN his.gh_ghzdk z ON z.xh = s.ghxh WHERE s.ghxh = :xh"
)
_SHEET = f"""
INSERT INTO his.gh_rjz (rjxh, czyh, jzrq, ghrs, ghje, thrs, thje, xjje, wxje, ybje, qtje, jlzt)
SELECT CAST(:rjxh AS numeric), CAST(:op AS varchar), {_NOW}, SUM(CASE WHEN zje > 0 THEN 1 ELSE 0 END),
       SUM(CASE WHEN zje > 0 THEN zje ELSE 0 END), SUM(CASE WHEN zje < 0 THEN 1 ELSE 0 END),
       SUM(CASE WHEN zje < 0 THEN -zje ELSE 0 END), SUM(xjje),
       SUM(CASE WHEN zffs = '15' THEN zpje ELSE 0 END), SUM(ybje),
       SUM(CASE WHEN zffs = '15' THEN 0 ELSE zpje END), 0
  FROM his.vw_brjsk WHERE czyh = :op AND rjxh IS NULL"""
_OF = "SELECT {} FROM his.gh_yy_pbzbmx p WHERE p.pbmxid = :pb"
_START = _OF.format("his.fn_yysj(p.zbrq, p.kssj, p.jssj, p.jgfz, CAST(:no AS int))")
_NAME = "SELECT {table}.name FROM his.gh_yy_pbzbmx p JOIN his.{table} ON {table}.id = p.{key} WHERE p.pbmxid = :pb"
_MOVE = (
    f"UPDATE his.gh_ghyyk SET pbmxid = :pb, yyhx = CAST(:no AS int), yyrq = ({_START}), "
    f"ksdm = ({_OF.format('p.ksdm')}), ysdm = ({_OF.format('p.ysdm')}) WHERE xh = :xh",
    f"UPDATE his.gh_ghzdk SET pbmxid = :pb, ghhx = CAST(:no AS int), ghrq = ({_START}), "
    f"ksdm = ({_OF.format('p.ksdm')}), ksmc = ({_NAME.format(table='yy_ksbmk', key='ksdm')}), "
    f"ysdm = ({_OF.format('p.ysdm')}), ysmc = ({_NAME.format(table='yy_zgbmk', key='ysdm')}) "
    "WHERE yyxh = :xh AND txh IS NULL AND jlzt = 0",
)
