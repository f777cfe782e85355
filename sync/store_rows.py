"""Last known HIS rows and streams in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from sync.store import RowState, StreamRow
from sync.store_schema import HIS_ROWS, STREAMS

_COLUMNS = (HIS_ROWS.c.key, HIS_ROWS.c.version, HIS_ROWS.c.message, HIS_ROWS.c.changed_time, HIS_ROWS.c.absent)
_KEYS_AT_ONCE = 500  # below the number of bound values that every database takes


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
            statement = select(*_COLUMNS).where(HIS_ROWS.c.stream == stream, HIS_ROWS.c.key.in_(page))
            found.update((row[0], RowState(*row)) for row in self._connection.execute(statement))
        return found

    def all(self, stream: str) -> Sequence[RowState]:
        statement = select(*_COLUMNS).where(HIS_ROWS.c.stream == stream, HIS_ROWS.c.message.is_not(None))
        return [RowState(*row) for row in self._connection.execute(statement)]

    def put_many(self, stream: str, rows: Iterable[RowState]) -> None:
        wanted = list(rows)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            page = wanted[start : start + _KEYS_AT_ONCE]
            keys = [row.key for row in page]
            self._connection.execute(delete(HIS_ROWS).where(HIS_ROWS.c.stream == stream, HIS_ROWS.c.key.in_(keys)))
            self._connection.execute(
                HIS_ROWS.insert(),
                [
                    {
                        "stream": stream,
                        "key": row.key,
                        "version": row.version,
                        "message": row.message,
                        "changed_time": row.changed_time,
                        "absent": row.absent,
                    }
                    for row in page
                ],
            )

    def prune(self, before: datetime) -> int:
        statement = delete(HIS_ROWS).where(HIS_ROWS.c.message.is_(None), HIS_ROWS.c.changed_time < before)
        return self._connection.execute(statement).rowcount
