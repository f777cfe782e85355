"""Call-backs of payment houses and of 医保: each fact once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "payment_notices",
        sa.Column("gateway", sa.Text, primary_key=True),
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("received_time", sa.BigInteger, nullable=False),
        sa.Column("last_time", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("woken_time", sa.BigInteger),
    )
    op.create_index("payment_notices_by_woken", "payment_notices", ["woken_time", "received_time"])
