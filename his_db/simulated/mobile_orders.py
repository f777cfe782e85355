"""Orders of the simulated mobile payment centre."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from his_db.money import AmountError, fen_of_yuan, yuan_of_fen
from his_db.simulator_book import Book

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS mobile_order (
      pay_ord_id TEXT PRIMARY KEY, med_org_ord TEXT NOT NULL UNIQUE, token TEXT NOT NULL, content TEXT NOT NULL,
      total INTEGER NOT NULL, fund INTEGER NOT NULL, account INTEGER NOT NULL, cash INTEGER NOT NULL,
      state TEXT NOT NULL, paid TEXT NOT NULL, at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS mobile_refund (
      app_refd_sn TEXT PRIMARY KEY, pay_ord_id TEXT NOT NULL, kind TEXT NOT NULL, fund INTEGER NOT NULL,
      account INTEGER NOT NULL, cash INTEGER NOT NULL, at TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "6201": (
        *("orgCodg", "medOrgOrd", "begntime", "idNo", "userName", "idType", "iptOtpNo", "deptName", "deptCode", "caty"),
        *("medType", "feeType", "feeSumamt", "acctUsedFlag", "psnSetlway", "chrgBchno", "feedetailList"),
    ),
    "6202": ("payAuthNo", "payOrdId", "payToken", "orgCodg"),
    "6203": ("payOrdId", "appRefdSn", "appRefdTime", "totlRefdAmt", "refdType"),
    "6301": ("orgCodg",),
    "6401": ("payOrdId", "orgCodg"),
}
_LINE: Final = ("feedetlSn", "chrgBchno", "medListCodg", "medinsListCodg", "detItemFeeSumamt", "cnt", "pric")
_FUND_PERCENT: Final = 70
_BALANCE: Final = 1_000  # 分; every patient's personal account, unless the setting `balance` says another one
_UNPAID: Final = frozenset({"0", "1"})
_KINDS: Final = {"ALL": "7", "CASH": "9", "HI": "8"}


class Refused(Exception):
    """The centre says no; the text is its message."""


class SimulatedOrders:
    """All methods run inside a transaction of the book. Raise Refused."""

    def __init__(self, book: Book, org_code: str) -> None:
        self.book = book
        self._org_code = org_code

    def done(self, infno: str, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """One transaction's answer."""
        for name in _NEEDED[infno]:
            if not data.get(name):
                raise Refused(f"{name}不能为空")
        if data.get("orgCodg", self._org_code) != self._org_code:
            raise Refused("机构编号不正确")
        run = {"6201": self._upload, "6202": self._pay, "6203": self._refund, "6301": self._query, "6401": self._cancel}
        return run[infno](data, now)

    def _upload(self, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        if bool(data.get("ecToken")) == bool(data.get("payAuthNo")):
            raise Refused("ecToken和payAuthNo必须且只能填一个")
        if self.setting("needs_person", "0") == "1" and not (data.get("psnNo") and data.get("insutype")):
            raise Refused("psnNo、insutype不能为空")
        if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", data["begntime"]) is None:
            raise Refused("begntime格式不正确")
        total, covered = self._lines(data)
        if total != fen(data, "feeSumamt"):
            raise Refused("明细合计与总金额不一致，金额不匹配")
        # Time and credential of a repetition are others.
        changing = {"payAuthNo", "ecToken", "chrgDate", "chrgTime", "uldLatlnt", "feedetailList"}
        same = {name: value for name, value in data.items() if name not in changing}
        content = hashlib.sha256(json.dumps([same, total], sort_keys=True, default=str).encode()).hexdigest()
        row = self.book.one("SELECT * FROM mobile_order WHERE med_org_ord = ?", data["medOrgOrd"])
        if row is not None:
            if row["content"] != content or row["state"] not in _UNPAID:
                raise Refused("院内单号已存在")
            return {"payOrdId": row["pay_ord_id"], "payToken": row["token"]}
        fund = covered * _FUND_PERCENT // 100
        balance = int(self.setting("balance", str(_BALANCE)))
        account = min(balance, total - fund) if data["acctUsedFlag"] == "1" else 0
        row = {
            "pay_ord_id": f"ORD440300{now:%Y%m%d%H%M%S}{secrets.randbelow(10**7):07d}",
            "med_org_ord": data["medOrgOrd"],
            "token": secrets.token_hex(16),
            "content": content,
            "total": total,
            "fund": fund,
            "account": account,
            "cash": total - fund - account,
            "state": self.setting("quotes", "1"),
            "paid": "",
            "at": now.isoformat(),
        }
        self.book.insert("mobile_order", row)
        return {"payOrdId": row["pay_ord_id"], "payToken": row["token"]}

    @staticmethod
    def _lines(data: Mapping[str, Any]) -> tuple[int, int]:
        total = covered = 0
        for line in data["feedetailList"]:
            for name in _LINE:
                if not line.get(name):
                    raise Refused(f"feedetailList.{name}不能为空")
            amount = fen(line, "detItemFeeSumamt")
            total += amount
            covered += amount if line["medListCodg"].startswith("0") else 0
        return total, covered

    def _pay(self, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        row = self._order(data)
        if row["token"] != data["payToken"]:
            raise Refused("payToken校验失败")
        if row["state"] in _UNPAID:
            if re.fullmatch(r"AUTH\w+", data["payAuthNo"]) is None:
                raise Refused("payAuthNo校验失败，请确认无误后重试")
            self._paid(row, now)
        elif row["state"] not in {"4", "5", "6"}:
            raise Refused("订单状态不允许支付")
        return self.shown(row)

    def _refund(self, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        row = self._order(data)
        kind = data["refdType"]
        if kind not in _KINDS or re.fullmatch(r"\d{14}", data["appRefdTime"]) is None:
            raise Refused("refdType或appRefdTime不正确")
        parts = {
            name: fen(data, f"{key}RefdAmt")
            for name, key in (("fund", "fund"), ("account", "psnAcct"), ("cash", "cash"))
        }
        if sum(parts.values()) != fen(data, "totlRefdAmt"):
            raise Refused("退款金额不一致")
        before = self.book.one("SELECT * FROM mobile_refund WHERE app_refd_sn = ?", data["appRefdSn"])
        if before is not None:
            same = before["pay_ord_id"] == row["pay_ord_id"] and before["kind"] == kind
            if not same or any(before[name] != part for name, part in parts.items()):
                raise Refused("退款流水号已被使用，金额不一致")
            return {"refStatus": "SUCC", **self.shown(row)}
        if row["state"] not in {"4", "5", "6"}:
            raise Refused("订单状态不允许退款")
        wanted = {name: row[name] if kind == "ALL" or (kind == "HI") is (name != "cash") else 0 for name in parts}
        if parts != wanted:
            raise Refused("退款金额与原结算金额不一致")
        self.book.insert(
            "mobile_refund",
            {
                "app_refd_sn": data["appRefdSn"],
                "pay_ord_id": row["pay_ord_id"],
                "kind": kind,
                **parts,
                "at": now.isoformat(),
            },
        )
        row["state"] = _KINDS[kind]
        self._put(row)
        return {"refStatus": "SUCC", **self.shown(row)}

    def _query(self, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        return self.shown(self._order(data))

    def _cancel(self, data: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        row = self._order(data)
        if row["state"] == "12":
            raise Refused("订单已撤销")
        if row["state"] not in _UNPAID:
            raise Refused("订单状态不允许撤销")
        row["state"] = "12"
        self._put(row)
        return {"success": True, "message": "撤销成功"}

    def pay_late(self, number: str, now: datetime) -> dict[str, Any]:
        """A 6202 that nobody heard of takes effect after all. Raises ValueError."""
        row = self.book.one("SELECT * FROM mobile_order WHERE pay_ord_id = ?", number)
        if row is None or row["state"] not in _UNPAID:
            raise ValueError("no order that waits for payment")
        self._paid(row, now)
        return self.shown(row)

    def _paid(self, row: dict[str, Any], now: datetime) -> None:
        row["state"] = self.setting("pay_state", "4" if row["cash"] else "6")
        row["paid"] = now.strftime("%Y%m%d%H%M%S")
        self._put(row)

    def pay_cash(self, number: str) -> dict[str, Any]:
        """The patient pays his part. Raises ValueError."""
        row = self.book.one("SELECT * FROM mobile_order WHERE pay_ord_id = ?", number)
        if row is None or row["state"] != "4":
            raise ValueError("no order that waits for cash")
        row["state"] = "6"
        self._put(row)
        return self.shown(row)

    def shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An order as the centre shows it: amounts when it is paid, and before, unless the setting `quotes` is 0."""
        found: dict[str, Any] = {
            "payOrdId": row["pay_ord_id"],
            "medOrgOrd": row["med_org_ord"],
            "ordStas": row["state"],
        }
        if row["paid"] or row["state"] == "1":
            more = 0 if row["paid"] else int(self.setting("quote_more", "0"))  # a centre that has miscounted
            found |= {
                "feeSumamt": yuan_of_fen(row["total"] + more),
                "ownPayAmt": yuan_of_fen(row["cash"] + more),
                "psnAcctPay": yuan_of_fen(row["account"]),
                "fundPay": yuan_of_fen(row["fund"]),
                "acctMulaidPay": "0.00",
                "hospPartAmt": "0.00",
            }
        if row["paid"]:
            found |= {
                "hiRgstSn": f"M{row['pay_ord_id'][-9:]}",
                "hiDocSn": f"S{row['pay_ord_id'][-9:]}",
                "traceTime": row["paid"],
                "callType": "02",
                "setlType": "ALL",
                "revsToken": secrets.token_hex(8),
            }
        return found

    def setting(self, name: str, default: str) -> str:
        """A setting of the simulator."""
        row = self.book.one("SELECT value FROM setting WHERE name = ?", name)
        return default if row is None else str(row["value"])

    def _order(self, data: Mapping[str, Any]) -> dict[str, Any]:
        row = self.book.one(
            "SELECT * FROM mobile_order WHERE pay_ord_id = ? OR (? = '' AND med_org_ord = ?)",
            data.get("payOrdId", ""),
            data.get("payOrdId", ""),
            data.get("medOrgOrd", ""),
        )
        if row is None:
            raise Refused("订单不存在")
        return row

    def _put(self, row: Mapping[str, Any]) -> None:
        self.book.run(
            "UPDATE mobile_order SET state = ?, paid = ? WHERE pay_ord_id = ?",
            row["state"],
            row["paid"],
            row["pay_ord_id"],
        )


def fen(values: Mapping[str, Any], name: str) -> int:
    """An amount of a request, 0 when it is missing. Raises Refused."""
    try:
        found = fen_of_yuan(values.get(name) or "0")
    except AmountError:
        raise Refused(f"{name}不是有效金额") from None
    if found < 0:
        raise Refused(f"{name}不能为负")
    return found
