"""Field rules of WeChat Pay v3 as the simulator applies them: names, types, lengths. Unknown keys are refused, which
the real one does not do: a misspelt optional field shall not pass here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from his_db.simulated.wechat_wire import bad


@dataclass(frozen=True, slots=True)
class Rule:
    """One field: its type, whether it is needed, its longest text, its pattern, or the rules of the object below."""

    type: type = str
    needed: bool = False
    longest: int = 0
    pattern: str = ""
    below: Mapping[str, Rule] | None = None
    choices: frozenset[str] = frozenset()


_RFC3339: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d\d:\d\d"
_URL: Final = r"https://[^?#\s]+"
_SEALED: Final = r"[A-Za-z0-9+/]{300,}={0,2}"
JSAPI: Final[Mapping[str, Rule]] = {
    "appid": Rule(needed=True, longest=32),
    "mchid": Rule(needed=True, longest=32),
    "description": Rule(needed=True, longest=127),
    "out_trade_no": Rule(needed=True, pattern=r"[0-9A-Za-z_\-|*]{6,32}"),
    "time_expire": Rule(pattern=_RFC3339),
    "attach": Rule(longest=128),
    "notify_url": Rule(needed=True, longest=255, pattern=_URL),
    "amount": Rule(
        dict, needed=True, below={"total": Rule(int, needed=True), "currency": Rule(choices=frozenset({"CNY"}))}
    ),
    "payer": Rule(dict, needed=True, below={"openid": Rule(needed=True, longest=128)}),
}
CLOSE: Final[Mapping[str, Rule]] = {"mchid": Rule(needed=True, longest=32)}
REFUND: Final[Mapping[str, Rule]] = {
    "transaction_id": Rule(longest=32),
    "out_trade_no": Rule(pattern=r"[0-9A-Za-z_\-|*]{6,32}"),
    "out_refund_no": Rule(needed=True, pattern=r"[0-9A-Za-z_\-|*@]{1,64}"),
    "reason": Rule(longest=80),
    "notify_url": Rule(longest=256, pattern=_URL),
    "amount": Rule(
        dict,
        needed=True,
        below={
            "refund": Rule(int, needed=True),
            "total": Rule(int, needed=True),
            "currency": Rule(needed=True, choices=frozenset({"CNY"})),
        },
    ),
}
_PERSON: Final[Mapping[str, Rule]] = {
    "name": Rule(needed=True, pattern=_SEALED),
    "id_digest": Rule(needed=True, pattern=_SEALED),
    "card_type": Rule(needed=True, choices=frozenset({"ID_CARD"})),
}
MIXED: Final[Mapping[str, Rule]] = {
    "mix_pay_type": Rule(needed=True, choices=frozenset({"CASH_ONLY", "INSURANCE_ONLY", "CASH_AND_INSURANCE"})),
    "order_type": Rule(needed=True, choices=frozenset({"REG_PAY", "DIAG_PAY", "INT_REG_PAY"})),
    "appid": Rule(needed=True, longest=32),
    "openid": Rule(needed=True, longest=128),
    "payer": Rule(dict, needed=True, below=_PERSON),
    "pay_for_relatives": Rule(bool),
    "out_trade_no": Rule(needed=True, longest=64),
    "serial_no": Rule(needed=True, longest=20),
    "pay_order_id": Rule(longest=64),
    "pay_auth_no": Rule(longest=64),
    "geo_location": Rule(pattern=r"-?[\d.]+,-?[\d.]+"),
    "city_id": Rule(needed=True, longest=8),
    "med_inst_name": Rule(needed=True, longest=128),
    "med_inst_no": Rule(needed=True, longest=32),
    "med_ins_order_create_time": Rule(pattern=_RFC3339),
    "total_fee": Rule(int, needed=True),
    "med_ins_gov_fee": Rule(int),
    "med_ins_self_fee": Rule(int),
    "med_ins_other_fee": Rule(int),
    "med_ins_cash_fee": Rule(int),
    "wechat_pay_cash_fee": Rule(int),
    "cash_add_detail": Rule(list),
    "cash_reduce_detail": Rule(list),
    "callback_url": Rule(needed=True, pattern=_URL),
    "prepay_id": Rule(longest=64),
    "passthrough_request_content": Rule(longest=2048),
    "channel_no": Rule(longest=32),
    "med_ins_test_env": Rule(bool),
}
REFUND_NOTIFY: Final[Mapping[str, Rule]] = {
    "med_refund_total_fee": Rule(int, needed=True),
    "med_refund_gov_fee": Rule(int, needed=True),
    "med_refund_self_fee": Rule(int, needed=True),
    "med_refund_other_fee": Rule(int, needed=True),
    "refund_time": Rule(needed=True, pattern=_RFC3339),
    "out_refund_no": Rule(needed=True, longest=64),
}


def check(body: Any, rules: Mapping[str, Rule], where: str = "") -> dict[str, Any]:
    """The body. Raises Refusal (PARAM_ERROR)."""
    if not isinstance(body, dict):
        raise bad(f"{where or 'body'} 不是对象")
    for name in body:
        if name not in rules:
            raise bad(f"没有参数 {where}{name}")
    for name, rule in rules.items():
        if name not in body:
            if rule.needed:
                raise bad(f"缺少参数 {where}{name}")
            continue
        _value(body[name], rule, f"{where}{name}")
    return body


def _value(value: Any, rule: Rule, name: str) -> None:
    if type(value) is not rule.type:
        raise bad(f"{name} 类型不正确")
    if rule.below is not None:
        check(value, rule.below, f"{name}.")
    if isinstance(value, str):
        if not value or (rule.longest and len(value) > rule.longest):
            raise bad(f"{name} 长度不正确")
        if rule.pattern and re.fullmatch(rule.pattern, value) is None:
            raise bad(f"{name} 格式不正确")
        if rule.choices and value not in rule.choices:
            raise bad(f"{name} 取值不正确")
