"""Reading the HIS's book straight from its tables: one reader for each sample HIS. Nothing of the agent is used."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, bindparam, create_engine, text

from his_db.samples.bsoft import open_mysql
from his_db.samples.tables import fen
from tests.chaos.books import HisBook, HisHold, HisOrder, HisSession, Money

Row = dict[str, Any]


class Reader(Protocol):
    """Reads one vendor's tables over an open connection. ``numbers`` are 160's; ``only``: one session's key, "": all."""

    def orders(self, connection: Connection, numbers: Collection[str]) -> Iterable[HisOrder]: ...

    def holds(self, connection: Connection, numbers: Collection[str], ahead: float) -> Iterable[HisHold]: ...

    def sessions(self, connection: Connection, only: str) -> Iterable[HisSession]: ...

    def document_counts(self, connection: Connection, numbers: Collection[str]) -> Mapping[str, int]: ...

    def patients(self, connection: Connection) -> list[str]: ...

    def person(self, connection: Connection, patient_id: str) -> tuple[str, str]: ...

    def insurable(self, connection: Connection) -> set[str]: ...


class HisReader:
    """The book of the hospital at ``url`` (SQLAlchemy's)."""

    def __init__(self, pack: str, url: str) -> None:
        self._engine: Engine = open_mysql(url) if url.startswith("mysql") else create_engine(url)
        self._reader: Reader = READERS[pack]
        self.ahead = 0.0
        """Seconds by which the clock of a HIS that is told the time is ahead of the machine's."""

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def read(self, orders: Collection[str], documents: Collection[str] = (), session: str = "") -> HisBook:
        """The book as far as these orders and documents are concerned, and one session or all."""
        with self._engine.connect() as connection:
            return HisBook(
                orders=tuple(self._reader.orders(connection, orders)) if orders else (),
                holds=tuple(self._reader.holds(connection, orders, self.ahead)) if orders else (),
                sessions={each.schedule_id: each for each in self._reader.sessions(connection, session)},
                patients={
                    digest(number): count
                    for number, count in self._reader.document_counts(connection, documents).items()
                },
            )

    def patients(self) -> list[str]:
        """Patients that the HIS lets book."""
        with self._engine.connect() as connection:
            return self._reader.patients(connection)

    def person(self, patient_id: str) -> tuple[str, str]:
        """Name and document number of a patient; the number may be empty."""
        with self._engine.connect() as connection:
            return self._reader.person(connection, patient_id)

    def insurable(self) -> set[str]:
        """Sessions whose department, doctor and fees are registered with 医保."""
        with self._engine.connect() as connection:
            return self._reader.insurable(connection)

    def other_sessions(self) -> int:
        """Connections of others (the agent's) to this database; 0 where the HIS is a file."""
        counting = {
            "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND application_name <> 'chaos-reader' AND backend_type = 'client backend'",
            "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND user LIKE 'chaos%'",
        }.get(self._engine.dialect.name)
        if counting is None:
            return 0
        with self._engine.connect() as connection:
            return int(connection.execute(text(counting)).scalar_one())


def digest(document_no: str) -> str:
    """A document number as it may stand in a report."""
    return hashlib.sha256(document_no.encode()).hexdigest()[:12]


def _rows(connection: Connection, sql: str, **binds: Any) -> list[Row]:
    statement = text(sql)
    for name, value in binds.items():
        if isinstance(value, (list, tuple, set, frozenset)):
            binds[name] = list(value)
            statement = statement.bindparams(bindparam(name, expanding=True))
    return [dict(row) for row in connection.execute(statement, binds).mappings()]


def _counts(connection: Connection, sql: str, numbers: Collection[str]) -> dict[str, int]:
    found = dict.fromkeys(numbers, 0)
    if numbers:
        found.update({row["number"]: int(row["n"]) for row in _rows(connection, sql, numbers=numbers)})
    return found


def _by(rows: Iterable[Row], key: str) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def _halves(**counts: tuple[int, int]) -> tuple[str, ...]:
    """Names of tables whose number of rows is not the number expected."""
    return tuple(f"{name}: {there} for {wanted}" for name, (there, wanted) in counts.items() if there != wanted)


