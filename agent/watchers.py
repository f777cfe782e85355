"""The watchers of the running mappings: one for each watch, made and ended as reloads bring and take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from agent.supervisor import Supervisor
from sync.watcher import Watcher

_LAST_POLL: Final = timedelta(seconds=3)


class Watchers:
    """``make`` makes the watcher of a watch, by its name."""

    def __init__(self, make: Callable[[str], Watcher], supervisor: Supervisor) -> None:
        self._make = make
        self._supervisor = supervisor
        self._watchers: dict[str, Watcher] = {}

    @property
    def all(self) -> Iterable[Watcher]:
        """Those that run now."""
        return tuple(self._watchers.values())

    async def follow(self, names: Iterable[str]) -> None:
        """Watch these and no others: new ones begin, those that are gone end after the poll under way."""
        wanted = tuple(names)
        for name in wanted:
            if name not in self._watchers:
                watcher = self._watchers[name] = self._make(name)
                self._supervisor.start(f"watch:{name}", watcher.run())
        for name in set(self._watchers) - set(wanted):
            self._watchers.pop(name).stop()
            await self._supervisor.release(f"watch:{name}", _LAST_POLL)
        for watcher in self._watchers.values():
            watcher.wake()  # a changed mapping shows at once

    def stop(self) -> None:
        """End all after the poll under way; the supervisor waits for them."""
        for watcher in self._watchers.values():
            watcher.stop()
