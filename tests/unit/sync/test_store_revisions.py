"""State stores of earlier schemas open, keep every row, and survive a crash in the middle of the upgrade."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.pool import NullPool

from his_db.engine import SourceSettings
from sync import store_revision
from sync.registry import MIGRATIONS
from sync.store import (
    CommandState,
    EventState,
    RowState,
    StoreCorrupt,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
    StreamRow,
    Transaction,
    open_store,
)
from sync.store_lock import StoreLock
from sync.store_revision import head
from sync.store_schema import TABLES

ROOT = Path(__file__).resolve().parents[3]
DUMPS = ROOT / "tests" / "golden" / "store"
NOW = datetime(2026, 11, 23, 1, 0, 0, 123456, tzinfo=UTC)
OLD = [name for name in MIGRATIONS if name != head()]


def clock() -> datetime:
    return NOW


def restored(path: Path, revision: str) -> Path:
    """A store as an agent of that revision left it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DUMPS / f"{revision}.sql").read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")
    return path


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def run(program: str, *arguments: str, path: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    places = path or [str(ROOT), str(ROOT / "proto" / "gen")]
    code = f"import sys\nsys.path[:0] = {places!r}\n{program}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )


def schema(connection: Connection) -> dict[str, Any]:
    """Everything that the database knows about the tables, in one comparable value."""
    look = inspect(connection)
    if connection.dialect.name == "sqlite":
        indexes = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index'").all()
        flags = connection.exec_driver_sql("SELECT name, wr, strict FROM pragma_table_list").all()
        autoincrement = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE upper(sql) LIKE '%AUTOINCREMENT%'"
        ).all()
    else:
        indexes = connection.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        ).all()
        flags = connection.exec_driver_sql("SELECT sequencename, data_type::text FROM pg_sequences").all()
        autoincrement = []
    return {
        "columns": {
            table: [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in look.get_columns(table)
            ]
            for table in look.get_table_names()
        },
        "keys": {table: look.get_pk_constraint(table) for table in look.get_table_names()},
        "unique": {table: look.get_unique_constraints(table) for table in look.get_table_names()},
        "indexes": sorted(tuple(row) for row in indexes),
        "flags": sorted(tuple(row) for row in flags),
        "autoincrement": sorted(tuple(row) for row in autoincrement),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """A factory of empty databases."""
    engines = []

    def made() -> Engine:
        if request.param == "sqlite":
            engine = create_engine(f"sqlite:///{tmp_path / f'{len(engines)}.db'}", poolclass=NullPool)
        else:
            found: SourceSettings = request.getfixturevalue("postgresql_database")()
            place = f"{found.host}:{found.port or 5432}/{found.database}"
            engine = create_engine(f"postgresql+psycopg://{found.user}:{found.password}@{place}", poolclass=NullPool)
        engines.append(engine)
        return engine

    yield made
    for engine in engines:
        engine.dispose()


def test_the_chain_leads_to_the_schema(empty: Callable[[], Engine]) -> None:
    """Revision after revision on an empty database makes the same as ``TABLES`` at once."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with empty().begin() as connection:
        store_revision.upgrade(connection, None)
        assert compare_metadata(MigrationContext.configure(connection), TABLES) == []
        by_chain = schema(connection)
    with empty().begin() as connection:
        TABLES.create_all(connection)
        at_once = schema(connection)
    assert by_chain == at_once


def test_the_chain_is_a_line() -> None:
    """Each revision names the one before it, and its own name."""
    from importlib import import_module

    before = None
    for name, entry in MIGRATIONS.items():
        module = import_module(entry.partition(":")[0])
        assert (module.revision, module.down_revision) == (name, before)
        before = name


@pytest.mark.parametrize("revision", MIGRATIONS)
async def test_a_store_of_every_revision_opens_with_its_rows(revision: str, tmp_path: Path) -> None:
    """``tools/store_dump.py`` wrote the dumps when the revisions were new."""
    store = open_store(restored(tmp_path / "state.db", revision), clock)

    def look(work: Transaction) -> None:
        rows = {row.state: row for state in CommandState for row in work.commands.listed(state, 10)}
        assert sorted(row.request_id for row in rows.values()) == [f"request-{n}" for n in range(5)]
        done = rows[CommandState.DONE]
        assert (done.result, done.payload_hash, done.attempt, done.parent) == (b"\x00\xff", b"\x01" * 32, 2, "")
        assert done.finished_time == NOW + timedelta(seconds=1)
        assert rows[CommandState.SENT].finished_time is None
        assert rows[CommandState.REJECTED].detail == "号源已被占用"
        counts = work.events.counts()
        assert (counts.pending, counts.parked, counts.dead, counts.acked, counts.last_sequence) == (3, 0, 1, 1, 5)
        assert [row.event_id for row in work.events.listed(EventState.DEAD, 9)] == ["event-1"]
        assert [row.event_id for row in work.events.pending(9, NOW + timedelta(hours=1))] == ["event-2", "event-4"]
        assert work.rows.stream("orders") == StreamRow("orders", NOW, "cursor-1")
        found = work.rows.get_many("orders", ["k1", "k2", "k3"])
        assert found["k1"] == RowState("k1", 3, b"\x01", NOW)
        assert found["k2"].message is None
        assert found["k3"].absent

    await store.read(look)
    assert await store.write(lambda work: work.events.append("event-5", "order:T9", b"", NOW)) == 6
    await store.close()
    again = open_store(tmp_path / "state.db", clock)  # and stays what it is
    await again.read(lambda work: work.commands.get("request-0"))
    await again.close()


@pytest.mark.parametrize("revision", OLD)
async def test_a_copy_is_kept_before_an_upgrade(revision: str, tmp_path: Path) -> None:
    path = restored(tmp_path / "state.db", revision)
    before = content(path)
    await open_store(path, clock).close()
    copy = tmp_path / f"state.db.before-{head()}"
    assert content(copy) == before
    assert content(path) != before
    if sys.platform != "win32":
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    copy.unlink()
    await open_store(path, clock).close()
    assert not list(tmp_path.glob("*.before-*"))  # only when there is an upgrade


CRASH = """
import os
from datetime import UTC, datetime
from alembic import op
import sqlalchemy as sa
from sync.migrations import r0002_command_steps
from sync.store import open_store
def crash():
    op.add_column("commands", sa.Column("parent", sa.Text, nullable=False, server_default=""))
    op.execute("DELETE FROM his_rows")
    os._exit(9)
r0002_command_steps.upgrade = crash
open_store(sys.argv[1], lambda: datetime.now(UTC))
"""


async def test_a_crash_in_the_middle_of_an_upgrade(tmp_path: Path) -> None:
    """Killed between two changes of a revision: the store is as before, and the next start upgrades it."""
    path = restored(tmp_path / "state.db", "0001")
    before = content(path)
    done = run(CRASH, str(path))
    assert done.returncode == 9, done.stderr
    assert content(path) == before
    store = open_store(path, clock)
    assert len(await store.read(lambda work: work.rows.get_many("orders", ["k1", "k2", "k3"]))) == 3
    await store.close()


async def test_a_failing_revision_leaves_the_store_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    from sync.migrations import r0002_command_steps

    path = restored(tmp_path / "state.db", "0001")
    before = content(path)

    def failing() -> None:
        op.execute("DELETE FROM his_rows")
        op.execute("DELETE FROM no_such_table")

    with monkeypatch.context() as patch:
        patch.setattr(r0002_command_steps, "upgrade", failing)
        with pytest.raises(StoreUnavailable, match="no_such_table"):
            open_store(path, clock)
    assert content(path) == before
    await open_store(path, clock).close()  # the lock was given back


async def test_without_a_copy_there_is_no_upgrade(tmp_path: Path) -> None:
    path = restored(tmp_path / "state.db", "0001")
    before = content(path)
    obstacle = tmp_path / f"state.db.before-{head()}.part"
    obstacle.mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be copied"):
        open_store(path, clock)
    assert content(path) == before
    obstacle.rmdir()
    await open_store(path, clock).close()


async def test_a_tool_does_not_upgrade_under_a_running_agent(tmp_path: Path) -> None:
    """A newer ``his160 outbox list`` beside an agent that still runs the old program."""
    path = restored(tmp_path / "state.db", "0001")
    before = content(path)
    lock = StoreLock(path)
    with pytest.raises(StoreLocked, match="restart it"):
        open_store(path, clock, exclusive=False)
    assert content(path) == before
    lock.release()
    tool = open_store(path, clock, exclusive=False)
    agent = open_store(path, clock)  # the tool has not kept the lock
    await asyncio.gather(tool.close(), agent.close())


def test_newer_and_strange_stores_are_refused_untouched(tmp_path: Path) -> None:
    changes = {
        "UPDATE alembic_version SET version_num = '0099'": StoreTooNew,
        "DELETE FROM alembic_version": StoreCorrupt,
        "DROP TABLE alembic_version": StoreTooNew,  # says version 2, as the first agents would see it
        "DROP TABLE alembic_version; UPDATE metadata SET value = 'x'": StoreCorrupt,
        "DROP TABLE metadata": StoreCorrupt,
    }
    for number, (change, error) in enumerate(changes.items()):
        path = restored(tmp_path / f"{number}.db", head())
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(change)
        before = content(path)
        with pytest.raises(error):
            open_store(path, clock)
        assert content(path) == before
    assert not list(tmp_path.glob("*.before-*"))


def test_alembic_is_loaded_for_an_upgrade_only(tmp_path: Path) -> None:
    program = """
from datetime import UTC, datetime
from sync.store import open_store
open_store(sys.argv[1], lambda: datetime.now(UTC))
print("alembic" in sys.modules)
"""
    fresh, current = tmp_path / "fresh.db", restored(tmp_path / "current.db", head())
    old = restored(tmp_path / "old.db", "0001")
    found = [run(program, str(path)) for path in (fresh, current, old)]
    assert [done.stdout.strip() for done in found] == ["False", "False", "True"], [done.stderr for done in found]


def test_an_upgrade_from_a_zip(tmp_path: Path) -> None:
    """No file of the chain need lie on the disk."""
    archive = tmp_path / "his160.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for base, room in ((ROOT, "sync"), (ROOT, "his_db"), (ROOT / "proto" / "gen", "his160")):
            for file in (base / room).rglob("*"):
                if file.suffix in (".py", ".binpb"):
                    target.write(file, file.relative_to(base))
    path = restored(tmp_path / "state.db", "0001")
    program = """
from datetime import UTC, datetime
from sync import store
store.open_store(sys.argv[1], lambda: datetime.now(UTC))
print(store.__file__)
"""
    done = run(program, str(path), path=[str(archive)])
    assert done.returncode == 0, done.stderr
    assert str(archive) in done.stdout
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (head(),)
