"""RSA as WeChat Pay v3 uses it: SHA256withRSA signatures, OAEP (SHA-1) for personal fields; AES-256-GCM for notices.

Source: pay.weixin.qq.com, 签名与验签规则, 敏感信息加解密. Parsed keys are kept by their text: parsing checks the
primes, which takes longer than a signature.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class KeyUnusable(ValueError):
    """The text is no key of the kind that is wanted. The message holds nothing of it."""


@lru_cache(maxsize=16)
def private_key(pem: str) -> rsa.RSAPrivateKey:
    """An RSA private key in PEM (PKCS#1 or PKCS#8, without a password). Raises KeyUnusable."""
    try:
        found = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise KeyUnusable("is no private key in PEM") from None
    if not isinstance(found, rsa.RSAPrivateKey):
        raise KeyUnusable("is no RSA key")
    return found


@lru_cache(maxsize=16)
def public_key(pem: str) -> rsa.RSAPublicKey:
    """The RSA public key of a PEM public key or certificate. Raises KeyUnusable."""
    try:
        if "BEGIN CERTIFICATE" in pem:
            found = x509.load_pem_x509_certificate(pem.encode()).public_key()
        else:
            found = serialization.load_pem_public_key(pem.encode())  # type: ignore[assignment]
    except ValueError:
        raise KeyUnusable("is no public key or certificate in PEM") from None
    if not isinstance(found, rsa.RSAPublicKey):
        raise KeyUnusable("is no RSA key")
    return found


def sign(key: rsa.RSAPrivateKey, message: bytes) -> str:
    """SHA256withRSA (PKCS#1 v1.5), base64."""
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def verify(key: rsa.RSAPublicKey, message: bytes, signature: str) -> bool:
    """Whether the base64 signature is that of the message."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


_OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 - the protocol says so


def encrypt(key: rsa.RSAPublicKey, text: str) -> str:
    """RSA-OAEP (SHA-1, MGF1), base64."""
    return base64.b64encode(key.encrypt(text.encode(), _OAEP)).decode()


def decrypt(key: rsa.RSAPrivateKey, text: str) -> str:
    """The reverse of `encrypt`. Raises ValueError."""
    return key.decrypt(base64.b64decode(text, validate=True), _OAEP).decode()


def open_sealed(key: bytes, nonce: str, associated: str, ciphertext: str) -> bytes:
    """AEAD_AES_256_GCM of a notice. `key`: the 32 bytes of the APIv3 key. Raises ValueError when it does not open."""
    try:
        sealed = base64.b64decode(ciphertext, validate=True)
        return AESGCM(key).decrypt(nonce.encode(), sealed, associated.encode())
    except (InvalidTag, binascii.Error, ValueError):
        raise ValueError("the sealed part does not open") from None


def seal(key: bytes, nonce: str, associated: str, plain: bytes) -> str:
    """The reverse of `open_sealed`."""
    return base64.b64encode(AESGCM(key).encrypt(nonce.encode(), plain, associated.encode())).decode()
