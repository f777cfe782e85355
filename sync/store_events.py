"""The outbox's rows in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    select,
    update,
)

from sync.store import PRUNED_AT_ONCE, Backlog, EventCounts, EventRow, EventState, NewEvent
from sync.store_prepared import Prepared, ask_among, micros, spelling
from sync.store_schema import EVENTS

_NAMES = tuple(field.name for field in fields(EventRow))
_SELECT = select(*(EVENTS.c[name] for name in _NAMES))
# Spelled out, not bound: only so does the planner see that the partial indexes apply.
_ACKED: ColumnElement[str] = literal_column(f"'{EventState.ACKED.value}'")
_PENDING: ColumnElement[str] = literal_column(f"'{EventState.PENDING.value}'")
_DEAD: ColumnElement[str] = literal_column(f"'{EventState.DEAD.value}'")
_OPEN = EVENTS.c.state != _ACKED
_KNOWN = Prepared(select(EVENTS.c.sequence).where(EVENTS.c.event_id == bindparam("wanted")), "wanted")
# What every new event has in common is spelled out: a value less to bind for each.
_NEW = {
    "state": _PENDING,
    "attempts": literal_column("0"),
    "detail": literal_column("''"),
    "finished_time": null(),
}
_INSERT = Prepared(EVENTS.insert().values(_NEW), "event_id", "lane", "payload", "created_time", "next_time", "due")
_THERE = "SELECT event_id FROM events WHERE event_id {among}"
_WAITING = "SELECT DISTINCT lane FROM events WHERE lane {among} AND state <> 'ACKED'"
_AT_ONCE = 500  # values in one statement: below the number that every database takes


def _row(found: Row[Any]) -> EventRow:
    values = dict(zip(_NAMES, found, strict=True))
    values["state"] = EventState(values["state"])
    return EventRow(**values)


class SqlEventTable:
    """``EventTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, event_id: str, lane: str, payload: bytes, now: datetime) -> int | None:
        if not self.append_many([NewEvent(event_id, lane, payload)], now):
            return None
        return int(_KNOWN.ask(self._connection, event_id)[0][0])

    def append_many(self, events: Sequence[NewEvent], now: datetime) -> Collection[str]:
        added: set[str] = set()
        time, blob = micros(now), spelling(self._connection).blob
        for start in range(0, len(events), _AT_ONCE):
            fresh = self._unknown(events[start : start + _AT_ONCE], added)
            waiting = self._waiting({event.lane for event in fresh})
            rows = []
            for event_id, lane, payload in fresh:
                due = None if lane in waiting else time
                waiting.add(lane)
                rows.append((event_id, lane, blob(payload), time, time, due))
            added.update([event.event_id for event in fresh])
            _INSERT.tell_many(self._connection, rows)
        return added

    def pending(self, limit: int, now: datetime) -> Sequence[EventRow]:
        # Those that are due for longest; within the batch by sequence.
        statement = _SELECT.where(EVENTS.c.due <= now).order_by(EVENTS.c.due, EVENTS.c.sequence).limit(limit)
        rows = [_row(row) for row in self._connection.execute(statement)]
        return sorted(rows, key=lambda row: row.sequence)

    def due_after(self, limit: int, time: datetime) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.due > time).order_by(EVENTS.c.due, EVENTS.c.sequence).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def next_due(self) -> datetime | None:
        return self._connection.execute(select(func.min(EVENTS.c.due)).where(EVENTS.c.due.is_not(None))).scalar()

    def get_many(self, event_ids: Collection[str]) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.event_id.in_(event_ids)).order_by(EVENTS.c.sequence)
        return [_row(row) for row in self._connection.execute(statement)]

    def ack(self, event_ids: Collection[str], now: datetime) -> int:
        lanes = self._lanes(event_ids)
        statement = update(EVENTS).where(EVENTS.c.event_id.in_(event_ids), _OPEN)
        values = {"state": EventState.ACKED.value, "finished_time": now, "due": None}
        acked = self._connection.execute(statement.values(values)).rowcount
        self._let_heads_go(lanes)
        return acked

    def retry_later(self, event_id: str, next_time: datetime, detail: str) -> None:
        statement = update(EVENTS).where(EVENTS.c.event_id == event_id, EVENTS.c.state == _PENDING)
        due = case((EVENTS.c.due.is_(None), null()), else_=bindparam("later", next_time, EVENTS.c.due.type))
        values = {"attempts": EVENTS.c.attempts + 1, "next_time": next_time, "due": due, "detail": detail}
        self._connection.execute(statement.values(values))

    def bury(self, event_id: str, detail: str, now: datetime) -> None:
        statement = update(EVENTS).where(EVENTS.c.event_id == event_id, EVENTS.c.state == _PENDING)
        values = {"state": EventState.DEAD.value, "detail": detail, "finished_time": now, "due": None}
        self._connection.execute(statement.values(values))

    def revive(self, event_ids: Collection[str], now: datetime) -> int:
        statement = update(EVENTS).where(EVENTS.c.event_id.in_(event_ids), EVENTS.c.state == _DEAD)
        values = {"state": EventState.PENDING.value, "attempts": 0, "next_time": now, "finished_time": None}
        revived = self._connection.execute(statement.values(values)).rowcount
        self._let_heads_go(self._lanes(event_ids))
        return revived

    def correct(self, event_id: str, payload: bytes, now: datetime) -> bool:
        statement = update(EVENTS).where(EVENTS.c.event_id == event_id, EVENTS.c.state == _DEAD).values(payload=payload)
        return bool(self._connection.execute(statement).rowcount) and bool(self.revive([event_id], now))

    def latest_of(self, lane: str) -> EventRow | None:
        statement = _SELECT.where(EVENTS.c.lane == lane).order_by(EVENTS.c.sequence.desc()).limit(1)
        found = self._connection.execute(statement).first()
        return None if found is None else _row(found)

    def of_lane(self, lane: str, limit: int) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.lane == lane).order_by(EVENTS.c.sequence.desc()).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)][::-1]

    def created(self, since: datetime, until: datetime, limit: int) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.created_time >= since, EVENTS.c.created_time < until)
        return [_row(row) for row in self._connection.execute(statement.order_by(EVENTS.c.sequence).limit(limit))]

    def after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.sequence > sequence, EVENTS.c.state != _DEAD)
        return [_row(row) for row in self._connection.execute(statement.order_by(EVENTS.c.sequence).limit(limit))]

    def listed(self, state: EventState, limit: int) -> Sequence[EventRow]:
        # Of the few that are open the index holds the states; of the very many that are acked the first are soon found.
        spelled: ColumnElement[str] = literal_column(f"'{state.value}'")
        wanted = _SELECT.where(EVENTS.c.state == spelled, *([] if state is EventState.ACKED else [_OPEN]))
        statement = wanted.order_by(EVENTS.c.sequence).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def backlog(self) -> Backlog:
        found = self._connection.execute(select(EVENTS.c.state, func.count()).where(_OPEN).group_by(EVENTS.c.state))
        by_state = {str(state): int(count) for state, count in found}
        oldest = select(func.min(EVENTS.c.created_time)).where(_OPEN, EVENTS.c.state == _PENDING)
        return Backlog(
            pending=by_state.get(EventState.PENDING.value, 0),
            dead=by_state.get(EventState.DEAD.value, 0),
            oldest=self._connection.execute(oldest).scalar(),
        )

    def counts(self) -> EventCounts:
        backlog = self.backlog()
        dead = select(EVENTS.c.lane, func.min(EVENTS.c.sequence).label("first"))
        parks = dead.where(_OPEN, EVENTS.c.state == _DEAD).group_by(EVENTS.c.lane).subquery()
        parked = select(func.count()).select_from(parks.join(EVENTS, EVENTS.c.lane == parks.c.lane))
        acked = select(func.count()).where(EVENTS.c.state == _ACKED)
        return EventCounts(
            pending=backlog.pending,
            parked=self._connection.execute(
                parked.where(EVENTS.c.sequence > parks.c.first, EVENTS.c.state == _PENDING)
            ).scalar_one(),
            dead=backlog.dead,
            acked=self._connection.execute(acked).scalar_one(),
            last_sequence=self._connection.execute(select(func.max(EVENTS.c.sequence))).scalar() or 0,
            oldest=backlog.oldest,
        )

    def _unknown(self, events: Sequence[NewEvent], added: set[str]) -> Sequence[NewEvent]:
        """Those that are neither in the table nor among ``added``, each id once."""
        ids = [event.event_id for event in events]
        known = {found[0] for found in ask_among(self._connection, _THERE, ids)}
        if not known and len(set(ids)) == len(ids) and added.isdisjoint(ids):
            return events  # as nearly always
        known |= added
        unknown = []
        for event in events:
            if event.event_id not in known:
                known.add(event.event_id)
                unknown.append(event)
        return unknown

    def _waiting(self, lanes: Collection[str]) -> set[str]:
        """Those of the lanes in which an event is not acked: what comes now goes behind it."""
        return {found[0] for found in ask_among(self._connection, _WAITING, list(lanes))} if lanes else set()

    def _lanes(self, event_ids: Collection[str]) -> list[str]:
        statement = select(EVENTS.c.lane).distinct().where(EVENTS.c.event_id.in_(event_ids))
        return [str(lane) for lane in self._connection.execute(statement).scalars()]

    def _let_heads_go(self, lanes: Sequence[str]) -> None:
        """The first event of each lane that is not acked may leave, unless it is dead."""
        for start in range(0, len(lanes), _AT_ONCE):
            page = lanes[start : start + _AT_ONCE]
            heads = select(func.min(EVENTS.c.sequence)).where(EVENTS.c.lane.in_(page), _OPEN).group_by(EVENTS.c.lane)
            statement = update(EVENTS).where(EVENTS.c.sequence.in_(heads), EVENTS.c.state == _PENDING)
            self._connection.execute(statement.where(EVENTS.c.due.is_(None)).values(due=EVENTS.c.next_time))

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        old = select(EVENTS.c.sequence).where(EVENTS.c.state == _ACKED, EVENTS.c.finished_time < before).limit(limit)
        return self._connection.execute(delete(EVENTS).where(EVENTS.c.sequence.in_(old))).rowcount
