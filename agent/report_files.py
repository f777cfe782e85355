"""Files of scheduled runs: written when a run is done, and at a later look what a crash or a full disk left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from his160.v1 import agent_pb2

from agent.config_report import ReportSettings
from agent.status import ComponentState
from sync.clock import Clock
from sync.report_book import RunRow
from sync.report_export import Exporter, file_name
from sync.store import Store, StoreCorrupt

_LOG: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 20
_FIRST_AGAIN: Final = timedelta(seconds=30)
_LAST_AGAIN: Final = timedelta(minutes=30)


class ReportFiles:
    """``store``: the fenced one; the state of a run's files stands in its row. A file is there whole or not at all."""

    def __init__(self, settings: ReportSettings, store: Store, exporter: Exporter, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._exporter = exporter
        self._clock = clock
        self._again: dict[str, tuple[int, datetime]] = {}
        self._trouble: dict[str, str] = {}
        self.is_writing = False
        """Whether a file is being written now."""

    @property
    def wanted(self) -> bool:
        """Whether the configuration wants files."""
        return bool(self._settings.files)

    async def look(self) -> None:
        """Write the files of runs that have none yet, as far as they are due. Raises StoreError."""
        rows = await self._store.read(lambda work: work.reports.to_file(_AT_ONCE))
        here = {row.run_id for row in rows}
        for gone in self._trouble.keys() - here:  # pruned, or run anew
            del self._trouble[gone], self._again[gone]
        for row in rows:
            _, at = self._again.get(row.run_id, (0, self._clock()))
            if at <= self._clock():
                await self.write(row)

    async def write(self, row: RunRow) -> None:
        """Write the files of a run; what cannot be written is tried again by ``look``. Raises StoreError."""
        self.is_writing = True
        try:
            for name in self._settings.files:
                await self._exporter.write(row, name, self._settings.folder / file_name(row, name))
        except (OSError, StoreCorrupt) as error:
            self._failed(row, error)
            return
        finally:
            self.is_writing = False
        await self._store.write(lambda work: work.reports.filed(row.run_id))
        self._trouble.pop(row.run_id, None)
        self._again.pop(row.run_id, None)

    def states(self) -> Iterator[ComponentState]:
        """One for all that cannot be written, as long as it cannot."""
        for run, trouble in list(self._trouble.items())[:1]:
            more = f" ({len(self._trouble)} runs)" if len(self._trouble) > 1 else ""
            yield ComponentState("report-files", agent_pb2.HEALTH_DEGRADED, f"run {run}: {trouble}{more}")

    def _failed(self, row: RunRow, error: OSError | StoreCorrupt) -> None:
        # The text of an OSError may name a path, that of a StoreError holds no values.
        trouble = str(error) if isinstance(error, StoreCorrupt) else error.strerror or type(error).__name__
        tries = self._again.get(row.run_id, (0, None))[0]
        wait = min(_FIRST_AGAIN * 2 ** min(tries, 10), _LAST_AGAIN)
        self._again[row.run_id] = (tries + 1, self._clock() + wait)
        if self._trouble.get(row.run_id) != trouble:
            _LOG.error("the file of the report run %s cannot be written: %s", row.run_id, trouble)
        self._trouble[row.run_id] = trouble
