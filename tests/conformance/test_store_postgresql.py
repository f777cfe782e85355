"""What only a store behind a wire, shared by several agents, must do."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.pool import NullPool

from his_db.engine import SourceSettings
from sync import store_postgresql, store_revision
from sync.audit import Audit
from sync.registry import MIGRATIONS
from sync.store import (
    Store,
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreTooNew,
    StoreUnavailable,
    StreamRow,
    Transaction,
    open_store,
)
from sync.stores import postgresql
from tests.bounds import PATIENCE
from tests.servers import PostgresqlServer, url_of
from tests.tcp_proxy import TcpProxy

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
DUMPS = Path(__file__).resolve().parents[1] / "golden" / "store"


def clock() -> datetime:
    return NOW


@pytest.fixture
def database(postgresql_database: Callable[[], SourceSettings]) -> SourceSettings:
    return postgresql_database()


@pytest.fixture
async def store(database: SourceSettings) -> AsyncIterator[Store]:
    opened = open_store(url_of(database), clock)
    yield opened
    await opened.close()


@pytest.fixture
def admin(
    postgresql_server: PostgresqlServer, database: SourceSettings
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Behind the store's back."""
    with closing(postgresql_server.connect(database.database)) as connection:
        yield connection


@pytest.fixture
def proxy(postgresql_server: PostgresqlServer) -> Iterator[TcpProxy]:
    with TcpProxy(postgresql_server.wire) as made:
        yield made


def through(proxy: TcpProxy, database: SourceSettings) -> str:
    return url_of(replace(database, host="127.0.0.1", port=proxy.port))


def counting(name: str) -> Callable[[Transaction], int]:
    """A unit that must happen exactly once: the cursor of a stream counts it."""

    def unit(work: Transaction) -> int:
        row = work.rows.stream(name)
        value = int(row.cursor) + 1 if row is not None else 1
        work.rows.put_stream(StreamRow(name, NOW, str(value)))
        return value

    return unit


