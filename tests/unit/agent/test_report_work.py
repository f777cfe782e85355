"""The end of the reports' work in the agent."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agent.report_files import ReportFiles
from agent.report_work import ReportWork
from tests.bounds import PATIENCE


@pytest.mark.parametrize("is_writing", [False, True])
async def test_a_look_that_ends_while_the_agent_stops(is_writing: bool) -> None:
    """It is over, and forgotten by its job, before the stop has waited for it."""
    work = ReportWork.__new__(ReportWork)
    work._one, work._stopping, work._ticking = asyncio.Lock(), False, None
    work._files = ReportFiles.__new__(ReportFiles)
    work._files.is_writing = is_writing
    begun, end = asyncio.Event(), asyncio.Event()

    async def look() -> None:
        begun.set()
        await end.wait()

    work._look = look  # type: ignore[method-assign]
    tick = asyncio.create_task(work._tick())
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
    asyncio.get_running_loop().call_soon(end.set)
    await work.stop(timedelta(seconds=5))
    await tick
    assert work._ticking is None


async def test_one_look_at_a_time() -> None:
    """A second look would find the same due and call it degraded, because the first one runs it."""
    work = ReportWork.__new__(ReportWork)
    work._one, work._stopping, work._ticking = asyncio.Lock(), False, None
    running, most, end = 0, 0, asyncio.Event()

    async def look() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await end.wait()
        running -= 1

    work._look = look  # type: ignore[method-assign]
    ticks = [asyncio.create_task(work._tick()) for _ in range(3)]
    while not running:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    end.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*ticks)
    assert (most, running) == (1, 0)
