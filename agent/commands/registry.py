"""The only list of subcommands: name -> "module:function", imported when chosen."""

from __future__ import annotations

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
        "check": Entry("agent.commands.check:main", "检查配置与映射", "check configuration and mappings"),
        "mapping": Entry("agent.commands.mapping:main", "映射工具", "the DBA's tools for mappings"),
        "status": Entry("agent.commands.status:main", "查看运行状态", "show how a running agent is"),
        "call": Entry("agent.commands.call:main", "调用一个接口", "call one operation"),
        "outbox": Entry("agent.commands.outbox:main", "查看、重发待投递事件", "list or retry events"),
        "switch": Entry("agent.commands.switch:main", "停用、恢复单个操作", "switch operations off and on"),
        "sandbox": Entry("agent.sandbox.command:main", "联调用的中继", "a relay for the bench"),
        "demo": Entry("agent.demo.command:main", "完整演示", "the whole product in one story"),
        "version": Entry("agent.commands.version:main", "显示版本", "show the version"),
    }
)


def load(name: str) -> Main:
    """The main function of a subcommand. Raises KeyError for a name that is not listed."""
    module, _, function = COMMANDS[name].target.partition(":")
    return cast(Main, getattr(import_module(module), function))
