"""Reports that a procedure or function of the HIS gives: PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from his_db.compiled_report import CompiledReport
from his_db.engine import SourceSettings
from his_db.errors import AnswerTooLarge, HisChanged
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.report_rows import row_values
from his_db.source import engine_for
from tests.servers import administrate

REPORT = """
schema = 1
[report.R1]
title = "日报"
object = "{object}"
call = "{call}"
params = [ {{ name = "p_from", from = "$from_date", date = "%Y%m%d" }}, {{ name = "p_to", from = "$to_date", date = "%Y%m%d" }} ]
columns = [ {{ name = "rq", title = "日期", kind = "date", date = "%Y%m%d" }}, {{ name = "xm", title = "姓名", kind = "text", mask = "name" }},
            {{ name = "je", title = "金额", kind = "fen", money = "yuan" }} ]
max_rows = 3
"""
OTHER = 'schema = 1\noperation = "CatalogService.ListDoctors"\nkind = "unsupported"\nwhy = "只有报表"\n'
POSTGRESQL = """
CREATE FUNCTION report_of(p_from varchar, p_to varchar) RETURNS TABLE (rq varchar, xm varchar, je numeric) LANGUAGE sql AS $$
  SELECT d, n, m FROM (VALUES ('20260301', '林某', 12.50), ('20260302', '欧阳某某', 0.01), ('20260302', '李', -3)) v(d, n, m)
  WHERE d BETWEEN p_from AND p_to
$$"""
MARIADB = """
CREATE PROCEDURE report_of(IN p_from VARCHAR(8), IN p_to VARCHAR(8))
BEGIN
  SELECT * FROM (SELECT '20260301' AS rq, '林某' AS xm, 12.50 AS je UNION ALL SELECT '20260302', '欧阳某某', 0.01
                 UNION ALL SELECT '20260302', '李', -3) v WHERE rq BETWEEN p_from AND p_to;
END"""
NOW = datetime(2026, 3, 2, 1, tzinfo=UTC)
FIRST, LAST = date(2026, 3, 1), date(2026, 3, 2)
ROWS = [["2026-03-01", "林*", 1250], ["2026-03-02", "欧**某", 1], ["2026-03-02", "李*", -300]]


@dataclass
class Taken:
    rows: list[list[Any]] = field(default_factory=list)

    def __call__(self, rows: Sequence[bytes]) -> None:
        self.rows += [list(row_values(row)) for row in rows]


def compiled(folder: Path, engine: str, text: str) -> CompiledReport:
    (folder / "reports.toml").write_text(text, encoding="utf-8")
    (folder / "other.toml").write_text(OTHER, encoding="utf-8")
    found = compile_generation(load_mapping_set(folder, sources={"his": engine}, timezone="Asia/Shanghai"))
    return found.reports["R1"]


def check(folder: Path, settings: SourceSettings, call: str) -> None:
    text = REPORT.format(object="report_of", call=call)
    engine = engine_for(settings)
    session = engine.open(read_only=True)
    try:
        report = compiled(folder, settings.engine, text)
        taken = Taken()
        reading = report.read(session, days=(FIRST, LAST), now=NOW, take=taken)
        assert (reading.rows, taken.rows) == (3, ROWS)
        one = Taken()
        assert report.read(session, days=(FIRST, FIRST), now=NOW, take=one).input_hash != reading.input_hash
        assert one.rows == ROWS[:1]
        with pytest.raises(AnswerTooLarge):
            few = compiled(folder, settings.engine, text.replace("max_rows = 3", "max_rows = 2"))
            few.read(session, days=(FIRST, LAST), now=NOW, take=Taken())
        with pytest.raises(HisChanged, match="column gone is missing"):
            other = compiled(folder, settings.engine, text.replace('name = "je"', 'name = "gone"'))
            other.read(session, days=(FIRST, LAST), now=NOW, take=Taken())
    finally:
        session.close()
        engine.dispose()


def test_postgresql(tmp_path: Path, postgresql_database: Callable[[], SourceSettings]) -> None:
    settings = postgresql_database()
    administrate(settings, [POSTGRESQL])
    check(tmp_path, settings, "function")


def test_mariadb(tmp_path: Path, mariadb_database: Callable[[], SourceSettings]) -> None:
    settings = mariadb_database()
    administrate(settings, [MARIADB])
    check(tmp_path, settings, "procedure")
