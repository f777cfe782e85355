"""The tables of the state store as they are now: SQLAlchemy Core, for SQLite and for PostgreSQL (several agents).

How an older store gets here: ``sync/migrations``. A change of a table is a change here and a revision there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.types import TypeDecorator

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


class Span(TypeDecorator[timedelta]):
    """A time span as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        return None if value is None else value * _MICROSECOND


_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")

TABLES = MetaData()

METADATA = Table(
    "metadata",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# The table that Alembic keeps: one row, the revision.
REVISION = Table(
    "alembic_version",
    TABLES,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
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
    Column("parent", Text, nullable=False, server_default=""),
    Column("step", Text, nullable=False, server_default=""),
    Index("commands_by_order", "order_key"),
    Index("commands_by_natural_key", "natural_key", "operation"),
    Index("commands_by_state", "state", "finished_time"),
    Index("commands_by_parent", "parent"),
)

# sqlite_autoincrement: a sequence is never given twice, not even after the youngest row was pruned.
EVENTS = Table(
    "events",
    TABLES,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False, unique=True),
    Column("lane", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_time", Instant, nullable=False),
    Column("next_time", Instant, nullable=False),
    Column("detail", Text, nullable=False),
    Column("finished_time", Instant),
    Column("due", Instant),
    sqlite_autoincrement=True,
)
# Acked events are many and kept for weeks; those on their way may be a million after days without a relay, and are
# asked for all the time. ``due`` is ``next_time`` for the head of a lane that may leave, NULL for all others.
_PARTIAL: Final = (
    (Index("events_due", EVENTS.c.due, EVENTS.c.sequence), text("due IS NOT NULL")),
    (Index("events_open", EVENTS.c.state, EVENTS.c.created_time), text("state <> 'ACKED'")),
    (Index("events_acked", EVENTS.c.finished_time), text("state = 'ACKED'")),
)
Index("events_by_lane", EVENTS.c.lane, EVENTS.c.sequence)


@event.listens_for(EVENTS, "before_create")
def _hold_some_rows_only(_: Table, connection: Connection, **__: Any) -> None:
    """Written as ``postgresql_where=``, they would load a dialect of 2 MB in every agent whose store is SQLite."""
    for index, where in _PARTIAL:
        index.dialect_options[connection.dialect.name]["where"] = where


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

# 医保 settlements of the platform's orders: all that is needed to undo them. ``record`` is a SettlementRecord with the
# person's number at 医保, which stands nowhere else in the store.
SETTLEMENTS = Table(
    "settlements",
    TABLES,
    Column("key", Text, primary_key=True),
    Column("order_key", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("setl_id", Text, nullable=False),
    Column("mdtrt_id", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("pay_order_id", Text, nullable=False),
    Column("out_trade_no", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_time", Instant, nullable=False),
    Column("changed_time", Instant, nullable=False),
    Column("pay_token", Text, nullable=False, server_default=""),
    Index("settlements_by_order", "order_key"),
    Index("settlements_by_setl_id", "setl_id"),
    Index("settlements_by_mdtrt_id", "mdtrt_id"),
    Index("settlements_by_state", "state", "changed_time"),
)

# Refunds that the payment house has accepted, until the money is back.
REFUNDS = Table(
    "refunds",
    TABLES,
    Column("out_refund_no", Text, primary_key=True),
    Column("order_key", Text, nullable=False),
    Column("out_trade_no", Text, nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("created_time", Instant, nullable=False),
    Column("next_time", Instant),
    Column("final_time", Instant),
    Column("detail", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Index("refunds_by_trade", "out_trade_no"),
    Index("refunds_by_state", "state", "next_time"),
)

# Trades that the agent has opened, until it is known what became of them.
TRADES = Table(
    "trades",
    TABLES,
    Column("out_trade_no", Text, primary_key=True),
    Column("order_key", Text, nullable=False),
    Column("amount_fen", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_time", Instant, nullable=False),
    Column("next_time", Instant),
    Column("final_time", Instant),
    Column("asked", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Index("trades_by_state", "state", "next_time"),
)

# Call-backs of payment houses and of 医保: each fact once, however often it is told.
PAYMENT_NOTICES = Table(
    "payment_notices",
    TABLES,
    Column("gateway", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("number", Text, primary_key=True),
    Column("received_time", Instant, nullable=False),
    Column("last_time", Instant, nullable=False),
    Column("times", Integer, nullable=False),
    Column("woken_time", Instant),
    Index("payment_notices_by_woken", "woken_time", "received_time"),
)

SEQUENCES = Table(
    "sequences",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

# What windows have told: 医院调用接口. A subject is an order or a session, by the lane of its events.
NOTICES = Table(
    "notices",
    TABLES,
    Column("request_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("payload_hash", LargeBinary, nullable=False),
    Column("window", Text, nullable=False),
    Column("operator_id", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("received_time", Instant, nullable=False),
    Index("notices_by_time", "received_time"),
)
NOTICE_SUBJECTS = Table(
    "notice_subjects",
    TABLES,
    Column("request_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("received_time", Instant, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("seen_time", Instant),
    Column("given_up", Boolean, nullable=False),
    Index("notice_subjects_by_subject", "subject", "seen_time"),
    Index("notice_subjects_by_seen", "seen_time", "received_time"),
)

# Every run of a report with its rows. ``slot`` is unique: a period of a report is run once, whichever agent does it.
REPORT_RUNS = Table(
    "report_runs",
    TABLES,
    Column("run_id", Text, primary_key=True),
    Column("report", Text, nullable=False),
    Column("slot", Text, nullable=False, unique=True),
    Column("first_day", Text, nullable=False),
    Column("last_day", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("begun_time", Instant, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("finished_time", Instant),
    Column("next_time", Instant),
    Column("rows", BigInteger, nullable=False),
    Column("input_hash", LargeBinary, nullable=False),
    Column("checksum", LargeBinary, nullable=False),
    Column("mapping_revision", Text, nullable=False),
    Column("definition", LargeBinary, nullable=False),
    Column("detail", Text, nullable=False),
    Column("push_state", Text, nullable=False),
    Column("pushed_rows", BigInteger, nullable=False),
    Column("push_attempts", Integer, nullable=False),
    Column("push_time", Instant),
    Column("file_state", Text, nullable=False, server_default="NONE"),
    Index("report_runs_by_days", "report", "first_day", "last_day"),
    Index("report_runs_by_begun", "begun_time"),
    Index("report_runs_by_state", "state", "next_time"),
    Index("report_runs_by_push", "push_state", "push_time"),
    Index("report_runs_by_file", "file_state"),
)
REPORT_PAGES = Table(
    "report_pages",
    TABLES,
    Column("run_id", Text, primary_key=True),
    Column("first_row", BigInteger, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# Which agent watches and delivers. ``expires``: microseconds since 1970 by the database's own clock.
LEASES = Table(
    "leases",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)

AUDIT = Table(
    "audit",
    TABLES,
    Column("sequence", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("time", Instant, nullable=False),
    Column("format", Integer, nullable=False),
    Column("instance", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("duration", Span),
    Column("mapping_revision", Text, nullable=False),
    Column("trace", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_by_time", "time"),
    Index("audit_by_target", "target"),
)

# ``head``: the last row of the chain; ``pruned``: the last that was packed; ``dropped``: the last that is gone.
AUDIT_ANCHORS = Table(
    "audit_anchors",
    TABLES,
    Column("name", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# Rows of the chain that are old, packed: the chain goes through it. One row holds many (``sync/audit_archive.py``).
AUDIT_ARCHIVE = Table(
    "audit_archive",
    TABLES,
    Column("first_sequence", _SEQUENCE, primary_key=True, autoincrement=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("last_time", Instant, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Index("audit_archive_by_last", "last_sequence"),
)

# Append-only is the database's word, not ours alone.
_APPEND_ONLY = {
    "sqlite": (
        """CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
        """CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.sequence > coalesce((SELECT sequence FROM audit_anchors WHERE name = 'pruned'), 0) BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
        """CREATE TRIGGER audit_archive_no_update BEFORE UPDATE ON audit_archive BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
        """CREATE TRIGGER audit_archive_no_delete BEFORE DELETE ON audit_archive
WHEN OLD.last_sequence > coalesce((SELECT sequence FROM audit_anchors WHERE name = 'dropped'), 0) BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
    ),
    "postgresql": (
        """CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.sequence <= coalesce((SELECT sequence FROM audit_anchors WHERE name = 'pruned'), 0) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$""",
        """CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION audit_append_only()""",
        """CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()""",
        """CREATE FUNCTION audit_archive_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE'
        AND OLD.last_sequence <= coalesce((SELECT sequence FROM audit_anchors WHERE name = 'dropped'), 0) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$""",
        """CREATE TRIGGER audit_archive_append_only BEFORE UPDATE OR DELETE ON audit_archive
FOR EACH ROW EXECUTE FUNCTION audit_archive_append_only()""",
        """CREATE TRIGGER audit_archive_no_truncate BEFORE TRUNCATE ON audit_archive
FOR EACH STATEMENT EXECUTE FUNCTION audit_archive_append_only()""",
    ),
}
for _dialect, _statements in _APPEND_ONLY.items():
    for _statement in _statements:
        event.listen(TABLES, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]
