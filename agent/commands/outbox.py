"""``his160 outbox``: events that wait or were given up. Works on the state store, beside a running agent or not."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

from his160.v1 import event_pb2

from agent.commands.options import add_config
from agent.config import load_settings
from agent.console import say, say_error
from sync.clock import utc_now
from sync.outbox import Outbox, OutboxEvent
from sync.store import EventState, StoreError, open_store


def main(arguments: Sequence[str]) -> int:
    """List events, or send dead ones again."""
    options = _parser().parse_args(arguments)
    settings = load_settings(options.config, os.environ, require_files=False)
    if not settings.state.path.exists():
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
        return 1
    try:
        return asyncio.run(_work(options, settings.state.path))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
        return 1


async def _work(options: argparse.Namespace, path: os.PathLike[str]) -> int:
    store = open_store(os.fspath(path), utc_now, exclusive=False)
    try:
        outbox = Outbox(store, utc_now)
        if options.action == "list":
            return await _list(outbox, EventState(options.state.upper()), options.limit)
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


def _line(item: OutboxEvent) -> str:
    """One event on a line: keys and states only, no personal data."""
    event = item.event
    kind = event_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
    key = event.order_no or event.appointment_id or event.schedule_id
    created = item.created_time.astimezone().isoformat(timespec="seconds")
    return (
        f"{event.sequence:>8} {event.event_id} {kind:<12} {key:<20} {created} x{item.attempts} {item.detail}".rstrip()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 outbox", description="查看、重发事件 / list or retry events")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|retry")
    listing = actions.add_parser("list", help="列出事件 / list events")
    listing.add_argument("--state", choices=("dead", "pending", "acked"), default="dead", help="状态 / state (dead)")
    listing.add_argument("--limit", type=int, default=200, metavar="N", help="最多 / at most (200)")
    add_config(listing)
    retry = actions.add_parser("retry", help="重发已放弃的事件 / send dead events again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("event_ids", nargs="*", default=[], metavar="EVENT_ID", help="事件号 / ids")
    which.add_argument("--all", action="store_true", help="全部 / all of them")
    add_config(retry)
    return parser
