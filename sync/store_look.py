"""A look at a store in PostgreSQL that changes nothing: opening it would make or upgrade its tables."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from his_db.held_connection import HangGuard
from sync.registry import MIGRATIONS
from sync.store import StoreTooNew
from sync.store_postgresql import connected, engine_for, typed_error
from sync.store_revision import head, stored_revision


def shared_revision(url: str) -> str | None:
    """The revision of its schema; None: there are no tables yet.

    Raises StoreTooNew, StoreCorrupt (a database of something else), StoreUnavailable.
    """
    guard = HangGuard("state")
    engine = engine_for(url, guard)
    try:
        with connected(engine) as connection:
            found = stored_revision(connection, "the PostgreSQL state store")
    except DBAPIError as error:
        raise typed_error(error) from error
    finally:
        engine.dispose()
        guard.stop()
    if found is not None and found not in MIGRATIONS:
        raise StoreTooNew(f"the PostgreSQL state store has schema revision {found}, this program knows {head()}")
    return found
