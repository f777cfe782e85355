"""Persons, visits and fee lines of the simulated 医保 platform."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from his_db.money import AmountError, fen_of_yuan, yuan_of_fen
from his_db.simulated.insurance_wire import AREA, Refused
from his_db.simulator_book import Book

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS person (
      psn_no TEXT PRIMARY KEY, name TEXT NOT NULL, certno TEXT NOT NULL, token TEXT NOT NULL, insutype TEXT NOT NULL,
      area TEXT NOT NULL, balance INTEGER NOT NULL, status TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS visit (
      mdtrt_id TEXT PRIMARY KEY, psn_no TEXT NOT NULL, ipt_otp_no TEXT NOT NULL, insutype TEXT NOT NULL,
      begntime TEXT NOT NULL, state TEXT NOT NULL, uploads INTEGER NOT NULL, msgid TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS fee (
      mdtrt_id TEXT NOT NULL, feedetl_sn TEXT NOT NULL, batch TEXT NOT NULL, amount INTEGER NOT NULL,
      covered INTEGER NOT NULL, setl_id TEXT NOT NULL, PRIMARY KEY (mdtrt_id, feedetl_sn))""",
)
PERSONS: Final = (
    ("44030000000000000001", "张三", "11010519491231002X", "TOKEN1", "310", AREA, 100_000, "1"),
    ("44030000000000000002", "李四", "440524188001010014", "TOKEN2", "390", AREA, 0, "1"),
    ("44010000000000000003", "王五", "44030019000101123X", "TOKEN3", "310", "440100", 500, "1"),
    ("44030000000000000004", "赵六", "110101199003074258", "TOKEN4", "310", AREA, 0, "2"),
)
_CERTIFICATES: Final = {"01": "token", "02": "certno", "03": "certno"}
# A service item's code may carry the province's behind a dash: 001102000010000-110200001.
_CODE: Final = re.compile(r"[0-9A-Z]{9,30}(-[0-9A-Z]{1,19})?")
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "2201": ("psn_no", "insutype", "begntime", "mdtrt_cert_type", "mdtrt_cert_no", "ipt_otp_no", "atddr_no", "dr_name",
             "dept_code", "dept_name", "caty"),
    "2202": ("psn_no", "mdtrt_id", "ipt_otp_no"),
    "2203A": ("mdtrt_id", "psn_no", "med_type", "begntime"),
    "2204": ("feedetl_sn", "mdtrt_id", "psn_no", "chrg_bchno", "fee_ocur_time", "med_list_codg", "medins_list_codg",
             "det_item_fee_sumamt", "cnt", "pric", "bilg_dept_codg", "bilg_dept_name", "bilg_dr_codg", "bilg_dr_name",
             "hosp_appr_flag"),
    "2205": ("mdtrt_id", "chrg_bchno", "psn_no"),
}  # fmt: skip