def terminate(admin: psycopg.Connection[tuple[object, ...]]) -> None:
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_a_restarted_server_costs_no_unit(store: Store, admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """Connections that broke while nothing ran are replaced before anybody notices."""
    assert await store.write(counting("s")) == 1
    terminate(admin)
    assert await store.write(counting("s")) == 2
    terminate(admin)
    assert await store.read(lambda work: work.rows.stream("s")) == StreamRow("s", NOW, "2")


async def test_a_connection_that_breaks_in_a_unit(store: Store, admin: psycopg.Connection[tuple[object, ...]]) -> None:
    """The group had kept nothing: it runs again, whole, on a new connection."""
    runs = 0

    def unit(work: Transaction) -> int:
        nonlocal runs
        runs += 1
        value = counting("s")(work)
        if runs == 1:
            terminate(admin)
        work.events.append("e", "A", b"", NOW)
        return value

    await store.write(lambda work: None)
    assert await store.write(unit) == 1
    assert runs == 2
    assert len(await store.read(lambda work: work.events.after(0, 10))) == 1


@pytest.mark.parametrize("delivered", [True, False], ids=["committed", "not committed"])
async def test_a_commit_whose_answer_is_lost(database: SourceSettings, proxy: TcpProxy, delivered: bool) -> None:
    """The server is asked what became of it: never a unit that is reported lost and kept, or the other way round."""
    store = open_store(through(proxy, database), clock)
    assert await store.write(counting("s")) == 1
    proxy.cut_at(b"COMMIT", deliver=delivered)
    results = await asyncio.gather(*(store.write(counting("s")) for _ in range(3)), return_exceptions=True)
    assert proxy.tripped.is_set()
    if delivered:
        assert results == [2, 3, 4]
    else:
        assert [type(result) for result in results] == [StoreUnavailable] * 3
    found = await store.read(lambda work: work.rows.stream("s"))
    assert found == StreamRow("s", NOW, "4" if delivered else "1")
    assert await store.write(counting("s")) == (5 if delivered else 2)
    await store.close()


async def test_a_server_that_is_away(database: SourceSettings, proxy: TcpProxy) -> None:
    store = open_store(through(proxy, database), clock)
    await store.write(counting("s"))
    proxy.cut()
    for work in (store.write(counting("s")), store.read(lambda work: work.rows.stream("s"))):
        with pytest.raises(StoreUnavailable) as caught:
            await work
        assert "127.0.0.1" not in str(caught.value)
    proxy.heal()
    assert await store.write(counting("s")) == 2
    await store.close()
    proxy.cut()
    with pytest.raises(StoreUnavailable):
        open_store(through(proxy, database), clock)


async def test_a_server_that_is_silent(
    database: SourceSettings, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer, no time-out, no reset: given up, and nothing is said about what may have been committed."""
    monkeypatch.setattr(store_postgresql, "_PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(store_postgresql, "_CONNECT", timedelta(seconds=1))
    monkeypatch.setattr(postgresql, "_LOST_COMMIT", timedelta(seconds=1))
    store = open_store(through(proxy, database), clock)
    await store.write(counting("s"))
    proxy.stall()
    with pytest.raises(StoreUnavailable):
        await store.write(counting("s"))
    proxy.cut()
    proxy.heal()
    assert await store.write(counting("s")) == 2
    await store.close()


@contextmanager
def two(database: SourceSettings) -> Iterator[tuple[Store, Store]]:
    stores = open_store(url_of(database), clock), open_store(url_of(database), clock)
    try:
        yield stores
    finally:
        for store in stores:
            store._stop()  # type: ignore[attr-defined]


async def test_two_agents_see_each_others_units(database: SourceSettings) -> None:
    with two(database) as (one, other):
        work = [store.write(counting("s")) for _ in range(100) for store in (one, other)]
        assert sorted(await asyncio.gather(*work)) == list(range(1, 201))


async def test_two_agents_keep_one_audit(database: SourceSettings) -> None:
    with two(database) as (one, other):
        audits = Audit(one, clock, instance="a"), Audit(other, clock, instance="b")
        await asyncio.gather(*(audit.append(audit.entry("test.act")) for _ in range(50) for audit in audits))
        found = await audits[0].verify()
        assert (found.broken, found.rows) == (None, 100)
        assert {row.entry.instance for row in await audits[1].newest(200)} == {"a", "b"}


async def test_the_database_refuses_to_change_the_audit(
    store: Store, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    audit = Audit(store, clock)
    await audit.append(audit.entry("test.act"))
    for statement in ("UPDATE audit SET result = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            admin.execute(statement)  # type: ignore[arg-type]
    assert (await audit.verify()).rows == 1


class Race:
    """Writers whose transactions stay open for a while, and a reader that goes by sequence, as a relay does."""

    def __init__(self, database: SourceSettings, *, writers: int, each: int) -> None:
        self._url = url_of(database)
        self._writers = writers
        self._each = each
        self.read: list[str] = []

    async def run(self) -> None:
        stores = [open_store(self._url, clock) for _ in range(self._writers)]
        reader = open_store(self._url, clock, exclusive=False)
        ended = asyncio.Event()
        reading = asyncio.create_task(self._reads(reader, ended))
        await asyncio.gather(*(self._writes(store, number) for number, store in enumerate(stores)))
        ended.set()
        await reading
        self.kept = [row.event_id for row in await reader.read(lambda work: work.events.after(0, 10_000))]
        await asyncio.gather(*(store.close() for store in (*stores, reader)))

    async def _writes(self, store: Store, number: int) -> None:
        for count in range(self._each):

            def unit(work: Transaction, count: int = count) -> None:
                work.events.append(f"{number}-{count}", f"lane-{number}", b"", NOW)
                time.sleep(((number * 7 + count * 3) % 5) / 1000)  # in the store's own thread: open and not committed

            await store.write(unit)

    async def _reads(self, store: Store, ended: asyncio.Event) -> None:
        last = 0
        while True:
            final = ended.is_set()
            for row in await store.read(lambda work: work.events.after(last, 1000)):  # noqa: B023 - read at once
                self.read.append(row.event_id)
                last = row.sequence
            if final:
                return


async def test_no_event_of_a_slow_transaction_is_skipped(database: SourceSettings) -> None:
    race = Race(database, writers=4, each=40)
    await race.run()
    assert len(race.kept) == 160
    assert race.read == race.kept


async def test_without_the_lock_the_race_loses_events(
    database: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same race with writers that do not wait for each other skips events. So the race is one."""
    await open_store(url_of(database), clock).close()
    monkeypatch.setattr(postgresql, "WRITER", "1")
    race = Race(database, writers=4, each=40)
    await race.run()
    assert len(race.kept) == 160
    assert len(race.read) < len(race.kept)


async def test_a_writer_that_hangs_is_waited_for_and_ended(
    store: Store, postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    """A frozen agent in the middle of a transaction: the server ends it, with the time-out that every session has."""
    assert store_postgresql.SESSION["idle_in_transaction_session_timeout"] == "8s"
    with closing(postgresql_server.connect(database.database)) as frozen:
        frozen.execute("SET idle_in_transaction_session_timeout = '500ms'")
        frozen.execute("BEGIN")
        frozen.execute(f"SELECT {store_postgresql.WRITER}")  # type: ignore[arg-type]
        assert await store.write(counting("s")) == 1
        with pytest.raises(psycopg.Error):
            frozen.execute("COMMIT")


def test_addresses_that_are_none(database: SourceSettings) -> None:
    wrong = {
        "postgresql://user:secret@127.0.0.1:x/db": StoreError,
        "postgresql://user:secret@127.0.0.1": StoreError,
        "postgresql://user:secret@127.0.0.1:1/db": StoreUnavailable,
        url_of(replace(database, database="his160_no_such", password="secret")): StoreUnavailable,
    }
    for url, error in wrong.items():
        with pytest.raises(error) as caught:
            open_store(url, clock)
        assert "secret" not in str(caught.value)


def test_a_database_in_another_encoding_is_refused(
    postgresql_server: PostgresqlServer, database: SourceSettings
) -> None:
    name = f"{database.database}_ascii"
    with closing(postgresql_server.connect()) as admin:
        admin.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")  # type: ignore[arg-type]
        try:
            with pytest.raises(StoreCorrupt, match="SQL_ASCII"):
                open_store(url_of(replace(database, database=name)), clock)
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[arg-type]


def test_what_is_no_store_of_ours_is_refused(
    database: SourceSettings, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    admin.execute("CREATE TABLE something (x int)")
    with pytest.raises(StoreCorrupt):
        open_store(url_of(database), clock)
    admin.execute("DROP TABLE something")
    asyncio.run(open_store(url_of(database), clock).close())
    admin.execute("UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(StoreTooNew, match="0099"):
        open_store(url_of(database), clock)


def test_no_upgrade_under_a_running_agent(
    database: SourceSettings, admin: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Also a frozen one: it would go on with tables that it does not know."""
    with two(database):
        admin.execute("UPDATE alembic_version SET version_num = '0001'")
        with pytest.raises(StoreLocked, match="stop it"):
            open_store(url_of(database), clock)
        admin.execute(f"UPDATE alembic_version SET version_num = '{store_revision.head()}'")  # type: ignore[arg-type]


@pytest.mark.parametrize("revision", [name for name in MIGRATIONS if name != store_revision.head()])
async def test_an_old_store_is_upgraded_with_its_rows(
    revision: str, database: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the dumps of SQLite, put into tables of that revision."""
    place = f"{database.host}:{database.port or 5432}/{database.database}"
    engine = create_engine(f"postgresql+psycopg://{database.user}:{database.password}@{place}", poolclass=NullPool)
    chain = dict(list(MIGRATIONS.items())[: list(MIGRATIONS).index(revision) + 1])
    with engine.begin() as connection, closing(sqlite3.connect(":memory:")) as dump:
        store_revision.upgrade(connection, None, chain)
        if revision == "0001":
            connection.exec_driver_sql("DROP TABLE alembic_version")  # as the first agents, who had no chain
        dump.executescript((DUMPS / f"{revision}.sql").read_text(encoding="utf-8"))
        _copy(dump, connection)
    engine.dispose()
    for _ in range(2):
        store = open_store(url_of(database), clock)
        done = await store.read(lambda work: work.commands.get("request-1"))
        assert done is not None
        assert (done.result, done.payload_hash, done.attempt) == (b"\x00\xff", b"\x01" * 32, 2)
        counts = await store.read(lambda work: work.events.counts())
        assert (counts.pending, counts.dead, counts.acked) == (3, 1, 1)
        assert (await store.read(lambda work: work.rows.stream("orders"))) is not None
        await store.close()


def _copy(dump: sqlite3.Connection, connection: object) -> None:
    from sqlalchemy import Boolean, Connection, MetaData

    assert isinstance(connection, Connection)
    tables = MetaData()
    tables.reflect(connection)
    for table in tables.tables.values():
        if table.name == "alembic_version":
            continue
        names = [column.name for column in table.columns]
        rows = dump.execute(f"SELECT {', '.join(names)} FROM {table.name}")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for row in found:
            row.update({c.name: bool(row[c.name]) for c in table.c if isinstance(c.type, Boolean)})
        if found:
            connection.execute(table.delete())  # what the chain has put there by itself
            connection.execute(insert(table), found)
    connection.exec_driver_sql("SELECT setval('events_sequence_seq', (SELECT max(sequence) FROM events))")


async def test_units_of_one_agent_share_a_commit(store: Store) -> None:
    """Group commit: while one group is committed, those that come wait and go together."""
    gate = threading.Event()
    commits: list[str] = []

    def spoken(
        _connection: Connection, _cursor: object, statement: str, _values: object, _context: object, _many: bool
    ) -> None:
        if statement == "COMMIT":
            commits.append(statement)

    def slow(_work: Transaction) -> None:
        gate.wait(PATIENCE)

    # Counted where this process speaks: the server's own numbers of transactions are shared by all of its databases.
    event.listen(Engine, "before_cursor_execute", spoken)
    try:
        first = asyncio.create_task(store.write(slow))
        rest = [asyncio.create_task(store.write(counting("s"))) for _ in range(50)]
        await asyncio.sleep(0)
        gate.set()
        assert sorted(await asyncio.gather(*rest)) == list(range(1, 51))
        await first
    finally:
        event.remove(Engine, "before_cursor_execute", spoken)
    assert 1 <= len(commits) <= 3
