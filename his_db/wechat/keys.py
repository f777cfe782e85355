"""Keys of a merchant of WeChat Pay v3, and what is signed with them (WECHATPAY2-SHA256-RSA2048).

Source: pay.weixin.qq.com, 签名与验签规则. Three strings, each line ended by a line feed: request (method, URL,
timestamp, nonce, body), answer and notice (timestamp, nonce, body), client call (appid, timestamp, nonce, prepay_id=…).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from his_db.crypto import rsa
from his_db.errors import HisUnavailable, MappingMismatch
from his_db.secret_reference import SecretUnreadable, first_line, read_secret

SCHEME: Final = "WECHATPAY2-SHA256-RSA2048"
PUBLIC_KEY_PREFIX: Final = "PUB_KEY_ID_"
PROBE: Final = "WECHATPAY/SIGNTEST/"
_TOLERANCE: Final = timedelta(minutes=5)

Header = Callable[[str], str]
"""A header by name, in any case; empty when there is none."""


class SignatureWrong(MappingMismatch):
    """The answer is not signed by WeChat Pay, or not for now."""


class SerialUnknown(SignatureWrong):
    """Signed with a key that the options do not have: it was changed at WeChat Pay. `serial` says which."""

    def __init__(self, serial: str) -> None:
        super().__init__(f"signed with the key {serial or '(none)'}, which platform_keys does not have")
        self.serial = serial


class Keys(Protocol):
    """What a gateway signs and verifies with."""

    def authorization(self, method: str, target: str, body: bytes, moment: datetime, nonce: str) -> str:
        """The header Authorization."""

    def pay_sign(self, appid: str, timestamp: str, nonce: str, package: str) -> str:
        """paySign of wx.requestPayment."""

    def verify(self, header: Header, body: bytes, now: datetime) -> None:
        """Raises SignatureWrong, SerialUnknown."""

    def encrypted(self, text: str) -> str:
        """A personal field for WeChat Pay's eyes; to be sent with `serial` as Wechatpay-Serial."""

    @property
    def serial(self) -> str:
        """Name of the platform key that `encrypted` uses, and that answers should be signed with."""


class MerchantKeys:
    """The real keys, read from their references when they are needed. Raises HisUnavailable when one cannot be had."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._mchid: str = options["mchid"]
        self._certificate: str = options["certificate_serial"]
        self._private: str = options["private_key"]
        self._platform: dict[str, str] = {item["serial"]: item["key"] for item in options["platform_keys"]}
        self._apiv3: str = options.get("apiv3_key", "")

    @property
    def serial(self) -> str:
        return next(iter(self._platform))

    def authorization(self, method: str, target: str, body: bytes, moment: datetime, nonce: str) -> str:
        stamp = str(int(moment.timestamp()))
        signature = rsa.sign(self._key(), request_string(method, target, stamp, nonce, body))
        return (
            f'{SCHEME} mchid="{self._mchid}",nonce_str="{nonce}",signature="{signature}",'
            f'timestamp="{stamp}",serial_no="{self._certificate}"'
        )

    def pay_sign(self, appid: str, timestamp: str, nonce: str, package: str) -> str:
        return rsa.sign(self._key(), f"{appid}\n{timestamp}\n{nonce}\n{package}\n".encode())

    def verify(self, header: Header, body: bytes, now: datetime) -> None:
        serial, signature = header("Wechatpay-Serial"), header("Wechatpay-Signature")
        stamp, nonce = header("Wechatpay-Timestamp"), header("Wechatpay-Nonce")
        if not signature or not stamp:
            raise SignatureWrong("not signed by WeChat Pay")
        if signature.startswith(PROBE):
            raise SignatureWrong("signed as a probe of WeChat Pay")
        if serial not in self._platform:
            raise SerialUnknown(serial if serial.isascii() and serial.isprintable() else "")
        if not _is_recent(stamp, now):
            raise SignatureWrong("signed more than 5 minutes from now: check the clock of this machine")
        if not rsa.verify(self._platform_key(serial), answer_string(stamp, nonce, body), signature):
            raise SignatureWrong("the signature is not that of WeChat Pay")

    def encrypted(self, text: str) -> str:
        return rsa.encrypt(self._platform_key(self.serial), text)

    def opened(self, nonce: str, associated: str, ciphertext: str) -> bytes:
        """The sealed part of a notice. Raises ValueError when it does not open."""
        try:
            key = first_line(self._apiv3).encode()
        except SecretUnreadable as error:
            raise HisUnavailable(f"wechatpay apiv3_key: {error}") from None
        if len(key) != 32:
            raise HisUnavailable("wechatpay apiv3_key: not 32 bytes")
        return rsa.open_sealed(key, nonce, associated, ciphertext)

    def _key(self) -> Any:
        try:
            return rsa.private_key(read_secret(self._private))
        except ValueError as error:
            raise HisUnavailable(f"wechatpay private_key: {error}") from None

    def _platform_key(self, serial: str) -> Any:
        try:
            return rsa.public_key(read_secret(self._platform[serial]))
        except ValueError as error:
            raise HisUnavailable(f"wechatpay platform key {serial}: {error}") from None


class NoKeys:
    """For a `[[test]]`, which goes nowhere: placeholders instead of signatures, answers taken as they are."""

    serial = "(test)"

    def authorization(self, method: str, target: str, body: bytes, moment: datetime, nonce: str) -> str:
        return f"{SCHEME} (not signed in a test)"

    def pay_sign(self, appid: str, timestamp: str, nonce: str, package: str) -> str:
        return "(not signed in a test)"

    def verify(self, header: Header, body: bytes, now: datetime) -> None:
        """Nothing."""

    def encrypted(self, text: str) -> str:
        return "(not encrypted in a test)"


def request_string(method: str, target: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """What a request's signature is over. `target`: path and query as WeChat Pay sees them."""
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n".encode() + body + b"\n"


def answer_string(timestamp: str, nonce: str, body: bytes) -> bytes:
    """What the signature of an answer or a notice is over."""
    return f"{timestamp}\n{nonce}\n".encode() + body + b"\n"


def _is_recent(stamp: str, now: datetime) -> bool:
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
        return False
    return abs(now.timestamp() - int(stamp)) <= _TOLERANCE.total_seconds()
