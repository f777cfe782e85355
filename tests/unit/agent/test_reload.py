"""Live reload: what is seen, waited for, refused, tried out, switched to and kept. Files are real, time is not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from his160.v1 import agent_pb2

from agent import cli
from agent.config import MappingUse, WatchMode
from agent.config_place import packs_folder
from agent.figures import Figures
from agent.mapping_origin import MappingOrigin, revision_of
from agent.mapping_shelf import MappingShelf, shelf_folder
from agent.mapping_watch import FolderWatch, fingerprint, is_share
from agent.reload import Reloader, ReloadSettings, start_mappings
from agent.supervisor import Supervisor
from agent.switches import Switches, read_switches, switch_file
from agent.watchers import Watchers
from his_db.canary import Canary, CannotTell, can_try
from his_db.document.problem import DocumentError, Place, Problem
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from his_db.source import Source, settings_from_url
from his_db.workbench.revisions import Revisions
from his_db.workbench.site import Site
from sync.watch_control import WatchControl
from sync.watcher import WatcherStatus
from tests.bounds import PATIENCE

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
PACK = packs_folder() / "zebone" / "mappings"
DEPARTMENTS = Path("catalog/list_departments.toml")
WAIT = PATIENCE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small set: one read, its codes, one watch."""
    made = tmp_path / "mappings"
    for name in ("catalog/list_departments.toml", "codes/period.toml", "watch/schedules.toml"):
        target = made / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / name, target)
    return made


def compiled(folder: Path) -> Generation:
    return compile_generation(load_mapping_set(folder, sources={"his": "sqlite"}, timezone="Asia/Shanghai"))


class Judge:
    """A canary that says what the test wants."""

    def __init__(self) -> None:
        self.verdict: tuple[Problem, ...] | CannotTell = ()
        self.tried: list[str] = []

    async def try_out(self, candidate: Generation, running: Generation) -> tuple[Problem, ...]:
        self.tried.append(candidate.revision)
        if isinstance(self.verdict, CannotTell):
            raise self.verdict
        return self.verdict


