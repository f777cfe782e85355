"""Code values of live data, counted: in the sample HIS of three engines, and with codes that no map knows."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from his_db.document.problem import Problem, Severity
from his_db.engine import SourceSettings
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import settings_from_url
from his_db.workbench.check_online import OnlineCheck, check_online
from his_db.workbench.code_census import VALUES, take_census
from his_db.workbench.site import Site, connected
from his_db.workbench.usage import uses_of
from tests.servers import url_of

PACKS = Path(__file__).resolve().parents[2] / "his_db" / "packs"
PERIOD = "bd_dateslot.CODE_DATESLOT"


@pytest.fixture(scope="module")
def zebone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zebone") / "his.db"
    load_sample("zebone").create(f"sqlite:///{path}", today=hospital_now().date(), size=SMALL)
    return path


@pytest.fixture
def zebone(zebone_file: Path, tmp_path: Path) -> Site:
    shutil.copyfile(zebone_file, tmp_path / "his.db")
    shutil.copytree(PACKS / "zebone" / "mappings", tmp_path / "mappings")
    return Site(tmp_path / "mappings", {"his": settings_from_url("his", f"sqlite:///{tmp_path / 'his.db'}")})


def change(site: Site, sql: str) -> None:
    with closing(sqlite3.connect(site.sources["his"].database)) as database:
        database.execute(sql)
        database.commit()


def checked(site: Site) -> OnlineCheck:
    return check_online(site, site.load())


def found(check: OnlineCheck, code: str) -> list[Problem]:
    return [problem for problem in check.problems if problem.code == code]


@pytest.mark.parametrize("pack", ["winning", "bsoft"])
def test_every_code_column_of_a_pack_can_be_counted_and_is_known(
    pack: str,
    postgresql_database: Callable[[], SourceSettings],
    mariadb_database: Callable[[], SourceSettings],
) -> None:
    settings = (postgresql_database if pack == "winning" else mariadb_database)()
    url = url_of(settings).replace("mysql://", "mysql+pymysql://")
    load_sample(pack).create(url, today=hospital_now().date(), size=SMALL)
    check = checked(Site(PACKS / pack / "mappings", {"his": settings}))
    assert found(check, "H513") == found(check, "H515") == []
    counted = {(census.coded.spec.codes, census.coded.field.name) for census in check.censuses if census.rows}
    assert {("period", "period"), ("sex", "sex"), ("pay_mode", "method"), ("", "state")} <= counted


def test_a_new_code_is_found_before_a_call_meets_it_with_the_line_to_add(zebone: Site) -> None:
    assert found(checked(zebone), "H513") == []
    change(zebone, "UPDATE bd_dateslot SET CODE_DATESLOT = '0303' WHERE CODE_DATESLOT = '0202'")
    check = checked(zebone)
    (problem,) = found(check, "H513")
    assert problem.severity is Severity.ERROR
    assert problem.place.file == "appointment/get_appointment.toml"  # the first of all that read the column
    assert '"0303"×1' in problem.message
    assert PERIOD.lower() in problem.message.lower()
    assert "of 3 rows" in problem.message
    assert "codes/period.toml" in problem.fix
    assert '{ his = "0303", is = "MORNING|' in problem.fix
    assert '{ his = "0303"' in problem.fix_zh
    assert not found(check, "H514") or all("period" not in other.message for other in found(check, "H514"))


def test_what_otherwise_hides_is_told_once_as_a_warning(zebone: Site) -> None:
    change(zebone, "UPDATE pi_master SET DT_IDTYPE = '77' WHERE DT_IDTYPE = '03'")
    (problem,) = found(checked(zebone), "H514")  # two operations read the column
    assert problem.severity is Severity.WARNING
    assert '"77"×1' in problem.message
    assert '"99" is told' in problem.message


def test_personal_values_are_counted_and_not_shown(zebone: Site) -> None:
    codes = zebone.folder / "codes" / "sex.toml"
    codes.write_text(codes.read_text("utf-8").replace('otherwise = "0"', 'otherwise = "refuse"'), "utf-8")
    change(zebone, "UPDATE pi_master SET DT_SEX = '张三丰' WHERE rowid = 1")
    (problem,) = found(checked(zebone), "H513")
    assert "***(3)×1" in problem.message
    assert "张三丰" not in str(problem)
    assert 'his = "…"' in problem.fix


def test_an_enum_without_a_map_and_an_expression(zebone: Site) -> None:
    schedules = zebone.folder / "catalog" / "list_schedules.toml"
    changed = schedules.read_text("utf-8").replace("'SUSPENDED' ELSE 'OPEN'", "'SUSPENDED' ELSE 'Open'")
    schedules.write_text(changed, "utf-8")
    (problem,) = (item for item in found(checked(zebone), "H513") if item.place.file.endswith("list_schedules.toml"))
    assert '"Open"×' in problem.message
    assert "OPEN" in problem.fix


def test_what_is_no_code_column_is_not_listed(zebone: Site) -> None:
    patients = zebone.folder / "patient" / "find_patients.toml"
    text = patients.read_text("utf-8")
    assert "p.DT_SEX" in text
    patients.write_text(text.replace("p.DT_SEX AS", "p.PK_PI AS"), "utf-8")
    (problem,) = found(checked(zebone), "H515")
    assert f"more than {VALUES} different values" in problem.message
    assert problem.severity is Severity.WARNING


def test_only_the_newest_rows_of_a_large_table_are_read(zebone: Site) -> None:
    change(
        zebone,
        "UPDATE bl_ext_pay SET EU_PAYTYPE = '88' WHERE EXISTS (SELECT 1 FROM bl_ext_pay o"
        " WHERE o.PK_EXTPAY < bl_ext_pay.PK_EXTPAY) IS FALSE",
    )
    uses = [use for use in uses_of(zebone.load()) if use.label == "PaymentService.GetPayment"]
    with connected(zebone.sources["his"]) as connection:
        catalogue = connection.catalogue()
        few = take_census(connection, uses, catalogue, rows=10)
        whole = take_census(connection, uses, catalogue)
        late = take_census(connection, uses, catalogue, clock=iter([0.0, *[1e9] * 99]).__next__)
    (method,) = (census for census in few if census.coded.field.name == "method")
    assert (method.rows, method.is_whole) == (10, False)
    assert "88" not in {count.text for count in method.counts}
    (method,) = (census for census in whole if census.coded.field.name == "method")
    assert method.is_whole
    assert "88" in {count.text for count in method.counts}
    assert {census.failed.en for census in late} == {"no time was left"}


def test_counting_stops_at_its_time(zebone: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that never ends: the statement's time-out ends it, and the finding says so."""
    change(zebone, "ALTER TABLE bl_ext_pay RENAME TO bl_ext_pay_real")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
    change(zebone, f"CREATE VIEW bl_ext_pay AS SELECT * FROM bl_ext_pay_real WHERE ({endless}) > 0")
    monkeypatch.setattr("his_db.workbench.code_census.SECONDS", 0.2)
    problems = found(checked(zebone), "H515")
    assert problems
    assert all("it took more than 0.2 s" in problem.message for problem in problems)
