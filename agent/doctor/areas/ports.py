"""Ports that the agent listens on: free, of this machine, and no two the same."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final

from agent.config import Settings
from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings

_NOT_OURS: Final = frozenset({errno.EADDRNOTAVAIL, getattr(errno, "WSAEADDRNOTAVAIL", errno.EADDRNOTAVAIL)})


def listeners(settings: Settings) -> dict[str, tuple[str, int]]:
    """Section -> host and port, of those that are enabled."""
    found: dict[str, tuple[str, int]] = {}
    if settings.server.enabled:
        found["[server]"] = (settings.server.host, settings.server.port)
    places = {"[desk]": settings.desk.place, "[metrics]": settings.metrics, "[payment_notify]": settings.payment_notify}
    found.update({name: (place.host, place.port) for name, place in places.items() if place is not None})
    return found


def checks(context: Context) -> Sequence[Check]:
    """One for each listener."""
    found = listeners(context.settings)
    return [Check(where, partial(look, where, host, port)) for where, (host, port) in found.items()]


def look(where: str, host: str, port: int, context: Context) -> Findings:
    """Whether it can be had. An agent that runs has it already, and then that is as it should be."""
    findings = Findings()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    others = [name for name, place in listeners(context.settings).items() if place[1] == port and name != where]
    if port and others:
        findings.wrong(
            "H728",
            f"{where} listen",
            f"与 {', '.join(others)} 使用同一端口 {port}",
            f"the same port {port} as {', '.join(others)}",
            "请改用不同的端口",
            "choose different ports",
        )
        return findings
    error = _bind(host, port)
    if error is None:
        findings.good(f"{where} {address} 可用", f"{where} {address} is free")
    elif error.errno == errno.EADDRINUSE and context.agent_runs():
        findings.good(f"{where} {address} 由运行中的代理使用", f"{where} {address} is in use by the running agent")
    else:
        _cannot(where, address, port, error, findings)
    return findings


def _bind(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name == "posix":  # as the agent's own listeners do: a port that only lingers is free
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", 4), 1)
            listener.bind(place)
            listener.listen(1)
    except OSError as error:
        return error
    return None


def _cannot(where: str, address: str, port: int, error: OSError, findings: Findings) -> None:
    reason = error.strerror or type(error).__name__
    if error.errno in _NOT_OURS or isinstance(error, socket.gaierror):
        fix_zh, fix_en = "listen 须为本机的地址，或 0.0.0.0", "listen: an address of this machine, or 0.0.0.0"
    elif error.errno == errno.EACCES and os.name == "posix":
        fix_zh, fix_en = "请用 1024 以上的端口", "use a port above 1024"
    else:
        fix_zh = f"查看占用者：ss -ltnp 'sport = :{port}'（Windows：netstat -ano）；停止它，或改端口"
        fix_en = f"who has it: ss -ltnp 'sport = :{port}' (Windows: netstat -ano); stop it, or choose another port"
    zh, en = f"{address} 不可用：{reason}", f"{address} cannot be had: {reason}"
    findings.wrong("H728", f"{where} listen", zh, en, fix_zh, fix_en)
