"""The cashier of the bsoft window: paying, 医保, giving back, 日结, moving an order, clearing holds."""

# ruff: noqa: S608 - the composed parts are constants of this module; every value is bound
from __future__ import annotations

import datetime

from sqlalchemy import Connection

from his_db.sample import InsuredBill, WindowRefusal
from his_db.samples.bsoft_rows import BRANCH, CASH, INSURANCE, TRANSACTION, WECHAT
from his_db.samples.tables import all_rows, changed, fen, one, stamp

SESSION = "GZRQ = :day AND KSDM = :ks AND ZBLB = :session AND COALESCE(YPYS, YSDM) = :planned"
HOLDS = (
    "HYKS = :ks AND HYYS = :planned AND ZBLB = :session AND HYSJ >= :day AND HYSJ < :day + INTERVAL 1 DAY "
    "AND HYZT = '1' AND DDSJ <= :expired"
)


def settle(
    connection: Connection,
    clinic: dict[str, object],
    patient_id: str,
    number: int,
    operator: str,
    now: datetime.datetime,
    *,
    channel: tuple[int, str] | None = None,
    bill: InsuredBill | None = None,
) -> int:
    """Writes MS_GHMX, MS_MZXX, MS_FKXX, for `bill` YB_GHJS; answers SBXH. `channel` = HYXH and number of a 健康160
    order, else cash."""
    hyxh, order_no = channel or (None, None)
    mode = CASH if channel is None else WECHAT
    binds: dict[str, object] = {
        **clinic, "brid": patient_id, "number": number, "op": operator, "now": now, "hyxh": hyxh, "mode": mode,
        "paytype": "ck" if channel is None else "160", "account": bill.account_fen / 100 if bill else 0.0,
        "fund": bill.fund_fen / 100 if bill else 0.0, "setl": bill and bill.setl_id,
    }  # fmt: skip
    if _run(connection, _REGISTER, binds) != 1:
        raise WindowRefusal("该病人未建档")
    sbxh = _last(connection)
    fee = one(connection, "SELECT GHJE + ZLJE AS fee, XJJE + QTYS AS own FROM MS_GHMX WHERE SBXH = :s", s=sbxh)
    assert fee is not None
    if bill is not None and bill.fund_fen + bill.account_fen + bill.cash_fen != fen(fee["fee"]):
        raise WindowRefusal("医保结算金额与挂号费不符")
    _run(connection, _RECEIPT, {**binds, "sbxh": sbxh, "code": f"FP{sbxh}"})
    receipt = _last(connection)
    trade = None if order_no is None else f"M{order_no}"[:40]
    ways = [(mode, fen(fee["own"]), trade)]
    if bill is not None:
        ways.append((INSURANCE, bill.fund_fen + bill.account_fen, bill.setl_id))
    for way, amount, code in ways:
        if amount:
            changed(connection, _PAYMENT, receipt=receipt, way=way, amount=amount / 100, code=code)
    if order_no is not None:
        code = f"4200{order_no}"[:40]
        changed(connection, _PAYMENT, receipt=receipt, way=TRANSACTION, amount=0, code=code)
    if bill is not None:
        more = {
            "sbxh": sbxh, "psn": bill.person_no, "type": bill.insutype, "mdtrt": bill.mdtrt_id,
            "cash": bill.cash_fen / 100,
        }  # fmt: skip
        _run(connection, _INSURED, {**binds, **more})
    return sbxh


def check_refund(
    connection: Connection, booking: dict[str, object] | None, register: dict[str, object] | None, *, insured: bool
) -> None:
    """Raises WindowRefusal with the vendor's text (facts §1.3). `insured`: 2208 is done."""
    if booking is not None and booking["GHBZ"] == 9:
        raise WindowRefusal("该患者已经取消预约")
    if register is None:
        raise WindowRefusal("未找到预约记录" if booking is None else "未缴费不能退号")
    if register["THBZ"] == 1:
        raise WindowRefusal("该号已退号")
    if register["JZZT"] != 0:
        raise WindowRefusal("该号已经看诊,不能作废")
    facts = one(connection, _REFUND_FACTS, sbxh=register["SBXH"])
    assert facts is not None
    if facts["scripts"]:
        raise WindowRefusal("存在已结处方请先退处方再退挂号")
    if fen(facts["insured"]) and not insured:
        raise WindowRefusal("该号为医疗保险号，请先做医保结算撤销")
    if insured and not fen(facts["insured"]):
        raise WindowRefusal("该号不是医保号")
    if register["QHSJ"] is not None and facts["after_check_in"] != "1":
        raise WindowRefusal("该号已取号，请先取消取号")
    if register["JZRQ"] is not None and facts["after_close"] != "1":
        raise WindowRefusal("该号已日结，不能退号")


