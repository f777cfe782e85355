"""Mixed orders of the simulated WeChat Pay: field rules by mix_pay_type, money equations, refund notices."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from his_db.crypto import rsa
from his_db.simulated.wechat_rules import MIXED, REFUND_NOTIFY, check
from his_db.simulated.wechat_trades import Answer
from his_db.simulated.wechat_wire import PLATFORM_SERIAL, Refusal, bad
from his_db.simulator_book import Book

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS mixed (
      out_trade_no TEXT PRIMARY KEY, mix_trade_no TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, content TEXT NOT NULL,
      body TEXT NOT NULL, payer TEXT NOT NULL, state TEXT NOT NULL, cash TEXT NOT NULL, insurance TEXT NOT NULL,
      created TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS insurance_refund (
      mix_trade_no TEXT NOT NULL, out_refund_no TEXT NOT NULL, total INTEGER NOT NULL, gov INTEGER NOT NULL,
      self INTEGER NOT NULL, other INTEGER NOT NULL, told INTEGER NOT NULL,
      PRIMARY KEY (mix_trade_no, out_refund_no))""",
)
_INSURED: Final = ("pay_order_id", "pay_auth_no", "geo_location", "med_ins_order_create_time")
_FEES: Final = ("med_ins_gov_fee", "med_ins_self_fee", "med_ins_other_fee", "med_ins_cash_fee")


class SimulatedMixed:
    """All methods run inside a transaction of the book. `key`: opens what the merchant encrypts. Raise Refusal."""

    def __init__(self, book: Book, key: Any) -> None:
        self.book = book
        self._key = key

    def open(self, body: Any, headers: Mapping[str, str], now: datetime) -> Answer:
        check(body, MIXED)
        if headers.get("wechatpay-serial") != PLATFORM_SERIAL:
            raise bad("Wechatpay-Serial 与加密所用公钥不符")
        payer = self._payer(body["payer"])
        _check_kind(body)
        _check_money(body)
        content = {name: value for name, value in body.items() if name != "payer"} | {"payer": payer}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        number = body["out_trade_no"]
        if self.book.one("SELECT 1 AS n FROM mixed WHERE out_trade_no = ?", number):
            raise Refusal(400, "ALREADY_EXISTS", "订单已存在")
        if body["mix_pay_type"] != "INSURANCE_ONLY":
            self._check_cash(body)
        row = {
            "out_trade_no": number,
            "mix_trade_no": f"MIX{now:%Y%m%d%H%M%S}{digest[:12]}",
            "kind": body["mix_pay_type"],
            "content": digest,
            "body": json.dumps(body, ensure_ascii=False),
            "payer": json.dumps(payer, ensure_ascii=False),
            "state": "MIX_PAY_CREATED",
            "cash": "NO_SELF_PAY" if body["mix_pay_type"] == "INSURANCE_ONLY" else "SELF_PAY_CREATED",
            "insurance": "NO_MED_INS_PAY" if body["mix_pay_type"] == "CASH_ONLY" else "MED_INS_PAY_CREATED",
            "created": now.isoformat(),
        }
        self.book.insert("mixed", row)
        return 200, mixed_body(row)

    def query(self, key: str, number: str) -> Answer:
        column = "mix_trade_no" if key == "mix-trade-no" else "out_trade_no"
        row = self.book.one(f"SELECT * FROM mixed WHERE {column} = ?", number)  # noqa: S608 - one of two names
        if row is None:
            raise Refusal(404, "ORDER_NOT_EXIST", "未找到订单，请确认订单号是否正确")
        return 200, mixed_body(row)

    def notified(self, number: str, body: Any) -> Answer:
        """医保退款通知; the newest counts."""
        check(body, REFUND_NOTIFY)
        parts = [body[f"med_refund_{name}_fee"] for name in ("gov", "self", "other")]
        if body["med_refund_total_fee"] != sum(parts) or min(parts) < 0:
            raise Refusal(400, "RULE_LIMIT", "医保退款金额校验不通过")
        row = self.book.one("SELECT * FROM mixed WHERE mix_trade_no = ?", number)
        if row is None:
            raise Refusal(404, "ORDER_NOT_EXIST", "未找到订单，请确认订单号是否正确")
        self.book.run(
            "INSERT INTO insurance_refund VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET told = told + 1, "
            "total = excluded.total, gov = excluded.gov, self = excluded.self, other = excluded.other",
            number,
            body["out_refund_no"],
            body["med_refund_total_fee"],
            *parts,
        )
        self._set(row, insurance="MED_INS_PAY_REFUND")
        return 200, {}

    def settle(self, number: str, outcome: str) -> dict[str, Any]:
        """The patient enters his password: `outcome` is SUCCESS, FAIL, or SELF_ONLY (paid, and 医保 failed)."""
        row = self.book.one("SELECT * FROM mixed WHERE out_trade_no = ?", number)
        if row is None or row["state"] != "MIX_PAY_CREATED":
            raise ValueError("no mixed order that waits")
        paid = "SUCCESS" if outcome == "SUCCESS" else "FAIL"
        cash = "SUCCESS" if outcome in {"SUCCESS", "SELF_ONLY"} else "FAIL"
        self._set(
            row,
            state=f"MIX_PAY_{paid}",
            cash=row["cash"] if row["cash"] == "NO_SELF_PAY" else f"SELF_PAY_{cash}",
            insurance=row["insurance"] if row["insurance"] == "NO_MED_INS_PAY" else f"MED_INS_PAY_{paid}",
        )
        return mixed_body(self.book.one("SELECT * FROM mixed WHERE out_trade_no = ?", number) or {})

    def _set(self, row: Mapping[str, Any], **values: str) -> None:
        new = {**row, **values}
        parts = {new["cash"].rpartition("_")[2], new["insurance"].rpartition("_")[2]} - {"PAY"}
        if parts == {"REFUND"}:
            new["state"] = "MIX_PAY_REFUND"
        self.book.run(
            "UPDATE mixed SET state = ?, cash = ?, insurance = ? WHERE out_trade_no = ?",
            new["state"],
            new["cash"],
            new["insurance"],
            row["out_trade_no"],
        )

    def _payer(self, payer: Mapping[str, str]) -> dict[str, str]:
        try:
            opened = {name: rsa.decrypt(self._key, payer[name]) for name in ("name", "id_digest")}
        except ValueError:
            raise bad("敏感字段解密失败") from None
        if re.fullmatch(r"[0-9a-f]{32}", opened["id_digest"]) is None:
            raise bad("id_digest 不是小写 MD5")
        return opened

    def _check_cash(self, body: Mapping[str, Any]) -> None:
        trade = self.book.one("SELECT * FROM trade WHERE out_trade_no = ?", body["out_trade_no"])
        if trade is None or trade["total"] != body["wechat_pay_cash_fee"]:
            raise Refusal(400, "RULE_LIMIT", "自费预下单与混合单不一致")


