"""Opt-in: the DBA's tools on the sample HIS of SQL Server and of Oracle, on a server of yours.

What `tests/integration/test_workbench.py` and `tests/conformance` do with PostgreSQL and MariaDB. That this file itself is
right can be seen there: `HIS160_TEST_LIVE=postgresql,mysql` runs it on these two as well.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import appointment_pb2, catalog_pb2

from his_db.access import HisAccess
from his_db.catalogue.reader import reader_for
from his_db.contract import operation
from his_db.document.problem import Severity
from his_db.engine import SourceSettings
from his_db.errors import AnswerTooLarge, HisChanged
from his_db.generation import compile_generation
from his_db.guard import GuardedHis
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import Source, engine_for, settings_from_url
from his_db.workbench.check_online import OnlineCheck, check_online
from his_db.workbench.discover import discover
from his_db.workbench.drift import compare, degraded, lock_of
from his_db.workbench.grants import grants
from his_db.workbench.impact import impact
from his_db.workbench.scaffold import scaffold_table
from his_db.workbench.site import Site, connected
from his_db.workbench.trial_run import preview, rehearse
from tests.engine_beds import numbers
from tests.live_mappings import mappings_of
from tests.servers import administrate, opted_in, url_of

NOW = datetime(2026, 3, 2, 9, 30)
DEPARTMENTS = "CatalogService.ListDepartments"
UNLOCK = "AppointmentService.UnlockSlot"
PROCEDURE = """
schema = 1
operation = "AppointmentService.UnlockSlot"
kind = "procedure"
object = "{name}"
commits = "{commits}"
params = [ {{ name = "{at}p_ddh", from = "order_no" }}, {{ name = "{at}o_code", dir = "out", type = "int" }} ]
[outcome]
from = "{at}o_code"
ok = [0]
otherwise = "unknown"
[[result]]
fields = [ {{ to = "lock_id", column = "{at}p_ddh" }} ]
"""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server says it. `department`: its table, and (column, other name) that ListDepartments reads; `rename` takes
    (table, from, to); `make` and `drop` an account (name, password); `procedure` (name, body, more parameters)."""

    sample: str
    department: str
    column: tuple[str, str]
    patient: str
    rename: str
    make: tuple[str, ...]
    drop: tuple[str, ...]
    procedure: str
    gone: str = "DROP PROCEDURE {name}"
    commit: str = "COMMIT"
    at: str = ""


DIALECTS = {
    "mssql": Dialect(
        "winning_mssql",
        "dbo.YY_KSBMK",
        ("py", "py2"),
        "dbo.SF_BRXXK",
        "EXEC sp_rename '{table}.{old}', '{new}', 'COLUMN'",
        ("CREATE LOGIN {name} WITH PASSWORD = '{password}'", "CREATE USER {name} FOR LOGIN {name}"),
        ("DROP USER {name}", "DROP LOGIN {name}"),
        "CREATE PROCEDURE {name} @p_ddh varchar(64){more}, @o_code int OUTPUT AS"
        " BEGIN INSERT INTO dbo.his160_note VALUES (@p_ddh); {commit} SET @o_code = 0; END",
        commit="COMMIT TRANSACTION;",
        at="@",
    ),
    "oracle": Dialect(
        "neusoft_oracle",
        "COM_DEPARTMENT",
        ("SPELL_CODE", "SPELL_CODE2"),
        "COM_PATIENTINFO",
        "ALTER TABLE {table} RENAME COLUMN {old} TO {new}",
        ('CREATE USER {name} IDENTIFIED BY "{password}"',),
        ("DROP USER {name} CASCADE",),
        "CREATE PROCEDURE {name}(p_ddh VARCHAR2{more}, o_code OUT NUMBER) AS"
        " BEGIN INSERT INTO his160_note VALUES (p_ddh); {commit} o_code := 0; END;",
        commit="COMMIT;",
    ),
    "postgresql": Dialect(
        "winning",
        "his.yy_ksbmk",
        ("py", "py2"),
        "his.sf_brxxk",
        "ALTER TABLE {table} RENAME COLUMN {old} TO {new}",
        ("CREATE ROLE {name} LOGIN PASSWORD '{password}'",),
        ("DROP OWNED BY {name}", "DROP ROLE {name}"),
        "CREATE PROCEDURE {name}(p_ddh varchar{more}, OUT o_code int) LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO his160_note VALUES (p_ddh); o_code := 0; END $$",
    ),
    "mysql": Dialect(
        "bsoft",
        "MS_GHKS",
        ("PYDM", "PYDM2"),
        "MS_BRDA",
        "ALTER TABLE {table} RENAME COLUMN {old} TO {new}",
        ("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'",),
        ("DROP USER '{name}'@'%'",),
        "CREATE PROCEDURE {name}(IN p_ddh VARCHAR(64){more}, OUT o_code INT)"
        " BEGIN INSERT INTO his160_note VALUES (p_ddh); {commit} SET o_code = 0; END",
        commit="COMMIT;",
    ),
}
ENGINES = ["mssql", "oracle", *filter(None, os.environ.get("HIS160_TEST_LIVE", "").split(","))]


