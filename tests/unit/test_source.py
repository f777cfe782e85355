"""A source: its lanes, its status, and urls as settings."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from his_db.engine import SourceSettings
from his_db.errors import HisUnavailable, MappingMismatch
from his_db.source import DEFAULT_LANES, LaneSettings, Source, default_lanes, engine_for, settings_from_url


async def test_lanes_status_and_ping(sqlite_path: Path) -> None:
    before = set(threading.enumerate())  # another test's source may not be garbage yet
    source = Source(settings_from_url("his", f"sqlite:///{sqlite_path}"), {"read": LaneSettings(3, 7)})
    assert (source.name, source.status().ok) == ("his", False)
    assert [(lane.name, lane.workers) for lane in source.status().lanes] == [
        ("read", 3), ("write", 1), ("watch", 1), ("report", 1)
    ]  # fmt: skip
    assert default_lanes("postgresql") == DEFAULT_LANES
    assert DEFAULT_LANES["write"].workers == 2  # of any engine but SQLite, which has one writer
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("his160-his-")]
    assert (await source.ping()).startswith("SQLite 3")
    assert source.status().ok
    await source.lane("write").transact(lambda s: s.run("CREATE TABLE t (x INTEGER)", {}, max_rows=1))
    with pytest.raises(MappingMismatch):
        await source.lane("read").run(lambda s: s.run("INSERT INTO t VALUES (1)", {}, max_rows=1))
    with pytest.raises(KeyError):
        source.lane("other")
    await source.close()
    await source.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("his160-his-")]


async def test_status_of_a_database_that_is_not_there(tmp_path: Path) -> None:
    source = Source(settings_from_url("his", f"sqlite:///{tmp_path}/none.db"))
    with pytest.raises(HisUnavailable):
        await source.ping()
    status = source.status()
    assert (status.ok, status.detail) == (False, "sqlite connect: SQLITE_CANTOPEN")
    assert status.since.tzinfo is not None
    await source.close()


def test_url_of_a_server() -> None:
    settings = settings_from_url(
        "his", "postgresql+psycopg://u%40x:p%2Fw@db.example:5433/his?schema=zy&sslmode=require&statement_timeout=2.5"
    )
    assert settings == SourceSettings(
        name="his",
        engine="postgresql",
        database="his",
        host="db.example",
        port=5433,
        user="u@x",
        password="p/w",
        schema="zy",
        statement_timeout=timedelta(seconds=2.5),
        options={"sslmode": "require"},
    )
    assert "p/w" not in repr(settings)
    assert settings_from_url("his", "postgres://postgres@/x?host=/run/pg").host == "/run/pg"


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////a/b.db", "/a/b.db"), ("sqlite:///C:/a.db", "C:/a.db")],
)
def test_url_of_a_file(url: str, path: str) -> None:
    assert settings_from_url("his", url).database == path


@pytest.mark.parametrize("url", ["nosuch://u:secret@h/d", "sqlite://u:secret@a/b", "postgresql://u:secret@h/", "x"])
def test_bad_urls_do_not_show_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="source his") as caught:
        settings_from_url("his", url)
    assert "secret" not in str(caught.value)


def test_unknown_engine() -> None:
    with pytest.raises(ValueError, match="unknown engine 'cobol'"):
        engine_for(SourceSettings(name="his", engine="cobol", database="x"))
