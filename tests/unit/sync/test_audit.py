"""The audit chain: whatever is changed, removed, put in or swapped is found; what is old goes and the rest still holds."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from his160.v1 import patient_pb2, reason_pb2
from hypothesis import given
from hypothesis import strategies as st

from his_db.errors import HisRefused, OutcomeUnknown
from sync.audit import Audit, Caller, acting, masked
from sync.audit_chain import BEGINNING, Anchor, AuditEntry, AuditRow, canonical, digest_of, sealed
from sync.audit_export import json_line, syslog_message
from sync.command import CommandExecutor
from sync.outbox import Outbox
from sync.store import NewEvent, StoreError, Transaction
from sync.stores.sqlite import SqliteStore
from tests.unit.sync.bench import Clock, MemoryHis, book, raising

EVERYTHING = AuditEntry(
    "AppointmentService.BookAppointment",
    "relay/160",
    source="link relay:443",
    target="T1",
    result="REJECTED SLOT_TAKEN",
    parameters='{"order_no": "T1"}',
    digest=b"\x07" * 32,
    duration=timedelta(milliseconds=20),
    mapping_revision="abc",
    trace="relay:443#7",
    instance="agent-1",
)


@pytest.fixture
def state(tmp_path: Path, store: SqliteStore) -> Path:
    """The file of ``store``."""
    return tmp_path / "state.db"


@pytest.fixture
def audit(store: SqliteStore, clock: Clock) -> Audit:
    return Audit(store, clock, instance="agent-1")


async def fill(audit: Audit, count: int) -> None:
    await audit.append(*(replace(EVERYTHING, target=f"T{number}") for number in range(count)))


async def test_a_chain_that_nobody_touched(audit: Audit) -> None:
    await fill(audit, 5)
    await asyncio.gather(*(fill(audit, 2) for _ in range(20)))
    found = await audit.verify()
    assert (found.broken, found.rows, found.pruned, found.last.sequence) == (None, 45, BEGINNING, 45)
    rows = [row async for row in audit.rows()]
    assert [row.sequence for row in rows] == list(range(1, 46))
    assert rows[3].entry == replace(EVERYTHING, target="T3")


def tampered(path: Path, *statements: str) -> None:
    """What somebody does who owns the database."""
    with closing(sqlite3.connect(path)) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


COLUMNS = {
    "time": "time + 1",
    "format": "2",
    "instance": "'agent-2'",
    "actor": "'relay/other'",
    "source": "''",
    "action": "'AppointmentService.LockSlot'",
    "target": "'T9'",
    "result": "'DONE'",
    "parameters": "'{}'",
    "digest": "zeroblob(32)",
    "duration": "NULL",
    "mapping_revision": "'abd'",
    "trace": "'relay:443#8'",
    "hash": "zeroblob(32)",
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("place", [1, 3, 5])
async def test_a_changed_value_is_found(column: str, place: int, audit: Audit, state: Path) -> None:
    await fill(audit, 5)
    tampered(state, f"UPDATE audit SET {column} = {COLUMNS[column]} WHERE sequence = {place}")
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.sequence == place


def test_every_column_is_tried() -> None:
    from sync.store_schema import AUDIT

    assert {*COLUMNS, "sequence"} == set(AUDIT.c.keys())


@pytest.mark.parametrize(
    ("statements", "place"),
    [
        (["DELETE FROM audit WHERE sequence = 3"], 3),
        (["DELETE FROM audit WHERE sequence = 1"], 1),
        (["DELETE FROM audit WHERE sequence > 3"], 4),
        (["DELETE FROM audit"], 1),
        (["DELETE FROM audit WHERE sequence = 3", "UPDATE audit SET sequence = sequence - 1 WHERE sequence > 3"], 3),
        ([f"UPDATE audit SET sequence = {b} WHERE sequence = {a}" for a, b in ((2, 99), (3, 2), (99, 3))], 2),
        (["INSERT INTO audit SELECT 6, " + ", ".join(COLUMNS) + " FROM audit WHERE sequence = 5"], 6),
        (["UPDATE audit_anchors SET hash = zeroblob(32) WHERE name = 'head'"], 5),
        (["UPDATE audit_anchors SET sequence = 4 WHERE name = 'head'"], 4),
        (["INSERT INTO audit_anchors VALUES ('pruned', 2, zeroblob(32))"], 1),
        (["INSERT INTO audit_anchors VALUES ('dropped', 2, zeroblob(32))"], 3),
    ],
    ids=[
        "middle",
        "first",
        "end",
        "all",
        "closed-up",
        "swapped",
        "copied",
        "head-hash",
        "head-place",
        "false-prune",
        "false-drop",
    ],
)
async def test_a_changed_order_is_found(statements: list[str], place: int, audit: Audit, state: Path) -> None:
    await fill(audit, 5)
    columns = "(sequence, " + ", ".join(COLUMNS) + ")"
    tampered(state, *(text.replace("INTO audit SELECT", f"INTO audit {columns} SELECT") for text in statements))
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.sequence == place
    await fill(audit, 1)  # whatever was done to the audit, the agent goes on
    if not statements[0].endswith("'head'"):
        again = (await audit.verify()).broken
        assert again is not None
        assert again.sequence == place


async def test_a_chain_made_anew_is_found_by_a_noted_place(audit: Audit, state: Path) -> None:
    """Whoever owns the database and this program can write another history, but not the one that was noted."""
    await fill(audit, 5)
    noted = (await audit.verify()).last
    assert Anchor.parse(str(noted)) == noted
    await fill(audit, 1)
    assert (await audit.verify(noted)).broken is None
    tampered(state, "DELETE FROM audit", "DELETE FROM audit_anchors")
    await audit.append(*(replace(EVERYTHING, result="DONE") for _ in range(6)))
    assert (await audit.verify()).broken is None
    broken = (await audit.verify(noted)).broken
    assert broken is not None
    assert broken.sequence == 5
    tampered(state, "DELETE FROM audit", "DELETE FROM audit_anchors")
    broken = (await audit.verify(noted)).broken
    assert broken is not None


async def test_the_database_refuses_to_change_the_audit(audit: Audit, state: Path) -> None:
    await fill(audit, 3)
    for statement in (
        "UPDATE audit SET result = 'DONE'",
        "UPDATE audit SET sequence = 9 WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
        "DELETE FROM audit",
    ):
        refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
        with closing(sqlite3.connect(state)) as connection, refused:
            connection.execute(statement)


async def test_what_is_old_is_packed_and_the_chain_goes_through_it(audit: Audit, clock: Clock, state: Path) -> None:
    await fill(audit, 5)
    before = [row async for row in audit.rows()]
    clock.advance(days=200)
    await fill(audit, 3)
    assert await audit.prune(timedelta(days=201)) == 0
    assert await audit.prune(timedelta(days=199)) == 5
    found = await audit.verify()
    assert (found.broken, found.rows, found.pruned, found.last.sequence) == (None, 9, BEGINNING, 9)
    (cut,) = await audit.newest(action="audit.prune")
    assert json.loads(cut.entry.parameters)["rows"] == 5
    rows = [row async for row in audit.rows()]
    assert rows[:5] == before
    assert [row.sequence for row in rows] == list(range(1, 10))
    assert [row.sequence async for row in audit.rows(3)] == list(range(4, 10))
    clock.advance(days=400)
    assert await audit.prune(timedelta(days=180)) == 4  # everything: the chain goes on behind it
    await fill(audit, 1)
    found = await audit.verify(found.last)
    assert (found.broken, found.rows, found.last.sequence) == (None, 11, 11)
    tampered(state, "UPDATE audit_anchors SET hash = zeroblob(32) WHERE name = 'pruned'")
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.sequence == 10
    with pytest.raises(ValueError, match="180"):
        await audit.prune(timedelta(days=179))
    with pytest.raises(ValueError, match="1096"):
        await audit.prune(timedelta(days=180), timedelta(days=1095))


async def test_the_archive_is_kept_for_three_years_and_then_dropped(audit: Audit, clock: Clock, state: Path) -> None:
    await fill(audit, 5)
    clock.advance(days=300)
    await audit.prune(timedelta(days=180))
    noted = (await audit.verify()).last
    clock.advance(days=1095 - 300)
    await audit.prune(timedelta(days=180), timedelta(days=1096))
    assert (await audit.verify(noted)).pruned == BEGINNING, "three years are not over"
    clock.advance(days=2)
    await audit.prune(timedelta(days=180), timedelta(days=1096))
    found = await audit.verify(noted)
    assert (found.broken, found.pruned.sequence) == (None, 5)
    (drop,) = [row async for row in audit.rows() if row.entry.action == "audit.drop"]
    assert json.loads(drop.entry.parameters) == {"rows": 5, "last": str(found.pruned)}
    first = [row.sequence async for row in audit.rows()]
    assert first[0] == 6


def repacked(state: Path, change: Callable[[str], str]) -> None:
    """Somebody who owns the database changes what is archived."""
    with closing(sqlite3.connect(state)) as connection:
        (content,) = connection.execute("SELECT content FROM audit_archive").fetchone()
        for trigger in ("audit_archive_no_update", "audit_archive_no_delete"):
            connection.execute(f"DROP TRIGGER {trigger}")
        packed = zlib.compress(change(zlib.decompress(content).decode()).encode())
        connection.execute("UPDATE audit_archive SET content = ?", (packed,))
        connection.commit()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda text: text.replace("DONE", "GONE"), 1),
        (lambda text: "\n".join(text.split("\n")[:-1]), 5),
        (lambda text: "\n".join(text.split("\n")[1:]), 1),
        (lambda text: text[:-5], 1),
        (lambda text: "", 1),
    ],
    ids=["changed", "cut", "beheaded", "torn", "empty"],
)
async def test_a_changed_archive_is_found(
    audit: Audit, clock: Clock, state: Path, change: Callable[[str], str], place: int
) -> None:
    await audit.append(*(replace(EVERYTHING, result="DONE") for _ in range(5)))
    clock.advance(days=200)
    await fill(audit, 2)
    assert await audit.prune(timedelta(days=180)) == 5
    repacked(state, change)
    broken = (await audit.verify()).broken
    assert broken is not None
    assert broken.sequence == place


async def test_the_database_refuses_to_change_the_archive(audit: Audit, clock: Clock, state: Path) -> None:
    await fill(audit, 3)
    clock.advance(days=200)
    await audit.prune(timedelta(days=180))
    for statement in ("UPDATE audit_archive SET content = x''", "DELETE FROM audit_archive"):
        refused = pytest.raises(sqlite3.IntegrityError, match="append-only")
        with closing(sqlite3.connect(state)) as connection, refused:
            connection.execute(statement)


async def test_a_clock_that_went_back_prunes_nothing_young(audit: Audit, clock: Clock) -> None:
    """Rows go from the beginning only, up to the first that is young enough."""
    await fill(audit, 1)
    clock.advance(days=-300)
    await fill(audit, 1)
    clock.advance(days=301)
    assert await audit.prune(timedelta(days=180)) == 0


async def test_an_undone_unit_leaves_no_entry(audit: Audit, store: SqliteStore, clock: Clock) -> None:
    def failing(work: Transaction) -> None:
        work.audit.append(replace(EVERYTHING, action="bad"), clock())
        raise KeyError("defect")

    results = await asyncio.gather(fill(audit, 2), store.write(failing), fill(audit, 1), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), KeyError, type(None)]
    assert [row.entry.action for row in await audit.newest()] == [EVERYTHING.action] * 3
    assert (await audit.verify()).broken is None
    with pytest.raises(StoreError, match="read unit"):
        await store.read(lambda work: work.audit.append(EVERYTHING, clock()))
    assert (await audit.verify()).rows == 3


@given(st.binary(min_size=1), st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_of_the_hashed_bytes_changes_the_hash(name: bytes, place: int, bit: int) -> None:
    row = sealed(replace(EVERYTHING, target=name.hex()), datetime.fromisoformat("2026-11-23T01:00:00+00:00"), BEGINNING)
    content = bytearray(canonical(row))
    content[place % len(content)] ^= 1 << bit
    import hashlib

    assert hashlib.sha256(BEGINNING.hash + bytes(content)).digest() != row.hash
    assert digest_of(row, BEGINNING.hash) == row.hash


@given(
    st.builds(
        AuditEntry,
        action=st.text(max_size=5),
        actor=st.text(max_size=5),
        source=st.text(max_size=5),
        parameters=st.text(max_size=5),
    ),
    st.builds(
        AuditEntry,
        action=st.text(max_size=5),
        actor=st.text(max_size=5),
        source=st.text(max_size=5),
        parameters=st.text(max_size=5),
    ),
)
def test_two_entries_never_have_the_same_bytes(one: AuditEntry, other: AuditEntry) -> None:
    """No text can slide from one field into the next."""
    at = datetime.fromisoformat("2026-11-23T01:00:00+00:00")
    same = canonical(AuditRow(1, at, one, b"")) == canonical(AuditRow(1, at, other, b""))
    assert same == (one == other)


async def test_an_export_can_be_checked_without_this_program(audit: Audit) -> None:
    """The recipe of docs/zh/audit.md, on lines of JSON alone."""
    import hashlib

    await fill(audit, 3)
    previous = bytes(32)
    names = "format sequence time_us instance actor source action target result parameters digest duration_us mapping_revision trace"
    async for row in audit.rows():
        line = json.loads(json_line(row))
        array = json.dumps([line[name] for name in names.split()], ensure_ascii=False, separators=(",", ":"))
        previous = hashlib.sha256(previous + array.encode()).digest()
        assert previous.hex() == line["hash"]


def test_a_syslog_message() -> None:
    at = datetime.fromisoformat("2026-11-23T01:00:00.123456+00:00")
    entry = replace(EVERYTHING, target='T"1]\\', parameters='{"a": "号源\n"}')
    text = syslog_message(sealed(entry, at, BEGINNING), host="医院 server-1")
    header = r'<108>1 (\S+) ___server-1 his160 - AppointmentService.BookAppointme \[his160@32473( [a-z_]+="(?:[^"\\\]]|\\["\\\]])*")+\] \ufeff'
    found = re.match(header, text)
    assert found, text
    assert datetime.fromisoformat(found[1]) == at
    assert r'target="T\"1\]\\"' in text
    assert "\n" not in text
    assert syslog_message(sealed(replace(entry, result="DONE"), at, BEGINNING), host="h").startswith("<109>1 ")


def test_masked_parameters_hold_nothing_personal() -> None:
    request = patient_pb2.EnsurePatientRequest(request_id="r", name="张三", document_no="11010519491231002X")
    text = masked(request)
    assert json.loads(text)["request_id"] == "r"
    assert "张三" not in text
    assert "1949" not in text


async def test_every_outcome_of_a_command_is_in_the_audit(
    his: MemoryHis, store: SqliteStore, clock: Clock, audit: Audit
) -> None:
    run = CommandExecutor(
        his, store, clock=clock, monotonic=lambda: clock.now.timestamp(), audit=audit, revision=lambda: "rev1"
    )
    request = book()
    with acting(Caller("relay/160", "link relay:443", "relay:443#7")):
        await run.execute("AppointmentService.BookAppointment", request)
    await run.execute("AppointmentService.BookAppointment", request)  # a repetition is answered by the ledger
    (row,) = await audit.newest()
    entry = row.entry
    assert (entry.actor, entry.source, entry.trace) == ("relay/160", "link relay:443", "relay:443#7")
    assert (entry.action, entry.target, entry.result) == (
        "AppointmentService.BookAppointment",
        request.order_no,
        "DONE",
    )
    assert entry.mapping_revision == "rev1"
    assert entry.duration is not None
    assert len(entry.digest) == 32
    assert json.loads(entry.parameters)["order_no"] == request.order_no
    his.faults.append(raising(HisRefused(reason_pb2.REASON_NO_SLOT_LEFT, "full")))
    with pytest.raises(HisRefused):
        await run.execute("AppointmentService.BookAppointment", book("T2", "r2", "S2"))
    his.faults.append(raising(OutcomeUnknown("lost")))
    with pytest.raises(OutcomeUnknown):
        await run.execute("AppointmentService.BookAppointment", book("T3", "r3", "S3"))
    clock.advance(minutes=1)
    assert (await run.sweep()).resolved == 1
    found = [(row.entry.target, row.entry.result, row.entry.actor) for row in (await audit.newest())[1:]]
    assert found == [
        ("T2", "REJECTED NO_SLOT_LEFT", "agent/agent-1"),
        ("T3", "UNKNOWN OUTCOME_UNKNOWN", "agent/agent-1"),
        ("T3", "RETRYABLE HIS_UNAVAILABLE", "agent/agent-1"),
    ]
    assert (await audit.verify()).broken is None


async def test_a_retry_of_events_is_in_the_audit(store: SqliteStore, clock: Clock, audit: Audit) -> None:
    def dead(work: Transaction) -> None:
        work.events.append("e1", "A", b"", clock())
        work.events.bury("e1", "refused", clock())

    await store.write(dead)
    with acting(Caller("os/root@host", "cli")):
        await Outbox(store, clock, audit=audit).retry(["e1", "e2"])
    (row,) = await audit.newest()
    assert (row.entry.actor, row.entry.action, row.entry.result) == ("os/root@host", "outbox.retry", "1 events")
    assert json.loads(row.entry.parameters) == {"events": ["e1", "e2"]}


async def test_much_is_pruned_in_pieces(audit: Audit, clock: Clock, store: SqliteStore) -> None:
    """Each piece is a unit of its own, and the chain holds after each."""
    await fill(audit, 4500)
    clock.advance(days=200)
    await fill(audit, 1)
    assert await audit.prune(timedelta(days=180)) == 4500
    cuts = [json.loads(row.entry.parameters)["rows"] for row in await audit.newest(action="audit.prune")]
    assert cuts == [2000, 2000, 500]
    found = await audit.verify()
    assert (found.broken, found.rows) == (None, 4504)

    def many(work: Transaction) -> int:
        work.events.append_many([NewEvent(f"e{n}", f"l{n}", b"") for n in range(2500)], clock())
        for start in range(0, 2500, 500):
            work.events.ack([f"e{n}" for n in range(start, start + 500)], clock())
        later = clock() + timedelta(seconds=1)
        return work.events.prune(later), work.events.prune(later), work.events.prune(later)  # type: ignore[return-value]

    assert await store.write(many) == (2000, 500, 0)
