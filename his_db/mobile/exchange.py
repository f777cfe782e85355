"""One sealed exchange with the mobile payment centre, judged in order: protocol code, business code; then the caller
looks at ordStas. A state or a code that is not known fails closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from his_db.errors import HisBusy, HisError, HisRefused, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.http_exchange import Exchanger, HttpReply, HttpRequest
from his_db.mapping.answer import reason_value
from his_db.mapping.outcome import error_for
from his_db.mapping.reply import ReplyError, parse_json
from his_db.mobile.sealing import Seals
from his_db.reply_fields import Fields

_NOT_LET_IN: Final = frozenset({401, 403, 404, 405})
_DEPTH: Final = 3  # relays wrap data in data
_RULES: Final = (
    ("重复提交", "OUTCOME_UNKNOWN"),
    ("重复请求", "OUTCOME_UNKNOWN"),
    ("处理中", "OUTCOME_UNKNOWN"),
    ("超时", "OUTCOME_UNKNOWN"),
    ("系统异常", "OUTCOME_UNKNOWN"),
    ("系统繁忙", "OUTCOME_UNKNOWN"),
    ("订单不存在", "PAYMENT_NOT_FOUND"),
    ("未找到订单", "PAYMENT_NOT_FOUND"),
    ("金额不一致", "AMOUNT_MISMATCH"),
    ("金额不匹配", "AMOUNT_MISMATCH"),
)


@dataclass(frozen=True, slots=True)
class Centre:
    """The centre as one gateway file describes it."""

    options: Mapping[str, Any]
    zone: ZoneInfo

    def ask(
        self, seals: Seals, exchanger: Exchanger, infno: str, data: Mapping[str, Any], now: datetime, *, is_read: bool
    ) -> Fields:
        """The data of the answer. Raises what `his_db.gateway` says."""
        options = self.options
        message = {
            "appId": options["app_id"],
            "encType": options["encryption"],
            "signType": "SM2",
            "version": options["version"],
            "timestamp": now.astimezone(self.zone).strftime("%Y%m%d%H%M%S"),
            "data": {**data, **options["extra"].get(infno, {})},
        }
        body = json.dumps(seals.sealed(message), ensure_ascii=False, separators=(",", ":")).encode()
        headers = (("Accept", "application/json"), ("Content-Type", "application/json; charset=utf-8"))
        reply = exchanger.exchange(HttpRequest("POST", options["paths"][infno], headers, body))
        try:
            return self._judged(seals, reply, infno, is_read=is_read)
        except MappingMismatch as error:
            if is_read:
                raise
            raise OutcomeUnknown(error.detail) from None

    def refusal(self, infno: str, sentence: str, *, is_read: bool) -> HisError:
        """What a sentence of the centre means; it may name a patient and is no part of the detail."""
        rules = [(item["text"], item["reason"]) for item in self.options["refusals"]]
        reason = next((name for part, name in (*rules, *_RULES) if part in sentence), "INSURANCE_REFUSED")
        if is_read and reason == "OUTCOME_UNKNOWN":
            return HisUnavailable(f"{infno}: the payment centre could not answer")
        return error_for(reason_value(reason), infno, text=sentence)

    def _judged(self, seals: Seals, reply: HttpReply, infno: str, *, is_read: bool) -> Fields:
        if reply.status in _NOT_LET_IN:
            raise HisUnavailable(f"{infno}: HTTP status {reply.status}: not let in")
        if reply.status == 429:
            raise HisBusy(f"{infno}: HTTP status 429", retry_after=timedelta(minutes=1))
        message = self._message(reply, infno)
        options = self.options
        protocol = message.text(options["protocol_code"]) or "(none)"
        if protocol not in options["protocol_ok"]:
            # A refusal of the protocol has no data to be signed; TLS says whose it is.
            if protocol == "(none)":
                raise message.wrong(options["protocol_code"], "is missing")
            raise self.refusal(infno, message.text("message"), is_read=is_read)
        data = self._unwrapped(seals.opened(message.values, infno), infno)
        business = data.text(options["business_code"])
        if business and business not in options["business_ok"]:
            raise self.refusal(infno, data.text("message"), is_read=is_read)
        return data

    def _message(self, reply: HttpReply, infno: str) -> Fields:
        try:
            return Fields(parse_json(reply.body.decode("utf-8-sig")), infno)
        except (UnicodeDecodeError, ReplyError):
            raise MappingMismatch(f"{infno}: the answer is no JSON (HTTP {reply.status})") from None

    @staticmethod
    def _unwrapped(data: dict[str, Any], infno: str) -> Fields:
        """The innermost of a few wrappings in data, output or body."""
        for _ in range(_DEPTH):
            inner = next((data[name] for name in ("data", "output", "body") if isinstance(data.get(name), dict)), None)
            if inner is None:
                break
            data = inner
        return Fields(data, infno)


def invalid(infno: str, why: str, reason: str = "INVALID_REQUEST") -> HisRefused:
    """A request that cannot be sent: nothing was. `why` holds no value."""
    return HisRefused(reason_value(reason), f"{infno}: {why}")
