"""``his160 unknown``: commands whose outcome nobody knows. List them, ask again, decide."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message

from agent.commands.ledger import row_json, tell
from agent.commands.options import add_config
from agent.console import say, say_error
from agent.contract_json import ContractJsonError, from_json
from agent.evidence_text import as_text, decidable, hint, line, order_text, refund_line, span, trade_line
from agent.ledger_access import LedgerAccess, NoStore, ledger_access
from agent.ledger_probe import probe
from agent.person import at_the_keyboard, person
from sync import registry
from sync.audit import acting
from sync.clock import utc_now
from sync.commands import COMMANDS
from sync.decisions import Decision, DecisionRefused, Decisions, answer_for, is_complete
from sync.evidence import Evidence, collect
from sync.money_book import RefundProgress, RefundRow, TradeRow, TradeState
from sync.saga import Saga
from sync.store import CommandFilter, CommandRow, CommandState, StoreError, Transaction

_MOST: Final = 10_000
_UNKNOWN: Final = CommandFilter(states=frozenset({CommandState.UNKNOWN}), limit=_MOST)
_SECOND_LOOK: Final = 3
"""Exit code of a decision that was only shown."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; 1: something is unknown, or the decision was refused; 3: look once more, then decide."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_work(options))
    except NoStore:
        say_error("状态库不存在，代理尚未运行过", "there is no state store: the agent has not run yet")
    except StoreError as error:
        say_error(f"状态库无法使用：{type(error).__name__}", str(error))
    except DecisionRefused as error:
        say_error(error.zh, str(error))
    except (OSError, ContractJsonError) as error:
        say_error("无法读取 --answer", str(error))
    return 1


async def _work(options: argparse.Namespace) -> int:
    if options.action == "list":
        async with ledger_access(options.config, ask_his=False) as access:
            return await _list(access, options)
    async with ledger_access(options.config, ask_his=not options.no_his) as access:
        if access.trouble:
            say_error(f"无法查询 HIS：{access.trouble}", "the HIS cannot be asked")
        with acting(at_the_keyboard()):
            return await (_probe(access, options) if options.action == "probe" else _decide(access, options))


async def _list(access: LedgerAccess, options: argparse.Namespace) -> int:
    def unit(transaction: Transaction) -> tuple[Sequence[CommandRow], Sequence[RefundRow], Sequence[TradeRow]]:
        abnormal = transaction.refunds.listed(RefundProgress.ABNORMAL, _MOST)
        return transaction.commands.search(_UNKNOWN), abnormal, transaction.trades.listed(TradeState.UNCONFIRMED, _MOST)

    rows, abnormal, unconfirmed = await access.store.read(unit)
    now = utc_now()
    for row in rows:
        since = now - (row.finished_time or row.sent_time)
        if options.json:
            print(json.dumps({**row_json(row), "unknown_seconds": int(since.total_seconds())}, ensure_ascii=False))
            continue
        print(line(row))
        say(f"    未知已 {span(since)}，核实 {row.probes} 次。{hint(row.operation)[0]}", hint(row.operation)[1])
    for refund in abnormal:
        if options.json:
            print(json.dumps(_refund_json(refund), ensure_ascii=False))
            continue
        print(refund_line(refund))
        say(
            "    支付平台付不出去：请财务在商户平台按退款单号处理；处理后代理会自己查到（最多 6 小时）",
            "put it right at the merchant platform by its number; the agent sees it by itself within 6 hours",
        )
    for trade in unconfirmed:
        if options.json:
            print(json.dumps(_trade_json(trade), ensure_ascii=False))
            continue
        print(trade_line(trade))
        say(
            "    患者已付款，平台一直没有确认：请与平台核对订单；在商户平台退款，或由平台补发确认",
            "paid, and never confirmed: ask the platform; give it back at the merchant platform, or have it confirmed",
        )
    if not options.json:
        say(
            f"结果未知 {len(rows)} 条，退款异常 {len(abnormal)} 笔，已付未确认 {len(unconfirmed)} 笔",
            f"{len(rows)} unknown outcomes, {len(abnormal)} abnormal refunds, {len(unconfirmed)} unconfirmed payments",
        )
    return 0


