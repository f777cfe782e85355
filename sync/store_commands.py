"""The ledger's rows in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from importlib import import_module
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, or_, select, update

from sync.store import PRUNED_AT_ONCE, CommandFilter, CommandRow, CommandState
from sync.store_prepared import Prepared, micros, moment
from sync.store_schema import COMMANDS

_AT_ONCE = 500  # values in one statement
_NAMES = tuple(field.name for field in fields(CommandRow))
_OPEN = tuple(state.value for state in CommandState if state.is_open)
_SELECT = select(*(COMMANDS.c[name] for name in _NAMES))
_OLDEST = (COMMANDS.c.received_time, COMMANDS.c.request_id)


def _put(dialect: str) -> Any:
    """The insert that takes the place of the row with its request_id. The two dialects have it in the same words; only
    the one in use is loaded, for that of PostgreSQL alone takes 2 MB."""
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert(COMMANDS)
    values = {name: insert.excluded[name] for name in _NAMES if name != "request_id"}
    return insert.on_conflict_do_update(index_elements=["request_id"], set_=values)


# Built once: in a rush each command runs these, and building them costs more than SQLite takes to run them.
_GET = Prepared(_SELECT.where(COMMANDS.c.request_id == bindparam("wanted")), "wanted")
_COUNT = select(COMMANDS.c.state, func.count()).where(COMMANDS.c.parent == "").group_by(COMMANDS.c.state)
_OPEN_OF = Prepared(
    _SELECT.where(
        or_(
            and_(COMMANDS.c.order_key == bindparam("order"), COMMANDS.c.order_key != ""),
            and_(COMMANDS.c.natural_key == bindparam("number"), COMMANDS.c.natural_key != ""),
        ),
        or_(*(COMMANDS.c.state == state for state in _OPEN)),  # what is prepared takes no list
        COMMANDS.c.parent == "",
    ).order_by(*_OLDEST),
    "order",
    "number",
)
_OF_ORDER = Prepared(_SELECT.where(COMMANDS.c.order_key == bindparam("order")).order_by(*_OLDEST), "order")
_DONE_BY_NUMBER = Prepared(
    _SELECT.where(
        COMMANDS.c.natural_key == bindparam("number"),
        COMMANDS.c.operation == bindparam("wanted"),
        COMMANDS.c.state == CommandState.DONE.value,
        COMMANDS.c.replay_of == "",
        COMMANDS.c.parent == "",
    )
    .order_by(COMMANDS.c.finished_time.desc(), COMMANDS.c.request_id)
    .limit(1),
    "wanted",
    "number",
)
_PUT = Prepared(_put, *_NAMES)
_VALUES = attrgetter(*_NAMES)
_STATE, _TIMES = _NAMES.index("state"), tuple(map(_NAMES.index, ("received_time", "sent_time", "finished_time")))


def _prepared_row(found: Sequence[Any]) -> CommandRow:
    """A row as the driver gives it."""
    values = list(found)
    values[_STATE] = CommandState(values[_STATE])
    for at in _TIMES:
        if values[at] is not None:
            values[at] = moment(values[at])
    return CommandRow(*values)


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
        found = _GET.ask(self._connection, request_id)
        return _prepared_row(found[0]) if found else None

    def put(self, row: CommandRow) -> None:
        values: list[Any] = [*_VALUES(row)]
        values[_STATE] = row.state.value
        for at in _TIMES:
            if values[at] is not None:
                values[at] = micros(values[at])
        _PUT.tell(self._connection, *values)

    def open_of(self, order_key: str, natural_key: str) -> Sequence[CommandRow]:
        return [_prepared_row(row) for row in _OPEN_OF.ask(self._connection, order_key, natural_key)]

    def open(self, limit: int) -> Sequence[CommandRow]:
        wanted = (COMMANDS.c.state.in_(_OPEN), COMMANDS.c.parent == "")
        statement = _SELECT.where(*wanted).order_by(COMMANDS.c.probes, *_OLDEST).limit(limit)
        return [_row(row) for row in self._connection.execute(statement)]

    def done_by_natural_key(self, operation: str, natural_key: str) -> CommandRow | None:
        found = _DONE_BY_NUMBER.ask(self._connection, operation, natural_key)
        return _prepared_row(found[0]) if found else None

    def of_order(self, order_key: str) -> Sequence[CommandRow]:
        if not order_key:
            return []
        return [_prepared_row(row) for row in _OF_ORDER.ask(self._connection, order_key)]

    def steps_of(self, request_id: str) -> Sequence[CommandRow]:
        if not request_id:
            return []
        found = self._connection.execute(_SELECT.where(COMMANDS.c.parent == request_id).order_by(*_OLDEST))
        return [_row(row) for row in found]

    def has_natural_key(self, natural_key: str) -> bool:
        statement = select(COMMANDS.c.request_id).where(COMMANDS.c.natural_key == natural_key).limit(1)
        return self._connection.execute(statement).first() is not None

    def of_natural_keys(self, natural_keys: Collection[str]) -> Sequence[CommandRow]:
        found = self._connection.execute(_SELECT.where(COMMANDS.c.natural_key.in_(natural_keys)).order_by(*_OLDEST))
        return [_row(row) for row in found]

    def listed(self, state: CommandState, limit: int) -> Sequence[CommandRow]:
        statement = (
            _SELECT.where(COMMANDS.c.state == state.value, COMMANDS.c.parent == "").order_by(*_OLDEST).limit(limit)
        )
        return [_row(row) for row in self._connection.execute(statement)]

    def search(self, wanted: CommandFilter) -> Sequence[CommandRow]:
        statement = _SELECT
        if wanted.states:
            statement = statement.where(COMMANDS.c.state.in_([state.value for state in wanted.states]))
        if wanted.order_key:
            statement = statement.where(COMMANDS.c.order_key == wanted.order_key)
        if wanted.operation:
            whole = COMMANDS.c.operation == wanted.operation
            statement = statement.where(
                or_(whole, COMMANDS.c.operation.endswith(f".{wanted.operation}", autoescape=True))
            )
        if wanted.since is not None:
            statement = statement.where(COMMANDS.c.received_time >= wanted.since)
        if wanted.until is not None:
            statement = statement.where(COMMANDS.c.received_time < wanted.until)
        if not wanted.steps:
            statement = statement.where(COMMANDS.c.parent == "")
        statement = statement.order_by(COMMANDS.c.received_time.desc(), COMMANDS.c.request_id.desc())
        return [_row(row) for row in self._connection.execute(statement.limit(wanted.limit))][::-1]

    def interrupt_sent(self, now: datetime, detail: str) -> int:
        values = {"state": CommandState.UNKNOWN.value, "finished_time": now, "detail": detail}
        statement = update(COMMANDS).where(COMMANDS.c.state == CommandState.SENT.value)
        return self._connection.execute(statement.values(values)).rowcount

    def counts(self) -> Mapping[CommandState, int]:
        found = self._connection.execute(_COUNT)
        counts = dict.fromkeys(CommandState, 0)
        counts.update({CommandState(state): count for state, count in found})
        return counts

    def prune(self, before: datetime, limit: int = PRUNED_AT_ONCE) -> int:
        ended = (COMMANDS.c.parent == "", COMMANDS.c.finished_time < before, COMMANDS.c.state.not_in(_OPEN))
        old = self._connection.execute(select(COMMANDS.c.request_id).where(*ended).limit(limit)).scalars().all()
        pruned = 0
        for start in range(0, len(old), _AT_ONCE):
            page = old[start : start + _AT_ONCE]
            for column in (COMMANDS.c.parent, COMMANDS.c.request_id):
                pruned += self._connection.execute(delete(COMMANDS).where(column.in_(page))).rowcount
        return pruned
