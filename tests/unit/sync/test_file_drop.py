"""Files dropped into a folder become events: whole or not at all, once, in order, and never lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from his160.v1 import event_pb2

from his_db.document.problem import DocumentError
from his_db.errors import HisUnavailable
from his_db.generation import compile_generation
from his_db.mapping.load import load_mapping_set
from sync.drop_settings import DropSettings
from sync.file_drop import FileDrop
from sync.outbox import Outbox
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.integration.patterns import AN_OPERATION
from tests.unit.sync.bench import Clock, Crash, FailingStore

WATCH = """
schema = 1
watch = "window_file"
subject = "appointment"
source = "windows"
key = "appointment_id"
window = { past_days = 1, future_days = 14 }
platform_operators = ["jk160"]
fields = [
  { to = "appointment_id", column = "流水号" },
  { to = "order_no", column = "订单号" },
  { to = "state", column = "状态" },
  { to = "patient_id", column = "流水号" },
  { to = "schedule_id", column = "流水号" },
  { to = "visit_date", column = "就诊日期", date = "%Y-%m-%d" },
  { to = "operator_id", column = "工号" },
  { to = "refunded_fen", column = "退费", money = "yuan" },
]
[[event]]
kind = "CANCELLED"
when = "state: BOOKED|new -> CANCELLED"
[[event]]
kind = "REFUNDED"
when = "state: PAID|new -> REFUNDED"
"""
SOURCES = {"windows": "file", "his": "sqlite"}
HEAD = "流水号,订单号,状态,就诊日期,工号,退费\n"


def row(
    number: int, state: str = "CANCELLED", *, operator: str = "0931", day: str = "2026-11-23", fee: str = ""
) -> str:
    return f"{number},T{number},{state},{day},{operator},{fee}\n"


class WatchesOnly:
    """The part of ``WatchPort`` that files need."""

    def __init__(self, watch: Any) -> None:
        self.current = watch

    def watch(self, name: str, /) -> Any:
        return self.current


class Site:
    """A folder, its watch, a store."""

    def __init__(self, folder: Path, store: SqliteStore, clock: Clock, **options: Any) -> None:
        mappings = folder / "mappings"
        mappings.mkdir(exist_ok=True)
        (mappings / "window_file.toml").write_text(WATCH, encoding="utf-8")
        (mappings / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
        loaded = load_mapping_set(mappings, sources=SOURCES, timezone="Asia/Shanghai")
        self.his = WatchesOnly(compile_generation(loaded).watches["window_file"])
        self.folder = folder / "in"
        self.folder.mkdir(exist_ok=True)
        self.store, self.clock, self.options = store, clock, options
        self.seconds = 100.0
        self.failing = FailingStore(store)
        self.outbox = Outbox(store, clock)
        self.start()

    def start(self) -> None:
        """The agent, begun (again)."""
        settings = DropSettings("windows", self.folder, **self.options)
        self.capture = FileDrop(
            self.his,
            self.store,
            "window_file",
            settings,
            clock=self.clock,
            monotonic=lambda: self.seconds,  # type: ignore[arg-type]
        )
        self.watcher = Watcher(self.capture, self.failing, self.outbox, site="H1", clock=self.clock)

    def drop(self, name: str, content: str | bytes, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    async def settle(self, *, seconds: float = 3.0) -> None:
        """See what is there, wait, take all of it."""
        await self.watcher.poll_once()
        self.seconds += seconds
        while (await self.watcher.poll_once()).has_more:
            pass

    async def events(self) -> list[tuple[str, str]]:
        found = await self.outbox.read_after(0, 10_000)
        return [(event_pb2.EventKind.Name(e.kind).removeprefix("EVENT_KIND_"), e.order_no) for e in found]

    def names(self, where: str) -> list[str]:
        return sorted(path.name for path in (self.folder / where).iterdir())

    def reason(self, name: str) -> str:
        return (self.folder / "quarantine" / f"{name}.reason.txt").read_text(encoding="utf-8-sig")


@pytest.fixture
async def make(tmp_path: Path, store: SqliteStore, clock: Clock) -> Callable[..., Site]:
    return lambda **options: Site(tmp_path, store, clock, **options)


Make = Callable[..., Site]


@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
async def test_a_file_becomes_events_once(make: Make, encoding: str) -> None:
    site = make()
    text = HEAD + row(1) + row(2, "REFUNDED", fee="25.00") + row(3, "BOOKED") + row(4, operator="jk160")
    site.drop("a.csv", text, encoding)
    await site.settle()
    assert await site.events() == [("CANCELLED", "T1"), ("REFUNDED", "T2")]
    assert site.watcher.status.suppressed == 1  # the platform's own operator
    assert (site.names("done"), site.names("quarantine"), site.names(".taken")) == (["a.csv"], [], [])
    (event,) = [e for e in await site.outbox.read_after(0) if e.order_no == "T2"]
    assert (event.appointment_after.refunded_fen, event.stream) == (2500, "window_file")
    site.drop("b.csv", HEAD + row(3) + row(1) + row(2, "REFUNDED", fee="25.00"))  # a known row is no news
    await site.settle()
    assert await site.events() == [("CANCELLED", "T1"), ("REFUNDED", "T2"), ("CANCELLED", "T3")]


async def test_the_same_content_is_not_read_twice(make: Make) -> None:
    site = make()
    for name in ("a.csv", "copy.csv", "a.csv"):
        site.drop(name, HEAD + row(1))
        await site.settle()
    assert await site.events() == [("CANCELLED", "T1")]
    assert (site.capture.files, site.capture.duplicates) == (1, 2)
    assert len(site.names("done")) == 3
    site.start()
    site.drop("later.csv", HEAD + row(1))
    await site.settle()
    assert (site.capture.files, site.capture.duplicates) == (0, 1)


async def test_a_file_that_is_being_written_waits(make: Make) -> None:
    site = make()
    path = site.drop("a.csv", HEAD + row(1))
    await site.watcher.poll_once()
    site.seconds += 1
    with path.open("a", encoding="utf-8") as stream:
        stream.write(row(2))
    await site.watcher.poll_once()
    site.seconds += 1.5
    await site.watcher.poll_once()
    assert await site.events() == []
    site.drop("b.csv.tmp", HEAD + row(7))
    site.drop(".c.csv", HEAD + row(8))
    await site.settle()
    assert [order for _, order in await site.events()] == ["T1", "T2"]
    os.replace(site.folder / "b.csv.tmp", site.folder / "b.csv")
    await site.settle()
    assert [order for _, order in await site.events()] == ["T1", "T2", "T7"]


async def test_a_file_that_breaks_off_waits_and_is_given_up(make: Make) -> None:
    site = make()
    text = '[{"流水号": 1, "订单号": "T1", "状态": "CANCELLED", "就诊日期": "2026-11-23"}]'
    path = site.drop("a.json", text[:-20])
    site.drop("b.json", text[:30])
    await site.settle()
    await site.settle(seconds=60)
    assert (await site.events(), site.names("quarantine"), site.capture.folder.waiting) == ([], [], 2)
    path.write_text(text, encoding="utf-8")
    await site.settle()
    assert await site.events() == [("CANCELLED", "T1")]
    await site.settle(seconds=600)
    assert site.names("quarantine") == ["b.json", "b.json.reason.txt"]
    assert "INCOMPLETE" in site.reason("b.json")
    assert site.capture.trouble == "1 files are in quarantine"


async def test_a_file_that_is_held_open_waits_and_the_others_do_not(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: a file that a person has open in a spreadsheet can be read and not moved."""
    site = make()
    held, moved = site.drop("held.csv", HEAD + row(1)), os.replace
    tries: list[float] = []

    def replace(source: str | Path, target: str | Path) -> None:
        if Path(source) == held:
            tries.append(site.seconds)
            raise PermissionError(32, "in use")
        moved(source, target)

    monkeypatch.setattr(os, "replace", replace)
    site.drop("next.csv", HEAD + row(2))
    await site.settle()
    assert await site.events() == [("CANCELLED", "T2")]
    assert site.capture.folder.waiting == 1
    for _ in range(20):  # it is not read through at every look
        await site.watcher.poll_once()
    assert len(tries) == 1
    await site.settle(seconds=3600)
    assert (len(tries), site.names("quarantine"), site.capture.trouble) == (2, [], "")
    monkeypatch.setattr(os, "replace", moved)
    await site.settle()
    assert await site.events() == [("CANCELLED", "T2"), ("CANCELLED", "T1")]


