"""A store in which very many events wait: how long until the first may leave, and what memory that takes, beside a store with few.

The beginning is what an agent does at its start: open the store, look at the backlog, take the first batch, see what is due
next. Rows are put in behind the store's back, because that is quicker; each order has one event.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.memory import resident_bytes
from sync.clock import utc_now
from sync.outbox import Outbox
from sync.store import open_store
from tests.bench.draining import BATCH, made_events
from tests.bench.figures import Figure, against, middle

GROUP: Final = "the start with events that wait"
FEW: Final = 1000
_ID: Final = b"\x0a\x20"  # event_id of 32 characters, as protobuf writes it
_INSERT: Final = (
    "INSERT INTO events (event_id, lane, payload, state, attempts, created_time, next_time, detail, due) "
    "VALUES (?, ?, ?, 'PENDING', 0, ?, ?, '', ?)"
)


def measure(folder: Path, events: int, rounds: int) -> list[Figure]:
    """Seconds and megabytes with ``events`` waiting, beside 1000."""
    folder.mkdir(parents=True)
    many, few = folder / "many.db", folder / "few.db"
    for path, count in ((many, events), (few, FEW)):
        asyncio.run(_made(path))
        fill(path, count)
    _begin(few)  # imports and caches
    before = resident_bytes()
    found = [(_begin(many), _begin(few)) for _ in range(rounds)]
    grown = max(0, resident_bytes() - before) / 1024 / 1024
    (value, noise), (base, _) = middle([one[0] for one in found]), middle([one[1] for one in found])
    params: dict[str, str | int] = {"waiting": events}
    more = {"MB more": grown, "store MB": many.stat().st_size / 1024 / 1024}
    return [
        Figure(GROUP, "first batch in hand", value, "s", params, (against("1000 waiting", value, base),), more, noise)
    ]


def fill(path: Path, count: int) -> None:
    """Waiting events, of some 350 bytes each."""
    now = int(utc_now().timestamp() * 1_000_000)
    event = made_events(1, "queued")[0]
    event.ClearField("event_id")
    event.ClearField("appointment_before")
    rest = event.SerializeToString()

    def rows() -> Iterator[tuple[Any, ...]]:
        for number in range(count):
            name = f"{number:032x}"
            yield name, f"order:{number}", _ID + name.encode() + rest, now, now, now

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(_INSERT, rows())


async def _made(path: Path) -> None:
    await open_store(path, utc_now).close()


def _begin(path: Path) -> float:
    return asyncio.run(_first_batch(path))


async def _first_batch(path: Path) -> float:
    """Seconds. Raises AssertionError when the batch is not full."""
    started = time.perf_counter()
    store = open_store(path, utc_now)
    try:
        outbox = Outbox(store, utc_now)
        await store.read(lambda work: work.events.backlog())
        batch = await outbox.pending(BATCH)
        await outbox.next_due()
        if len(batch) != BATCH:
            raise AssertionError(f"{len(batch)} events of {BATCH}")
        return time.perf_counter() - started
    finally:
        await store.close()
