"""The tables of the state store, version 1: SQLAlchemy Core, for SQLite now, for PostgreSQL (several agents) later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware datetime as microseconds since 1970 UTC: exact, ordered, the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


TABLES = MetaData()

METADATA = Table(
    "metadata",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

COMMANDS = Table(
    "commands",
    TABLES,
    Column("request_id", Text, primary_key=True),
    Column("operation", Text, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("essence_hash", LargeBinary, nullable=False),
    Column("order_key", Text, nullable=False),
    Column("natural_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("received_time", Instant, nullable=False),
    Column("sent_time", Instant, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("probes", Integer, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("reason", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("replay_of", Text, nullable=False),
    Column("mapping_revision", Text, nullable=False),
    Column("finished_time", Instant),
    Index("commands_by_order", "order_key"),
    Index("commands_by_natural_key", "natural_key", "operation"),
    Index("commands_by_state", "state", "finished_time"),
)

# sqlite_autoincrement: a sequence is never given twice, not even after the youngest row was pruned.
EVENTS = Table(
    "events",
    TABLES,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("lane", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_time", Instant, nullable=False),
    Column("next_time", Instant, nullable=False),
    Column("detail", Text, nullable=False),
    Column("finished_time", Instant),
    sqlite_autoincrement=True,
)
# Acked events are many and kept for weeks; those on their way are few and asked for all the time.
_OPEN = text("state <> 'ACKED'")
Index("events_open", EVENTS.c.sequence, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("events_open_by_lane", EVENTS.c.lane, EVENTS.c.sequence, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("events_by_state", EVENTS.c.state, EVENTS.c.finished_time)

STREAMS = Table(
    "streams",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("baseline_time", Instant, nullable=False),
    Column("cursor", Text, nullable=False),
)

HIS_ROWS = Table(
    "his_rows",
    TABLES,
    Column("stream", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("message", LargeBinary),
    Column("changed_time", Instant, nullable=False),
    Column("absent", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
