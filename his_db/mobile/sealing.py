"""Sealing of the mobile payment centre: canonical string, SM2 signature, SM4 encryption.

Source: 医保移动支付中心 接口规范 (national V2.2.5 §2.3, as worded by provinces; Shanxi v1.3.35 §5.6.5). The canonical
string: all fields but signData, encData and extra, sorted by name; empty ones (null, "", {}, []) left out, also inside;
objects as compact JSON sorted by name; `k=v` joined by `&`; the app secret behind it as `key`. The message key of SM4:
the app secret, encrypted with SM4 under the first 16 bytes of the appId, as upper-case hex, its first 16 characters.
First the message with its plain data is signed, then the data is encrypted and left out. What differs between provinces
is an option.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Protocol

from his_db.crypto.sm import sm4_decrypt, sm4_encrypt
from his_db.crypto.sm2 import Sm2Private, Sm2Public
from his_db.errors import HisUnavailable, MappingMismatch
from his_db.mapping.reply import ReplyError, parse_json
from his_db.secret_reference import SecretUnreadable, first_line

_UNSIGNED: Final = frozenset({"signData", "encData", "extra"})
_KEY: Final = 16
private_of = lru_cache(4)(Sm2Private.of_text)
public_of = lru_cache(4)(Sm2Public.of_text)


class SealBroken(MappingMismatch):
    """The message is not signed by the centre, or does not open."""


class Seals(Protocol):
    """What a gateway seals its messages with."""

    def sealed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The message as it is sent. `message` holds `data`."""

    def opened(self, message: Mapping[str, Any], label: str) -> dict[str, Any]:
        """The `data` of a message of the centre. Raises SealBroken."""


@dataclass(frozen=True, slots=True)
class CentreSeals:
    """The real ones. Raises HisUnavailable for a key that cannot be had."""

    options: Mapping[str, Any]

    def sealed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        options = self.options
        secret = _secret(options, "app_secret")
        message = {**message, "data": cleaned(message["data"]) or {}}
        found: dict[str, Any] = dict(message)
        if options["encryption"] == "SM4":
            plain = compact(message["data"]).encode()
            found["encData"] = _written(sm4_encrypt(self._message_key(secret), plain), options)
            del found["data"]
        private = self._private()
        source = canonical(message, secret if options["secret_in_signature"] else "")
        signature = private.sign(source.encode(), user_id=self._user_id(), der=options["signature"] == "der")
        found["signData"] = base64.b64encode(signature).decode()
        return found

    def opened(self, message: Mapping[str, Any], label: str) -> dict[str, Any]:
        options = self.options
        secret = _secret(options, "app_secret")
        data = message.get("data")
        if message.get("encData"):
            data = self._decrypted(message["encData"], secret, label)
        if not isinstance(data, dict):
            raise SealBroken(f"{label}: the message has no data")
        if options["answers_signed"]:
            self._verify({**message, "data": data}, secret, label)
        return data

    def _verify(self, message: Mapping[str, Any], secret: str, label: str) -> None:
        try:
            signature = base64.b64decode(str(message.get("signData", "")), validate=True)
        except (binascii.Error, ValueError):
            signature = b""
        source = canonical(message, secret if self.options["secret_in_signature"] else "")
        is_der = self.options["signature"] == "der"
        if not self._public().verify(source.encode(), signature, user_id=self._user_id(), der=is_der):
            raise SealBroken(f"{label}: not signed by the payment centre")

    def _decrypted(self, text: Any, secret: str, label: str) -> Any:
        try:
            sealed = (
                bytes.fromhex(text) if self.options["cipher_text"] == "hex" else base64.b64decode(text, validate=True)
            )
            return parse_json(sm4_decrypt(self._message_key(secret), sealed).decode())
        except (ValueError, TypeError, ReplyError):
            raise SealBroken(f"{label}: the message does not open") from None

    def _message_key(self, secret: str) -> bytes:
        if "sm4_key" in self.options:
            given = _secret(self.options, "sm4_key")
            key = given.encode() if len(given) == _KEY else _hex(given)
        else:
            key = derived_key(self.options["app_id"], secret)
        if len(key) != _KEY:
            raise HisUnavailable("mobile_payment sm4_key: not 16 bytes")
        return key

    def _private(self) -> Sm2Private:
        try:
            return private_of(_secret(self.options, "private_key"))
        except ValueError as error:
            raise HisUnavailable(f"mobile_payment private_key: {error}") from None

    def _public(self) -> Sm2Public:
        try:
            return public_of(_secret(self.options, "platform_key"))
        except ValueError as error:
            raise HisUnavailable(f"mobile_payment platform_key: {error}") from None

    def _user_id(self) -> bytes:
        return str(self.options["user_id"]).encode()


class NoSeals:
    """For a `[[test]]`, which goes nowhere: data in the clear, in both directions."""

    def sealed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {**message, "data": cleaned(message["data"]) or {}, "signData": "(not signed in a test)"}

    def opened(self, message: Mapping[str, Any], label: str) -> dict[str, Any]:
        data = message.get("data")
        if not isinstance(data, dict):
            raise SealBroken(f"{label}: the message has no data")
        return data


def derived_key(app_id: str, secret: str) -> bytes:
    """The message key of SM4, 16 bytes. Raises HisUnavailable for an appId that is too short."""
    if len(app_id.encode()) < _KEY:
        raise HisUnavailable("mobile_payment app_id: shorter than 16 characters; give sm4_key")
    return sm4_encrypt(app_id.encode()[:_KEY], secret.encode()).hex().upper()[:_KEY].encode()


def canonical(message: Mapping[str, Any], secret: str) -> str:
    """What is signed."""
    parts = []
    for name in sorted(message):
        value = cleaned(message[name])
        if name not in _UNSIGNED and value is not None:
            parts.append(f"{name}={_text(value)}")
    return "&".join([*parts, f"key={secret}"] if secret else parts)


def cleaned(value: Any) -> Any:
    """The value without its empty parts; None when nothing is left."""
    if isinstance(value, Mapping):
        found = {name: item for name, raw in value.items() if (item := cleaned(raw)) is not None}
        return found or None
    if isinstance(value, list):
        items = [item for raw in value if (item := cleaned(raw)) is not None]
        return items or None
    return None if value is None or value == "" else value


def compact(value: Any) -> str:
    """JSON without blanks, sorted by name, Chinese as it is, numbers as they came."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_quoted(name)}:{compact(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(compact, value)) + "]"
    return str(value) if isinstance(value, Decimal) else _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return compact(value) if isinstance(value, (Mapping, list)) else str(value)


def _written(sealed: bytes, options: Mapping[str, Any]) -> str:
    return sealed.hex().upper() if options["cipher_text"] == "hex" else base64.b64encode(sealed).decode()


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _secret(options: Mapping[str, Any], name: str) -> str:
    try:
        return first_line(options[name])
    except SecretUnreadable as error:
        raise HisUnavailable(f"mobile_payment {name}: {error}") from None
