"""Rung D of the ladder: read the whole window in one statement and compare it with what is known.

Needs nothing but SELECT, sees every final state whatever the order of commits, and is the reconciler behind any other
rung (measured in design capture-sql 6.4: 0 missed, where cursors miss up to half). Raw rows are kept in memory, so a
quiet poll compares tuples and builds no message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any, Final

from google.protobuf.message import Message
from his160.v1 import common_pb2

from his_db.errors import HisError
from sync.capture import Batch, CaptureSuspended, Change
from sync.clock import Clock
from sync.his import CompiledWatchPort, SnapshotPort, WatchPort
from sync.redaction import clear_personal, clear_personal_of_all
from sync.store import RowState, Store, Transaction

_LOG = logging.getLogger("his160.sync.capture")
_REBASES: Final = 20  # polls that a changed mapping waits for a moment in which nothing happens
_ROWS_A_TURN: Final = 100  # built in one go: some milliseconds
_TOGETHER: Final = 16  # rows that are worth building at once; fewer would teach the encoder what is not usual
_UNREAD: tuple[Any, ...] = ()  # no row is an empty tuple: compares unequal, so the row is built at the next poll


@dataclass(slots=True)
class _Poll:
    """One poll in the making."""

    watch: CompiledWatchPort
    now: datetime
    current: Mapping[str, tuple[Any, ...]]
    repeated: frozenset[str]
    changes: list[Change] = field(default_factory=list)
    quiet: list[RowState] = field(default_factory=list)
    unreadable: int = 0
    moved: int = 0


@dataclass(frozen=True, slots=True)
class _Rebased:
    """What is known once ``quiet`` is in the store: the picture that another mapping gives of the same rows."""

    watch: CompiledWatchPort
    raw: dict[str, tuple[Any, ...]]
    quiet: Sequence[RowState]
    absent: set[str]


@dataclass(frozen=True, slots=True)
class _Settled:
    """A poll after which nothing was left to do: the very same rows, on the same day, need no look."""

    rows: Sequence[tuple[str, tuple[Any, ...]]]
    day: date
    batch: Batch

    def holds(self, watch: CompiledWatchPort, snapshot: SnapshotPort) -> bool:
        """Whether there is still nothing to do."""
        is_same = self.batch.watch is watch and self.rows is snapshot.rows
        return is_same and self.day == snapshot.now.date()


class SnapshotDiff:
    """``Capture`` by bounded-window snapshot diff.

    ``vanish_share`` and ``vanish_rows``: when more rows than both vanish between two polls, the stream is suspended.
    """

    def __init__(
        self,
        his: WatchPort,
        store: Store,
        stream: str,
        *,
        clock: Clock,
        vanish_share: float = 0.2,
        vanish_rows: int = 20,
    ) -> None:
        self.stream = stream
        self.rung = "D"
        self.missed = 0
        self.trouble = ""
        self._his = his
        self._store = store
        self._clock = clock
        self._vanish_share = vanish_share
        self._vanish_rows = vanish_rows
        self._watch: CompiledWatchPort | None = None
        self._raw: dict[str, tuple[Any, ...]] | None = None  # None: not compared with the store yet
        self._absent: set[str] = set()
        self._missing: frozenset[str] = frozenset()  # missing once; a second snapshot must agree
        self._reseeding = False
        self._day: date | None = None
        self._rebased: _Rebased | None = None
        self._rebases = 0
        self._settled: _Settled | None = None

    async def poll(self) -> Batch:
        await self._adopt()
        watch = self._his.watch(self.stream)
        if self._watch is not None and watch is not self._watch and self._raw is not None:
            batch = await self._rebase(self._watch, watch, self._raw)
            if batch is not None:
                return batch
        snapshot = await self._his.snapshot(self.stream)
        while watch is not self._his.watch(self.stream):  # reloaded meanwhile: these rows are of one or the other
            watch = self._his.watch(self.stream)
            snapshot = await self._his.snapshot(self.stream)
        if watch is not self._watch:  # another mapping may read the same row differently
            self._watch, self._raw, self._rebases = watch, None, 0
        settled, self._settled = self._settled, None
        if settled is not None and settled.holds(watch, snapshot):
            self._settled = settled
            return settled.batch
        current, repeated = _by_key(snapshot.rows)
        poll = _Poll(watch, snapshot.now, current, repeated, unreadable=snapshot.refused)
        baseline = False
        if self._raw is None:
            baseline = await self._compare_with_store(poll)
        else:
            await self._compare_with_memory(poll, self._raw)
        if poll.unreadable:
            _LOG.warning("rows could not be read", extra={"stream": self.stream, "rows": poll.unreadable})
        self._reseeding = False
        batch = Batch(watch, baseline, poll.changes, poll.quiet, len(current), poll.unreadable, poll.moved)
        if not (baseline or poll.changes or poll.quiet or self._missing):
            self._settled = _Settled(snapshot.rows, snapshot.now.date(), batch)
        return batch

    async def poll_keys(self, keys: Mapping[str, Any]) -> Batch | None:
        """What has changed in the rows of some keys (native values by text), from the same place as ``poll``.

        None: it cannot be told from these rows alone (a mapping that changed, a row that is gone): read the window.
        """
        self._settled = None
        watch = self._his.watch(self.stream)
        if self._raw is None or watch is not self._watch or self._rebased is not None:
            return None
        snapshot = await self._his.snapshot(self.stream, keys=list(keys.values()))
        if watch is not self._his.watch(self.stream):
            return None
        current, repeated = _by_key(snapshot.rows)
        known = self._raw.keys() & keys.keys()
        if known - current.keys() or self._absent & current.keys() or current.keys() - keys.keys():
            return None
        poll = _Poll(watch, snapshot.now, current, repeated, unreadable=snapshot.refused)
        changed = [key for key, row in current.items() if self._raw.get(key, _UNREAD) != row]
        states: Mapping[str, RowState] = {}
        if changed:
            states = await self._store.read(lambda transaction: transaction.rows.get_many(self.stream, changed))
        for key in changed:
            if not self._compare(poll, key, current[key], states.get(key), self._build(poll, key, current[key])):
                self._raw[key] = current[key]
        return Batch(watch, False, poll.changes, poll.quiet, len(self._raw), poll.unreadable)

    def key_value(self, key: str) -> Any:
        """The native value of a key that ``poll_keys`` can be asked for; None: its row is not known, or was away."""
        row = _UNREAD if self._raw is None else self._raw.get(key, _UNREAD)
        if self._watch is None or row == _UNREAD or key in self._absent:
            return None
        return self._watch.key_of(row)

    def confirm(self, changes: Sequence[Change]) -> None:
        if self._raw is None:
            return
        if self._absent:
            self._absent.difference_update([change.key for change in changes])
        for change in changes:
            if change.after is None:
                self._raw.pop(change.key, None)
            else:
                self._raw[change.key] = change.raw

    def reseed(self) -> None:
        self._watch = self._raw = self._rebased = self._settled = None
        self._missing, self._rebases = frozenset(), 0
        self._reseeding = True

    async def _rebase(
        self, old: CompiledWatchPort, new: CompiledWatchPort, raw: dict[str, tuple[Any, ...]]
    ) -> Batch | None:
        """A reload has changed the mapping: what differs only because it reads otherwise is no event.

        The new mapping's picture is taken between two polls of the old one. If these agree, nothing has happened
        meanwhile, so every difference is the mapping's and becomes known quietly. Else what happened is reported as the
        old mapping sees it, and the next poll tries again. None: it cannot be told apart (the old mapping fails, too
        much vanishes, the HIS never rests); then differences are reported, for a lost cancellation is worse.
        """
        self._rebases += 1
        if self._rebases > _REBASES:
            return None
        fresh = await self._his.snapshot(self.stream)
        try:
            after = await self._his.snapshot(self.stream, watch=old)
            current, repeated = _by_key(after.rows)
            poll = _Poll(old, after.now, current, repeated, unreadable=after.refused)
            await self._compare_with_memory(poll, raw)
        except (HisError, CaptureSuspended):
            return None
        if poll.changes or poll.quiet or self._missing or self._his.watch(self.stream) is not new:
            return Batch(old, False, poll.changes, poll.quiet, len(current), poll.unreadable)
        unread = {key for key, row in current.items() if raw.get(key, _UNREAD) != row}
        current, repeated = _by_key(fresh.rows)
        poll = _Poll(new, fresh.now, current, repeated, unreadable=fresh.refused)
        rebased = await self._reread(poll, unread)
        if rebased is None:
            return None
        self._rebased = rebased
        return Batch(new, False, [], rebased.quiet, len(current), poll.unreadable)

    async def _reread(self, poll: _Poll, unread: Collection[str]) -> _Rebased | None:
        """The rows as the new mapping reads them. ``unread``: those that the old one could not; they may have changed.

        None when too many of the known rows are not among them.
        """

        def unit(transaction: Transaction) -> tuple[Sequence[RowState], Mapping[str, RowState]]:
            known = transaction.rows.all(self.stream)
            return known, transaction.rows.get_many(self.stream, poll.current.keys() - {row.key for row in known})

        states, buried = await self._store.read(unit)
        known = {state.key: state for state in states}
        raw: dict[str, tuple[Any, ...]] = dict.fromkeys(known, _UNREAD)
        quiet: list[RowState] = []
        now = self._clock()
        read = ((key, row) for key, row in poll.current.items() if key not in unread)
        async for some in self._built(poll, read):
            for key, row, message in some:
                if message is None:
                    continue
                raw[key] = row
                content = message.SerializeToString(deterministic=True)
                state = known.get(key) or buried.get(key) or RowState(key, 1, None, now)
                if state.message != content or state.absent:
                    quiet.append(state._replace(message=content, absent=False))
        gone = [state for key, state in known.items() if key not in poll.current and not state.absent]
        inside = [state for state in gone if state.message is not None and self._contains(poll, state.message)]
        if len(inside) > self._vanish_rows and len(inside) > self._vanish_share * len(known):
            return None
        aside = {state.key for state in inside}
        quiet += [state._replace(absent=True) for state in inside]
        for state in gone:
            if state.key not in aside:
                quiet.append(state._replace(message=None, absent=False, changed_time=now))
                raw.pop(state.key, None)
        absent = aside | {key for key, state in known.items() if state.absent and key not in poll.current}
        return _Rebased(poll.watch, raw, quiet, absent)

    async def _adopt(self) -> None:
        """Go on with the new mapping, if what it reads has come into the store (one transaction: one row tells)."""
        rebased, self._rebased = self._rebased, None
        if rebased is None:
            return
        if rebased.quiet:
            last = rebased.quiet[-1]
            stored = await self._store.read(lambda work: work.rows.get_many(self.stream, [last.key]).get(last.key))
            if stored is None or (stored.message, stored.absent) != (last.message, last.absent):
                return
        self._watch, self._raw, self._absent = rebased.watch, rebased.raw, rebased.absent
        self._missing, self._rebases = frozenset(), 0

    def _contains(self, poll: _Poll, content: bytes) -> bool:
        return poll.watch.window_contains(poll.watch.message_class.FromString(content), poll.now)

    async def _compare_with_store(self, poll: _Poll) -> bool:
        """The first poll of this process or mapping: every row is built. True: the stream was never seen before."""

        def unit(transaction: Transaction) -> tuple[bool, Sequence[RowState], Mapping[str, RowState]]:
            rows = transaction.rows
            known = rows.all(self.stream)
            new = poll.current.keys() - {row.key for row in known}
            return rows.stream(self.stream) is None, known, rows.get_many(self.stream, new)

        baseline, states, buried = await self._store.read(unit)
        known = {state.key: state for state in states}
        self._absent = {state.key for state in states if state.absent}
        raw: dict[str, tuple[Any, ...]] = dict.fromkeys(known, _UNREAD)
        homes, left = self._moved(poll, known, buried) if self._reseeding else ({}, frozenset())
        self._absent |= left
        if not baseline:
            self._look_for_missing(poll, known, known)
        poll.quiet += [known[key]._replace(absent=True) for key in left & self._absent if not known[key].absent]
        async for some in self._built(poll, poll.current.items()):
            for key, row, message in some:
                state = known.get(key) or homes.get(key) or buried.get(key)
                if not self._compare(poll, key, row, state, message):
                    raw[key] = row
        for state in poll.quiet:
            if state.message is None:
                raw.pop(state.key, None)
        self._raw = raw
        return baseline

    def _moved(
        self, poll: _Poll, known: Mapping[str, RowState], buried: Mapping[str, RowState]
    ) -> tuple[Mapping[str, RowState], frozenset[str]]:
        """Orders that stand under another key than before: what is known of them, by the new key; and the old keys.

        The old rows are set aside and not forgotten, so that a reseed that was cut off finds them when it is repeated.
        """
        old: dict[str, list[RowState]] = {}
        for key, state in known.items():
            if key not in poll.current and (number := self._order_no(poll, state.message)):
                old.setdefault(number, []).append(state)
        new: dict[str, list[str]] = {}
        for key in poll.current.keys() - known.keys() if old else ():
            try:
                message = poll.watch.build(poll.current[key])
            except HisError:
                continue  # counted where it is compared
            if isinstance(message, common_pb2.Appointment) and message.order_no in old:
                new.setdefault(message.order_no, []).append(key)
        homes: dict[str, RowState] = {}
        left: set[str] = set()
        for number, keys in new.items():
            if len(keys) > 1 or len(old[number]) > 1:
                continue  # one order in several rows: which was which cannot be told
            (key,), (state,) = keys, old[number]
            version = max(state.version, buried[key].version if key in buried else 0)
            homes[key] = state._replace(key=key, version=version, absent=True)
            left.add(state.key)
        poll.moved = len(homes)
        return homes, frozenset(left)

    @staticmethod
    def _order_no(poll: _Poll, content: bytes | None) -> str:
        message = None if content is None else poll.watch.message_class.FromString(content)
        return message.order_no if isinstance(message, common_pb2.Appointment) else ""

    async def _compare_with_memory(self, poll: _Poll, raw: dict[str, tuple[Any, ...]]) -> None:
        changed = [key for key, row in poll.current.items() if raw.get(key, _UNREAD) != row]
        missing = raw.keys() - poll.current.keys()
        if poll.now.date() == self._day:  # rows set aside leave the window at midnight, not before
            missing -= self._absent
        self._day = poll.now.date()
        returned = self._absent & poll.current.keys()
        wanted = {*changed, *missing, *returned}
        states: Mapping[str, RowState] = {}
        if wanted:
            states = await self._store.read(lambda transaction: transaction.rows.get_many(self.stream, wanted))
        self._look_for_missing(poll, {key: states[key] for key in missing if key in states}, raw)
        async for some in self._built(poll, ((key, poll.current[key]) for key in changed)):
            raw.update(
                [(key, row) for key, row, read in some if not self._compare(poll, key, row, states.get(key), read)]
            )
        for key in returned.intersection(states) - set(changed):
            self._return(poll, states[key])
        for state in poll.quiet:
            if state.message is None:
                raw.pop(state.key, None)

    def _compare(
        self, poll: _Poll, key: str, row: tuple[Any, ...], state: RowState | None, message: Message | None
    ) -> bool:
        """Adds the row's change. False: it is as known. ``message`` None: it cannot be read, so what is known stays."""
        if message is None:
            return True
        content = message.SerializeToString(deterministic=True)
        if state is None:
            poll.changes.append(Change(key, None, message, 1, None, row, None, content))
            return True
        _, version, before, changed_time, absent = state
        if content == before:
            if absent:
                self._return(poll, state)
            return False
        known, since = None, None
        if before is not None:
            known, since = poll.watch.message_class.FromString(before), changed_time
        poll.changes.append(Change(key, known, message, version + 1, since, row, before, content))
        return True

    async def _built(
        self, poll: _Poll, rows: Iterable[tuple[str, tuple[Any, ...]]]
    ) -> AsyncIterator[Sequence[tuple[str, tuple[Any, ...], Message | None]]]:
        """Key, row and message (None: it cannot be read) of the rows, some at a time.

        Between them calls have a turn: a mass change, or a first look at many rows, must not hold them up to its end.
        """
        left = iter(rows)
        some = list(islice(left, _ROWS_A_TURN))
        while some:
            yield self._built_together(poll, some) or [(key, row, self._build(poll, key, row)) for key, row in some]
            some = list(islice(left, _ROWS_A_TURN))
            if some:
                await asyncio.sleep(0)

    @staticmethod
    def _built_together(
        poll: _Poll, rows: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Sequence[tuple[str, tuple[Any, ...], Message | None]]:
        """Nothing when they have to be built one by one."""
        if len(rows) < _TOGETHER or any(key in poll.repeated for key, _ in rows):
            return []
        messages = poll.watch.build_all([row for _, row in rows])
        if messages is None:
            return []
        clear_personal_of_all(messages)
        return [(key, row, message) for (key, row), message in zip(rows, messages, strict=True)]

    def _build(self, poll: _Poll, key: str, row: tuple[Any, ...]) -> Message | None:
        if key in poll.repeated:  # two rows with one key would take turns: a join of the mapping fans out
            poll.unreadable += 1
            return None
        try:
            message = poll.watch.build(row)
        except HisError:
            poll.unreadable += 1
            return None
        clear_personal(message)
        return message

    def _return(self, poll: _Poll, state: RowState) -> None:
        """A row that was away is back as it was."""
        self._absent.discard(state.key)
        poll.quiet.append(state._replace(absent=False))

    def _look_for_missing(self, poll: _Poll, states: Mapping[str, RowState], known: Collection[str]) -> None:
        """Known rows that the snapshot does not hold. Raises CaptureSuspended."""
        inside: dict[str, RowState] = {}
        left = 0
        for key, state in states.items():
            if key in poll.current or state.message is None:
                continue
            if poll.watch.window_contains(poll.watch.message_class.FromString(state.message), poll.now):
                if key not in self._absent:
                    inside[key] = state
            else:  # its day has passed: forgotten, which is no event
                left += 1
                self._absent.discard(key)
                poll.quiet.append(state._replace(message=None, absent=False, changed_time=self._clock()))
        expected = len(known) - left - len(self._absent)
        are_many = len(inside) > self._vanish_rows and len(inside) > self._vanish_share * expected
        if self._reseeding and (are_many or poll.watch.vanish != "event"):
            self._set_aside(poll, inside.values())
            inside.clear()
        elif are_many:
            self._missing = frozenset()
            raise CaptureSuspended(self.stream, len(inside), expected)
        agreed = [inside[key] for key in self._missing.intersection(inside)]
        self._missing = frozenset(inside.keys() - {state.key for state in agreed})
        if poll.watch.vanish == "event":
            poll.changes.extend(self._vanished(poll, state) for state in agreed)
        else:
            self._set_aside(poll, agreed)

    def _vanished(self, poll: _Poll, state: RowState) -> Change:
        known = state.message or b""
        before = poll.watch.message_class.FromString(known)
        return Change(state.key, before, None, state.version + 1, state.changed_time, known=known)

    def _set_aside(self, poll: _Poll, states: Collection[RowState]) -> None:
        for state in states:
            self._absent.add(state.key)
            poll.quiet.append(state._replace(absent=True))


def _by_key(rows: Sequence[tuple[str, tuple[Any, ...]]]) -> tuple[Mapping[str, tuple[Any, ...]], frozenset[str]]:
    """Rows by key, and the keys that come with different rows."""
    current = dict(rows)
    if len(current) == len(rows):
        return current, frozenset()
    return current, frozenset(key for key, row in rows if current[key] != row)
