"""``his160 state``: a copy taken under a working agent is whole; the way back is all or nothing, and never under one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from agent import cli
from his_db.engine import SourceSettings
from sync import store_backup, store_revision
from sync.audit import Audit
from sync.clock import utc_now
from sync.registry import MIGRATIONS
from sync.store import RowState, Store, StoreLocked, StreamRow, Transaction, open_store
from tests.servers import url_of

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
CONFIG = """\
site.code = "1"
mapping.path = "mappings"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true }
delivery.sink = "pull"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


@pytest.fixture
def path(config: Path) -> Path:
    return config.parent / "state" / "his160.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    """As an agent holds it."""
    path.parent.mkdir()
    opened = open_store(path, utc_now)
    await opened.write(writing(0))
    yield opened
    await opened.close()


def writing(number: int) -> object:
    """Two tables that must always agree."""

    def unit(work: Transaction) -> None:
        work.rows.put_stream(StreamRow("s", NOW, str(number)))
        work.rows.put_many("s", [RowState(f"k{n}", number, b"x" * 500, NOW) for n in range(20)])

    return unit


async def his160(config: Path, *arguments: str) -> int:
    return await asyncio.to_thread(cli.run, ["state", *arguments, "--config", str(config)])


async def content(path: Path) -> tuple[str, set[int]]:
    """The cursor of the stream, and the versions of its rows."""
    store = open_store(path, utc_now, exclusive=False)
    try:
        stream = await store.read(lambda work: work.rows.stream("s"))
        versions = {row.version for row in await store.read(lambda work: work.rows.all("s"))}
    finally:
        await store.close()
    assert stream is not None
    return stream.cursor, versions


async def test_a_copy_under_a_working_agent_is_whole(store: Store, config: Path, tmp_path: Path) -> None:
    stopping = asyncio.Event()

    async def works() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            await store.write(writing(number))  # type: ignore[arg-type]

    working = asyncio.create_task(works())
    for number in range(3):
        target = tmp_path / f"copy-{number}.db"
        assert await his160(config, "backup", str(target)) == 0
        cursor, versions = await content(target)
        assert versions == {int(cursor)}
        if sys.platform != "win32":
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert not list(tmp_path.glob("copy-*.part"))
    stopping.set()
    await working


async def test_there_and_back(store: Store, config: Path, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert await his160(config, "backup", str(copy)) == 0
    assert await his160(config, "backup", str(copy)) == 1  # never over another copy
    assert await his160(config, "backup", str(tmp_path / "no" / "copy.db")) == 1
    await store.write(writing(7))  # type: ignore[arg-type]
    assert await his160(config, "restore", str(copy)) == 1  # an agent runs
    assert await content(path) == ("7", {7})
    await store.close()
    assert await his160(config, "restore", str(copy)) == 0
    assert await content(path) == ("0", {0})
    (kept,) = path.parent.glob("*.before-restore-*")
    assert await content(kept) == ("7", {7})
    again = open_store(path, utc_now)
    (row,) = await Audit(again, utc_now).newest(action="state.restore")
    assert row.entry.actor.startswith("os/")
    assert (await Audit(again, utc_now).verify()).broken is None
    await again.close()
    assert await his160(config, "check") == 0


async def test_a_restore_onto_a_new_machine(store: Store, config: Path, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert await his160(config, "backup", str(copy)) == 0
    await store.close()
    shutil.rmtree(path.parent)
    assert await his160(config, "check") == 1
    assert await his160(config, "restore", str(copy)) == 0
    assert await content(path) == ("0", {0})


async def test_what_is_no_whole_copy_is_refused(
    store: Store, config: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await store.write(
        lambda work: work.rows.put_many("s", [RowState(f"z{n}", 1, b"x" * 3000, NOW) for n in range(300)])
    )
    copy = tmp_path / "copy.db"
    assert await his160(config, "backup", str(copy)) == 0
    await store.close()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(copy.read_bytes())
    with damaged.open("r+b") as file:
        for page in range(3, 200, 2):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE x (y)")
    newer = tmp_path / "newer.db"
    newer.write_bytes(copy.read_bytes())
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
        connection.commit()
    noise = tmp_path / "noise.db"
    noise.write_bytes(b"noise" * 1000)
    before = path.read_bytes()
    for wrong in (damaged, foreign, newer, noise, tmp_path / "absent.db"):
        assert await his160(config, "restore", str(wrong)) == 1
        assert "状态库" in capsys.readouterr().err
        assert path.read_bytes() == before
    assert not list(path.parent.glob("*before-restore*"))
    path.write_bytes(damaged.read_bytes())
    assert await his160(config, "check") == 1
    assert "损坏" in capsys.readouterr().err
    assert await his160(config, "restore", str(copy)) == 0  # that is what it is for
    assert await his160(config, "check") == 0


async def test_another_program_keeps_a_restore_away(store: Store, config: Path, path: Path, tmp_path: Path) -> None:
    """A tool that has the file open would go on writing into the journal of a store that is gone."""
    copy = tmp_path / "copy.db"
    assert await his160(config, "backup", str(copy)) == 0
    await store.close()
    with closing(sqlite3.connect(path)) as tool:
        tool.execute("BEGIN")
        tool.execute("SELECT * FROM metadata").fetchone()
        with pytest.raises(StoreLocked):
            store_backup.restore_store(copy, path, path.with_name("kept"))
    store_backup.restore_store(copy, path, path.with_name("kept"))


CUT_OFF = """
import os, sys
from pathlib import Path
from sync import store_backup
label = sys.argv[4]
def cut(name, real):
    def act(*arguments, **options):
        if label == f"before {name}":
            os._exit(9)
        real(*arguments, **options)
        if label == f"after {name}":
            os._exit(9)
    return act
