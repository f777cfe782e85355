"""Editing mappings under a running agent: no call is lost, nothing bad gets in, switches and patches act live."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from his160.v1 import agent_pb2, agent_pb2_grpc, appointment_pb2, appointment_pb2_grpc, catalog_pb2, catalog_pb2_grpc

from agent import cli
from agent.border_server import DETAILS_KEY
from agent.config import load_settings
from agent.config_place import packs_folder
from agent.daemon import Daemon
from agent.errors import Explained, explain
from his_db.generation import Generation
from his_db.mapping.load import load_mapping_set
from his_db.registry import load_sample
from his_db.sample import SMALL, hospital_now
from sync.audit import Audit
from sync.clock import utc_now
from tests.bounds import PATIENCE, until_found

EDITS = int(os.environ.get("HIS160_EDITS", "200"))  # `make soak` does the full thousand
WAIT = PATIENCE
PACK = packs_folder() / "zebone" / "mappings"
CONFIG = """\
site.code = "440305001"
mapping = { path = "mappings", quiet = "20ms" }
source.his = { engine = "sqlite", database = "his.db" }
server = { enabled = true, insecure = true, listen = "127.0.0.1:0" }
delivery.sink = "pull"
watch.poll = "100ms"
report.enabled = false
limits.grace = "2s"
"""
GOOD = (agent_pb2.HEALTH_OK, "")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("his") / "his.db"
    load_sample("zebone").create(f"sqlite:///{file}", today=hospital_now().date(), size=SMALL)
    return file


@dataclass(slots=True)
class Running:
    """A daemon in this process, on a copy of the pack that the test may edit."""

    folder: Path
    daemon: Daemon
    channel: grpc.aio.Channel
    originals: dict[Path, bytes] = field(default_factory=dict)

    @property
    def mappings(self) -> Path:
        return self.folder / "mappings"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    async def status(self) -> agent_pb2.GetStatusResponse:
        found = await agent_pb2_grpc.AgentServiceStub(self.channel).GetStatus(agent_pb2.GetStatusRequest())
        assert isinstance(found, agent_pb2.GetStatusResponse)
        return found

    async def component(self, name: str) -> tuple[int, str] | None:
        """Without the revisions of ``mapping``, which ``revisions`` has."""
        found = next((c for c in (await self.status()).components if c.name == name), None)
        return None if found is None else (found.health, re.sub(r"(; |^)running .*", "", found.detail))

    async def revisions(self) -> str:
        detail = next(c.detail for c in (await self.status()).components if c.name == "mapping")
        return detail[detail.index("running ") :]

    async def info(self) -> agent_pb2.GetInfoResponse:
        found = await agent_pb2_grpc.AgentServiceStub(self.channel).GetInfo(agent_pb2.GetInfoRequest())
        assert isinstance(found, agent_pb2.GetInfoResponse)
        return found

    async def departments(self) -> Any:
        return await catalog_pb2_grpc.CatalogServiceStub(self.channel).ListDepartments(
            catalog_pb2.ListDepartmentsRequest()
        )

    def expected(self) -> str:
        """The revision of the folder as it is."""
        return load_mapping_set(self.mappings, sources={"his": "sqlite"}, timezone="Asia/Shanghai").revision

    def restore(self, mark: str) -> None:
        """Every file good again, one with another comment."""
        for path, content in self.originals.items():
            path.write_bytes(content)
        first = self.mappings / "catalog" / "list_departments.toml"
        first.write_bytes(first.read_bytes() + f"\n# {mark}\n".encode())


@pytest.fixture
async def running(tmp_path: Path, hospital: Path) -> AsyncIterator[Running]:
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    shutil.copytree(PACK, tmp_path / "mappings")
    async with started(tmp_path) as made:
        yield made


class started:
    """``async with started(folder)``: the daemon of the folder's configuration."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> Running:
        self._daemon = Daemon(load_settings(self._folder / "config.toml", {}))
        ready = await self._daemon.start()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{ready.port}")
        files = {path: path.read_bytes() for path in (self._folder / "mappings").rglob("*.toml")}
        return Running(self._folder, self._daemon, self._channel, files)

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
        await self._daemon.stop()


