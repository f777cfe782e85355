"""Leases in SQL, by the clock of the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, Connection, literal_column, select, update

from sync.lease_term import LeaseRow
from sync.store import LeaseLost
from sync.store_schema import LEASES

_MICROSECOND: Final = timedelta(microseconds=1)
# The time now and not that of the transaction's begin: it may have waited. Part of the statement that uses it, so that
# nothing lies between asking for the time and what is done by it.
_NOW: Final[dict[str, ColumnElement[int]]] = {
    "sqlite": literal_column("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", BigInteger),
    "postgresql": literal_column("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)", BigInteger),
}


class SqlLeaseTable:
    """``LeaseTable`` over a connection with an open transaction, which no other writer has beside it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> LeaseRow | None:
        left = (LEASES.c.expires - self._now).label("left")
        found = self._connection.execute(select(LEASES, left).where(LEASES.c.name == name)).first()
        return None if found is None else LeaseRow(name, found.holder, found.term, found.left * _MICROSECOND)

    def take(self, name: str, holder: str, span: timedelta) -> int | None:
        row = self.get(name)
        # More time left than anybody takes: the database's clock went back, and the holder may be long gone.
        if row is not None and timedelta(0) < row.left <= span:
            return None
        term = 1 if row is None else row.term + 1
        place = {"holder": holder, "term": term, "expires": self._until(span)}
        if row is None:
            self._connection.execute(LEASES.insert().values(name=name, **place))
            return term
        # Renewals wait for no writer: one may have come in between.
        is_over = (LEASES.c.expires <= self._now) | (LEASES.c.expires > self._until(span))
        taken = update(LEASES).where(LEASES.c.name == name, LEASES.c.term == row.term, is_over).values(**place)
        return term if self._connection.execute(taken).rowcount else None

    def renew(self, name: str, term: int, span: timedelta) -> bool:
        return self._set(name, term, self._until(span))

    def give_back(self, name: str, term: int) -> None:
        self._set(name, term, 0)

    def check(self, name: str, term: int) -> None:
        row = self.get(name)
        if row is None or row.term != term or row.left <= timedelta(0):
            raise LeaseLost(f"term {term} of the lease {name} is over")

    def _set(self, name: str, term: int, expires: ColumnElement[int] | int) -> bool:
        mine = (LEASES.c.name == name, LEASES.c.term == term, LEASES.c.expires > self._now)
        return bool(self._connection.execute(update(LEASES).where(*mine).values(expires=expires)).rowcount)

    def _until(self, span: timedelta) -> ColumnElement[int]:
        return self._now + span // _MICROSECOND

    @property
    def _now(self) -> ColumnElement[int]:
        return _NOW[self._connection.dialect.name]
