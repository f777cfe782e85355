"""SM2 (GB/T 32918) behind two small classes: signatures with a user id, encryption in both orders.

The curve's arithmetic is `gmalg`'s (a kept pure-Python library); here are the forms in which keys, signatures and
ciphertexts travel: keys as hex or base64, private ones with a leading zero byte, public ones with and without 04;
signatures as r‖s or DER; ciphertexts C1C3C2 or C1C2C3.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from gmalg import SM2, SM3
from gmalg.ellipticcurve import ECDLP, EllipticCurve
from gmalg.errors import GMError
from gmalg.primefield import PrimeField
from gmalg.sm2 import SM2Core

DEFAULT_USER_ID: Final = b"1234567812345678"
_SIZE: Final = 32
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_POINT: Final = 1 + 2 * _SIZE

# GB/T 32918.5, the recommended curve: p, a, b, the base point, its order.
_P: Final = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_00000000_FFFFFFFF_FFFFFFFF
_A: Final = _P - 3
_B: Final = 0x28E9FA9E_9D9F5E34_4D5A9E4B_CF6509A7_F39789F5_15AB8F92_DDBCBD41_4D940E93
_G: Final = (
    0x32C4AE2C_1F198119_5F990446_6A39C994_8FE30BBF_F2660BE1_715A4589_334C74C7,
    0xBC3736A2_F4F6779C_59BDCEE3_6B692153_D0A9877C_C62A4740_02DF32E5_2139F0A0,
)
_N: Final = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_7203DF6B_21C6052B_53BBF409_39D54123

Random = Callable[[int], int]
"""Gives a random number of that many bits."""


class _Field(PrimeField):  # type: ignore[misc]  # the library has no types
    """Inverses by Python's own ``pow``: they are most of the work, and with the library's a signature takes twice as
    long, during which every other call of the agent gets only every second turn."""

    def inv(self, x: int) -> int:
        return pow(x, -1, self.p) if x else 0


class _Sm2(SM2):  # type: ignore[misc]
    """The library's SM2 over that field."""

    def __init__(
        self,
        sk: bytes | None = None,
        uid: bytes | None = None,
        pk: bytes | None = None,
        *,
        rnd_fn: Random | None = None,
    ) -> None:
        super().__init__(uid=uid, pk=pk, rnd_fn=rnd_fn)
        self._core = SM2Core(_CURVE, SM3(), rnd_fn)
        if sk is not None:
            self._sk = int.from_bytes(sk, "big")
            self._pk = self._get_pk(pk)


def _curve() -> ECDLP:
    curve = ECDLP(_P, _A, _B, _G, _N)
    curve.ec = EllipticCurve(_Field(_P), _A, _B)
    return curve


_CURVE: Final = _curve()


class KeyUnusable(ValueError):
    """The text is no SM2 key. The message holds nothing of it."""


class Sm2Public:
    """A public key."""

    def __init__(self, point: bytes) -> None:
        """`point`: 65 bytes with 04, or 64 without. Raises KeyUnusable for one that is not on the curve."""
        raw = point if len(point) == _POINT else b"\x04" + point
        if len(raw) != _POINT or raw[0] != 4:
            raise KeyUnusable("is no SM2 public key of 64 or 65 bytes")
        self.point = raw
        if not _Sm2(pk=raw).verify_pk(raw):
            raise KeyUnusable("is no point of the SM2 curve")

    @classmethod
    def of_text(cls, text: str) -> Sm2Public:
        """Hex or base64. Raises KeyUnusable."""
        return cls(_bytes(text))

    def verify(self, message: bytes, signature: bytes, *, user_id: bytes = DEFAULT_USER_ID, der: bool = False) -> bool:
        """Whether the signature (r‖s, or DER) is that of the message under the user id (ZA)."""
        try:
            r, s = _from_der(signature) if der else (signature[:_SIZE], signature[_SIZE:])
            if len(r) != _SIZE or len(s) != _SIZE:
                return False
            return bool(_Sm2(pk=self.point, uid=user_id).verify(message, r, s))
        except (GMError, ValueError):
            return False

    def encrypt(
        self, plain: bytes, *, c1c2c3: bool = False, prefix: bool = True, random: Random | None = None
    ) -> bytes:
        """C1C3C2, or C1C2C3; `prefix`: C1 begins with 04. Raises ValueError for nothing to encrypt."""
        if not plain:
            raise ValueError("nothing to encrypt")
        found = bytes(_Sm2(pk=self.point, rnd_fn=random).encrypt(plain))
        c1, c3, c2 = found[:_POINT], found[_POINT : _POINT + _SIZE], found[_POINT + _SIZE :]
        c1 = c1 if prefix else c1[1:]
        return c1 + c2 + c3 if c1c2c3 else c1 + c3 + c2


class Sm2Private:
    """A private key."""

    def __init__(self, key: bytes) -> None:
        """32 bytes, or 33 of which the first is zero. Raises KeyUnusable."""
        raw = key[1:] if len(key) == _SIZE + 1 and key[0] == 0 else key
        if len(raw) != _SIZE or not any(raw):
            raise KeyUnusable("is no SM2 private key of 32 bytes")
        self._key = raw
        self.public = Sm2Public(bytes(_Sm2().generate_pk(raw)))

    @classmethod
    def of_text(cls, text: str) -> Sm2Private:
        """Hex or base64. Raises KeyUnusable."""
        return cls(_bytes(text))

    @classmethod
    def generate(cls) -> Sm2Private:
        """A new one."""
        # The library leaves leading zeros out: one key in 256 would be too short.
        return cls(bytes(_Sm2().generate_keypair()[0]).rjust(_SIZE, b"\0"))

    @property
    def hex(self) -> str:
        """The key, for a file of keys."""
        return self._key.hex()

    def sign(
        self,
        message: bytes,
        *,
        user_id: bytes = DEFAULT_USER_ID,
        der: bool = False,
        random: Random | None = None,
    ) -> bytes:
        """r‖s (64 bytes), or DER. SM3 with ZA of the user id goes before."""
        r, s = _Sm2(sk=self._key, pk=self.public.point, uid=user_id, rnd_fn=random).sign(message)
        r, s = bytes(r).rjust(_SIZE, b"\x00"), bytes(s).rjust(_SIZE, b"\x00")
        return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")) if der else r + s

    def decrypt(self, sealed: bytes, *, c1c2c3: bool = False, prefix: bool = True) -> bytes:
        """The reverse of `Sm2Public.encrypt`. Raises ValueError for what does not open."""
        raw = sealed if prefix else b"\x04" + sealed
        c1, rest = raw[:_POINT], raw[_POINT:]
        if len(rest) <= _SIZE:
            raise ValueError("the sealed part is too short")
        c3, c2 = (rest[-_SIZE:], rest[:-_SIZE]) if c1c2c3 else (rest[:_SIZE], rest[_SIZE:])
        try:
            return bytes(_Sm2(sk=self._key).decrypt(c1 + c3 + c2))
        except (GMError, ValueError, IndexError):
            raise ValueError("the sealed part does not open") from None


def _from_der(signature: bytes) -> tuple[bytes, bytes]:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(_SIZE, "big"), s.to_bytes(_SIZE, "big")


def _bytes(text: str) -> bytes:
    """Hex where it can be nothing else, base64 otherwise. Raises KeyUnusable."""
    text = "".join(text.split())
    try:
        return bytes.fromhex(text) if _HEX.fullmatch(text) else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise KeyUnusable("is neither hex nor base64") from None
