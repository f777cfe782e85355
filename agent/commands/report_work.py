"""``his160 report work``: what finance and the information department must clear up, and who has.

A sign-off stands in the audit, for this very finding: when the books say something else about the order, it is open
again. What has been put right disappears by itself, because the books are compared anew each time.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from agent.console import say, say_error
from agent.person import at_the_keyboard
from agent.report_access import ReportAccess
from sync.audit import as_json
from sync.audit_chain import AuditRow
from sync.day_report import Compared
from sync.store import Transaction

_SIGNED: Final = "report.sign"
_MOST: Final = 50  # sign-offs of one order that are looked at


@dataclass(frozen=True, slots=True)
class Item:
    """One order with a finding. ``signed`` None: it is open."""

    day: date
    found: Compared
    signed: AuditRow | None

    @property
    def titles(self) -> str:
        return "、".join(finding.title for finding in self.found.findings)


async def show_work(access: ReportAccess, options: argparse.Namespace, today: date) -> int:
    """List the work, or sign one order off. Exit code 0: nothing is open."""
    last = options.date or today - timedelta(days=1)
    items = await _items(access, [last - timedelta(days=ago) for ago in range(options.days)][::-1])
    if options.sign:
        return await _sign(access, options, items)
    still_open = [item for item in items if item.signed is None]
    shown = items if options.all else still_open
    if options.json:
        print(json.dumps([_json(item) for item in shown], ensure_ascii=False, indent=2))
    else:
        for item in shown:
            print(_line(item))
            print(f"    {'；'.join(finding.advice for finding in item.found.findings)}")
        say(f"{len(still_open)} 项待处理，{len(items) - len(still_open)} 项已签核", f"{len(still_open)} items are open")
    return 1 if still_open else 0


async def _items(access: ReportAccess, days: list[date]) -> list[Item]:
    """An order that was touched on several days is one item, of the last of them."""
    found: dict[str, Item] = {}
    for day in days:
        for compared in await access.day_report.compare(day):
            if compared.findings:
                signed = await access.store.read(lambda work, item=compared: _signed(work, item))  # type: ignore[misc]
                found[compared.order_no] = Item(day, compared, signed)
    return list(found.values())


def _signed(work: Transaction, found: Compared) -> AuditRow | None:
    wanted = _about(found)
    for row in reversed(work.audit.newest(_MOST, action=_SIGNED, target=found.order_no)):
        kept: dict[str, Any] = json.loads(row.entry.parameters)
        if all(kept.get(name) == value for name, value in wanted.items()):
            return row
    return None


def _about(found: Compared) -> dict[str, Any]:
    """What a sign-off is for."""
    return {"finding": ",".join(finding.name for finding in found.findings), "difference_fen": found.difference_fen}


async def _sign(access: ReportAccess, options: argparse.Namespace, items: list[Item]) -> int:
    item = next((item for item in items if item.found.order_no == options.sign), None)
    if item is None:
        say_error(f"订单 {options.sign} 没有待处理的差异", "the order has no finding in these days")
        return 1
    parameters = as_json(**_about(item.found), note=options.note)
    entry = access.audit.entry(
        _SIGNED, target=item.found.order_no, result="DONE", parameters=parameters, caller=at_the_keyboard()
    )
    await access.audit.append(entry)
    say(f"已签核 {item.found.order_no}（{item.titles}）", "signed off")
    return 0


def _line(item: Item) -> str:
    fen = item.found.difference_fen
    money = f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d} 元"
    signed = "" if item.signed is None else f"  已签核 {item.signed.entry.actor}"
    return f"{item.day}  {item.found.order_no}  {item.titles}  差 {money}{signed}"


def _json(item: Item) -> dict[str, Any]:
    return {
        "day": item.day.isoformat(),
        "order_no": item.found.order_no,
        "findings": [finding.name for finding in item.found.findings],
        "findings_zh": item.titles,
        "difference_fen": item.found.difference_fen,
        "advice": [finding.advice for finding in item.found.findings],
        "signed_by": None if item.signed is None else item.signed.entry.actor,
    }
