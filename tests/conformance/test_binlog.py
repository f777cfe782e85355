"""The binary log of a real MariaDB (or MySQL, ``tests/binlog_server.py``) as a feed: what it names, what it cannot, and what becomes of a lost position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.errors import HisError
from his_db.feed import FeedSpec, PositionLost, Seen, SessionRun
from his_db.feeds import mysql_binlog
from his_db.feeds.mysql_binlog import Binlog
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source, engine_for
from his_db.workbench.probe_feeds import probe_table
from his_db.workbench.site import connected
from sync.captures.fed import FedDiff
from sync.outbox import Outbox
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.binlog_server import BinlogServer
from tests.bounds import PATIENCE
from tests.integration.patterns import AN_OPERATION, Clock, watch_file
from tests.servers import MariadbServer

SPEC = FeedSpec("binlog", "reg", "id", margin=timedelta(0))


@pytest.fixture
def database(binlog_server: BinlogServer) -> Iterator[SourceSettings]:
    with binlog_server.server.database() as settings:
        with binlog_server.server.connect(settings.database) as his, his.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE reg (id BIGINT UNSIGNED PRIMARY KEY, code VARCHAR(40), old VARCHAR(40) CHARACTER SET gbk,"
                " rq DATETIME, state VARCHAR(20), note VARCHAR(40) CHARACTER SET gbk)"
            )
            cursor.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, state VARCHAR(20))")
            rows = [
                (n, f"T{n}", f"号{n}", "2026-03-02", "BOOKED", "张三") for n in (*range(1, 11), 18446744073709551600)
            ]
            cursor.executemany("INSERT INTO reg VALUES (%s, %s, %s, %s, %s, %s)", rows)
        yield settings


@pytest.fixture
def his(binlog_server: BinlogServer, database: SourceSettings) -> Iterator[Any]:
    """A cursor of the HIS's own program."""
    with binlog_server.server.connect(database.database) as connection, connection.cursor() as cursor:
        yield cursor


class Reading:
    """The feed on a session of its own, as a lane has it."""

    def __init__(self, settings: SourceSettings, spec: FeedSpec = SPEC) -> None:
        self._engine = engine_for(settings)
        self._session = self._engine.open(read_only=True)
        self._run = SessionRun(self._session, max_rows=10_000)
        self.spec, self.feed = spec, Binlog()
        self.position = self.feed.begin(self._run, spec)

    def look(self) -> Seen:
        seen = self.feed.look(self._run, self.spec, self.position)
        self.position = seen.position
        return seen

    def close(self) -> None:
        self._session.close()
        self._engine.dispose()


@pytest.fixture
def reading(database: SourceSettings) -> Iterator[Reading]:
    made = Reading(database)
    yield made
    made.close()


def test_it_names_the_rows_of_its_table_and_no_others(reading: Reading, his: Any) -> None:
    assert reading.look().keys == frozenset()
    his.execute("INSERT INTO other VALUES (1, 'x')")
    his.execute("BEGIN")
    his.execute("UPDATE reg SET state = 'PAID' WHERE id = 3")
    assert reading.look().keys == frozenset()  # not committed
    his.execute("ROLLBACK")
    assert reading.look().keys == frozenset()
    his.execute("BEGIN")
    his.execute("UPDATE reg SET state = 'PAID' WHERE id IN (1, 2)")
    his.execute("DELETE FROM reg WHERE id = 5")
    his.execute("INSERT INTO reg (id, state) VALUES (99, 'BOOKED')")
    his.execute("UPDATE reg SET id = 100 WHERE id = 4")
    his.execute("COMMIT")
    seen = reading.look()
    assert (seen.keys, seen.everything) == (frozenset({1, 2, 5, 99, 4, 100}), False)
    assert reading.look().keys == frozenset()


def test_numbers_beyond_the_sign_are_what_a_select_gives(reading: Reading, his: Any) -> None:
    his.execute("UPDATE reg SET state = 'PAID' WHERE id > 10")
    assert reading.look().keys == frozenset({18446744073709551600})


def test_a_key_is_named_again_until_its_row_can_be_seen(database: SourceSettings, his: Any) -> None:
    """A transaction stands in the log before others see its rows."""
    reading = Reading(database, FeedSpec("binlog", "reg", "id", margin=timedelta(hours=1)))
    try:
        his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
        assert [reading.look().keys for _ in range(3)] == [frozenset({1})] * 3
    finally:
        reading.close()