async def test_a_writer_that_goes_on_after_the_file_was_taken(make: Make) -> None:
    """Somebody keeps the file open and pauses for longer than ``quiet``: what comes later is read all the same."""
    site = make()
    with (site.folder / "slow.csv").open("w", encoding="utf-8") as stream:
        stream.write(HEAD + row(1))
        stream.flush()
        await site.watcher.poll_once()
        site.seconds += 3
        await site.watcher.poll_once()
        assert [order for _, order in await site.events()] == ["T1"]
        stream.write(row(2))
    await site.settle()
    await site.settle()
    assert [order for _, order in await site.events()] == ["T1", "T2"]
    assert site.names("done") == ["slow.csv"]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.csv", b"\xff\xff\x80", "ENCODING"),
        ("a.csv", HEAD.encode() + b'1,"x"y\n', "SYNTAX"),
        ("a.csv", "流水号,订单号\n1,T1\n".encode(), "COLUMNS"),
        ("a.json", b'[{"a": x}]', "SYNTAX"),
        ("a.xml", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "FORBIDDEN"),
        ("a.dbf", b"\3" + b"\0" * 100, "SYNTAX"),
        ("a.exe", b"MZ", "FORMAT"),
        ("a.csv", HEAD.encode() + row(1).encode() * 200, "TOO_LARGE"),
        ("a.csv", (HEAD + "".join(row(n) for n in range(30))).encode(), "TOO_MANY"),
    ],
)
async def test_a_poisoned_file_goes_to_quarantine_with_its_reason(
    make: Make, name: str, content: bytes, word: str
) -> None:
    site = make(max_bytes=2000, max_rows=20)
    site.drop(name, content)
    site.drop("good.csv", HEAD + row(1))
    await site.settle()
    assert await site.events() == [("CANCELLED", "T1")]
    assert site.names("quarantine") == [name, f"{name}.reason.txt"]
    assert word in site.reason(name)
    assert "张三" not in site.reason(name)
    assert (site.capture.refused, site.capture.folder.quarantined) == (1, 1)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
