"""The long-running parts of the process: when one of them ends unexpectedly, the process must end too.

A service manager starts it again; a part that is silently missing would go unnoticed for days.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Final

from agent.log import frames

_LOG: Final = logging.getLogger(__name__)


class Supervisor:
    """Starts parts as tasks and notices the first that dies."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._died = asyncio.Event()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work``, which ends only when it is cancelled or released. Also while ``watch`` waits."""
        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda ended: self._ended(name, ended))

    async def release(self, name: str, grace: timedelta) -> None:
        """A part that may end now: wait ``grace`` for it, then cancel it. Nothing for a name that is not known."""
        task = self._tasks.pop(name, None)
        if task is None:
            return
        await asyncio.wait((task,), timeout=grace.total_seconds())
        await _cancel(task)

    async def watch(self, stop: asyncio.Event) -> str:
        """Wait for ``stop`` or the end of a part; the name of the part, empty for a stop that was asked for."""
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self._died)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if stop.is_set():
            return ""
        dead = next(name for name, task in self._tasks.items() if task.done())
        _tell(dead, self._tasks[dead])
        return dead

    def ended(self) -> str:
        """The name of a part that has ended though it never should; empty: all run."""
        return next((name for name, task in self._tasks.items() if task.done()), "")

    async def stop(self, grace: timedelta) -> None:
        """Wait ``grace`` for the parts to end by themselves, then cancel the rest, the last started first."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace.total_seconds())
        for task in reversed(list(self._tasks.values())):
            await _cancel(task)
        self._tasks.clear()

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._tasks.get(name) is task:
            self._died.set()


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled() and task.exception() is not None:
        _tell(task.get_name(), task)


def _tell(name: str, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        _LOG.critical("%s has ended, which it never should", name)
    else:
        _LOG.critical("%s has died: %s", name, frames(error))
