"""A certificate authority for the bench: demo, sandbox and tests. Never for a hospital.

pki = make_bench_pki(folder, site="440305001")
pki.agent.certificate, pki.agent.key, pki.ca        # paths of PEM files, mode 0600
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.certificate import identity_uri
from agent.handler import Identity

BENCH_DAYS: Final = 365
_LOOPBACK: Final[Sequence[x509.GeneralName]] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a PEM certificate and its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class BenchPki:
    """The files of a bench. Every certificate carries the loopback names, so each may serve and call.

    ``relay``: 160's relay, as server and as the client that dials in. ``agent``: the agent of ``site``.
    """

    folder: Path
    site: str
    ca: Path
    relay: KeyPair
    agent: KeyPair
    operator: KeyPair
    desk: KeyPair


@dataclass(frozen=True, slots=True)
class BenchAuthority:
    """The authority while its key is in memory; it can issue further certificates for tests."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def path(self) -> Path:
        """The authority's certificate, PEM."""
        return self.folder / "ca.pem"

    def issue(
        self,
        name: str,
        identity: Identity | None,
        *,
        lifetime: timedelta = timedelta(days=BENCH_DAYS),
        common_name: str = "",
    ) -> KeyPair:
        """Write ``<name>.pem`` and ``<name>.key``; without an identity the certificate names nobody."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = list(_LOOPBACK)
        if identity is not None:
            names.append(x509.UniformResourceIdentifier(identity_uri(identity)))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(common_name or f"his160 bench {name}", self.certificate.subject, key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        pair = KeyPair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _write(pair.key, _private_bytes(key))
        return pair


def make_authority(folder: Path, name: str = "his160 bench CA") -> BenchAuthority:
    """Make a new authority and write ``ca.pem`` into ``folder``; its key is not written."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, subject, key, timedelta(days=BENCH_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = BenchAuthority(folder, certificate, key)
    _write(authority.path, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def make_bench_pki(folder: Path, *, site: str) -> BenchPki:
    """Make an authority and every certificate of a bench with one site. Overwrites what is in ``folder``."""
    authority = make_authority(folder)
    return BenchPki(
        folder,
        site,
        authority.path,
        relay=authority.issue("relay", Identity("relay", "bench")),
        agent=authority.issue("agent", Identity("site", site)),
        operator=authority.issue("operator", Identity("operator", "bench")),
        desk=authority.issue("desk", Identity("desk", "bench")),
    )


def open_bench_pki(folder: Path, *, site: str) -> BenchPki:
    """The paths of a bench that ``make_bench_pki`` wrote before. Does not look at the files."""
    pairs = {
        name: KeyPair(folder / f"{name}.pem", folder / f"{name}.key") for name in ("relay", "agent", "operator", "desk")
    }
    return BenchPki(folder, site, folder / "ca.pem", **pairs)


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    # An hour back: clocks of a bench differ.
    now = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1) + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, also when it was there before with other rights."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
