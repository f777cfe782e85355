"""The envelope of 国标医保 2.0, its sign-in (9001) and one exchange of it.

Source: 国家医疗保障信息平台 定点医药机构接口, 报文头; shapes of Guangzhou and Chongqing clients. A sign_no is good for
a while (an hour is safe); it is kept in memory, and told with what was done under it. A transaction that is refused for
its sign_no was looked at before anything was done: it is sent once more, under the same msgid, after one new sign-in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from his_db.errors import HisBusy, HisError, HisUnavailable, MappingMismatch, OutcomeUnknown
from his_db.gateway import ask_first
from his_db.http_exchange import Exchanger, HttpReply, HttpRequest
from his_db.insurance.refusals import Refusals, invalid, refusals_of
from his_db.money import yuan_of_fen
from his_db.reply_fields import Fields, json_object
from his_db.secret_reference import SecretUnreadable, first_line

MOMENT: Final = "%Y-%m-%d %H:%M:%S"
SIGN_LIFE: Final = timedelta(hours=1)
_MARK: Final = "\x01"  # in front of an amount while the body is made
_MARKED: Final = re.compile(r'"\\u0001(-?[0-9]+\.[0-9]{2})"')
_NOT_LET_IN: Final = frozenset({401, 403, 404, 405})
_OWN_FIRST: Final = 9000  # sequences of msgids that the gateway makes itself (see the contract)
_OWN_COUNT: Final = 1000


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction to be sent. `infno` as the specification has it; `insured_area` is insuplc_admdvs."""

    infno: str
    label: str
    input: Mapping[str, Any]
    msgid: str = ""
    insured_area: str = ""
    is_read: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back: `output`, and the sign_no in use. `gone`: an undoing found nothing to undo."""

    output: Fields
    sign_no: str
    gone: bool = False


@dataclass(slots=True)
class _SignIn:
    sign_no: str = ""
    until: datetime | None = None


@dataclass(slots=True)
class Platform:
    """The platform as one gateway file describes it; shared by all lanes. `nonce`: text for x-tif-nonce."""

    options: Mapping[str, Any]
    zone: ZoneInfo
    nonce: Callable[[], str]
    refusals: Refusals = field(init=False)
    _sign_in: _SignIn = field(default_factory=_SignIn)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _own: itertools.count[int] = field(init=False)

    def __post_init__(self) -> None:
        self.refusals = refusals_of(self.options)
        # Where the count begins does not matter, but that two agents of one hospital do not begin alike.
        self._own = itertools.count(random.randrange(_OWN_COUNT))  # noqa: S311 - not a secret

    def send(self, exchanger: Exchanger, transaction: Transaction, now: datetime) -> Answered:
        """One transaction. Raises what `his_db.gateway` says."""
        msgid = transaction.msgid or self.own_msgid(now)
        self._check_msgid(msgid, transaction.label)
        sign_no = self._signed_in(exchanger, now)
        answer = self._exchange(exchanger, transaction, msgid, sign_no, now)
        if self._is_refused(answer) and self.refusals.wants_sign_in(answer.text("err_msg")):
            sign_no = self._signed_in(exchanger, now, instead_of=sign_no)
            answer = self._exchange(exchanger, transaction, msgid, sign_no, now)
        if not self._is_refused(answer):
            return Answered(answer.table("output"), sign_no)
        sentence = answer.text("err_msg")
        if self.refusals.is_gone(transaction.infno, sentence):
            return Answered(Fields({}, transaction.label), sign_no, gone=True)
        raise self.refusals.error(transaction.label, sentence, is_read=transaction.is_read)

    def sign_in(self, exchanger: Exchanger, label: str, msgid: str, now: datetime) -> Fields:
        """9001 now, whatever there is; the node of its answer."""
        self._check_msgid(msgid, label)
        with self._lock:
            return self._sign_in_now(exchanger, label, msgid, now, counts=True)

    def own_msgid(self, now: datetime) -> str:
        """A msgid that nobody will ask for again: of a read or a sign-in."""
        sequence = _OWN_FIRST + next(self._own) % _OWN_COUNT
        return f"{self.options['fixmedins_code']}{now.astimezone(self.zone):%Y%m%d%H%M%S}{sequence:04d}"

    def infno(self, name: str) -> str:
        """The number that this province uses for a transaction."""
        found: str = self.options["infnos"].get(name, name)
        return found

    def amount(self, fen: int) -> str:
        """分 as 元 in a body: text, or a number where the province wants one."""
        text = yuan_of_fen(fen)
        return _MARK + text if self.options["amounts"] == "number" else text

    def more(self, infno: str) -> Mapping[str, Any]:
        """Fields that the site adds to the main node of a transaction."""
        found: Mapping[str, Any] = self.options["extra"].get(infno, {})
        return found

    def _signed_in(self, exchanger: Exchanger, now: datetime, instead_of: str | None = None) -> str:
        """A sign_no that may be used now; another one than `instead_of`, which was refused."""
        if not exchanger.goes_out:
            return "test"
        with self._lock:
            held = self._sign_in
            is_good = held.until is not None and now < held.until and held.sign_no != instead_of
            if not is_good:
                self._sign_in_now(exchanger, "9001", self.own_msgid(now), now, counts=False)
            return self._sign_in.sign_no

    def _sign_in_now(self, exchanger: Exchanger, label: str, msgid: str, now: datetime, *, counts: bool) -> Fields:
        options = self.options
        given = {"opter_no": options["opter"], "mac": options["mac"], "ip": options["ip"]}
        transaction = Transaction("9001", label, {"signIn": {**given, **self.more("9001")}})
        request = self._request(transaction, msgid, "", now)
        reply = exchanger.exchange(request) if counts else ask_first(exchanger, request, label)
        try:
            answer = self._read(reply, transaction)
            if self._is_refused(answer):
                raise self.refusals.error(label, answer.text("err_msg"), is_read=True)
            node = answer.table("output").table("signinoutb")
            sign_no = node.need("sign_no")
        except HisError as error:
            if counts:
                raise
            # It came before the transaction, which was not sent.
            raise HisUnavailable(f"9001: {error.detail}", retry_after=error.retry_after) from None
        self._sign_in = _SignIn(sign_no, now + SIGN_LIFE)
        return node

    def _exchange(
        self, exchanger: Exchanger, transaction: Transaction, msgid: str, sign_no: str, now: datetime
    ) -> Fields:
        return self._read(exchanger.exchange(self._request(transaction, msgid, sign_no, now)), transaction)

    def _request(self, transaction: Transaction, msgid: str, sign_no: str, now: datetime) -> HttpRequest:
        body = json.dumps(self._envelope(transaction, msgid, sign_no, now), ensure_ascii=False, separators=(",", ":"))
        headers = [("Accept", "application/json"), ("Content-Type", "application/json; charset=utf-8")]
        if "tif" in self.options:
            headers += self._tif(now)
        target = self.options["path"].replace("{infno}", self.infno(transaction.infno))
        return HttpRequest("POST", target, tuple(headers), _MARKED.sub(r"\1", body).encode())

    def _envelope(self, transaction: Transaction, msgid: str, sign_no: str, now: datetime) -> dict[str, Any]:
        options = self.options
        return {
            "infno": self.infno(transaction.infno),
            "msgid": msgid,
            "mdtrtarea_admvs": options["mdtrtarea_admvs"],
            "insuplc_admdvs": transaction.insured_area,
            "recer_sys_code": options["recer_sys_code"],
            "dev_no": options["dev_no"],
            "dev_safe_info": options["dev_safe_info"],
            "cainfo": options["cainfo"],
            "signtype": options["signtype"],
            "infver": options["infver"],
            "opter_type": options["opter_type"],
            "opter": options["opter"],
            "opter_name": options["opter_name"],
            "inf_time": now.astimezone(self.zone).strftime(MOMENT),
            "fixmedins_code": options["fixmedins_code"],
            "fixmedins_name": options["fixmedins_name"],
            "sign_no": sign_no,
            **options["envelope"],
            "input": transaction.input,
        }

    def _tif(self, now: datetime) -> list[tuple[str, str]]:
        """Guangdong's gateway: SHA-256 over timestamp, secret, nonce, timestamp."""
        stamp, nonce = str(int(now.timestamp())), self.nonce()
        try:
            secret = first_line(self.options["tif"]["secret"])
        except SecretUnreadable as error:
            raise HisUnavailable(f"insurance2 tif.secret: {error}") from None
        signature = hashlib.sha256(f"{stamp}{secret}{nonce}{stamp}".encode()).hexdigest()
        return [
            ("x-tif-paasid", self.options["tif"]["paasid"]),
            ("x-tif-timestamp", stamp),
            ("x-tif-nonce", nonce),
            ("x-tif-signature", signature),
        ]

    def _read(self, reply: HttpReply, transaction: Transaction) -> Fields:
        """The answer's envelope. Raises for everything that is none."""
        label, status = transaction.label, reply.status
        if status in _NOT_LET_IN:
            raise HisUnavailable(f"{label}: HTTP status {status}: not let in")
        if status == 429:
            raise HisBusy(f"{label}: HTTP status 429", retry_after=timedelta(minutes=1))
        try:
            answer = json_object(reply.body.decode("utf-8-sig"), label)
            answer.need("infcode")
        except UnicodeDecodeError:
            raise _unclear(transaction, f"{label}: the answer is not UTF-8") from None
        except MappingMismatch as error:
            raise _unclear(transaction, f"{error.detail} (HTTP {status})") from None
        return answer

    @staticmethod
    def _is_refused(answer: Fields) -> bool:
        return answer.text("infcode") != "0"

    def _check_msgid(self, msgid: str, label: str) -> None:
        code = self.options["fixmedins_code"]
        if not msgid.startswith(code) or re.fullmatch(r"[0-9]{18}", msgid[len(code) :]) is None:
            raise invalid(label, "msgid is not fixmedins_code, yyyyMMddHHmmss and four digits")


def _unclear(transaction: Transaction, detail: str) -> MappingMismatch | OutcomeUnknown:
    return MappingMismatch(detail) if transaction.is_read else OutcomeUnknown(detail)
