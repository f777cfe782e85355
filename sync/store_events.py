"""The outbox's rows in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, literal_column, select, update

from sync.store import EventCounts, EventRow, EventState
from sync.store_schema import EVENTS

_NAMES = tuple(field.name for field in fields(EventRow))
_SELECT = select(*(EVENTS.c[name] for name in _NAMES))
# Spelled out, not bound: only so does the planner see that the partial indexes apply.
_ACKED: ColumnElement[str] = literal_column(f"'{EventState.ACKED.value}'")
_PENDING: ColumnElement[str] = literal_column(f"'{EventState.PENDING.value}'")
_DEAD: ColumnElement[str] = literal_column(f"'{EventState.DEAD.value}'")
_OPEN = EVENTS.c.state != _ACKED


def _earlier_open(*, state: ColumnElement[Any] | None = None) -> ColumnElement[bool]:
    """Whether an earlier event of the same lane is not acked (or, with ``state``, is in that state)."""
    earlier = EVENTS.alias("earlier")
    conditions = [earlier.c.lane == EVENTS.c.lane, earlier.c.sequence < EVENTS.c.sequence, earlier.c.state != _ACKED]
    if state is not None:
        conditions.append(earlier.c.state == state)
    return exists(select(earlier.c.sequence).where(*conditions))


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
        known = self._connection.execute(select(EVENTS.c.sequence).where(EVENTS.c.event_id == event_id)).first()
        if known is not None:
            return None
        inserted = self._connection.execute(
            EVENTS.insert().values(
                event_id=event_id,
                lane=lane,
                payload=payload,
                state=EventState.PENDING.value,
                attempts=0,
                created_time=now,
                next_time=now,
                detail="",
            )
        )
        key = inserted.inserted_primary_key
        assert key is not None
        return int(key[0])

    def pending(self, limit: int, now: datetime) -> Sequence[EventRow]:
        statement = _SELECT.where(_OPEN, EVENTS.c.state == _PENDING, EVENTS.c.next_time <= now, ~_earlier_open())
        return [_row(row) for row in self._connection.execute(statement.order_by(EVENTS.c.sequence).limit(limit))]

    def next_due(self) -> datetime | None:
        statement = select(EVENTS.c.next_time).where(_OPEN, EVENTS.c.state == _PENDING, ~_earlier_open())
        return self._connection.execute(statement.order_by(EVENTS.c.next_time).limit(1)).scalar()

    def get_many(self, event_ids: Collection[str]) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.event_id.in_(event_ids)).order_by(EVENTS.c.sequence)
        return [_row(row) for row in self._connection.execute(statement)]

    def ack(self, event_ids: Collection[str], now: datetime) -> int:
        statement = update(EVENTS).where(EVENTS.c.event_id.in_(event_ids), _OPEN)
        return self._connection.execute(statement.values(state=EventState.ACKED.value, finished_time=now)).rowcount

    def retry_later(self, event_id: str, next_time: datetime, detail: str) -> None:
        statement = update(EVENTS).where(EVENTS.c.event_id == event_id, EVENTS.c.state == _PENDING)
        self._connection.execute(statement.values(attempts=EVENTS.c.attempts + 1, next_time=next_time, detail=detail))

    def bury(self, event_id: str, detail: str, now: datetime) -> None:
        statement = update(EVENTS).where(EVENTS.c.event_id == event_id, EVENTS.c.state == _PENDING)
        self._connection.execute(statement.values(state=EventState.DEAD.value, detail=detail, finished_time=now))

    def revive(self, event_ids: Collection[str], now: datetime) -> int:
        statement = update(EVENTS).where(EVENTS.c.event_id.in_(event_ids), EVENTS.c.state == _DEAD)
        values = {"state": EventState.PENDING.value, "attempts": 0, "next_time": now, "finished_time": None}
        return self._connection.execute(statement.values(values)).rowcount

    def after(self, sequence: int, limit: int) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.sequence > sequence, EVENTS.c.state != _DEAD)
        return [_row(row) for row in self._connection.execute(statement.order_by(EVENTS.c.sequence).limit(limit))]

    def listed(self, state: EventState, limit: int) -> Sequence[EventRow]:
        statement = _SELECT.where(EVENTS.c.state == state.value).order_by(EVENTS.c.sequence).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def counts(self) -> EventCounts:
        connection = self._connection
        found = connection.execute(select(EVENTS.c.state, func.count()).group_by(EVENTS.c.state)).all()
        by_state = {str(state): int(count) for state, count in found}
        parked = select(func.count()).where(_OPEN, EVENTS.c.state == _PENDING, _earlier_open(state=_DEAD))
        oldest = select(func.min(EVENTS.c.created_time)).where(_OPEN, EVENTS.c.state == _PENDING)
        return EventCounts(
            pending=by_state.get(EventState.PENDING.value, 0),
            parked=connection.execute(parked).scalar_one(),
            dead=by_state.get(EventState.DEAD.value, 0),
            acked=by_state.get(EventState.ACKED.value, 0),
            last_sequence=connection.execute(select(func.max(EVENTS.c.sequence))).scalar() or 0,
            oldest=connection.execute(oldest).scalar(),
        )

    def prune(self, before: datetime) -> int:
        statement = delete(EVENTS).where(EVENTS.c.state == _ACKED, EVENTS.c.finished_time < before)
        return self._connection.execute(statement).rowcount
