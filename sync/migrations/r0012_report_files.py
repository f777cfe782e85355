"""Whether the files of a scheduled run are written: what a crash left out is written after the start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("report_runs", sa.Column("file_state", sa.Text, nullable=False, server_default="NONE"))
    op.create_index("report_runs_by_file", "report_runs", ["file_state"])
