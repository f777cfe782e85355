"""Simulator "mobile": a mobile payment centre that signs with SM2 and encrypts with SM4."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from his_db.crypto.sm2 import Sm2Private
from his_db.errors import MappingMismatch
from his_db.mapping.reply import ReplyError, parse_json
from his_db.mobile.sealing import CentreSeals, cleaned
from his_db.simulated.http_post import post
from his_db.simulated.mobile_orders import SCHEMA, Refused, SimulatedOrders
from his_db.simulator import Asked, Clock, Simulator, Told
from his_db.simulator_book import Book

APP_ID: Final = "43AF047BBA47FC8A1AE8EFB232BDBBCB"
ORG_CODE: Final = "H44030400001"
_BEIJING: Final = timezone(timedelta(hours=8))
_PATHS: Final = {
    "/org/local/api/hos/uldFeeInfo": "6201",
    "/org/local/api/hos/pay_order": "6202",
    "/org/local/api/hos/refund_Order": "6203",
    "/org/local/api/hos/query_order_info": "6301",
    "/org/local/api/hos/revoke_order": "6401",
}
_NUMBERS: Final = {"6201": "medOrgOrd", "6203": "appRefdSn"}
_MAPPING: Final = """# 由 his160 simulator mobile 生成，仅供联调 / for the bench only
schema = 1
gateway = "mobile_payment"
source = "mobile"
[options]
app_id = "{app_id}"
app_secret = '@file:{folder}/app_secret.txt'
private_key = '@file:{folder}/channel_key.txt'
platform_key = '@file:{folder}/platform_public.txt'
org_code = "{org_code}"
"""


class MobileSimulator:
    """See `his_db.simulator.Simulator`. Labels: the transactions' numbers."""

    name: ClassVar[str] = "mobile"

    def __init__(self, book: Book, folder: Path, clock: Clock) -> None:
        self.book = book
        self._clock = clock
        self._orders = SimulatedOrders(book, ORG_CODE)
        options = {
            "app_id": APP_ID,
            "app_secret": f"@file:{folder / 'app_secret.txt'}",
            "private_key": f"@file:{folder / 'platform_key.txt'}",
            "platform_key": f"@file:{folder / 'channel_public.txt'}",
            "encryption": "SM4",
            "cipher_text": "hex",
            "signature": "rs",
            "user_id": "1234567812345678",
            "secret_in_signature": True,
            "answers_signed": True,
        }
        self._seals = CentreSeals(options)
        self._unsigned = CentreSeals({**options, "answers_signed": False})  # only to see which number it is about

    def label(self, asked: Asked) -> tuple[str, str]:
        infno = _PATHS.get(urlsplit(asked.target).path, "?")
        try:
            data = self._unsigned.opened(json.loads(asked.body), "request")
        except (ValueError, AttributeError, MappingMismatch):
            return infno, "?"
        return infno, str(data.get(_NUMBERS.get(infno, "payOrdId"), ""))

    def answer(self, asked: Asked) -> Told:
        infno = _PATHS.get(urlsplit(asked.target).path)
        try:
            if infno is None:
                raise Refused("没有这个接口")
            data = self._opened(asked)
            with self.book.change():
                found = self._orders.done(infno, data, self._now())
        except Refused as refused:
            return self.refuse(asked, "-1", str(refused))
        return self._told(found)

    def refuse(self, asked: Asked, code: str, message: str) -> Told:
        body = {"code": code or "-1", "message": message, "success": False, "type": "error"}
        return Told(200, json.dumps(body, ensure_ascii=False).encode())

    def spoil(self, told: Told) -> Told:
        body = json.loads(told.body)
        if "signData" in body:
            body["timestamp"] = "19700101000000"
        else:
            del body["code"]
        return Told(told.status, json.dumps(body, ensure_ascii=False).encode())

    def act(self, name: str, values: Mapping[str, Any]) -> Any:
        """pay_cash, pay_late (`payOrdId`); notify (`payOrdId`, `to`); set (`name`, `value`)."""
        with self.book.change():
            if name == "pay_cash":
                return self._orders.pay_cash(values["payOrdId"])
            if name == "pay_late":
                return self._orders.pay_late(values["payOrdId"], self._now())
            if name == "set":
                self.book.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", values["name"], str(values["value"]))
                return {}
        if name == "notify":
            return post(values["to"], {"Content-Type": "application/json"}, self.notice(values["payOrdId"]))
        raise KeyError(name)

    def notice(self, pay_order_id: str) -> bytes:
        """The body of the settlement call-back."""
        row = self.book.one("SELECT * FROM mobile_order WHERE pay_ord_id = ?", pay_order_id) or {}
        return self._told(self._orders.shown(row)).body

    def _now(self) -> datetime:
        return self._clock().astimezone(_BEIJING)

    def _opened(self, asked: Asked) -> dict[str, Any]:
        try:
            message = parse_json(asked.body.decode())
            if not isinstance(message, dict) or message.get("appId") != APP_ID or message.get("version") != "2.0.1":
                raise Refused("appId或version不正确")
            if "data" in message or message.get("encType") != "SM4" or message.get("signType") != "SM2":
                raise Refused("报文未加密")
            data = self._seals.opened(message, "request")
        except (UnicodeDecodeError, ReplyError, MappingMismatch):
            raise Refused("验签失败") from None
        if cleaned(data) != data:
            raise Refused("报文含有空值")
        return data

    def _told(self, data: Mapping[str, Any]) -> Told:
        message = {
            "code": 0,
            "message": "成功",
            "success": True,
            "type": "success",
            "appId": APP_ID,
            "encType": "SM4",
            "signType": "SM2",
            "version": "2.0.1",
            "timestamp": self._now().strftime("%Y%m%d%H%M%S"),
            "data": dict(data),
        }
        return Told(200, json.dumps(self._seals.sealed(message), ensure_ascii=False).encode())


class MobileSimulatorMaker:
    """See `his_db.simulator.SimulatorMaker`."""

    name: ClassVar[str] = "mobile"

    def prepare(self, folder: Path, base_url: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for side in ("channel", "platform"):
            file = folder / f"{side}_key.txt"
            if not file.exists():
                key = Sm2Private.generate()
                (folder / f"{side}_public.txt").write_text(key.public.point.hex(), encoding="utf-8")
                file.write_text(key.hex, encoding="utf-8")
        secret = folder / "app_secret.txt"
        if not secret.exists():
            secret.write_text(secrets.token_hex(16).upper(), encoding="utf-8")
        mapping = folder / "mobile_payment.toml"
        text = _MAPPING.format(app_id=APP_ID, org_code=ORG_CODE, folder=folder.resolve().as_posix())
        mapping.write_text(text, encoding="utf-8")
        return mapping

    def open(self, folder: Path, book: Path, base_url: str, clock: Clock) -> Simulator:
        return MobileSimulator(Book(book, SCHEMA), folder, clock)
