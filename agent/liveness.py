"""Whether the process lives, from the health snapshot: what a watchdog is fed on.

An HIS, a relay or a disk that is down is bad health, but no death: a restart would not mend it and would lose what is
under way. Death is an event loop that hangs (then nothing here runs), a part that has ended, a store that no longer
answers, a scheduler that stands still.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from his160.v1 import agent_pb2

from agent.keeper import Keeper

_LOG: Final = logging.getLogger(__name__)
_STILL: Final = timedelta(seconds=30)  # jobs begin every second
_SHARE: Final = 3  # signs of life within the keeper's patience
_HEALTH: Final = {
    agent_pb2.HEALTH_UNSPECIFIED: "启动中 starting",
    agent_pb2.HEALTH_OK: "正常 ok",
    agent_pb2.HEALTH_DEGRADED: "受限 degraded",
    agent_pb2.HEALTH_DOWN: "故障 down",
}


@dataclass(frozen=True, slots=True)
class Liveness:
    """``snapshot`` goes through the store and every part; ``ended`` names a part that has ended; ``beat`` is when the
    scheduler last ran a job, on the clock of ``time.monotonic``, None before its first."""

    snapshot: Callable[[], Awaitable[agent_pb2.GetStatusResponse]]
    ended: Callable[[], str]
    beat: Callable[[], float | None]
    clock: Callable[[], float] = time.monotonic

    async def look(self, patience: timedelta) -> tuple[str, str]:
        """Trouble (empty: it lives) and the snapshot on one line. Takes no longer than ``patience``."""
        ended = self.ended()
        if ended:
            return f"{ended} has ended", ""
        beat = self.beat()
        if beat is not None and self.clock() - beat > _STILL.total_seconds():
            return "the scheduler stands still", ""
        try:
            async with asyncio.timeout(patience.total_seconds()):
                status = await self.snapshot()
        except TimeoutError:
            return "the state store does not answer", ""
        return "", one_line(status)


async def tell_keeper(keeper: Keeper, liveness: Liveness) -> None:
    """Give signs of life, three within the keeper's patience, until cancelled; none when it does not watch."""
    if keeper.patience is None:
        return
    every = keeper.patience / _SHARE
    while True:
        trouble, status = await liveness.look(every)
        if trouble:
            _LOG.critical("no sign of life is given: %s", trouble)
            keeper.unwell(trouble)
        else:
            keeper.alive(status)
        await asyncio.sleep(every.total_seconds())


def one_line(status: agent_pb2.GetStatusResponse) -> str:
    """The snapshot on one line for people: health, the parts that are not well, what waits."""
    ill = [part.name for part in status.components if part.health > agent_pb2.HEALTH_OK]
    words = [_HEALTH[status.health] + (f" ({', '.join(ill)})" if ill else "")]
    words.append(f"待投递 pending {status.outbox_pending}")
    if status.outbox_dead:
        words.append(f"需人工处理 dead {status.outbox_dead}")
    if status.unknown_outcomes:
        words.append(f"结果未知 unknown {status.unknown_outcomes}")
    abnormal = int(status.figures.get("refunds:ABNORMAL", 0))
    if abnormal:
        words.append(f"退款异常 abnormal refunds {abnormal}")
    unconfirmed = int(status.figures.get("trades_unconfirmed", 0))
    if unconfirmed:
        words.append(f"已付未确认 unconfirmed {unconfirmed}")
    return ", ".join(words)
