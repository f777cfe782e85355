"""Last known HIS rows and streams in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select

from sync.store import RowState, StreamRow
from sync.store_prepared import Found, Prepared, ask_among, micros, moment, spelling
from sync.store_schema import HIS_ROWS, STREAMS

_COLUMNS: Final = ("key", "version", "message", "changed_time", "absent")
_ALL: Final = Prepared(
    select(*(HIS_ROWS.c[name] for name in _COLUMNS)).where(
        HIS_ROWS.c.stream == bindparam("of"), HIS_ROWS.c.message.is_not(None)
    ),
    "of",
)
_SOME: Final = f"SELECT {', '.join(_COLUMNS)} FROM his_rows WHERE stream = {{value}} AND key {{among}}"  # noqa: S608 - names
_KEYS_AT_ONCE = 500  # below the number of bound values that every database takes


def _put(dialect: str) -> Any:
    """The insert that takes the place of the row there is. Both dialects have it in the same words; see
    ``store_commands`` for why only one is loaded."""
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert(HIS_ROWS)
    values = {name: insert.excluded[name] for name in _COLUMNS if name != "key"}
    return insert.on_conflict_do_update(index_elements=["stream", "key"], set_=values)


_PUT: Final = Prepared(_put, "stream", *_COLUMNS)


def _states(rows: Found) -> list[RowState]:
    moments: dict[int, datetime] = {}  # of a mass change there are few
    found = []
    for key, version, content, time, absent in rows:
        changed = moments.get(time)
        if changed is None:
            changed = moments[time] = moment(time)
        found.append(RowState(key, version, content, changed, bool(absent)))
    return found


class SqlRowTable:
    """``RowTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def stream(self, name: str) -> StreamRow | None:
        found = self._connection.execute(select(STREAMS).where(STREAMS.c.name == name)).first()
        return None if found is None else StreamRow(found.name, found.baseline_time, found.cursor)

    def put_stream(self, row: StreamRow) -> None:
        self._connection.execute(delete(STREAMS).where(STREAMS.c.name == row.name))
        self._connection.execute(
            STREAMS.insert().values(name=row.name, baseline_time=row.baseline_time, cursor=row.cursor)
        )

    def get_many(self, stream: str, keys: Collection[str]) -> Mapping[str, RowState]:
        found: dict[str, RowState] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            page = wanted[start : start + _KEYS_AT_ONCE]
            states = _states(ask_among(self._connection, _SOME, page, stream))
            found.update((state.key, state) for state in states)
        return found

    def all(self, stream: str) -> Sequence[RowState]:
        return _states(_ALL.ask(self._connection, stream))

    def put_many(self, stream: str, rows: Iterable[RowState]) -> None:
        last: datetime | None = None
        time = 0
        values = []
        driver = spelling(self._connection)
        blob, flags = driver.blob, driver.flags
        for key, version, message, changed, absent in rows:
            if changed is not last:  # nearly always the moment of the poll
                last = changed
                time = micros(last)
            values.append((stream, key, version, None if message is None else blob(message), time, flags[absent]))
        _PUT.tell_many(self._connection, values)

    def prune(self, before: datetime) -> int:
        statement = delete(HIS_ROWS).where(HIS_ROWS.c.message.is_(None), HIS_ROWS.c.changed_time < before)
        return self._connection.execute(statement).rowcount
