"""Every database of the HIS: login, version, Chinese, clock, and whether its time-outs really cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from his_db.catalogue.reader import READERS
from his_db.errors import HisError
from his_db.source import Source
from his_db.workbench.site import Connection, SourceFailed, connected
from his_db.workbench.source_look import charset_problem, cut_a_statement, read_clock, unreachable

_LIMIT: Final = timedelta(seconds=60)
_NOTED: Final = timedelta(seconds=5)
_WRONG: Final = timedelta(seconds=60)
_PING: Final = 10.0


def checks(context: Context) -> Sequence[Check]:
    """One for each source."""
    return [Check(name, partial(look, name), limit=_LIMIT) for name in context.settings.sources]


def look(name: str, context: Context) -> Findings:
    """A source without its password is not tried: a wrong login may lock the account."""
    findings = Findings()
    config = context.settings.sources[name]
    where = f"[source.{name}]"
    if not context.has_password("source", name):
        findings.good(f"{where} 没有密码，未尝试连接", f"{where} was not tried: its password cannot be read")
        return findings
    if config.settings.engine not in READERS:
        asyncio.run(_ping(name, context, findings))
        return findings
    began = time.monotonic()
    try:
        with connected(config.settings) as connection:
            version = connection.engine.server_version(connection.session)
            took = (time.monotonic() - began) * 1000
            findings.good(f"{where} 已登录，{took:.0f} 毫秒：{version}", f"{where} logged in: {version}")
            _chinese(where, connection, findings)
            _clock(where, connection, context, findings)
            _time_outs(where, connection, context, findings)
    except SourceFailed as error:
        findings.take([unreachable(error)])
    return findings


async def _ping(name: str, context: Context, findings: Findings) -> None:
    config = context.settings.sources[name]
    source = Source(config.settings, config.lanes, load=config.load)
    try:
        version = await source.ping(deadline=time.monotonic() + _PING)
        findings.good(f"[source.{name}] 可以连接：{version}", f"[source.{name}] answers: {version}")
    except HisError as error:
        findings.wrong(
            "H500",
            f"[source.{name}]",
            f"接口连不上：{error}",
            f"the interface does not answer: {error}",
            "请检查地址、端口、base_url、证书",
            "check host, port, base_url and certificates",
        )
    finally:
        await source.close()


def _chinese(where: str, connection: Connection, findings: Findings) -> None:
    problem = charset_problem(connection)
    if problem is None:
        findings.good(f"{where} 中文往返正确（含生僻字）", f"{where} Chinese there and back is right, rare ones too")
    else:
        findings.take([problem])


def _clock(where: str, connection: Connection, context: Context, findings: Findings) -> None:
    reading = read_clock(connection, context.clock)
    off = abs(reading.ahead)
    seconds = reading.ahead.total_seconds()
    if off <= _NOTED + reading.doubt:
        findings.good(f"{where} 与本机时钟相差 {off.total_seconds():.1f} 秒", f"{where} clocks: {seconds:+.1f} s")
        return
    add = findings.wrong if off > _WRONG else findings.warn
    side_zh, side = ("快", "ahead of") if seconds > 0 else ("慢", "behind")
    add(
        "H724",
        where,
        f"数据库时钟比本机{side_zh} {off.total_seconds():.0f} 秒：锁号到期、支付时限、事件时间都会错",
        f"the database's clock is {off.total_seconds():.0f} s {side} ours: holds, payments and events go wrong",
        "两台机器都与医院的时间服务器同步（Linux chronyd，Windows w32tm /resync）",
        "have both follow the hospital's time server (chronyd, w32tm /resync)",
    )


def _time_outs(where: str, connection: Connection, context: Context, findings: Findings) -> None:
    reading = cut_a_statement(connection, context.source_limit)
    took = reading.took.total_seconds()
    if reading.works:
        findings.good(
            f"{where} 语句超时有效：限 {reading.limit.total_seconds():g} 秒的长语句在 {took:.1f} 秒时被中止",
            f"{where} time-outs work: a long statement was cut after {took:.1f} s",
        )
        return
    findings.wrong(
        "H736",
        where,
        f"语句超时无效：限 {reading.limit.total_seconds():g} 秒的语句运行了 {took:.1f} 秒",
        f"time-outs do not work: a statement limited to {reading.limit.total_seconds():g} s ran for {took:.1f} s",
        "不要经过会改写会话设置的连接池或代理连接 HIS；核对驱动版本与 docs/engines.md",
        "do not go through a pooler that loses session settings; compare the driver with docs/engines.md",
    )
