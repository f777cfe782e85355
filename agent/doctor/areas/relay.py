"""160's relays: name, way, TLS with both certificates, and whether the relay takes ours."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from agent.config import RelaySettings
from agent.config_place import split_address
from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from agent.proxy import through
from agent.tcp_forwarder import direct
from sync.sink import SinkUnavailable

_LIMIT: Final = timedelta(seconds=10)
_ANSWER: Final = 3.0  # seconds for the relay's first frame, or its refusal
# HTTP/2: the connection preface and an empty SETTINGS frame; a server answers with its own SETTINGS.
_HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class _Refused(Exception):
    """The relay ended the connection after it had seen our certificate."""


def checks(context: Context) -> Sequence[Check]:
    """One for each address, and one for the bus of events when there is one."""
    relay = context.settings.relay
    addresses = relay.addresses if relay.enabled else ()
    found = [Check(address, partial(look, address), limit=3 * _LIMIT) for address in addresses]
    if context.settings.delivery.sink == "nats":
        found.append(Check("nats", bus, limit=3 * _LIMIT))
    return found


def bus(context: Context) -> Findings:
    """The stream of NATS that events go to. Nothing is made or written."""
    findings = Findings()
    if not context.has_password("delivery", "nats"):
        findings.good("NATS 没有密码，未尝试连接", "NATS was not tried: its password cannot be read")
        return findings
    from sync.sinks.nats import NatsSink  # the library is there only where it is used

    settings = context.settings.delivery.nats
    try:
        is_there = asyncio.run(NatsSink(settings).examine())
    except SinkUnavailable as error:
        findings.wrong(
            "H740",
            "[delivery.nats]",
            f"NATS 不能用：{error}",
            f"NATS cannot be used: {error}",
            "核对 servers、账号、证书；流必须存盘并给出确认（见 config.toml 的 [delivery.nats]）",
            "compare servers, account and certificates; the stream must keep files and acknowledge",
        )
    else:
        later = "" if is_there else "，首次投递时建立"
        findings.good(f"NATS 可用，流 {settings.stream}{later}", f"NATS is there, stream {settings.stream}: {is_there}")
    return findings


def look(address: str, context: Context) -> Findings:
    """Go as the agent's link goes, up to the first frame."""
    findings = Findings()
    relay = context.settings.relay
    if relay.ca is None or relay.certificate is None or relay.key is None:
        return findings  # told by the configuration's own check
    try:
        trust = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(relay.ca))
        trust.load_cert_chain(relay.certificate, relay.key)
        trust.set_alpn_protocols(["h2"])
    except (OSError, ssl.SSLError):
        return findings  # told by the certificates' own check
    try:
        asyncio.run(_go(address, relay, trust, findings))
    except ssl.SSLCertVerificationError as error:
        _tls(address, f"中继的证书不被信任：{error.verify_message}", f"untrusted: {error.verify_message}", findings)
    except (_Refused, ssl.SSLError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        _tls(address, f"TLS 握手被对方拒绝：{reason}", f"TLS was refused: {reason}", findings)
    except TimeoutError:
        _unreachable(address, "没有反应", "no response", relay, findings)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        _unreachable(address, reason, reason, relay, findings)
    return findings


async def _go(address: str, relay: RelaySettings, trust: ssl.SSLContext, findings: Findings) -> None:
    host, port = split_address(address)
    connect = direct(host, port, _LIMIT) if relay.proxy is None else through(relay.proxy, host, port, _LIMIT)
    try:
        made = await connect()
    except ConnectionError as error:  # of TCP: not to be taken for a refusal of TLS
        raise OSError(str(error) or type(error).__name__) from None
    await _greet(made, relay.authority or host, trust)
    way = f"，经代理 {relay.proxy.host}:{relay.proxy.port}" if relay.proxy is not None else ""
    findings.good(
        f"{address} 可达，双向 TLS 正常{way}（中继是否接受运行中的代理，见 his160 status 的 link）",
        f"{address} answers, TLS with both certificates is good (does it take the running agent: his160 status)",
    )


async def _greet(made: socket.socket, name: str, trust: ssl.SSLContext) -> None:
    async with asyncio.timeout(_LIMIT.total_seconds()):
        reader, writer = await asyncio.open_connection(sock=made, ssl=trust, server_hostname=name)
    try:
        writer.write(_HELLO)
        # With TLS 1.3 a refusal of our certificate comes only now, in place of the first bytes.
        async with asyncio.timeout(_ANSWER):
            first = await reader.read(9)
        if not first:
            raise _Refused("closed after our certificate")
    finally:
        writer.transport.abort()


def _unreachable(address: str, zh: str, en: str, relay: RelaySettings, findings: Findings) -> None:
    if relay.proxy is not None:
        fix_zh = "核对 [relay] proxy 的地址、账号，以及代理是否放行该地址"
        fix_en = "compare [relay] proxy, its user, and whether the proxy lets this address through"
    else:
        fix_zh = "请网络管理员放行本机到该地址的出站 TCP（不需要入站）；须经代理时填写 [relay] proxy；核对域名解析"
        fix_en = "let outbound TCP to it through (nothing inbound is needed), or set [relay] proxy; look at the DNS"
    findings.wrong("H734", address, f"连不上：{zh}", f"cannot be reached: {en}", fix_zh, fix_en)


def _tls(address: str, zh: str, en: str, findings: Findings) -> None:
    findings.wrong(
        "H735",
        address,
        zh,
        en,
        "核对 [relay] ca 是否为 160 提供的 CA、authority 是否为中继证书中的名称、本机证书是否由 160 签发；"
        "有 SSL 检查的防火墙须放行",
        "compare [relay] ca and authority, and whether 160 has issued our certificate; no firewall may open the TLS",
    )
