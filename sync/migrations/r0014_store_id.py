"""``store_id``: what a relay knows the store by; a site may have one."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    metadata = sa.table("metadata", sa.column("name"), sa.column("value"))
    op.execute(metadata.insert().values(name="store_id", value=uuid.uuid4().hex))
