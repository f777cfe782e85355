"""Settlements, refunds, call-backs and counters in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, or_, select, update

from sync.money_book import PaymentNoticeRow, RefundProgress, RefundRow, SettlementRow, SettlementState
from sync.store_schema import PAYMENT_NOTICES, REFUNDS, SEQUENCES, SETTLEMENTS

_SETTLEMENT_NAMES = tuple(field.name for field in fields(SettlementRow))
_REFUND_NAMES = tuple(field.name for field in fields(RefundRow))
_SETTLEMENT = select(*(SETTLEMENTS.c[name] for name in _SETTLEMENT_NAMES))
_REFUND = select(*(REFUNDS.c[name] for name in _REFUND_NAMES))
_PAYMENT_NOTICE_NAMES = tuple(field.name for field in fields(PaymentNoticeRow))
_PAYMENT_NOTICE = select(*(PAYMENT_NOTICES.c[name] for name in _PAYMENT_NOTICE_NAMES))
_NEWEST = (SETTLEMENTS.c.created_time.desc(), SETTLEMENTS.c.key)
# What may still have to be undone at 医保, and whose number is known nowhere else.
_UNSETTLED = (SettlementState.OPEN.value, SettlementState.QUOTED.value)


class SqlSettlementTable:
    """``SettlementTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> SettlementRow | None:
        found = self._connection.execute(_SETTLEMENT.where(SETTLEMENTS.c.key == key)).first()
        return None if found is None else _settlement(found)

    def put(self, row: SettlementRow) -> None:
        values = {name: getattr(row, name) for name in _SETTLEMENT_NAMES}
        values["state"] = row.state.value
        changed = self._connection.execute(update(SETTLEMENTS).where(SETTLEMENTS.c.key == row.key).values(values))
        if not changed.rowcount:
            self._connection.execute(SETTLEMENTS.insert(), values)

    def of_order(self, order_key: str) -> Sequence[SettlementRow]:
        if not order_key:
            return []
        statement = _SETTLEMENT.where(SETTLEMENTS.c.order_key == order_key).order_by(*_NEWEST)
        return [_settlement(row) for row in self._connection.execute(statement)]

    def of_numbers(self, setl_id: str, mdtrt_id: str) -> Sequence[SettlementRow]:
        wanted = or_(
            and_(SETTLEMENTS.c.setl_id == setl_id, SETTLEMENTS.c.setl_id != ""),
            and_(SETTLEMENTS.c.mdtrt_id == mdtrt_id, SETTLEMENTS.c.mdtrt_id != ""),
        )
        return [_settlement(row) for row in self._connection.execute(_SETTLEMENT.where(wanted).order_by(*_NEWEST))]

    def listed(self, state: SettlementState, before: datetime, limit: int) -> Sequence[SettlementRow]:
        statement = (
            _SETTLEMENT.where(SETTLEMENTS.c.state == state.value, SETTLEMENTS.c.changed_time < before)
            .order_by(SETTLEMENTS.c.changed_time, SETTLEMENTS.c.key)
            .limit(limit)
        )
        return [_settlement(row) for row in self._connection.execute(statement)]

    def prune(self, before: datetime) -> int:
        statement = delete(SETTLEMENTS).where(
            SETTLEMENTS.c.changed_time < before, SETTLEMENTS.c.state.not_in(_UNSETTLED)
        )
        return self._connection.execute(statement).rowcount


