"""``due``: when an event may leave, for the head of its lane alone. A million that wait cost no more than ten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ON_ITS_WAY = sa.text("state <> 'ACKED'")
_HEAD = sa.text("due IS NOT NULL")


def upgrade() -> None:
    op.add_column("events", sa.Column("due", sa.BigInteger))
    op.execute(
        "UPDATE events SET due = next_time WHERE state = 'PENDING' AND sequence IN"
        " (SELECT min(sequence) FROM events WHERE state <> 'ACKED' GROUP BY lane)"
    )
    op.drop_index("events_open", "events")
    op.drop_index("events_open_by_lane", "events")
    op.create_index("events_due", "events", ["due", "sequence"], sqlite_where=_HEAD, postgresql_where=_HEAD)
    op.create_index(
        "events_open", "events", ["state", "created_time"], sqlite_where=_ON_ITS_WAY, postgresql_where=_ON_ITS_WAY
    )
