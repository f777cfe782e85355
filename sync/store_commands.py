"""The ledger's rows in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, or_, select, update

from sync.store import CommandRow, CommandState
from sync.store_schema import COMMANDS

_NAMES = tuple(field.name for field in fields(CommandRow))
_OPEN = tuple(state.value for state in CommandState if state.is_open)
_SELECT = select(*(COMMANDS.c[name] for name in _NAMES))
_OLDEST = (COMMANDS.c.received_time, COMMANDS.c.request_id)


def _row(found: Row[Any]) -> CommandRow:
    values = dict(zip(_NAMES, found, strict=True))
    values["state"] = CommandState(values["state"])
    return CommandRow(**values)


class SqlCommandTable:
    """``CommandTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, request_id: str) -> CommandRow | None:
        found = self._connection.execute(_SELECT.where(COMMANDS.c.request_id == request_id)).first()
        return None if found is None else _row(found)

    def put(self, row: CommandRow) -> None:
        values = {name: getattr(row, name) for name in _NAMES}
        values["state"] = row.state.value
        changes = update(COMMANDS).where(COMMANDS.c.request_id == row.request_id).values(values)
        changed = self._connection.execute(changes)
        if not changed.rowcount:
            self._connection.execute(COMMANDS.insert().values(values))

    def open_of(self, order_key: str, natural_key: str) -> Sequence[CommandRow]:
        same = or_(
            and_(COMMANDS.c.order_key == order_key, COMMANDS.c.order_key != ""),
            and_(COMMANDS.c.natural_key == natural_key, COMMANDS.c.natural_key != ""),
        )
        found = self._connection.execute(_SELECT.where(same, COMMANDS.c.state.in_(_OPEN)).order_by(*_OLDEST))
        return [_row(row) for row in found]

    def open(self, limit: int) -> Sequence[CommandRow]:
        statement = _SELECT.where(COMMANDS.c.state.in_(_OPEN)).order_by(COMMANDS.c.probes, *_OLDEST).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def done_by_natural_key(self, operation: str, natural_key: str) -> CommandRow | None:
        statement = _SELECT.where(
            COMMANDS.c.natural_key == natural_key,
            COMMANDS.c.operation == operation,
            COMMANDS.c.state == CommandState.DONE.value,
            COMMANDS.c.replay_of == "",
        ).order_by(COMMANDS.c.finished_time.desc(), COMMANDS.c.request_id)
        found = self._connection.execute(statement.limit(1)).first()
        return None if found is None else _row(found)

    def of_order(self, order_key: str) -> Sequence[CommandRow]:
        if not order_key:
            return []
        found = self._connection.execute(_SELECT.where(COMMANDS.c.order_key == order_key).order_by(*_OLDEST))
        return [_row(row) for row in found]

    def listed(self, state: CommandState, limit: int) -> Sequence[CommandRow]:
        statement = _SELECT.where(COMMANDS.c.state == state.value).order_by(*_OLDEST).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def interrupt_sent(self, now: datetime, detail: str) -> int:
        values = {"state": CommandState.UNKNOWN.value, "finished_time": now, "detail": detail}
        statement = update(COMMANDS).where(COMMANDS.c.state == CommandState.SENT.value)
        return self._connection.execute(statement.values(values)).rowcount

    def counts(self) -> Mapping[CommandState, int]:
        found = self._connection.execute(select(COMMANDS.c.state, func.count()).group_by(COMMANDS.c.state))
        counts = dict.fromkeys(CommandState, 0)
        counts.update({CommandState(state): count for state, count in found})
        return counts

    def prune(self, before: datetime) -> int:
        statement = delete(COMMANDS).where(COMMANDS.c.finished_time < before, COMMANDS.c.state.not_in(_OPEN))
        return self._connection.execute(statement).rowcount
