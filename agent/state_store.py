"""The state store as the configuration names it, for the agent and for the tools of people."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote, urlsplit, urlunsplit

from agent.config import StateSettings
from sync.clock import Clock, utc_now
from sync.lease import SITE_LEASE
from sync.store import Store, StoreLocked, open_store
from sync.store_lock import StoreLock
from sync.store_look import shared_revision


def open_state(state: StateSettings, clock: Clock = utc_now, *, exclusive: bool = False) -> Store:
    """The store, its folder made. ``exclusive``: as an agent. Raises StoreError."""
    state.path.parent.mkdir(parents=True, exist_ok=True)
    return open_store(_with_password(state) if state.url else state.path, clock, exclusive=exclusive)


def has_state(state: StateSettings) -> bool:
    """Whether there is a store already; a database is asked only when it is opened."""
    return bool(state.url) or state.path.exists()


def revision_of_shared(state: StateSettings) -> str | None:
    """Of a store in PostgreSQL the revision, None before there are tables; changes nothing. Raises StoreError."""
    return shared_revision(_with_password(state))


async def is_in_use(state: StateSettings) -> bool:
    """Whether an agent works on the store now. Raises StoreError."""
    if not state.url:
        try:
            StoreLock(state.path).release()
        except StoreLocked:
            return True
        return False
    store = open_state(state)
    try:
        lease = await store.read(lambda transaction: transaction.leases.get(SITE_LEASE))
    finally:
        await store.close()
    return lease is not None and lease.left > timedelta(0)


def _with_password(state: StateSettings) -> str:
    if not state.password:
        return state.url
    parts = urlsplit(state.url)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(state.password, safe='')}{at or '@'}{place}"))
