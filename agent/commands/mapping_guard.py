"""``his160 mapping drift | grants | impact``: what the mappings need of the HIS, and whether it is still there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from agent.commands.mapping_options import tool_parser
from agent.commands.mapping_view import add_published, read_view
from agent.console import say, say_error
from his_db.workbench.drift import LOCK, LockUnreadable, compare, degraded, lock_of, read_lock, write_lock
from his_db.workbench.grants import grants
from his_db.workbench.impact import ImpactReport, impact


def drift_main(arguments: Sequence[str]) -> int:
    """Exit code 0: nothing breaks; 1: operations degrade, or there is no lock."""
    parser = tool_parser("drift", "数据库结构与 mappings.lock 比较 / compare the live catalogue with mappings.lock")
    parser.add_argument("--update", action="store_true", help="写入 mappings.lock / write mappings.lock")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    add_published(parser)
    options = parser.parse_args(arguments)
    view = read_view(parser, options)
    site = view.site
    if options.update and view.is_published:
        parser.error("已发布的存档不能改动：去掉 --published / an archive is not changed: leave --published out")
    mapping_set = site.load()
    try:
        old = read_lock(site.folder)
        if old is None and view.is_published:
            old = read_lock(view.edited)
    except LockUnreadable as error:
        if not options.update:
            say_error(
                f"{LOCK} 无法读取：{error}；用 --update 重新生成", f"{LOCK} cannot be read; --update writes a new one"
            )
            return 1
        old = None
    lock = lock_of(site, mapping_set, old)
    changes = () if old is None else compare(old, lock)
    hit = degraded(changes)
    if options.json:
        found = {"changes": [asdict(change) for change in changes], "degraded": list(hit)}
        print(json.dumps({"mappings": view.as_json(), **found}, ensure_ascii=False, indent=2))
    else:
        print(view.text())
        for change in changes:
            mark = "破坏 breaks" if change.breaks else "注意 notice"
            print(f"{mark} {change.source} {change.object} {change.what}: {change.detail}")
            print(f"    {', '.join(change.operations)}")
    if options.update:
        path = write_lock(site.folder, lock)
        say(f"已写入 {path}", "written")
        return 0
    if old is None:
        say_error(f"没有 {LOCK}，请先执行 --update", f"there is no {LOCK}: run with --update")
        return 1
    if not options.json:
        say(
            f"变化 {len(changes)} 处，受影响的接口 {len(hit)} 个",
            f"{len(changes)} changes, {len(hit)} operations degrade",
        )
    return 1 if hit else 0


def grants_main(arguments: Sequence[str]) -> int:
    """The script to standard output, or into a file."""
    parser = tool_parser("grants", "最小授权脚本 / the least-privilege GRANT script of what the mappings use")
    parser.add_argument("--account", default="", metavar="NAME", help="授权给谁 / whom to grant (login of config.toml)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="写入文件 / write to a file")
    add_published(parser)
    options = parser.parse_args(arguments)
    view = read_view(parser, options)
    site = view.site
    scripts = grants(site, site.load(), account=options.account)
    text = f"-- {view.text()}\n" + "\n".join(script.text() for script in scripts.values())
    if options.out is None:
        print(text, end="")
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        say_error(f"无法写入 {options.out}", error.strerror or type(error).__name__)
        return 1
    say(f"已写入 {options.out}", "written")
    return 0


def impact_main(arguments: Sequence[str]) -> int:
    """Exit code 0."""
    parser = tool_parser("impact", "对 HIS 的影响 / what we do to the HIS")
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    add_published(parser)
    options = parser.parse_args(arguments)
    view = read_view(parser, options)
    site = view.site
    report = impact(site, site.load())
    if options.json:
        print(json.dumps({"mappings": view.as_json(), **asdict(report)}, ensure_ascii=False, indent=2))
    else:
        print(view.text())
        _print_impact(report)
    return 0


def _print_impact(report: ImpactReport) -> None:
    for source in report.sources:
        print(f"{source.name} ({source.engine})")
        print(f"  连接 connections: {source.connections}   并发 at once: {source.at_once}")
        print(f"  语句超时 statement timeout {source.statement_timeout}, 锁超时 lock timeout {source.lock_timeout}")
        print(f"  轮询 polls: {source.polls_per_minute:g} 次/分钟 per minute")
    for use in report.uses:
        print(f"{use.label}  [{use.lane}] {use.peak.text()}")
        waits = f"，调用方等待 caller waits {use.waits}" if use.waits else ""
        print(f"    超时 time-outs: 语句 statement {use.statement_timeout}，锁 lock {use.lock_timeout}{waits}")
        for item in use.objects:
            print(f"    {item.name}: {', '.join(item.rights)}  列 columns: {', '.join(item.columns) or '-'}")
            if item.changes:
                print(f"        改写 writes: {', '.join(item.changes)}")
        print(f"    锁 locks: {use.locks}")
        if use.indexes:
            print(f"    索引 indexes: {', '.join(use.indexes)}")
        if use.scans:
            print(f"    全表扫描 full scans: {', '.join(use.scans)}")
        for note in use.notes:
            print(f"    {note}")
