"""Wake-up signals of the HIS, brought to the watches that ask for them: a listener for each source that gives any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from his160.v1 import agent_pb2

from agent.status import ComponentState
from his_db import registry
from his_db.compiled_watch import CompiledWatch
from his_db.source import Source
from his_db.wake import Wake
from his_db.wake_listener import WakeListener

_POLLING: Final = "no wake-up signals, watches poll in their own rhythm"


class Wakes:
    """``wake``: has a watch look at once. Watches poll all the same, so without signals they are only later."""

    def __init__(self, sources: Mapping[str, Source], wake: Callable[[str], None]) -> None:
        self._sources = sources
        self._wake = wake
        self._listeners: dict[str, WakeListener] = {}
        self._watches: Mapping[str, Mapping[str, Collection[str]]] = {}
        self._following = asyncio.Lock()  # a reload may come while the watches begin or end

    async def follow(self, watches: Iterable[CompiledWatch]) -> None:
        """Listen for the signals of these watches and of no others. Call it in the event loop of the watchers."""
        wanted: dict[str, dict[str, list[str]]] = {}
        for watch in watches:
            if watch.wake and watch.source in self._sources:
                wanted.setdefault(watch.source, {}).setdefault(watch.wake, []).append(watch.name)
        async with self._following:
            self._watches = wanted
            for name, listener in tuple(self._listeners.items()):
                if name not in wanted or set(listener.signals) != wanted[name].keys():
                    del self._listeners[name]
                    await asyncio.to_thread(listener.stop)
            for name, signals in wanted.items():
                if name not in self._listeners:
                    listener = self._listeners[name] = self._listener(name, frozenset(signals))
                    listener.start()

    def states(self) -> Iterable[ComponentState]:
        """``wake:his`` and so on."""
        for name, listener in self._listeners.items():
            trouble = listener.trouble if listener.is_alive else "the listener has ended"
            health = agent_pb2.HEALTH_DEGRADED if trouble else agent_pb2.HEALTH_OK
            yield ComponentState(f"wake:{name}", health, f"{_POLLING}: {trouble}" if trouble else "")

    def figures(self) -> Mapping[str, float]:
        """How often each source has called."""
        return {f"wakes:{name}": float(listener.count) for name, listener in self._listeners.items()}

    def _listener(self, name: str, signals: Collection[str]) -> WakeListener:
        source, loop = self._sources[name], asyncio.get_running_loop()
        made: Wake = registry.load(registry.WAKES[source.engine.name])()

        def told(heard: Collection[str]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._tell, name, heard)

        return WakeListener(name, made, source.engine, signals, told)

    def _tell(self, source: str, heard: Collection[str]) -> None:
        for signal in heard:
            for watch in self._watches.get(source, {}).get(signal, ()):
                self._wake(watch)
