"""Certificates and keys of every border: time, key, chain, and the names that they carry."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from agent.certificate import CertificateError, identity_of
from agent.config import Settings
from agent.config_place import is_loopback
from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings

_SOON: Final = timedelta(days=30)
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files of one border. ``authority``: who signs the other side; ``host``: what it is called by, where it serves."""

    section: str
    certificate: Path
    key: Path
    authority: Path | None
    site: str = ""
    host: str = ""


def bundles(settings: Settings) -> Iterator[Bundle]:
    """Those that are in use."""
    server, relay = settings.server, settings.relay
    if server.enabled and server.certificate and server.key:
        yield Bundle("[server]", server.certificate, server.key, server.client_ca, host=server.host)
    if relay.enabled and relay.certificate and relay.key:
        yield Bundle("[relay]", relay.certificate, relay.key, relay.ca, site=settings.site.code)
    for section, place in (("[desk]", settings.desk.place), ("[payment_notify]", settings.payment_notify)):
        if place is not None and place.certificate and place.key:
            yield Bundle(section, place.certificate, place.key, place.client_ca, host=place.host)


def checks(context: Context) -> Sequence[Check]:
    """One for each border."""
    return [Check(bundle.section, partial(look, bundle)) for bundle in bundles(context.settings)]


def look(bundle: Bundle, context: Context) -> Findings:
    """The certificate with its chain and key, and the authority."""
    findings = Findings()
    now = context.clock()
    chain = _read(f"{bundle.section} certificate", bundle.certificate, findings)
    if chain:
        for certificate in chain:
            _time(f"{bundle.section} certificate", bundle.certificate, certificate, now, findings)
        _key(bundle, chain[0], findings)
        _chain(bundle, chain, findings)
        _names(bundle, chain[0], findings)
    if bundle.authority is not None:
        for certificate in _read(f"{bundle.section} ca", bundle.authority, findings):
            _time(f"{bundle.section} ca", bundle.authority, certificate, now, findings)
            _may_sign(bundle, certificate, findings)
    if chain and not findings.found:
        days = (chain[0].not_valid_after_utc - now).days
        findings.good(
            f"{bundle.section} 证书有效，剩余 {days} 天；密钥与证书相符",
            f"{bundle.section} is good for {days} days",
        )
    return findings


def _read(where: str, path: Path, findings: Findings) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except FileNotFoundError:
        return []  # told by the configuration's own check
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:
        reason = "not PEM"
    else:
        return found
    findings.wrong(
        "H729",
        where,
        f"{path} 无法读取：{reason}",
        f"{path} cannot be read: {reason}",
        "须为 PEM 格式，且运行代理的账号可读",
        "it must be PEM, and readable for the account of the agent",
    )
    return []


def _time(where: str, path: Path, certificate: x509.Certificate, now: datetime, findings: Findings) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        findings.wrong(
            "H729",
            where,
            f"{path} 要到 {begins:%Y-%m-%d %H:%M} UTC 才生效",
            f"{path} is good from {begins:%Y-%m-%d %H:%M} UTC only",
            "先核对本机时钟；时钟正确则请重新签发",
            "look at the clock of this machine first; else have it issued again",
        )
    elif now >= ends:
        findings.wrong(
            "H729",
            where,
            f"{path} 已于 {ends:%Y-%m-%d} 过期",
            f"{path} ended on {ends:%Y-%m-%d}",
            "请重新签发并覆盖原文件，代理会自动读取，无需重启；也请核对本机时钟",
            "have it issued again and replace the file: the agent reads it by itself; look at the clock too",
        )
    elif ends - now < _SOON:
        findings.warn(
            "H729",
            where,
            f"{path} 将于 {ends:%Y-%m-%d} 过期，还有 {(ends - now).days} 天",
            f"{path} ends on {ends:%Y-%m-%d}, in {(ends - now).days} days",
            "请尽快申请新证书",
            "apply for a new one soon",
        )


def _key(bundle: Bundle, certificate: x509.Certificate, findings: Findings) -> None:
    where = f"{bundle.section} key"
    try:
        key = serialization.load_pem_private_key(bundle.key.read_bytes(), password=None)
    except FileNotFoundError:
        return  # as above
    except OSError as error:
        reason_zh = reason = error.strerror or type(error).__name__
    except TypeError:
        reason_zh, reason = "密钥设有口令", "the key has a password"
    except ValueError:
        reason_zh, reason = "不是 PEM 私钥", "not a private key in PEM"
    else:
        if _public(key.public_key()) == _public(certificate.public_key()):
            return
        findings.wrong(
            "H730",
            where,
            f"{bundle.key} 与证书 {bundle.certificate.name} 不是一对",
            f"{bundle.key} is not the key of {bundle.certificate.name}",
            "请放入签发该证书时生成的私钥",
            "put the key there that the certificate was requested with",
        )
        return
    findings.wrong(
        "H730",
        where,
        f"{bundle.key} 无法使用：{reason_zh}",
        f"{bundle.key} cannot be used: {reason}",
        "须为不带口令的 PEM 私钥，仅代理账号可读",
        "it must be PEM without a password, readable for the account of the agent alone",
    )


def _public(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    found: bytes = key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined]  # of every kind
    return found


def _chain(bundle: Bundle, chain: Sequence[x509.Certificate], findings: Findings) -> None:
    for issued, issuer in pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            findings.wrong(
                "H731",
                f"{bundle.section} certificate",
                f"{bundle.certificate} 的证书链顺序不对：每张证书后面须是它的签发者",
                f"{bundle.certificate}: each certificate must be followed by the one that signed it",
                "顺序：本机证书、中间 CA；不含私钥",
                "order: our own, then the intermediate authorities",
            )
            return


def _may_sign(bundle: Bundle, certificate: x509.Certificate, findings: Findings) -> None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = certificate.issuer == certificate.subject  # of version 1, or an old one
    if not is_authority:
        findings.wrong(
            "H731",
            f"{bundle.section} ca",
            f"{bundle.authority} 不是 CA 证书",
            f"{bundle.authority} is not the certificate of an authority",
            "请放入签发对方证书的 CA 证书",
            "put the certificate there of the authority that signs the other side",
        )


def _names(bundle: Bundle, certificate: x509.Certificate, findings: Findings) -> None:
    where = f"{bundle.section} certificate"
    if bundle.site:
        try:
            named = str(identity_of(bundle.certificate.read_bytes()))
        except (CertificateError, OSError) as error:
            named = str(error)
        if named != f"site/{bundle.site}":
            findings.wrong(
                "H732",
                where,
                f"证书中的身份是 {named}，应为 his160://site/{bundle.site}",
                f"the certificate says {named}; it must say his160://site/{bundle.site}",
                "核对 [site] code，或向 160 申请本机构的证书",
                "compare [site] code, or have one issued for this site",
            )
    if not bundle.host or is_loopback(bundle.host):
        return
    names = _hosts(certificate)
    if not names or (bundle.host not in _ANY and bundle.host not in names):
        shown = ", ".join(names) or "-"
        findings.warn(
            "H732",
            where,
            f"证书中的主机名（{shown}）不含监听地址 {bundle.host}，按地址连接的程序会拒绝它",
            f"its names ({shown}) are without {bundle.host}: programs that call by this address refuse it",
            "签发时把域名和 IP 写入 subjectAltName",
            "have names and addresses put into its subjectAltName",
        )


def _hosts(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [
        item for item in names.get_values_for_type(x509.IPAddress) if not hasattr(item, "netmask")
    ]
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]
