"""``his160 watch``: which ways of seeing changes a table allows, how the watches of an agent stand, and telling one to
pause, go on or begin anew."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from his160.v1 import agent_pb2

from agent.commands import watch_say
from agent.commands.call import CallError, call
from agent.commands.mapping_options import choose_source, read_site, tool_parser
from agent.commands.options import add_target, read_target
from agent.console import say, say_error
from his_db.contract import operation
from his_db.feed import FeedSpec
from his_db.workbench.probe_feeds import ProbedRung, probe_table
from his_db.workbench.site import SourceFailed, connected

_FIGURES = ("rows", "unreadable", "changes", "events", "suppressed", "strange", "missed")


def main(arguments: Sequence[str]) -> int:
    """Dispatch."""
    parser = argparse.ArgumentParser(prog="his160 watch", description="监视 / watches")
    parser.add_argument(
        "action",
        choices=("probe", "status", *watch_say.ACTIONS),
        help="probe 可用的捕获方式；status 运行情况；pause 暂停；resume 恢复；reseed 重新建立位置并比对",
    )
    options = parser.parse_args(arguments[:1])
    rest = arguments[1:]
    if options.action in watch_say.ACTIONS:
        return watch_say.main(options.action, rest)
    return _probe(rest) if options.action == "probe" else _status(rest)


def _probe(arguments: Sequence[str]) -> int:
    """Exit code 0 when something better than the snapshot diff can be used, 1 when not."""
    parser = tool_parser(
        "watch probe", "可用哪些捕获方式，为何不能用更好的 / rungs that a table allows, why not others"
    )
    parser.prog = "his160 watch probe"
    parser.add_argument("table", metavar="TABLE", help="变化所在的表 / the table that changes")
    parser.add_argument("--source", metavar="NAME", help="数据源 / source, when there are several")
    parser.add_argument("--key", default="", metavar="COLUMN", help="监视主键所在的列 / column with the watch's key")
    parser.add_argument("--column", default="", metavar="COLUMN", help="时间、rowversion 或序号列 / what it goes by")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    options = parser.parse_args(arguments)
    settings = choose_source(parser, read_site(parser, options), options.source)
    try:
        with connected(settings) as connection:
            found = probe_table(connection, FeedSpec("", options.table, options.key, options.column))
    except SourceFailed as error:
        say_error(f"数据源 {error.source} 无法使用：{error.fault.value}", error.detail)
        return 1
    if options.json:
        print(json.dumps([_as_json(item) for item in found], ensure_ascii=False, indent=2))
    else:
        _print(found, options)
    return 0 if any(item.is_usable and item.grade != "D" for item in found) else 1


def _print(found: Sequence[ProbedRung], options: argparse.Namespace) -> None:
    for item in found:
        print(f"{item.grade}  {item.rung:<16} {'可用 usable' if item.is_usable else '不可用 not usable'}")
        for obstacle in item.obstacles:
            print(f"     {obstacle.words.zh} / {obstacle.words.en}")
            print(f"     → {obstacle.fix.zh} / {obstacle.fix.en}")
    best = next((item for item in found if item.is_usable), None)
    if best is not None and best.grade != "D":
        say("写入监视文件 / in the watch file:", "")
        print(f'[[feed]]\nrung = "{best.rung}"\ntable = "{options.table}"')
        for name in ("key", "column"):
            if getattr(options, name):
                print(f'{name} = "{getattr(options, name)}"')


def _as_json(item: ProbedRung) -> dict[str, object]:
    obstacles = [{"zh": o.words.zh, "en": o.words.en, "fix_zh": o.fix.zh, "fix": o.fix.en} for o in item.obstacles]
    return {"rung": item.rung, "grade": item.grade, "usable": item.is_usable, "obstacles": obstacles}


def _status(arguments: Sequence[str]) -> int:
    """Exit code 1 when a watch is down, or the agent cannot be reached."""
    parser = argparse.ArgumentParser(prog="his160 watch status", description="各监视的运行情况 / how the watches stand")
    add_target(parser)
    options = parser.parse_args(arguments)
    target = read_target(parser, options)
    try:
        with target.channel() as channel:
            about = operation("AgentService.GetStatus")
            (answer,) = call(channel, about, agent_pb2.GetStatusRequest(), timeout=5)
    except CallError as error:
        say_error(f"无法取得状态：{error.explained.code} {error.explained.reason}".rstrip(), error.explained.text)
        return 1
    except OSError as error:
        say_error(f"无法读取证书 {error.filename}", f"cannot read the certificate: {error.strerror}")
        return 1
    assert isinstance(answer, agent_pb2.GetStatusResponse)
    is_down = False
    for part in answer.components:
        kind, _, name = part.name.partition(":")
        if kind != "watch":
            continue
        is_down = is_down or part.health == agent_pb2.HEALTH_DOWN
        figures = " ".join(f"{item}={answer.figures.get(f'watch_{item}:{name}', 0):.0f}" for item in _FIGURES)
        health = agent_pb2.Health.Name(part.health).removeprefix("HEALTH_")
        print(f"{name:<16} {health:<9} {figures} {part.detail}".rstrip())
    return 1 if is_down else 0
