"""What sagas keep: 医保 settlements of orders, refunds on their way, numbers that are given once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "settlements",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("order_key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("setl_id", sa.Text, nullable=False),
        sa.Column("mdtrt_id", sa.Text, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("pay_order_id", sa.Text, nullable=False),
        sa.Column("out_trade_no", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_time", sa.BigInteger, nullable=False),
        sa.Column("changed_time", sa.BigInteger, nullable=False),
    )
    op.create_index("settlements_by_order", "settlements", ["order_key"])
    op.create_index("settlements_by_setl_id", "settlements", ["setl_id"])
    op.create_index("settlements_by_mdtrt_id", "settlements", ["mdtrt_id"])
    op.create_index("settlements_by_state", "settlements", ["state", "changed_time"])
    op.create_table(
        "refunds",
        sa.Column("out_refund_no", sa.Text, primary_key=True),
        sa.Column("order_key", sa.Text, nullable=False),
        sa.Column("out_trade_no", sa.Text, nullable=False),
        sa.Column("amount_fen", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        sa.Column("created_time", sa.BigInteger, nullable=False),
        sa.Column("next_time", sa.BigInteger),
        sa.Column("final_time", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
    )
    op.create_index("refunds_by_trade", "refunds", ["out_trade_no"])
    op.create_index("refunds_by_state", "refunds", ["state", "next_time"])
    op.create_table(
        "sequences",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
