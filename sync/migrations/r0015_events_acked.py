"""The index over all states and ends of events holds acked ones only: a new event has one entry less to make, and an
acked one none to take back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_ACKED = sa.text("state = 'ACKED'")


def upgrade() -> None:
    op.drop_index("events_by_state", "events")
    op.create_index("events_acked", "events", ["finished_time"], sqlite_where=_ACKED, postgresql_where=_ACKED)
