"""Identities in certificates, and the bench's own authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent.bench_pki import BenchAuthority, make_authority, make_bench_pki, open_bench_pki
from agent.certificate import CertificateError, expiry_of, identity_of, read_expiry, site_of
from agent.handler import Identity


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> BenchAuthority:
    return make_authority(tmp_path_factory.mktemp("ca"))


def test_the_bench_has_every_identity(tmp_path: Path) -> None:
    pki = make_bench_pki(tmp_path, site="440305001")
    assert identity_of(pki.agent.certificate.read_bytes()) == Identity("site", "440305001")
    assert site_of(pki.agent.certificate.read_bytes()) == "440305001"
    for kind in ("relay", "operator", "desk"):
        pem = getattr(pki, kind).certificate.read_bytes()
        assert str(identity_of(pem)) == f"{kind}/bench"
        with pytest.raises(CertificateError):
            site_of(pem)
    assert open_bench_pki(tmp_path, site="440305001") == pki
    left = read_expiry(pki.agent.certificate) - datetime.now(UTC)
    assert timedelta(days=300) < left < timedelta(days=367)


def test_the_bench_serves_on_the_loopback(authority: BenchAuthority) -> None:
    pair = authority.issue("server", None)
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("common_name", "identity"),
    [
        ("his160://relay/north", Identity("relay", "north")),
        ("operator/li.lei", Identity("operator", "li.lei")),
        ("local/x", None),
        ("root/x", None),
        ("relay/", None),
        ("relay/a b", None),
        ("relay/a/b", None),
        ("somebody", None),
    ],
)
def test_the_common_name_is_the_second_choice(
    authority: BenchAuthority, common_name: str, identity: Identity | None
) -> None:
    pem = authority.issue("cn", None, common_name=common_name).certificate.read_bytes()
    if identity is None:
        with pytest.raises(CertificateError):
            identity_of(pem)
    else:
        assert identity_of(pem) == identity


def test_the_alternative_name_wins(authority: BenchAuthority) -> None:
    pem = authority.issue("both", Identity("desk", "w1"), common_name="his160://relay/x").certificate.read_bytes()
    assert identity_of(pem) == Identity("desk", "w1")


def test_what_is_no_certificate_is_an_error() -> None:
    for wrong in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(CertificateError):
            identity_of(wrong)
        with pytest.raises(CertificateError):
            expiry_of(wrong)


def test_files_are_replaced(tmp_path: Path) -> None:
    first = make_authority(tmp_path).path.read_bytes()
    assert make_authority(tmp_path).path.read_bytes() != first
