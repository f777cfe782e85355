"""Asking again about one command: by the agent that runs, else from here. What was found is in the ledger then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from agent.ledger_access import LedgerAccess
from sync.store import CommandRow

_LOOK_AGAIN: Final = 0.2
_MARGIN: Final = timedelta(seconds=15)  # of one sweep: reads that wait for a slow HIS


@dataclass(frozen=True, slots=True)
class Probed:
    """The row as it is now; ``note`` says what was not as usual."""

    row: CommandRow
    note: str = ""
    note_zh: str = ""


async def probe(access: LedgerAccess, row: CommandRow, *, offline: bool = False) -> Probed:
    """Raises StoreError. ``offline``: from here, also beside a running agent (it takes what it finds changed)."""
    if access.is_running and not offline:
        return await _by_the_agent(access, row)
    if row.step and not row.parent:
        note = "it has several steps: only an agent goes on with it; start the agent"
        return Probed(row, note, "该操作由多步组成，只有代理能继续，请启动代理")
    if access.prober is None:
        return Probed(row, access.trouble or "the HIS was not asked", access.trouble or "未查询 HIS")
    return Probed(await access.prober.resolve(row))


async def _by_the_agent(access: LedgerAccess, row: CommandRow) -> Probed:
    """Waits for the next sweep of the running agent, at most two of them."""
    until = time.monotonic() + (2 * access.settings.state.sweep + _MARGIN).total_seconds()
    while True:
        now = await access.store.read(lambda transaction: transaction.commands.get(row.request_id))
        if now is not None and (not now.state.is_open or now.probes > row.probes):
            return Probed(now)
        if time.monotonic() >= until:
            note = "the running agent has not asked in time; see his160 status, or use --offline"
            return Probed(now or row, note, "运行中的代理未在期限内核实，请看 his160 status，或用 --offline")
        await asyncio.sleep(_LOOK_AGAIN)
