"""What people have said about watches, in SQL: one line of ``metadata`` for each watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, select

from sync.store_schema import METADATA
from sync.watch_control import WatchControl

_PREFIX: Final = "watch:"


class SqlWatchControlTable:
    """``WatchControlTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, stream: str) -> WatchControl | None:
        wanted = select(METADATA.c.value).where(METADATA.c.name == _PREFIX + stream)
        found = self._connection.execute(wanted).scalar()
        return None if found is None else WatchControl.from_json(found)

    def all(self) -> Sequence[WatchControl]:
        wanted = select(METADATA.c.value).where(METADATA.c.name.startswith(_PREFIX, autoescape=True))
        found = self._connection.execute(wanted.order_by(METADATA.c.name)).scalars()
        return [WatchControl.from_json(value) for value in found]

    def put(self, control: WatchControl) -> None:
        name = _PREFIX + control.stream
        self._connection.execute(delete(METADATA).where(METADATA.c.name == name))
        self._connection.execute(METADATA.insert().values(name=name, value=control.to_json()))
