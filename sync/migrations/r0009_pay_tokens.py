"""The mobile payment centre's token for an order (payToken): the settlement after a quote must show it again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("settlements", sa.Column("pay_token", sa.Text, nullable=False, server_default=""))
