"""Where reports of a site go, by its configuration."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from agent.config import Settings
from sync.report_export import Exporter
from sync.store import Store

SPOOL: Final = "spool"
"""Folder beside the state store for rows while the HIS is read."""


def exporter(settings: Settings, store: Store) -> Exporter:
    """What writes files of runs, for this hospital."""
    return Exporter(store, settings.site.name or settings.site.code, ZoneInfo(settings.site.timezone))
