"""The place where the DBA's tools work, from a configuration."""

from __future__ import annotations

from pathlib import Path

from agent.config import Settings
from his_db.workbench.site import Site


def workbench_site(settings: Settings, folder: Path, state: Path | None = None) -> Site:
    """``folder``: the mappings to look at; ``state``: where revisions are kept, the agent's own place when None."""
    return Site(
        folder,
        {name: source.settings for name, source in settings.sources.items()},
        settings.site.timezone,
        state or settings.state.path.parent,
        {name: source.lanes for name, source in settings.sources.items()},
        settings.watch.poll,
        drops=tuple(settings.drops),
    )
