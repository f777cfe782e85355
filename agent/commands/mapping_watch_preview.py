"""``his160 mapping preview watch:NAME``: what a watch reads, what it cannot, and which events changes would make."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import tomllib
from typing import Any, Final

from agent.commands.mapping_steps import step_json, step_text
from agent.commands.mapping_view import View
from agent.commands.options import text_or_file
from agent.console import both, say, say_error
from agent.errors import explain, to_status
from his_db.document.finding import nearest
from his_db.errors import HisError
from his_db.mapping.model import FILE, MappingSet
from sync.capture import CaptureSuspended
from sync.watch_trial import WatchChange, WatchLook, WatchTrial, watch_trial

PREFIX: Final = "watch:"
_EVERY: Final = 1.0  # seconds between two looks while a change is waited for
_SHOWN: Final = 3  # messages


def add_watch_options(parser: argparse.ArgumentParser) -> None:
    """What only the preview of a watch takes."""
    group = parser.add_argument_group("监视（watch:名称） / for watch:NAME")
    group.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="再等若干秒，显示期间的变化和会产生的事件 / wait for changes, show the events they make",
    )
    group.add_argument(
        "--before",
        metavar="ROW",
        help="变化前的一行，如 { ZT = 1 } 或 JSON，不连数据库 / a row before, TOML or JSON; @FILE",
    )
    group.add_argument("--after", metavar="ROW", help="变化后的一行 / the row afterwards")


def is_watch(name: str) -> bool:
    """Whether the name given is that of a watch."""
    return name.startswith((PREFIX, "watch "))


def preview_watch(parser: argparse.ArgumentParser, options: argparse.Namespace, view: View, given: MappingSet) -> int:
    """Exit code 0: every row can be read; 1: some cannot, or the HIS does not answer."""
    name = options.operation.removeprefix(PREFIX).removeprefix("watch ").strip()
    if name not in given.watches:
        hint = nearest(name, given.watches) or ", ".join(given.watches) or "-"
        parser.error(f"没有监视 {name} / there is no watch {name}; {hint}?")
    before, after = (_row(parser, text) for text in (options.before, options.after))
    if before is None and after is None and given.watches[name].engine == FILE:
        parser.error(f"{name} 读取文件，请用 --before、--after / its rows come from files: give --before, --after")
    if before is None and after is None:
        return asyncio.run(_live(options, view, given, name))
    return asyncio.run(_given(options, view, given, name, before, after))


def _row(parser: argparse.ArgumentParser, text: str | None) -> dict[str, Any] | None:
    """`{ "ZT": 1 }` or `{ ZT = 1 }`."""
    if text is None:
        return None
    text = text_or_file(parser, text)
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = tomllib.loads(f"row = {text}")["row"]
        except ValueError as error:
            parser.error(f"不是一行数据 / no row: {text!r}; {{ ZT = 1, DJSJ = 2026-03-02T08:00:00 }}: {error}")
    if not isinstance(found, dict):
        parser.error(f"应为 列名 = 值 的表 / must be a table of columns: {text!r}")
    return found


async def _given(
    options: argparse.Namespace,
    view: View,
    given: MappingSet,
    name: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> int:
    async with watch_trial(view.site, given, name) as trial:
        try:
            change = await trial.given(before, after)
        except HisError as error:
            say_error(f"该行无法读取：{error.detail}", f"the row cannot be read: {error.detail}")
            return 1
    if options.json:
        print(json.dumps({"mappings": view.as_json(), "changes": [_change_json(change)]}, ensure_ascii=False, indent=2))
    else:
        print(view.text())
        _print_change(change)
    return 0


async def _live(options: argparse.Namespace, view: View, given: MappingSet, name: str) -> int:
    changes: tuple[WatchChange, ...] = ()
    trouble = ""
    async with watch_trial(view.site, given, name) as trial:
        look = await trial.look()
        if not options.json:
            print(view.text())
            _print_look(look)
        if look.error is None and options.wait > 0:
            try:
                changes = await _waited(trial, options.wait, quiet=options.json)
            except (HisError, CaptureSuspended) as error:
                trouble = str(error)
                say_error("再次读取失败", trouble)
    if options.json:
        found = {"mappings": view.as_json(), **_look_json(look), "changes": [_change_json(item) for item in changes]}
        print(json.dumps(found, ensure_ascii=False, indent=2))
    elif options.wait > 0 and not trouble and look.error is None:
        for change in changes:
            _print_change(change)
        say(f"变化 {len(changes)} 行", f"{len(changes)} rows changed")
    return 1 if look.error is not None or look.unreadable or look.keyless or look.repeated or trouble else 0


async def _waited(trial: WatchTrial, seconds: float, *, quiet: bool) -> tuple[WatchChange, ...]:
    """Poll until something has changed, or the time is over."""
    await trial.poll()
    if not quiet:
        say(
            f"现在请在 HIS 中操作一笔（如退号、停诊），最多等 {seconds:g} 秒",
            f"now change something in the HIS; waiting for {seconds:g} s at most",
        )
    until = time.monotonic() + seconds
    while True:
        await asyncio.sleep(max(0.0, min(_EVERY, until - time.monotonic())))
        found = await trial.poll()
        if found or time.monotonic() >= until:
            return found


def _print_look(look: WatchLook) -> None:
    if look.step is not None:
        step_text(look.step)
    print(f"== watch:{look.name}")
    if look.error is not None:
        explained = explain(to_status(look.error))
        print(f"status {explained.code} {explained.reason}: {explained.text}")
        print(f"       {look.error.detail}")
        return
    for key, message in look.messages[:_SHOWN]:
        print(f"{key}: {json.dumps(message, ensure_ascii=False)}")
    for rows in look.unreadable:
        more = "…" if rows.count > len(rows.keys) else ""
        print(f"!! {rows.count} 行无法读取 / rows cannot be read: {rows.reason}")
        print(f"   {', '.join(rows.keys)}{more}")
    if look.keyless:
        print(f"!! {look.keyless} 行没有主键值 / rows without a key")
    if look.repeated:
        print(f"!! {look.repeated} 个主键重复，多为连接写成一对多 / keys come more than once: a join that fans out")
    say(
        f"共 {look.rows} 行，可读 {look.rows - sum(rows.count for rows in look.unreadable)}",
        f"{look.rows} rows",
    )


def _print_change(change: WatchChange) -> None:
    what = {"new": "新增 new", "changed": "变化 changed", "gone": "消失 gone"}[change.what]
    print(f"{what} {change.key}")
    for name, (before, after) in change.fields.items():
        print(f"    {name}: {before} -> {after}")
    rule = f"[[event]] {change.rule}" if change.rule else "-"
    at = f"，发生于 occurred {change.occurred}" if change.occurred else ""
    print(f"    事件 event: {change.event or '-'}（规则 rule {rule}{at}）{both(change.note.zh, change.note.en)}")


def _look_json(look: WatchLook) -> dict[str, Any]:
    return {
        "watch": look.name,
        "step": None if look.step is None else step_json(look.step),
        "rows": look.rows,
        "without_key": look.keyless,
        "repeated_keys": look.repeated,
        "unreadable": [{"reason": r.reason, "count": r.count, "keys": list(r.keys)} for r in look.unreadable],
        "messages": [{"key": key, "message": message} for key, message in look.messages],
        "error": "" if look.error is None else look.error.detail,
    }


def _change_json(change: WatchChange) -> dict[str, Any]:
    return {
        "key": change.key,
        "what": change.what,
        "fields": {name: {"before": one, "after": two} for name, (one, two) in change.fields.items()},
        "event": change.event,
        "rule": change.rule,
        "occurred": change.occurred,
        "note": change.note.en,
        "note_zh": change.note.zh,
    }
