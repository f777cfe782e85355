"""The 医保 platform's side of the wire, simulated: x-tif headers, envelope, field rules, sign-in, msgids."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from his_db.simulator import Asked, Told
from his_db.simulator_book import Book

INSTITUTION: Final = "H44030400001"
AREA: Final = "440300"
PAASID: Final = "hospital_test"
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS sign (sign_no TEXT PRIMARY KEY, opter TEXT NOT NULL, at TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS message (
      msgid TEXT PRIMARY KEY, infno TEXT NOT NULL, psn_no TEXT NOT NULL, sign_no TEXT NOT NULL, at TEXT NOT NULL,
      undone INTEGER NOT NULL, content TEXT NOT NULL, output TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
SIGN_AGAIN: Final = "签到编号无效或已过期，请重新签到"
_LENGTHS: Final[Mapping[str, tuple[int, bool]]] = {
    "infno": (5, True),
    "msgid": (30, True),
    "mdtrtarea_admvs": (6, True),
    "insuplc_admdvs": (6, False),
    "recer_sys_code": (10, True),
    "dev_no": (100, False),
    "dev_safe_info": (2000, False),
    "cainfo": (1024, False),
    "signtype": (10, False),
    "infver": (6, True),
    "opter_type": (3, True),
    "opter": (30, True),
    "opter_name": (50, True),
    "inf_time": (19, True),
    "fixmedins_code": (12, True),
    "fixmedins_name": (20, True),
    "sign_no": (30, False),
}
_MSGID: Final = re.compile(rf"{INSTITUTION}(\d{{14}})\d{{4}}")
_SIGN_LIFE: Final = timedelta(hours=2)
_READS: Final = frozenset({"1101", "2206A", "5201", "5203", "5204", "3201", "3202"})


class Refused(Exception):
    """infcode is not 0; the text is err_msg."""


class Wire:
    """Envelope and headers. `secret`: of the x-tif signature."""

    def __init__(self, book: Book, secret: str) -> None:
        self._book = book
        self._secret = secret

    def envelope(self, asked: Asked, now: datetime) -> dict[str, Any]:
        """The request, its envelope checked. Raises Refused."""
        self._check_tif(asked, now)
        try:
            given = json.loads(asked.body)
        except ValueError:
            raise Refused("报文不是有效的JSON") from None
        if not isinstance(given, dict) or given.keys() != {*_LENGTHS, "input"}:
            raise Refused("报文头字段不完整或有多余字段")
        for name, (longest, needed) in _LENGTHS.items():
            value = given[name]
            if not isinstance(value, str) or len(value) > longest or (needed and not value):
                raise Refused(f"报文头{name}不合法")
        self._check_values(given, asked, now)
        return given

    def _check_values(self, given: Mapping[str, Any], asked: Asked, now: datetime) -> None:
        if given["fixmedins_code"] != INSTITUTION or given["mdtrtarea_admvs"] != AREA:
            raise Refused("定点医药机构编号或就医地医保区划不正确")
        if not asked.target.endswith(f"/{given['infno']}"):
            raise Refused("交易编号与请求地址不一致")
        match = _MSGID.fullmatch(given["msgid"])
        try:
            made = datetime.strptime(match[1] if match else "", "%Y%m%d%H%M%S").replace(tzinfo=now.tzinfo)
            sent = datetime.strptime(given["inf_time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=now.tzinfo)
        except ValueError:
            raise Refused("msgid或inf_time格式不正确") from None
        if abs(sent - now) > timedelta(minutes=10) or made - now > timedelta(minutes=10):
            raise Refused("inf_time与平台时间相差过大")
        if person_of(given) and not given["insuplc_admdvs"]:
            raise Refused("参保地医保区划不能为空")

    def signed(self, given: Mapping[str, Any], now: datetime) -> None:
        """sign_no is one of ours and not too old. Looked at before anything else is done. Raises Refused."""
        row = self._book.one("SELECT at FROM sign WHERE sign_no = ? AND opter = ?", given["sign_no"], given["opter"])
        if row is None or now - datetime.fromisoformat(row["at"]) > _SIGN_LIFE:
            raise Refused(SIGN_AGAIN)

    def before(self, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was answered to this msgid, where the same was asked; None for a new one. Raises Refused for a msgid
        that stands for something else, and for any used one while the setting `duplicates` is `refuse`."""
        row = self._book.one("SELECT * FROM message WHERE msgid = ?", given["msgid"])
        if row is None:
            return None
        setting = self._book.one("SELECT value FROM setting WHERE name = 'duplicates'")
        refuses = setting is not None and setting["value"] == "refuse"
        if refuses or row["content"] != _content(given) or row["undone"]:
            raise Refused("发送方报文ID重复")
        found: dict[str, Any] = json.loads(row["output"])
        return found

    def remember(self, given: Mapping[str, Any], output: dict[str, Any] | None, now: datetime) -> None:
        """A transaction that was done. What changes nothing leaves no trace."""
        if given["infno"] not in _READS:
            self._book.insert(
                "message",
                {
                    "msgid": given["msgid"],
                    "infno": given["infno"],
                    "psn_no": person_of(given),
                    "sign_no": given["sign_no"],
                    "at": now.isoformat(),
                    "undone": 0,
                    "content": _content(given),
                    "output": json.dumps(output or {}, ensure_ascii=False),
                },
            )

    def sign_in(self, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """9001."""
        node = given["input"].get("signIn", {})
        if set(node) != {"opter_no", "mac", "ip"} or node["opter_no"] != given["opter"]:
            raise Refused("签到入参不正确")
        sign_no = secrets.token_hex(10)
        self._book.insert("sign", {"sign_no": sign_no, "opter": given["opter"], "at": now.isoformat()})
        return {"signinoutb": {"sign_time": now.strftime("%Y-%m-%d %H:%M:%S"), "sign_no": sign_no}}

    def _check_tif(self, asked: Asked, now: datetime) -> None:
        headers = asked.headers
        stamp, nonce = headers.get("x-tif-timestamp", ""), headers.get("x-tif-nonce", "")
        wanted = hashlib.sha256(f"{stamp}{self._secret}{nonce}{stamp}".encode()).hexdigest()
        if headers.get("x-tif-paasid") != PAASID or headers.get("x-tif-signature") != wanted or not nonce:
            raise Refused("网关签名校验失败")
        if not stamp.isdigit() or abs(now.timestamp() - int(stamp)) > 600:
            raise Refused("网关时间戳已过期")


def _content(given: Mapping[str, Any]) -> str:
    """Digest of number and input: time and sign_no of a repetition are others."""
    text = json.dumps([given["infno"], given["insuplc_admdvs"], given["input"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def person_of(given: Mapping[str, Any]) -> str:
    """psn_no anywhere in the input."""
    nodes = given["input"].values() if isinstance(given["input"], dict) else []
    for node in nodes:
        for item in node if isinstance(node, list) else [node]:
            if isinstance(item, dict) and item.get("psn_no"):
                return str(item["psn_no"])
    return ""


def told(now: datetime, msgid: str, output: Any = None, error: str = "") -> Told:
    """The answer's envelope."""
    body = {
        "infcode": "-1" if error else "0",
        "inf_refmsgid": f"{AREA}{now:%Y%m%d%H%M%S}{secrets.randbelow(10**10):010d}",
        "refmsg_time": now.strftime("%Y%m%d%H%M%S%f")[:17],
        "respond_time": now.strftime("%Y%m%d%H%M%S%f")[:17],
        "err_msg": error,
        "warn_msg": "",
        "cainfo": "",
        "signtype": "",
        "output": output if output is not None else {},
    }
    return Told(200, json.dumps(body, ensure_ascii=False).encode())


def spoiled(answer: Told) -> Told:
    """An answer whose sums do not hold; one without a settlement loses its infcode."""
    body = json.loads(answer.body)
    info = body["output"].get("setlinfo") if isinstance(body["output"], dict) else None
    for item in info if isinstance(info, list) else [info]:
        if item:
            item["hifp_pay"] = "0.01"
    if not info:
        del body["infcode"]
    return Told(answer.status, json.dumps(body, ensure_ascii=False).encode())


def make_secret(folder: Path) -> None:
    """The x-tif secret, where there is none yet."""
    file = folder / "tif.secret"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(16), encoding="utf-8")
