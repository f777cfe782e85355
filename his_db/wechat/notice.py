"""Notices of WeChat Pay v3: verified, opened, read for the number that they are about.

Source: pay.weixin.qq.com merchant pages, 支付成功回调通知 and 退款结果回调通知, med-ins 回调处理. A notice is sent
again until it is answered with 200 or 204 within 5 seconds; probes (signature WECHATPAY/SIGNTEST/…) must be refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from his_db.errors import MappingMismatch
from his_db.gateway import Notice, NoticeRefused
from his_db.reply_fields import Fields, json_object
from his_db.wechat.keys import MerchantKeys

_LABEL: Final = "notice"
_ALGORITHM: Final = "AEAD_AES_256_GCM"


def read_notice(keys: MerchantKeys, headers: Mapping[str, str], body: bytes, now: datetime) -> Notice:
    """Raises NoticeRefused; HisUnavailable when a key of ours cannot be read."""
    try:
        keys.verify(lambda name: headers.get(name.lower(), ""), body, now)
        outer = json_object(body.decode(), _LABEL)
        sealed = outer.table("resource")
        if sealed.need("algorithm") != _ALGORITHM:
            raise NoticeRefused("the algorithm is not AEAD_AES_256_GCM")
        plain = keys.opened(sealed.need("nonce"), sealed.text("associated_data"), sealed.need("ciphertext"))
        inner = json_object(plain.decode(), _LABEL)
        return _notice(outer, inner)
    except MappingMismatch as error:
        raise NoticeRefused(error.detail) from None
    except ValueError as error:
        why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise NoticeRefused(f"the notice {why}") from None


def _notice(outer: Fields, inner: Fields) -> Notice:
    event = outer.need("event_type")
    is_refund = event.startswith("REFUND.")
    number = inner.need("out_refund_no" if is_refund else "out_trade_no")
    names = ("out_trade_no", "transaction_id", "trade_state", "refund_status", "refund_id", "mix_trade_no")
    detail = {name: inner.text(name) for name in names if inner.has(name)}
    return Notice(event, number, outer.text("id"), detail)


def answer_of(*, accepted: bool) -> tuple[int, bytes]:
    """What WeChat Pay wants to hear."""
    if accepted:
        return 200, json.dumps({"code": "SUCCESS", "message": "成功"}, ensure_ascii=False).encode()
    return 400, json.dumps({"code": "FAIL", "message": "失败"}, ensure_ascii=False).encode()
