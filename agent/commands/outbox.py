"""``his160 outbox``: events that wait or were given up. Works on the state store, beside a running agent or not."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from his160.v1 import event_pb2

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say, say_error
from agent.contract_json import from_json, to_json
from agent.person import at_the_keyboard
from agent.state_store import has_state, open_state
from sync.audit import Audit, acting
from sync.clock import utc_now
from sync.outbox import Outbox, OutboxEvent
from sync.store import EventState, StoreError


def main(arguments: Sequence[str]) -> int:
    """List events, look at one, or send dead ones again, corrected or as they are."""
    options = _parser().parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    if not has_state(settings.state):
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
        return 1
    try:
        return asyncio.run(_work(options, settings))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
        return 1


async def _work(options: argparse.Namespace, settings: Settings) -> int:
    store = open_state(settings.state)
    try:
        outbox = Outbox(store, utc_now, audit=Audit(store, utc_now, instance=settings.site.instance))
        if options.action == "list":
            return await _list(outbox, EventState(options.state.upper()), options.limit)
        if options.action == "show":
            return await _show(outbox, options.event_id)
        with acting(at_the_keyboard()):
            if options.action == "correct":
                return await _correct(outbox, options.event_id, options.file, options.note)
            return await _retry(outbox, options.event_ids, everything=options.all)
    finally:
        await store.close()


async def _list(outbox: Outbox, state: EventState, limit: int) -> int:
    events = await outbox.list(state, limit)
    for item in events:
        print(_line(item))
    say(f"共 {len(events)} 条", f"{len(events)} events")
    return 0


async def _retry(outbox: Outbox, event_ids: Sequence[str], *, everything: bool) -> int:
    ids = [item.event.event_id for item in await outbox.list(EventState.DEAD, 100_000)] if everything else event_ids
    revived = await outbox.retry(list(ids))
    say(f"已重新排队 {revived} 条", f"{revived} events will be sent again")
    return 0 if revived == len(ids) else 1


async def _show(outbox: Outbox, event_id: str) -> int:
    item = await outbox.get(event_id)
    if item is None:
        return _missing()
    print(to_json(item.event))
    say(
        f"状态 {item.state.value}，已尝试 {item.attempts} 次：{item.detail or '-'}",
        f"{item.state.value}, {item.attempts} attempts: {item.detail or '-'}",
    )
    return 0


async def _correct(outbox: Outbox, event_id: str, file: Path, note: str) -> int:
    item = await outbox.get(event_id)
    if item is None:
        return _missing()
    try:
        event = from_json(await asyncio.to_thread(file.read_text, "utf-8-sig"), event_pb2.Event)
        assert isinstance(event, event_pb2.Event)
        if event.event_id != event_id:
            raise ValueError("the file holds another event")
        await outbox.correct(event, note)
    except (OSError, ValueError) as error:
        say_error("未更正：文件无法读取、不是该事件，或改动了不可更正的内容", f"not corrected: {error}")
        return 1
    say("已更正并重新排队，事件号不变（记入审计）", "corrected and sent again with the same id; it is in the audit")
    return 0


def _missing() -> int:
    say_error("没有这个事件", "there is no event with this id")
    return 1


def _line(item: OutboxEvent) -> str:
    """One event on a line: keys and states only, no personal data."""
    event = item.event
    kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
    key = event.order_no or event.appointment_id or event.schedule_id or event.report.run_id
    created = item.created_time.astimezone().isoformat(timespec="seconds")
    return (
        f"{event.sequence:>8} {event.event_id} {kind:<12} {key:<20} {created} x{item.attempts} {item.detail}".rstrip()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 outbox", description="查看、重发事件 / list or retry events")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|retry|correct")
    listing = actions.add_parser("list", help="列出事件 / list events")
    listing.add_argument("--state", choices=("dead", "pending", "acked"), default="dead", help="状态 / state (dead)")
    listing.add_argument("--limit", type=int, default=200, metavar="N", help="最多 / at most (200)")
    add_config(listing)
    retry = actions.add_parser("retry", help="重发已放弃的事件 / send dead events again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("event_ids", nargs="*", default=[], metavar="EVENT_ID", help="事件号 / ids")
    which.add_argument("--all", action="store_true", help="全部 / all of them")
    add_config(retry)
    show = actions.add_parser("show", help="查看一个事件的内容 / show one event as JSON")
    show.add_argument("event_id", metavar="EVENT_ID", help="事件号 / id")
    add_config(show)
    correct = actions.add_parser("correct", help="更正已放弃的事件并重发 / correct a dead event and send it again")
    correct.add_argument("event_id", metavar="EVENT_ID", help="事件号 / id")
    correct.add_argument(
        "--file", type=Path, required=True, metavar="FILE", help="show 输出后修改的 JSON / JSON of `show`, edited"
    )
    correct.add_argument("--note", required=True, help="为何更正，记入审计 / why, for the audit")
    add_config(correct)
    return parser