class Time:
    """Seconds that pass only in ``wait``; each wait takes what the script says, and then its event may be set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.script: list[tuple[float, bool]] = []
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def wait(self, event: asyncio.Event, limit: timedelta) -> None:
        self.waits.append(limit.total_seconds())
        seconds, changes = self.script.pop(0) if self.script else (limit.total_seconds(), False)
        self.now += seconds
        if changes:
            event.set()


class Bench:
    def __init__(self, folder: Path, state: Path, use: MappingUse = "folder") -> None:
        self.folder = folder
        self.shelf = MappingShelf(state)
        self.origin = MappingOrigin(folder, Revisions(state.parent), use=use)
        self.judge = Judge()
        self.time = Time()
        self.figures = Figures()
        self.switched: list[Generation] = []
        self.loads = 0
        self.while_loading: Callable[[], None] = lambda: None
        started = start_mappings(self.origin, compiled, self.shelf, last_good=True)
        self.started = started
        self.shelf.keep(started.key, started.taken, started.generation.revision, NOW)
        self.reloader = Reloader(
            ReloadSettings(self.origin, "off"),
            started,
            compiled=self.compiled,
            canary=self.judge,
            switch=self.switch,
            shelf=self.shelf,
            figures=self.figures,
            now=lambda: NOW,
            clock=self.time,
            wait=self.time.wait,
        )

    def compiled(self, folder: Path) -> Generation:
        self.loads += 1
        self.while_loading()
        return compiled(folder)

    async def switch(self, generation: Generation) -> None:
        self.switched.append(generation)

    @property
    def component(self) -> tuple[int, str]:
        """Without the revisions, which ``revisions`` has."""
        (state,) = self.reloader.state()
        return state.health, re.sub(r"(; |^)running .*", "", state.detail)

    @property
    def revisions(self) -> str:
        (state,) = self.reloader.state()
        return state.detail[state.detail.index("running ") :]

    async def look(self) -> None:
        """The next look, without any event."""
        await self.reloader._step(FolderWatch(self.folder, "off", lambda: None))

    def edit(self, old: str, new: str, name: Path = DEPARTMENTS) -> None:
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Bench:
    return Bench(folder, tmp_path / "state" / "mappings")


async def test_a_good_change_is_switched_to_and_kept(bench: Bench) -> None:
    bench.edit("schema = 1", "schema = 1\n# better")
    await bench.reloader.reload()
    (switched,) = bench.switched
    assert switched.revision == compiled(bench.folder).revision == bench.judge.tried[0]
    assert bench.component == (agent_pb2.HEALTH_OK, "")
    kept = bench.shelf.last_good(bench.folder)
    assert kept is not None
    assert compiled(kept).revision == switched.revision
    assert bench.figures.value("reloads") == 1
    await bench.reloader.reload()  # nothing new
    assert (len(bench.switched), len(bench.judge.tried)) == (1, 1)


def gbk(text: str) -> bytes:
    return text.replace("schema = 1", "schema = 1\n# 中文").encode("gbk")


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda text: text[: len(text) // 2].encode(), "H1"),
        (lambda text: b"", "H206"),
        (gbk, "H102"),
        (lambda text: text.encode("utf-16"), "H103"),
        (lambda text: text.replace("schema = 1", "schema = 1\ncolour = 1").encode(), "H120"),
        (lambda text: text.replace("schema = 1", "schema = 1\noperation = 1").encode(), "H106"),
        (lambda text: text.replace('column = "', 'column = "no_such_', 1).encode(), "H3"),
        (lambda text: text.encode() + b"\x00", "H105"),
    ],
    ids=["half", "empty", "gbk", "utf-16", "unknown key", "twice", "column", "nul"],
)
async def test_a_bad_change_touches_nothing(
    bench: Bench, damage: Callable[[str], bytes], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = bench.folder / DEPARTMENTS
    good = path.read_text(encoding="utf-8")
    path.write_bytes(damage(good))
    if code == "H3" and not _refuses(bench.folder):
        pytest.skip("a column can be missed only against the HIS")
    with caplog.at_level(logging.INFO):
        await bench.reloader.reload()
        logged = len(caplog.records)
        await bench.reloader.reload()
        assert len(caplog.records) == logged  # in the log once
    assert not bench.switched
    assert not bench.judge.tried
    health, detail = bench.component
    assert health == agent_pb2.HEALTH_DEGRADED
    assert f"first {DEPARTMENTS.as_posix()}:" in detail
    assert code in detail
    told = bench.shelf.refused_file.read_text(encoding="utf-8")
    assert len(bench.reloader.problems) == bench.reloader.figures()["mapping_problems"] > 0
    for problem in bench.reloader.problems:
        assert problem.render() in told
    assert any("\u4e00" <= char <= "\u9fff" for char in told)
    path.write_text(good, encoding="utf-8")
    await bench.reloader.reload()
    assert bench.component == (agent_pb2.HEALTH_OK, "")
    assert not bench.shelf.refused_file.exists()
    assert not bench.switched  # the folder is again what runs


def _refuses(folder: Path) -> bool:
    try:
        compiled(folder)
    except DocumentError:
        return True
    return False


async def test_a_byte_order_mark_is_no_problem(bench: Bench) -> None:
    path = bench.folder / DEPARTMENTS
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    await bench.reloader.reload()
    assert len(bench.switched) == 1


async def test_a_folder_that_goes_and_comes(bench: Bench) -> None:
    away = bench.folder.rename(bench.folder.with_name("away"))
    await bench.reloader.reload()
    assert bench.component[0] == agent_pb2.HEALTH_DEGRADED
    away.rename(bench.folder)
    await bench.reloader.reload()
    assert bench.component[0] == agent_pb2.HEALTH_OK
    assert not bench.switched


async def test_a_folder_without_an_operation_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Emptied by mistake, or only the files of operations gone: what runs stays, also over a restart."""
    good = bench.started.generation.revision
    for name in (DEPARTMENTS, Path("watch/schedules.toml"), Path("codes/period.toml")):
        (bench.folder / name).unlink()
        await bench.look()
        assert not bench.switched
        assert not bench.judge.tried
        assert bench.component == (agent_pb2.HEALTH_DEGRADED, "candidate refused: 1 problem, first mappings:1:1 H241")
        assert "没有任何操作的映射" in bench.shelf.refused_file.read_text(encoding="utf-8")
    again = Bench(bench.folder, tmp_path / "state" / "mappings")
    assert again.started.generation.revision == good
    assert again.component[1].startswith("started with the last good mappings; candidate refused: 1 problem")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
