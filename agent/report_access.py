"""Reports for a person at the keyboard: the store and the HIS, beside a running agent or without one."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from agent.config import Settings, load_settings
from agent.daemon import load_generation
from agent.mapping_origin import MappingOrigin
from agent.report_place import SPOOL, exporter
from agent.state_store import open_state
from his_db.access import HisAccess
from his_db.guard import GuardedHis
from his_db.source import Source
from his_db.workbench.revisions import Revisions
from sync.audit import Audit
from sync.clock import utc_now
from sync.day_report import DayReport
from sync.report_export import Exporter
from sync.report_runs import ReportRuns
from sync.report_source import ReportSource
from sync.store import Store

_GRACE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ReportAccess:
    """``runs`` and ``his`` read the HIS when they are asked to, and not before."""

    settings: Settings
    store: Store
    audit: Audit
    runs: ReportRuns
    his: GuardedHis
    exporter: Exporter
    day_report: DayReport


@asynccontextmanager
async def report_access(config: Path) -> AsyncIterator[ReportAccess]:
    """Open store and mappings. Raises DocumentError, StoreError."""
    settings = load_settings(config, os.environ, require_files=False)
    mapping, state = settings.mapping, settings.state
    origin = MappingOrigin(mapping.folder, Revisions(state.path.parent), use=mapping.use)
    generation = load_generation(settings, origin.taken().folder)
    store = open_state(state)
    sources = {name: Source(each.settings, each.lanes, load=each.load) for name, each in settings.sources.items()}
    try:
        his = GuardedHis(HisAccess(sources, generation))
        owner = f"{settings.site.instance}#{os.getpid()}.{secrets.token_hex(4)}"
        own = DayReport(his, store, ZoneInfo(settings.site.timezone), his.watch_names)
        runs = ReportRuns(
            ReportSource(his, {own.name: own}),
            store,
            clock=utc_now,
            revision=lambda: generation.revision,
            owner=owner,
            spool=state.path.parent / SPOOL,
        )
        audit = Audit(store, utc_now, instance=settings.site.instance)
        yield ReportAccess(settings, store, audit, runs, his, exporter(settings, store), own)
    finally:
        for source in sources.values():
            await source.close(_GRACE)
        await store.close()
