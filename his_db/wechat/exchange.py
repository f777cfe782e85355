"""One signed exchange with WeChat Pay v3: request out, answer verified, errors told by what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from his_db.errors import HisBusy, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.http_exchange import Exchanger, HttpReply, HttpRequest
from his_db.reply_fields import Fields, json_object
from his_db.wechat.errors import error_of, refusal_of
from his_db.wechat.keys import Keys, SignatureWrong

_ACCEPTED: Final = 202  # the user is typing his password: neither closed nor refused


@dataclass(frozen=True, slots=True)
class Ask:
    """One question. `target`: path and query. `is_read`: an unclear answer hurts nobody. `serial`: names the key of
    encrypted fields."""

    operation: str
    method: str
    target: str
    body: Mapping[str, Any] | None = None
    is_read: bool = False
    serial: str = ""


class Merchant:
    """The exchanges of one merchant. `nonce` gives a random text of at most 32 characters."""

    def __init__(self, keys: Keys, nonce: Callable[[], str]) -> None:
        self.keys = keys
        self._nonce = nonce

    def ask(self, exchanger: Exchanger, ask: Ask, now: datetime) -> Fields:
        """The answer's object; an empty one for 204. Raises what `his_db.gateway` says."""
        reply = self.send(exchanger, ask, now)
        self._judge(reply, ask, now)
        if not reply.body.strip():
            return Fields({}, ask.operation)
        return json_object(_text(reply, ask.operation), ask.operation)

    def send(self, exchanger: Exchanger, ask: Ask, now: datetime) -> HttpReply:
        """The raw answer of a signed request."""
        body = b"" if ask.body is None else compact(ask.body)
        headers = [
            ("Accept", "application/json"),
            ("User-Agent", "his160"),
            ("Authorization", self.keys.authorization(ask.method, ask.target, body, now, self._nonce())),
        ]
        if body:
            headers.append(("Content-Type", "application/json"))
        headers.append(("Wechatpay-Serial", ask.serial or self.keys.serial))
        return exchanger.exchange(HttpRequest(ask.method, ask.target, tuple(headers), body))

    def pay_parameters(self, appid: str, prepay_id: str, now: datetime) -> dict[str, str]:
        """The parameters of wx.requestPayment: signed with the merchant's key, four lines."""
        stamp, nonce, package = str(int(now.timestamp())), self._nonce(), f"prepay_id={prepay_id}"
        return {
            "timeStamp": stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": self.keys.pay_sign(appid, stamp, nonce, package),
        }

    def _judge(self, reply: HttpReply, ask: Ask, now: datetime) -> None:
        is_good = 200 <= reply.status < 300
        if is_good or reply.header("Wechatpay-Signature"):
            try:
                self.keys.verify(reply.header, reply.body, now)
            except SignatureWrong as error:
                raise _unclear(ask, f"{ask.operation}: {error.detail}", error) from None
        if reply.status == _ACCEPTED:
            raise HisBusy(f"{ask.operation}: the payer is paying just now (HTTP 202)")
        if is_good:
            return
        try:
            refusal = refusal_of(reply.status, _text(reply, ask.operation), ask.operation)
        except MappingMismatch as error:
            raise _unclear(ask, f"{error.detail} (HTTP {reply.status})", error) from None
        raise error_of(refusal, ask.operation, is_read=ask.is_read)


def _unclear(ask: Ask, detail: str, error: MappingMismatch) -> MappingMismatch | OutcomeUnknown | HisUnavailable:
    """An answer that is not WeChat Pay's: of a write, nobody knows what became of it."""
    if not ask.is_read:
        return OutcomeUnknown(detail)
    error.args = (detail,)
    error.detail = detail
    return error


def _text(reply: HttpReply, label: str) -> str:
    try:
        return reply.body.decode()
    except UnicodeDecodeError:
        raise MappingMismatch(f"{label}: the answer is not UTF-8") from None


def compact(body: Mapping[str, Any]) -> bytes:
    """JSON as it is signed and sent: the same bytes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
