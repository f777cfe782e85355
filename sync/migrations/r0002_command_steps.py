"""A command may be a step of another one (a saga): ``parent`` is that one's request_id, ``step`` names the step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("commands", sa.Column("parent", sa.Text, nullable=False, server_default=""))
    op.add_column("commands", sa.Column("step", sa.Text, nullable=False, server_default=""))
    op.create_index("commands_by_parent", "commands", ["parent"])
    # The first agents read this number, and nothing else: they say that the store is too new for them.
    op.execute("UPDATE metadata SET value = '2' WHERE name = 'schema_version'")
