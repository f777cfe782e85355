"""Simulator "wechat": WeChat Pay v3 with one merchant."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, unquote, urlsplit

from his_db.simulated.http_post import post
from his_db.simulated.wechat_bill import bill_of, packed
from his_db.simulated.wechat_mixed import SCHEMA as MIXED_SCHEMA
from his_db.simulated.wechat_mixed import SimulatedMixed
from his_db.simulated.wechat_trades import SCHEMA, Answer, SimulatedTrades
from his_db.simulated.wechat_wire import (
    APPID,
    CERTIFICATE_SERIAL,
    MCHID,
    PLATFORM_SERIAL,
    Refusal,
    Wire,
    bad,
    make_keys,
    spoiled,
    wire_of,
)
from his_db.simulator import Asked, Clock, Simulator, Told
from his_db.simulator_book import Book

_BEIJING: Final = timezone(timedelta(hours=8))
_ROUTES: Final = (
    ("open", "POST", re.compile(r"/v3/pay/transactions/jsapi")),
    ("close", "POST", re.compile(r"/v3/pay/transactions/out-trade-no/(?P<number>[^/?]+)/close")),
    ("query", "GET", re.compile(r"/v3/pay/transactions/(?P<key>id|out-trade-no)/(?P<number>[^/?]+)")),
    ("refund", "POST", re.compile(r"/v3/refund/domestic/refunds")),
    ("query_refund", "GET", re.compile(r"/v3/refund/domestic/refunds/(?P<number>[^/?]+)")),
    ("open_mixed", "POST", re.compile(r"/v3/med-ins/orders")),
    ("query_mixed", "GET", re.compile(r"/v3/med-ins/orders/(?P<key>mix-trade-no|out-trade-no)/(?P<number>[^/?]+)")),
    ("notify_refund", "POST", re.compile(r"/v3/med-ins/refunds/notify")),
    ("bill", "GET", re.compile(r"/v3/bill/tradebill")),
    ("download", "GET", re.compile(r"/v3/billdownload/file")),
)
_NUMBERS: Final = {"open": "out_trade_no", "refund": "out_refund_no", "open_mixed": "out_trade_no"}
_MAPPING: Final = """# 由 his160 simulator wechat 生成，仅供联调 / made by his160 simulator wechat, for the bench only
schema = 1
gateway = "wechatpay"
source = "wechat"
[options]
mchid = "{mchid}"
appid = "{appid}"
certificate_serial = "{certificate}"
private_key = '@file:{folder}/merchant_key.pem'
platform_keys = [ {{ serial = "{platform}", key = '@file:{folder}/platform_public.pem' }} ]
apiv3_key = '@file:{folder}/apiv3.key'
notify_url = "https://pay.hospital.example/notify/wechatpay"
refund_notify_url = "https://pay.hospital.example/notify/wechatpay"
[options.mixed]
med_inst_no = "H44030400001"
med_inst_name = "示例医院"
city_id = "440300"
callback_url = "https://pay.hospital.example/notify/wechatpay"
"""


class WechatSimulator:
    """See `his_db.simulator.Simulator`. Labels: open, query, close, refund, query_refund, open_mixed, query_mixed,
    notify_refund, bill, download."""

    name: ClassVar[str] = "wechat"

    def __init__(self, wire: Wire, book: Book, base_url: str, clock: Clock) -> None:
        self.book = book
        self._wire = wire
        self._base_url = base_url
        self._clock = clock
        self._trades = SimulatedTrades(book)
        self._mixed = SimulatedMixed(book, wire.platform_private)
        self._files: dict[str, tuple[datetime, bytes]] = {}

    def label(self, asked: Asked) -> tuple[str, str]:
        name, found = _route(asked)
        number = unquote(found.get("number", ""))
        if name in _NUMBERS:
            try:
                number = str(json.loads(asked.body).get(_NUMBERS[name], ""))
            except (ValueError, AttributeError):
                number = "?"
        return name, number

    def answer(self, asked: Asked) -> Told:
        now = self._now()
        try:
            self._wire.verified(asked, now)
            name, found = _route(asked)
            if name == "download":
                return self._download(asked, now)
            with self.book.change():
                status, body = self._done(name, found, asked, now)
        except Refusal as refusal:
            return self._told(refusal.status, {"code": refusal.code, "message": refusal.message})
        return self._told(status, body)

    def refuse(self, asked: Asked, code: str, message: str) -> Told:
        status = {"SYSTEM_ERROR": 500, "FREQUENCY_LIMITED": 429, "SIGN_ERROR": 401, "NOT_ENOUGH": 403}.get(code, 400)
        return self._told(status, {"code": code, "message": message})

    def spoil(self, told: Told) -> Told:
        return spoiled(told)

    def act(self, name: str, values: Mapping[str, Any]) -> Any:
        """pay, pay_mixed (`outcome`), notify (`event`, `out_trade_no` or `out_refund_no`, `to`, `probe`), set."""
        now = self._now()
        with self.book.change():
            if name == "pay":
                return self._trades.pay(values["out_trade_no"], now)
            if name == "pay_mixed":
                return self._pay_mixed(values["out_trade_no"], values.get("outcome", "SUCCESS"), now)
            if name == "set":
                self.book.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", values["name"], str(values["value"]))
                return {}
        if name == "notify":
            return self._notify(values, now)
        raise KeyError(name)

    def _now(self) -> datetime:
        return self._clock().astimezone(_BEIJING)

    def _told(self, status: int, body: dict[str, Any] | None) -> Told:
        return self._wire.told(status, body, self._now())

    def _done(self, name: str, found: Mapping[str, str], asked: Asked, now: datetime) -> Answer:
        number, key = unquote(found.get("number", "")), found.get("key", "")
        query = parse_qs(urlsplit(asked.target).query)
        if name == "query":
            if query.get("mchid") != [MCHID]:
                raise bad("mchid 不正确")
            return self._trades.query(key, number, now)
        if name == "query_refund":
            return self._trades.query_refund(number, now)
        if name == "query_mixed":
            return self._mixed.query(key, number)
        if name == "bill":
            return self._bill(query, now)
        body = _json(asked)
        if name == "open":
            return self._trades.open(body, now)
        if name == "close":
            return self._trades.close(number, body, now)
        if name == "refund":
            return self._trades.refund(body, now)
        if name == "open_mixed":
            return self._mixed.open(body, asked.headers, now)
        if name == "notify_refund":
            return self._mixed.notified(query.get("mix_trade_no", [""])[0], body)
        raise Refusal(404, "RESOURCE_NOT_EXISTS", "没有这个接口")

    def _bill(self, query: Mapping[str, list[str]], now: datetime) -> Answer:
        try:
            day = date.fromisoformat(query["bill_date"][0])
        except (KeyError, ValueError):
            raise bad("bill_date 不正确") from None
        if query.get("tar_type") != ["GZIP"]:
            raise bad("tar_type 不正确")
        file, digest = packed(bill_of(self.book, day, query.get("bill_type", ["ALL"])[0], now))
        token = secrets.token_urlsafe(24)
        self._files[token] = (now + timedelta(minutes=5), file)
        url = f"{self._base_url}/v3/billdownload/file?token={token}"
        return 200, {"hash_type": "SHA1", "hash_value": digest, "download_url": url}

    def _download(self, asked: Asked, now: datetime) -> Told:
        token = parse_qs(urlsplit(asked.target).query).get("token", [""])[0]
        until, file = self._files.get(token, (now - timedelta(1), b""))
        if now > until:
            raise Refusal(400, "INVALID_REQUEST", "下载链接已失效")
        return Told(200, file, content_type="application/octet-stream")

    def _pay_mixed(self, number: str, outcome: str, now: datetime) -> dict[str, Any]:
        mixed = self._mixed.settle(number, outcome)
        if outcome != "FAIL" and mixed["self_pay_status"] != "NO_SELF_PAY":
            self._trades.pay(number, now)
        return mixed

    def _notify(self, values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """Send a notice to `to`; what the receiver answered. The same fact may be sent twice under two ids."""
        if "out_refund_no" in values:
            _, resource = self._trades.query_refund(values["out_refund_no"], now)
            resource = {**(resource or {}), "refund_status": (resource or {}).get("status"), "mchid": MCHID}
            event = f"REFUND.{resource['refund_status']}"
        else:
            _, resource = self._trades.query("out-trade-no", values["out_trade_no"], now)
            event = "TRANSACTION.SUCCESS"
        event = values.get("event", event)
        headers, body = self._wire.notice(
            event, resource or {}, now, notice_id=secrets.token_hex(16), probe=bool(values.get("probe"))
        )
        return post(values["to"], headers, body)


def _route(asked: Asked) -> tuple[str, dict[str, str]]:
    path = urlsplit(asked.target).path
    for name, method, pattern in _ROUTES:
        match = pattern.fullmatch(path)
        if match and method == asked.method:
            return name, match.groupdict()
    return "?", {}


def _json(asked: Asked) -> Any:
    if not asked.headers.get("content-type", "").startswith("application/json"):
        raise bad("Content-Type 不正确")
    try:
        return json.loads(asked.body)
    except ValueError:
        raise bad("请求体不是有效的 JSON") from None


class WechatSimulatorMaker:
    """See `his_db.simulator.SimulatorMaker`."""

    name: ClassVar[str] = "wechat"

    def prepare(self, folder: Path, base_url: str) -> Path:
        make_keys(folder)
        mapping = folder / "wechatpay.toml"
        text = _MAPPING.format(
            mchid=MCHID,
            appid=APPID,
            certificate=CERTIFICATE_SERIAL,
            platform=PLATFORM_SERIAL,
            folder=folder.resolve().as_posix(),
        )
        mapping.write_text(text, encoding="utf-8")
        return mapping

    def open(self, folder: Path, book: Path, base_url: str, clock: Clock) -> Simulator:
        return WechatSimulator(wire_of(folder), Book(book, (*SCHEMA, *MIXED_SCHEMA)), base_url, clock)
