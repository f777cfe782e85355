"""Our own reading of a certificate, beside that of ``cryptography``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.certificate_der import Certificate, MalformedCertificate, parse_certificate

KEY = ec.generate_private_key(ec.SECP256R1())
ENDS = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def made(
    uris: list[str],
    names: list[str],
    *,
    ends: datetime = ENDS,
    kind: _ASN1Type | None = None,
    others: tuple[x509.GeneralName, ...] = (),
) -> bytes:
    """A certificate in DER."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "医院")]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, name, _type=kind) for name in names]
    subject = x509.Name(attributes)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(min(ends, ENDS) - timedelta(days=30)).not_valid_after(ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    alternatives = [*others, *(x509.UniformResourceIdentifier(uri) for uri in uris)]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    builder = builder.add_extension(x509.KeyUsage(*[True] + [False] * 8), critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def as_others_read(der: bytes) -> Certificate:
    """The same by cryptography."""
    found = x509.load_der_x509_certificate(der)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    except x509.ExtensionNotFound:
        uris = ()
    common = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Certificate(uris, tuple(str(name.value) for name in common), found.not_valid_after_utc)


TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=63)


@given(st.lists(TEXTS, max_size=3), st.lists(st.text("aé医院/. ", min_size=1, max_size=40), max_size=2))
@settings(max_examples=25, deadline=None)
def test_it_reads_what_others_read(uris: list[str], names: list[str]) -> None:
    der = made(uris, names)
    assert parse_certificate(der) == as_others_read(der) == Certificate(tuple(uris), tuple(names), ENDS)


@pytest.mark.parametrize("kind", [_ASN1Type.PrintableString, _ASN1Type.T61String, _ASN1Type.BMPString])
def test_names_of_every_kind_of_text(kind: _ASN1Type) -> None:
    der = made([], ["operator/li.lei"], kind=kind)
    assert parse_certificate(der).common_names == ("operator/li.lei",)


def test_other_alternative_names_are_passed_over() -> None:
    der = made(["his160://desk/w1"], [], others=(x509.DNSName("localhost"), x509.RFC822Name("a@b.cn")))
    assert parse_certificate(der).uris == ("his160://desk/w1",)


@pytest.mark.parametrize(
    "ends", [datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC), ENDS.replace(year=9999)]
)
def test_both_ways_to_write_a_time(ends: datetime) -> None:
    assert parse_certificate(made([], ["a"], ends=ends)).ends == ends


def test_a_name_that_is_no_text_names_nobody_and_the_end_is_read() -> None:
    der = made([], ["operator/li"])
    broken = parse_certificate(der.replace(b"operator/li", b"operator/\xc0\xee"))
    assert broken.common_names == ("operator/\ufffd\ufffd",)
    assert broken.ends == ENDS


def test_two_subject_alternative_names_are_none() -> None:
    der = made(["his160://desk/w1"], [])
    # The key usage (2.5.29.15) becomes another subject alternative name (2.5.29.17).
    with pytest.raises(MalformedCertificate, match="two subject alternative names"):
        parse_certificate(der.replace(b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x11"))


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(MalformedCertificate, match="behind its end"):
        parse_certificate(made([], ["a"]) + b"\0")


DER = made(["his160://site/440305001"], ["operator/li.lei"])


@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.sampled_from(["set", "cut", "out", "in"]))
@settings(max_examples=400, deadline=None)
def test_damage_is_an_error_or_what_others_read(at: int, byte: int, how: str) -> None:
    changed = {
        "set": DER[:at] + bytes([byte]) + DER[at + 1 :],
        "cut": DER[:at],
        "out": DER[:at] + DER[at + 1 :],
        "in": DER[:at] + bytes([byte]) + DER[at:],
    }[how]
    try:
        ours = parse_certificate(changed)
    except MalformedCertificate:
        return
    try:
        theirs = as_others_read(changed)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion):
        return  # it looks at more than we do
    if "\ufffd" not in "".join([*ours.uris, *ours.common_names]):
        assert ours == theirs