def _refund_json(row: RefundRow) -> dict[str, Any]:
    return {
        "refund": row.out_refund_no,
        "order_no": row.order_key,
        "out_trade_no": row.out_trade_no,
        "amount_fen": row.amount_fen,
        "state": row.state.value,
        "accepted": row.created_time.isoformat(),
        "since": row.final_time.isoformat() if row.final_time else None,
        "detail": row.detail,
    }


def _trade_json(row: TradeRow) -> dict[str, Any]:
    return {
        "trade": row.out_trade_no,
        "order_no": row.order_key,
        "amount_fen": row.amount_fen,
        "state": row.state.value,
        "opened": row.created_time.isoformat(),
        "detail": row.detail,
    }


async def _probe(access: LedgerAccess, options: argparse.Namespace) -> int:
    rows = await access.store.read(lambda transaction: transaction.commands.search(_UNKNOWN))
    wanted = set(options.request_ids)
    missing = wanted - {row.request_id for row in rows}
    for request_id in sorted(missing):
        say_error(f"{request_id} 不在结果未知之列", "is not among the unknown outcomes")
    still_open = len(missing)
    for row in rows:
        if options.all or row.request_id in wanted:
            now = await probe(access, row, offline=options.offline)
            tell(now)
            still_open += now.row.state.is_open
    return 1 if still_open else 0


async def _decide(access: LedgerAccess, options: argparse.Namespace) -> int:
    """Shown first, done only when the evidence is still what the person has seen."""
    found = await collect(access.store, access.reads, options.request_id, utc_now)
    row = None if found is None else found.row(options.request_id)
    if found is None or row is None:
        raise DecisionRefused("the ledger has no such command", f"账本中没有 {options.request_id}")
    if row not in decidable(found):
        _point_elsewhere(found, row)
    objection = await _objection(access, row, done=options.done)
    if objection and not options.against_the_his:
        raise DecisionRefused(
            f"{objection[1]}; --against-the-his if you know better", f"{objection[0]}，如确有把握请加 --against-the-his"
        )
    answer = _answer(row, found, options.answer) if options.done else None
    if options.evidence != found.digest:
        return _look_again(found, row, options, answer)
    decision = Decision(row.request_id, options.done, options.who or person(), options.note, found.digest, answer)
    now = await Decisions(access.store, access.audit, utc_now, _sagas()).take(decision, found)
    print(line(now))
    if row.parent:
        text = "运行中的代理会在下次核实时继续" if access.is_running else "代理启动后会继续"
        say(f"已决定并记入审计。{text}", "decided, and in the audit; the agent goes on with the command")
    else:
        say("已决定并记入审计。再收到同一请求时按此答复", "decided, and in the audit; a repetition is answered by it")
    return 0


def _look_again(found: Evidence, row: CommandRow, options: argparse.Namespace, answer: Message | None) -> int:
    """The second look: what the decision rests on, and how to confirm it."""
    for text in order_text(found, utc_now(), personal=False):
        print(text)
    print()
    if options.evidence:
        say("证据已有变化，未作决定", "the evidence has changed: nothing was decided")
    word = "已执行 done" if options.done else "未执行 not done"
    say(f"将决定：{line(row)} → {word}", "")
    if answer is not None:
        print(f"应答 answer {as_text(answer, personal=False)}")
    say(hint(row.operation)[0], hint(row.operation)[1])
    say(f"确认无误后，加上 --evidence {found.digest} 再执行一次", "sure? once more, with --evidence")
    return _SECOND_LOOK