@dataclass(frozen=True, slots=True)
class Hospital:
    """The pack on its sample HIS. `run`: statements of the owner; `admin`: of the server's administrator."""

    engine: str
    settings: SourceSettings
    admin_settings: SourceSettings
    folder: Path

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.engine]

    @property
    def site(self) -> Site:
        return Site(self.folder, {"his": self.settings})

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        return administrate(self.settings, list(statements))

    def admin(self, *statements: str) -> None:
        administrate(self.admin_settings, list(statements))

    @contextmanager
    def renamed_column(self) -> Iterator[None]:
        """A patch of the vendor: a column of the departments has another name."""
        old, new = self.dialect.column
        rename = self.dialect.rename
        self.run(rename.format(table=self.dialect.department, old=old, new=new))
        try:
            yield
        finally:
            self.run(rename.format(table=self.dialect.department, old=new, new=old))

    @contextmanager
    def procedure(self, name: str, *, commits: bool = False, more: str = "") -> Iterator[None]:
        commit = self.dialect.commit if commits else ""
        self.run(self.dialect.procedure.format(name=name, commit=commit, more=more))
        try:
            yield
        finally:
            self.run(self.dialect.gone.format(name=name))

    def own(self, folder: Path, name: str, commits: str = "caller") -> Site:
        """A site whose only mapping calls that procedure."""
        folder.mkdir(exist_ok=True)
        text = PROCEDURE.format(name=name, commits=commits, at=self.dialect.at)
        (folder / "unlock.toml").write_text(text, encoding="utf-8")
        return Site(folder, {"his": self.settings})


@pytest.fixture(scope="module", params=ENGINES)
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    engine = request.param
    sample = DIALECTS[engine].sample
    with ExitStack() as stack:
        if engine in ("mssql", "oracle"):
            settings = stack.enter_context(opted_in(engine))
            url = url_of(settings)
            admin = settings_from_url("his", os.environ[f"HIS160_TEST_{engine.upper()}_URL"])
        else:
            server = request.getfixturevalue("postgresql_server" if engine == "postgresql" else "mariadb_server")
            settings = stack.enter_context(server.database())
            driver = "postgresql+psycopg" if engine == "postgresql" else "mysql+pymysql"
            url = url_of(settings).replace(engine, driver, 1)
            admin = settings
        load_sample(sample).create(url, today=hospital_now().date(), size=SMALL)
        if engine == "mssql":
            admin = settings  # accounts are made in the database of the test
        made = Hospital(engine, settings, admin, mappings_of(sample, tmp_path_factory.mktemp("pack")))
        made.run("CREATE TABLE his160_note (ddh VARCHAR(64))")
        yield made


def codes(found: OnlineCheck) -> list[str]:
    return [problem.code for problem in found.problems if problem.severity is Severity.ERROR]


def request(name: str, /, **fields: Any) -> Any:
    return operation(name).request_class(**fields)


def test_nothing_is_wrong_online_and_deep(hospital: Hospital) -> None:
    found = check_online(hospital.site, hospital.site.load(), deep=True)
    assert codes(found) == [], found.problems.render("en")
    (source,) = found.sources
    assert source.version
    assert source.objects
    with connected(hospital.settings) as connection:
        assert reader_for(hospital.engine).charset(connection.session) == ""


def test_discover_and_a_scaffold_that_runs(hospital: Hospital, tmp_path: Path) -> None:
    with connected(hospital.settings) as connection:
        catalogue = connection.catalogue()
        made = scaffold_table(operation(DEPARTMENTS), catalogue, hospital.dialect.department)
    found = discover(catalogue)
    for subject, table in (("department", hospital.dialect.department), ("patient", hospital.dialect.patient)):
        names = [match.table.rpartition(".")[2].lower() for match in found[subject]]
        assert table.rpartition(".")[2].lower() in names, subject
    (tmp_path / "departments.toml").write_text(made.text, encoding="utf-8")
    site = Site(tmp_path, {"his": hospital.settings})
    trial = preview(site, site.load(), DEPARTMENTS, request(DEPARTMENTS, page_size=2))
    assert trial.error is None
    assert trial.message is not None
    assert len(trial.message["departments"]) == 2


def test_a_renamed_column_is_found_and_degrades_its_operation_alone(hospital: Hospital) -> None:
    mapping_set = hospital.site.load()
    before = lock_of(hospital.site, mapping_set)
    assert compare(before, lock_of(hospital.site, mapping_set, before)) == ()
    with hospital.renamed_column():
        found = check_online(hospital.site, mapping_set)
        assert [problem.place.file for problem in found.problems if problem.code == "H503"]
        changes = compare(before, lock_of(hospital.site, mapping_set, before))
        assert DEPARTMENTS in degraded(changes)
        assert {name.partition(".")[0] for name in degraded(changes)} == {"CatalogService"}
    assert codes(check_online(hospital.site, mapping_set)) == []


