"""Who a certificate names, and until when it is good.

The identity stands in a URI of the subject alternative name: ``his160://relay/<name>``, ``his160://site/<site>``,
``his160://operator/<name>``, ``his160://desk/<name>``. For authorities that cannot issue URIs, the same URI (or its
part after ``his160://``) may stand in the common name; a URI in the subject alternative name wins.
"""

from __future__ import annotations

import binascii
import re
import ssl
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, get_args

from agent.certificate_der import Certificate, MalformedCertificate, parse_certificate
from agent.handler import Identity, IdentityKind

SCHEME: Final = "his160://"
_KINDS: Final = frozenset(get_args(IdentityKind)) - {"local"}
_IDENTITY: Final = re.compile(r"([a-z]+)/([A-Za-z0-9][A-Za-z0-9._-]{0,62})")
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.+?)\s-----END CERTIFICATE-----", re.DOTALL)


class CertificateError(ValueError):
    """A certificate that cannot be read, or that names nobody of this system."""


def identity_uri(identity: Identity) -> str:
    """The URI that a certificate of this identity carries."""
    return f"{SCHEME}{identity.kind}/{identity.name}"


@lru_cache(maxsize=256)
def identity_of(certificate: bytes) -> Identity:
    """The identity in a PEM certificate (the first, of a chain). CertificateError unless it names exactly one."""
    parsed = _load(certificate)
    named = {found for uri in parsed.uris if (found := _parse(uri)) is not None}
    if not named:
        named = {found for name in parsed.common_names if (found := _parse(name)) is not None}
    if len(named) != 1:
        raise CertificateError("the certificate names no identity" if not named else "the certificate names several")
    return named.pop()


def identity_of_der(certificate: bytes) -> Identity:
    """The identity in a DER certificate, as TLS sockets show it. Raises CertificateError."""
    return identity_of(ssl.DER_cert_to_PEM_cert(certificate).encode())


def site_of(certificate: bytes) -> str:
    """The site code in an agent's certificate. Raises CertificateError when it is not an agent's."""
    identity = identity_of(certificate)
    if identity.kind != "site":
        raise CertificateError("the certificate is not one of a site")
    return identity.name


def expiry_of(certificate: bytes) -> datetime:
    """When a PEM certificate (the first, of a chain) ends, UTC. Raises CertificateError."""
    return _load(certificate).ends


def read_expiry(path: Path) -> datetime:
    """When the certificate in a file ends, UTC. Raises OSError and CertificateError."""
    return expiry_of(path.read_bytes())


def _load(certificate: bytes) -> Certificate:
    found = _PEM.search(certificate)
    if found is None:
        raise CertificateError("not a PEM certificate")
    try:
        return parse_certificate(binascii.a2b_base64(b"".join(found[1].split()), strict_mode=True))
    except binascii.Error as error:
        raise CertificateError("not a PEM certificate") from error
    except MalformedCertificate as error:
        raise CertificateError(str(error)) from error


def _parse(text: str) -> Identity | None:
    match = _IDENTITY.fullmatch(text.removeprefix(SCHEME))
    if match is None or match[1] not in _KINDS:
        return None
    kind: IdentityKind = match[1]  # type: ignore[assignment]  # checked against the Literal's own members above
    return Identity(kind, match[2])
