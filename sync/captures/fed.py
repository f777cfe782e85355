"""The ladder: feeds say which rows to read, the snapshot diff reads, compares, and goes on behind them as reconciler.

Begin the feeds, then read the whole window: what commits later, a feed will name. A poll asks the feeds; what they name
is read by key and compared as ever, so a key named too often costs one comparison, and the same fact has the same event
whoever saw it. Every ``reconcile`` the whole window is read again; what that finds and no feed had named is counted:
the site's miss rate. A feed that fails, or loses its position, costs a look at the whole window, never silence.

The platform's open orders are not left waiting for that: every ``orders`` some of them are read by key as if a feed had
named them, and what only this look saw is counted in the same way; but a cycle later, for this look is often quicker
than a feed that rightly waits (the capture job of CDC, a rowversion below an open transaction).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any, Final

from his_db.errors import HisError
from sync.capture import Batch, Change
from sync.captures.snapshot_diff import SnapshotDiff
from sync.clock import Clock
from sync.his import CompiledWatchPort, FeedLookPort, WatchPort
from sync.open_orders import OpenOrders
from sync.store import Store

_LOG = logging.getLogger("his160.sync.capture")
_MOST_KEYS: Final = 200  # above it, reading the window costs less


class FedDiff:
    """``Capture`` by the feeds of the watch's mapping; without any it is the snapshot diff itself."""

    def __init__(
        self,
        his: WatchPort,
        store: Store,
        stream: str,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        **limits: Any,
    ) -> None:
        """``limits``: those of ``SnapshotDiff``."""
        self.stream = stream
        self.rung = "D"
        self.missed = 0
        self.trouble = ""
        self._his = his
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._diff = SnapshotDiff(his, store, stream, clock=clock, **limits)
        self._watch: CompiledWatchPort | None = None
        self._positions: Sequence[Any] | None = None
        self._pending: dict[str, Any] = {}  # named by a feed, not yet read
        self._unconfirmed: set[str] = set()  # handed over; when they do not come into the store, the window is read
        self._due = 0.0
        self._orders = OpenOrders()
        self._orders_due = 0.0
        self._unnamed: dict[str, float] = {}  # seen among the orders, and when; no feed has named them yet
        self._day: date | None = None
        self._last: Batch | None = None

    async def poll(self) -> Batch:
        watch = self._his.watch(self.stream)
        if not watch.feeds:
            self._forget("")
            return await self._diff.poll()
        is_due = self._monotonic() >= self._due
        if watch is not self._watch or self._positions is None or is_due or self._last is None or self._unconfirmed:
            return await self._window(watch, is_due=is_due)
        if not await self._look(watch, self._positions):
            return await self._window(watch, is_due=False)
        quiet = Batch(watch, False, [], [], self._last.rows, self._last.unreadable)
        orders = await self._open_orders(watch)
        if not self._pending and not orders:
            return quiet
        batch = await self._diff.poll_keys({**orders, **self._pending})
        if batch is None:  # of an order that is gone: not marked as looked at, so the next cycle's look is the second
            return await self._window(watch, is_due=bool(orders))
        if orders:
            self._orders.looked(orders)
            self._orders_due = self._monotonic() + watch.orders.total_seconds()
            for change in batch.changes:
                if change.key not in self._pending:
                    self._unnamed[change.key] = self._monotonic()
            if not self._pending and not batch.changes and not batch.quiet:
                return quiet
        self._pending.clear()
        self._unconfirmed = {change.key for change in batch.changes}
        return batch

    def confirm(self, changes: Sequence[Change]) -> None:
        self._diff.confirm(changes)
        self._orders.seen(changes)
        if self._unconfirmed:
            self._unconfirmed.difference_update(change.key for change in changes)

    def reseed(self) -> None:
        self._diff.reseed()
        self._forget("")  # the feeds begin anew before the window is read
        self._unconfirmed.clear()
        self._orders.forget()

    async def _open_orders(self, watch: CompiledWatchPort) -> Mapping[str, Any]:
        """Keys of open platform orders to be read now, as many as fit beside what the feeds named."""
        is_watched = watch.subject == "appointment" and watch.reads_keys and watch.orders
        room = _MOST_KEYS - len(self._pending)
        if not is_watched or room <= 0 or self._monotonic() < self._orders_due:
            return {}
        await self._orders.fill(self._store, self.stream, watch)
        found = self._orders.next(self._diff.key_value, room)
        if not found:
            self._orders_due = self._monotonic() + watch.orders.total_seconds()
        return found

    async def _look(self, watch: CompiledWatchPort, positions: Sequence[Any]) -> bool:
        """Asks the feeds; the keys they name wait in ``_pending``. False: the whole window must be read."""
        try:
            look = await self._his.look(self.stream, positions, watch=watch)
        except HisError as error:
            self._forget(f"{type(error).__name__}: {error}")
            return False
        if look.lost:
            self._forget(look.lost)
            return False
        self._positions = look.positions
        self._pending.update(look.keys)
        self._named(look)
        waited = self._monotonic() - watch.orders.total_seconds()
        late = [key for key, time in self._unnamed.items() if time <= waited]
        for key in late:
            del self._unnamed[key]
        self._add_missed(len(late))
        by_key = watch.reads_keys and len(self._pending) <= _MOST_KEYS
        return not look.everything and (by_key or not self._pending)

    async def _window(self, watch: CompiledWatchPort, *, is_due: bool) -> Batch:
        """Reads the whole window, the feeds begun before it. ``is_due``: as reconciler, so what it finds is counted."""
        before = self._positions if watch is self._watch else None
        trouble = self.trouble
        if watch is not self._watch:
            self._orders.forget()
            self._unnamed.clear()
        self._watch = watch
        try:
            self._positions = await self._his.begin_feeds(self.stream, watch=watch)
            self.rung = "+".join(dict.fromkeys(feed.grade for feed, _ in watch.feeds))
            self.trouble = ""
        except HisError as error:
            self._forget(f"{type(error).__name__}: {error}")
        if self.trouble and self.trouble != trouble:
            _LOG.warning("feeds cannot be used", extra={"stream": self.stream, "detail": self.trouble})
        self._due = 0.0  # an error, or a suspension, must come up again at the next poll
        batch = await self._diff.poll()
        today = self._clock().date()
        if (
            before is not None
            and is_due
            and not batch.baseline
            and today == self._day
            and (batch.changes or self._unnamed)
        ):
            await self._count_missed(watch, before, batch)
        self._day = today
        self._due = self._monotonic() + watch.reconcile.total_seconds()
        self._orders_due = self._monotonic() + watch.orders.total_seconds()  # the window has shown every order
        self._orders.left(batch.quiet)
        self._pending.clear()
        self._unconfirmed = {change.key for change in batch.changes}
        self._last = batch
        return batch

    async def _count_missed(self, watch: CompiledWatchPort, before: Sequence[Any], batch: Batch) -> None:
        """Changes that the feeds, asked once more from where they stood, do not name."""
        try:
            look = await self._his.look(self.stream, before, watch=watch)
        except HisError:
            self._unnamed.clear()
            return  # not known, so not counted
        self._named(look)
        if look.lost or look.everything:
            return
        named = {*look.keys, *self._pending, *self._unnamed}
        self._add_missed(_missed(batch.changes, named))

    def _named(self, look: FeedLookPort) -> None:
        """The feeds know of these keys; whether of others cannot be told when everything may have changed."""
        if look.lost or look.everything:
            self._unnamed.clear()
        for key in look.keys:
            self._unnamed.pop(key, None)

    def _add_missed(self, changes: int) -> None:
        if changes:
            self.missed += changes
            _LOG.warning("changes that no feed named", extra={"stream": self.stream, "changes": changes})

    def _forget(self, trouble: str) -> None:
        self._positions = None
        self._pending.clear()
        self._unnamed.clear()
        self.rung, self.trouble = "D", trouble


def _missed(changes: Sequence[Change], named: Collection[str]) -> int:
    return sum(change.key not in named for change in changes)
