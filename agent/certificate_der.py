"""What the agent wants to know of an X.509 certificate, read from its DER: names and the end of its time.

TLS has verified the certificate before anybody asks here; nothing is verified here. The package ``cryptography`` would
tell the same and keep 9 MB of an idle agent for it, so it is left to what signs and encrypts (``his_db/crypto``) and
to the commands for people. A structure that is not as DER has it is refused: what can be read in two ways is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_UNIQUE_IDS: Final = frozenset({0x81, 0x82})
_URI: Final = 0x86  # [6] IA5String of a GeneralName
_BOOLEAN: Final = 0x01

_COMMON_NAME: Final = b"\x55\x04\x03"
_ALTERNATIVE_NAME: Final = b"\x55\x1d\x11"

_ENCODINGS: Final = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
_TIMES: Final = {_UTC_TIME: re.compile(rb"\d{12}Z"), _GENERALIZED_TIME: re.compile(rb"\d{14}Z")}
_LONGEST: Final = 4  # bytes of a length: no certificate has more


class MalformedCertificate(ValueError):
    """The bytes are no X.509 certificate in DER."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """``uris``: of the subject alternative name; ``common_names``: of the subject; ``ends``: UTC.

    Bytes of a name that are no text of its kind are U+FFFD.
    """

    uris: tuple[str, ...]
    common_names: tuple[str, ...]
    ends: datetime


def parse_certificate(der: bytes) -> Certificate:
    """Reads one certificate. Raises MalformedCertificate, also for bytes behind it."""
    body = _Reader(der).only(_SEQUENCE)
    tbs = body.enter(_SEQUENCE)
    body.take(_SEQUENCE)  # signature algorithm
    body.take(_BIT_STRING)
    body.end()
    if tbs.tag() == _VERSION:
        tbs.take(_VERSION)
    tbs.take(_INTEGER)  # serial number
    tbs.take(_SEQUENCE)  # signature algorithm
    tbs.take(_SEQUENCE)  # issuer
    validity = tbs.enter(_SEQUENCE)
    _time(validity)
    ends = _time(validity)
    validity.end()
    names = _common_names(tbs.enter(_SEQUENCE))
    tbs.take(_SEQUENCE)  # public key
    while tbs.tag() in _UNIQUE_IDS:
        tbs.take(tbs.tag())
    uris: tuple[str, ...] = ()
    if tbs.tag() == _EXTENSIONS:
        uris = _uris(tbs.enter(_EXTENSIONS).only(_SEQUENCE))
    tbs.end()
    return Certificate(uris, names, ends)


class _Reader:
    """Goes over the elements of one value, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def tag(self) -> int:
        """The tag of the next element; -1 behind the last."""
        return self._data[self._at] if self._at < len(self._data) else -1

    def take(self, tag: int) -> bytes:
        """The content of the next element, which has this tag."""
        if self.tag() != tag:
            raise MalformedCertificate("not a certificate: an element is missing or of another kind")
        start, length = self._length(self._at + 1)
        self._at = start + length
        if self._at > len(self._data):
            raise MalformedCertificate("not a certificate: an element is cut off")
        return self._data[start : self._at]

    def enter(self, tag: int) -> _Reader:
        """As ``take``, to be read on."""
        return _Reader(self.take(tag))

    def only(self, tag: int) -> _Reader:
        """As ``enter``, of a value that holds nothing else."""
        inner = self.enter(tag)
        self.end()
        return inner

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise MalformedCertificate("not a certificate: there are bytes behind its end")

    def _length(self, at: int) -> tuple[int, int]:
        """Where the content begins, and its length. DER has one way to write a length."""
        if at >= len(self._data):
            raise MalformedCertificate("not a certificate: an element is cut off")
        first = self._data[at]
        if first < 0x80:
            return at + 1, first
        count = first & 0x7F
        written = self._data[at + 1 : at + 1 + count]
        length = int.from_bytes(written, "big")
        if not 0 < count <= _LONGEST or len(written) < count or not written[0] or length < 0x80:
            raise MalformedCertificate("not a certificate: a length is not as DER has it")
        return at + 1 + count, length


def _time(reader: _Reader) -> datetime:
    tag = reader.tag()
    text = reader.take(_GENERALIZED_TIME if tag == _GENERALIZED_TIME else _UTC_TIME)
    if _TIMES[tag].fullmatch(text) is None:
        raise MalformedCertificate("not a certificate: a time is not as DER has it")
    digits = text[:-1].decode()
    if tag == _UTC_TIME:  # RFC 5280: 50 to 99 are of the last century
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise MalformedCertificate("not a certificate: there is no such time") from None


def _common_names(name: _Reader) -> tuple[str, ...]:
    found = []
    while name.tag() != -1:
        attributes = name.enter(_SET)
        while attributes.tag() != -1:
            attribute = attributes.enter(_SEQUENCE)
            kind, tag = attribute.take(_OID), attribute.tag()
            value = attribute.take(tag)
            attribute.end()
            if kind == _COMMON_NAME:
                found.append(_text(value, _ENCODINGS.get(tag, "ascii")))
    return tuple(found)


def _uris(extensions: _Reader) -> tuple[str, ...]:
    """The URIs of the subject alternative name; it may be there once."""
    found: list[bytes] = []
    while extensions.tag() != -1:
        extension = extensions.enter(_SEQUENCE)
        kind = extension.take(_OID)
        if extension.tag() == _BOOLEAN:
            extension.take(_BOOLEAN)
        value = extension.take(_OCTET_STRING)
        extension.end()
        if kind == _ALTERNATIVE_NAME:
            found.append(value)
    if len(found) > 1:
        raise MalformedCertificate("the certificate has two subject alternative names")
    uris = []
    for value in found:
        names = _Reader(value).only(_SEQUENCE)
        while (tag := names.tag()) != -1:
            name = names.take(tag)
            if tag == _URI:
                uris.append(_text(name, "ascii"))
    return tuple(uris)


def _text(value: bytes, encoding: str) -> str:
    """What cannot be read becomes U+FFFD, which no identity holds: the certificate's other names and its end count."""
    return value.decode(encoding, "replace")
