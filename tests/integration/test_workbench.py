"""The DBA's tools on live databases: the sample HIS on SQLite and PostgreSQL, a procedure that commits on MariaDB."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from agent.contract_json import from_json
from his_db.access import HisAccess
from his_db.catalogue.model import Name
from his_db.catalogue.reader import reader_for
from his_db.contract import operation
from his_db.document.problem import Severity
from his_db.engine import SourceSettings
from his_db.errors import HisRefused
from his_db.generation import compile_generation
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import Source, settings_from_url
from his_db.workbench.check_online import OnlineCheck, check_online
from his_db.workbench.discover import discover, discover_routines
from his_db.workbench.drift import compare, degraded, lock_of, read_lock, write_lock
from his_db.workbench.grants import grants
from his_db.workbench.impact import impact
from his_db.workbench.scaffold import scaffold_procedure, scaffold_table
from his_db.workbench.site import Site, SourceFailed, connected
from his_db.workbench.trial_run import Trial, TrialRefused, preview, rehearse
from tests.servers import MariadbServer, PostgresqlServer

PACKS = Path(__file__).resolve().parents[2] / "his_db" / "packs"


def request_of(name: str, /, **fields: Any) -> Message:
    return from_json(json.dumps(fields), operation(name).request_class)


def previewed(site: Site, name: str, **fields: Any) -> Trial:
    return preview(site, site.load(), name, request_of(name, **fields))


def rehearsed(site: Site, name: str, **fields: Any) -> Trial:
    return rehearse(site, site.load(), name, request_of(name, **fields))


def codes(found: OnlineCheck, *, errors_only: bool = True) -> list[str]:
    return [p.code for p in found.problems if not errors_only or p.severity is Severity.ERROR]


@pytest.fixture(scope="module")
def winning_settings(postgresql_module_database: SourceSettings) -> SourceSettings:
    at = postgresql_module_database
    secret = f":{at.password}" if at.password else ""
    url = f"postgresql+psycopg://{at.user}{secret}@{at.host}:{at.port}/{at.database}"
    load_sample("winning").create(url, today=hospital_now().date(), size=SMALL)
    return at


@pytest.fixture
def winning(winning_settings: SourceSettings, tmp_path: Path) -> Site:
    """The pack on its sample HIS, the mappings in a folder of this test."""
    folder = tmp_path / "mappings"
    shutil.copytree(PACKS / "winning" / "mappings", folder)
    return Site(folder, {"his": winning_settings}, state=tmp_path / "state")


@pytest.fixture(scope="module")
def zebone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zebone") / "his.db"
    load_sample("zebone").create(f"sqlite:///{path}", today=hospital_now().date(), size=SMALL)
    return path


@pytest.fixture
def zebone(zebone_file: Path, tmp_path: Path) -> Site:
    """As `winning`; the database is a copy, so that tests may change it."""
    shutil.copyfile(zebone_file, tmp_path / "his.db")
    shutil.copytree(PACKS / "zebone" / "mappings", tmp_path / "mappings")
    return Site(tmp_path / "mappings", {"his": settings_from_url("his", f"sqlite:///{tmp_path / 'his.db'}")})


@pytest.fixture
def altered(winning: Site, postgresql_server: PostgresqlServer) -> Iterator[Callable[[str, str], None]]:
    """Change the catalogue for one test: a statement, and the one that undoes it."""
    undo: list[str] = []
    with postgresql_server.connect(winning.sources["his"].database) as admin:

        def alter(change: str, back: str) -> None:
            admin.execute(change)
            undo.append(back)

        yield alter
        for statement in reversed(undo):
            admin.execute(statement)


def open_schedule(site: Site, table: str = "his.gh_yy_pbzbmx") -> str:
    with connected(site.sources["his"]) as connection:
        rows = connection.session.run(
            f"SELECT pbmxid FROM {table} WHERE tzbz = 0 AND jlzt = 0 AND ygh < zgh AND zbrq > :today ORDER BY zbrq DESC",
            {"today": f"{hospital_now():%Y%m%d}"},
            max_rows=10,
        )
    return str(rows.rows[0][0])


# -- check --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", ["winning", "zebone"])
def test_a_pack_on_its_own_his_has_no_errors_online_and_deep(pack: str, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue(pack)
    found = check_online(site, site.load(), deep=True)
    assert codes(found) == []
    assert not {"H501", "H516"} & set(codes(found, errors_only=False))
    assert any(column.chinese for column in found.sources[0].chinese)
    assert found.sources[0].version


def test_renamed_column_retyped_parameter_missing_table(winning: Site, altered: Callable[[str, str], None]) -> None:
    altered("ALTER TABLE his.yy_zgbmk RENAME zcmc TO zcmc2", "ALTER TABLE his.yy_zgbmk RENAME zcmc2 TO zcmc")
    altered("ALTER TABLE his.gh_yy_hbk RENAME TO gh_yy_hbk9", "ALTER TABLE his.gh_yy_hbk9 RENAME TO gh_yy_hbk")
    altered(
        "ALTER PROCEDURE his.usp_yy_unlockno RENAME TO usp_yy_unlockno9",
        "ALTER PROCEDURE his.usp_yy_unlockno9 RENAME TO usp_yy_unlockno",
    )
    found = check_online(winning, winning.load(), deep=True)
    column = next(p for p in found.problems if p.code == "H503")
    assert column.place.file == "catalog/list_doctors.toml"
    assert "zcmc2" in column.fix
    table = next(p for p in found.problems if p.code == "H502")
    assert "gh_yy_hbk9" in table.fix
    assert any(p.code == "H505" and p.place.file == "appointment/unlock_slot.toml" for p in found.problems)
    assert "H600" in codes(found)


def test_parameters_that_do_not_fit(winning: Site) -> None:
    file = winning.folder / "appointment" / "unlock_slot.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace('{ name = "p_czyh", const = "jk160" },', '{ name = "p_oper", const = "jk160" },').replace(
            '{ name = "o_msg", dir = "out"', '{ name = "o_msg", dir = "inout", const = "x"'
        ),
        encoding="utf-8",
    )
    found = [p for p in check_online(winning, winning.load()).problems if p.severity is Severity.ERROR]
    assert sorted(p.code for p in found) == ["H506", "H506", "H507"]
    assert {p.place.file for p in found} == {"appointment/unlock_slot.toml"}


def test_a_polled_column_without_an_index_is_a_warning(winning: Site, altered: Callable[[str, str], None]) -> None:
    altered("DROP INDEX his.idx_ghyyk_rq", "CREATE INDEX idx_ghyyk_rq ON his.gh_ghyyk (yyrq)")
    found = [p for p in check_online(winning, winning.load()).problems if p.code == "H510"]
    assert [p.place.file for p in found] == ["watch/orders.toml"]


def test_a_source_that_does_not_answer_is_one_problem(winning: Site) -> None:
    dead = dataclasses.replace(winning.sources["his"], host="127.0.0.1", port=1)
    site = dataclasses.replace(winning, sources={"his": dead})
    assert codes(check_online(site, site.load())) == ["H500"]
    with pytest.raises(SourceFailed):
        lock_of(site, site.load())


# -- preview and rehearse -----------------------------------------------------------------------------------


def test_preview_shows_the_answer_and_hides_the_patient(winning: Site) -> None:
    with connected(winning.sources["his"]) as connection:
        row = connection.session.run(
            "SELECT patid, hzxm, sfzh, lxdh FROM his.sf_brxxk WHERE sfzh <> '' AND lxdh <> '' LIMIT 1", {}, max_rows=1
        ).rows[0]
    found = previewed(winning, "PatientService.FindPatients", patient_id=str(row[0]))
    assert found.error is None
    assert found.message is not None
    assert found.message["patients"][0]["patient_id"] == str(row[0])
    shown = repr(found)
    for personal in row[1:]:
        assert str(personal).strip() not in shown
    assert found.steps[0].sets[0].columns[0] == "patid"


def test_preview_shows_the_refusal(winning: Site) -> None:
    found = previewed(winning, "AppointmentService.GetAppointment", order_no="nobody")
    assert isinstance(found.error, HisRefused)
    assert found.message is None


def test_preview_refuses_a_write_and_rehearse_a_read(winning: Site) -> None:
    with pytest.raises(TrialRefused):
        previewed(winning, "AppointmentService.LockSlot")
    with pytest.raises(TrialRefused):
        rehearsed(winning, "CatalogService.ListDoctors")
    with pytest.raises(TrialRefused):
        previewed(winning, "InsuranceService.GetInsuranceSettlement")


def test_a_rehearsed_booking_answers_and_leaves_nothing(winning: Site, postgresql_server: PostgresqlServer) -> None:
    order = f"T{secrets.token_hex(6)}"
    slot = open_schedule(winning)
    with connected(winning.sources["his"]) as connection:
        sql = "SELECT patid FROM his.sf_brxxk WHERE jlzt = 0 AND patid NOT IN (SELECT patid FROM his.gh_ghyyk) LIMIT 1"
        patient = str(connection.session.run(sql, {}, max_rows=1).rows[0][0])
    found = rehearsed(
        winning,
        "AppointmentService.BookAppointment",
        order_no=order,
        slot_id=slot,
        schedule_id=slot,
        patient_id=patient,
    )
    assert found.error is None
    assert found.message is not None
    assert found.message["appointment"]["order_no"] == order
    assert found.message["appointment"]["patient_name"] == "***"
    assert found.committed is False
    with postgresql_server.connect(winning.sources["his"].database) as admin:
        assert admin.execute("SELECT count(*) FROM his.gh_ghyyk WHERE wbddh = %s", (order,)).fetchone() == (0,)


def test_a_rehearsed_step_mapping_leaves_nothing(zebone: Site) -> None:
    path = zebone.sources["his"].database
    with closing(sqlite3.connect(path)) as look:
        slot, schedule = look.execute(
            "SELECT t.PK_SCHTICKET, t.PK_SCH FROM SCH_TICKET t JOIN SCH_SCH s ON s.PK_SCH = t.PK_SCH WHERE t.FLAG_USED = '0' "
            "AND t.FLAG_LOCK = '0' AND t.FLAG_APPT = '1' AND t.FLAG_STOP = '0' AND s.FLAG_STOP = '0' AND s.EU_STATUS = '8' "
            "AND s.DATE_WORK > ? ORDER BY s.DATE_WORK DESC",
            (f"{hospital_now():%Y-%m-%d 23}",),
        ).fetchone()
    found = rehearsed(zebone, "AppointmentService.LockSlot", order_no="T-rehearsal", slot_id=slot, schedule_id=schedule)
    assert found.error is None, found.error
    assert found.committed is False
    assert any(step.sets and step.sets[0].changed == 1 for step in found.steps)
    with closing(sqlite3.connect(path)) as look:
        assert look.execute("SELECT FLAG_LOCK FROM SCH_TICKET WHERE PK_SCHTICKET = ?", (slot,)).fetchone() == ("0",)


def test_postgresql_does_not_let_a_procedure_commit_and_the_rehearsal_says_so(
    winning: Site, altered: Callable[[str, str], None]
) -> None:
    altered(
        "CREATE PROCEDURE his.usp_commits(p_ddh varchar, p_czyh varchar, OUT o_code int, OUT o_msg varchar) "
        "LANGUAGE plpgsql AS $$ BEGIN o_code := 0; COMMIT; END $$",
        "DROP PROCEDURE his.usp_commits",
    )
    file = winning.folder / "appointment" / "unlock_slot.toml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("his.usp_yy_unlockno", "his.usp_commits"), encoding="utf-8"
    )
    found = rehearsed(winning, "AppointmentService.UnlockSlot", order_no="x")
    assert found.error is not None
    assert any("COMMIT" in line for line in found.evidence)


def test_a_procedure_that_commits_is_found_out(mariadb_server: MariadbServer, tmp_path: Path) -> None:
    """MariaDB lets a procedure end its caller's transaction; the row stays, and the rehearsal says so."""
    with mariadb_server.database() as settings:
        with mariadb_server.connect(settings.database) as admin, admin.cursor() as cursor:
            cursor.execute("CREATE TABLE hyk (ddh VARCHAR(64) PRIMARY KEY, zt INT NOT NULL) ENGINE = InnoDB")
            for name, commit in (("usp_quiet", ""), ("usp_loud", "COMMIT;")):
                cursor.execute(
                    f"CREATE PROCEDURE {name}(IN p_ddh VARCHAR(64), OUT o_code INT) BEGIN "
                    f"INSERT INTO hyk VALUES (p_ddh, 1); {commit} SET o_code = 0; END"
                )
        verdicts = {}
        for name, commits in (("usp_quiet", "caller"), ("usp_loud", "caller"), ("usp_loud", "unknown")):
            folder = tmp_path / f"{name}_{commits}"
            folder.mkdir()
            (folder / "unlock.toml").write_text(
                'schema = 1\noperation = "AppointmentService.UnlockSlot"\nkind = "procedure"\n'
                f'object = "{name}"\ncommits = "{commits}"\nparams = [ {{ name = "p_ddh", from = "order_no" }}, '
                '{ name = "o_code", dir = "out", type = "int" } ]\n[outcome]\nfrom = "o_code"\nok = [0]\n'
                'otherwise = "unknown"\n[[result]]\nrows = "one"\nfields = [ { to = "lock_id", column = "p_ddh" } ]\n',
                encoding="utf-8",
            )
            site = Site(folder, {"his": settings})
            verdicts[name, commits] = rehearsed(
                site, "AppointmentService.UnlockSlot", order_no=f"{name}{commits}"
            ).committed
        assert verdicts == {
            ("usp_quiet", "caller"): False,
            ("usp_loud", "caller"): True,
            ("usp_loud", "unknown"): True,
        }
        with mariadb_server.connect(settings.database) as admin, admin.cursor() as cursor:
            cursor.execute("SELECT ddh FROM hyk ORDER BY ddh")
            assert [row[0] for row in cursor.fetchall()] == ["usp_loudcaller", "usp_loudunknown"]


