"""Folders for dropped files: their captures, the events of the file system that wake them, and how they stand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from his160.v1 import agent_pb2

from agent.mapping_watch import FolderWatch
from agent.status import ComponentState
from sync.clock import Clock
from sync.drop_settings import DropSettings
from sync.file_drop import FileDrop
from sync.his import WatchPort
from sync.store import Store

_LOG: Final = logging.getLogger(__name__)
_FIGURES: Final = ("files", "duplicates", "refused", "bad_rows")


class Drops:
    """``[drop.<name>]`` of the configuration. ``wake``: has a watch look at once."""

    def __init__(self, settings: Mapping[str, DropSettings], wake: Callable[[str], None]) -> None:
        self._settings = settings
        self._wake = wake
        self._captures: dict[str, FileDrop] = {}
        self._folders: dict[str, FolderWatch] = {}

    def capture(self, his: WatchPort, store: Store, watch: str, drop: str, clock: Clock) -> FileDrop:
        """The capture of a watch whose source is that drop. Call it in the event loop."""
        settings = self._settings[drop]
        made = self._captures[drop] = FileDrop(his, store, watch, settings, clock=clock)
        self.stop(drop)
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            _LOG.warning("the folder of drop %s cannot be made: %s", drop, error.strerror)
        loop = asyncio.get_running_loop()

        def dropped() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._wake, watch)

        # Events are a hint: without them a file waits for the next poll.
        folder = self._folders[drop] = FolderWatch(settings.folder, "auto", dropped, suffixes=None, recursive=False)
        folder.start()
        return made

    def stop(self, *names: str) -> None:
        """No more events of these folders; without names, of all."""
        for name in names or tuple(self._folders):
            folder = self._folders.pop(name, None)
            if folder is not None:
                folder.stop()

    def states(self) -> Iterable[ComponentState]:
        """``drop:windows`` and so on."""
        for name in self._settings:
            made = self._captures.get(name)
            if made is None:
                detail = "no watch has it as its source, or another agent watches"
                yield ComponentState(f"drop:{name}", agent_pb2.HEALTH_UNSPECIFIED, detail)
            elif made.trouble:
                yield ComponentState(f"drop:{name}", agent_pb2.HEALTH_DEGRADED, made.trouble)
            else:
                yield ComponentState(f"drop:{name}", agent_pb2.HEALTH_OK)

    def figures(self) -> Mapping[str, float]:
        """What became of dropped files."""
        found: dict[str, float] = {}
        for name, made in self._captures.items():
            found.update({f"drop_{each}:{name}": float(getattr(made, each)) for each in _FIGURES})
            found[f"drop_waiting:{name}"] = made.folder.waiting
            found[f"drop_quarantine:{name}"] = made.folder.quarantined
        return found