def _point_elsewhere(found: Evidence, row: CommandRow) -> None:
    """Raises DecisionRefused, naming the steps that can be decided instead."""
    steps = [step.request_id for step in decidable(found) if step.parent == row.request_id]
    if steps:
        raise DecisionRefused(f"decide its step: {', '.join(steps)}", f"请对卡住的步骤作决定：{'、'.join(steps)}")
    raise DecisionRefused(f"nothing is to be decided: {row.state.value}", f"无需决定：{row.state.value}")


async def _objection(access: LedgerAccess, row: CommandRow, *, done: bool) -> tuple[str, str] | None:
    """What the HIS says against the decision now, Chinese and English."""
    if access.prober is None or COMMANDS[row.operation].is_repeatable:
        return None
    found = await access.prober.look(row, COMMANDS[row.operation].request_class.FromString(row.request))
    if found.row.state is CommandState.DONE and not done:
        return "HIS 显示该操作已执行", "the HIS shows it done"
    if found.row.state in (CommandState.RETRYABLE, CommandState.REJECTED) and done:
        return "HIS 显示该操作未执行", "the HIS shows it not done"
    return None


def _answer(row: CommandRow, found: Evidence, file: Path | None) -> Message:
    """Of the file, else of the evidence. Raises DecisionRefused, OSError, ContractJsonError."""
    if file is None:
        made = answer_for(row, found)
        if made is None:
            raise DecisionRefused(
                "the evidence does not give the whole answer: --answer FILE",
                "证据不足以组成应答，请用 --answer 文件 给出（合约 JSON）",
            )
        return made
    given = from_json(file.read_text(encoding="utf-8"), COMMANDS[row.operation].response_class)
    if not is_complete(given):
        raise DecisionRefused("required fields of the answer are missing", "应答缺少必填字段")
    return given


def _sagas() -> dict[str, Saga]:
    return {name: registry.load(entry) for name, entry in registry.SAGAS.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 unknown", description="结果未知的操作 / unknown outcomes")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|probe|decide")
    listing = actions.add_parser("list", help="列出 / list them")
    listing.add_argument("--json", action="store_true", help="每行一个 JSON / one JSON object a line")
    asking = actions.add_parser("probe", help="立即再核实 / ask again now")
    which = asking.add_mutually_exclusive_group(required=True)
    which.add_argument("request_ids", nargs="*", default=[], metavar="REQUEST_ID", help="请求号 / ids")
    which.add_argument("--all", action="store_true", help="全部 / all of them")
    asking.add_argument("--offline", action="store_true", help="由本命令核实 / ask from here, not by the running agent")
    deciding = actions.add_parser("decide", help="人工决定 / decide")
    deciding.add_argument(
        "request_id", metavar="REQUEST_ID", help="请求号，或多步操作中一步的 / of a command or a step"
    )
    word = deciding.add_mutually_exclusive_group(required=True)
    word.add_argument("--done", dest="done", action="store_true", help="已执行 / it was done")
    word.add_argument(
        "--not-done", dest="done", action="store_false", help="未执行，可重发 / not done, may be sent again"
    )
    deciding.add_argument("--note", required=True, metavar="TEXT", help="依据，不写个人信息 / why; no personal data")
    deciding.add_argument("--who", default="", metavar="NAME", help="决定人，默认为登录用户 / who decides (the user)")
    deciding.add_argument("--answer", type=Path, metavar="FILE", help="应答内容，合约 JSON / the answer as JSON")
    deciding.add_argument("--evidence", default="", metavar="DIGEST", help="看过的证据 / the evidence that was seen")
    deciding.add_argument(
        "--against-the-his", action="store_true", help="与 HIS 所示相反也决定 / also against what the HIS shows"
    )
    for action in (asking, deciding):
        action.add_argument("--no-his", action="store_true", help="不查询 HIS / do not ask the HIS")
    for action in (listing, asking, deciding):
        add_config(action)
    return parser