def test_what_says_that_it_commits_is_not_rehearsed(winning: Site) -> None:
    file = winning.folder / "appointment" / "lock_slot.toml"
    text = file.read_text(encoding="utf-8").replace('commits = "caller"', 'commits = "procedure"')
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TrialRefused):
        rehearsed(winning, "AppointmentService.LockSlot", order_no="x")


# -- grants -------------------------------------------------------------------------------------------------


@pytest.fixture
def agent_role(winning: Site, postgresql_server: PostgresqlServer) -> Iterator[SourceSettings]:
    """A fresh role with nothing but the printed script."""
    role, password = f"his160_{secrets.token_hex(4)}", secrets.token_hex(8)
    database = winning.sources["his"].database
    with postgresql_server.connect(database) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        try:
            script = grants(winning, winning.load(), account=role)["his"]
            for statement in script.statements:
                admin.execute(statement)
            yield dataclasses.replace(winning.sources["his"], user=role, password=password)
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


def test_the_granted_role_lacks_nothing_and_has_nothing_in_excess(winning: Site, agent_role: SourceSettings) -> None:
    site = dataclasses.replace(winning, sources={"his": agent_role})
    found = check_online(site, site.load(), deep=True)
    assert not {"H508", "H509", "H511"} & set(codes(found, errors_only=False)), found.problems.render()
    assert codes(found) == []