def _check_kind(body: Mapping[str, Any]) -> None:
    kind = body["mix_pay_type"]
    for name in _INSURED:
        if (name in body) is (kind == "CASH_ONLY"):
            raise Refusal(400, "RULE_LIMIT", "纯自费单字段校验失败" if kind == "CASH_ONLY" else "合支付单字段校验失败")
    has_cash = body.get("wechat_pay_cash_fee", 0) > 0
    if ("prepay_id" in body) is (kind == "INSURANCE_ONLY") or has_cash is (kind == "INSURANCE_ONLY"):
        raise Refusal(400, "RULE_LIMIT", "合支付单字段校验失败")
    if kind == "CASH_ONLY" and any(body.get(name, 0) for name in _FEES):
        raise Refusal(400, "RULE_LIMIT", "纯自费单字段校验失败")
    if kind != "CASH_ONLY" and any(name not in body for name in _FEES):
        raise Refusal(400, "RULE_LIMIT", "合支付单字段校验失败")


def _check_money(body: Mapping[str, Any]) -> None:
    insured = sum(body.get(name, 0) for name in _FEES[:3])
    added = sum(item["cash_add_fee"] for item in body.get("cash_add_detail", []))
    reduced = sum(item["cash_reduce_fee"] for item in body.get("cash_reduce_detail", []))
    cash, pays, total = body.get("med_ins_cash_fee", 0), body.get("wechat_pay_cash_fee", 0), body["total_fee"]
    if total != insured + pays + reduced or total != insured + cash + added:
        raise Refusal(400, "RULE_LIMIT", "订单总金额校验不通过")
    if pays != cash + added - reduced:
        raise Refusal(400, "RULE_LIMIT", "自费金额校验不通过")


def mixed_body(row: Mapping[str, Any]) -> dict[str, Any]:
    """A mixed order as the service shows it."""
    body = json.loads(row["body"])
    body.pop("payer", None)
    return {
        **body,
        "mix_trade_no": row["mix_trade_no"],
        "mix_pay_status": row["state"],
        "self_pay_status": row["cash"],
        "med_ins_pay_status": row["insurance"],
    }
