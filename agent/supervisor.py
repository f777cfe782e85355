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

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work``, which ends only when it is cancelled."""
        self._tasks[name] = asyncio.create_task(work, name=name)

    async def watch(self, stop: asyncio.Event) -> str:
        """Wait for ``stop`` or the end of a part; the name of the part, empty for a stop that was asked for."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait((stopping, *self._tasks.values()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if stop.is_set():
            return ""
        dead = next(name for name, task in self._tasks.items() if task.done())
        _tell(dead, self._tasks[dead])
        return dead

    async def stop(self, grace: timedelta) -> None:
        """Wait ``grace`` for the parts to end by themselves, then cancel the rest, the last started first."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace.total_seconds())
        for task in reversed(self._tasks.values()):
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and task.exception() is not None:
                _tell(task.get_name(), task)
        self._tasks.clear()


def _tell(name: str, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        _LOG.critical("%s has ended, which it never should", name)
    else:
        _LOG.critical("%s has died: %s", name, frames(error))