async def test_a_file_name_in_gbk_is_refused(bench: Bench) -> None:
    file = bench.folder / os.fsdecode("门诊.toml".encode("gbk"))
    file.write_bytes((bench.folder / DEPARTMENTS).read_bytes())
    await bench.look()
    assert not bench.switched
    assert bench.figures.value("reload_defects") == 0
    assert bench.component == (agent_pb2.HEALTH_DEGRADED, "candidate refused: 1 problem, first 门诊.toml:1:1 H100")
    file.unlink()
    await bench.look()
    assert bench.component == (agent_pb2.HEALTH_OK, "")


async def test_the_canary_refuses(bench: Bench) -> None:
    bench.judge.verdict = (Problem(Place("watch schedules", 1, 1), "H590", "fails", "失败"),)
    bench.edit("schema = 1", "schema = 1\n# better")
    await bench.reloader.reload()
    assert not bench.switched
    assert "watch schedules:1:1 H590" in bench.component[1]


async def test_the_candidate_waits_for_an_his_that_does_not_answer(bench: Bench) -> None:
    bench.judge.verdict = CannotTell("CatalogService.ListDepartments: connect")
    bench.edit("schema = 1", "schema = 1\n# better")
    await bench.reloader.reload()
    assert not bench.switched
    assert bench.component == (agent_pb2.HEALTH_DEGRADED, "candidate waits: CatalogService.ListDepartments: connect")
    bench.judge.verdict = ()
    loads = bench.loads
    await bench.reloader._step(FolderWatch(bench.folder, "off", lambda: None))  # the next look, without any event
    assert bench.loads == loads  # what was checked is still good
    assert len(bench.switched) == 1
    assert bench.component[0] == agent_pb2.HEALTH_OK


async def test_it_waits_until_the_folder_is_quiet(bench: Bench) -> None:
    bench.time.script = [(0.1, True), (0.4, True), (0.5, False)]
    await bench.reloader.settle()
    assert bench.time.waits == [0.5, 0.5, 0.5]
    assert bench.time.now == 1.0


async def test_somebody_who_never_stops_is_not_waited_for(bench: Bench) -> None:
    bench.time.script = [(0.3, True)] * 100
    await bench.reloader.settle()
    assert 5 <= bench.time.now < 5.5
    bench.edit("schema = 1", "schema = 1\n# better")
    bench.while_loading = bench.reloader.changed
    await bench.reloader.reload()
    assert len(bench.switched) == 1


async def test_a_change_while_reading_starts_over(bench: Bench) -> None:
    """What was read may be half of one set and half of another."""
    await bench.reloader.settle()
    bench.edit("schema = 1", "schema = 1\n# first")

    def second() -> None:
        bench.while_loading = lambda: None
        bench.edit("# first", "# second")
        loop.call_soon_threadsafe(bench.reloader.changed)

    loop = asyncio.get_running_loop()
    bench.while_loading = second
    await bench.reloader.reload()
    await asyncio.sleep(0)
    assert not bench.switched
    assert bench.figures.value("reloads_overtaken") == 1
    await bench.reloader._step(FolderWatch(bench.folder, "off", lambda: None))
    assert [item.revision for item in bench.switched] == [compiled(bench.folder).revision]


async def test_a_defect_of_a_check_does_not_end_the_watching(bench: Bench) -> None:
    bench.edit("schema = 1", "schema = 1\n# better")

    def broken() -> None:
        bench.while_loading = lambda: None
        raise RuntimeError("defect")

    bench.while_loading = broken
    watch = FolderWatch(bench.folder, "off", lambda: None)
    bench.reloader.changed()
    await bench.reloader._step(watch)
    assert bench.figures.value("reload_defects") == 1
    assert not bench.switched
    bench.reloader.changed()
    await bench.reloader._step(watch)
    assert len(bench.switched) == 1


# -- the last good set ------------------------------------------------------------------------------------------------


