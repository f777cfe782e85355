"""Ledger, outbox, streams, last known HIS rows: the schema of the first agents, who kept its number in ``metadata``."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ON_ITS_WAY = sa.text("state <> 'ACKED'")


def upgrade() -> None:
    op.create_table(
        "metadata",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    _create_commands()
    _create_events()
    op.create_table(
        "streams",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("baseline_time", sa.BigInteger, nullable=False),
        sa.Column("cursor", sa.Text, nullable=False),
    )
    op.create_table(
        "his_rows",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("message", sa.LargeBinary),
        sa.Column("changed_time", sa.BigInteger, nullable=False),
        sa.Column("absent", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_commands() -> None:
    op.create_table(
        "commands",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("payload_hash", sa.LargeBinary, nullable=False),
        sa.Column("essence_hash", sa.LargeBinary, nullable=False),
        sa.Column("order_key", sa.Text, nullable=False),
        sa.Column("natural_key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("received_time", sa.BigInteger, nullable=False),
        sa.Column("sent_time", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("probes", sa.Integer, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("result", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("replay_of", sa.Text, nullable=False),
        sa.Column("mapping_revision", sa.Text, nullable=False),
        sa.Column("finished_time", sa.BigInteger),
    )
    op.create_index("commands_by_order", "commands", ["order_key"])
    op.create_index("commands_by_natural_key", "commands", ["natural_key", "operation"])
    op.create_index("commands_by_state", "commands", ["state", "finished_time"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("event_id", sa.Text, nullable=False, unique=True),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_time", sa.BigInteger, nullable=False),
        sa.Column("next_time", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("finished_time", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    for name, columns in (("events_open", ["sequence"]), ("events_open_by_lane", ["lane", "sequence"])):
        op.create_index(name, "events", columns, sqlite_where=_ON_ITS_WAY, postgresql_where=_ON_ITS_WAY)
    op.create_index("events_by_state", "events", ["state", "finished_time"])
