"""Feeds named in mapping files, on real databases, through everything that the daemon has between them and the events."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlglot
from his160.v1 import common_pb2

from his_db import registry
from his_db.access import HisAccess
from his_db.document.problem import DocumentError
from his_db.engine import SourceSettings
from his_db.feed import FeedSpec, PositionLost, Rows, SessionRun
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source, engine_for
from his_db.workbench.probe_feeds import probe_table
from his_db.workbench.site import connected
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.store import RowState, StreamRow
from sync.stores.sqlite import SqliteStore
from tests.bounds import PATIENCE
from tests.servers import administrate, url_of

UNSUPPORTED = 'schema = 1\noperation = "PaymentService.RefundPayment"\nkind = "unsupported"\nwhy = "窗口退费"\n'
WATCH = """
schema = 1
watch = "orders"
subject = "appointment"
key = "appointment_id"
reconcile = "1h"
sql = "SELECT id, order_no, patid, sch, state FROM reg WHERE state <> 'HALF'"
fields = [
  {{ to = "appointment_id", column = "id" }},
  {{ to = "order_no", column = "order_no" }},
  {{ to = "patient_id", column = "patid" }},
  {{ to = "schedule_id", column = "sch" }},
  {{ to = "state", column = "state" }},
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED -> CANCELLED"
{feed}
"""
CASES = {
    ("postgresql", "xmin"): 'rung = "xmin", table = "reg", key = "id"',
    ("postgresql", "cursor"): 'rung = "cursor", table = "reg", key = "id", column = "stamp", margin = "0s"',
    ("postgresql", "change_table"): 'rung = "change_table", table = "changes", key = "reg_id", column = "n"',
    ("mysql", "cursor"): 'rung = "cursor", table = "reg", key = "id", column = "stamp"',
    ("mysql", "change_table"): 'rung = "change_table", table = "changes", key = "reg_id", column = "n"',
    ("sqlite", "change_table"): 'rung = "change_table", table = "changes", key = "reg_id", column = "n"',
}
NUMBER = {"postgresql": "SERIAL PRIMARY KEY", "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY"}
STAMP = {"postgresql": "clock_timestamp()", "mysql": "NOW(6)", "sqlite": "datetime('now')"}


@dataclass(slots=True)
class Bed:
    settings: SourceSettings
    access: HisAccess
    capture: FedDiff
    store: SqliteStore
    reads: list[int | None]

    async def poll(self) -> dict[str, str]:
        batch = await self.capture.poll()
        rows = [
            RowState(c.key, c.version, None if c.after is None else c.after.SerializeToString(), utc_now())
            for c in batch.changes
        ]
        await self.store.write(lambda work: work.rows.put_many("orders", [*batch.quiet, *rows]))
        if batch.baseline:
            await self.store.write(lambda work: work.rows.put_stream(StreamRow("orders", utc_now())))
        self.capture.confirm(batch.changes)
        name = common_pb2.AppointmentState.Name
        return {
            c.key: "gone" if c.after is None else name(c.after.state).removeprefix("APPOINTMENT_STATE_")  # type: ignore[attr-defined]
            for c in batch.changes
        }

    def write(self, key: int, state: str) -> None:
        stamp = STAMP[self.settings.engine]
        administrate(
            self.settings, [f"UPDATE reg SET state = '{state}', stamp = {stamp} WHERE id = {key}", _change(key)]
        )


def _change(key: int) -> str:
    return f"INSERT INTO changes (reg_id) VALUES ({key})"


@pytest.fixture
async def bed(request: pytest.FixtureRequest, engine: str, rung: str, tmp_path: Path) -> AsyncIterator[Bed]:
    if engine == "sqlite":
        settings = SourceSettings(name="his", engine="sqlite", database=str(request.getfixturevalue("sqlite_path")))
    else:
        factory: Callable[[], SourceSettings] = request.getfixturevalue(
            "postgresql_database" if engine == "postgresql" else "mariadb_database"
        )
        settings = factory()
    precise = "TEXT" if engine == "sqlite" else ("DATETIME(6)" if engine == "mysql" else "TIMESTAMP(6)")
    number = NUMBER.get(engine, "INTEGER PRIMARY KEY AUTOINCREMENT")
    rows = ", ".join(f"({key}, 'T{key}', 'P1', 'S1', 'BOOKED', NULL)" for key in range(1, 51))
    administrate(
        settings,
        [
            "CREATE TABLE reg (id INTEGER PRIMARY KEY, order_no VARCHAR(20), patid VARCHAR(20), sch VARCHAR(20), "
            f"state VARCHAR(20), stamp {precise})",
            f"CREATE TABLE changes (n {number}, reg_id INTEGER)",
            f"INSERT INTO reg VALUES {rows}",
        ],
    )
    folder = tmp_path / "mappings"
    folder.mkdir()
    text = WATCH.format(feed="[[feed]]\n" + "\n".join(CASES[engine, rung].split(", ")))
    (folder / "orders.toml").write_text(text, encoding="utf-8")
    (folder / "refund.toml").write_text(UNSUPPORTED, encoding="utf-8")
    found = load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai")
    source = Source(settings, {})
    access = HisAccess({"his": source}, compile_generation(found))
    reads: list[int | None] = []
    plain = access.snapshot

    async def counted(name: str, **options: Any) -> Any:
        keys = options.get("keys")
        reads.append(None if keys is None else len(keys))
        return await plain(name, **options)

    access.snapshot = counted  # type: ignore[method-assign]
    store = SqliteStore(tmp_path / "state.db", utc_now)
    capture = FedDiff(access, store, "orders", clock=utc_now)
    try:
        yield Bed(settings, access, capture, store, reads)
    finally:
        await store.close()
        await source.close()


@pytest.mark.parametrize(("engine", "rung"), list(CASES))
async def test_a_change_is_read_by_its_key(bed: Bed, engine: str, rung: str) -> None:
    assert len(await bed.poll()) == 50
    bed.write(7, "CANCELLED")
    assert await bed.poll() == {"7": "CANCELLED"}
    assert bed.reads[0] is None
    assert None not in bed.reads[1:], "the window was read again"
    assert await bed.poll() == {}
    bed.write(8, "HALF")  # vanishes from the watch: only the window can judge it
    assert await bed.poll() == {}
    assert bed.reads[-1] is None
    bed.write(8, "PAID")
    seen: dict[str, str] = {}
    for _ in range(3):
        seen |= await bed.poll()
    assert seen == {"8": "PAID"}
    assert bed.capture.missed == 0
    assert (bed.capture.rung, bed.capture.trouble) == ({"xmin": "B", "cursor": "C", "change_table": "A"}[rung], "")


@pytest.mark.parametrize(("engine", "rung"), [("postgresql", "change_table"), ("mysql", "change_table")])
async def test_a_feed_that_breaks_is_told_and_nothing_is_missed(bed: Bed, engine: str, rung: str) -> None:
    await bed.poll()
    administrate(bed.settings, ["ALTER TABLE changes RENAME TO changes_away"])
    administrate(bed.settings, ["UPDATE reg SET state = 'CANCELLED' WHERE id = 3"])
    assert await bed.poll() == {"3": "CANCELLED"}
    assert bed.capture.rung == "D"
    assert bed.capture.trouble
    administrate(bed.settings, ["ALTER TABLE changes_away RENAME TO changes"])
    await bed.poll()
    assert (bed.capture.rung, bed.capture.trouble) == ("A", "")


def test_a_rollback_does_not_have_each_look_read_everything_behind_it(
    mariadb_database: Callable[[], SourceSettings],
) -> None:
    """MySQL gives a number of the change table for good, also to what is rolled back; a late one is still named."""
    settings = mariadb_database()
    insert = "INSERT INTO changes (reg_id) VALUES (%s)"
    administrate(settings, ["CREATE TABLE changes (n BIGINT AUTO_INCREMENT PRIMARY KEY, reg_id INTEGER)"])
    spec = FeedSpec("change_table", "changes", "reg_id", "n")
    feed: Any = registry.load(registry.rungs_of("mysql")["change_table"])()
    engine = engine_for(settings)
    session = engine.open(read_only=True)
    fetched: list[int] = []
    plain = SessionRun(session, max_rows=1000)

    def run(sql: str, values: Mapping[str, Any]) -> Rows:
        rows = plain(sql, values)
        fetched.append(len(rows.rows))
        return rows

    late, gone, his = (_mysql(settings) for _ in range(3))
    try:
        position = feed.begin(run, spec)
        late.cursor().execute(insert, (1,))
        gone.cursor().execute(insert, (2,))
        gone.rollback()
        his.cursor().executemany(insert, [(key,) for key in range(100, 200)])
        his.commit()
        looked = feed.look(run, spec, position)
        assert looked.keys == set(range(100, 200))
        fetched.clear()
        looked = feed.look(run, spec, looked.position)
        assert (looked.keys, sum(fetched)) == (frozenset(), 1)  # the question for the highest number
        late.commit()
        looked = feed.look(run, spec, looked.position)
        assert looked.keys == {1}
        assert len(looked.position["gaps"]) == 1
    finally:
        for connection in (late, gone, his):
            connection.close()
        session.close()
        engine.dispose()


def _mysql(settings: SourceSettings) -> Any:
    return pymysql.connect(
        host=settings.host, port=settings.port or 3306, user=settings.user, password=settings.password,
        database=settings.database, autocommit=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("feed", "code"),
    [
        ('rung = "rowversion"\ntable = "reg"', "H226"),
        ('rung = "cursor"\ntable = "reg"', "H226"),
        ('rung = "xmin"\ntable = "reg; DROP TABLE reg"', "H232"),
        ('rung = "xmin"\ntable = "reg"\nkey = "id, state"', "H232"),
        ('rung = "xmin"\ntable = "reg"\nwhere = "sch = :x"', "H221"),
        ('rung = "xmin"\ntable = "reg"\nwhere = "1 = 1; DELETE FROM reg"', "H226"),
        ('rung = "xmin"\ntable = "reg"\nwhere = "id IN (SELECT id FROM other)"', "H226"),
        ('rung = "xmin"\ntabel = "reg"', "H1"),
    ],
)
def test_a_feed_that_cannot_work_is_a_problem_with_its_place(tmp_path: Path, feed: str, code: str) -> None:
    (tmp_path / "orders.toml").write_text(WATCH.format(feed=f"[[feed]]\n{feed}"), encoding="utf-8")
    with pytest.raises(DocumentError) as found:
        load_mapping_set(tmp_path, sources={"his": "postgresql"}, timezone="Asia/Shanghai")
    assert any(problem.code.startswith(code) and problem.place.line > 15 for problem in found.value.problems)


ELSEWHERE = [(engine, rung) for engine in ("mssql", "oracle") for rung in registry.rungs_of(engine)]


@pytest.mark.parametrize(("engine", "rung"), ELSEWHERE)
def test_statements_of_engines_that_are_not_here_are_sql_of_theirs(engine: str, rung: str) -> None:
    """Written down with every statement that a begin and a look send, and read by sqlglot in the engine's dialect."""
    feed: Any = registry.load(registry.rungs_of(engine)[rung])()
    spec = FeedSpec(rung, "dbo.reg" if engine == "mssql" else "his.reg", "reg_id", "rv", where="del_flag = '0'")
    sent: list[str] = []
    run = _scripted(sent)
    position = feed.begin(run, spec)
    feed.look(run, spec, position)
    golden = Path(__file__).parents[1] / "golden" / "sql" / engine / f"feed_{rung}.sql"
    text = ";\n".join(dict.fromkeys(sent)) + "\n"
    assert golden.read_text(encoding="utf-8") == text, f"write it anew when it is right:\n{text}"
    for statement in dict.fromkeys(sent):
        if "CHANGETABLE" in statement or "VERSIONS BETWEEN" in statement:
            continue  # sqlglot does not know these two
        assert isinstance(
            sqlglot.parse_one(statement, read="tsql" if engine == "mssql" else "oracle"), sqlglot.exp.Select
        )


def _scripted(sent: list[str]) -> Callable[..., Rows]:
    """A server that moves on with every question about where it stands."""
    counter = iter(range(100, 1000))

    def run(sql: str, values: Any) -> Rows:
        sent.append(sql)
        number = next(counter)
        now = utc_now().replace(tzinfo=None)
        answers: dict[str, tuple[Any, ...]] = {
            "CHANGE_TRACKING_MIN": (1, number),
            "fn_cdc_get_min_lsn": (b"\x01", bytes([number % 250])),
            "MIN_ACTIVE_ROWVERSION": (number.to_bytes(8, "big"),),
            "SYSDATETIME": (now, None),
            "GET_SYSTEM_CHANGE_NUMBER": (number,),
            "SYSDATE,": (now, None),
        }
        for words, row in answers.items():
            if words in sql:
                return Rows(("a", "b"), [row], -1)
        return Rows(("reg_id",), [(7,)], -1)

    return run


@pytest.mark.parametrize(
    ("engine", "rung", "answers"),
    [
        ("mssql", "change_tracking", [(1, 50), (60, 90)]),
        ("mssql", "change_tracking", [(1, 50), (1, 40)]),
        ("mssql", "change_tracking", [(1, 50), (None, None)]),
        ("mssql", "cdc", [(b"\x01", b"\x05"), (b"\x07", b"\x09")]),
        ("mssql", "cdc", [(b"\x01", b"\x05"), (b"\x01", b"\x03")]),
        ("mssql", "rowversion", [(b"\0\0\0\0\0\0\0\x09",), (b"\0\0\0\0\0\0\0\x03",)]),
        ("oracle", "flashback", [(900,), (800,)]),
        ("oracle", "rowscn", [(900,), (800,)]),
    ],
)
def test_an_expired_or_restored_position_is_said_never_skipped(engine: str, rung: str, answers: list[Any]) -> None:
    feed: Any = registry.load(registry.rungs_of(engine)[rung])()
    script = iter(answers)
    spec = FeedSpec(rung, "dbo.reg", "reg_id", "rv")
    position = feed.begin(lambda sql, values: Rows(("a",), [next(script)], -1), spec)
    with pytest.raises(PositionLost):
        feed.look(lambda sql, values: Rows(("a",), [next(script)], -1), spec, position)


@pytest.mark.parametrize(("engine", "rung"), [("postgresql", "xmin"), ("mysql", "cursor")])
async def test_the_probe_says_which_rungs_a_table_allows_and_why_not(bed: Bed, engine: str, rung: str) -> None:
    with connected(bed.settings) as connection:
        found = {item.rung: item for item in probe_table(connection, FeedSpec("", "reg", "id", "stamp"))}
        assert found[rung].is_usable, found[rung].obstacles
        assert found["snapshot"].grade == "D"
        wrong = {item.rung: item for item in probe_table(connection, FeedSpec("", "nowhere", "id"))}
    assert not wrong[rung].is_usable
    assert all(obstacle.words.zh and obstacle.fix.zh for item in wrong.values() for obstacle in item.obstacles)
    assert [item.grade for item in found.values()] == sorted(item.grade for item in found.values())
    url = url_of(bed.settings)
    done = subprocess.run(
        [sys.executable, "-m", "agent", "watch", "probe", "reg", "--key", "id", "--column", "stamp", "--source-url", url, "--mapping", "pack:zebone"],
        capture_output=True, encoding="utf-8", timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[[feed]]" in done.stdout
