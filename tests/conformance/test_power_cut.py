"""The state store after a power cut: what was acknowledged is there, whatever the disk kept of what was not synced.

``HIS160_POWER_CUTS``: how many cut points are played (``all``: each; minutes); the short form takes a few dozen, half of
them where the journal is moved into the database.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from sync.stores.sqlite import SqliteStore
from tests.conformance.test_stores import clock
from tests.power_cut import Op, cuts, recorded
from tests.servers import unavailable

_COMMITS = 300  # enough that the journal is moved into the database under way
_VICTIM = """
import asyncio, os, sys
sys.path[:0] = sys.argv[3:]
from tests.conformance.test_stores import clock, command
from datetime import timedelta
from sync import store_checkpoint
from sync.stores import sqlite
from sync.stores.sqlite import SqliteStore
store_checkpoint._MUCH, store_checkpoint._SOON, sqlite.IN_A_COMMIT = 100, timedelta(0), 500  # both ways are gone
async def main():
    acks = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
    store = SqliteStore(sys.argv[1], clock)
    for n in range(%d):
        await store.write(lambda work: work.commands.put(command(f"r{n}")))
        os.write(acks, f"r{n}\\n".encode())
    os._exit(0)
asyncio.run(main())
"""
_ACKS = "acks"


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Op]:
    """What a store did to the disk while it was given commands, each told to be on disk before the next."""
    if shutil.which("strace") is None:
        unavailable("strace", "strace is not installed (Debian: strace)")
    folder = tmp_path_factory.mktemp("recorded").resolve()
    root = Path(__file__).resolve().parents[2]
    places = [str(root), str(root / "proto" / "gen")]
    program = [sys.executable, "-c", _VICTIM % _COMMITS, str(folder / "state.db"), str(folder / _ACKS), *places]
    found = recorded(program, folder, folder.parent / "strace.log")
    assert sum(op.name == _ACKS and op.kind == "write" for op in found) == _COMMITS
    first = next(at for at, op in enumerate(found) if op.name == _ACKS and op.kind == "write")
    assert any(op.name == "state.db" and op.kind == "write" for op in found[first:]), "no checkpoint was recorded"
    return found


def _acked(ops: Sequence[Op], at: int) -> set[str]:
    return {op.data.decode().strip() for op in ops[:at] if op.name == _ACKS and op.kind == "write"}


def _points(ops: Sequence[Op]) -> list[int]:
    every = range(1, len(ops) + 1)
    wanted = os.environ.get("HIS160_POWER_CUTS", "40")
    if wanted == "all":
        return list(every)
    moving = [at for at in every if ops[at - 1].name == "state.db" and _acked(ops, at)]
    chance = random.Random(160)
    return sorted({*chance.sample(every, int(wanted) // 2), *chance.sample(moving, min(len(moving), int(wanted) // 2))})


def test_what_was_acknowledged_outlives_a_power_cut(ops: Sequence[Op], tmp_path: Path) -> None:
    files = [op for op in ops if op.name != _ACKS]
    chance = random.Random(160)
    played = 0
    for at in _points(ops):
        acked = _acked(ops, at)
        told = sum(op.name != _ACKS for op in ops[:at])
        for image in cuts(files, told, chance):
            image.lay(tmp_path / "disk")
            known = _opened(tmp_path / "disk" / "state.db", through_store=played % 8 == 0)
            where = f"after call {at} of {len(ops)}, {image.how} of what was not synced"
            assert acked <= known, f"{where}: lost {sorted(acked - known)}"
            assert len(known) <= len(acked) + 1, f"{where}: {len(known)} of {len(acked)}"
            played += 1
    assert played == 4 * len(_points(ops))
    print(f"{played} disks of {len(_points(ops))} cut points, {len(ops)} calls, {_COMMITS} commits")


def test_without_the_syncs_it_would_be_seen(ops: Sequence[Op], tmp_path: Path) -> None:
    """The control: the same calls, had the store not waited for the disk."""
    unsynced = [op for op in ops if op.name != _ACKS and op.kind not in ("sync", "syncing")]
    lost = 0
    for image in cuts(unsynced, len(unsynced), random.Random(160)):
        image.lay(tmp_path / "disk")
        try:
            known = _opened(tmp_path / "disk" / "state.db", through_store=False)
        except sqlite3.DatabaseError:
            known = set()
        lost += len(_acked(ops, len(ops)) - known)
    assert lost >= _COMMITS


def _opened(path: Path, *, through_store: bool) -> set[str]:
    """The requests that a store which starts from this disk knows. Raises sqlite3.DatabaseError for a damaged one."""
    if through_store:
        asyncio.run(SqliteStore(path, clock).close())  # its own way of starting: migrations, the lock, the journal
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "commands" not in tables:
            return set()
        return {str(request) for (request,) in connection.execute("SELECT request_id FROM commands")}
