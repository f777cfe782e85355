"""An agent's capture and delivery in a process that dies by SIGKILL: at a labelled point, or whenever the parent wants.

Forked, so that imports are paid for once. Labels: ``before``, ``inside`` and ``after`` the n-th write of the store, and
``unsent`` and ``sent`` around the n-th batch that the other side stores; ``never``: works until the HIS is quiet.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from his160.v1 import event_pb2

from his_db.access import HisAccess
from his_db.engine import SourceSettings
from his_db.generation import Generation, compile_generation
from his_db.mapping.load import load_mapping_set
from his_db.source import Source
from sync.captures.fed import FedDiff
from sync.clock import utc_now
from sync.delivery import Delivery
from sync.outbox import Outbox
from sync.sink import Outcome, Receipt
from sync.store import Store, StoreUnavailable, open_store
from sync.watcher import Watcher
from tests.conformance.watch_victim import Killing, die_at
from tests.integration.patterns import AN_OPERATION, watch_file

STREAM: Final = "orders"
_FIELDS: Final = {
    "appointment_id": "id", "order_no": "id", "state": "state", "patient_id": "id", "schedule_id": "id",
}  # fmt: skip
_EVENTS: Final = ("CANCELLED: state: BOOKED|PAID -> CANCELLED", "PAID: state: BOOKED -> PAID")
_PAUSE: Final = 0.002
_QUIET: Final = 2  # looks without news, the second one behind the whole window


def generation(folder: Path, engine: str, feed: str) -> Generation:
    """The mappings of a site with nothing but a watch on ``reg``, compiled. ``feed``: TOML of its rung; empty: none."""
    mappings = folder / "mappings"
    mappings.mkdir()
    (mappings / "refund.toml").write_text(AN_OPERATION, encoding="utf-8")
    watch = watch_file("SELECT id, state FROM reg", dict(_FIELDS), list(_EVENTS))
    (mappings / "watch.toml").write_text(f"{watch}\n{feed}", encoding="utf-8")
    return compile_generation(load_mapping_set(mappings, sources={"his": engine}, timezone="Asia/Shanghai"))


class Book:
    """The other side: stores what comes, synced, then says so. The process may die before and behind that."""

    name = "book"

    def __init__(self, path: Path, point: str) -> None:
        self._path = path
        self._label, _, number = point.partition(":")
        self._left = int(number or 0)

    async def deliver(self, events: Sequence[event_pb2.Event]) -> Sequence[Receipt]:
        self._left -= 1
        die_at("unsent", self._label, self._left)
        kind = event_pb2.EventKind.Name
        lines = [f"{e.event_id} {e.order_no} {kind(e.kind)} {e.sequence}\n" for e in events]
        with self._path.open("a", encoding="utf-8") as book:
            book.writelines(lines)
            book.flush()
            os.fsync(book.fileno())
        die_at("sent", self._label, self._left)
        return [Receipt(event.event_id, Outcome.STORED) for event in events]

    async def close(self) -> None:
        return


@dataclass(frozen=True, slots=True)
class Site:
    """What every life of the agent shares. ``store``: a path, or the url of a PostgreSQL."""

    source: SourceSettings
    generation: Generation
    store: Path | str
    book: Path


async def live(site: Site, point: str) -> None:
    """Watches and delivers for ever, or with ``never`` until nothing is new and nothing waits."""
    store = await _opened(site.store)
    killing: Any = Killing(store, point)
    source = Source(site.source, None)
    his = HisAccess({"his": source}, site.generation)
    outbox = Outbox(killing, utc_now)
    capture = FedDiff(his, store, STREAM, clock=utc_now)
    watcher = Watcher(capture, killing, outbox, site="H1", clock=utc_now)
    delivery = Delivery(outbox, Book(site.book, point), clock=utc_now)
    quiet = 0
    while point != "never" or quiet < _QUIET:
        poll = await watcher.poll_once()
        sent = 0
        while found := await delivery.deliver_once():
            sent += found
        quiet = 0 if poll.events or sent else quiet + 1
        await asyncio.sleep(_PAUSE)  # the rhythm of the watch under test
    await source.close()
    await store.close()


async def _opened(place: Path | str) -> Store:
    """A server may still be busy with the session of the one that was killed."""
    async with asyncio.timeout(timedelta(minutes=1).total_seconds()):
        while True:
            try:
                return open_store(place, utc_now)
            except StoreUnavailable:
                await asyncio.sleep(0.05)  # nothing tells when the server has noticed; bounded


def forked(site: Site, point: str) -> int:
    """Begins a life; the id of its process."""
    return in_a_fork(lambda: asyncio.run(live(site, point)))


def in_a_fork(work: Callable[[], None]) -> int:
    """The id of the process that does it: it ends with 0, or with 1 and the traceback on stderr."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked child ends here, whatever happens
        traceback.print_exc()
    finally:
        os._exit(status)