async def until(check: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask until the answer is true."""
    try:
        return await until_found(check)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


@contextmanager
def refused() -> Iterator[list[Explained]]:
    found: list[Explained] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield found
    from google.rpc import status_pb2

    details = dict(caught.value.trailing_metadata() or ())[DETAILS_KEY]
    assert isinstance(details, bytes)
    found.append(explain(status_pb2.Status.FromString(details)))


class Load:
    """Callers that never stop: reads of three kinds and a write. Every answer counts, every error is kept."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._stop = False
        self.answered = 0
        self.errors: list[str] = []
        self.progress = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        catalog = catalog_pb2_grpc.CatalogServiceStub(self._running.channel)
        orders = appointment_pb2_grpc.AppointmentServiceStub(self._running.channel)
        today = hospital_now().date()
        days = catalog_pb2.ListSchedulesRequest()
        for day in (days.from_date, days.to_date):
            day.year, day.month, day.day = today.year, today.month, today.day
        schedule = (await catalog.ListSchedules(days)).schedules[0].schedule_id
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: catalog.ListDepartments(catalog_pb2.ListDepartmentsRequest()),
            lambda: catalog.ListSchedules(days),
            lambda: catalog.ListSlots(catalog_pb2.ListSlotsRequest(schedule_id=schedule)),
            lambda: catalog.ListSlots(catalog_pb2.ListSlotsRequest(schedule_id=schedule, realtime=True)),
            lambda: orders.UnlockSlot(
                appointment_pb2.UnlockSlotRequest(request_id=str(uuid.uuid4()), order_no=uuid.uuid4().hex[:20])
            ),
        ]
        self._tasks = [asyncio.create_task(self._call(call)) for call in calls]

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> None:
        while not self._stop:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                self.errors.append(f"{error.code()} {error.details()}")
            self.answered += 1
            self.progress.set()


