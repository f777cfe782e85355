"""The kill switch of each operation: ``[operations] off`` of the configuration, and a file that a person changes live.

``his160 switch off|on|list`` writes ``<state>/switches.json``; a running agent looks at it every second. Switching is
written to the log with who and why. A file that cannot be read changes nothing: what was off stays off.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.mapping_shelf import write_whole

_LOG: Final = logging.getLogger(__name__)
_FILE: Final = "switches.json"
_NOTE_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Switch:
    """An operation that is off. ``note`` is shown to callers; ``by`` and ``since`` (ISO 8601) are for the log."""

    operation: str
    note: str = ""
    by: str = ""
    since: str = ""


Changed = Callable[[Mapping[str, str], Collection[str]], None]
"""Told what went off (operation -> who did it), and what went on."""


class SwitchFileError(Exception):
    """The file of switches cannot be read. ``str()`` is English."""


class Switches:
    """What is off now. ``look`` reads the file again if it has changed."""

    def __init__(self, file: Path, configured: Iterable[str], *, changed: Changed | None = None) -> None:
        self._file = file
        self._configured = frozenset(configured)
        self._live: Mapping[str, Switch] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._changed: Changed | None = None  # what is found at the start is no change
        self.trouble = ""
        """Why the file cannot be read; empty when it can."""
        for name in sorted(self._configured):
            _LOG.warning("operation is off by config.toml", extra={"operation": name})
        self.look()
        self._changed = changed

    def note(self, operation: str) -> str | None:
        """None when the operation may run; else the note for callers, possibly empty."""
        switch = self._live.get(operation)
        if switch is not None:
            return switch.note
        return "" if operation in self._configured else None

    def names(self) -> tuple[str, ...]:
        """All operations that are off."""
        return tuple(sorted(self._configured | self._live.keys()))

    def look(self) -> None:
        """Read the file if it is another than before. Never raises."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        try:
            live = read_switches(self._file)
        except SwitchFileError as error:
            if not self.trouble:
                _LOG.error("%s; what was switched off stays off", error)
            self.trouble = str(error)
            return  # the stamp stays: tried again until it can be read
        self._stamp, self.trouble = stamp, ""
        went_off, went_on = live.keys() - self._live.keys(), self._live.keys() - live.keys()
        for name in sorted(went_off):
            switch = live[name]
            extra = {"operation": name, "by": switch.by, "note": switch.note, "switched": switch.since}
            _LOG.warning("operation switched off", extra=extra)
        for name in sorted(went_on):
            _LOG.warning("operation switched on", extra={"operation": name})
        self._live = live
        if self._changed is not None and (went_off or went_on):
            self._changed({name: live[name].by for name in went_off}, went_on)

    async def watch(self) -> None:
        """``look``, as a job."""
        self.look()


def switch_file(state: Path) -> Path:
    """Where the switches are, by the path of the state store."""
    return state.parent / _FILE


def read_switches(file: Path) -> dict[str, Switch]:
    """Operation -> switch; empty without a file. Raises SwitchFileError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SwitchFileError(f"{file.name} cannot be read: {error.strerror or type(error).__name__}") from error
    except ValueError as error:
        raise SwitchFileError(f"{file.name} is no JSON") from error
    if not isinstance(found, dict) or not all(isinstance(item, dict) for item in found.values()):
        raise SwitchFileError(f"{file.name} is no list of switches")
    return {name: _switch(name, item) for name, item in found.items()}


def write_switches(file: Path, switches: Mapping[str, Switch]) -> None:
    """Replace the file. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        name: {"note": switch.note, "by": switch.by, "since": switch.since} for name, switch in sorted(switches.items())
    }
    write_whole(file, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def _switch(name: str, item: Mapping[str, Any]) -> Switch:
    texts = [" ".join(str(item.get(key, "")).split())[:_NOTE_LENGTH] for key in ("note", "by", "since")]
    return Switch(name, *texts)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