def test_missing_and_excess_rights_are_named(
    winning: Site, agent_role: SourceSettings, postgresql_server: PostgresqlServer
) -> None:
    with postgresql_server.connect(winning.sources["his"].database) as admin:
        admin.execute(f"REVOKE SELECT ON his.yy_ksbmk FROM {agent_role.user}")
        admin.execute(f"REVOKE EXECUTE ON PROCEDURE his.usp_gh_thtf FROM {agent_role.user}, PUBLIC")
        admin.execute(f"GRANT DELETE ON his.gh_rjz TO {agent_role.user}")
    try:
        site = dataclasses.replace(winning, sources={"his": agent_role})
        found = check_online(site, site.load()).problems
        missing = {p.place.file for p in found if p.code == "H508"}
        assert {"catalog/list_departments.toml", "payment/refund_payment.toml"} <= missing
        assert any(p.code == "H509" and "gh_rjz" in p.message for p in found)
    finally:
        with postgresql_server.connect(winning.sources["his"].database) as admin:
            admin.execute("GRANT EXECUTE ON PROCEDURE his.usp_gh_thtf TO PUBLIC")


async def test_every_operation_of_the_pack_runs_as_the_granted_role(winning: Site, agent_role: SourceSettings) -> None:
    """The whole life of an order, reads between: nothing is refused for a missing right."""
    source = Source(agent_role)
    his = HisAccess({"his": source}, compile_generation(winning.load()))
    order, trade, refund = (f"T{secrets.token_hex(8)}" for _ in range(3))

    async def read(name: str, /, **fields: Any) -> Any:
        return await his.read(name, request_of(name, **fields))

    async def write(name: str, /, **fields: Any) -> Any:
        request = request_of(name, request_id=secrets.token_hex(8), **fields)
        return await his.write(name, request, key=secrets.token_hex(8))

    today = hospital_now().date()
    days = {"from_date": today.isoformat(), "to_date": (today + dt.timedelta(days=14)).isoformat()}
    try:
        await read("CatalogService.ListDepartments")
        await read("CatalogService.ListDoctors")
        await read("CatalogService.ListSchedules", **days)
        await read("CatalogService.ListSuspensions", **days)
        slot = open_schedule(winning)
        await read("CatalogService.ListSlots", schedule_id=slot)
        patient = await asyncio.to_thread(free_patient, winning)
        await read("PatientService.FindPatients", patient_id=patient)
        await write(
            "PatientService.EnsurePatient",
            name="授权测试",
            document_type="01",
            document_no="11010119900307" + secrets.token_hex(2)[:3].translate(str.maketrans("abcdef", "123456")) + "X",
            birthday="1990-03-07",
            sex="1",
        )
        await write("AppointmentService.LockSlot", order_no=order, slot_id=slot, schedule_id=slot, patient_id=patient)
        await write("AppointmentService.UnlockSlot", order_no=order)
        booked = await write(
            "AppointmentService.BookAppointment", order_no=order, slot_id=slot, schedule_id=slot, patient_id=patient
        )
        fen = booked.appointment.total_fen
        await read("AppointmentService.ListAppointments", **days)
        await write("AppointmentService.CancelAppointment", order_no=order, note="授权测试")
        order = f"T{secrets.token_hex(8)}"
        await write(
            "AppointmentService.BookAppointment", order_no=order, slot_id=slot, schedule_id=slot, patient_id=patient
        )
        await write(
            "PaymentService.ConfirmPayment",
            order_no=order,
            out_trade_no=trade,
            transaction_id=trade,
            amount_fen=fen,
            method="WECHAT",
            pay_time=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        await read("PaymentService.GetPayment", out_trade_no=trade, order_no=order)
        await write(
            "PaymentService.RefundPayment",
            order_no=order,
            out_trade_no=trade,
            out_refund_no=refund,
            amount_fen=fen,
        )
        await read("PaymentService.GetRefund", out_refund_no=refund)
        for watch in his.watch_names():
            await his.snapshot(watch)
    finally:
        await source.close()


def free_patient(site: Site) -> str:
    with connected(site.sources["his"]) as connection:
        sql = """SELECT patid FROM his.sf_brxxk WHERE jlzt = 0 AND sfzh <> '' AND patid NOT IN (SELECT patid FROM his.gh_ghyyk)
                 AND patid NOT IN (SELECT patid FROM his.gh_yy_hmd) ORDER BY patid DESC LIMIT 1"""
        return str(connection.session.run(sql, {}, max_rows=1).rows[0][0])


# -- drift, impact, discover, scaffold ----------------------------------------------------------------------


def test_drift_degrades_what_is_concerned_and_nothing_else(winning: Site, altered: Callable[[str, str], None]) -> None:
    assert read_lock(winning.folder) is None
    lock = lock_of(winning, winning.load())
    write_lock(winning.folder, lock)
    old = read_lock(winning.folder)
    assert old == lock
    assert compare(old, lock_of(winning, winning.load(), old)) == ()
    altered("ALTER TABLE his.yy_zgbmk RENAME zcmc TO zcmc2", "ALTER TABLE his.yy_zgbmk RENAME zcmc2 TO zcmc")
    altered("ALTER TABLE his.yy_ksbmk ADD neu int", "ALTER TABLE his.yy_ksbmk DROP neu")
    altered(
        "ALTER PROCEDURE his.usp_yy_unlockno RENAME TO usp_yy_unlockno9",
        "ALTER PROCEDURE his.usp_yy_unlockno9 RENAME TO usp_yy_unlockno",
    )
    changes = compare(old, lock_of(winning, winning.load(), old))
    assert {(change.object, change.what) for change in changes} == {
        ("his.yy_zgbmk", "column"),
        ("his.usp_yy_unlockno", "missing"),
    }
    assert degraded(changes) == ("AppointmentService.UnlockSlot", "CatalogService.ListDoctors")


def test_a_longer_text_and_a_new_body_are_notices(winning: Site, altered: Callable[[str, str], None]) -> None:
    old = lock_of(winning, winning.load())
    altered(
        "CREATE OR REPLACE FUNCTION his.fn_config(p_id varchar, p_default varchar) RETURNS varchar LANGUAGE sql STABLE "
        "AS $$ SELECT COALESCE((SELECT c.config FROM his.yy_config c WHERE c.id = p_id), p_default) $$",
        "CREATE OR REPLACE FUNCTION his.fn_config(p_id varchar, p_default varchar) RETURNS varchar LANGUAGE sql STABLE "
        "AS $$ SELECT COALESCE((SELECT config FROM his.yy_config WHERE id = p_id), p_default) $$",
    )
    altered(
        "ALTER TABLE his.sf_brxxk ALTER lxdz TYPE varchar(200)", "ALTER TABLE his.sf_brxxk ALTER lxdz TYPE varchar(128)"
    )
    changes = compare(old, lock_of(winning, winning.load(), old))
    assert degraded(changes) == ()
    assert [(change.object, change.what) for change in changes] == [("his.sf_brxxk", "column")]


def test_impact_names_objects_indexes_and_rates(winning: Site) -> None:
    report = impact(winning, winning.load())
    assert report.sources[0].polls_per_minute == 240
    orders = next(use for use in report.uses if use.label == "watch orders")
    assert "his.gh_ghyyk" in [item.name for item in orders.objects]
    assert "yyrq" in next(item.columns for item in orders.objects if item.name == "his.gh_ghyyk")
    assert orders.indexes or orders.scans
    assert (orders.peak.every, orders.peak.per_second) == ("0.5 s", 2)
    refund = next(use for use in report.uses if use.label == "PaymentService.RefundPayment")
    settlement = next(item for item in refund.objects if item.name == "his.sf_brjsk")
    assert {"INSERT", "UPDATE"} <= set(settlement.rights)
    assert {"zje", "tsjh"} <= set(settlement.columns)  # of the procedure's text
    assert "his.sf_brjsk" in refund.locks
    assert (refund.statement_timeout, refund.lock_timeout) == ("10 s", "3 s")
    assert refund.peak.statements == 3  # the call and its two answers


@pytest.mark.parametrize("pack", ["winning", "zebone", "bsoft"])
def test_impact_names_tables_of_the_his_and_no_aliases(pack: str, request: pytest.FixtureRequest) -> None:
    """Plans speak of the aliases of a statement (SQLite, MySQL) or of tables (PostgreSQL): the DBA reads tables."""
    site: Site = request.getfixturevalue(pack)
    report = impact(site, site.load())
    with connected(site.sources["his"]) as connection:
        catalogue = connection.catalogue()
    tables = {str(key) for key in catalogue.tables}
    indexes = {f"{table.key}.{index.name}" for table in catalogue.tables.values() for index in table.indexes}
    scans = {name for use in report.uses for each in use.scans for name in each.split(" / ")}
    assert scans
    assert scans <= tables
    used = {name for use in report.uses for name in use.indexes}
    assert used & indexes
    assert {name for name in used if name.rpartition(".")[0] not in tables} == set()
    for use in report.uses:
        assert all(item.columns for item in use.objects if item.name in tables), use.label
        for item in use.objects:
            assert set(item.changes) <= set(item.columns)
        if use.lane == "write":
            assert any(item.name in use.locks and set(item.rights) - {"SELECT"} for item in use.objects), use.label


@pytest.mark.parametrize(
    ("pack", "expected"),
    [
        (
            "winning",
            {
                "department": {"his.yy_ksbmk"},
                "doctor": {"his.yy_zgbmk"},
                "schedule": {"his.gh_yy_pbzbmx"},
                "patient": {"his.sf_brxxk"},
                "appointment": {"his.gh_ghyyk"},
                "payment": {"his.sf_brjsk"},
            },
        ),
        (
            "zebone",
            {
                "department": {"BD_OU_DEPT"},
                "doctor": {"BD_OU_EMPLOYEE"},
                "schedule": {"SCH_SCH"},
                "slot": {"SCH_TICKET"},
                "patient": {"PI_MASTER"},
                "appointment": {"SCH_APPT"},
                "payment": {"BL_SETTLE", "BL_EXT_PAY"},
            },
        ),
    ],
)
def test_discover_finds_the_right_table_among_the_first_three(
    pack: str, expected: dict[str, set[str]], request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue(pack)
    with connected(site.sources["his"]) as connection:
        catalogue = connection.catalogue()
    found = discover(catalogue)
    for subject, tables in expected.items():
        assert tables <= {match.table for match in found[subject]}, subject
    if pack == "winning":
        procedures = discover_routines(catalogue)
        assert procedures["AppointmentService.LockSlot"][0].routine == "his.usp_yy_lockno"
        assert procedures["PaymentService.RefundPayment"][0].routine == "his.usp_gh_thtf"


def test_a_scaffold_is_checked_and_runs(winning: Site, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with connected(winning.sources["his"]) as connection:
        catalogue = connection.catalogue()
    made = [
        scaffold_table(operation("CatalogService.ListDoctors"), catalogue, "his.yy_zgbmk"),
        scaffold_table(operation("CatalogService.ListDepartments"), catalogue, "his.yy_ksbmk"),
    ]
    for each in made:
        path = folder / each.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each.text, encoding="utf-8")
        assert "TODO" not in each.text
    site = dataclasses.replace(winning, folder=folder)
    assert codes(check_online(site, site.load(), deep=True)) == []
    found = previewed(site, "CatalogService.ListDoctors", page_size=2)
    assert found.error is None
    assert found.message is not None
    assert len(found.message["doctors"]) == 2


def test_a_scaffold_of_a_procedure_knows_its_parameters(winning: Site) -> None:
    with connected(winning.sources["his"]) as connection:
        catalogue = connection.catalogue()
    text = scaffold_procedure(operation("AppointmentService.LockSlot"), catalogue, "his.usp_yy_lockno").text
    assert '{ name = "p_ddh", from = "order_no", type = "character varying" },' in text
    assert 'from = "o_code"' in text
    assert 'text = "o_msg"' in text
    assert "TODO" not in text


def test_mariadb_catalogue(mariadb_server: MariadbServer) -> None:
    with mariadb_server.database() as settings:
        with mariadb_server.connect(settings.database) as admin, admin.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE MS_GHKS (KSDM BIGINT PRIMARY KEY COMMENT '科室代码', KSMC VARCHAR(40)) COMMENT '挂号科室'"
            )
            cursor.execute("CREATE PROCEDURE usp_x(IN p_a INT, OUT o_b VARCHAR(20)) SET o_b = 'x'")
        with connected(settings) as connection:
            assert connection.reader.charset(connection.session) == ""
            found = connection.catalogue()
            plan = reader_for("mysql").explain(connection.session, "SELECT * FROM MS_GHKS WHERE KSDM = :k", {"k": 1})
        table = found.table("ms_ghks")
        assert table is not None
        assert (table.comment, table.primary_key, table.columns[0].comment) == ("挂号科室", ("KSDM",), "科室代码")
        (routine,) = found.routine("usp_x")
        assert [(p.name, p.direction) for p in routine.parameters] == [("p_a", "in"), ("o_b", "out")]
        assert found.has(Name(settings.database.lower(), "ms_ghks"), "UPDATE")
        assert plan.lines


@pytest.fixture(scope="module")
def bsoft(mariadb_server: MariadbServer) -> Iterator[Site]:
    """The pack on its sample HIS on MariaDB."""
    with mariadb_server.database() as at:
        secret = f":{at.password}" if at.password else ""
        url = f"mysql+pymysql://{at.user}{secret}@{at.host or '127.0.0.1'}:{at.port or 3306}/{at.database}"
        load_sample("bsoft").create(url, today=hospital_now().date(), size=SMALL)
        yield Site(PACKS / "bsoft" / "mappings", {"his": at})


def test_the_mysql_pack_has_no_errors_online_and_deep_and_is_discovered(bsoft: Site) -> None:
    """Writing statements are planned in a transaction that is rolled back; discover was not made for this pack."""
    found = check_online(bsoft, bsoft.load(), deep=True)
    assert codes(found) == [], found.problems.render("en")
    with connected(bsoft.sources["his"]) as connection:
        tables = discover(connection.catalogue())
    database = bsoft.sources["his"].database
    for subject, table in (
        ("department", "MS_GHKS"),
        ("doctor", "GY_YGDM"),
        ("schedule", "MS_YSPB"),
        ("patient", "MS_BRDA"),
        ("appointment", "MS_YYGH"),
        ("payment", "MS_MZXX"),
    ):
        assert f"{database}.{table}" in [match.table for match in tables[subject]], subject


def test_grants_of_the_mysql_pack_are_enough(bsoft: Site, mariadb_server: MariadbServer) -> None:
    account, password = f"u{secrets.token_hex(4)}", secrets.token_hex(8)
    script = grants(bsoft, bsoft.load(), account=f"{account}@%")["his"]
    with mariadb_server.connect() as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE USER '{account}'@'%' IDENTIFIED BY '{password}'")
        try:
            for statement in script.statements:
                cursor.execute(statement)
            site = dataclasses.replace(
                bsoft, sources={"his": dataclasses.replace(bsoft.sources["his"], user=account, password=password)}
            )
            found = check_online(site, site.load(), deep=True)
            assert not {"H508", "H509", "H511"} & set(codes(found, errors_only=False)), found.problems.render("en")
            assert codes(found) == [], found.problems.render("en")
            cursor.execute(f"REVOKE ALL PRIVILEGES ON {bsoft.sources['his'].database}.MS_GHKS FROM '{account}'@'%'")
            hidden = check_online(site, site.load()).problems
            assert [p.place.file for p in hidden.errors if p.code == "H502" and "MS_GHKS" in p.message]
            for problem in hidden.errors:  # MariaDB hides what one may not use: the remedy says so
                assert account in problem.fix
                assert "没有它的权限" in problem.fix_zh
        finally:
            cursor.execute(f"DROP USER '{account}'@'%'")
