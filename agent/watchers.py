"""The watchers of the running mappings: one for each watch, made and ended as reloads bring and take them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Final

from agent.supervisor import Supervisor
from sync.watch_control import WatchControl
from sync.watcher import Watcher

_LAST_POLL: Final = timedelta(seconds=3)


class Watchers:
    """``make`` makes the watcher of a watch, by its name."""

    def __init__(self, make: Callable[[str], Watcher], supervisor: Supervisor) -> None:
        self._make = make
        self._supervisor = supervisor
        self._watchers: dict[str, Watcher] = {}
        self._controls: Mapping[str, WatchControl] = {}

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
                watcher.obey(self._controls.get(name))  # before its first look
                self._supervisor.start(f"watch:{name}", watcher.run())
        for name in set(self._watchers) - set(wanted):
            self._watchers.pop(name).stop()
            await self._supervisor.release(f"watch:{name}", _LAST_POLL)
        self.wake()  # a changed mapping shows at once

    def obey(self, controls: Iterable[WatchControl]) -> Collection[WatchControl]:
        """What people have said about watches, for those that run and those to come; those now paused or going on."""
        self._controls = {control.stream: control for control in controls}
        changed: list[WatchControl] = []
        for name, watcher in self._watchers.items():
            control = self._controls.get(name)
            if watcher.obey(control):
                changed.append(control or WatchControl(name))
        return changed

    def wake_one(self, name: str) -> None:
        """Have one look at once, if it runs."""
        if name in self._watchers:
            self._watchers[name].wake()

    def wake(self) -> None:
        """Look at once."""
        for watcher in self._watchers.values():
            watcher.wake()

    def stop(self) -> None:
        """End all after the poll under way; the supervisor waits for them."""
        for watcher in self._watchers.values():
            watcher.stop()
