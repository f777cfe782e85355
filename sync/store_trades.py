"""Trades in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from sync.money_book import TradeRow, TradeState
from sync.store_schema import TRADES

_NAMES = tuple(field.name for field in fields(TradeRow))
_SELECT = select(*(TRADES.c[name] for name in _NAMES))
_ENDED = TradeState.ENDED.value


class SqlTradeTable:
    """``TradeTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, out_trade_no: str) -> TradeRow | None:
        found = self._connection.execute(_SELECT.where(TRADES.c.out_trade_no == out_trade_no)).first()
        return None if found is None else _trade(found)

    def put(self, row: TradeRow) -> None:
        values = {name: getattr(row, name) for name in _NAMES}
        values["state"] = row.state.value
        own = TRADES.c.out_trade_no == row.out_trade_no
        if not self._connection.execute(update(TRADES).where(own).values(values)).rowcount:
            self._connection.execute(TRADES.insert(), values)

    def due(self, now: datetime, limit: int) -> Sequence[TradeRow]:
        statement = (
            _SELECT.where(TRADES.c.state != _ENDED, TRADES.c.next_time <= now)
            .order_by(TRADES.c.next_time, TRADES.c.out_trade_no)
            .limit(limit)
        )
        return [_trade(row) for row in self._connection.execute(statement)]

    def listed(self, state: TradeState, limit: int) -> Sequence[TradeRow]:
        statement = _SELECT.where(TRADES.c.state == state.value).order_by(TRADES.c.created_time, TRADES.c.out_trade_no)
        return [_trade(row) for row in self._connection.execute(statement.limit(limit))]

    def unconfirmed(self) -> int:
        own = TRADES.c.state == TradeState.UNCONFIRMED.value
        return int(self._connection.execute(select(func.count()).select_from(TRADES).where(own)).scalar_one())

    def prune(self, before: datetime) -> int:
        old = delete(TRADES).where(TRADES.c.state == _ENDED, TRADES.c.final_time < before)
        return self._connection.execute(old).rowcount


def _trade(found: Row[Any]) -> TradeRow:
    values = dict(zip(_NAMES, found, strict=True))
    values["state"] = TradeState(values["state"])
    return TradeRow(**values)
