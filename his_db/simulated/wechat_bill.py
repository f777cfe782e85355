"""The trade bill of the simulated WeChat Pay, made from its book."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from his_db.money import yuan_of_fen
from his_db.simulated.wechat_wire import APPID, MCHID, Refusal
from his_db.simulator_book import Book

_HEADING: Final = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"
    "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
)
_TOTALS: Final = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
_RATE_HUNDRED_THOUSANDTHS: Final = 600  # 0.6 %


def bill_of(book: Book, day: date, kind: str, now: datetime) -> bytes:
    """The file of a day. Raises Refusal while it is not made, and for a day without a trade."""
    if now < datetime.combine(day + timedelta(days=1), time(9), now.tzinfo):
        raise Refusal(400, "STATEMENT_CREATING", "请求的账单正在生成中，请稍后再试")
    rows = [row for row in _rows(book, day.isoformat()) if kind in {"ALL", row["state"]}]
    if not rows:
        raise Refusal(400, "NO_STATEMENT_EXIST", "请求的账单文件不存在")
    lines = [_HEADING, *(_line(row) for row in rows), _TOTALS, _totals(rows)]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8-sig")


def packed(plain: bytes) -> tuple[bytes, str]:
    """The file as it is downloaded, and the SHA-1 of what is in it."""
    return gzip.compress(plain, mtime=0), hashlib.sha1(plain, usedforsecurity=False).hexdigest()


def _rows(book: Book, day: str) -> Iterator[dict[str, Any]]:
    for trade in book.all("SELECT * FROM trade WHERE success_time LIKE ? ORDER BY success_time", f"{day}%"):
        yield {**trade, "state": "SUCCESS", "at": trade["success_time"], "amount": trade["total"], "refund": None}
    query = "SELECT r.*, t.transaction_id, t.openid, t.total, t.attach FROM refund r JOIN trade t USING (out_trade_no)"
    for refund in book.all(f"{query} WHERE r.created LIKE ? ORDER BY r.created", f"{day}%"):
        yield {**refund, "state": "REFUND", "at": refund["created"], "amount": 0, "refund": refund}


def _fee(row: Mapping[str, Any]) -> int:
    base = row["total"] if row["refund"] is None else -row["refund"]["amount"]
    return int(base) * _RATE_HUNDRED_THOUSANDTHS // 100


def _fee_text(fee: int) -> str:
    sign = "-" if fee < 0 else ""
    return f"{sign}{abs(fee) // 100_000}.{abs(fee) % 100_000:05d}"


def _line(row: Mapping[str, Any]) -> str:
    refund = row["refund"]
    back = yuan_of_fen(refund["amount"]) if refund else "0.00"
    values = [
        datetime.fromisoformat(row["at"]).strftime("%Y-%m-%d %H:%M:%S"),
        *(APPID, MCHID, "0", "", row["transaction_id"], row["out_trade_no"], row["openid"], "JSAPI", row["state"]),
        *("OTHERS", "CNY", yuan_of_fen(row["amount"]), "0.00"),
        *((refund["refund_id"], refund["out_refund_no"]) if refund else ("0", "0")),
        *(back, "0.00", "ORIGINAL" if refund else "", ("SUCCESS" if refund else "")),
        *("挂号,内科", row["attach"], _fee_text(_fee(row)), "0.60%"),
        *(yuan_of_fen(row["amount"]), back, ""),
    ]
    return ",".join(f"`{value}" for value in values)


def _totals(rows: list[dict[str, Any]]) -> str:
    amount = yuan_of_fen(sum(row["amount"] for row in rows))
    back = yuan_of_fen(sum(row["refund"]["amount"] for row in rows if row["refund"]))
    fee = _fee_text(sum(_fee(row) for row in rows))
    return ",".join(f"`{value}" for value in (str(len(rows)), amount, back, "0.00", fee, amount, back))
