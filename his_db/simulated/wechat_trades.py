"""Trades and refunds of the simulated WeChat Pay, as idempotent as the real ones."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from his_db.simulated.wechat_rules import CLOSE, JSAPI, REFUND, check
from his_db.simulated.wechat_wire import APPID, MCHID, Refusal
from his_db.simulator_book import Book

SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS trade (
      out_trade_no TEXT PRIMARY KEY, content TEXT NOT NULL, openid TEXT NOT NULL, total INTEGER NOT NULL,
      attach TEXT NOT NULL, state TEXT NOT NULL, prepays INTEGER NOT NULL, transaction_id TEXT NOT NULL,
      created TEXT NOT NULL, expires TEXT NOT NULL, success_time TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS refund (
      out_refund_no TEXT PRIMARY KEY, refund_id TEXT NOT NULL, out_trade_no TEXT NOT NULL, amount INTEGER NOT NULL,
      state TEXT NOT NULL, reason TEXT NOT NULL, created TEXT NOT NULL, success_time TEXT NOT NULL,
      asked INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_LIFE: Final = timedelta(hours=2)
_MAX_REFUNDS: Final = 50
Answer = tuple[int, dict[str, Any] | None]


class SimulatedTrades:
    """All methods run inside a transaction of the book. Raise Refusal."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def open(self, body: Any, now: datetime) -> Answer:
        """The same number with the same content is one trade; every call gives a new prepay_id for it."""
        check(body, JSAPI)
        if body["appid"] != APPID or body["mchid"] != MCHID:
            raise Refusal(400, "APPID_MCHID_NOT_MATCH", "appid和mchid不匹配")
        total = body["amount"]["total"]
        if total <= 0:
            raise Refusal(400, "PARAM_ERROR", "订单金额必须大于0")
        content = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        number = body["out_trade_no"]
        trade = self.trade(number, now)
        if trade is None:
            expires = body.get("time_expire") or (now + _LIFE).isoformat()
            self.book.insert(
                "trade",
                {
                    "out_trade_no": number,
                    "content": content,
                    "openid": body["payer"]["openid"],
                    "total": total,
                    "attach": body.get("attach", ""),
                    "state": "NOTPAY",
                    "prepays": 1,
                    "transaction_id": "",
                    "created": now.isoformat(),
                    "expires": expires,
                    "success_time": "",
                },
            )
        elif trade["state"] == "CLOSED":
            raise Refusal(400, "ORDER_CLOSED", "订单已关闭")
        elif trade["state"] != "NOTPAY":
            raise Refusal(400, "ORDERPAID", "该订单已支付")
        elif trade["content"] != content:
            raise Refusal(403, "OUT_TRADE_NO_USED", "商户订单号重复")
        else:
            self.book.run("UPDATE trade SET prepays = prepays + 1 WHERE out_trade_no = ?", number)
        return 200, {"prepay_id": f"wx{now:%Y%m%d%H%M%S}{secrets.token_hex(8)}"}

    def trade(self, number: str, now: datetime) -> dict[str, Any] | None:
        """A trade as it is now: one whose time is over is closed."""
        trade = self.book.one("SELECT * FROM trade WHERE out_trade_no = ?", number)
        if trade and trade["state"] == "NOTPAY" and now >= datetime.fromisoformat(trade["expires"]):
            self.book.run("UPDATE trade SET state = 'CLOSED' WHERE out_trade_no = ?", number)
            trade["state"] = "CLOSED"
        return trade

    def query(self, key: str, number: str, now: datetime) -> Answer:
        """By out-trade-no or id."""
        if key == "id":
            found = self.book.one("SELECT out_trade_no FROM trade WHERE transaction_id = ?", number)
            number = "" if found is None else found["out_trade_no"]
        trade = self.trade(number, now)
        if trade is None:
            raise Refusal(404, "ORDER_NOT_EXIST", "订单不存在")
        return 200, trade_body(trade)

    def close(self, number: str, body: Any, now: datetime) -> Answer:
        """Closing twice is closing once."""
        check(body, CLOSE)
        trade = self.trade(number, now)
        if trade is None:
            raise Refusal(404, "ORDER_NOT_EXIST", "订单不存在")
        if trade["state"] in {"SUCCESS", "REFUND"}:
            raise Refusal(400, "ORDERPAID", "该订单已支付")
        self.book.run("UPDATE trade SET state = 'CLOSED' WHERE out_trade_no = ?", number)
        return 204, None

    def pay(self, number: str, now: datetime) -> dict[str, Any]:
        """The patient pays: what the client does after wx.requestPayment. Raises ValueError when it cannot be paid."""
        trade = self.trade(number, now)
        if trade is None or trade["state"] != "NOTPAY":
            raise ValueError(f"cannot be paid: {trade['state'] if trade else 'no such trade'}")
        transaction = f"42000{now:%Y%m%d}{secrets.randbelow(10**14):014d}"
        self.book.run(
            "UPDATE trade SET state = 'SUCCESS', transaction_id = ?, success_time = ? WHERE out_trade_no = ?",
            transaction,
            now.isoformat(timespec="seconds"),
            number,
        )
        return trade_body(self.trade(number, now) or {})

    def refund(self, body: Any, now: datetime) -> Answer:
        """The same out_refund_no is one refund, whatever happened to the answers."""
        check(body, REFUND)
        number, amount = body["out_refund_no"], body["amount"]
        before = self.book.one("SELECT * FROM refund WHERE out_refund_no = ?", number)
        trade = self._refundable(body, now)
        if amount["total"] != trade["total"]:
            raise Refusal(400, "INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
        if before is not None:
            if before["out_trade_no"] != trade["out_trade_no"] or before["amount"] != amount["refund"]:
                raise Refusal(400, "INVALID_REQUEST", "订单金额或退款金额与之前请求不一致，请核实后再试")
            return 200, self._refund_body(before, trade)
        self._check_amount(amount["refund"], trade)
        refund = {
            "out_refund_no": number,
            "refund_id": f"50300{now:%Y%m%d}{secrets.randbelow(10**14):014d}",
            "out_trade_no": trade["out_trade_no"],
            "amount": amount["refund"],
            "state": "PROCESSING",
            "reason": body.get("reason", ""),
            "created": now.isoformat(timespec="seconds"),
            "success_time": "",
            "asked": 0,
        }
        self.book.insert("refund", refund)
        self.book.run("UPDATE trade SET state = 'REFUND' WHERE out_trade_no = ?", trade["out_trade_no"])
        return 200, self._refund_body(refund, trade)

    def _refundable(self, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        if not {"transaction_id", "out_trade_no"} & body.keys():
            raise Refusal(400, "PARAM_ERROR", "transaction_id和out_trade_no至少填一个")
        key = "out_trade_no" if "out_trade_no" in body else "transaction_id"
        trade = self.book.one(f"SELECT * FROM trade WHERE {key} = ?", body[key])  # noqa: S608 - one of two names
        if trade is None:
            raise Refusal(404, "RESOURCE_NOT_EXISTS", "订单不存在")
        if trade["state"] not in {"SUCCESS", "REFUND"}:
            raise Refusal(400, "INVALID_REQUEST", "订单未支付，不能退款")
        return trade

    def _check_amount(self, wanted: int, trade: Mapping[str, Any]) -> None:
        rows = self.book.all(
            "SELECT amount FROM refund WHERE out_trade_no = ? AND state != 'CLOSED'", trade["out_trade_no"]
        )
        done = sum(row["amount"] for row in rows)
        if done >= trade["total"]:
            raise Refusal(400, "INVALID_REQUEST", "订单已全额退款")
        if wanted <= 0 or done + wanted > trade["total"]:
            raise Refusal(400, "INVALID_REQUEST", "退款金额大于订单可退金额")
        if len(rows) >= _MAX_REFUNDS:
            raise Refusal(400, "INVALID_REQUEST", "退款次数超过限制")

    def query_refund(self, number: str, now: datetime) -> Answer:
        """What is PROCESSING comes to its end (setting `refund_result`) once it has been asked for."""
        refund = self.book.one("SELECT * FROM refund WHERE out_refund_no = ?", number)
        if refund is None:
            raise Refusal(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
        result = self.setting("refund_result", "SUCCESS")
        if refund["state"] == "PROCESSING" and result != "PROCESSING":
            refund["state"] = result
            refund["success_time"] = now.isoformat(timespec="seconds") if result == "SUCCESS" else ""
        self.book.run(
            "UPDATE refund SET state = ?, success_time = ?, asked = asked + 1 WHERE out_refund_no = ?",
            refund["state"],
            refund["success_time"],
            number,
        )
        trade = self.book.one("SELECT * FROM trade WHERE out_trade_no = ?", refund["out_trade_no"])
        return 200, self._refund_body(refund, trade or {})

    def setting(self, name: str, default: str) -> str:
        """A setting of the simulator."""
        row = self.book.one("SELECT value FROM setting WHERE name = ?", name)
        return default if row is None else str(row["value"])

    def _refund_body(self, refund: Mapping[str, Any], trade: Mapping[str, Any]) -> dict[str, Any]:
        body = {
            "refund_id": refund["refund_id"],
            "out_refund_no": refund["out_refund_no"],
            "transaction_id": trade["transaction_id"],
            "out_trade_no": refund["out_trade_no"],
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": refund["created"],
            "status": refund["state"],
            "amount": {
                "total": trade["total"],
                "refund": refund["amount"],
                "payer_total": trade["total"],
                "payer_refund": refund["amount"],
                "settlement_refund": refund["amount"],
                "settlement_total": trade["total"],
                "discount_refund": 0,
                "currency": "CNY",
            },
        }
        if refund["success_time"]:
            body["success_time"] = refund["success_time"]
        return body


def trade_body(trade: Mapping[str, Any]) -> dict[str, Any]:
    """A trade as the service shows it; one that is not paid has neither amount nor payer."""
    body: dict[str, Any] = {
        "appid": APPID,
        "mchid": MCHID,
        "out_trade_no": trade["out_trade_no"],
        "trade_state": trade["state"],
        "trade_state_desc": trade["state"],
        "attach": trade["attach"],
    }
    if trade["transaction_id"]:
        body |= {
            "transaction_id": trade["transaction_id"],
            "trade_type": "JSAPI",
            "bank_type": "OTHERS",
            "success_time": trade["success_time"],
            "payer": {"openid": trade["openid"]},
            "amount": {
                "total": trade["total"],
                "payer_total": trade["total"],
                "currency": "CNY",
                "payer_currency": "CNY",
            },
        }
    return body
