"""SM3 (GB/T 32905) and SM4 (GB/T 32907) from `cryptography`, in the forms that platforms use."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_BLOCK: Final = 16


def sm3(message: bytes) -> bytes:
    """The digest, 32 bytes."""
    engine = hashes.Hash(hashes.SM3())
    engine.update(message)
    return engine.finalize()


def sm4_encrypt(key: bytes, plain: bytes, iv: bytes | None = None) -> bytes:
    """PKCS#7, ECB; CBC with an iv. Raises ValueError for a key or iv that is not 16 bytes."""
    padder = padding.PKCS7(_BLOCK * 8).padder()
    engine = _cipher(key, iv).encryptor()
    return engine.update(padder.update(plain) + padder.finalize()) + engine.finalize()


def sm4_decrypt(key: bytes, sealed: bytes, iv: bytes | None = None) -> bytes:
    """The reverse of `sm4_encrypt`. Raises ValueError for what was not encrypted with this key."""
    engine = _cipher(key, iv).decryptor()
    unpadder = padding.PKCS7(_BLOCK * 8).unpadder()
    return unpadder.update(engine.update(sealed) + engine.finalize()) + unpadder.finalize()


def _cipher(key: bytes, iv: bytes | None) -> Cipher[modes.ECB] | Cipher[modes.CBC]:
    # ECB is what the mobile payment centre's specification says; nobody would choose it.
    return Cipher(algorithms.SM4(key), modes.ECB()) if iv is None else Cipher(algorithms.SM4(key), modes.CBC(iv))  # noqa: S305
