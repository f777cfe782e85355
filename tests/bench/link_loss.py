"""How long until a dead link is seen, and until one that is back stands again: through a TCP proxy that stalls and cuts.

``dead_after`` is shortened (15 s by default). With pings every third of it, silence is death at ``dead_after`` after the last
frame, which came before the wire died: later than that is only what this process woke too late (``late``), whatever
``dead_after`` is. The second is absolute: after the wire is healed the next dial comes within the quick cap (1 s), as drawn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from agent.bench_pki import BenchPki
from agent.link.redial import RedialPolicy
from tests.bench.draining import linked
from tests.bench.figures import Figure, against, percentile
from tests.tcp_proxy import TcpProxy

GROUP: Final = "a relay link that is lost"
_LOOK: Final = 0.002
_LIMIT: Final = 60.0


async def measure(pki: BenchPki, relay: str, dead_after: timedelta, rounds: int, *, away: float = 1.0) -> list[Figure]:
    """Stall, heal, cut for ``away`` seconds, heal, ``rounds`` times; medians and worst."""
    host, _, port = relay.rpartition(":")
    seen: list[float] = []
    back: list[float] = []
    with TcpProxy((host, int(port))) as proxy:
        async with linked(pki, f"127.0.0.1:{proxy.port}", dead_after=dead_after) as links:
            (link,) = links.links

            async def timed(is_up: bool) -> float:
                return await _until(lambda: link.state.connected is is_up)

            for _ in range(rounds):
                proxy.stall()
                seen.append(await timed(False))
                proxy.heal()
                await timed(True)
                proxy.cut()
                await timed(False)
                await asyncio.sleep(away)
                proxy.heal()
                back.append(await timed(True))
    limit = dead_after.total_seconds()
    quick = RedialPolicy().quick_cap
    return [
        _figure("silence seen", seen, "dead_after", limit, {"dead_after ms": int(limit * 1000)}),
        _figure("link again after the wire is", back, "quick cap of the redial", quick, {"away ms": int(away * 1000)}),
    ]


def _figure(name: str, times: list[float], base: str, limit: float, params: dict[str, str | int]) -> Figure:
    worst = max(times)
    more = {"p50 s": percentile(times, 0.5), "rounds": float(len(times))}
    if base == "dead_after":
        more["late ms"] = max(0.0, worst - limit) * 1000
    return Figure(GROUP, f"{name}, worst", worst, "s", params, (against(base, worst, limit),), more)


async def _until(is_so: Callable[[], bool]) -> float:
    """Seconds until it is. Raises TimeoutError."""
    started = time.perf_counter()
    async with asyncio.timeout(_LIMIT):
        while not is_so():
            await asyncio.sleep(_LOOK)
    return time.perf_counter() - started
