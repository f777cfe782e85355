"""Writes ``tests/golden/store/<revision>.sql``: a state store of today's schema with rows in every table.

Run it once after adding a revision (``sync/migrations``) and commit the file: from then on the tests prove that a store
of that time opens and keeps its rows. Never run it for a revision that was shipped.

    python tools/store_dump.py
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "proto" / "gen")]

from sync.audit_chain import AuditEntry  # noqa: E402
from sync.money_book import (  # noqa: E402
    RefundProgress,
    RefundRow,
    SettlementRow,
    SettlementState,
    TradeRow,
    TradeState,
)
from sync.report_book import PageRow, PushState, RunOrigin, RunRow, RunState  # noqa: E402
from sync.store import CommandRow, CommandState, RowState, StreamRow, Transaction, open_store  # noqa: E402

NOW = datetime(2026, 11, 23, 1, 0, 0, 123456, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def fill(work: Transaction) -> None:
    """One row of each kind that the tables can hold."""
    for number, state in enumerate(CommandState):
        ended = None if state is CommandState.SENT else NOW + number * SECOND
        work.commands.put(
            CommandRow(
                request_id=f"request-{number}",
                operation="AppointmentService.BookAppointment",
                payload_hash=bytes([number]) * 32,
                essence_hash=b"\xfe" * 32,
                order_key=f"T{number}",
                natural_key=f"order_no:T{number}",
                state=state,
                received_time=NOW,
                sent_time=NOW + SECOND / 1000,
                attempt=number + 1,
                probes=number,
                request=b"\x0a\x02T" + str(number).encode(),
                result=b"\x00\xff" if state is CommandState.DONE else b"",
                reason=number,
                detail="号源已被占用" if state is CommandState.REJECTED else "",
                mapping_revision="abc123",
                finished_time=ended,
            )
        )
    for number in range(5):
        work.events.append(f"event-{number}", f"order:T{number // 2}", b"\x08" + bytes([number]), NOW)
    work.events.ack(["event-0"], NOW + SECOND)
    work.events.bury("event-1", "refused", NOW + SECOND)
    work.events.retry_later("event-3", NOW + 5 * SECOND, "busy")
    work.rows.put_stream(StreamRow("orders", NOW, "cursor-1"))
    rows = [RowState("k1", 3, b"\x01", NOW), RowState("k2", 2, None, NOW), RowState("k3", 1, b"", NOW, absent=True)]
    work.rows.put_many("orders", rows)
    for number, state in enumerate(SettlementState):
        numbers = {"setl_id": f"S{number}", "mdtrt_id": f"M{number}", "pay_order_id": f"P{number}", "out_trade_no": "W"}
        times = {"created_time": NOW, "changed_time": NOW + number * SECOND}
        work.settlements.put(
            SettlementRow(
                f"B{number}",
                f"T{number}",
                state,
                record=b"\x0a\x02T1",
                owner="request-1",
                pay_token=f"token-{number}",
                **numbers,
                **times,
            )
        )
    for number, progress in enumerate(RefundProgress):
        due = NOW + SECOND if progress is RefundProgress.PROCESSING else None
        final = None if due else NOW + SECOND
        row = RefundRow(f"R{number}", "T1", "W1", 2500, progress, NOW, due, final, number, "银行卡已注销", "request-1")
        work.refunds.put(row)
    for number, opened in enumerate(TradeState):
        due = None if opened is TradeState.ENDED else NOW + SECOND
        ended = NOW + SECOND if due is None else None
        work.trades.put(TradeRow(f"W{number}", "T1", 2500, opened, NOW, due, ended, number, "never paid"))
    for number in ("W1", "W2", "W1"):
        work.payment_notices.add("wechatpay", "TRANSACTION.SUCCESS", number, NOW)
    work.payment_notices.woken(work.payment_notices.waiting(1)[0], NOW + SECOND)
    work.sequences.advance("msgid", 17_000_000_000_001)
    for origin, run_state in zip(RunOrigin, RunState, strict=True):
        name = origin.value.lower()
        ended = None if run_state is RunState.RUNNING else NOW + SECOND
        work.reports.put(
            RunRow(
                f"run-{name}",
                "R1",
                f"R1/{name}",
                NOW.date(),
                NOW.date(),
                origin,
                run_state,
                "agent-1",
                NOW,
                finished_time=ended,
                next_time=NOW + 5 * SECOND if run_state is RunState.FAILED else None,
                rows=2,
                input_hash=b"\xfd" * 32,
                checksum=b"\xfc" * 32,
                mapping_revision="abc123",
                definition=b"\x0a\x02R1",
                detail="HIS_UNAVAILABLE" if run_state is RunState.FAILED else "",
                push_state=PushState.PENDING if run_state is RunState.DONE else PushState.NONE,
                push_time=NOW + SECOND if run_state is RunState.DONE else None,
            )
        )
        work.reports.add_page(PageRow(f"run-{name}", 0, 2, b"\x78\x9c\x00\xff"))
    work.leases.take("site", "agent-1", SECOND)
    for number in range(3):
        entry = AuditEntry(
            "AppointmentService.BookAppointment",
            "relay/160",
            source="link",
            target=f"T{number}",
            result="DONE" if number else "REJECTED SLOT_TAKEN",
            parameters='{"order_no": "T1"}',
            digest=bytes([number]) * 32,
            duration=SECOND / 50 if number else None,
            mapping_revision="abc123",
            trace="relay:443#7",
            instance="agent-1",
        )
        work.audit.append(entry, NOW + number * SECOND)


async def made(path: Path) -> None:
    store = open_store(path, lambda: NOW)
    await store.write(fill)
    await store.close()


def main() -> int:
    from sync.store_revision import head

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        asyncio.run(made(path))
        with closing(sqlite3.connect(path)) as connection:
            lines = list(connection.iterdump())
    target = ROOT / "tests" / "golden" / "store" / f"{head()}.sql"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
