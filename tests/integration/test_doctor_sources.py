"""``his160 doctor`` on databases: dead, slow to cut, with rights missing and in excess, with Chinese that is lost."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from his_db.engine import SourceSettings
from his_db.source import engine_for
from his_db.workbench import site as workbench_site
from his_db.workbench.check_chinese import damage_of
from his_db.workbench.source_look import cut_a_statement
from sync.clock import utc_now
from sync.store import open_store
from tests.doctor import HEAD, SERVER, SQLITE, Patient
from tests.servers import MariadbServer, PostgresqlServer
from tests.servers import url_of as server_url

MAPPING = """\
schema = 1
operation = "CatalogService.ListDepartments"
kind = "table"
object = "dept"
[[result]]
page_key = "code"
fields = [
  { to = "department_id", column = "code" },
  { to = "name", column = "title" },
]
"""
QUICK = {"source_limit": timedelta(seconds=0.3)}
WORD = "Aa1-" + secrets.token_hex(6)


def section(settings: SourceSettings) -> str:
    """``[source.his]`` of these settings."""
    keys = {name: getattr(settings, name) for name in ("engine", "database", "host", "port", "user")}
    lines = [f"{name} = {json.dumps(value)}" for name, value in keys.items()]
    if settings.password:
        lines.append('password = "@env:HIS_PASSWORD"')
    if settings.options:
        lines.append(f"options = {{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in settings.options.items())} }}")
    return "\n".join(["[source.his]", *lines, ""])


def patient_of(folder: Path, settings: SourceSettings) -> tuple[Patient, dict[str, str]]:
    """A site on this database, and its environment."""
    patient = Patient(folder, source=section(settings))
    (folder / "mappings" / "list_departments.toml").write_text(MAPPING, encoding="utf-8")
    return patient, {"HIS_PASSWORD": settings.password}


@pytest.fixture(scope="module")
def his(postgresql_server: PostgresqlServer, postgresql_module_database: SourceSettings) -> SourceSettings:
    with postgresql_server.connect(postgresql_module_database.database) as admin:
        admin.execute("CREATE TABLE dept (code TEXT PRIMARY KEY, title TEXT)")
        admin.execute("CREATE TABLE secret (id INTEGER PRIMARY KEY)")
        admin.execute("INSERT INTO dept VALUES ('1', '心血管内科'), ('2', '呼吸内科')")
    return postgresql_module_database


@pytest.fixture
def role(postgresql_server: PostgresqlServer, his: SourceSettings) -> Iterator[tuple[Any, SourceSettings]]:
    """An administrator, and a login of its own that may do nothing yet."""
    name = f"his160_{secrets.token_hex(4)}"
    with postgresql_server.connect(his.database) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{WORD}'")
        try:
            yield admin, replace(his, user=name, password=WORD, host=his.host or "127.0.0.1")
        finally:
            admin.execute(f"DROP OWNED BY {name}")
            admin.execute(f"DROP ROLE {name}")


# -- PostgreSQL ----------------------------------------------------------------------------------------------


def test_a_database_in_order(tmp_path: Path, role: tuple[Any, SourceSettings]) -> None:
    admin, settings = role
    admin.execute(f"GRANT SELECT ON dept TO {settings.user}")
    patient, environ = patient_of(tmp_path, settings)
    seen = patient.look("sources", "mappings", environ=environ, **QUICK)
    assert seen.found == []
    for word in ("PostgreSQL", "clocks", "time-outs work", "exactly those needed", "public.dept.title"):
        assert word in seen.facts


def test_rights_that_are_missing_and_in_excess(tmp_path: Path, role: tuple[Any, SourceSettings]) -> None:
    admin, settings = role
    patient, environ = patient_of(tmp_path, settings)
    seen = patient.look("mappings", environ=environ)
    assert seen.errors == ["H508"]
    assert "SELECT" in seen.found[0].zh
    admin.execute(f"GRANT SELECT, DELETE ON dept TO {settings.user}")
    admin.execute(f"GRANT UPDATE ON secret TO {settings.user}")
    seen = patient.look("mappings", environ=environ)
    assert (seen.errors, seen.notes) == ([], ["H509", "H509"])
    assert "REVOKE UPDATE ON public.secret" in str([item.fix_en for item in seen.found])


def test_very_many_rights_too_many_are_told_shortly(tmp_path: Path, role: tuple[Any, SourceSettings]) -> None:
    admin, settings = role
    tables = [f"extra_{number}" for number in range(9)]
    try:
        for table in tables:
            admin.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")
            admin.execute(f"GRANT SELECT ON {table} TO {settings.user}")
        admin.execute(f"GRANT SELECT ON dept TO {settings.user}")
        patient, environ = patient_of(tmp_path, settings)
        seen = patient.look("mappings", environ=environ)
    finally:
        admin.execute(f"DROP TABLE IF EXISTS {', '.join(tables)}")
    assert seen.notes == ["H509"] * 6
    assert seen.found[-1].en == "and 4 more of this sort"


def test_a_superuser_is_too_much(tmp_path: Path, his: SourceSettings) -> None:
    patient, environ = patient_of(tmp_path, his)
    assert patient.look("mappings", environ=environ).notes == ["H511"]


def test_a_wrong_password(tmp_path: Path, mariadb_server: MariadbServer) -> None:
    settings = replace(mariadb_server.settings, name="his", user="nobody_of_ours", password="wrong", database="mysql")
    patient, environ = patient_of(tmp_path, settings)
    seen = patient.look("sources", "mappings", environ=environ)
    assert seen.errors == ["H500"]  # told once
    assert "wrong" not in str(seen.found)


def test_a_dead_his(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings = SourceSettings("his", "postgresql", "his", "127.0.0.1", port, "his160", "x")
    patient, environ = patient_of(tmp_path, settings)
    monkeypatch.setenv("HIS_PASSWORD", environ["HIS_PASSWORD"])
    only = [word for area in ("disk", "sources", "mappings", "store") for word in ("--only", area)]
    assert cli.run(["doctor", "--config", str(patient.config), "--json", *only]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [item["code"] for check in told["checks"] for item in check["findings"]] == ["H500"]
    assert [check["area"] for check in told["checks"] if check["facts"]] == ["disk", "mappings", "store"]


def test_a_dead_interface(tmp_path: Path) -> None:
    patient = Patient(tmp_path, source='[source.his]\nengine = "http"\ndatabase = "/"\nhost = "127.0.0.1"\nport = 1\n')
    assert patient.look("sources", "mappings").errors == ["H500"]


def test_a_pooler_that_loses_the_time_out(his: SourceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless:
        """The engine, but for the time-out of a session."""

        def __init__(self, settings: SourceSettings) -> None:
            self._inner = engine_for(settings)

        def open(self, *, read_only: bool, statement_timeout: timedelta | None = None) -> Any:
            return self._inner.open(read_only=read_only, statement_timeout=timedelta(seconds=1))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    times = {"limit": timedelta(seconds=0.1), "tolerance": timedelta(seconds=0.5)}
    with workbench_site.connected(his) as connection:
        good = cut_a_statement(connection, **times)
    monkeypatch.setattr(workbench_site, "engine_for", Careless)
    with workbench_site.connected(his) as connection:
        bad = cut_a_statement(connection, **times)
    assert (good.works, bad.works) == (True, False)
    assert bad.took >= timedelta(seconds=1)


# -- a state store in PostgreSQL -----------------------------------------------------------------------------


def shared(folder: Path, settings: SourceSettings) -> tuple[Patient, dict[str, str]]:
    """A site whose store is in this database."""
    patient = Patient(folder)
    place = f"{settings.user}@{settings.host or '127.0.0.1'}:{settings.port or 5432}/{settings.database}"
    state = f'state.url = "postgresql://{place}"\n'
    environ = {}
    if settings.password:
        state, environ = state + 'state.password = "@env:STORE"\n', {"STORE": settings.password}
    patient.write(HEAD.replace('state.path = "state/agent.db"\n', "") + state + SQLITE + SERVER)
    return patient, environ


def test_a_shared_store_is_looked_at_and_not_made(
    tmp_path: Path, postgresql_server: PostgresqlServer, postgresql_database: Callable[[], SourceSettings]
) -> None:
    settings = postgresql_database()
    patient, environ = shared(tmp_path, settings)

    def tables() -> int:
        with postgresql_server.connect(settings.database) as admin:
            row = admin.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        return 0 if row is None else int(row[0])

    assert "no tables yet" in patient.look("ports", "store", environ=environ).facts
    assert patient.context(environ).agent_runs() is False
    assert tables() == 0

    async def held() -> None:
        store = open_store(server_url(settings), utc_now)
        await store.close()

    asyncio.run(held())
    seen = patient.look("store", environ=environ)
    assert seen.found == []
    assert "the audit chain holds" in seen.facts
    with postgresql_server.connect(settings.database) as admin:
        admin.execute("UPDATE alembic_version SET version_num = '0007'")
        assert "upgrades it" in patient.look("store", environ=environ).facts
        assert admin.execute("SELECT version_num FROM alembic_version").fetchone() == ("0007",)
        admin.execute("UPDATE alembic_version SET version_num = '9999'")
        assert patient.look("store", environ=environ).errors == ["H737"]


def test_a_shared_store_that_does_not_answer(tmp_path: Path, his: SourceSettings) -> None:
    patient, environ = shared(tmp_path, replace(his, host="127.0.0.1", port=1))
    assert patient.look("store", environ=environ).errors == ["H737"]
    patient, environ = shared(tmp_path, his)  # a database of something else
    assert patient.look("store", environ=environ).errors == ["H737"]


# -- MariaDB -------------------------------------------------------------------------------------------------


@contextmanager
def maria(server: MariadbServer, settings: SourceSettings, *statements: str) -> Iterator[SourceSettings]:
    """A database after these statements, and a login of its own that may read ``dept``."""
    name = f"his160_{secrets.token_hex(4)}"
    with server.connect(settings.database) as admin, admin.cursor() as cursor:
        for statement in (*statements, f"CREATE USER {name}@'%' IDENTIFIED BY '{WORD}'"):
            cursor.execute(statement)
        cursor.execute(f"GRANT SELECT ON `{settings.database}`.dept TO {name}@'%'")
        try:
            yield replace(settings, user=name, password=WORD)
        finally:
            cursor.execute(f"DROP USER {name}@'%'")


TABLE = "CREATE TABLE dept (code VARCHAR(9) PRIMARY KEY, title VARCHAR(40) CHARACTER SET {0})"
GBK = "INSERT INTO dept VALUES ('1', CAST(0x{0} AS CHAR CHARACTER SET latin1)), ('2', CAST(0x{1} AS CHAR CHARACTER SET latin1))"


def test_mariadb_in_order_and_a_right_too_many(
    tmp_path: Path, mariadb_server: MariadbServer, mariadb_database: Any
) -> None:
    rows = "INSERT INTO dept VALUES ('1', '心血管内科')"
    with maria(mariadb_server, mariadb_database(), TABLE.format("utf8mb4"), rows) as settings:
        patient, environ = patient_of(tmp_path, settings)
        assert patient.look("sources", "mappings", environ=environ, **QUICK).found == []
        with mariadb_server.connect(settings.database) as admin, admin.cursor() as cursor:
            cursor.execute(f"GRANT INSERT ON `{settings.database}`.dept TO {settings.user}@'%'")
            assert patient.look("mappings", environ=environ).notes == ["H509"]
            cursor.execute(f"REVOKE ALL ON `{settings.database}`.dept FROM {settings.user}@'%'")
            cursor.execute("CREATE TABLE other (id INTEGER PRIMARY KEY)")
            cursor.execute(f"GRANT SELECT ON `{settings.database}`.other TO {settings.user}@'%'")
        seen = patient.look("mappings", environ=environ)
        assert seen.errors == ["H502"]  # what a login has no right on, MySQL does not show it
        assert seen.notes == ["H509"]


def test_a_charset_that_cannot_say_every_name(
    tmp_path: Path, mariadb_server: MariadbServer, mariadb_database: Any
) -> None:
    rows = "INSERT INTO dept VALUES ('1', '心血管内科')"
    with maria(mariadb_server, mariadb_database(), TABLE.format("utf8mb4"), rows) as settings:
        for charset in ("latin1", "gbk"):
            patient, environ = patient_of(tmp_path, replace(settings, options={"charset": charset}))
            seen = patient.look("sources", "mappings", environ=environ, **QUICK)
            assert seen.errors == ["H501"]  # told once
            assert "time-outs work" in seen.facts
            assert seen.code == 1


def test_gbk_in_a_western_column(tmp_path: Path, mariadb_server: MariadbServer, mariadb_database: Any) -> None:
    """As many an old HIS on MySQL has it: the charset of the connection is right, and the names are not."""
    rows = GBK.format("心血管内科".encode("gbk").hex(), "呼吸内科".encode("gbk").hex())
    with maria(mariadb_server, mariadb_database(), TABLE.format("latin1"), rows) as settings:
        patient, environ = patient_of(tmp_path, settings)
        seen = patient.look("sources", "mappings", environ=environ, **QUICK)
    assert (seen.errors, seen.notes) == ([], ["H516"])
    assert seen.found[0].where.startswith("list_departments.toml:9:")
    assert "dept.title" in seen.found[0].zh


def test_bytes_of_no_charset_in_postgresql(tmp_path: Path, postgresql_server: PostgresqlServer) -> None:
    """A database without an encoding takes whatever comes, and gives it back as it is."""
    name = f"his160_test_{secrets.token_hex(6)}"
    with postgresql_server.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            with postgresql_server.connect(name) as inside:
                inside.execute("CREATE TABLE dept (code TEXT PRIMARY KEY, title TEXT)")
                raw = "".join(f"\\x{byte:02x}" for byte in "心血管内科".encode("gbk"))
                inside.execute(f"INSERT INTO dept VALUES ('1', E'{raw}')")
            settings = replace(postgresql_server.settings, name="his", database=name)
            patient, environ = patient_of(tmp_path, settings)
            seen = patient.look("sources", "mappings", environ=environ, **QUICK)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert seen.errors == []
    assert sorted(seen.notes) == ["H511", "H516"]
    assert "[source.his]" in seen.facts


@pytest.mark.parametrize(
    ("texts", "damaged"),
    [
        (["心内科", "外科"], False),
        (["联通", "心内科"], False),  # two characters that GBK and UTF-8 both know
        (["A101", "B2"], False),
        ([], False),
        (["????", "内科??"], True),
        (["心内科", "????", "外科"], False),
        (["心血管内科".encode("gbk").decode("latin-1")], True),
        (["心血管内科".encode().decode("latin-1")], True),
        (["中医科室".encode().decode("gb18030"), "急诊".encode().decode("gb18030")], True),
        (["锟斤拷锟斤拷"], True),
    ],
)
def test_how_damage_looks(texts: list[str], damaged: bool) -> None:
    assert (damage_of(texts) is not None) == damaged