def damage(path: Path, good: bytes, turn: int) -> None:
    """What editors, copy and paste, and power failures do to a file."""
    text = good.decode()
    match turn % 9:
        case 0:
            path.write_bytes(good + f"\n# turn {turn}\n".encode())
        case 1:
            path.write_bytes(good[: len(good) * (turn % 7 + 1) // 8])
        case 2:
            path.write_bytes((text + "\n# 中文注释\n").encode("gb18030"))  # GBK, and what it lacks
        case 3:
            path.write_bytes(b"\xef\xbb\xbf" + good)
        case 4:
            path.write_bytes(text.replace("schema = 1", "schema = 1\ncolour = 1", 1).encode())
        case 5:
            path.unlink()
        case 6:
            new = path.with_name(f".{path.name}.swp")
            new.write_bytes(good)
            new.replace(path)
        case 7:
            path.write_bytes(text.replace("FROM ", "FROM NO_SUCH_", 1).encode())
        case 8:
            path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_thousand_edits_lose_no_call(running: Running) -> None:
    """Also: nothing is invented by the watches, no former generation is kept, and the last edit is what runs."""
    load = Load(running)
    await load.start()
    files = sorted(running.originals)
    figures = running.daemon.figures
    for turn in range(EDITS):
        path = files[turn * 7 % len(files)]
        damage(path, running.originals[path], turn)
        load.progress.clear()
        async with asyncio.timeout(WAIT):
            await load.progress.wait()
        if turn % 100 == 50:
            before = figures.value("reloads_refused")

            async def seen(before: float = before) -> bool:
                return figures.value("reloads_refused") > before or (await running.component("mapping")) != GOOD

            await until(seen, "a refusal")
        if turn % 100 == 99:
            running.restore(f"turn {turn}")
            wanted = running.expected()

            async def switched(wanted: str = wanted) -> bool:
                return (await running.info()).mapping_revision == wanted

            await until(switched, "the good set")
    await load.stop()
    assert not load.errors, (len(load.errors), load.errors[:5])
    assert load.answered > EDITS
    assert figures.value("reloads") >= EDITS // 100
    assert figures.value("reloads_refused") >= EDITS // 200
    assert figures.value("reload_defects") == 0
    status = await running.status()
    assert await running.component("mapping") == GOOD
    assert status.figures["mapping_old_calls"] == 0
    assert status.outbox_pending == status.outbox_dead == status.unknown_outcomes == 0
    gc.collect()
    assert sum(isinstance(item, Generation) for item in gc.get_objects()) <= 2


async def test_a_bad_edit_is_told_and_a_restart_bridges_it(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (await running.info()).mapping_revision
    path = running.mappings / "catalog" / "list_departments.toml"
    path.write_text(path.read_text(encoding="utf-8") + "colour = 1\ncolor = 2\n", encoding="utf-8")

    async def told() -> bool:
        found = await running.component("mapping")
        return found is not None and found[0] == agent_pb2.HEALTH_DEGRADED

    await until(told, "the refusal in the status")
    found = await running.component("mapping")
    assert found is not None
    assert "2 problems, first catalog/list_departments.toml:" in found[1]
    assert (await running.info()).mapping_revision == good
    port = running.daemon._server.port if running.daemon._server else 0
    target = ["--target", f"127.0.0.1:{port}", "--insecure", "--config", str(running.config)]
    assert await asyncio.to_thread(cli.run, ["status", *target]) == 0
    shown = capsys.readouterr().out
    assert shown.count("error H120") == 2
    assert "colour" in shown
    assert "修复" in shown or "没有" in shown or "未知" in shown
    await running.daemon.stop()
    async with started(running.folder) as again:
        assert (await again.info()).mapping_revision == good
        found = await again.component("mapping")
        assert found is not None
        assert found[1].startswith("started with the last good mappings; candidate refused: 2 problems")
        assert (await again.departments()).departments
        path.write_bytes(running.originals[path] + b"\n# mended\n")

        async def mended() -> bool:
            return await again.component("mapping") == GOOD

        await until(mended, "the mended set")
        running_now = (await again.info()).mapping_revision
        assert running_now != good
        for file in running.originals:  # somebody cleans up the wrong folder
            file.unlink()

        async def emptied() -> bool:
            found = await again.component("mapping")
            return found is not None and "candidate refused: 1 problem, first mappings:1:1 H241" in found[1]

        await until(emptied, "the refusal of a set without an operation")
        assert (await again.info()).mapping_revision == running_now
        assert (await again.departments()).departments


async def test_watches_come_and_go_with_the_files(running: Running) -> None:
    path = running.mappings / "watch" / "schedules.toml"
    path.unlink()

    async def gone() -> bool:
        names = {component.name for component in (await running.status()).components}
        return "watch:schedules" not in names and "watch:orders" in names

    await until(gone, "the watch's end")
    path.write_bytes(running.originals[path])

    async def back() -> bool:
        return await running.component("watch:schedules") == GOOD

    await until(back, "the watch's return")
    assert (await running.status()).outbox_pending == 0
    watching = asyncio.create_task(running.daemon.watch(asyncio.Event()))
    await asyncio.sleep(0)
    assert not watching.done()  # no part has died by it
    watching.cancel()


async def test_a_switch_acts_within_seconds(running: Running) -> None:
    name, where = "CatalogService.ListDepartments", ["--config", str(running.config)]
    assert (await running.departments()).departments
    assert await asyncio.to_thread(cli.run, ["switch", "off", name, "--note", "HIS 维护", *where]) == 0

    async def is_off() -> bool:
        return await running.component(f"operation:{name}") is not None

    await until(is_off, "the switch")
    with refused() as told:
        await running.departments()
    assert (told[0].code, told[0].reason) == ("UNAVAILABLE", "SWITCHED_OFF")
    assert told[0].retry_after is not None
    assert "HIS 维护" in told[0].text
    shown = {item.operation: item for item in (await running.info()).capabilities}
    assert not shown[name].available
    assert "HIS 维护" in shown[name].note
    assert await asyncio.to_thread(cli.run, ["switch", "on", name, *where]) == 0

    async def is_on() -> bool:
        with suppress(grpc.aio.AioRpcError):
            return bool((await running.departments()).departments)
        return False

    await until(is_on, "the switch back")


async def test_a_patch_of_the_his_degrades_one_operation(running: Running) -> None:
    name = "CatalogService.ListDoctors"
    catalog = catalog_pb2_grpc.CatalogServiceStub(running.channel)
    with closing(sqlite3.connect(running.folder / "his.db")) as connection:
        connection.execute("ALTER TABLE BD_OU_EMPLOYEE RENAME COLUMN CODE_EMP TO CODE_EMPLOYEE")
        connection.commit()
    for _ in range(4):
        with refused() as told:
            await catalog.ListDoctors(catalog_pb2.ListDoctorsRequest())
        assert told[0].reason == "MAPPING_MISMATCH"
    found = await running.component(f"operation:{name}")
    assert found is not None
    assert found[0] == agent_pb2.HEALTH_DEGRADED
    assert "CODE_EMP" in found[1]
    shown = {item.operation: item for item in (await running.info()).capabilities}
    assert not shown[name].available
    assert shown["CatalogService.ListDepartments"].available
    assert (await running.departments()).departments
    figures = (await running.status()).figures
    assert figures["refused_degraded"] == 1
    for key in ("reads_coalesced", "reads_cached", "breaker_slow:his", "slow_share:his", "shed_queue:his.read"):
        assert key in figures
    # The DBA adapts the mappings to the patch: all that name the column.
    for path, content in running.originals.items():
        path.write_bytes(re.sub(rb"\bCODE_EMP\b", b"CODE_EMPLOYEE", content))

    async def well() -> bool:
        with suppress(grpc.aio.AioRpcError):
            return bool((await catalog.ListDoctors(catalog_pb2.ListDoctorsRequest())).doctors)
        return False

    await until(well, "the mended operation")
    assert await running.component(f"operation:{name}") is None


WHO = ["--author", "张工", "--note", "新版"]


async def mapping_tool(running: Running, *arguments: str) -> int:
    tool, *rest = arguments
    return await asyncio.to_thread(cli.run, ["mapping", tool, *rest, "--config", str(running.config)])


async def test_publish_and_rollback_are_what_runs(
    tmp_path: Path, hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    text = CONFIG.replace('quiet = "20ms"', 'quiet = "20ms", use = "published", approval = true')
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    shutil.copytree(PACK, tmp_path / "mappings")
    async with started(tmp_path) as running:
        first = running.expected()
        found = await running.component("mapping")
        assert found is not None
        assert found[0] == agent_pb2.HEALTH_DEGRADED
        assert "nothing is published yet" in found[1]
        running.restore("second")
        second = running.expected()
        # By the configuration a second person must approve, though nobody says --require-approval.
        assert await mapping_tool(running, "publish", *WHO) == 0
        assert await mapping_tool(running, "publish", *WHO, "--approve") == 1
        assert (await running.info()).mapping_revision == first
        assert await mapping_tool(running, "publish", "--author", "李工", "--note", "同意", "--approve") == 0

        def runs(revision: str) -> Callable[[], Awaitable[bool]]:
            async def check() -> bool:
                return (await running.info()).mapping_revision == revision and (await running.departments()).departments

            return check

        await until(runs(second), "what was published")
        assert await running.component("mapping") == GOOD
        assert await running.revisions() == f"running {second}, folder {second}, published {second}"
        running.restore("third")
        third = running.expected()

        async def edited() -> bool:
            return await running.revisions() == f"running {second}, folder {third}, published {second}"

        await until(edited, "the edit, in the status alone")
        assert (await running.info()).mapping_revision == second
        port = running.daemon._server.port if running.daemon._server else 0
        capsys.readouterr()
        assert await asyncio.to_thread(cli.run, ["status", "--target", f"127.0.0.1:{port}", "--insecure"]) == 0
        assert f"running {second}, folder {third}" in capsys.readouterr().out
        await mapping_tool(running, "publish", *WHO)
        assert await mapping_tool(running, "publish", "--author", "李工", "--note", "同意", "--approve") == 0
        await until(runs(third), "the third")
        assert await mapping_tool(running, "rollback", "--author", "李工", "--note", "回退") == 0
        await until(runs(second), "the way back")
        assert running.daemon.figures.value("reloads") == 3
    async with started(tmp_path) as again:
        assert (await again.info()).mapping_revision == second
        audited = [row.entry.action for row in await Audit(again.daemon._store, utc_now).newest()]
        people = [action for action in audited if action.startswith("mapping.") and action != "mapping.applied"]
        assert people == ["mapping.submit", "mapping.approve"] * 2 + ["mapping.rollback"]
        assert audited.count("mapping.applied") == 3


async def test_drift_degrades_exactly_what_it_breaks_and_heals(tmp_path: Path, hospital: Path) -> None:
    name = "CatalogService.ListDoctors"
    (tmp_path / "his.db").write_bytes(hospital.read_bytes())
    text = CONFIG.replace('quiet = "20ms"', 'quiet = "20ms", drift = "100ms"')
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    shutil.copytree(PACK, tmp_path / "mappings")

    def patch(old: str, new: str) -> None:
        with closing(sqlite3.connect(tmp_path / "his.db")) as connection:
            connection.execute(f"ALTER TABLE BD_OU_EMPLOYEE RENAME COLUMN {old} TO {new}")
            connection.commit()

    async with started(tmp_path) as running:
        assert await running.component("drift") is None  # no lock: nothing to compare
        assert await mapping_tool(running, "drift", "--update") == 0

        async def compared() -> bool:
            return await running.component("drift") == GOOD

        await until(compared, "the first comparison")
        patch("SPEC", "SPEC2")

        async def degraded() -> bool:
            return await running.component(f"operation:{name}") is not None

        await until(degraded, "the drift, without any call")
        names = {item.name for item in (await running.status()).components if item.name.startswith("operation:")}
        assert names == {f"operation:{name}"}
        found = await running.component(f"operation:{name}")
        assert found is not None
        assert "not as in mappings.lock" in found[1]
        assert "spec" in found[1].lower()
        with refused() as told:
            await catalog_pb2_grpc.CatalogServiceStub(running.channel).ListDoctors(catalog_pb2.ListDoctorsRequest())
        assert told[0].reason == "MAPPING_MISMATCH"
        assert (await running.departments()).departments
        shown = {item.operation: item.available for item in (await running.info()).capabilities}
        assert not shown[name]
        figures = (await running.status()).figures
        assert figures["drift_breaking"] >= 1
        assert figures["refused_degraded"] == 1
        patch("SPEC2", "SPEC")

        async def well() -> bool:
            return await running.component(f"operation:{name}") is None

        await until(well, "the catalogue as locked")
        catalog = catalog_pb2_grpc.CatalogServiceStub(running.channel)
        assert (await catalog.ListDoctors(catalog_pb2.ListDoctorsRequest())).doctors
        (running.mappings / "mappings.lock").write_text("{", encoding="utf-8")

        async def unreadable() -> bool:
            found = await running.component("drift")
            return found is not None and found[1] == "not compared: mappings.lock: not JSON"

        await until(unreadable, "the damaged lock")
        (running.mappings / "mappings.lock").unlink()

        async def off() -> bool:
            return await running.component("drift") is None

        await until(off, "the end of comparing")
