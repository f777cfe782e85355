"""What the process itself puts into the audit: its start and end, its configuration, switches, other mappings."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final

from agent.config import Settings
from agent.config_environment import PREFIX
from agent.jobs import Job
from agent.version import VERSION
from sync.audit import Audit, as_json
from sync.provided import FLUSH_EVERY as PROVIDED_EVERY
from sync.provided import Provided
from sync.store import StoreError
from sync.watch_control import WatchControl

_LOG: Final = logging.getLogger(__name__)
_FLUSH_EVERY: Final = timedelta(seconds=1)
_PRUNE_EVERY: Final = timedelta(hours=1)


class Trail:
    """Notes are kept until the store takes them: a full disk delays an entry, and loses none."""

    def __init__(self, audit: Audit, settings: Settings) -> None:
        self._audit = audit
        self._settings = settings
        self.provided = Provided(audit)

    def jobs(self) -> list[Job]:
        """Writing down what was noted, and what was given to others."""
        return [Job("audit", _FLUSH_EVERY, self._audit.flush), Job("provided", PROVIDED_EVERY, self._note_provided)]

    def site_jobs(self) -> list[Job]:
        """Packing what is older than ``[state] audit_keep``, by one agent for all."""
        return [Job("audit_prune", _PRUNE_EVERY, self._prune, first=timedelta(minutes=2))]

    async def started(self, revision: str, off: Collection[str]) -> None:
        """``off``: operations that are off now. The digest is that of config.toml as it was read."""
        overlaid = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
        self._audit.note(
            "agent.start",
            parameters=as_json(version=VERSION, pid=os.getpid(), environment=sorted(overlaid), off=sorted(off)),
            digest=_config_digest(self._settings, overlaid),
            mapping_revision=revision,
        )
        await self._write("the start is not in the audit yet")

    async def stopped(self, revision: str, *, unfinished: int) -> None:
        """``unfinished``: calls and commands that were still under way."""
        self.provided.note()
        result = "ended" if not unfinished else f"ended with {unfinished} under way"
        self._audit.note("agent.stop", result=result, mapping_revision=revision)
        await self._write("the end is not in the audit")

    def switched(self, off: Mapping[str, str], on: Collection[str]) -> None:
        """Operations that went off, with who did it, and those that went on."""
        self._audit.note("switch.applied", parameters=as_json(off=dict(off), on=sorted(on)))

    def watches(self, controls: Collection[WatchControl]) -> None:
        """Watches that are paused, or go on, from here on."""
        for control in controls:
            done, parameters = "paused" if control.is_paused else "running", as_json(by=control.by, note=control.note)
            self._audit.note(f"watch.{done}", target=control.stream, result=done, parameters=parameters)

    def mapped(self, before: str, after: str) -> None:
        """Other mappings answer from here on."""
        self._audit.note("mapping.applied", parameters=as_json(before=before), mapping_revision=after)

    async def _write(self, trouble: str) -> None:
        try:
            await self._audit.flush()
        except StoreError as error:
            _LOG.error("%s: %s", trouble, error)

    async def _note_provided(self) -> None:
        self.provided.note()

    async def _prune(self) -> None:
        state = self._settings.state
        await self._audit.prune(state.audit_keep, max(state.archive_keep, state.audit_keep))


def _config_digest(settings: Settings, overlaid: Mapping[str, str]) -> bytes:
    """SHA-256 of the file and of the variables above it; passwords are references in both."""
    found = hashlib.sha256()
    try:
        found.update(settings.file.read_bytes())
    except OSError as error:
        _LOG.warning("config.toml cannot be read any more: %s", error.strerror)
        return b""
    for name, value in sorted(overlaid.items()):
        found.update(f"\0{name}={value}".encode())
    return found.digest()
