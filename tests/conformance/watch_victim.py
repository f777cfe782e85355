"""A program that watches, delivers, and is killed by SIGKILL at a labelled point of its store; then it runs again.

    python -m tests.conformance.watch_victim FOLDER CHUNK before:2 inside:2 after:3 making:2 …

CHUNK: how many changes a transaction takes at the most. ``making``: while the n-th chunk is made, which is beside the
commit of the one before it. For each point: a process of its own (forked, so that imports are paid for once) works until it kills itself, a second one
works to the end. FOLDER/<n> then holds ``his.db``, ``state.db`` and ``book``, what the other side has stored.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from his160.v1 import event_pb2

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from sync import event_chunk
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.sink import Outcome, Receipt
from sync.store import Store, Transaction
from sync.stores.sqlite import SqliteStore
from sync.watcher import Watcher
from tests.integration.patterns import AN_OPERATION, watch_file

T = TypeVar("T")
WATCH = watch_file(
    "SELECT id, order_no, state FROM reg",
    {"appointment_id": "id", "order_no": "order_no", "state": "state", "patient_id": "id", "schedule_id": "id"},
    ["CANCELLED: state: BOOKED -> CANCELLED"],
)


def die_at(label: str, wanted: str, left: int) -> None:
    """SIGKILL, when this is the label and the number wanted."""
    if label == wanted and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


class Killing:
    """A store that ends the process at its n-th write: before it, inside the transaction, or when it is committed."""

    def __init__(self, store: Store, point: str) -> None:
        self._store = store
        self._label, _, number = point.partition(":")
        self._left = int(number or 0)

    @property
    def identity(self) -> str:
        return self._store.identity

    def _die(self, label: str) -> None:
        die_at(label, self._label, self._left)

    async def write(self, unit: Callable[[Transaction], T]) -> T:
        self._left -= 1
        self._die("before")

        def inside(work: Transaction) -> T:
            found = unit(work)
            self._die("inside")
            return found

        value = await self._store.write(inside)
        self._die("after")
        return value

    async def read(self, unit: Callable[[Transaction], T]) -> T:
        return await self._store.read(unit)

    async def stamp(self) -> object | None:
        return await self._store.stamp()


def kill_while_making(point: str) -> None:
    """SIGKILL when the n-th chunk of this process begins to be made."""
    label, _, number = point.partition(":")
    if label != "making":
        return
    left = int(number)
    make = event_chunk.EventChunk.__init__

    def made(chunk: event_chunk.EventChunk, *arguments: Any) -> None:
        nonlocal left
        left -= 1
        die_at("making", label, left)
        make(chunk, *arguments)

    event_chunk.EventChunk.__init__ = made  # type: ignore[method-assign]


class Book:
    """The other side: stores what comes, synced, and says so."""

    name = "book"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        with self._path.open("a", encoding="utf-8") as book:
            book.writelines(f"{event.event_id} {event.order_no}\n" for event in events)
            book.flush()
            os.fsync(book.fileno())
        return [Receipt(event.event_id, Outcome.STORED) for event in events]

    async def close(self) -> None:
        return


async def work(folder: Path, generation: Generation, point: str) -> None:
    """A baseline; two orders cancelled, captured, delivered; then one more."""
    kill_while_making(point)
    store: Any = SqliteStore(folder / "state.db", utc_now)
    killing: Any = Killing(store, point)
    source = Source(SourceSettings(name="his", engine="sqlite", database=str(folder / "his.db")), None)
    his = HisAccess({"his": source}, generation)
    outbox = Outbox(killing, utc_now)
    watcher = Watcher(FedDiff(his, store, "orders", clock=utc_now), killing, outbox, site="H1", clock=utc_now)
    delivery = Delivery(outbox, Book(folder / "book"), clock=utc_now)
    await watcher.poll_once()
    for numbers in ((1, 2), (3,)):
        with closing(sqlite3.connect(folder / "his.db")) as window:
            for number in numbers:
                window.execute("UPDATE reg SET state = 'CANCELLED' WHERE id = ?", (number,))
            window.commit()
        await watcher.poll_once()
        while await delivery.deliver_once():
            pass
    await source.close()
    await store.close()


def forked(folder: Path, generation: Generation, point: str) -> int:
    """Its wait status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(work(folder, generation, point))
            status = 0
        except BaseException:  # noqa: BLE001 - a forked child ends here, whatever happens
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def main(root: Path, chunk: int, points: Sequence[str]) -> int:
    event_chunk.CHUNK = chunk  # type: ignore[misc]
    mappings = root / "mappings"
    mappings.mkdir()
    (mappings / "watch.toml").write_text(WATCH, encoding="utf-8")
    (mappings / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
    loaded = load_mapping_set(mappings, sources={"his": "sqlite"}, timezone="Asia/Shanghai")
    generation = compile_generation(loaded)
    for at, point in enumerate(points):
        folder = root / str(at)
        folder.mkdir()
        with closing(sqlite3.connect(folder / "his.db")) as his:
            his.execute("CREATE TABLE reg (id INTEGER PRIMARY KEY, order_no TEXT, state TEXT)")
            his.executemany("INSERT INTO reg VALUES (?, ?, 'BOOKED')", [(n, f"T{n}") for n in range(1, 6)])
            his.commit()
        if not os.WIFSIGNALED(forked(folder, generation, point)):
            print(f"{point}: never came there", file=sys.stderr)
            return 1
        if forked(folder, generation, "never") != 0:
            print(f"{point}: did not come to its end", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
