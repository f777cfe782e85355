"""The ledger's rows in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, or_, select, update

from sync.store import CommandRow, CommandState
from sync.store_schema import COMMANDS

_NAMES = tuple(field.name for field in fields(CommandRow))
_OPEN = tuple(state.value for state in CommandState if state.is_open)
_SELECT = select(*(COMMANDS.c[name] for name in _NAMES))
_OLDEST = (COMMANDS.c.received_time, COMMANDS.c.request_id)

# Built once: in a rush each command runs these four, and building them costs more than SQLite takes to run them.
_GET = _SELECT.where(COMMANDS.c.request_id == bindparam("wanted"))
_INSERT = COMMANDS.insert()
_UPDATE = update(COMMANDS).where(COMMANDS.c.request_id == bindparam("wanted"))
_OPEN_OF = _SELECT.where(
    or_(
        and_(COMMANDS.c.order_key == bindparam("order"), COMMANDS.c.order_key != ""),
        and_(COMMANDS.c.natural_key == bindparam("number"), COMMANDS.c.natural_key != ""),
    ),
    COMMANDS.c.state.in_(_OPEN),
).order_by(*_OLDEST)
_DONE_BY_NUMBER = (
    _SELECT.where(
        COMMANDS.c.natural_key == bindparam("number"),
        COMMANDS.c.operation == bindparam("wanted"),
        COMMANDS.c.state == CommandState.DONE.value,
        COMMANDS.c.replay_of == "",
    )
    .order_by(COMMANDS.c.finished_time.desc(), COMMANDS.c.request_id)
    .limit(1)
)


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
        found = self._connection.execute(_GET, {"wanted": request_id}).first()
        return None if found is None else _row(found)

    def put(self, row: CommandRow) -> None:
        values = {name: getattr(row, name) for name in _NAMES}
        values["state"] = row.state.value
        changed = self._connection.execute(_UPDATE, {**values, "wanted": row.request_id})
        if not changed.rowcount:
            self._connection.execute(_INSERT, values)

    def open_of(self, order_key: str, natural_key: str) -> Sequence[CommandRow]:
        found = self._connection.execute(_OPEN_OF, {"order": order_key, "number": natural_key})
        return [_row(row) for row in found]

    def open(self, limit: int) -> Sequence[CommandRow]:
        statement = _SELECT.where(COMMANDS.c.state.in_(_OPEN)).order_by(COMMANDS.c.probes, *_OLDEST).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def done_by_natural_key(self, operation: str, natural_key: str) -> CommandRow | None:
        found = self._connection.execute(_DONE_BY_NUMBER, {"wanted": operation, "number": natural_key}).first()
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
