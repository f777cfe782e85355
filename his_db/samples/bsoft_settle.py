"""挂号收费 of the bsoft window: registration, receipt and payments of one order."""

from __future__ import annotations

import datetime

from sqlalchemy import Connection

from his_db.sample import WindowRefusal
from his_db.samples.bsoft_rows import CASH, TRANSACTION, WECHAT
from his_db.samples.tables import changed, one


def settle(
    connection: Connection,
    clinic: dict[str, object],
    patient_id: str,
    number: int,
    operator: str,
    now: datetime.datetime,
    channel: tuple[int, str] | None,
) -> int:
    """Writes MS_GHMX, MS_MZXX, MS_FKXX; answers SBXH. `channel` = HYXH and number of a 健康160 order, else cash."""
    hyxh, order_no = channel or (None, None)
    binds = {
        **clinic, "brid": patient_id, "number": number, "op": operator, "now": now, "hyxh": hyxh,
        "mode": CASH if channel is None else WECHAT, "paytype": "ck" if channel is None else "160",
    }  # fmt: skip
    if changed(connection, _REGISTER, **binds) != 1:
        raise WindowRefusal("该病人未建档")
    sbxh = _last(connection)
    changed(connection, _RECEIPT, sbxh=sbxh, number=f"FP{sbxh}")
    receipt = _last(connection)
    changed(
        connection,
        "INSERT INTO MS_FKXX (JGID, MZXH, FKFS, FKJE, FKHM) SELECT JGID, MZXH, FFFS, ZJJE, :code FROM MS_MZXX "
        "WHERE MZXH = :receipt",
        receipt=receipt,
        code=None if order_no is None else f"M{order_no}"[:40],
    )
    if order_no is not None:
        changed(
            connection,
            "INSERT INTO MS_FKXX (JGID, MZXH, FKFS, FKJE, FKHM) SELECT JGID, MZXH, :mode, 0, :code FROM MS_MZXX "
            "WHERE MZXH = :receipt",
            receipt=receipt, mode=TRANSACTION, code=f"4200{order_no}"[:40],
        )  # fmt: skip
    return sbxh


def _last(connection: Connection) -> int:
    row = one(connection, "SELECT LAST_INSERT_ID() AS id")
    assert row is not None
    return int(str(row["id"]))


_REGISTER = """
INSERT INTO MS_GHMX (JGID, BRID, BRXZ, GHSJ, GHLB, GHRQ, ZBLB, KSDM, YSDM, JZXH, GHJE, ZLJE, XJJE, QTYS, CZGH, JZHM,
    YYBZ, FFFS, HYXH, PAYTYPE)
SELECT p.JGID, b.BRID, b.BRXZ, :now, k.GHLB, p.GZRQ, p.ZBLB, p.KSDM, p.YSDM, :number, k.GHF, k.ZLF,
    IF(:mode = 1, ROUND(k.GHF + k.ZLF, 2), 0), IF(:mode = 1, 0, ROUND(k.GHF + k.ZLF, 2)),
    :op, b.MZHM, CASE WHEN :hyxh IS NULL THEN 0 ELSE 1 END, :mode, :hyxh, :paytype
FROM MS_YSPB p JOIN MS_GHKS k ON k.KSDM = p.KSDM JOIN MS_BRDA b ON b.BRID = :brid AND b.ZXBZ = 0
WHERE p.GZRQ = :day AND p.KSDM = :ks AND p.ZBLB = :session AND COALESCE(p.YPYS, p.YSDM) = :planned"""
_RECEIPT = """
INSERT INTO MS_MZXX (JGID, FPHM, SFRQ, BRID, XJJE, QTYS, ZJJE, ZFJE, GHGL, CZGH, FFFS)
SELECT JGID, :number, GHSJ, BRID, XJJE, QTYS, XJJE + QTYS, XJJE + QTYS, SBXH, CZGH, FFFS
FROM MS_GHMX WHERE SBXH = :sbxh"""