store_backup._put_aside = cut("aside", store_backup._put_aside)
store_backup._link_or_copy = cut("link", store_backup._link_or_copy)
store_backup.copy_store = cut("copy", store_backup.copy_store)
real = os.replace
def replace(source, target):
    if label == "before replace" and str(source).endswith(".restoring"):
        os._exit(9)
    real(source, target)
    if label == "after replace" and str(source).endswith(".restoring"):
        os._exit(9)
store_backup.os.replace = replace
store_backup.restore_store(*(Path(name) for name in sys.argv[1:4]))
"""


@pytest.mark.parametrize("when", ["copy", "aside", "link", "replace"])
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_restore_that_is_cut_off(
    when: str, side: str, store: Store, config: Path, path: Path, tmp_path: Path
) -> None:
    """Killed anywhere: the old store whole, or the new one whole; and the restore can be repeated."""
    copy, kept = tmp_path / "copy.db", path.with_name("kept")
    assert await his160(config, "backup", str(copy)) == 0
    await store.write(writing(7))  # type: ignore[arg-type]
    await store.close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto" / "gen")])}
    program = [sys.executable, "-c", CUT_OFF, str(copy), str(path), str(kept), f"{side} {when}"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert await content(path) == (("0", {0}) if (side, when) == ("after", "replace") else ("7", {7}))
    kept.unlink(missing_ok=True)
    store_backup.restore_store(copy, path, kept)
    assert await content(path) == ("0", {0})


async def test_a_store_in_postgresql_is_the_databases_own(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + 'state.url = "postgresql://a@127.0.0.1:1/b"\n', encoding="utf-8")
    assert await his160(config, "backup", str(tmp_path / "x")) == 1
    assert await his160(config, "restore", str(tmp_path / "x")) == 1
    assert "pg_dump" in capsys.readouterr().err
    assert await his160(config, "check") == 1  # nobody is there


def versions(connection: Connection) -> tuple[object, set[str]]:
    """The revision that is written down, and the tables that are there."""
    from sqlalchemy import inspect

    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar(), set(
        inspect(connection).get_table_names()
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_check_upgrades_nothing(
    kind: str,
    config: Path,
    path: Path,
    postgresql_database: Callable[[], SourceSettings],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An old store is left as it is, for the older agent that may still work on it; then the content cannot be checked."""
    old = dict(list(MIGRATIONS.items())[:-1])
    if kind == "sqlite":
        path.parent.mkdir()
        url = f"sqlite:///{path}"
    else:
        address = url_of(postgresql_database())
        config.write_text(CONFIG + f'state.url = "{address.replace(":@", "@")}"\n', encoding="utf-8")
        url = address.replace("postgresql://", "postgresql+psycopg://")
        assert await his160(config, "check") == 1
        assert "no tables yet" in capsys.readouterr().err
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        store_revision.upgrade(connection, None, old)
        before = versions(connection)
    assert before[0] == list(old)[-1]
    assert await his160(config, "check") == 1
    said = capsys.readouterr().err
    assert f"结构版本 {before[0]}" in said
    assert "not checked" in said
    with engine.connect() as connection:
        assert versions(connection) == before
    engine.dispose()
    assert [file.name for file in path.parent.glob("*")] == (["his160.db"] if kind == "sqlite" else [])
    await open_store(path if kind == "sqlite" else address, utc_now).close()
    capsys.readouterr()
    assert await his160(config, "check") == 0
