"""The only list of subcommands: name -> "module:function", imported when chosen."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a subcommand is, and what it is for."""

    target: str
    help_zh: str
    help: str


COMMANDS: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "run": Entry("agent.commands.run:main", "运行代理", "run the agent"),
        "init": Entry("agent.commands.init:main", "生成配置文件", "write the first configuration"),
        "check": Entry("agent.commands.check:main", "检查配置与映射", "check configuration and mappings"),
        "doctor": Entry("agent.commands.doctor:main", "体检：环境与连接", "examine everything it needs"),
        "mapping": Entry("agent.commands.mapping:main", "映射工具", "the DBA's tools for mappings"),
        "status": Entry("agent.commands.status:main", "查看运行状态", "show how a running agent is"),
        "top": Entry("agent.commands.top:main", "持续查看运行状态", "watch a running agent"),
        "call": Entry("agent.commands.call:main", "调用一个接口", "call one operation"),
        "watch": Entry("agent.commands.watch:main", "监视：捕获方式、运行情况", "watches: rungs, status"),
        "ledger": Entry("agent.commands.ledger:main", "查看命令账本与证据", "the command ledger and its evidence"),
        "unknown": Entry(
            "agent.commands.unknown:main", "核实、决定结果未知的操作", "ask about and decide unknown outcomes"
        ),
        "outbox": Entry("agent.commands.outbox:main", "查看、重发待投递事件", "list or retry events"),
        "report": Entry("agent.commands.report:main", "报表：运行、查看、导出", "run, show or export reports"),
        "state": Entry("agent.commands.state:main", "备份、恢复、检查状态库", "back up, restore, check the store"),
        "audit": Entry("agent.commands.audit:main", "审计：校验、查看、导出", "check, show or export the audit"),
        "desk": Entry(
            "agent.commands.desk:main", "医院调用接口：密钥、未核实登记", "the hospital's own calls: keys, open notices"
        ),
        "switch": Entry("agent.commands.switch:main", "停用、恢复单个操作", "switch operations off and on"),
        "secret": Entry("agent.commands.secret:main", "制作密码文件", "make a secret for the configuration"),
        # Named, not imported: the room is above ours.
        "service": Entry("service_install.command:main", "安装为系统服务", "become a service of the machine"),
        "sandbox": Entry("agent.sandbox.command:main", "联调用的中继", "a relay for the bench"),
        "simulator": Entry("agent.commands.simulator:main", "支付、医保模拟器", "a payment house or 医保"),
        "forward": Entry("agent.commands.forward:main", "前置机上的 TCP 转发", "a TCP forwarder for a front machine"),
        "bench": Entry("agent.commands.bench:main", "压力演练：放号抢号", "load: a rush on few numbers"),
        "demo": Entry("agent.demo.command:main", "完整演示", "the whole product in one story"),
        "version": Entry("agent.commands.version:main", "显示版本", "show the version"),
    }
)


def load(name: str) -> Main:
    """The main function of a subcommand. Raises KeyError for a name that is not listed."""
    module, _, function = COMMANDS[name].target.partition(":")
    # What is imported stays: to look through all of it again and again for what may go took a quarter of a start.
    gc.disable()
    try:
        return cast(Main, getattr(import_module(module), function))
    finally:
        gc.enable()