class SimulatedVisits:
    """All methods run inside a transaction of the book. Raise Refused."""

    def __init__(self, book: Book) -> None:
        self.book = book
        for row in PERSONS:
            self.book.run("INSERT OR IGNORE INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)

    def person(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """1101, by the credential."""
        data = node(given, "data", ("mdtrt_cert_type", "mdtrt_cert_no"))
        column = _CERTIFICATES.get(data["mdtrt_cert_type"], "psn_no")
        row = self.book.one(f"SELECT * FROM person WHERE {column} = ?", data["mdtrt_cert_no"])  # noqa: S608 - ours
        if row is None or data.get("certno") not in {"", None, row["certno"]}:
            raise Refused("未查询到人员参保信息")
        suspended = {**_insurance(row), "insutype": "390", "psn_insu_stas": "2", "balc": "0.00"}
        return {
            "baseinfo": {
                "psn_no": row["psn_no"],
                "psn_cert_type": "01",
                "certno": row["certno"],
                "psn_name": row["name"],
                "gend": "1",
                "naty": "01",
                "brdy": "1949-12-31",
                "age": "76.2",
            },
            "insuinfo": [suspended, _insurance(row)] if row["status"] == "1" else [_insurance(row)],
            "idetinfo": [],
        }

    def open(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """2201."""
        data = node(given, "data", _NEEDED["2201"])
        person = self.insured(data["psn_no"], given)
        if person["status"] != "1":
            raise Refused("参保状态不正常，不能享受医保待遇")
        if self.book.one(
            "SELECT 1 AS n FROM visit WHERE psn_no = ? AND ipt_otp_no = ? AND state = 'OPEN'",
            data["psn_no"],
            data["ipt_otp_no"],
        ):
            raise Refused("该门诊号已登记")
        mdtrt_id = f"{secrets.randbelow(10**9):09d}"
        self.book.insert(
            "visit",
            {
                "mdtrt_id": mdtrt_id,
                "psn_no": data["psn_no"],
                "ipt_otp_no": data["ipt_otp_no"],
                "insutype": data["insutype"],
                "begntime": data["begntime"],
                "state": "OPEN",
                "uploads": 0,
                "msgid": given["msgid"],
            },
        )
        return {"data": {"mdtrt_id": mdtrt_id, "psn_no": data["psn_no"], "ipt_otp_no": data["ipt_otp_no"]}}

    def cancel(self, given: Mapping[str, Any]) -> None:
        """2202."""
        data = node(given, "data", _NEEDED["2202"])
        visit = self.book.one("SELECT * FROM visit WHERE mdtrt_id = ?", data["mdtrt_id"])
        if visit is None or visit["psn_no"] != data["psn_no"] or visit["ipt_otp_no"] != data["ipt_otp_no"]:
            raise Refused("就诊信息不存在")
        if visit["state"] != "OPEN":
            raise Refused("就诊信息已撤销")
        if self.book.one("SELECT 1 AS n FROM settlement WHERE mdtrt_id = ? AND state = 'SETTLED'", data["mdtrt_id"]):
            raise Refused("存在有效结算，不允许撤销挂号")
        if self.book.one("SELECT 1 AS n FROM fee WHERE mdtrt_id = ? AND setl_id = ''", data["mdtrt_id"]):
            raise Refused("存在未撤销的费用明细，不允许撤销挂号")
        self.book.run("UPDATE visit SET state = 'CANCELLED' WHERE mdtrt_id = ?", data["mdtrt_id"])

    def upload(self, given: Mapping[str, Any]) -> None:
        """2203A."""
        data = node(given, "mdtrtinfo", _NEEDED["2203A"])
        visit = self.visit(data)
        lines = given["input"].get("diseinfo")
        needed = {"diag_type", "diag_srt_no", "diag_code", "diag_name", "diag_dept", "dise_dor_no", "diag_time"}
        if (
            not isinstance(lines, list)
            or not lines
            or any(not all(line.get(name) for name in needed) for line in lines)
        ):
            raise Refused("诊断信息不完整")
        self.book.run("UPDATE visit SET uploads = uploads + 1 WHERE mdtrt_id = ?", visit["mdtrt_id"])

    def fees(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """2204."""
        lines = given["input"].get("feedetail")
        if not isinstance(lines, list) or not lines:
            raise Refused("费用明细不能为空")
        results = []
        for line in lines:
            check(line, _NEEDED["2204"])
            visit = self.visit(line)
            if not visit["uploads"]:
                raise Refused("请先上传就诊信息")
            results.append(self._fee(line))
        return {"result": results}

    def _fee(self, line: Mapping[str, Any]) -> dict[str, Any]:
        amount, count, price = (fen(line, name) for name in ("det_item_fee_sumamt", "cnt", "pric"))
        if amount <= 0 or abs(count * price - amount * 100) > 100:
            raise Refused("明细项目费用总额与单价数量不符")
        if _CODE.fullmatch(line["med_list_codg"]) is None:
            raise Refused("医疗目录编码不正确")
        number = (line["mdtrt_id"], line["feedetl_sn"])
        if self.book.one("SELECT 1 AS n FROM fee WHERE mdtrt_id = ? AND feedetl_sn = ?", *number):
            raise Refused("费用明细流水号重复上传")
        covered = amount if line["med_list_codg"].startswith("0") else 0
        self.book.run("INSERT INTO fee VALUES (?, ?, ?, ?, ?, '')", *number, line["chrg_bchno"], amount, covered)
        return {
            "feedetl_sn": line["feedetl_sn"],
            "det_item_fee_sumamt": yuan_of_fen(amount),
            "cnt": line["cnt"],
            "pric": line["pric"],
            "pric_uplmt_amt": "0.00",
            "selfpay_prop": "0.0",
            "fulamt_ownpay_amt": yuan_of_fen(amount - covered),
            "overlmt_amt": "0.00",
            "preselfpay_amt": "0.00",
            "inscp_scp_amt": yuan_of_fen(covered),
            "chrgitm_lv": "01" if covered else "03",
            "med_chrgitm_type": "01",
        }

    def take_back(self, given: Mapping[str, Any]) -> None:
        """2205."""
        data = node(given, "data", _NEEDED["2205"])
        self.visit(data)
        every = data["chrg_bchno"] == "0000"
        changed = self.book.run(
            "DELETE FROM fee WHERE mdtrt_id = ? AND setl_id = '' AND (? OR batch = ?)",
            data["mdtrt_id"],
            every,
            data["chrg_bchno"],
        )
        if not changed:
            raise Refused("费用明细不存在或已撤销")

    def find(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """5201."""
        data = node(given, "data", ("psn_no", "begntime", "endtime"))
        rows = self.book.all(
            "SELECT * FROM visit WHERE psn_no = ? AND begntime BETWEEN ? AND ? AND state = 'OPEN' ORDER BY rowid",
            data["psn_no"],
            data["begntime"],
            data["endtime"],
        )
        names = ("mdtrt_id", "psn_no", "ipt_otp_no", "insutype", "begntime")
        return {"mdtrtinfo": [{name: row[name] for name in names} for row in rows]}

    def find_fees(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """5204."""
        data = node(given, "data", ("psn_no", "mdtrt_id"))
        rows = self.book.all("SELECT * FROM fee WHERE mdtrt_id = ? ORDER BY feedetl_sn", data["mdtrt_id"])
        wanted = data.get("setl_id")
        return {
            "feedetail": [
                {
                    "feedetl_sn": row["feedetl_sn"],
                    "chrg_bchno": row["batch"],
                    "det_item_fee_sumamt": yuan_of_fen(row["amount"]),
                    "setl_id": row["setl_id"],
                }
                for row in rows
                if not wanted or row["setl_id"] == wanted
            ]
        }

    def insured(self, psn_no: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The person, whose area the envelope must name."""
        row = self.book.one("SELECT * FROM person WHERE psn_no = ?", psn_no)
        if row is None:
            raise Refused("人员信息不存在")
        if row["area"] != given["insuplc_admdvs"]:
            raise Refused("参保地医保区划与参保信息不符")
        return row

    def visit(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """An open visit of the person."""
        row = self.book.one("SELECT * FROM visit WHERE mdtrt_id = ?", data.get("mdtrt_id"))
        if row is None or row["psn_no"] != data.get("psn_no"):
            raise Refused("就诊信息不存在")
        if row["state"] != "OPEN":
            raise Refused("就诊信息已撤销")
        return row


def _insurance(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "balc": yuan_of_fen(row["balance"]),
        "insutype": row["insutype"],
        "psn_type": "1101",
        "psn_insu_stas": row["status"],
        "cvlserv_flag": "0",
        "insuplc_admdvs": row["area"],
        "emp_name": "示例单位",
    }


def node(given: Mapping[str, Any], name: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """A node of the input with what it needs. Raises Refused."""
    found = given["input"].get(name) if isinstance(given["input"], dict) else None
    if not isinstance(found, dict):
        raise Refused(f"入参缺少节点{name}")
    check(found, needed)
    return found


def check(values: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    """Required fields are there, and every value is text of at most 100 characters. Raises Refused."""
    for name in needed:
        if values.get(name) in (None, ""):
            raise Refused(f"{name}不能为空")
    for name, value in values.items():
        if not isinstance(value, (str, int, float)) or len(str(value)) > 100:
            raise Refused(f"{name}不合法")


def fen(values: Mapping[str, Any], name: str) -> int:
    """An amount of a request. Raises Refused."""
    try:
        return fen_of_yuan(str(values.get(name)))
    except AmountError:
        raise Refused(f"{name}不是有效金额") from None


def day_of(moment: datetime) -> str:
    """yyyy-MM-dd."""
    return moment.strftime("%Y-%m-%d")