def test_it_begins_where_all_is_seen(reading: Reading, his: Any, binlog_server: BinlogServer) -> None:
    """The beginning is the server's own word for a snapshot, and nothing of it stays open in the session."""
    his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
    position = reading.feed.begin(reading._run, SPEC)
    his.execute("SHOW MASTER STATUS")
    file, at, *_ = his.fetchone()
    assert (position["file"], position["at"]) == (file, at)  # nobody is between log and sight now
    if binlog_server.is_mariadb:
        assert mysql_binlog._seen_end(reading._run, {"version": "10.11-MariaDB"}) == (file, at)
    assert mysql_binlog._seen_end(reading._run, {"version": "8.0.36"}) is None
    his.execute("UPDATE reg SET state = 'SEEN' WHERE id = 1")
    ((state,),) = reading._run("SELECT state FROM reg WHERE id = 1", {}).rows
    assert state == "SEEN"


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE TABLE reg", "ALTER TABLE reg ADD COLUMN more INTEGER", "RENAME TABLE reg TO gone", "statement format"],
)
def test_what_is_no_row_means_the_whole_window(reading: Reading, his: Any, statement: str) -> None:
    if statement == "statement format":
        his.execute("SET SESSION binlog_format = 'STATEMENT'")
        his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
    else:
        his.execute(statement)
    assert reading.look().everything


def test_rows_of_a_changed_table_are_not_guessed(reading: Reading, his: Any) -> None:
    his.execute("ALTER TABLE reg ADD COLUMN first INTEGER FIRST")
    reading.look()
    his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
    assert reading.look().everything


@pytest.mark.parametrize(("key", "named"), [("code", "T1"), ("old", None), ("rq", None), ("", None)])
def test_keys_of_other_types(database: SourceSettings, his: Any, key: str, named: str | None) -> None:
    """A text in UTF-8 is told as it is; GBK, times, and no key at all mean the window."""
    reading = Reading(database, FeedSpec("binlog", "reg", key, margin=timedelta(0)))
    try:
        his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
        seen = reading.look()
        assert (seen.keys, seen.everything) == ((frozenset({named}), False) if named else (frozenset(), True))
    finally:
        reading.close()


def test_very_many_rows_are_not_told_one_by_one(reading: Reading, his: Any) -> None:
    rows = ", ".join(f"({key}, 'BOOKED')" for key in range(1000, 7000))
    his.execute(f"INSERT INTO reg (id, state) VALUES {rows}")
    assert reading.look().everything


@pytest.mark.parametrize("how", ["purged", "begun anew", "another server"])
def test_a_position_that_is_lost_is_said(database: SourceSettings, his: Any, how: str) -> None:
    reading = Reading(database)
    try:
        his.execute("UPDATE reg SET state = 'PAID' WHERE id = 1")
        if how == "purged":
            _purge(his, reading.position["file"])
        elif how == "begun anew":
            his.execute("RESET MASTER")
        else:
            reading.position = {**reading.position, "server": {**reading.position["server"], "server_id": "78"}}
        with pytest.raises(PositionLost):
            reading.look()
    finally:
        reading.close()


def _purge(his: Any, file: str) -> None:
    """Until the server has let go of it: a log stays while it may be needed after a crash."""
    until = time.monotonic() + 10
    his.execute("FLUSH BINARY LOGS")
    his.execute("SHOW MASTER STATUS")
    (newest, *_) = his.fetchone()
    while True:
        his.execute(f"PURGE BINARY LOGS TO '{newest}'")
        his.execute("SHOW BINARY LOGS")
        if file not in [name for name, *_ in his.fetchall()]:
            return
        assert time.monotonic() < until, "the log is not let go"
        his.execute("INSERT INTO other SELECT COALESCE(MAX(id), 0) + 1, 'x' FROM other")


