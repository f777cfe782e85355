"""What a HIS does to us at night: a procedure gets another parameter, and data get a code that nobody knows.

On the sample HIS with procedures, on a real PostgreSQL and a real MariaDB.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import agent_pb2

from agent.errors import explain, to_status
from agent.probes import code_states
from his_db import contract
from his_db.access import HisAccess
from his_db.document.problem import Severity
from his_db.engine import SourceSettings
from his_db.errors import HisChanged, HisError, MappingMismatch
from his_db.generation import compile_generation
from his_db.guard import GuardedHis
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import Source
from his_db.workbench.check_online import check_online
from his_db.workbench.drift import compare, degraded, lock_of
from his_db.workbench.site import Site
from tests.servers import administrate, url_of

PACKS = Path(__file__).resolve().parents[2] / "his_db" / "packs"
DEPARTMENTS = "CatalogService.ListDepartments"


@dataclass(frozen=True, slots=True)
class Patch:
    """One procedure of one pack, and what the vendor does to it. `fields`: of the request."""

    pack: str
    operation: str
    fields: dict[str, Any]
    apply: tuple[str, ...]
    undo: tuple[str, ...]


PATCHES = {
    "postgresql": Patch(
        "winning",
        "AppointmentService.UnlockSlot",
        {"order_no": "T160"},
        (
            "ALTER PROCEDURE his.usp_yy_unlockno RENAME TO usp_yy_unlockno_old",
            "CREATE PROCEDURE his.usp_yy_unlockno(p_ddh varchar, p_czyh varchar, p_ip varchar, OUT o_code int,"
            " OUT o_msg varchar) LANGUAGE plpgsql AS $$ BEGIN o_code := 0; o_msg := p_ip; END $$",
        ),
        (
            "DROP PROCEDURE his.usp_yy_unlockno",
            "ALTER PROCEDURE his.usp_yy_unlockno_old RENAME TO usp_yy_unlockno",
        ),
    ),
    "mysql": Patch(
        "bsoft",
        "PatientService.EnsurePatient",
        {
            "document_type": "01",
            "document_no": "440305198503120015",
            "name": "张三",
            "sex": "1",
            "mobile": "13800138000",
        },
        ("DROP PROCEDURE SP_MS_BRJD", "CREATE PROCEDURE SP_MS_BRJD(p_one INT, OUT o_two INT) SET o_two = p_one"),
        (),
    ),
}


@dataclass(frozen=True, slots=True)
class Night:
    """A hospital in use."""

    patch: Patch
    site: Site
    his: GuardedHis

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        return administrate(self.site.sources["his"], list(statements))

    async def call(self, name: str, /, **fields: Any) -> Any:
        about = contract.operation(name)
        request = about.request_class(**fields)
        if about.is_read:
            return await self.his.read(name, request)
        return await self.his.write(name, request, key="0" * 32)


@pytest.fixture(params=sorted(PATCHES))
async def night(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql_database: Callable[[], SourceSettings],
    mariadb_database: Callable[[], SourceSettings],
) -> AsyncIterator[Night]:
    patch = PATCHES[request.param]
    settings = (postgresql_database if request.param == "postgresql" else mariadb_database)()
    url = url_of(settings).replace("mysql://", "mysql+pymysql://")
    load_sample(patch.pack).create(url, today=hospital_now().date(), size=SMALL)
    folder = tmp_path / "mappings"
    shutil.copytree(PACKS / patch.pack / "mappings", folder)
    site = Site(folder, {"his": settings})
    source = Source(settings)
    try:
        yield Night(patch, site, GuardedHis(HisAccess({"his": source}, compile_generation(site.load()))))
    finally:
        await source.close()


async def test_a_procedure_with_another_parameter_degrades_its_operation_alone(night: Night) -> None:
    patch, mapping_set = night.patch, night.site.load()
    lock = lock_of(night.site, mapping_set)
    await night.call(patch.operation, **patch.fields)
    night.run(*patch.apply)
    for _ in range(3):
        with pytest.raises(HisChanged) as told:
            await night.call(patch.operation, **patch.fields)
        assert explain(to_status(told.value)).reason == "MAPPING_MISMATCH"
    assert set(night.his.degraded()) == {patch.operation}
    with pytest.raises(MappingMismatch, match="degraded"):
        await night.call(patch.operation, **patch.fields)
    assert (await night.call(DEPARTMENTS)).departments
    available = {item.operation for item in night.his.abilities().found if item.available}
    assert patch.operation not in available
    assert DEPARTMENTS in available
    changes = compare(lock, lock_of(night.site, mapping_set, lock))
    assert degraded(changes) == (patch.operation,)
    errors = [item for item in check_online(night.site, mapping_set).problems if item.severity is Severity.ERROR]
    assert {item.place.file for item in errors} == {mapping_set.operations[patch.operation].document.file}
    if patch.undo:
        night.run(*patch.undo)
        assert compare(lock, lock_of(night.site, mapping_set, lock)) == ()
        night.his.generation = compile_generation(night.site.load())
        await night.call(patch.operation, **patch.fields)
        assert night.his.degraded() == {}


async def test_a_code_that_no_map_knows_is_answered_with_its_field_and_counted(night: Night) -> None:
    """Sessions begin to say which half of the day they are in by a new code."""
    table, column = ("his.gh_yy_pbzbmx", "zzlx") if night.patch.pack == "winning" else ("MS_YSPB", "ZBLB")
    today = hospital_now().date()
    days = {
        "from_date": {"year": today.year, "month": today.month, "day": today.day},
        "to_date": {"year": today.year, "month": today.month, "day": today.day},
    }
    assert (await night.call("CatalogService.ListSchedules", **days)).schedules
    assert list(code_states(night.his)()) == []
    kind = night.run(f"SELECT {column} FROM {table}")[0][0]
    new = 7 if isinstance(kind, int) else "7"
    literal = new if isinstance(new, int) else f"'{new}'"
    night.run(f"UPDATE {table} SET {column} = {literal}")
    for _ in range(2):
        with pytest.raises(HisError) as told:
            await night.call("CatalogService.ListSchedules", **days)
    explained = explain(to_status(told.value))
    assert explained.reason == "MAPPING_MISMATCH"
    for word in ("CatalogService.ListSchedules", "period", column, "code map period"):
        assert word.lower() in told.value.detail.lower()
    assert (await night.call(DEPARTMENTS)).departments
    assert night.his.degraded() == {}  # the operation itself is well
    (component,) = code_states(night.his)()
    assert component.health == agent_pb2.HEALTH_DEGRADED
    assert 'CatalogService.ListSchedules period "7"' in component.detail
    assert night.his.figures()["unknown_codes"] >= 2
    found = [item for item in check_online(night.site, night.site.load()).problems if item.code == "H513"]
    assert found
    assert '{ his = "7"' in found[0].fix
