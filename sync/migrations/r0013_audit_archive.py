"""The audit's archive: what is old is packed and kept for years, and the chain goes through it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_SQLITE = (
    """CREATE TRIGGER audit_archive_no_update BEFORE UPDATE ON audit_archive BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
    """CREATE TRIGGER audit_archive_no_delete BEFORE DELETE ON audit_archive
WHEN OLD.last_sequence > coalesce((SELECT sequence FROM audit_anchors WHERE name = 'dropped'), 0) BEGIN
    SELECT RAISE(ABORT, 'the audit is append-only');
END""",
)
_POSTGRESQL = (
    """CREATE FUNCTION audit_archive_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE'
        AND OLD.last_sequence <= coalesce((SELECT sequence FROM audit_anchors WHERE name = 'dropped'), 0) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit is append-only';
END $$""",
    """CREATE TRIGGER audit_archive_append_only BEFORE UPDATE OR DELETE ON audit_archive
FOR EACH ROW EXECUTE FUNCTION audit_archive_append_only()""",
    """CREATE TRIGGER audit_archive_no_truncate BEFORE TRUNCATE ON audit_archive
FOR EACH STATEMENT EXECUTE FUNCTION audit_archive_append_only()""",
)


def upgrade() -> None:
    op.create_table(
        "audit_archive",
        sa.Column(
            "first_sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
        ),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("last_time", sa.BigInteger, nullable=False),
        sa.Column("last_hash", sa.LargeBinary, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_archive_by_last", "audit_archive", ["last_sequence"])
    # Until now what was pruned was gone.
    op.execute(
        "INSERT INTO audit_anchors (name, sequence, hash) "
        "SELECT 'dropped', sequence, hash FROM audit_anchors WHERE name = 'pruned'"
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
