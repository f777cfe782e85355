"""``his160 desk``: API keys for window programs, and what windows have told that the HIS does not show."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from agent.commands.options import add_config
from agent.config import Settings, load_settings
from agent.console import say, say_error
from agent.desk_keys import DeskKeyError, line_of, new_key
from agent.person import at_the_keyboard
from agent.state_store import open_state
from sync.audit import Audit
from sync.clock import utc_now
from sync.notice import NoticeRow, SubjectRow
from sync.store import StoreError, Transaction


def main(arguments: Sequence[str]) -> int:
    """Make a key, list open notices, or say that one will never show."""
    options = _parser().parse_args(arguments)
    if options.action == "key":
        return _key(options.name)
    settings = load_settings(options.config, os.environ, require_files=False, secrets=False)
    if not settings.state.path.exists():
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
        return 1
    try:
        return asyncio.run(_work(options, settings))
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
        return 1


def _key(name: str) -> int:
    key = new_key()
    try:
        line = line_of(name, key)
    except DeskKeyError as error:
        say_error("窗口名称只能用字母、数字、点、横线，最多 63 个字符", str(error))
        return 2
    say("密钥只显示这一次，请填入窗口程序（请求头 X-Api-Key）：", "the key is shown this once; header X-Api-Key:")
    print(f"  {key}")
    say(
        "把下面这一行加入 [desk] keys 指定的文件，立即生效：",
        "add this line to the file of [desk] keys; it works at once:",
    )
    print(f"  {line}")
    return 0


async def _work(options: argparse.Namespace, settings: Settings) -> int:
    store = open_state(settings.state)
    try:
        if options.action == "list":
            return _listed(await store.read(lambda work: _open(work, options.limit)))
        audit = Audit(store, utc_now, instance=settings.site.instance)
        now = utc_now()

        def unit(work: Transaction) -> int:
            subjects = [
                row for row in work.notices.subjects(options.request_id) if row.seen_time is None and not row.given_up
            ]
            for row in subjects:
                work.notices.settle(replace(row, given_up=True))
                entry = audit.entry(
                    "desk.dismiss",
                    target=row.subject.partition(":")[2],
                    result="dismissed",
                    parameters=options.note,
                    caller=at_the_keyboard(),
                )
                work.audit.append(entry, now)
            return len(subjects)

        dismissed = await store.write(unit)
        if not dismissed:
            say_error("没有这个请求号的未核实登记", "nothing open has this request_id")
            return 1
        say(f"已核销 {dismissed} 项", f"{dismissed} dismissed")
        return 0
    finally:
        await store.close()


def _open(work: Transaction, limit: int) -> list[tuple[SubjectRow, NoticeRow | None]]:
    return [(row, work.notices.get(row.request_id)) for row in work.notices.open(limit)]


def _listed(rows: Sequence[tuple[SubjectRow, NoticeRow | None]]) -> int:
    for row, notice in rows:
        since = row.received_time.astimezone().isoformat(timespec="seconds")
        who = "" if notice is None else f"{notice.window} {notice.operator_id}"
        print(f"{since} {row.kind.value:<9} {row.subject:<24} {row.request_id:<24} {who}".rstrip())
    say(f"窗口已告知、HIS 尚未显示的共 {len(rows)} 项", f"told by windows, not shown by the HIS: {len(rows)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 desk", description="医院调用接口 / the hospital's own calls")
    actions = parser.add_subparsers(dest="action", required=True, metavar="key|list|dismiss")
    key = actions.add_parser("key", help="为窗口程序生成密钥 / make an API key for a window program")
    key.add_argument("name", metavar="NAME", help="窗口名称 / name of the window")
    listing = actions.add_parser("list", help="窗口已告知而 HIS 未显示的 / told by windows, not shown by the HIS")
    listing.add_argument("--limit", type=int, default=200, metavar="N", help="最多 / at most (200)")
    add_config(listing)
    dismiss = actions.add_parser("dismiss", help="核实后核销 / after looking: it will never show")
    dismiss.add_argument("request_id", metavar="REQUEST_ID", help="请求号 / the notice")
    dismiss.add_argument("--note", required=True, help="核实结果，记入审计 / what was found, for the audit")
    add_config(dismiss)
    return parser