def give_back(
    connection: Connection, sbxh: object, operator: str, now: datetime.datetime, *, reversal: str | None = None
) -> None:
    """THBZ 0 to 1, a row in MS_THMX, receipt void, negative payments without number (医保: its reversal's), YB_GHJS's
    red row. MS_YYGH and the original rows' JZRQ stay as they are."""
    binds = {"sbxh": sbxh, "op": operator, "now": now, "jgid": BRANCH, "insurance": INSURANCE, "reversal": reversal}
    for statement in _REFUND:
        _run(connection, statement, binds)


def refuse_part(connection: Connection, register: dict[str, object] | None) -> None:
    """部分退费 is not to be had here. Raises WindowRefusal always."""
    if register is None:
        raise WindowRefusal("未缴费不能退号")
    if register["PAYTYPE"] == "160":
        raise WindowRefusal("健康160支付订单不支持部分退费")
    raise WindowRefusal("挂号费不支持部分退费，请退号")


def close_day(connection: Connection, operator: str, now: datetime.datetime) -> str:
    """MS_GHRB and MS_GHRB_FKMX over the operator's rows without JZRQ, which get it; answers operator and JZRQ."""
    binds = {"op": operator, "now": now, "jgid": BRANCH}
    if not all_rows(connection, f"SELECT 1 FROM ({_MOVES}) m LIMIT 1", op=operator):
        raise WindowRefusal("没有需要日结的数据")
    for statement in (_SHEET, _SHEET_LINES, *_CLOSE):
        _run(connection, statement, binds)
    return f"{operator}@{stamp(now)}"


def move(connection: Connection, booking: dict[str, object], target: dict[str, object], number: int) -> None:
    """改诊: booking, 号源 and valid registration get another session and number."""
    binds = {**target, "number": number, "yyxh": booking["YYXH"], "hyxh": booking["HYXH"], "sbxh": booking["SBXH"]}
    for statement in _MOVE:
        _run(connection, statement, binds)


def clear_holds(connection: Connection, now: datetime.datetime) -> int:
    """号源 that ran out: HYZT 1 to 3, session by session, its row locked first; YYRS back."""
    minutes = one(connection, "SELECT CAST(CSZ AS SIGNED) AS m FROM GY_XTCS WHERE CSMC = 'YYSDSJ'")
    assert minutes is not None
    expired = stamp(now - datetime.timedelta(minutes=int(str(minutes["m"]))))
    sessions = all_rows(
        connection,
        "SELECT DISTINCT DATE(HYSJ) AS day, HYKS AS ks, HYYS AS planned, CAST(ZBLB AS SIGNED) AS session "
        "FROM MS_YYGHHY WHERE HYZT = '1' AND DDSJ <= :expired ORDER BY 1, 2, 4, 3",
        expired=expired,
    )
    return sum(sweep(connection, session, now, str(expired)) for session in sessions)


def sweep(connection: Connection, clinic: dict[str, object], now: datetime.datetime, expired: str) -> int:
    """The holds of one session that ran out, its row locked first."""
    all_rows(connection, f"SELECT 1 FROM MS_YSPB WHERE {SESSION} FOR UPDATE", **clinic)
    sql = f"UPDATE MS_YYGHHY SET HYZT = '3', TYSJ = :now WHERE {HOLDS}"
    swept = changed(connection, sql, now=now, expired=expired, **clinic)
    if swept:
        changed(connection, f"UPDATE MS_YSPB SET YYRS = YYRS - :n WHERE {SESSION}", n=swept, **clinic)
    return swept


def _run(connection: Connection, statement: str, binds: dict[str, object]) -> int:
    used = {name: value for name, value in binds.items() if f":{name}" in statement}
    return changed(connection, statement, **used)


def _last(connection: Connection) -> int:
    row = one(connection, "SELECT LAST_INSERT_ID() AS id")
    assert row is not None
    return int(str(row["id"]))


