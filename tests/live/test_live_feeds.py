"""Opt-in: every rung of the capture ladder on SQL Server and on Oracle, on a server of yours: nothing is missed.

`HIS160_TEST_LIVE=postgresql,mysql` runs the same test on these two, whose feeds `tests/conformance/test_feeds.py` has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from his_db import registry
from his_db.engine import Session, SourceSettings
from his_db.feed import Feed, FeedSpec, Position, Rows
from his_db.source import engine_for, settings_from_url
from tests.servers import administrate, opted_in


@dataclass(frozen=True, slots=True)
class Case:
    """A table `reg (id, state, …)` with ten rows, and what tells of changes in it. `touch`: after a change of row `{id}`.
    `admin`: by the administrator of the server, for user `{user}`. `without`: this rung needs what a server may lack."""

    table: str
    column: str = ""
    feed_table: str = "reg"
    feed_key: str = "id"
    more: tuple[str, ...] = ()
    set_stamp: str = ""
    touch: str = ""
    admin: tuple[str, ...] = ()
    without: tuple[str, ...] = field(default=())


_PLAIN = "CREATE TABLE reg (id INTEGER PRIMARY KEY, state VARCHAR(20))"
_STAMPED = "CREATE TABLE reg (id INTEGER PRIMARY KEY, state VARCHAR(20), stamp {type})"
_FLASHBACK = ("GRANT EXECUTE ON SYS.DBMS_FLASHBACK TO {user}",)
CASES = {
    ("mssql", "change_tracking"): Case(
        _PLAIN,
        more=("ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON", "ALTER TABLE reg ENABLE CHANGE_TRACKING"),
    ),
    ("mssql", "cdc"): Case(
        _PLAIN,
        feed_table="dbo.reg",
        more=(
            "EXEC sys.sp_cdc_enable_db",
            "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'reg', @role_name = NULL",
        ),
        without=("SQLServerAgent",),
    ),
    ("mssql", "rowversion"): Case(
        "CREATE TABLE reg (id INTEGER PRIMARY KEY, state VARCHAR(20), rv rowversion)", column="rv"
    ),
    ("mssql", "change_table"): Case(
        _PLAIN,
        column="rv",
        feed_table="changes",
        feed_key="reg_id",
        more=("CREATE TABLE changes (reg_id INTEGER, rv rowversion)",),
        touch="INSERT INTO changes (reg_id) VALUES ({id})",
    ),
    ("mssql", "cursor"): Case(_STAMPED.format(type="datetime2(7)"), column="stamp", set_stamp="SYSDATETIME()"),
    ("oracle", "flashback"): Case(_PLAIN, admin=(*_FLASHBACK, "GRANT FLASHBACK ANY TABLE TO {user}")),
    ("oracle", "rowscn"): Case(_PLAIN + " ROWDEPENDENCIES", admin=_FLASHBACK),
    ("oracle", "change_table"): Case(
        _PLAIN,
        column="n",
        feed_table="changes",
        feed_key="reg_id",
        more=("CREATE TABLE changes (reg_id INTEGER, n INTEGER) ROWDEPENDENCIES",),
        touch="INSERT INTO changes VALUES ({id}, 0)",
        admin=_FLASHBACK,
    ),
    ("oracle", "cursor"): Case(
        _STAMPED.format(type="DATE"),
        column="stamp",
        set_stamp="SYSDATE",
        admin=("GRANT SELECT ON SYS.GV_$TRANSACTION TO {user}",),
    ),
    ("postgresql", "xmin"): Case(_PLAIN),
    ("postgresql", "cursor"): Case(_STAMPED.format(type="TIMESTAMP"), column="stamp", set_stamp="clock_timestamp()"),
    ("mysql", "cursor"): Case(_STAMPED.format(type="DATETIME(6)"), column="stamp", set_stamp="NOW(6)"),
}
ENGINES = ["mssql", "oracle", *filter(None, os.environ.get("HIS160_TEST_LIVE", "").split(","))]


@dataclass(slots=True)
class Bed:
    """The watch's connection, a window program's, and the feed between them."""

    case: Case
    feed: Feed
    spec: FeedSpec
    reader: Session
    window: Session

    def run(self, sql: str, values: Any) -> Rows:
        """As the lane runs it."""
        return self.reader.run(sql, values, max_rows=1000)

    def change(self, key: int, state: str) -> None:
        stamp = f", stamp = {self.case.set_stamp}" if self.case.set_stamp else ""
        self.window.run(f"UPDATE reg SET state = '{state}'{stamp} WHERE id = {key}", {}, max_rows=1)
        if self.case.touch:
            self.window.run(self.case.touch.format(id=key), {}, max_rows=1)

    def looked(self, position: Position, wanted: int) -> tuple[Position, bool]:
        """One look; whether it named the row, or everything."""
        found = self.feed.look(self.run, self.spec, position)
        return found.position, found.everything or wanted in {int(key) for key in found.keys}


@pytest.fixture
def bed(request: pytest.FixtureRequest, engine: str, rung: str) -> Iterator[Bed]:
    case = CASES[engine, rung]
    with ExitStack() as stack:
        if engine in ("mssql", "oracle"):
            settings: SourceSettings = stack.enter_context(opted_in(engine))
            admin = settings_from_url("his", os.environ[f"HIS160_TEST_{engine.upper()}_URL"])
        else:
            server = request.getfixturevalue("postgresql_server" if engine == "postgresql" else "mariadb_server")
            settings = admin = stack.enter_context(server.database())
        if "SQLServerAgent" in case.without:
            running = administrate(
                settings,
                [
                    "SELECT COUNT(*) FROM sys.dm_server_services WHERE servicename LIKE 'SQL Server Agent%' AND status = 4"
                ],
            )
            if not running[0][0]:
                pytest.skip("CDC needs the SQL Server Agent, which does not run on this server")
        if case.admin:
            administrate(admin, [text.format(user=settings.user) for text in case.admin])
        rows = [f"INSERT INTO reg (id, state) VALUES ({key}, 'BOOKED')" for key in range(1, 11)]
        administrate(settings, [case.table, *case.more, *rows])
        made = engine_for(settings)
        stack.callback(made.dispose)
        reader, window = made.open(read_only=True), made.open(read_only=False)
        stack.callback(reader.close)
        stack.callback(window.close)
        feed: Feed = registry.load(registry.rungs_of(engine)[rung])()
        spec = FeedSpec(rung, case.feed_table, case.feed_key, case.column)  # with the margin that a mapping has
        yield Bed(case, feed, spec, reader, window)


@pytest.mark.parametrize(("engine", "rung"), [key for key in CASES if key[0] in ENGINES])
def test_a_change_is_told_also_one_that_commits_late(bed: Bed, engine: str, rung: str) -> None:
    assert bed.feed.obstacles(bed.run, bed.spec) == []
    position = bed.feed.begin(bed.run, bed.spec)
    bed.window.begin()
    bed.change(3, "CANCELLED")
    bed.window.commit()
    told = False
    for _ in range(50 if rung == "cdc" else 3):  # CDC reads the log behind the writers
        position, seen = bed.looked(position, 3)
        told = told or seen
    assert told
    bed.window.begin()
    bed.change(7, "CANCELLED")  # stamped now, committed later: in between somebody has looked
    if engine != "mssql" or rung in ("change_tracking", "cdc"):  # there a reader waits for the row
        position, _ = bed.looked(position, 7)
    bed.window.commit()
    told = False
    for _ in range(50 if rung == "cdc" else 3):
        position, seen = bed.looked(position, 7)
        told = told or seen
    assert told
    found = {int(row[0]): row[1] for row in bed.run("SELECT id, state FROM reg", {}).rows}
    assert [found[key] for key in (3, 7, 8)] == ["CANCELLED", "CANCELLED", "BOOKED"]


def test_every_rung_has_a_case() -> None:
    ours = {(engine, rung) for engine in ("mssql", "oracle") for rung in registry.rungs_of(engine)}
    assert ours == {key for key in CASES if key[0] in ("mssql", "oracle")}
