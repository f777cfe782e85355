"""Who a certificate names, and until when it is good.

The identity stands in a URI of the subject alternative name: ``his160://relay/<name>``, ``his160://site/<site>``,
``his160://operator/<name>``, ``his160://desk/<name>``. For authorities that cannot issue URIs, the same URI (or its
part after ``his160://``) may stand in the common name; a URI in the subject alternative name wins.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, get_args

from cryptography import x509
from cryptography.x509.oid import NameOID

from agent.handler import Identity, IdentityKind

SCHEME: Final = "his160://"
_KINDS: Final = frozenset(get_args(IdentityKind)) - {"local"}
_IDENTITY: Final = re.compile(r"([a-z]+)/([A-Za-z0-9][A-Za-z0-9._-]{0,62})")


class CertificateError(ValueError):
    """A certificate that cannot be read, or that names nobody of this system."""


def identity_uri(identity: Identity) -> str:
    """The URI that a certificate of this identity carries."""
    return f"{SCHEME}{identity.kind}/{identity.name}"


@lru_cache(maxsize=256)
def identity_of(certificate: bytes) -> Identity:
    """The identity in a PEM certificate (the first, of a chain). CertificateError unless it names exactly one."""
    parsed = _load(certificate)
    named = {found for uri in _uris(parsed) if (found := _parse(uri)) is not None}
    if not named:
        names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        named = {found for name in names if (found := _parse(str(name.value))) is not None}
    if len(named) != 1:
        raise CertificateError("the certificate names no identity" if not named else "the certificate names several")
    return named.pop()


def site_of(certificate: bytes) -> str:
    """The site code in an agent's certificate. Raises CertificateError when it is not an agent's."""
    identity = identity_of(certificate)
    if identity.kind != "site":
        raise CertificateError("the certificate is not one of a site")
    return identity.name


def expiry_of(certificate: bytes) -> datetime:
    """When a PEM certificate (the first, of a chain) ends, UTC."""
    return _load(certificate).not_valid_after_utc


def read_expiry(path: Path) -> datetime:
    """When the certificate in a file ends, UTC. Raises OSError and CertificateError."""
    return expiry_of(path.read_bytes())


def _load(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise CertificateError("not a PEM certificate") from error


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise CertificateError("the subject alternative name cannot be read") from error
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _parse(text: str) -> Identity | None:
    match = _IDENTITY.fullmatch(text.removeprefix(SCHEME))
    if match is None or match[1] not in _KINDS:
        return None
    kind: IdentityKind = match[1]  # type: ignore[assignment]  # checked against the Literal's own members above
    return Identity(kind, match[2])