async def test_a_broken_folder_at_the_start_is_bridged(bench: Bench, tmp_path: Path) -> None:
    good = bench.started.generation.revision
    path = bench.folder / DEPARTMENTS
    text = path.read_bytes()
    path.write_bytes(text[:100])
    again = Bench(bench.folder, tmp_path / "state" / "mappings")
    assert again.started.generation.revision == good
    assert again.component[0] == agent_pb2.HEALTH_DEGRADED
    assert again.component[1].startswith("started with the last good mappings; candidate refused: 1 problem, first ")
    path.write_bytes(text.replace(b"schema = 1", b"schema = 1\n# mended"))
    await again.reloader.reload()
    assert len(again.switched) == 1
    assert again.component == (agent_pb2.HEALTH_OK, "")
    shutil.rmtree(bench.folder)
    assert (
        Bench(bench.folder, tmp_path / "state" / "mappings").started.generation.revision == again.switched[0].revision
    )


def test_the_last_good_of_another_folder_is_not_used(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.toml").write_text("schema = 1", encoding="utf-8")
    with pytest.raises(DocumentError):
        start_mappings(MappingOrigin(other), compiled, bench.shelf, last_good=True)
    (bench.folder / DEPARTMENTS).write_bytes(b"=")
    with pytest.raises(DocumentError, match="H101"):
        start_mappings(bench.origin, compiled, bench.shelf, last_good=False)
    shutil.rmtree(bench.shelf.refused_file.parent)
    with pytest.raises(DocumentError, match="H101"):
        start_mappings(bench.origin, compiled, bench.shelf, last_good=True)


def test_a_crash_between_two_renames_keeps_a_good_set(bench: Bench) -> None:
    place = bench.shelf.refused_file.parent
    (place / "last-good").rename(place / "last-good.old")
    kept = bench.shelf.last_good(bench.folder)
    assert kept == place / "last-good.old"
    (place / "candidate-1").mkdir()
    bench.shelf.tidy()
    assert not list(place.glob("candidate-*"))


def test_only_files_of_the_set_are_copied(bench: Bench) -> None:
    for name in (".hidden.toml", "_draft.toml", "notes.txt", "catalog/.list.toml.swp"):
        (bench.folder / name).write_text("x", encoding="utf-8")
    taken = bench.shelf.take(bench.folder)
    names = sorted(path.relative_to(taken).as_posix() for path in taken.rglob("*") if path.is_file())
    assert names == ["catalog/list_departments.toml", "codes/period.toml", "watch/schedules.toml"]


# -- published revisions ----------------------------------------------------------------------------------------------


def publish(bench: Bench) -> str:
    site = Site(bench.folder, {"his": settings_from_url("his", "sqlite:///his.db")})
    return Revisions(bench.shelf.refused_file.parents[1]).publish(site, author="张工", note="新版").revision


def test_the_revision_of_a_folder_is_the_loader_s(bench: Bench, tmp_path: Path) -> None:
    (bench.folder / "catalog" / "A.sql").write_text("SELECT 1", encoding="utf-8")
    (bench.folder / "_draft.toml").write_text("=", encoding="utf-8")
    assert revision_of(bench.folder) == compiled(bench.folder).revision
    assert revision_of(PACK) == compiled(PACK).revision
    assert revision_of(tmp_path / "none") == ""


async def test_the_revisions_are_always_shown(bench: Bench) -> None:
    first = bench.started.generation.revision
    assert bench.revisions == f"running {first}, folder {first}, published -"
    assert publish(bench) == first
    bench.judge.verdict = (Problem(Place("watch schedules", 1, 1), "H590", "fails", "失败"),)
    bench.edit("schema = 1", "schema = 1\n# better")
    await bench.look()
    second = compiled(bench.folder).revision
    assert bench.revisions == f"running {first}, folder {second}, published {first}"
    bench.judge.verdict = ()
    bench.reloader.changed()
    await bench.look()
    assert bench.revisions == f"running {second}, folder {second}, published {first}"


async def test_only_what_is_published_runs(bench: Bench, tmp_path: Path) -> None:
    first = publish(bench)
    bench = Bench(bench.folder, tmp_path / "state" / "mappings", "published")
    assert (bench.component, bench.revisions) == (
        (agent_pb2.HEALTH_OK, ""),
        f"running {first}, folder {first}, published {first}",
    )
    bench.edit("schema = 1", "schema = 1\n# better")
    second = compiled(bench.folder).revision
    await bench.look()
    assert not bench.judge.tried
    assert bench.component == (agent_pb2.HEALTH_OK, "")
    assert bench.revisions == f"running {first}, folder {second}, published {first}"
    assert publish(bench) == second
    await bench.look()
    assert [item.revision for item in bench.switched] == [second]
    assert bench.revisions == f"running {second}, folder {second}, published {second}"
    Revisions(tmp_path / "state").rollback(author="李工", note="回退")
    await bench.look()
    assert [item.revision for item in bench.switched] == [second, first]
    assert bench.revisions == f"running {first}, folder {second}, published {first}"
    shutil.rmtree(bench.folder)
    again = Bench(bench.folder, tmp_path / "state" / "mappings", "published")
    assert again.started.generation.revision == first  # the folder is not needed
    assert again.component == (agent_pb2.HEALTH_OK, "")


async def test_until_something_is_published_the_folder_of_the_start_runs(bench: Bench, tmp_path: Path) -> None:
    bench = Bench(bench.folder, tmp_path / "state" / "mappings", "published")
    first = bench.started.generation.revision
    said = "nothing is published yet, the folder as it was at the start runs"
    assert bench.component == (agent_pb2.HEALTH_DEGRADED, said)
    bench.edit("schema = 1", "schema = 1\n# better")
    await bench.look()
    assert (bench.component[1], bench.judge.tried) == (said, [])
    second = publish(bench)
    await bench.look()
    assert [item.revision for item in bench.switched] == [second] != [first]
    assert bench.component == (agent_pb2.HEALTH_OK, "")


@pytest.mark.parametrize("damage", ["archive", "pointer", "gone", "no archive"])
async def test_damaged_publications_never_run(bench: Bench, tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state" / "mappings"
    good = publish(bench)
    bench = Bench(bench.folder, state, "published")
    bench.edit("schema = 1", "schema = 1\n# not published")
    pointer, archive = state / "live.json", state / good
    kept = pointer.read_bytes()
    with (archive / DEPARTMENTS).open("a", encoding="utf-8") as file:
        file.write("# by hand\n" if damage == "archive" else "")
    if damage == "pointer":
        pointer.write_text("{", encoding="utf-8")
    elif damage == "gone":
        pointer.unlink()
    elif damage == "no archive":
        archive.rename(tmp_path / "away")
    for found in (bench, Bench(bench.folder, state, "published")):
        await found.look()
        assert found.component[0] == agent_pb2.HEALTH_DEGRADED
        assert "live.json:1:1 H712" in found.component[1]
        assert f"running {good}" in found.revisions
        assert not found.switched
    pointer.write_bytes(kept)
    if damage == "no archive":
        (tmp_path / "away").rename(archive)
    if damage != "archive":
        await bench.look()
        assert bench.component == (agent_pb2.HEALTH_OK, "")
        assert not bench.switched


# -- seeing changes ---------------------------------------------------------------------------------------------------


class Seen:
    def __init__(self) -> None:
        self.event = threading.Event()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.event.set()

    def within(self, seconds: float = WAIT) -> bool:
        found = self.event.wait(seconds)
        self.event.clear()
        return found


@pytest.mark.parametrize("mode", ["auto", "polling"])
def test_changes_are_seen(folder: Path, mode: WatchMode) -> None:
    seen = Seen()
    watch = FolderWatch(folder, mode, seen)
    watch.start()
    assert watch.means == ("polling" if mode == "polling" else "events")
    try:
        path = folder / DEPARTMENTS
        path.write_bytes(path.read_bytes() + b"\n# more\n")
        assert seen.within()
        new = path.with_suffix(".new")
        new.write_bytes(path.read_bytes() + b"# and more\n")
        new.replace(path)  # how careful editors save
        assert seen.within()
        (folder / "deep").mkdir()
        (folder / "deep" / "x.sql").write_text("SELECT 1", encoding="utf-8")
        assert seen.within()
        path.unlink()
        assert seen.within()
    finally:
        watch.stop()
    assert watch.means == ""


def test_reading_is_no_change(folder: Path) -> None:
    seen = Seen()
    watch = FolderWatch(folder, "events", seen)
    watch.start()
    try:
        compiled(folder)
        (folder / "notes.txt").write_text("x", encoding="utf-8")
        marker = folder / "marker.toml"
        marker.write_text("", encoding="utf-8")  # everything before it has been delivered when this is
        assert seen.within()
        marker.unlink()
    finally:
        watch.stop()
    assert seen.count <= 5  # created, modified, closed, deleted: of the marker alone


def test_a_folder_renamed_over_is_watched_anew(folder: Path, tmp_path: Path) -> None:
    seen = Seen()
    watch = FolderWatch(folder, "auto", seen)
    watch.start()
    before = fingerprint(folder)
    shutil.copytree(folder, tmp_path / "next")
    folder.rename(tmp_path / "former")
    (tmp_path / "next").rename(folder)
    try:
        assert fingerprint(folder) != before
        assert watch.renew()
        assert not watch.renew()
        seen.event.clear()
        (folder / "x.sql").write_text("SELECT 1", encoding="utf-8")
        assert seen.within()
    finally:
        watch.stop()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path / "none", "auto", lambda: None)
    watch.start()
    assert watch.means == ""
    assert fingerprint(tmp_path / "none") == ()
    assert not is_share(tmp_path)
    watch.stop()


async def test_the_running_reloader_sees_an_edit(bench: Bench) -> None:
    """With the real watchdog and the real clock."""
    done = asyncio.Event()

    async def switch(generation: Generation) -> None:
        done.set()

    reloader = Reloader(
        ReloadSettings(bench.origin, "auto", timedelta(milliseconds=20)),
        bench.started,
        compiled=compiled,
        canary=bench.judge,
        switch=switch,
        shelf=bench.shelf,
        figures=bench.figures,
        now=lambda: NOW,
    )
    running = asyncio.create_task(reloader.run())
    try:
        bench.edit("schema = 1", "schema = 1\n# better")
        async with asyncio.timeout(WAIT):
            await done.wait()
    finally:
        running.cancel()
        await asyncio.wait((running,))


# -- the canary on a real HIS -----------------------------------------------------------------------------------------


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    url = f"sqlite:///{tmp_path / 'his.db'}"
    load_sample("zebone").create(url, today=hospital_now().date(), size=SMALL)
    made = Source(settings_from_url("his", url))
    yield made
    await made.close()


def canary(source: Source, *names: str) -> Canary:
    return Canary({"his": source}, names or ("CatalogService.ListDepartments",), clock=lambda: datetime.now(UTC))


async def test_the_canary_tries_reads_and_watches(bench: Bench, source: Source) -> None:
    running = bench.started.generation
    assert await canary(source).try_out(running, running) == ()
    assert await canary(source, "CatalogService.ListSchedules").try_out(running, running) == ()  # not mapped
    bench.edit("FROM BD_OU_DEPT", "FROM BD_OU_DEPT_X")
    bench.edit("FROM SCH_SCH s", "FROM SCH_SCH_X s", Path("watch/schedules.toml"))
    broken = compiled(bench.folder)
    problems = await canary(source).try_out(broken, running)
    assert [(problem.place.file, problem.code) for problem in problems] == [
        ("CatalogService.ListDepartments", "H590"),
        ("watch schedules", "H590"),
    ]
    assert await canary(source).try_out(broken, broken) == ()  # no worse than what runs: a part may be mended


async def test_a_watch_without_a_readable_row_is_refused(bench: Bench, source: Source) -> None:
    running = bench.started.generation
    bench.edit("CASE s.FLAG_STOP WHEN '1' THEN 'SUSPENDED' ELSE 'OPEN' END AS state", "'nonsense' AS state",
               Path("watch/schedules.toml"))  # fmt: skip
    problems = await canary(source).try_out(compiled(bench.folder), running)
    assert [problem.place.file for problem in problems] == ["watch schedules"]


async def test_the_canary_cannot_tell_without_the_his(bench: Bench, tmp_path: Path) -> None:
    source = Source(settings_from_url("his", f"sqlite:///{tmp_path / 'none.db'}"))
    running = bench.started.generation
    with pytest.raises(CannotTell):
        await canary(source).try_out(running, running)
    await source.close()


def test_what_can_be_a_canary() -> None:
    assert can_try("CatalogService.ListDepartments")
    assert can_try("CatalogService.ListSchedules")
    assert not can_try("CatalogService.ListSlots")
    assert not can_try("PaymentService.RefundPayment")
    assert not can_try("AgentService.GetInfo")


# -- watchers and supervisor ------------------------------------------------------------------------------------------


class FakeWatcher:
    def __init__(self, name: str) -> None:
        self.status = WatcherStatus(name)
        self.ended = asyncio.Event()
        self.woken = 0
        self.obeyed: list[object] = []

    def obey(self, control: object) -> bool:
        self.obeyed.append(control)
        return False

    async def run(self) -> None:
        await self.ended.wait()

    def stop(self) -> None:
        self.ended.set()

    def wake(self) -> None:
        self.woken += 1


async def test_watchers_follow_the_mappings() -> None:
    made: dict[str, FakeWatcher] = {}

    def make(name: str) -> FakeWatcher:
        return made.setdefault(name, FakeWatcher(name))

    supervisor = Supervisor()
    watchers = Watchers(make, supervisor)  # type: ignore[arg-type]
    watchers.obey([WatchControl("schedules", is_paused=True)])
    await watchers.follow(["orders", "schedules"])
    assert made["orders"].obeyed == [None]  # before its first look
    assert made["schedules"].obeyed == [WatchControl("schedules", is_paused=True)]
    watching = asyncio.create_task(supervisor.watch(asyncio.Event()))
    await watchers.follow(["schedules", "more"])
    assert made["orders"].ended.is_set()
    assert [watcher.status.stream for watcher in watchers.all] == ["schedules", "more"]
    await asyncio.sleep(0)
    assert not watching.done()  # one that was released is not missed
    made["more"].ended.set()  # but this one is, though it came later
    async with asyncio.timeout(WAIT):
        assert await watching == "watch:more"
    watchers.stop()
    await supervisor.stop(timedelta(seconds=1))


# -- kill switch ------------------------------------------------------------------------------------------------------

CONFIG = """\
site.code = "1"
mapping.path = "mappings"
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true }
delivery.sink = "pull"
operations.off = ["CatalogService.ListDoctors"]
"""
REFUND = "PaymentService.RefundPayment"


def test_the_kill_switch_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    where = ["--config", str(config)]
    file = switch_file(tmp_path / "state" / "his160.db")
    switches = Switches(file, ["CatalogService.ListDoctors"])
    assert switches.note("CatalogService.ListDoctors") == ""
    assert switches.note(REFUND) is None
    with caplog.at_level(logging.WARNING):
        assert cli.run(["switch", "off", REFUND, "--note", "日结\n对账", *where]) == 0
        switches.look()
    assert switches.note(REFUND) == "日结 对账"
    record = next(item for item in caplog.records if item.getMessage() == "operation switched off")
    assert record.__dict__["operation"] == REFUND
    assert "@" in record.__dict__["by"]
    assert cli.run(["switch", "list", *where]) == 0
    shown = capsys.readouterr().out
    assert REFUND in shown
    assert "CatalogService.ListDoctors" in shown
    file.write_text("{", encoding="utf-8")
    switches.look()
    assert switches.trouble
    assert switches.note(REFUND) is not None  # in doubt it stays off
    assert cli.run(["switch", "on", REFUND, *where]) == 1
    file.unlink()
    assert cli.run(["switch", "off", REFUND, *where]) == 0
    switches.look()
    assert not switches.trouble
    with caplog.at_level(logging.WARNING):
        assert cli.run(["switch", "on", REFUND, *where]) == 0
        switches.look()
    assert "operation switched on" in caplog.messages
    assert switches.names() == ("CatalogService.ListDoctors",)
    assert cli.run(["switch", "on", REFUND, *where]) == 0
    assert cli.run(["switch", "on", "CatalogService.ListDoctors", *where]) == 1
    assert cli.run(["switch", "off", "PaymentService.RefundPaymen", *where]) == 1
    assert "RefundPayment" in capsys.readouterr().err
    assert read_switches(file) == {}
    assert json.loads(file.read_text(encoding="utf-8")) == {}


def test_status_shows_all_problems_of_a_refused_set(bench: Bench, tmp_path: Path) -> None:
    from agent.commands.status import _refused

    config = tmp_path / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    assert shelf_folder(tmp_path / "state" / "his160.db") == bench.shelf.refused_file.parent
    assert _refused(config) == ""
    assert _refused(None) == ""
    problems = [Problem(Place("a.toml", 3, 1), "H120", "unknown key", "未知的键")] * 2
    bench.shelf.tell_refused(problems, NOW)
    shown = _refused(config)
    assert shown.count("a.toml:3:1: error H120: 未知的键") == 2
    assert "unknown key" in shown