async def test_links_and_pipes_are_no_files(make: Make) -> None:
    site = make()
    (site.folder / "link.csv").symlink_to("/etc/passwd")
    os.mkfifo(site.folder / "pipe.csv")
    await site.settle()
    assert [name for name in site.names("quarantine") if not name.endswith(".txt")] == ["link.csv", "pipe.csv"]
    assert Path("/etc/passwd").exists()


async def test_rows_that_cannot_be_used_do_not_hold_the_others(make: Make) -> None:
    """The good rows are told, the file waits in quarantine with the numbers of the bad ones; corrected, it is taken."""
    site = make()
    bad = (
        HEAD
        + row(1)
        + row(2, "没有这种状态")
        + row(3, day="03/02")
        + ",T4,CANCELLED,2026-11-23,,\n"
        + "5,T5\n"
        + row(6)
    )
    site.drop("a.csv", bad)
    await site.settle()
    assert [order for _, order in await site.events()] == ["T1", "T6"]
    reason = site.reason("a.csv")
    assert "4 行无法使用" in reason
    assert all(f"row {number}:" in reason for number in (2, 3, 4, 5))
    assert "03/02" not in reason
    assert site.capture.bad_rows == 4
    good = HEAD + "".join(row(number) for number in range(1, 7))
    site.drop("a.csv", good)
    await site.settle()
    assert sorted(order for _, order in await site.events()) == [f"T{number}" for number in range(1, 7)]
    site.drop("a.csv", bad)  # what had bad rows is never taken for known
    await site.settle()
    assert site.capture.duplicates == 0


async def test_several_states_of_one_order_in_one_file_follow_one_another(make: Make) -> None:
    site = make()
    site.drop("a.csv", HEAD + row(1, "BOOKED") + row(1, "CANCELLED") + row(1, "BOOKED") + row(1, "CANCELLED"))
    await site.settle()
    assert await site.events() == [("CANCELLED", "T1"), ("CANCELLED", "T1")]


async def test_files_are_taken_in_the_order_of_their_times(make: Make) -> None:
    site = make()
    for name, state, time in (("b.csv", "BOOKED", 1_000), ("a.csv", "CANCELLED", 2_000)):
        os.utime(site.drop(name, HEAD + row(1, state)), (time, time))
    await site.settle()
    (event,) = await site.outbox.read_after(0)
    assert event.appointment_before.state != event.appointment_after.state