class ZeboneReader:
    """Tickets; an encounter, a settlement, a deposit and an external payment for each payment."""

    _STATE = (
        "CASE WHEN a.EU_STATUS='9' AND a.FLAG_PAY='1' THEN 'REFUNDED' WHEN a.EU_STATUS='9' THEN 'CANCELLED' "
        "WHEN a.EU_STATUS='0' THEN 'BOOKED' ELSE 'PAID' END"
    )

    def orders(self, connection: Connection, numbers: Collection[str]) -> Iterable[HisOrder]:
        rows = _rows(
            connection,
            f"SELECT a.*, {self._STATE} AS state FROM SCH_APPT a WHERE a.ORDERID_EXT IN :numbers AND a.DEL_FLAG='0'",
            numbers=numbers,
        )
        money = _by(
            _rows(
                connection,
                "SELECT p.PK_SCHAPPT AS appt, s.*, (SELECT SUM(d.AMOUNT) FROM BL_DEPOSIT d WHERE d.PK_SETTLE=s.PK_SETTLE) "
                "AS deposited, (SELECT SUM(d.AMOUNT) FROM BL_DEPOSIT d WHERE d.PK_SETTLE=s.PK_SETTLE AND "
                "d.DT_PAYMODE<>'9') AS cash FROM BL_SETTLE s JOIN PV_ENCOUNTER p ON p.PK_PV=s.PK_PV JOIN SCH_APPT a "
                "ON a.PK_SCHAPPT=p.PK_SCHAPPT WHERE a.ORDERID_EXT IN :numbers",
                numbers=numbers,
            ),
            "appt",
        )
        external = _by(
            _rows(
                connection,
                "SELECT * FROM BL_EXT_PAY WHERE SERIAL_NO IN :numbers AND FLAG_PAY='1' AND DEL_FLAG='0'",
                numbers=numbers,
            ),
            "SERIAL_NO",
        )
        insured = _by(
            _rows(
                connection,
                "SELECT a.PK_SCHAPPT AS appt, i.EU_STATUS='0' AS stands FROM INS_QGYB_ST i JOIN PV_ENCOUNTER p "
                "ON p.PK_PV=i.PK_PV JOIN SCH_APPT a ON a.PK_SCHAPPT=p.PK_SCHAPPT WHERE a.ORDERID_EXT IN :numbers",
                numbers=numbers,
            ),
            "appt",
        )
        for row in rows:
            number = row["ORDERID_EXT"]
            paid = {each["PK_SETTLE"]: each for each in external[number]}
            settled = money[row["PK_SCHAPPT"]]
            plus = [each for each in settled if each["DT_STTYPE"] == "00"]
            minus = [each for each in settled if each["DT_STTYPE"] == "20"]
            yield HisOrder(
                number,
                row["PK_SCHAPPT"],
                row["state"],
                row["PK_SCH"],
                row["PK_SCHTICKET"],
                fen(row["AMOUNT"]),
                tuple(Money(paid.get(e["PK_SETTLE"], {}).get("OUT_TRADE_NO", ""), fen(e["AMOUNT_ST"])) for e in plus),
                tuple(
                    Money(paid.get(e["PK_SETTLE_CANC"], {}).get("REFUND_NO") or "", -fen(e["AMOUNT_ST"])) for e in minus
                ),
                _halves(
                    external=(len(external[number]), sum(bool(each["cash"]) for each in plus)),
                    deposits=(sum(each["deposited"] == each["AMOUNT_ST"] for each in settled), len(settled)),
                ),
                sum(fen(each["AMOUNT"]) - fen(each["AMOUNT_REFUND"] or 0) for each in external[number]),
                tuple(bool(each["stands"]) for each in insured[row["PK_SCHAPPT"]]),
            )

    def holds(self, connection: Connection, numbers: Collection[str], ahead: float) -> Iterable[HisHold]:
        rows = _rows(
            connection,
            "SELECT * FROM SCH_TICKET WHERE ID_LOCK IN :numbers AND FLAG_LOCK='1' AND FLAG_USED='0' "
            "AND DATE_LOCKEND > strftime('%Y-%m-%d %H:%M:%S', 'now', '+8 hours', :ahead)",
            numbers=numbers,
            ahead=f"{ahead:+.0f} seconds",
        )
        return [HisHold(row["ID_LOCK"], row["PK_SCH"], row["PK_SCHTICKET"]) for row in rows]

    def sessions(self, connection: Connection, only: str) -> Iterable[HisSession]:
        rows = _rows(
            connection,
            "SELECT s.PK_SCH AS id, s.CNT_USED AS counted, COUNT(t.PK_SCHTICKET) AS places, "
            "SUM(CASE t.FLAG_USED WHEN '1' THEN 1 ELSE 0 END) AS taken FROM SCH_SCH s "
            "JOIN SCH_TICKET t ON t.PK_SCH=s.PK_SCH AND t.DEL_FLAG='0' WHERE :only IN ('', s.PK_SCH) "
            "GROUP BY s.PK_SCH, s.CNT_USED",
            only=only,
        )
        return [HisSession(row["id"], row["places"], row["counted"], row["taken"]) for row in rows]

    def document_counts(self, connection: Connection, numbers: Collection[str]) -> Mapping[str, int]:
        sql = "SELECT ID_NO AS number, COUNT(*) AS n FROM PI_MASTER WHERE ID_NO IN :numbers GROUP BY ID_NO"
        return _counts(connection, sql, numbers)

    def patients(self, connection: Connection) -> list[str]:
        sql = (
            "SELECT PK_PI FROM PI_MASTER p WHERE DEL_FLAG='0' AND NOT EXISTS "
            "(SELECT 1 FROM PI_LOCK k WHERE k.PK_PI=p.PK_PI) ORDER BY CODE_PI"
        )
        return [row["PK_PI"] for row in _rows(connection, sql)]

    def person(self, connection: Connection, patient_id: str) -> tuple[str, str]:
        row = _rows(connection, "SELECT NAME_PI, ID_NO FROM PI_MASTER WHERE PK_PI=:one", one=patient_id)[0]
        return row["NAME_PI"], (row["ID_NO"] or "").upper()

    def insurable(self, connection: Connection) -> set[str]:
        sql = (
            "SELECT s.PK_SCH FROM SCH_SCH s JOIN BD_OU_DEPT d ON d.PK_DEPT=s.PK_DEPT AND d.CODE_YB<>'' AND d.CODE_CATY<>'' "
            "JOIN SCH_RESOURCE r ON r.PK_SCHRES=s.PK_SCHRES JOIN BD_OU_EMPLOYEE e ON e.PK_EMP=r.PK_EMP AND e.CODE_YB<>'' "
            "JOIN SCH_SRV v ON v.PK_SCHSRV=s.PK_SCHSRV WHERE NOT EXISTS (SELECT 1 FROM BD_ITEM i "
            "WHERE i.PK_ITEM IN (v.PK_ITEM_REG, v.PK_ITEM_DIAG) AND i.PRICE>0 AND COALESCE(i.CODE_YB, '')='')"
        )
        return {row["PK_SCH"] for row in _rows(connection, sql)}


