"""An operation whose object in the HIS has changed fails fast, alone, and heals by itself when the HIS is mended.

A HIS patch at night drops a column, a right or a parameter: every call of that operation then fails in the same way.
After three such failures in a row the operation is degraded: it is tried once a minute, other calls are refused without
asking the HIS. A new generation of mappings begins with a clean sheet.

Drift is known without a call: what `mappings.lock` says is no longer so. All calls are refused until it is so again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from his_db.errors import HisChanged, MappingMismatch
from his_db.generation import CompiledOperation

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Record:
    compiled: CompiledOperation
    failures: int = 0
    detail: str = ""
    retry_at: float = 0.0


class Degradation:
    """How the operations of the running generation are. For one event loop. ``clock`` in seconds."""

    def __init__(
        self,
        *,
        after: int = 3,
        retry_every: timedelta = timedelta(minutes=1),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after = after
        self._retry_every = retry_every.total_seconds()
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._drifted: dict[str, str] = {}
        self.refused = 0

    def enter(self, compiled: CompiledOperation) -> None:
        """Ask to call. Raises MappingMismatch while the operation is degraded and it is not yet time to try."""
        drift = self._drifted.get(compiled.name)
        if drift is not None:
            self.refused += 1
            raise MappingMismatch(f"{compiled.name} is degraded: {drift}")
        record = self._records.get(compiled.name)
        if record is None or record.failures < self._after:
            return
        now = self._clock()
        if now < record.retry_at:
            self.refused += 1
            raise MappingMismatch(f"{compiled.name} is degraded: {record.detail}")
        record.retry_at = now + self._retry_every

    def failed(self, compiled: CompiledOperation, error: HisChanged) -> None:
        """A call has met a changed object."""
        record = self._records.get(compiled.name)
        if record is None or record.compiled is not compiled:
            record = self._records[compiled.name] = _Record(compiled)
        record.failures += 1
        record.detail = error.detail
        record.retry_at = self._clock() + self._retry_every
        if record.failures == self._after:
            _LOG.error("operation degraded", extra={"operation": compiled.name, "detail": error.detail})

    def succeeded(self, compiled: CompiledOperation) -> None:
        """A call was answered by the HIS."""
        if not self._records:
            return
        record = self._records.get(compiled.name)
        if record is not None and record.compiled is compiled:
            del self._records[compiled.name]
            if record.failures >= self._after:
                _LOG.warning("operation works again", extra={"operation": compiled.name})

    def drifted(self, found: Mapping[str, str]) -> None:
        """Exactly these operations have drifted, and why; others that had are as locked again."""
        for name in found.keys() - self._drifted.keys():
            _LOG.error("operation degraded", extra={"operation": name, "detail": found[name]})
        for name in self._drifted.keys() - found.keys():
            _LOG.warning("operation is as locked again", extra={"operation": name})
            self._records.pop(name, None)  # what its calls met is mended
        self._drifted = dict(found)

    def forget(self) -> None:
        """Other mappings run from now on. Drift stays until somebody has compared: a wrong write is worse."""
        self._records.clear()

    def degraded(self) -> Mapping[str, str]:
        """Operation -> what is the matter, English, without values."""
        found = {
            name: f"tried once a minute: {item.detail}"
            for name, item in self._records.items()
            if item.failures >= self._after
        }
        return {**found, **self._drifted}
