"""A copy of a SQLite state store, whole and consistent, also while an agent works on it; and the way back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from his_db.move import move
from sync.registry import MIGRATIONS
from sync.store import StoreCorrupt, StoreLocked, StoreTooNew, StoreUnavailable
from sync.store_lock import StoreLock
from sync.store_revision import head, stored_revision


def copy_store(source: Path, target: Path) -> None:
    """Copies what is committed to ``target``, which appears whole or not at all and is read by its owner only.

    Raises StoreUnavailable, StoreCorrupt (the source is damaged).
    """
    part = target.with_name(target.name + ".part")
    try:
        with _new_file(part):
            with (
                closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as from_,
                closing(sqlite3.connect(part, isolation_level=None)) as to,
            ):
                from_.backup(to)
                # One file, to be carried away: no -wal beside it.
                to.execute("PRAGMA journal_mode = DELETE")
                damage = to.execute("PRAGMA quick_check(1)").fetchone()[0]
                if damage != "ok":
                    raise StoreCorrupt(f"the state store is damaged: {damage}")
            _to_disk(part)
            move(part, target)
    except sqlite3.DatabaseError as error:
        damaged = not isinstance(error, sqlite3.OperationalError)
        kind = StoreCorrupt if damaged else StoreUnavailable
        raise kind(f"the state store cannot be copied: {error}") from error
    except OSError as error:
        raise StoreUnavailable(f"the state store cannot be copied to {target}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong with a file; ``damage`` is empty when nothing is. ``revision``: of its schema."""

    revision: str
    damage: str


def examine(path: Path) -> Health:
    """Reads every page of a store. Raises StoreCorrupt (no store of ours), StoreTooNew, StoreUnavailable."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            damage = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(f"{path} is no store, or it is damaged: {error}") from error
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            revision = stored_revision(connection, str(path))
    except DBAPIError as error:
        raise StoreCorrupt(f"{path} is damaged: {type(error.orig).__name__}") from error
    finally:
        engine.dispose()
    if revision is None:
        raise StoreCorrupt(f"{path} is an empty database, not a state store of his160")
    if revision not in MIGRATIONS:
        raise StoreTooNew(f"{path} has schema revision {revision}, this program knows {head()}")
    return Health(revision, "" if damage == "ok" else damage)


def restore_store(copy: Path, target: Path, kept: Path) -> None:
    """Puts a copy in the place of the store, which is kept as ``kept``. No agent may work on it meanwhile.

    Whenever this is cut off, ``target`` is the old store or the new one, whole. Raises StoreLocked, StoreCorrupt,
    StoreTooNew, StoreUnavailable: then nothing is changed.
    """
    health = examine(copy)
    if health.damage:
        raise StoreCorrupt(f"{copy} is damaged: {health.damage}")
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = StoreLock(target)
    try:
        part = target.with_name(f"{target.name}.restoring")
        copy_store(copy, part)
        if target.exists():
            _put_aside(target, kept)
        move(part, target)
    except OSError as error:
        raise StoreUnavailable(f"the state store cannot be replaced: {error.strerror}") from error
    finally:
        lock.release()


def _put_aside(target: Path, kept: Path) -> None:
    """Makes ``kept`` another name of the store, with all that its journal holds, and ends the journal.

    The journal must go: SQLite would read it into the store that comes in this one's place.
    """
    try:
        with closing(sqlite3.connect(target, isolation_level=None, timeout=5)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        if mode != "delete":
            raise StoreLocked("another program has the state store open: end it first")
    except sqlite3.OperationalError as error:
        raise StoreLocked(f"another program has the state store open: {error}") from error
    except sqlite3.DatabaseError:  # too damaged to be tidied: kept as it is, journal and all
        for suffix in ("-wal", "-shm"):
            journal = target.with_name(target.name + suffix)
            if journal.exists():
                move(journal, kept.with_name(kept.name + suffix))
    _link_or_copy(target, kept)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        os.chmod(target, 0o600)
        _to_disk(target)


@contextmanager
def _new_file(path: Path) -> Iterator[None]:
    """An empty file for the owner alone; gone again when it has not been moved to its place."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
