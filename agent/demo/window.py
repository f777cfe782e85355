"""``his160 demo window``: a hand at the hospital's window while ``his160 demo --stay`` runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.demo.narrator import Narrator, console
from agent.demo.rows import difference
from agent.demo.site import NOTES
from agent.demo.story import CASHIER
from his_db.registry import load_sample
from his_db.sample import OrderRow, WindowProgram, WindowRefusal

_ALL: Final = 100_000
_ORDER_ACTIONS: Final[Mapping[str, Callable[[WindowProgram, str], None]]] = {
    "cancel": lambda window, his_id: window.cancel_booking(his_id, operator=CASHIER),
    "refund": lambda window, his_id: window.refund(his_id, operator=CASHIER),
    "check-in": lambda window, his_id: window.check_in(his_id),
    "visit": lambda window, his_id: window.visit(his_id),
}
_SESSION_ACTIONS: Final[Mapping[str, Callable[[WindowProgram, str], None]]] = {
    "suspend": lambda window, schedule: window.suspend_schedule(schedule, operator=CASHIER, reason="医生临时外出"),
    "resume": lambda window, schedule: window.resume_schedule(schedule, operator=CASHIER),
}
ACTIONS: Final = ("list", *_ORDER_ACTIONS, *_SESSION_ACTIONS)


def main(argv: Sequence[str]) -> int:
    """Entry of the command: 0 done, 1 the window program refused, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    notes = arguments.workdir / NOTES
    if not notes.is_file():
        print(f"no demo in {arguments.workdir} (start one: his160 demo --stay)", file=sys.stderr)
        return 2
    known = json.loads(notes.read_text(encoding="utf-8"))
    if "pack" not in known:
        print("the demo is not ready yet", file=sys.stderr)
        return 2
    window = load_sample(known["pack"]).window(known["url"])
    try:
        return _act(window, arguments.action, arguments.id, Narrator(console()))
    except WindowRefusal as refusal:
        print(f"窗口程序拒绝 the window refuses: {refusal}", file=sys.stderr)
        return 1
    finally:
        window.close()


def _act(window: WindowProgram, action: str, wanted: str, narrator: Narrator) -> int:
    if action == "list":
        rows = window.orders(channel_only=True, limit=20)
        narrator.table(("订单 order", "状态 state", "HIS id", "排班 session"), [_line(row) for row in rows])
        return 0
    order = next(
        (r for r in window.orders(channel_only=False, limit=_ALL) if wanted in (r.his_id, r.platform_order_no)), None
    )
    if action in _SESSION_ACTIONS:
        schedule = order.schedule_id if order else wanted
        before = window.raw_schedule(schedule)
        _SESSION_ACTIONS[action](window, schedule)
        narrator.rows(difference(before, window.raw_schedule(schedule)))
        return 0
    if order is None:
        raise WindowRefusal("未找到预约")
    before = window.raw(order.his_id)
    _ORDER_ACTIONS[action](window, order.his_id)
    narrator.rows(difference(before, window.raw(order.his_id)))
    return 0


def _line(row: OrderRow) -> tuple[str, str, str, str]:
    return row.platform_order_no or "", row.state, row.his_id, row.schedule_id


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="his160 demo window", description="A hand at the window of a running demo.")
    parser.add_argument("--workdir", type=Path, required=True, help="folder that his160 demo --stay has named")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("id", nargs="?", default="", help="order number, HIS id, or for suspend and resume a session")
    return parser