def test_what_grants_prints_is_enough_and_no_more(hospital: Hospital) -> None:
    name, password = f"his160_{secrets.token_hex(4)}", f"Aa1_{secrets.token_hex(8)}"
    script = grants(hospital.site, hospital.site.load(), account=name)["his"]
    hospital.admin(*(text.format(name=name, password=password) for text in hospital.dialect.make))
    try:
        account = replace(hospital.settings, user=name, password=password)
        if hospital.engine == "oracle":
            account = replace(account, schema=hospital.settings.user)
        hospital.admin(*script.statements)
        site = Site(hospital.folder, {"his": account})
        found = check_online(site, site.load(), deep=hospital.engine != "oracle")
        every = {problem.code for problem in found.problems}
        assert not {"H502", "H505", "H508", "H509", "H511"} & every, found.problems.render("en")
        trial = preview(site, site.load(), DEPARTMENTS, request(DEPARTMENTS, page_size=2))
        assert trial.error is None
        less = [text.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ", 1) for text in script.statements]
        table = hospital.dialect.department.rpartition(".")[2].lower()
        hospital.admin(*(text for text in less if table in text.lower()))
        missing = check_online(site, site.load()).problems
        assert {problem.code for problem in missing} & {"H502", "H508"}, missing.render("en")
    finally:
        hospital.admin(*(text.format(name=name) for text in hospital.dialect.drop))


def test_preview_and_impact(hospital: Hospital) -> None:
    site = hospital.site
    mapping_set = site.load()
    trial = preview(site, mapping_set, DEPARTMENTS, request(DEPARTMENTS, page_size=3))
    assert trial.error is None
    assert trial.message is not None
    assert len(trial.message["departments"]) == 3
    report = impact(site, mapping_set)
    assert {use.label for use in report.uses} >= {DEPARTMENTS}
    names = {item.name.lower() for use in report.uses for item in use.objects}
    assert any(name.endswith(hospital.dialect.department.rpartition(".")[2].lower()) for name in names)


def test_a_rehearsal_leaves_nothing_and_a_commit_is_found_out(hospital: Hospital, tmp_path: Path) -> None:
    with hospital.procedure("usp_quiet"):
        site = hospital.own(tmp_path / "quiet", "usp_quiet")
        trial = rehearse(site, site.load(), UNLOCK, request(UNLOCK, order_no="Q1"))
        assert (trial.error, trial.committed) == (None, False)
        assert hospital.run("SELECT ddh FROM his160_note") == []
    if hospital.engine == "postgresql":
        return  # it lets no procedure end its caller's transaction
    with hospital.procedure("usp_loud", commits=True):
        site = hospital.own(tmp_path / "loud", "usp_loud")
        trial = rehearse(site, site.load(), UNLOCK, request(UNLOCK, order_no="L1"))
        assert trial.committed
        assert hospital.run("SELECT ddh FROM his160_note") == [("L1",)]
        hospital.run("DELETE FROM his160_note")


async def test_a_procedure_with_another_parameter_degrades_its_operation(hospital: Hospital, tmp_path: Path) -> None:
    """A patch at night: found by the check, and by the first call."""
    more = {"mssql": ", @p_ip varchar(20)", "oracle": ", p_ip VARCHAR2", "postgresql": ", p_ip varchar"}
    site = hospital.own(tmp_path / "set", "usp_patched")
    with hospital.procedure("usp_patched"):
        mapping_set = site.load()
        assert codes(check_online(site, mapping_set)) == []
    with hospital.procedure("usp_patched", more=more.get(hospital.engine, ", IN p_ip VARCHAR(20)")):
        assert codes(check_online(site, mapping_set))
        source = Source(hospital.settings)
        his = GuardedHis(HisAccess({"his": source}, compile_generation(mapping_set)))
        try:
            for _ in range(3):
                with pytest.raises(HisChanged):
                    await his.write(UNLOCK, appointment_pb2.UnlockSlotRequest(order_no="P1"), key="0" * 32)
            assert UNLOCK in his.degraded()
        finally:
            await source.close()


def test_a_query_without_a_where_ends_at_the_limit(hospital: Hospital, tmp_path: Path) -> None:
    many = f"SELECT a.n * 5000 + b.n AS id, 'x' AS name FROM ({numbers(hospital.engine)}) a, ({numbers(hospital.engine)}) b"
    (tmp_path / "list.toml").write_text(
        f'schema = 1\noperation = "{DEPARTMENTS}"\nkind = "query"\nsql = """{many}"""\n[[result]]\nfields = '
        '[ { to = "department_id", column = "id" }, { to = "name", column = "name" } ]\n',
        encoding="utf-8",
    )
    compiled = compile_generation(Site(tmp_path, {"his": hospital.settings}).load()).operation(DEPARTMENTS)
    engine = engine_for(hospital.settings)
    session = engine.open(read_only=True)
    try:
        with pytest.raises(AnswerTooLarge):
            compiled.run(session, catalog_pb2.ListDepartmentsRequest(), now=NOW)
    finally:
        session.close()
        engine.dispose()