async def test_a_large_file_goes_page_by_page_and_survives_every_crash(make: Make) -> None:
    site = make()
    count = 2600
    site.drop("a.csv", HEAD + "".join(row(number) for number in range(count)))
    await site.watcher.poll_once()
    site.seconds += 3
    crashes = 0
    for skip in (0, 1, 1):
        site.failing.fail("after", skip=skip)
        try:
            while (await site.watcher.poll_once()).has_more:
                pass
        except Crash:
            crashes += 1
            site.start()
    await site.settle()
    assert crashes == 3
    orders = [order for _, order in await site.events()]
    assert sorted(orders) == sorted(f"T{number}" for number in range(count))
    assert site.names("done") == ["a.csv"]


async def test_a_crash_between_the_store_and_the_folder(make: Make) -> None:
    """The content is known, the file still stands in .taken: moved away, not told again."""
    site = make()
    site.drop("a.csv", HEAD + row(1))
    await site.settle()
    os.replace(site.folder / "done" / "a.csv", site.folder / ".taken" / "a.csv")
    site.start()
    while (await site.watcher.poll_once()).has_more:
        pass
    assert (site.names(".taken"), site.names("done")) == ([], ["a.csv"])
    assert len(await site.events()) == 1


async def test_a_store_that_takes_nothing_now_has_the_page_again(make: Make) -> None:
    site = make()
    site.drop("a.csv", HEAD + row(1) + row(2))
    await site.watcher.poll_once()
    site.seconds += 3
    site.failing.fail("before")
    await site.watcher._step()
    assert site.watcher.status.state == "failing"
    await site.settle()
    assert [order for _, order in await site.events()] == ["T1", "T2"]


async def test_rows_of_past_days_are_forgotten_without_events(make: Make, clock: Clock) -> None:
    site = make()
    site.drop("a.csv", HEAD + row(1) + row(2, day="2026-11-30"))
    await site.settle()
    clock.advance(days=3)
    await site.settle()
    known = await site.store.read(lambda work: work.rows.all("window_file"))
    assert [state.key for state in known] == ["2"]
    assert len(await site.events()) == 2


async def test_what_was_taken_is_deleted_after_a_while(make: Make, clock: Clock) -> None:
    site = make()
    path = site.drop("a.csv", HEAD + row(1))
    await site.settle()
    done = site.folder / "done" / path.name
    os.utime(done, (clock().timestamp(), clock().timestamp()))
    clock.advance(days=6)
    site.seconds += 4000
    await site.settle()
    assert done.exists()
    clock.advance(days=2)
    site.seconds += 4000
    await site.settle()
    assert not done.exists()


async def test_a_folder_that_cannot_be_used_is_said_and_found_again(make: Make) -> None:
    site = make()
    site.folder.rmdir()
    site.folder.write_text("a file in its place", encoding="utf-8")
    with pytest.raises(HisUnavailable):
        await site.watcher.poll_once()
    site.folder.unlink()
    site.folder.mkdir()
    site.drop("a.csv", HEAD + row(1))
    await site.settle()
    assert len(await site.events()) == 1


async def test_a_changed_mapping_begins_the_file_again(make: Make, tmp_path: Path) -> None:
    site = make()
    site.drop("a.csv", HEAD + "".join(row(number) for number in range(2100)))
    await site.watcher.poll_once()
    site.seconds += 3
    await site.watcher.poll_once()
    loaded = load_mapping_set(tmp_path / "mappings", sources=SOURCES, timezone="Asia/Shanghai")
    site.his.current = compile_generation(loaded).watches["window_file"]
    await site.settle()
    assert len(await site.events()) == 2100
    assert site.names("done") == ["a.csv"]


@pytest.mark.parametrize("extra", ['sql = "SELECT 1"', 'vanish = "event"'])
def test_what_only_a_database_has_is_refused(tmp_path: Path, extra: str) -> None:
    (tmp_path / "w.toml").write_text(WATCH.replace("fields = [", f"{extra}\nfields = [", 1), encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        load_mapping_set(tmp_path, sources=SOURCES, timezone="Asia/Shanghai")
    assert {problem.code for problem in caught.value.problems} >= {"H233"}


async def test_polls_do_not_block_the_loop(make: Make) -> None:
    """Reading is in a thread: the loop turns while a page is read."""
    site = make()
    site.drop("a.csv", HEAD + "".join(row(number) for number in range(2000)))
    await site.watcher.poll_once()
    site.seconds += 3
    turns = 0

    async def turning() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turning())
    await site.settle()
    other.cancel()
    assert turns > 10
