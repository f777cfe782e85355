"""``his160 ledger``: what was asked of the HIS, and what became of it. Works on the store, an agent running or not."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agent.commands.options import add_config
from agent.console import say, say_error
from agent.evidence_text import STATES, as_text, decidable, hint, line, operation_name, order_text, reason_text
from agent.ledger_access import LedgerAccess, NoStore, ledger_access
from agent.ledger_probe import Probed, probe
from agent.person import at_the_keyboard
from sync.audit import acting, as_json
from sync.clock import utc_now
from sync.commands import COMMANDS
from sync.evidence import Evidence, collect
from sync.store import CommandFilter, CommandRow, CommandState, StoreError

_SHOWN: Final = "ledger.show"
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: there is no such order, or something stays unknown."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_work(options))
    except NoStore:
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
    return 1


async def _work(options: argparse.Namespace) -> int:
    if options.action == "list":
        async with ledger_access(options.config, ask_his=False) as access:
            return await _list(access, options)
    async with ledger_access(options.config, ask_his=not options.no_his) as access:
        if access.trouble:
            say_error(f"无法查询 HIS：{access.trouble}", "the HIS cannot be asked")
        if options.action == "show":
            return await _show(access, options)
        return await _resolve(access, options)


async def _list(access: LedgerAccess, options: argparse.Namespace) -> int:
    wanted = CommandFilter(
        states=frozenset(CommandState(name.upper()) for name in options.state),
        order_key=options.order,
        operation=options.operation,
        since=options.since,
        until=options.until,
        steps=options.steps,
        limit=options.limit,
    )
    rows = await access.store.read(lambda transaction: transaction.commands.search(wanted))
    for row in rows:
        print(json.dumps(row_json(row), ensure_ascii=False) if options.json else line(row))
    if not options.json:
        more = "，可能还有更早的，请缩小范围或加大 --limit" if len(rows) == options.limit else ""
        say(f"共 {len(rows)} 条{more}", f"{len(rows)} commands")
    return 0


async def _show(access: LedgerAccess, options: argparse.Namespace) -> int:
    found = await collect(access.store, access.reads, options.key, utc_now)
    if found is None:
        say_error(f"账本中没有 {options.key}", "the ledger has neither such an order nor such a request_id")
        return 1
    if options.personal:  # whoever looks at a patient's data leaves his name
        await access.audit.append(
            access.audit.entry(_SHOWN, target=found.key, parameters=as_json(personal=True), caller=at_the_keyboard())
        )
    if options.json:
        print(json.dumps(evidence_json(found, personal=options.personal), ensure_ascii=False, indent=2))
        return 0
    for text in order_text(found, utc_now(), personal=options.personal):
        print(text)
    for row in decidable(found):
        say(f"待人工决定：{row.request_id}。{hint(row.operation)[0]}", hint(row.operation)[1])
    return 0


async def _resolve(access: LedgerAccess, options: argparse.Namespace) -> int:
    """Asks for everything of the order that is open; what stays open, a person must decide."""
    found = await collect(access.store, None, options.key, utc_now)
    if found is None:
        say_error(f"账本中没有 {options.key}", "the ledger has neither such an order nor such a request_id")
        return 1
    still_open = 0
    with acting(at_the_keyboard()):
        for row in found.rows:
            if row.state.is_open and not row.parent:
                now = await probe(access, row, offline=options.offline)
                tell(now)
                still_open += now.row.state.is_open
    if not still_open:
        say("没有结果未知的操作", "nothing of it is unknown")
    return 1 if still_open else 0


def tell(probed: Probed) -> None:
    """What asking again has shown."""
    row = probed.row
    print(line(row))
    if probed.note:
        say(f"  {probed.note_zh}", probed.note)
    if row.state.is_open:
        zh, en = hint(row.operation)
        say(f"  仍未知。{zh}", f"still unknown. {en}")
        say(f"  决定：his160 unknown decide {row.request_id} --done|--not-done --note …", "decide")


def row_json(row: CommandRow) -> dict[str, Any]:
    """A row for a program; nothing personal."""
    return {
        "request_id": row.request_id,
        "operation": row.operation,
        "operation_zh": operation_name(row.operation),
        "order_no": row.order_key,
        "state": row.state.value,
        "state_zh": STATES[row.state],
        "reason": reason_text(row),
        "received": row.received_time.isoformat(),
        "sent": row.sent_time.isoformat(),
        "finished": row.finished_time.isoformat() if row.finished_time else None,
        "attempt": row.attempt,
        "probes": row.probes,
        "replay_of": row.replay_of,
        "parent": row.parent,
        "step": row.step,
        "mapping_revision": row.mapping_revision,
    }


def evidence_json(found: Evidence, *, personal: bool) -> dict[str, Any]:
    """The evidence for a program."""

    def content(row: CommandRow) -> dict[str, Any]:
        command = COMMANDS[row.operation]
        shown = {
            **row_json(row),
            "request": json.loads(as_text(command.request_class.FromString(row.request), personal=personal)),
        }
        if row.state is CommandState.DONE and row.result:
            answer = command.response_class.FromString(row.result)
            shown["answer"] = json.loads(as_text(answer, personal=personal))
        return shown

    return {
        "key": found.key,
        "evidence": found.digest,
        "commands": [content(row) for row in found.rows],
        "settlements": [
            {"key": row.key, "state": row.state.value, "setl_id": row.setl_id, "mdtrt_id": row.mdtrt_id}
            for row in found.settlements
        ],
        "refunds": [
            {"out_refund_no": row.out_refund_no, "state": row.state.value, "amount_fen": row.amount_fen}
            for row in found.refunds
        ],
        "events": [{"event_id": row.event_id, "state": row.state.value} for row in found.events],
        "decisions": [json.loads(row.entry.parameters) for row in found.decisions],
        "reads": [
            {
                "operation": word.operation,
                "error": word.error,
                "answer": None if word.answer is None else json.loads(as_text(word.answer, personal=personal)),
            }
            for word in found.words
        ],
        "decidable": [row.request_id for row in decidable(found)],
    }


def point_in_time(text: str) -> datetime:
    """``30m``, ``2h``, ``3d`` ago; or a date, or a date and time, of this machine's zone."""
    count, unit = text[:-1], text[-1:]
    if count.isdigit() and unit in _UNITS:
        return utc_now() - timedelta(**{_UNITS[unit]: int(count)})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            "写作 30m、2h、3d，或 2026-03-02、2026-03-02T08:00 / 30m, 2h, 3d ago, or a date and time"
        ) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 ledger", description="命令账本 / the command ledger")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|resolve")
    listing = actions.add_parser("list", help="列出操作 / list commands")
    states = [state.value.lower() for state in CommandState]
    listing.add_argument(
        "--state", action="append", choices=states, default=[], help="状态，可多次 / state, repeatable"
    )
    listing.add_argument("--order", default="", metavar="ORDER_NO", help="某个订单 / of one order")
    listing.add_argument(
        "--operation", default="", metavar="NAME", help="某个接口，如 RefundPayment / of one operation"
    )
    listing.add_argument(
        "--since", type=point_in_time, metavar="TIME", help="从何时起：2h、2026-03-02T08:00 / from then on"
    )
    listing.add_argument("--until", type=point_in_time, metavar="TIME", help="到何时为止 / up to then")
    listing.add_argument("--steps", action="store_true", help="含多步操作的各步 / with the steps of sagas")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="最近多少条 / the last N (50)")
    listing.add_argument("--json", action="store_true", help="每行一个 JSON / one JSON object a line")
    show = actions.add_parser("show", help="一个订单的全部证据 / everything about one order")
    show.add_argument("--personal", action="store_true", help="显示个人信息（记入审计）/ with personal data (audited)")
    show.add_argument("--json", action="store_true", help="输出 JSON / one JSON object")
    resolve = actions.add_parser("resolve", help="立即核实一个订单的未知结果 / ask about what is unknown of an order")
    resolve.add_argument(
        "--offline", action="store_true", help="由本命令核实 / ask from here, not by the running agent"
    )
    for action in (show, resolve):
        action.add_argument("key", metavar="ORDER_NO|REQUEST_ID", help="平台订单号或请求号 / order or request")
        action.add_argument("--no-his", action="store_true", help="不查询 HIS / do not ask the HIS")
    for action in (listing, show, resolve):
        add_config(action)
    return parser
