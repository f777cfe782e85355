"""``his160 state``: back up the state store while the agent runs, put a copy in its place, check it."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say, say_error
from agent.person import write_down
from agent.state_store import has_state, open_state, revision_of_shared
from sync.audit import Audit, as_json
from sync.clock import utc_now
from sync.store import CommandState, Store, StoreCorrupt, StoreError, StoreLocked
from sync.store_backup import copy_store, examine, restore_store
from sync.store_revision import head


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: it cannot be done, or the store is damaged. ``check`` only reads: it upgrades nothing."""
    options = _parser().parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    act = {"backup": _backup, "restore": _restore, "check": _check}[options.action]
    try:
        return act(settings, options)
    except StoreLocked as error:
        say_error("有代理或其他程序正在使用状态库，请先停止", str(error))
    except StoreCorrupt as error:
        say_error("不是本系统的状态库，或文件已损坏；请用完好的备份恢复", str(error))
    except StoreError as error:
        say_error(f"状态库操作失败：{type(error).__name__}", str(error))
    return 1


def _backup(settings: Settings, options: argparse.Namespace) -> int:
    if _is_elsewhere(settings) or _is_missing(settings):
        return 1
    target: Path = options.file
    if target.exists():
        say_error(f"{target} 已存在，请换一个文件名", "the file exists already: choose another name")
        return 1
    if not target.parent.is_dir():
        say_error(f"文件夹 {target.parent} 不存在", "there is no such folder")
        return 1
    copy_store(settings.state.path, target)
    health = examine(target)
    if health.damage:
        say_error(f"备份已写出，但内容有损坏：{health.damage}", "the copy is damaged, and so is the store")
        return 1
    size = target.stat().st_size
    say(f"已备份到 {target}（{size:,} 字节，已校验）", "backed up and verified")
    say("备份含有业务数据，请按敏感文件保管", "it holds data of patients: keep it safe")
    return 0


def _restore(settings: Settings, options: argparse.Namespace) -> int:
    if _is_elsewhere(settings):
        return 1
    path = settings.state.path
    kept = path.with_name(f"{path.name}.before-restore-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    restore_store(options.file, path, kept)
    write_down(settings, "state.restore", result="done", parameters=as_json(file=options.file.name, kept=kept.name))
    say(f"已恢复；原状态库保留为 {kept.name}", "restored; the former store is kept")
    say(
        "备份之后的操作和事件，账本已不知道：启动后会重新核对，事件可能重复发送（编号相同，中继会去重）",
        "the ledger knows nothing of what came after the copy: it is looked up anew, events may be sent again",
    )
    return 0


def _check(settings: Settings, options: argparse.Namespace) -> int:
    if _is_missing(settings):
        return 1
    if settings.state.url:
        revision = revision_of_shared(settings.state)
        if revision is None:
            say_error("数据库中还没有状态库的表，代理尚未运行过", "there are no tables yet: the agent has not run")
            return 1
    else:
        health = examine(settings.state.path)
        if health.damage:
            say_error(f"状态库已损坏：{health.damage}；请停止代理后用备份恢复", "the store is damaged: restore a copy")
            return 1
        size, revision = settings.state.path.stat().st_size, health.revision
        say(f"文件完好，{size:,} 字节，结构版本 {revision}", "the file is whole")
    if revision != head():  # to be opened it would have to be upgraded
        say_error(
            f"结构版本 {revision} 早于本程序的 {head()}，内容未检查：请用原版本检查，或启动代理升级之后再查",
            f"revision {revision} is older than {head()}, the content is not checked: use the older program, or check "
            "again when the agent has been started and has upgraded it",
        )
        return 1
    return asyncio.run(_check_content(settings))


async def _check_content(settings: Settings) -> int:
    store = open_state(settings.state)
    try:
        verified = await Audit(store, utc_now).verify()
        await _say_counts(store)
    finally:
        await store.close()
    if verified.broken is not None:
        say_error(
            f"审计链在第 {verified.broken.sequence} 条断裂：{verified.broken.what_zh}",
            f"the audit chain is broken at {verified.broken.sequence}: {verified.broken.what}",
        )
        return 1
    say(f"审计链完好，共 {verified.rows} 条", "the audit chain holds")
    return 0


async def _say_counts(store: Store) -> None:
    commands, events = await store.read(lambda work: (work.commands.counts(), work.events.backlog()))
    unknown = commands[CommandState.UNKNOWN] + commands[CommandState.SENT]
    say(f"命令 {sum(commands.values())} 条，其中结果未知或进行中 {unknown} 条", f"{unknown} commands are open")
    say(
        f"待发事件 {events.pending} 条，已放弃 {events.dead} 条",
        f"{events.pending} events wait, {events.dead} are dead",
    )


def _is_elsewhere(settings: Settings) -> bool:
    """Says what to use when the store is in PostgreSQL."""
    if settings.state.url:
        say_error(
            "状态库在 PostgreSQL 中，请用 pg_dump、pg_restore 或该数据库自己的备份",
            "the store is in PostgreSQL: use pg_dump and pg_restore, or the backup of that database",
        )
    return bool(settings.state.url)


def _is_missing(settings: Settings) -> bool:
    if has_state(settings.state):
        return False
    say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="his160 state", description="状态库：备份、恢复、检查 / back up, restore, check the state store"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="backup|restore|check")
    backup = actions.add_parser("backup", help="备份，代理可以照常运行 / a copy, also while the agent runs")
    backup.add_argument("file", type=Path, metavar="FILE", help="备份文件，不得已存在 / the copy; must not exist yet")
    restore = actions.add_parser("restore", help="用备份替换状态库，须先停止代理 / the agent must be stopped")
    restore.add_argument("file", type=Path, metavar="FILE", help="备份文件 / the copy")
    check = actions.add_parser("check", help="检查是否完好 / whether it is whole")
    for action in (backup, restore, check):
        add_config(action)
    return parser
