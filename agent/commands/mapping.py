"""``his160 mapping``: the DBA's tools. Finds the tool, imports it alone; what tools cannot do becomes a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from agent.console import say_error
from his_db.workbench.site import SourceFailed

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Tool:
    """Where a tool is, and what it is for."""

    target: str
    help_zh: str
    help: str


_CHECK: Final = "agent.commands.mapping_check"
_LOOK: Final = "agent.commands.mapping_look"
_RUN: Final = "agent.commands.mapping_run"
_GUARD: Final = "agent.commands.mapping_guard"
_PUBLISH: Final = "agent.commands.mapping_publish"
_REFERENCE: Final = "agent.commands.mapping_reference"

TOOLS: Final[Mapping[str, Tool]] = MappingProxyType(
    {
        "discover": Tool(
            f"{_LOOK}:discover_main", "浏览数据库，推荐对应的表和字段", "list the database, suggest matches"
        ),
        "scaffold": Tool(f"{_LOOK}:scaffold_main", "按表或存储过程生成映射初稿", "write a first mapping file"),
        "check": Tool(f"{_CHECK}:main", "检查映射（离线/在线/深度）", "check the mappings"),
        "test": Tool(f"{_RUN}:test_main", "运行映射文件中的 [[test]]", "run the [[test]] of the mapping files"),
        "preview": Tool(f"{_RUN}:preview_main", "试运行一个查询", "run a read"),
        "rehearse": Tool(f"{_RUN}:rehearse_main", "演练一个写操作并回滚", "run a write and roll it back"),
        "drift": Tool(
            f"{_GUARD}:drift_main", "数据库结构与 mappings.lock 比较", "compare the database with mappings.lock"
        ),
        "grants": Tool(f"{_GUARD}:grants_main", "生成最小授权脚本", "print the least-privilege GRANT script"),
        "impact": Tool(f"{_GUARD}:impact_main", "对 HIS 的影响说明", "what we do to the HIS"),
        "publish": Tool(f"{_PUBLISH}:publish_main", "发布为正式版本", "make the folder the live revision"),
        "diff": Tool(f"{_PUBLISH}:diff_main", "与已发布版本比较", "compare with a published revision"),
        "rollback": Tool(f"{_PUBLISH}:rollback_main", "回到以前的版本", "go back to an earlier revision"),
        "history": Tool(f"{_PUBLISH}:history_main", "发布历史", "what was published"),
        "schema": Tool(f"{_REFERENCE}:schema_main", "编辑器用的 JSON Schema", "JSON Schema for editors"),
        "fields": Tool(f"{_REFERENCE}:fields_main", "字段手册", "reference of the contract's fields"),
    }
)


def main(arguments: Sequence[str]) -> int:
    """Run one tool. Exit codes: 0 done; 1 findings or failed; 2 wrong usage; 78 (by DocumentError) bad files."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    tool = TOOLS.get(name)
    if tool is None:
        say_error(f"没有工具 {name}", f"there is no tool {name}; try his160 mapping --help")
        return 2
    module, _, function = tool.target.partition(":")
    try:
        return cast(Main, getattr(import_module(module), function))(rest)
    except SourceFailed as error:
        say_error(f"数据源 {error.source} 无法使用", f"{error.fault.value}: {error.detail}")
        return 1


def usage() -> str:
    """What ``his160 mapping --help`` prints."""
    lines = ["用法 / usage: his160 mapping 工具 [参数]   (his160 mapping 工具 --help)", ""]
    lines += [f"  {name:<9} {tool.help_zh}  {tool.help}" for name, tool in TOOLS.items()]
    return "\n".join(lines)
