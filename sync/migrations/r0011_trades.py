"""Trades that the agent has opened, until it is known what became of them: one that is paid must not be forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "trades",
        sa.Column("out_trade_no", sa.Text, primary_key=True),
        sa.Column("order_key", sa.Text, nullable=False),
        sa.Column("amount_fen", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_time", sa.BigInteger, nullable=False),
        sa.Column("next_time", sa.BigInteger),
        sa.Column("final_time", sa.BigInteger),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("trades_by_state", "trades", ["state", "next_time"])
