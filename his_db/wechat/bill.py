"""The trade bill of WeChat Pay v3: asked for, downloaded, unpacked, checked, read.

Source: pay.weixin.qq.com merchant pages, 申请交易账单 and 下载账单. The file of a day is ready at 10:00 of the next
one; its link lives for minutes; the download is not signed, its SHA-1 is in the signed answer before it. UTF-8: a
heading, the rows, a heading of the totals, the totals; every value begins with a back-tick; 元 with two decimals, fees
with five.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from his160.site.v1 import merchant_pb2

from his_db.errors import HisRefused, HisUnavailable, MappingMismatch
from his_db.http_exchange import Exchanger
from his_db.mapping.convert_in import timestamp
from his_db.money import AmountError, fen_of_yuan
from his_db.wechat.errors import invalid
from his_db.wechat.exchange import Ask, Merchant

NAME: Final = "MerchantService.GetTradeBill"
_READY: Final = time(10)
_MAX_BYTES: Final = 200 * 1024 * 1024  # unpacked
_TYPES: Final = {
    merchant_pb2.BILL_TYPE_UNSPECIFIED: "ALL",
    merchant_pb2.BILL_TYPE_SUCCESS: "SUCCESS",
    merchant_pb2.BILL_TYPE_REFUND: "REFUND",
}
_TOTALS: Final = "总交易单数"
_NEEDED: Final = ("交易时间", "微信订单号", "商户订单号", "交易状态")
_FEE_PLACES: Final = 5


@dataclass(frozen=True, slots=True)
class Bills:
    """The operation. `zone`: that of WeChat Pay's days."""

    options: Mapping[str, Any]
    zone: ZoneInfo

    def get(
        self, merchant: Merchant, exchanger: Exchanger, request: merchant_pb2.GetTradeBillRequest, now: datetime
    ) -> merchant_pb2.GetTradeBillResponse:
        """The bill of a day. Raises HisUnavailable with `retry_after` while it is not made yet."""
        day = _day(request)
        ready = datetime.combine(day + timedelta(days=1), _READY, self.zone)
        if now < ready:
            raise HisUnavailable(f"{NAME}: the bill is made at 10:00 of the next day", retry_after=ready - now)
        target = f"/v3/bill/tradebill?bill_date={day.isoformat()}&bill_type={_TYPES[request.type]}&tar_type=GZIP"
        try:
            answer = merchant.ask(exchanger, Ask(NAME, "GET", target, is_read=True), now)
        except HisRefused as error:
            if "NO_STATEMENT_EXIST" in error.detail:  # a day without a trade has no bill
                return merchant_pb2.GetTradeBillResponse()
            raise
        if answer.text("hash_type") not in {"", "SHA1"}:
            raise answer.wrong("hash_type", "is not SHA1")
        link = urlsplit(answer.need("download_url"))
        target = link.path + (f"?{link.query}" if link.query else "")
        if not target.startswith("/"):
            raise answer.wrong("download_url", "is no address")
        reply = merchant.send(exchanger, Ask(NAME, "GET", target, is_read=True), now)
        if reply.status != 200:
            raise HisUnavailable(f"{NAME}: the download answered HTTP {reply.status}")
        plain = unpacked(reply.body)
        digest = hashlib.sha1(plain, usedforsecurity=False).hexdigest()
        if not hmac.compare_digest(digest, answer.need("hash_value").lower()):
            raise MappingMismatch(f"{NAME}: the file is not the one that was promised (SHA-1)")
        return read_bill(plain, self.zone)


def _day(request: merchant_pb2.GetTradeBillRequest) -> date:
    try:
        return date(request.day.year, request.day.month, request.day.day)
    except ValueError:
        raise invalid(NAME, "day is no date") from None


