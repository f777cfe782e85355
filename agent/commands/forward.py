"""``his160 forward``: the same program as a plain TCP forwarder, on the front machine (前置机) between two networks."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent.config import LogSettings
from agent.config_place import split_address
from agent.console import say, say_error
from agent.log import setup_logging
from agent.proxy import through
from agent.secret import resolve
from agent.signals import StopRequests
from agent.tcp_forwarder import TcpForwarder, direct
from his_db.document.problem import DocumentError, Place, Problems
from his_db.proxy import parse_proxy

_LIMIT: Final = timedelta(seconds=10)


def main(arguments: Sequence[str]) -> int:
    """Forward until stopped."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        host, port = split_address(options.listen)
        to_host, to_port = split_address(options.to)
    except ValueError:
        parser.error("地址格式为 主机:端口 / addresses are HOST:PORT")
    connect = direct(to_host, to_port, _LIMIT)
    if options.proxy:
        try:
            proxy = parse_proxy(options.proxy, options.proxy_user, _password(options.proxy_password))
        except ValueError as error:
            parser.error(f"代理格式为 http://主机:端口 或 socks5://主机:端口 / {error}")
        connect = through(proxy, to_host, to_port, _LIMIT)
    setup_logging(LogSettings())
    try:
        return asyncio.run(_run(TcpForwarder(host, port, connect, most=options.most), options.to))
    except OSError as error:
        say_error(f"无法监听 {options.listen}", f"cannot listen on {options.listen}: {error.strerror or error}")
        return 1


async def _run(forwarder: TcpForwarder, target: str) -> int:
    with StopRequests() as requests:
        await forwarder.start()
        say(f"转发中：端口 {forwarder.port} → {target}", f"forwarding port {forwarder.port} to {target}")
        await requests.asked.wait()
        await forwarder.stop()
    return 0


def _password(reference: str) -> str:
    """Raises DocumentError for a reference that cannot be resolved."""
    if not reference:
        return ""
    problems = Problems()
    found = resolve(reference, Path.cwd(), os.environ, Place("--proxy-password", 1, 1), problems)
    if problems:
        raise DocumentError(problems.errors)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 forward",
        description="前置机上的 TCP 转发，不解密 / TCP forwarder on a front machine; TLS passes through",
    )
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="监听地址 / where to listen")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="转发到 / where to: the relay")
    parser.add_argument(
        "--proxy", default="", metavar="URL", help="经代理 / through http://HOST:PORT or socks5://HOST:PORT"
    )
    parser.add_argument("--proxy-user", default="", metavar="NAME", help="代理用户 / user of the proxy")
    parser.add_argument("--proxy-password", default="", metavar="REF", help="@file: 或 @env: / a reference")
    parser.add_argument("--most", type=int, default=256, metavar="N", help="最多连接数 / connections at once (256)")
    return parser