class WinningReader:
    """A counter on the session; a registration and a settlement for each payment, red rows for each refund."""

    _STATE = (
        "CASE WHEN y.jlzt=2 THEN 'CANCELLED' WHEN y.jlzt=0 THEN 'BOOKED' "
        "WHEN EXISTS (SELECT 1 FROM his.vw_ghzdk z WHERE z.yyxh=y.xh AND z.jlzt=1 AND z.txh IS NULL) THEN 'REFUNDED' "
        "ELSE 'PAID' END"
    )

    def orders(self, connection: Connection, numbers: Collection[str]) -> Iterable[HisOrder]:
        rows = _rows(
            connection,
            f"SELECT y.*, {self._STATE} AS state FROM his.gh_ghyyk y WHERE y.kfsdm='160' AND y.wbddh IN :numbers",
            numbers=numbers,
        )
        settled = _by(_rows(connection, "SELECT * FROM his.vw_brjsk WHERE wbddh IN :numbers", numbers=numbers), "wbddh")
        registered = _by(
            _rows(
                connection,
                "SELECT z.* FROM his.vw_ghzdk z JOIN his.gh_ghyyk y ON y.xh=z.yyxh WHERE y.wbddh IN :numbers",
                numbers=numbers,
            ),
            "yyxh",
        )
        insured = _by(
            _rows(
                connection,
                "SELECT b.yyxh, b.jlzt FROM his.yb_gbjsk b JOIN his.gh_ghyyk y ON y.xh=b.yyxh WHERE y.wbddh IN :numbers",
                numbers=numbers,
            ),
            "yyxh",
        )
        for row in rows:
            mine = settled[row["wbddh"]]
            plus = [each for each in mine if each["tsjh"] is None]
            minus = [each for each in mine if each["tsjh"] is not None]
            plain = [each for each in registered[row["xh"]] if each["txh"] is None]
            red = [each for each in registered[row["xh"]] if each["txh"] is not None]
            yield HisOrder(
                row["wbddh"],
                str(row["xh"]),
                row["state"],
                str(row["pbmxid"]),
                f"{row['pbmxid']}#{row['yyhx']}",
                fen(row["djje"]),
                tuple(Money(each["zph"] or "", fen(each["zje"])) for each in plus),
                tuple(Money(each["tkdh"] or "", -fen(each["zje"])) for each in minus),
                _halves(
                    registrations=(len(plain), len(plus)),
                    red_rows=(len(red), len(minus)),
                    unfinished=(sum(each["jlzt"] == 9 for each in plain), 0),
                ),
                sum(fen(each["zpje"]) for each in mine),
                tuple(each["jlzt"] == 0 for each in insured[row["xh"]]),
            )

    def holds(self, connection: Connection, numbers: Collection[str], ahead: float) -> Iterable[HisHold]:
        rows = _rows(
            connection,
            "SELECT * FROM his.gh_yy_sdk WHERE ddh IN :numbers AND zt=0 AND sxsj > his.fn_rq16(his.fn_dqsj())",
            numbers=numbers,
        )
        return [HisHold(row["ddh"], str(row["pbmxid"]), f"{row['pbmxid']}#{row['hx']}") for row in rows]

    def sessions(self, connection: Connection, only: str) -> Iterable[HisSession]:
        rows = _rows(
            connection,
            "SELECT p.pbmxid AS id, p.zgh AS places, p.ygh AS counted, "
            "(SELECT COUNT(*) FROM his.gh_yy_sdk k WHERE k.pbmxid=p.pbmxid AND k.zt=0) + "
            "(SELECT COUNT(*) FROM his.gh_ghyyk y WHERE y.pbmxid=p.pbmxid AND y.jlzt=0) + "
            "(SELECT COUNT(*) FROM his.vw_ghzdk z WHERE z.pbmxid=p.pbmxid AND z.jlzt=0 AND z.txh IS NULL) AS taken "
            "FROM his.gh_yy_pbzbmx p WHERE :only IN ('', CAST(p.pbmxid AS varchar))",
            only=only,
        )
        return [HisSession(str(row["id"]), row["places"], row["counted"], row["taken"]) for row in rows]

    def document_counts(self, connection: Connection, numbers: Collection[str]) -> Mapping[str, int]:
        sql = "SELECT sfzh AS number, COUNT(*) AS n FROM his.sf_brxxk WHERE sfzh IN :numbers GROUP BY sfzh"
        return _counts(connection, sql, numbers)

    def patients(self, connection: Connection) -> list[str]:
        sql = (
            "SELECT patid FROM his.sf_brxxk b WHERE jlzt=0 AND NOT EXISTS "
            "(SELECT 1 FROM his.gh_yy_hmd h WHERE h.patid=b.patid) ORDER BY patid"
        )
        return [str(row["patid"]) for row in _rows(connection, sql)]

    def person(self, connection: Connection, patient_id: str) -> tuple[str, str]:
        sql = "SELECT trim(hzxm) AS name, sfzh FROM his.sf_brxxk WHERE patid=:one"
        row = _rows(connection, sql, one=int(patient_id))[0]
        return row["name"], (row["sfzh"] or "").upper()

    def insurable(self, connection: Connection) -> set[str]:
        sql = (
            "SELECT p.pbmxid FROM his.gh_yy_pbzbmx p JOIN his.yy_ksbmk k ON k.id=p.ksdm AND k.ybksbm<>'' AND k.ybkb<>'' "
            "JOIN his.yy_zgbmk g ON g.id=p.ysdm AND g.ybysbm<>'' JOIN his.gh_yy_hbk h ON h.ghlb=p.ghlb WHERE NOT EXISTS "
            "(SELECT 1 FROM his.yy_sfxxmk m WHERE m.id IN (h.ghfxm, h.zlfxm) AND COALESCE(m.dydm, '')='' "
            "AND CASE WHEN m.id=h.ghfxm THEN p.ghf ELSE p.zlf END > 0)"
        )
        return {str(row["pbmxid"]) for row in _rows(connection, sql)}