def unpacked(body: bytes) -> bytes:
    """A gzip file unpacked; anything else as it is. Raises MappingMismatch."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    engine = zlib.decompressobj(wbits=31)
    try:
        plain = engine.decompress(body, _MAX_BYTES)
    except zlib.error:
        raise MappingMismatch(f"{NAME}: the file is no gzip") from None
    if not engine.eof or engine.unused_data:
        raise MappingMismatch(
            f"{NAME}: the file is cut off, larger than {_MAX_BYTES} bytes, or has something behind it"
        )
    return plain


def read_bill(plain: bytes, zone: ZoneInfo) -> merchant_pb2.GetTradeBillResponse:
    """The rows and the totals, compared. Raises MappingMismatch, naming the line, never a value."""
    try:
        lines = plain.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MappingMismatch(f"{NAME}: the file is not UTF-8") from None
    lines = [line for line in lines if line.strip()]
    at = next((place for place, line in enumerate(lines) if line.startswith(_TOTALS)), -1)
    if at < 1 or at + 1 >= len(lines):
        raise MappingMismatch(f"{NAME}: the file has no heading or no totals")
    heading = lines[0].split(",")
    missing = [name for name in _NEEDED if name not in heading]
    if missing:
        raise MappingMismatch(f"{NAME}: the file has no column {', '.join(missing)}")
    found = merchant_pb2.GetTradeBillResponse(
        rows=[_row(_Line(number, heading, _values(line)), zone) for number, line in enumerate(lines[1:at], 2)]
    )
    _compare(found, _Line(at + 2, lines[at].split(","), _values(lines[at + 1])))
    return found


@dataclass(frozen=True, slots=True)
class _Line:
    """Values of one line by the name of their column."""

    number: int
    heading: Sequence[str]
    values: Sequence[str]

    def __post_init__(self) -> None:
        if len(self.heading) != len(self.values):
            raise MappingMismatch(
                f"{NAME}: line {self.number} has {len(self.values)} values, {len(self.heading)} wanted"
            )

    def text(self, *names: str) -> str:
        return next((self.values[self.heading.index(name)] for name in names if name in self.heading), "")

    def amount(self, *names: str, places: int = 2) -> int:
        text = self.text(*names)
        if not text:
            return 0
        try:
            return fen_of_yuan(text, places)
        except AmountError as error:
            raise MappingMismatch(f"{NAME}: line {self.number}: {names[0]} {error}") from None


def _values(line: str) -> list[str]:
    """Split where a back-tick begins a value: a name of goods may hold a comma."""
    return [part.removeprefix("`").strip() for part in line.strip().split(",`")]


def _row(line: _Line, zone: ZoneInfo) -> merchant_pb2.BillRow:
    try:
        moment = datetime.strptime(line.text("交易时间"), "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - its zone is added below
    except ValueError:
        raise MappingMismatch(f"{NAME}: line {line.number}: 交易时间 is no date and time") from None
    refund_id = line.text("微信退款单号")
    return merchant_pb2.BillRow(
        trade_time=timestamp(moment, zone),
        transaction_id=line.text("微信订单号"),
        out_trade_no=line.text("商户订单号"),
        refund_id="" if refund_id == "0" else refund_id,
        out_refund_no=_without_zero(line.text("商户退款单号")),
        state_code=line.text("交易状态"),
        refund_state_code=line.text("退款状态"),
        amount_fen=line.amount("应结订单金额"),
        refund_fen=line.amount("退款金额"),
        fee_hundred_thousandths=line.amount("手续费", places=_FEE_PLACES),
        attach=line.text("商户数据包"),
    )


def _without_zero(number: str) -> str:
    return "" if number == "0" else number


def _compare(found: merchant_pb2.GetTradeBillResponse, totals: _Line) -> None:
    """Count, amounts and refunds agree to the 分; fees within one 分, for the file rounds each row."""
    count = totals.text(_TOTALS)
    if not count.isascii() or not count.isdigit():
        raise MappingMismatch(f"{NAME}: {_TOTALS} is no number")
    found.trades = int(count)
    found.amount_fen = totals.amount("应结订单总金额")
    found.refund_fen = totals.amount("退款总金额")
    found.fee_hundred_thousandths = totals.amount("手续费总金额", places=_FEE_PLACES)
    sums = {
        _TOTALS: (found.trades, len(found.rows)),
        "应结订单总金额": (found.amount_fen, sum(row.amount_fen for row in found.rows)),
        "退款总金额": (found.refund_fen, sum(row.refund_fen for row in found.rows)),
    }
    wrong = [name for name, (told, counted) in sums.items() if told != counted]
    fees = sum(row.fee_hundred_thousandths for row in found.rows)
    if abs(fees - found.fee_hundred_thousandths) > 1000:
        wrong.append("手续费总金额")
    if wrong:
        raise MappingMismatch(f"{NAME}: the totals do not agree with the rows: {', '.join(wrong)}")
