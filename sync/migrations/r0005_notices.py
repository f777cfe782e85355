"""What windows have told (医院调用接口), until the HIS shows it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload_hash", sa.LargeBinary, nullable=False),
        sa.Column("window", sa.Text, nullable=False),
        sa.Column("operator_id", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("received_time", sa.BigInteger, nullable=False),
    )
    op.create_index("notices_by_time", "notices", ["received_time"])
    op.create_table(
        "notice_subjects",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("received_time", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("seen_time", sa.BigInteger),
        sa.Column("given_up", sa.Boolean, nullable=False),
    )
    op.create_index("notice_subjects_by_subject", "notice_subjects", ["subject", "seen_time"])
    op.create_index("notice_subjects_by_seen", "notice_subjects", ["seen_time", "received_time"])
    op.create_index("events_by_lane", "events", ["lane", "sequence"])
