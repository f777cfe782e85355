"""Bringing a state store to the schema of this agent: a new one is made, an old one is upgraded, a newer one refused.

The chain of revisions is ``sync.registry.MIGRATIONS``, run in-process by Alembic: no ini file, no script folder, so
that it works from a wheel, a zip and on Windows. Alembic is imported only when a store is really old.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, inspect, select

from sync.clock import Clock
from sync.registry import MIGRATIONS
from sync.store import StoreCorrupt, StoreTooNew
from sync.store_schema import METADATA, REVISION, TABLES

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep

_LOG = logging.getLogger("his160.sync.store")
_FIRST = "0001"
# What the first agents find where they look for a number: they know 1, so they refuse the store as too new.
_LEGACY_VERSION = "2"


def head(chain: Mapping[str, str] = MIGRATIONS) -> str:
    """The revision that this agent works with."""
    return list(chain)[-1]


def bring_up_to_date(
    connection: Connection, clock: Clock, *, place: str, before_upgrade: Callable[[str, str], None]
) -> str:
    """Makes or upgrades the tables; the id of the store. The connection holds a transaction that keeps every other
    process out.

    ``place`` names the store in errors. ``before_upgrade`` gets the revision found and the one wanted, before anything
    is changed; what it raises ends the upgrade. Raises StoreTooNew, StoreCorrupt, DBAPIError: then nothing is changed,
    once the caller rolls back.
    """
    found = stored_revision(connection, place)
    if found is None:
        _create(connection, clock)
    elif found != head():
        if found not in MIGRATIONS:
            raise StoreTooNew(
                f"{place} has schema revision {found}, this agent knows {head()}: install the newer agent again"
            )
        before_upgrade(found, head())
        upgrade(connection, found)
    return _identity(connection, place)


def _identity(connection: Connection, place: str) -> str:
    found = connection.execute(select(METADATA.c.value).where(METADATA.c.name == "store_id")).scalar()
    if not found:
        raise StoreCorrupt(f"{place} has no id of its own: it is damaged")
    return str(found)


def stored_revision(connection: Connection, place: str) -> str | None:
    """The revision of the store; None for an empty database. Raises StoreTooNew, StoreCorrupt (it is not ours)."""
    tables = set(inspect(connection).get_table_names())
    if REVISION.name in tables and METADATA.name in tables:
        found = connection.execute(select(REVISION.c.version_num)).scalars().all()
        if len(found) == 1:
            return str(found[0])
        raise StoreCorrupt(f"{place} names {len(found)} schema revisions: it is damaged")
    if METADATA.name in tables:
        return _legacy_revision(connection, place)
    if tables:
        raise StoreCorrupt(f"{place} is a database of something else, not a state store of his160")
    return None


def _legacy_revision(connection: Connection, place: str) -> str:
    """The revision of a store from before the chain, which knew one number only."""
    version = connection.execute(select(METADATA.c.value).where(METADATA.c.name == "schema_version")).scalar()
    if version is None or not version.isdigit():
        raise StoreCorrupt(f"{place} says no schema version: it is not a state store of his160")
    if int(version) != 1:
        raise StoreTooNew(f"{place} has schema version {version}, which this agent does not know: install a newer one")
    return _FIRST


def _create(connection: Connection, clock: Clock) -> None:
    """The tables as they are now; a test says that the chain leads to the same."""
    TABLES.create_all(connection, checkfirst=False)
    facts = {
        "schema_version": _LEGACY_VERSION,
        "created_time": clock().isoformat(timespec="seconds"),
        "store_id": uuid.uuid4().hex,
    }
    connection.execute(METADATA.insert(), [{"name": name, "value": value} for name, value in facts.items()])
    connection.execute(REVISION.insert().values(version_num=head()))


def upgrade(connection: Connection, found: str | None, chain: Mapping[str, str] = MIGRATIONS) -> None:
    """Runs the revisions behind ``found`` (None: all) in the connection's transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterable[RevisionStep]:
        return _steps(heads, chain)

    if found == _FIRST:  # from before the chain: nothing wrote down where it stands
        REVISION.create(connection, checkfirst=True)
        if connection.execute(select(REVISION.c.version_num)).first() is None:
            connection.execute(REVISION.insert().values(version_num=found))
    context = MigrationContext.configure(connection, opts={"fn": steps, "transactional_ddl": True})
    with Operations.context(context):
        context.run_migrations()
    _LOG.info("state store upgraded", extra={"from_revision": found, "to_revision": head(chain)})


def _steps(heads: tuple[str, ...], chain: Mapping[str, str]) -> Iterable[RevisionStep]:
    from alembic.runtime.migration import RevisionStep
    from alembic.script.base import Script
    from alembic.script.revision import RevisionMap

    modules: dict[str, Any] = {name: import_module(entry.partition(":")[0]) for name, entry in chain.items()}
    scripts = [Script(module, name, module.__name__) for name, module in modules.items()]
    revisions = RevisionMap(lambda: scripts)
    newest_first = revisions.iterate_revisions(head(chain), heads or "base")
    return [RevisionStep(revisions, cast(Script, revision), True) for revision in reversed(list(newest_first))]
