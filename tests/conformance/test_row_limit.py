"""A query that forgot its WHERE: a million rows end at the limit, on a real SQLite, PostgreSQL, MariaDB."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from his160.v1 import catalog_pb2

from his_db.engine import Engine, Session, SourceSettings
from his_db.errors import AnswerTooLarge, MappingMismatch
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import engine_for

NOW = datetime(2026, 3, 2, 9, 30)
MANY = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT i AS id, 'x' AS name FROM n ORDER BY 1",
    "postgresql": "SELECT i AS id, 'x' AS name FROM generate_series(1, 1000000) AS n(i) ORDER BY i",
    "mysql": "SELECT seq AS id, 'x' AS name FROM seq_1_to_1000000 ORDER BY seq",
}
LIST = """
schema = 1
operation = "CatalogService.ListDepartments"
kind = "query"
sql = "{sql}"
[[result]]
fields = [ {{ to = "department_id", column = "id" }}, {{ to = "name", column = "name" }} ]
"""
ONE = """
schema = 1
operation = "AppointmentService.GetAppointment"
kind = "query"
sql = "{sql}"
[[result]]
fields = [ {{ to = "appointment.appointment_id", column = "id" }}, {{ to = "appointment.state", const = "BOOKED" }} ]
"""


def made(folder: Path, engine: str) -> Generation:
    for name, text in (("list", LIST), ("one", ONE)):
        (folder / f"{name}.toml").write_text(text.format(sql=MANY[engine]), encoding="utf-8")
    return compile_generation(load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai"))


def check(generation: Generation, settings: SourceSettings, *, keeps: bool = True) -> None:
    """`keeps`: the connection lives on; MariaDB cannot be told to stop sending, so its connection is the price."""
    engine = engine_for(settings)
    session = engine.open(read_only=True)
    many = generation.operation("CatalogService.ListDepartments")
    one = generation.operation("AppointmentService.GetAppointment")
    try:
        for _ in range(2):  # the second time the engine knows how large the answer was
            tracemalloc.start()
            try:
                with pytest.raises(AnswerTooLarge):
                    many.run(session, catalog_pb2.ListDepartmentsRequest(), now=NOW)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 20_000_000
            session = _after(session, engine, keeps=keeps)
            with pytest.raises(MappingMismatch, match="more than one row"):
                one.run(session, one.operation.request_class(), now=NOW)
            session = _after(session, engine, keeps=keeps)
        assert session.run("SELECT 1", {}, max_rows=1).rows == [(1,)]
    finally:
        session.close()
        engine.dispose()


def _after(session: Session, engine: Engine, *, keeps: bool) -> Session:
    assert session.alive() == keeps
    if keeps:
        return session
    session.close()
    return engine.open(read_only=True)


def test_sqlite(tmp_path: Path, sqlite_path: Path) -> None:
    (tmp_path / "set").mkdir()
    settings = SourceSettings(name="his", engine="sqlite", database=str(sqlite_path))
    check(made(tmp_path / "set", "sqlite"), settings)


def test_postgresql(tmp_path: Path, postgresql_database: Callable[[], SourceSettings]) -> None:
    check(made(tmp_path, "postgresql"), postgresql_database())


def test_mariadb(tmp_path: Path, mariadb_database: Callable[[], SourceSettings]) -> None:
    check(made(tmp_path, "mysql"), mariadb_database(), keeps=False)