_REGISTER = """
INSERT INTO MS_GHMX (JGID, BRID, BRXZ, GHSJ, GHLB, GHRQ, ZBLB, KSDM, YSDM, JZXH, GHJE, ZLJE, XJJE, QTYS, ZHJE, NJJBLSH,
    CZGH, JZHM, YYBZ, FFFS, HYXH, PAYTYPE)
SELECT p.JGID, b.BRID, IF(:setl IS NULL, b.BRXZ, 2), :now, k.GHLB, p.GZRQ, p.ZBLB, p.KSDM, p.YSDM, :number, k.GHF,
    k.ZLF,
    IF(:mode = 1, ROUND(k.GHF + k.ZLF - :fund - :account, 2), 0),
    IF(:mode = 1, 0, ROUND(k.GHF + k.ZLF - :fund - :account, 2)), :account, :setl,
    :op, b.MZHM, CASE WHEN :hyxh IS NULL THEN 0 ELSE 1 END, :mode, :hyxh, :paytype
FROM MS_YSPB p JOIN MS_GHKS k ON k.KSDM = p.KSDM JOIN MS_BRDA b ON b.BRID = :brid AND b.ZXBZ = 0
WHERE p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session AND COALESCE(p.YPYS, p.YSDM) = :planned"""
_RECEIPT = """
INSERT INTO MS_MZXX (JGID, FPHM, SFRQ, BRID, XJJE, QTYS, ZJJE, ZFJE, ZHJE, JJZFJE, GHGL, CZGH, FFFS)
SELECT JGID, :code, GHSJ, BRID, XJJE, QTYS, ROUND(GHJE + ZLJE, 2), ROUND(GHJE + ZLJE - :fund, 2), ZHJE, :fund, SBXH,
    CZGH, FFFS
FROM MS_GHMX WHERE SBXH = :sbxh"""
_PAYMENT = """
INSERT INTO MS_FKXX (JGID, MZXH, FKFS, FKJE, FKHM)
SELECT JGID, MZXH, :way, :amount, :code FROM MS_MZXX WHERE MZXH = :receipt"""
_INSURED = """
INSERT INTO YB_GHJS (JSLX, SBXH, MZXH, BRID, RYBH, XZLX, JZID, MZLSH, JSID, JSSJ, YLLB, ZFY, TCZF, JJZE, GRFD, ZHZF,
    XJZF, YYFD, CZGH)
SELECT 1, x.SBXH, c.MZXH, x.BRID, :psn, :type, :mdtrt, CAST(x.SBXH AS CHAR), :setl, :now, '12', c.ZJJE, :fund, :fund,
    c.ZFJE, :account, :cash, 0, :op
FROM MS_GHMX x JOIN MS_MZXX c ON c.GHGL = x.SBXH WHERE x.SBXH = :sbxh"""
_REFUND_FACTS = (
    "SELECT c.JJZFJE + c.ZHJE AS insured, "
    "(SELECT COUNT(*) FROM MS_CF01 r WHERE r.GHXH = c.GHGL AND r.ZFPB = 0) AS scripts, "
    "(SELECT CSZ FROM GY_XTCS WHERE CSMC = 'RJHTH') AS after_close, "
    "(SELECT CSZ FROM GY_XTCS WHERE CSMC = 'QHHTH') AS after_check_in FROM MS_MZXX c WHERE c.GHGL = :sbxh"
)
_REFUND = (
    "UPDATE MS_GHMX SET THBZ = 1 WHERE SBXH = :sbxh AND THBZ = 0",
    "INSERT INTO MS_THMX (SBXH, JGID, CZGH, THRQ) VALUES (:sbxh, :jgid, :op, :now)",
    "INSERT INTO MS_FKXX (JGID, MZXH, FKFS, FKJE, FKHM) SELECT f.JGID, f.MZXH, f.FKFS, -f.FKJE, "
    "CASE f.FKFS WHEN :insurance THEN :reversal END FROM MS_FKXX f "
    "JOIN MS_MZXX c ON c.MZXH = f.MZXH WHERE c.GHGL = :sbxh AND f.FKJE > 0 ORDER BY f.JLXH",
    "UPDATE MS_MZXX SET ZFPB = 1, THPB = 1 WHERE GHGL = :sbxh AND THPB = 0",
    "INSERT INTO YB_GHJS (JSLX, YXSH, SBXH, MZXH, BRID, RYBH, XZLX, CBDQ, JZID, MZLSH, SFPC, JSID, JSSJ, QSLB, QSFS, "
    "QSJG, YLLB, ZFY, TCZF, JJZE, GRFD, ZHZF, XJZF, YYFD, CZGH) SELECT 2, JSXH, SBXH, MZXH, BRID, RYBH, XZLX, CBDQ, "
    "JZID, MZLSH, SFPC, :reversal, :now, QSLB, QSFS, QSJG, YLLB, -ZFY, -TCZF, -JJZE, -GRFD, -ZHZF, -XJZF, -YYFD, :op "
    "FROM YB_GHJS WHERE SBXH = :sbxh AND JSLX = 1 AND :reversal IS NOT NULL",
)
_MOVES = (
    "SELECT x.SBXH, 1 AS sign FROM MS_GHMX x WHERE x.CZGH = :op AND x.JZRQ IS NULL "
    "UNION ALL SELECT t.SBXH, -1 FROM MS_THMX t WHERE t.CZGH = :op AND t.JZRQ IS NULL"
)
_MODES = (
    "SELECT m.SBXH, f.FKFS, m.sign * f.FKJE AS FKJE FROM ("
    + _MOVES
    + ") m JOIN MS_MZXX c ON c.GHGL = m.SBXH JOIN MS_FKXX f ON f.MZXH = c.MZXH AND f.FKJE > 0"
)
_SHEET = f"""
INSERT INTO MS_GHRB (CZGH, JZRQ, JGID, ZJJE, XJJE, QTYS, FPZS, THSL, THJE, WXHJ, ZFBHJ, YBZFHJ)
SELECT :op, :now, :jgid, COALESCE(ROUND(SUM(p.FKJE), 2), 0), COALESCE(ROUND(SUM(IF(p.FKFS = 1, p.FKJE, 0)), 2), 0),
    COALESCE(ROUND(SUM(IF(p.FKFS IN (1, 9), 0, p.FKJE)), 2), 0),
    (SELECT COUNT(*) FROM ({_MOVES}) m WHERE m.sign = 1), (SELECT COUNT(*) FROM ({_MOVES}) m WHERE m.sign = -1),
    COALESCE(ROUND(-SUM(IF(p.FKJE < 0, p.FKJE, 0)), 2), 0), COALESCE(ROUND(SUM(IF(p.FKFS = 15, p.FKJE, 0)), 2), 0),
    COALESCE(ROUND(SUM(IF(p.FKFS = 16, p.FKJE, 0)), 2), 0), COALESCE(ROUND(SUM(IF(p.FKFS = 9, p.FKJE, 0)), 2), 0)
FROM ({_MODES}) p"""
_SHEET_LINES = f"""
INSERT INTO MS_GHRB_FKMX (CZGH, JZRQ, FKFS, JGID, FKJE)
SELECT :op, :now, p.FKFS, :jgid, ROUND(SUM(p.FKJE), 2) FROM ({_MODES}) p GROUP BY p.FKFS"""
_CLOSE = tuple(
    f"UPDATE {table} SET JZRQ = :now WHERE CZGH = :op AND JZRQ IS NULL" for table in ("MS_GHMX", "MS_MZXX", "MS_THMX")
)
_MOVE = (
    "UPDATE MS_YYGHHY h JOIN MS_YSPB p ON p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session "
    "AND COALESCE(p.YPYS, p.YSDM) = :planned "
    "LEFT JOIN MS_KSPB w ON w.GHRQ = DAYOFWEEK(p.GZRQ) AND w.ZBLB = p.ZBLB AND w.GHKS = p.KSDM "
    "SET h.HYKS = p.KSDM, h.HYYS = :planned, h.ZBLB = p.ZBLB, h.SDXH = :number, h.HYSJ = TIMESTAMP(p.GZRQ, "
    "COALESCE(NULLIF(p.YYKSSJ, ''), w.YYKSSJ)) + INTERVAL (:number - 1) * COALESCE(NULLIF(p.YYJG, ''), w.YYJG, 10) "
    "MINUTE WHERE h.HYXH = :hyxh",
    "UPDATE MS_YYGH y JOIN MS_YSPB p ON p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session "
    "AND COALESCE(p.YPYS, p.YSDM) = :planned SET y.GHRQ = p.GZRQ, y.KSDM = p.KSDM, y.ZBLB = p.ZBLB, y.YSDM = p.YSDM, "
    "y.JZXH = :number WHERE y.YYXH = :yyxh",
    "UPDATE MS_GHMX x JOIN MS_YSPB p ON p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session "
    "AND COALESCE(p.YPYS, p.YSDM) = :planned SET x.GHRQ = p.GZRQ, x.KSDM = p.KSDM, x.ZBLB = p.ZBLB, x.YSDM = p.YSDM, "
    "x.JZXH = :number WHERE x.SBXH = :sbxh AND x.THBZ = 0",
)
SAME_FEE = (
    "SELECT 1 AS same FROM MS_GHKS a JOIN MS_GHKS b ON b.KSDM = :ks "
    "WHERE a.KSDM = :old AND ROUND((a.GHF + a.ZLF) * 100) = ROUND((b.GHF + b.ZLF) * 100)"
)
