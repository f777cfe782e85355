"""Runs of reports and their rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "report_runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("slot", sa.Text, nullable=False, unique=True),
        sa.Column("first_day", sa.Text, nullable=False),
        sa.Column("last_day", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("begun_time", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("finished_time", sa.BigInteger),
        sa.Column("next_time", sa.BigInteger),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("input_hash", sa.LargeBinary, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.Column("mapping_revision", sa.Text, nullable=False),
        sa.Column("definition", sa.LargeBinary, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("push_state", sa.Text, nullable=False),
        sa.Column("pushed_rows", sa.BigInteger, nullable=False),
        sa.Column("push_attempts", sa.Integer, nullable=False),
        sa.Column("push_time", sa.BigInteger),
    )
    op.create_index("report_runs_by_days", "report_runs", ["report", "first_day", "last_day"])
    op.create_index("report_runs_by_begun", "report_runs", ["begun_time"])
    op.create_index("report_runs_by_state", "report_runs", ["state", "next_time"])
    op.create_index("report_runs_by_push", "report_runs", ["push_state", "push_time"])
    op.create_table(
        "report_pages",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("first_row", sa.BigInteger, primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
