"""Drift in the daemon: when it compares, what it finds, what it degrades, and what it leaves as it was."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from his160.v1 import agent_pb2, catalog_pb2

from agent.config_place import packs_folder
from agent.mapping_drift import DriftWatch
from agent.mapping_origin import MappingOrigin
from his_db.access import HisAccess
from his_db.errors import MappingMismatch
from his_db.generation import Generation, compile_generation
from his_db.guard import GuardedHis
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import settings_from_url
from his_db.workbench.drift import LOCK, lock_of, write_lock
from his_db.workbench.revisions import Revisions
from his_db.workbench.site import Site

DOCTORS = "CatalogService.ListDoctors"
GOOD = (agent_pb2.HEALTH_OK, "")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load_sample("zebone").create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


class Bench:
    """A locked set of mappings on a sample HIS; time passes by hand."""

    def __init__(self, place: Path) -> None:
        self.file = place / "his.db"
        self.site = Site(
            place / "mappings", {"his": settings_from_url("his", f"sqlite:///{self.file}")}, state=place / "state"
        )
        self.now = 0.0
        self.his = GuardedHis(HisAccess({}, self.generation()))
        self.watch = self.watching(MappingOrigin(self.site.folder))

    def generation(self) -> Generation:
        return compile_generation(self.site.load())

    def watching(self, origin: MappingOrigin) -> DriftWatch:
        return DriftWatch(
            self.his,
            self.site.sources,
            self.site.timezone,
            places=origin.places,
            locks=origin.locks,
            every=timedelta(minutes=10),
            clock=lambda: self.now,
        )

    def lock(self) -> None:
        write_lock(self.site.folder, lock_of(self.site, self.site.load()))

    def patch(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute(statement)
            connection.commit()

    def rename(self, old: str, new: str) -> None:
        self.patch(f"ALTER TABLE BD_OU_EMPLOYEE RENAME COLUMN {old} TO {new}")

    async def after(self, minutes: int) -> set[str]:
        """What is degraded after the look in so many minutes."""
        self.now += minutes * 60
        await self.watch.look()
        return set(self.his.degraded())

    @property
    def component(self) -> tuple[int, str] | None:
        return next(((state.health, state.detail) for state in self.watch.state()), None)


@pytest.fixture
def bench(tmp_path: Path, hospital: Path) -> Bench:
    shutil.copyfile(hospital, tmp_path / "his.db")
    shutil.copytree(packs_folder() / "zebone" / "mappings", tmp_path / "mappings")
    return Bench(tmp_path)


async def test_without_a_lock_nothing_is_compared(bench: Bench) -> None:
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(0) == set()
    assert bench.component is None
    assert bench.watch.figures() == {"drift_changes": 0, "drift_breaking": 0}


async def test_it_compares_when_it_is_time_and_when_the_lock_is_another(bench: Bench) -> None:
    bench.lock()
    assert await bench.after(0) == set()
    assert bench.component == GOOD
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(9) == set()
    assert await bench.after(1) == {DOCTORS}
    assert bench.component == GOOD  # operations are parts of their own
    with pytest.raises(MappingMismatch, match="not as in"):
        await bench.his.read(DOCTORS, catalog_pb2.ListDoctorsRequest())
    shown = {item.operation: item for item in bench.his.abilities().capabilities()}
    assert [name for name, item in shown.items() if not item.available and item.note.startswith("医院系统已变更")] == [
        DOCTORS
    ]
    assert bench.watch.figures()["drift_breaking"] == 1
    bench.lock()  # the DBA says that it is right as it is
    assert await bench.after(0) == set()
    bench.rename("SPEC2", "SPEC")
    assert await bench.after(9) == set()


async def test_it_heals_when_the_catalogue_is_as_locked_again(bench: Bench) -> None:
    bench.lock()
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(0) == {DOCTORS}
    bench.rename("SPEC2", "SPEC")
    assert await bench.after(10) == set()


async def test_what_cannot_be_compared_changes_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.lock()
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(0) == {DOCTORS}
    kept = bench.file.rename(bench.file.with_name("away.db"))
    bench.file.mkdir()
    for _ in range(2):
        assert await bench.after(10) == {DOCTORS}
    assert bench.component is not None
    assert bench.component[0] == agent_pb2.HEALTH_DEGRADED
    assert bench.component[1].startswith("not compared: his: ")
    assert len([text for text in caplog.messages if "not compared" in text]) == 1
    bench.file.rmdir()
    kept.rename(bench.file)
    (bench.site.folder / LOCK).write_text("[]", encoding="utf-8")
    assert await bench.after(0) == {DOCTORS}
    assert bench.component == (agent_pb2.HEALTH_DEGRADED, "not compared: mappings.lock: not a lock of this version")
    bench.lock()
    assert await bench.after(0) == set()
    assert bench.component == GOOD


async def test_watches_that_break_are_named(bench: Bench) -> None:
    bench.lock()
    bench.patch("ALTER TABLE SCH_SCH RENAME TO SCH_SCH2")
    found = await bench.after(0)
    assert "CatalogService.ListSchedules" in found
    assert not any(name.startswith("watch") for name in found)
    assert bench.component is not None
    assert "watch schedules" in bench.component[1]


async def test_other_mappings_are_compared_at_once_and_degraded_until_then(bench: Bench) -> None:
    bench.lock()
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(0) == {DOCTORS}
    running = bench.generation()
    bench.his.generation = replace(running, revision="elsewhere")
    assert set(bench.his.degraded()) == {DOCTORS}
    assert await bench.after(0) == {DOCTORS}
    assert bench.component is not None
    assert bench.component[1] == "not compared: the files of the running revision are not at hand"
    file = bench.site.folder / "catalog" / "list_doctors.toml"  # the DBA adapts the mapping, not the lock
    file.write_text(file.read_text(encoding="utf-8").replace("e.SPEC ", "e.SPEC2 "), encoding="utf-8")
    bench.his.generation = bench.generation()
    assert await bench.after(0) == set()


async def test_the_lock_of_what_is_published(bench: Bench) -> None:
    """The folder's lock counts when it was renewed for the revision that runs, else the archive's."""
    bench.lock()
    assert bench.site.state is not None
    revisions = Revisions(bench.site.state)
    revisions.publish(bench.site, author="张工", note="一")
    bench.watch = bench.watching(MappingOrigin(bench.site.folder, revisions, use="published"))
    (bench.site.folder / LOCK).unlink()
    bench.rename("SPEC", "SPEC2")
    assert await bench.after(0) == {DOCTORS}
    bench.lock()
    assert await bench.after(0) == set()
    with (bench.site.folder / "codes" / "sex.toml").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    bench.lock()  # of other mappings than those that run
    assert await bench.after(0) == {DOCTORS}


def test_zero_switches_it_off(bench: Bench) -> None:
    made = DriftWatch(bench.his, {}, "", places=lambda _: (), locks=lambda _: (), every=timedelta(0))
    assert made.jobs() == []
    assert [job.every for job in bench.watch.jobs()] == [timedelta(seconds=5)]
