"""What the tools of a person at the ledger need: the store, beside a running agent or not, and the HIS to ask."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.command_rules import settle_times
from agent.config import Settings, load_settings
from agent.daemon import load_generation
from agent.state_store import has_state, is_in_use, open_state
from his_db.access import HisAccess
from his_db.document.problem import DocumentError
from his_db.guard import GuardedHis
from his_db.source import Source
from sync.audit import Audit
from sync.clock import utc_now
from sync.composed_reads import ComposedReads
from sync.ledger import Ledger
from sync.probing import Prober
from sync.store import Store

_GRACE = timedelta(seconds=2)


class NoStore(Exception):
    """There is no state store yet."""


@dataclass(frozen=True, slots=True)
class LedgerAccess:
    """``reads`` and ``prober`` are None when the HIS is not to be asked, or cannot be: then ``trouble`` says why.

    ``is_running``: an agent works on this store now.
    """

    settings: Settings
    store: Store
    audit: Audit
    is_running: bool
    reads: ComposedReads | None = None
    prober: Prober | None = None
    trouble: str = ""


@asynccontextmanager
async def ledger_access(config: Path, *, ask_his: bool) -> AsyncIterator[LedgerAccess]:
    """Open what is there. Raises DocumentError, NoStore, StoreError; a HIS that cannot be asked is no error."""
    settings, trouble = _settings(config, ask_his=ask_his)
    if not has_state(settings.state):
        raise NoStore
    is_running = await is_in_use(settings.state)
    store = open_state(settings.state)
    sources: dict[str, Source] = {}
    try:
        audit = Audit(store, utc_now, instance=settings.site.instance)
        access = LedgerAccess(settings, store, audit, is_running, trouble=trouble)
        if ask_his and not trouble:
            access = _asking(access, sources)
        yield access
    finally:
        for source in sources.values():
            await source.close(_GRACE)
        await store.close()


def _settings(config: Path, *, ask_his: bool) -> tuple[Settings, str]:
    """The configuration; without its secrets when they are not needed or not at hand, and then why."""
    if ask_his:
        try:
            return load_settings(config, os.environ, require_files=False), ""
        except DocumentError as error:
            without = load_settings(config, os.environ, require_files=False, secrets=False)
            return without, str(error).partition("\n")[0]
    return load_settings(config, os.environ, require_files=False, secrets=False), ""


def _asking(access: LedgerAccess, sources: dict[str, Source]) -> LedgerAccess:
    settings = access.settings
    try:
        generation = load_generation(settings)
    except DocumentError as error:
        trouble = str(error).partition("\n")[0]
        return LedgerAccess(settings, access.store, access.audit, access.is_running, trouble=trouble)
    sources.update({name: Source(each.settings, each.lanes, load=each.load) for name, each in settings.sources.items()})
    his = GuardedHis(HisAccess(sources, generation))
    ledger = Ledger(access.store, utc_now, audit=access.audit)
    prober = Prober(his, ledger, utc_now, settle=settle_times(settings, lambda: generation))
    reads = ComposedReads(his, access.store)
    return LedgerAccess(settings, access.store, access.audit, access.is_running, reads, prober)
