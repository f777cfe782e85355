"""The machine: interpreter, memory, files that may be open, time zone."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from agent.doctor.check import Check, Context
from agent.doctor.finding import Findings
from agent.machine import file_limit, memory_limit

_MEGABYTE: Final = 1024 * 1024
_MEMORY_LEAST: Final = 256 * _MEGABYTE
_MEMORY_GOOD: Final = 1024 * _MEGABYTE
_FILES_LEAST: Final = 256
_FILES_GOOD: Final = 1024


def checks(context: Context) -> Sequence[Check]:
    """One for each."""
    return [
        Check("program", program),
        Check("memory", lambda _: memory(memory_limit())),
        Check("files", lambda _: files(file_limit())),
        Check("time zone", time_zone),
    ]


def program(context: Context) -> Findings:
    """What runs here. 32 bits are enough for nothing."""
    findings = Findings()
    bits = 64 if sys.maxsize > 2**32 else 32
    what = f"Python {platform.python_version()} ({bits} bit), {platform.platform()}, {os.cpu_count()} CPU"
    if bits == 64:
        findings.good(what, "")
    else:
        findings.wrong(
            "H721", "Python", f"{what}：32 位", f"{what}: 32 bit", "请安装 64 位 Python", "install a 64 bit Python"
        )
    if sys.platform == "win32":
        findings.good(
            f"杀毒软件请排除文件夹 {context.settings.state.path.parent}，否则状态库会变慢或被锁",
            f"let the virus scanner leave out {context.settings.state.path.parent}: it slows and locks the store",
        )
    return findings


def memory(limit: int) -> Findings:
    """``limit``: bytes that this process may have at most; 0 where nobody says."""
    findings = Findings()
    size = f"{limit // _MEGABYTE} MB"
    if not limit:
        findings.good("系统没有说明内存大小", "the system does not tell how much memory there is")
    elif limit >= _MEMORY_GOOD:
        findings.good(f"可用内存上限 {size}", f"memory: up to {size}")
    else:
        add = findings.wrong if limit < _MEMORY_LEAST else findings.warn
        add(
            "H721",
            "memory",
            f"可用内存上限只有 {size}",
            f"only {size} of memory may be used",
            f"请提高到 {_MEMORY_GOOD // _MEGABYTE} MB 以上（虚拟机内存、容器或 systemd 的 MemoryMax）",
            f"raise it to {_MEMORY_GOOD // _MEGABYTE} MB (of the virtual machine, the container, MemoryMax of systemd)",
        )
    return findings


def files(limit: int) -> Findings:
    """``limit``: files and sockets that this process may have open; 0 where nobody says."""
    findings = Findings()
    if not limit or limit >= _FILES_GOOD:
        findings.good(f"可打开文件数 {limit or '不限'}", f"files that may be open: {limit or 'no limit'}")
        return findings
    add = findings.wrong if limit < _FILES_LEAST else findings.warn
    add(
        "H722",
        "files",
        f"最多只能打开 {limit} 个文件和连接",
        f"only {limit} files and connections may be open",
        f"ulimit -n {_FILES_GOOD}；作为服务运行时由服务单元的 LimitNOFILE 决定",
        f"ulimit -n {_FILES_GOOD}; of a service LimitNOFILE of the unit decides",
    )
    return findings


def time_zone(context: Context) -> Findings:
    """Dates of the hospital follow [site] timezone; the logs follow the machine."""
    findings = Findings()
    now = context.clock()
    zone = context.settings.site.timezone
    here, there = now.astimezone(), now.astimezone(ZoneInfo(zone))
    if here.utcoffset() == there.utcoffset():
        findings.good(f"本机时间 {_shown(here)}，时区与医院一致", f"local time {_shown(here)}, zone as the hospital's")
    else:
        findings.warn(
            "H723",
            "[site] timezone",
            f"本机时区为 UTC{here:%z}，医院为 {zone}（UTC{there:%z}）：业务日期按医院时区，日志按本机时区",
            f"this machine is at UTC{here:%z}, the hospital at {zone} (UTC{there:%z}): dates follow the hospital, logs "
            "the machine",
            f"timedatectl set-timezone {zone}；Windows：设置“北京”时区",
            f"timedatectl set-timezone {zone}",
        )
    return findings


def _shown(moment: datetime) -> str:
    return moment.isoformat(" ", "seconds")