class SqlRefundTable:
    """``RefundTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, out_refund_no: str) -> RefundRow | None:
        found = self._connection.execute(_REFUND.where(REFUNDS.c.out_refund_no == out_refund_no)).first()
        return None if found is None else _refund(found)

    def put(self, row: RefundRow) -> None:
        values = {name: getattr(row, name) for name in _REFUND_NAMES}
        values["state"] = row.state.value
        own = REFUNDS.c.out_refund_no == row.out_refund_no
        if not self._connection.execute(update(REFUNDS).where(own).values(values)).rowcount:
            self._connection.execute(REFUNDS.insert(), values)

    def of_trade(self, out_trade_no: str) -> Sequence[RefundRow]:
        if not out_trade_no:
            return []
        statement = _REFUND.where(REFUNDS.c.out_trade_no == out_trade_no).order_by(
            REFUNDS.c.created_time, REFUNDS.c.out_refund_no
        )
        return [_refund(row) for row in self._connection.execute(statement)]

    def due(self, now: datetime, limit: int, *, longest: timedelta = timedelta.max) -> Sequence[RefundRow]:
        is_due = REFUNDS.c.next_time <= now
        if longest < timedelta.max:
            is_due = or_(is_due, REFUNDS.c.next_time > now + longest)
        statement = (
            _REFUND.where(REFUNDS.c.state != RefundProgress.DONE.value, is_due)
            .order_by(REFUNDS.c.next_time, REFUNDS.c.out_refund_no)
            .limit(limit)
        )
        return [_refund(row) for row in self._connection.execute(statement)]

    def listed(self, state: RefundProgress, limit: int) -> Sequence[RefundRow]:
        statement = _REFUND.where(REFUNDS.c.state == state.value).order_by(
            REFUNDS.c.created_time, REFUNDS.c.out_refund_no
        )
        return [_refund(row) for row in self._connection.execute(statement.limit(limit))]

    def counts(self) -> Mapping[RefundProgress, int]:
        waiting = REFUNDS.c.state.in_((RefundProgress.PROCESSING.value, RefundProgress.ABNORMAL.value))
        statement = select(REFUNDS.c.state, func.count()).where(waiting).group_by(REFUNDS.c.state)
        return {RefundProgress(state): count for state, count in self._connection.execute(statement)}

    def prune(self, before: datetime) -> int:
        done = REFUNDS.c.state == RefundProgress.DONE.value
        return self._connection.execute(delete(REFUNDS).where(done, REFUNDS.c.final_time < before)).rowcount


class SqlPaymentNoticeTable:
    """``PaymentNoticeTable`` over a connection with an open transaction."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, gateway: str, event: str, number: str, now: datetime) -> bool:
        again = {"times": PAYMENT_NOTICES.c.times + 1, "last_time": now}
        own = _own(gateway, event, number)
        if self._connection.execute(update(PAYMENT_NOTICES).where(own).values(again)).rowcount:
            return False
        row = asdict(PaymentNoticeRow(gateway, event, number, now, now))
        self._connection.execute(PAYMENT_NOTICES.insert(), row)
        return True

    def waiting(self, limit: int) -> Sequence[PaymentNoticeRow]:
        statement = _PAYMENT_NOTICE.where(PAYMENT_NOTICES.c.woken_time.is_(None)).order_by(
            PAYMENT_NOTICES.c.received_time, PAYMENT_NOTICES.c.number
        )
        found = self._connection.execute(statement.limit(limit))
        return [PaymentNoticeRow(**dict(zip(_PAYMENT_NOTICE_NAMES, row, strict=True))) for row in found]

    def woken(self, row: PaymentNoticeRow, now: datetime) -> None:
        own = _own(row.gateway, row.event, row.number)
        self._connection.execute(update(PAYMENT_NOTICES).where(own).values(woken_time=now))

    def prune(self, before: datetime) -> int:
        old = and_(PAYMENT_NOTICES.c.last_time < before, PAYMENT_NOTICES.c.woken_time.is_not(None))
        return self._connection.execute(delete(PAYMENT_NOTICES).where(old)).rowcount


class SqlSequenceTable:
    """``SequenceTable`` over a connection with an open transaction: the changed row is locked until it ends."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def advance(self, name: str, floor: int) -> int:
        own = SEQUENCES.c.name == name
        next_value = SEQUENCES.c.value + 1
        higher = case((next_value > floor, next_value), else_=floor)
        if self._connection.execute(update(SEQUENCES).where(own).values(value=higher)).rowcount:
            return int(self._connection.execute(select(SEQUENCES.c.value).where(own)).scalar_one())
        self._connection.execute(SEQUENCES.insert().values(name=name, value=floor))
        return floor

    def put(self, name: str, value: int) -> None:
        self._connection.execute(update(SEQUENCES).where(SEQUENCES.c.name == name).values(value=value))


def _own(gateway: str, event: str, number: str) -> ColumnElement[bool]:
    table = PAYMENT_NOTICES.c
    return and_(table.gateway == gateway, table.event == event, table.number == number)


def _settlement(found: Row[Any]) -> SettlementRow:
    values = dict(zip(_SETTLEMENT_NAMES, found, strict=True))
    values["state"] = SettlementState(values["state"])
    return SettlementRow(**values)


def _refund(found: Row[Any]) -> RefundRow:
    values = dict(zip(_REFUND_NAMES, found, strict=True))
    values["state"] = RefundProgress(values["state"])
    return RefundRow(**values)
