"""``his160 audit``: look at the audit, check its chain, give it to others. Works beside a running agent or not."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.config_place import split_address
from agent.console import say, say_error
from agent.state_store import has_state, open_state
from sync.audit import Audit
from sync.audit_chain import Anchor, AuditRow, ChainBreak, ChainCheck
from sync.audit_export import json_line, syslog_message
from sync.clock import utc_now
from sync.store import StoreError

_SYSLOG_TIMEOUT = 10.0


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: the chain is broken, or the store or the receiver cannot be reached."""
    parser = _parser()
    options = parser.parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    if not has_state(settings.state):
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
        return 1
    try:
        return asyncio.run(_work(options, settings))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
    except OSError as error:
        say_error("无法写出", error.strerror or type(error).__name__)
    return 1


async def _work(options: argparse.Namespace, settings: Settings) -> int:
    store = open_state(settings.state)
    try:
        audit = Audit(store, utc_now, instance=settings.site.instance)
        if options.action == "verify":
            return await _verify(audit, options.noted)
        if options.action == "show":
            return await _show(audit, options)
        return await _export(audit, options)
    finally:
        await store.close()


async def _verify(audit: Audit, noted: Anchor | None) -> int:
    found = await audit.verify(noted)
    if found.broken is not None:
        say_error(
            f"审计链在第 {found.broken.sequence} 条断裂：{found.broken.what_zh}（之前 {found.rows} 条完好）",
            f"the audit chain is broken at {found.broken.sequence}: {found.broken.what}",
        )
        return 1
    begins = f"，{found.pruned.sequence} 条及以前已到期清理" if found.pruned.sequence else ""
    say(f"审计链完好，共 {found.rows} 条{begins}", f"the audit chain holds, {found.rows} rows")
    say(f"锚点，请另行留存（下次用 --noted 核对）：{found.last}", "anchor: keep it elsewhere, for --noted")
    return 0


async def _show(audit: Audit, options: argparse.Namespace) -> int:
    rows = await audit.newest(options.limit, action=options.what, target=options.order, actor=options.actor)
    for row in rows:
        print(_line(row))
    say(f"共 {len(rows)} 条", f"{len(rows)} rows")
    return 0


async def _export(audit: Audit, options: argparse.Namespace) -> int:
    host, syslog = socket.gethostname(), options.format == "syslog" or options.to is not None
    last = options.since
    count = 0
    check = ChainCheck(await audit.anchor(options.since))
    broken: ChainBreak | None = None
    with _receiver(options) as put:
        async for row in _until(audit.rows(options.since), options.until):
            put(syslog_message(row, host=host) if syslog else json_line(row))
            last, count = row.sequence, count + 1
            broken = broken or check.look([row])
    # On the other stream: standard output may be the export.
    say_error(f"已导出 {count} 条，下次用 --since {last} 接着导出", f"{count} rows; go on with --since {last}")
    if broken is None:
        return 0
    say_error(
        f"导出的记录在第 {broken.sequence} 条断裂：{broken.what_zh}；用 his160 audit verify 核对全链",
        f"what was exported is broken at {broken.sequence}: {broken.what}; see his160 audit verify",
    )
    return 1


async def _until(rows: AsyncIterator[AuditRow], last: int) -> AsyncIterator[AuditRow]:
    async for row in rows:
        if last and row.sequence > last:
            return
        yield row


class _Put:
    """Where an export goes, one message at a time."""

    def __init__(self, file: TextIO | None, connection: socket.socket | None, *, framed: bool) -> None:
        self._file = file
        self._connection = connection
        self._framed = framed

    def __call__(self, message: str) -> None:
        if self._file is not None:
            self._file.write(message + "\n")
            return
        assert self._connection is not None
        content = message.encode()
        # RFC 6587 §3.4.1: a stream carries the length before each message; a datagram is one message.
        self._connection.sendall(f"{len(content)} ".encode() + content if self._framed else content)


@contextmanager
def _receiver(options: argparse.Namespace) -> Iterator[_Put]:
    if options.to:
        kind, (name, port) = options.to
        form = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        family, _, _, _, address = socket.getaddrinfo(name, port, type=form)[0]
        with socket.socket(family, form) as connection:
            connection.settimeout(_SYSLOG_TIMEOUT)
            connection.connect(address)
            yield _Put(None, connection, framed=kind == "tcp")
    elif options.file:
        with options.file.open("w", encoding="utf-8", newline="\n") as file:
            yield _Put(file, None, framed=False)
    else:
        yield _Put(sys.stdout, None, framed=False)


def _line(row: AuditRow) -> str:
    """One row for a person."""
    entry = row.entry
    parts = (
        f"{row.sequence:>8}",
        row.time.astimezone().isoformat(timespec="milliseconds"),
        entry.actor,
        f"[{entry.source}]" if entry.source else "",
        entry.action,
        entry.target,
        entry.result,
        entry.parameters,
    )
    return " ".join(part for part in parts if part)


def _anchor(text: str) -> Anchor:
    try:
        return Anchor.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"格式为 序号:64位十六进制 / {error}") from error


def _address(text: str) -> tuple[str, tuple[str, int]]:
    kind, _, place = text.partition("://")
    try:
        if kind not in ("tcp", "udp"):
            raise ValueError
        return kind, split_address(place)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            "格式为 tcp://主机:端口 或 udp://主机:端口 / tcp://HOST:PORT or udp://…"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 audit", description="审计：校验、查看、导出 / the audit")
    actions = parser.add_subparsers(dest="action", required=True, metavar="verify|show|export")
    verify = actions.add_parser("verify", help="校验审计链 / check the chain")
    verify.add_argument(
        "--noted", type=_anchor, metavar="ANCHOR", help="以前留存的锚点 / an anchor that was kept elsewhere"
    )
    show = actions.add_parser("show", help="查看最近记录 / the last rows")
    show.add_argument("--limit", type=int, default=50, metavar="N", help="最多 / at most (50)")
    show.add_argument("--order", default="", metavar="ORDER_NO", help="只看某个订单 / of one order")
    show.add_argument("--actor", default="", metavar="WHO", help="只看某个操作者 / of one actor")
    show.add_argument("--what", default="", metavar="ACTION", help="只看某类操作，如 switch / actions that begin so")
    export = actions.add_parser("export", help="导出 / give it to others")
    export.add_argument("--format", choices=("json", "syslog"), default="json", help="JSON 行，或 RFC 5424 (json)")
    export.add_argument("--since", type=int, default=0, metavar="N", help="从序号 N 之后 / rows above N (0)")
    export.add_argument("--until", type=int, default=0, metavar="N", help="到序号 N 为止 / rows up to N")
    where = export.add_mutually_exclusive_group()
    where.add_argument("--file", type=Path, metavar="FILE", help="写入文件 / into a file (standard output)")
    where.add_argument(
        "--to", type=_address, metavar="tcp://HOST:PORT", help="发送到 syslog 服务器，tcp 或 udp / to a syslog server"
    )
    for action in (verify, show, export):
        add_config(action)
    return parser
