"""WeChat Pay's side of the wire, simulated: verifies a merchant's request, signs answers and notices."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys

from his_db.crypto import rsa
from his_db.simulator import Asked, Told
from his_db.wechat.keys import PROBE, SCHEME, answer_string, request_string

MCHID: Final = "1900000109"
APPID: Final = "wxd678efh567hg6787"
CERTIFICATE_SERIAL: Final = "1DDE55AD98ED71D6EDD4A4A16996DE7B47773A8C"
PLATFORM_SERIAL: Final = "PUB_KEY_ID_0119000001092024"
_PART: Final = re.compile(r'(\w+)="([^"]*)"')
_SKEW: Final = 300


class Refusal(Exception):
    """The simulated service says no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bad(message: str) -> Refusal:
    """PARAM_ERROR."""
    return Refusal(400, "PARAM_ERROR", message)


@dataclass(frozen=True, slots=True)
class Wire:
    """The keys of both sides that the simulator needs."""

    merchant_public: Any
    platform_private: Any
    apiv3_key: bytes

    def verified(self, asked: Asked, now: datetime) -> None:
        """Raises Refusal (401 SIGN_ERROR) for a request whose Authorization is not right in every part."""
        scheme, _, rest = asked.headers.get("authorization", "").partition(" ")
        parts = dict(_PART.findall(rest))
        if scheme != SCHEME or parts.keys() != {"mchid", "nonce_str", "signature", "timestamp", "serial_no"}:
            raise Refusal(401, "SIGN_ERROR", "Http头缺少Accept或User-Agent，或Authorization不正确")
        if parts["mchid"] != MCHID or parts["serial_no"] != CERTIFICATE_SERIAL:
            raise Refusal(401, "SIGN_ERROR", "商户证书序列号有误")
        if not 1 <= len(parts["nonce_str"]) <= 32 or not parts["timestamp"].isdigit():
            raise Refusal(401, "SIGN_ERROR", "签名信息格式错误")
        if abs(now.timestamp() - int(parts["timestamp"])) > _SKEW:
            raise Refusal(401, "SIGN_ERROR", "Authorization中的timestamp与发起请求的时间不能超过5分钟")
        text = request_string(asked.method, asked.target, parts["timestamp"], parts["nonce_str"], asked.body)
        if not rsa.verify(self.merchant_public, text, parts["signature"]):
            raise Refusal(401, "SIGN_ERROR", "签名错误，请检查后再试")
        if "accept" not in asked.headers or "user-agent" not in asked.headers:
            raise bad("Http头缺少Accept或User-Agent")

    def told(self, status: int, body: Mapping[str, Any] | None, now: datetime) -> Told:
        """An answer with its signature."""
        raw = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        return Told(status, raw, self.signature(raw, now))

    def signature(self, body: bytes, now: datetime) -> tuple[tuple[str, str], ...]:
        """The four headers."""
        stamp, nonce = str(int(now.timestamp())), secrets.token_hex(16)
        return (
            ("Wechatpay-Serial", PLATFORM_SERIAL),
            ("Wechatpay-Timestamp", stamp),
            ("Wechatpay-Nonce", nonce),
            ("Wechatpay-Signature", rsa.sign(self.platform_private, answer_string(stamp, nonce, body))),
        )

    def notice(
        self, event: str, resource: Mapping[str, Any], now: datetime, *, notice_id: str, probe: bool = False
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body of a notice; a probe has a signature that must not pass."""
        nonce, associated = secrets.token_hex(6), "transaction"
        plain = json.dumps(resource, ensure_ascii=False).encode()
        body = {
            "id": notice_id,
            "create_time": now.isoformat(timespec="seconds"),
            "resource_type": "encrypt-resource",
            "event_type": event,
            "summary": "支付成功",
            "resource": {
                "original_type": associated,
                "algorithm": "AEAD_AES_256_GCM",
                "ciphertext": rsa.seal(self.apiv3_key, nonce, associated, plain),
                "associated_data": associated,
                "nonce": nonce,
            },
        }
        raw = json.dumps(body, ensure_ascii=False).encode()
        headers = dict(self.signature(raw, now))
        if probe:
            headers["Wechatpay-Signature"] = PROBE + headers["Wechatpay-Signature"]
        return {**headers, "Content-Type": "application/json"}, raw


def spoiled(told: Told) -> Told:
    """The answer with the signature of another one."""
    return Told(told.status, told.body + b" ", told.headers, told.content_type)


FILES: Final = ("merchant_key.pem", "merchant_public.pem", "platform_key.pem", "platform_public.pem", "apiv3.key")


def make_keys(folder: Path) -> None:
    """Both key pairs and the APIv3 key, where there are none yet."""
    if all((folder / name).exists() for name in FILES):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("merchant", "platform"):
        key = rsa_keys.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{side}_key.pem").write_bytes(private)
        (folder / f"{side}_public.pem").write_bytes(public)
    (folder / "apiv3.key").write_text(secrets.token_hex(16), encoding="utf-8")


def wire_of(folder: Path) -> Wire:
    """The simulator's keys, as `make_keys` left them."""
    return Wire(
        rsa.public_key((folder / "merchant_public.pem").read_text(encoding="utf-8")),
        rsa.private_key((folder / "platform_key.pem").read_text(encoding="utf-8")),
        (folder / "apiv3.key").read_bytes().strip(),
    )