def test_rights_and_settings_that_are_missing_are_told(
    database: SourceSettings, his: Any, mariadb_server: MariadbServer
) -> None:
    with mariadb_server.database() as plain, connected(plain) as connection:
        probed = {item.rung: item for item in probe_table(connection, FeedSpec("", "reg", "id"))}
        assert "binary log" in probed["binlog"].obstacles[0].words.en
        assert probed["binlog"].grade == "A"
    with connected(database) as connection:
        assert {item.rung: item for item in probe_table(connection, SPEC)}["binlog"].is_usable
    his.execute("CREATE USER 'weak'@'127.0.0.1'")
    try:
        his.execute(f"GRANT SELECT ON `{database.database}`.* TO 'weak'@'127.0.0.1'")
        settings = SourceSettings(**{**_as_dict(database), "user": "weak"})
        with connected(settings) as connection:
            found = {item.rung: item for item in probe_table(connection, SPEC)}["binlog"]
            assert not found.is_usable
        his.execute("GRANT REPLICATION CLIENT ON *.* TO 'weak'@'127.0.0.1'")
        with connected(settings) as connection:  # may ask for the end of the log, and not read it
            assert not {item.rung: item for item in probe_table(connection, SPEC)}["binlog"].is_usable
        his.execute("GRANT REPLICATION SLAVE ON *.* TO 'weak'@'127.0.0.1'")
        with connected(settings) as connection:
            assert {item.rung: item for item in probe_table(connection, SPEC)}["binlog"].is_usable
    finally:
        his.execute("DROP USER 'weak'@'127.0.0.1'")


def _as_dict(settings: SourceSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


# -- through the watch ---------------------------------------------------------------------------------------------------

WATCH = (
    watch_file(
        "SELECT id, code, state FROM reg",
        {"appointment_id": "id", "order_no": "code", "state": "state", "patient_id": "id", "schedule_id": "id"},
        ["CANCELLED: state: BOOKED -> CANCELLED"],
        more='reconcile = "1h"',
    )
    + '[[feed]]\nrung = "binlog"\ntable = "reg"\nkey = "id"\nmargin = "0s"\n'
)


@pytest.fixture
async def watching(database: SourceSettings, tmp_path: Path) -> AsyncIterator[tuple[Watcher, Outbox, HisAccess]]:
    folder = tmp_path / "mappings"
    folder.mkdir()
    (folder / "watch.toml").write_text(WATCH, encoding="utf-8")
    (folder / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
    loaded = load_mapping_set(folder, sources={"his": "mysql"}, timezone="Asia/Shanghai")
    clock = Clock()
    source, store = Source(database, None), SqliteStore(tmp_path / "state.db", clock)
    access, outbox = HisAccess({"his": source}, compile_generation(loaded), clock=clock), Outbox(store, clock)
    watcher = Watcher(FedDiff(access, store, "orders", clock=clock), store, outbox, site="H1", clock=clock)
    yield watcher, outbox, access
    await source.close()
    await store.close()


async def told(watcher: Watcher, outbox: Outbox, count: int) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        while len(found := [event.order_no for event in await outbox.read_after(0)]) < count:
            await watcher._step()
            await asyncio.sleep(0.01)
    return sorted(found)


async def test_the_watch_goes_by_the_log(watching: tuple[Watcher, Outbox, HisAccess], his: Any) -> None:
    watcher, outbox, access = watching
    await watcher.poll_once()
    reads: list[int | None] = []
    plain = access.snapshot

    async def counted(name: str, **options: Any) -> Any:
        keys = options.get("keys")
        reads.append(None if keys is None else len(keys))
        return await plain(name, **options)

    access.snapshot = counted  # type: ignore[method-assign]
    his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 2")
    assert await told(watcher, outbox, 1) == ["T2"]
    await watcher.poll_once()
    assert (reads, watcher.status.rung, watcher.status.missed) == ([1], "A", 0)


async def test_the_database_is_restarted_and_its_log_is_begun_anew(
    watching: tuple[Watcher, Outbox, HisAccess], database: SourceSettings, binlog_server: BinlogServer
) -> None:
    """A real restart under the watch: polls fail aloud while it is away; what changed before, during and after is told."""
    watcher, outbox, _ = watching
    await watcher.poll_once()
    with binlog_server.server.connect(database.database) as first, first.cursor() as his:
        his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 1")
    await asyncio.to_thread(binlog_server.stop)
    with pytest.raises(HisError):
        await watcher.poll_once()
    await watcher._step()
    assert watcher.status.state == "failing"
    await asyncio.to_thread(binlog_server.start)
    with binlog_server.server.connect(database.database) as second, second.cursor() as his:
        his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 2")
        assert await told(watcher, outbox, 2) == ["T1", "T2"]
        his.execute("RESET MASTER")
        his.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = 3")
        assert await told(watcher, outbox, 3) == ["T1", "T2", "T3"]
        await watcher.poll_once()
        assert (watcher.status.state, watcher.status.rung) == ("running", "A")