def _receipts(payments: Iterable[Row]) -> tuple[Money, ...]:
    """One for each receipt: all ways of paying together (医保 is 9), under the number that the payment house knows."""
    by_receipt = _by(payments, "MZXH")
    return tuple(
        Money(
            next((each["FKHM"] or "" for each in rows if each["FKFS"] != 9), ""),
            sum(fen(each["FKJE"]) for each in rows),
        )
        for rows in by_receipt.values()
    )


class BsoftReader:
    """A counter on the session, a 号源 row as hold and order; a registration, a receipt and a payment each."""

    _ID = "CONCAT_WS('.', DATE_FORMAT({0}, '%Y%m%d'), {1}, {2}, {3})"
    _STATE = (
        "CASE WHEN y.GHBZ = 9 THEN 'CANCELLED' WHEN y.SBXH IS NULL THEN 'BOOKED' "
        "WHEN (SELECT x.THBZ FROM MS_GHMX x WHERE x.SBXH = y.SBXH) = 1 THEN 'REFUNDED' ELSE 'PAID' END"
    )

    def orders(self, connection: Connection, numbers: Collection[str]) -> Iterable[HisOrder]:
        session = self._ID.format("h.HYSJ", "h.HYKS", "h.HYYS", "h.ZBLB")
        rows = _rows(
            connection,
            f"SELECT h.DDH, h.HYXH, h.ZFJE, y.YYXH, y.JZXH, {session} AS session, {self._STATE} AS state, "
            "(SELECT COUNT(*) FROM MS_GHMX x WHERE x.HYXH = h.HYXH) AS registrations, "
            "(SELECT COUNT(*) FROM MS_THMX t JOIN MS_GHMX x ON x.SBXH = t.SBXH WHERE x.HYXH = h.HYXH) AS returns "
            "FROM MS_YYGHHY h JOIN MS_YYGH y ON y.ZCID = h.HYXH WHERE h.SOURCE = 160 AND h.DDH IN :numbers",
            numbers=numbers,
        )
        paid = _by(
            _rows(
                connection,
                "SELECT x.HYXH, f.MZXH, f.FKFS, f.FKJE, f.FKHM FROM MS_FKXX f JOIN MS_MZXX c ON c.MZXH = f.MZXH "
                "JOIN MS_GHMX x ON x.SBXH = c.GHGL JOIN MS_YYGHHY h ON h.HYXH = x.HYXH "
                "WHERE h.DDH IN :numbers AND f.FKFS <> 98",
                numbers=numbers,
            ),
            "HYXH",
        )
        insured = _by(
            _rows(
                connection,
                "SELECT x.HYXH, NOT EXISTS (SELECT 1 FROM YB_GHJS u WHERE u.YXSH = i.JSXH AND u.JSLX = 2) AS stands "
                "FROM YB_GHJS i JOIN MS_GHMX x ON x.SBXH = i.SBXH JOIN MS_YYGHHY h ON h.HYXH = x.HYXH "
                "WHERE i.JSLX = 1 AND h.DDH IN :numbers",
                numbers=numbers,
            ),
            "HYXH",
        )
        for row in rows:
            mine = paid[row["HYXH"]]
            plus = _receipts(each for each in mine if each["FKJE"] > 0)
            minus = _receipts({**each, "FKJE": -each["FKJE"]} for each in mine if each["FKJE"] < 0)
            yield HisOrder(
                row["DDH"],
                str(row["YYXH"]),
                row["state"],
                row["session"],
                f"{row['session']}#{row['JZXH']}",
                fen(row["ZFJE"]),
                plus,
                minus,
                _halves(registrations=(row["registrations"], len(plus)), returns=(row["returns"], len(minus))),
                sum(fen(each["FKJE"]) for each in mine if each["FKFS"] != 9),
                tuple(bool(each["stands"]) for each in insured[row["HYXH"]]),
            )

    def holds(self, connection: Connection, numbers: Collection[str], ahead: float) -> Iterable[HisHold]:
        session = self._ID.format("HYSJ", "HYKS", "HYYS", "ZBLB")
        rows = _rows(
            connection,
            f"SELECT DDH, {session} AS session, SDXH FROM MS_YYGHHY WHERE DDH IN :numbers AND HYZT = '1' "
            "AND DDSJ > DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 470 MINUTE, '%Y-%m-%d %H:%i:%s')",
            numbers=numbers,
        )
        return [HisHold(row["DDH"], row["session"], f"{row['session']}#{row['SDXH']}") for row in rows]

    def sessions(self, connection: Connection, only: str) -> Iterable[HisSession]:
        session = self._ID.format("p.GZRQ", "p.KSDM", "COALESCE(p.YPYS, p.YSDM)", "p.ZBLB")
        held = self._ID.format("h.HYSJ", "h.HYKS", "h.HYYS", "h.ZBLB")
        taken = {
            row["id"]: row["n"]
            for row in _rows(
                connection,
                f"SELECT {held} AS id, COUNT(*) AS n FROM MS_YYGHHY h WHERE h.HYZT IN ('1', '2') "
                f"AND :only IN ('', {held}) GROUP BY {held}",
                only=only,
            )
        }
        sql = (
            f"SELECT {session} AS id, p.YYXE AS places, p.YYRS AS counted FROM MS_YSPB p WHERE :only IN ('', {session})"
        )
        rows = _rows(connection, sql, only=only)
        return [HisSession(row["id"], row["places"], row["counted"], taken.get(row["id"], 0)) for row in rows]

    def document_counts(self, connection: Connection, numbers: Collection[str]) -> Mapping[str, int]:
        sql = "SELECT SFZH AS number, COUNT(*) AS n FROM MS_BRDA WHERE SFZH IN :numbers GROUP BY SFZH"
        return _counts(connection, sql, numbers)

    def patients(self, connection: Connection) -> list[str]:
        sql = (
            "SELECT BRID FROM MS_BRDA b WHERE ZXBZ = 0 AND NOT EXISTS "
            "(SELECT 1 FROM MS_YYXZ x WHERE x.BRID = b.BRID) ORDER BY BRID"
        )
        return [str(row["BRID"]) for row in _rows(connection, sql)]

    def person(self, connection: Connection, patient_id: str) -> tuple[str, str]:
        row = _rows(connection, "SELECT BRXM, SFZH FROM MS_BRDA WHERE BRID = :one", one=int(patient_id))[0]
        return row["BRXM"].strip(), (row["SFZH"] or "").upper()

    def insurable(self, connection: Connection) -> set[str]:
        session = self._ID.format("p.GZRQ", "p.KSDM", "COALESCE(p.YPYS, p.YSDM)", "p.ZBLB")
        sql = (
            f"SELECT {session} AS id FROM MS_YSPB p JOIN MS_GHKS k ON k.KSDM = p.KSDM JOIN MS_GHKS m ON m.KSDM = k.MZKS "
            "AND m.YBKS <> '' AND m.YBKB <> '' JOIN GY_YGDM g ON g.YGDM = p.YSDM AND g.YBBM <> '' WHERE NOT EXISTS "
            "(SELECT 1 FROM GY_YLSF f WHERE f.FYXH IN (k.GHXM, k.ZLXM) AND COALESCE(f.YBBM, '') = '' "
            "AND CASE WHEN f.FYXH = k.GHXM THEN k.GHF ELSE k.ZLF END > 0)"
        )
        return {row["id"] for row in _rows(connection, sql)}


READERS: Mapping[str, Reader] = {"zebone": ZeboneReader(), "winning": WinningReader(), "bsoft": BsoftReader()}
