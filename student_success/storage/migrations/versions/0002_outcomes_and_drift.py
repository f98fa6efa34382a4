"""Find predictions by reference, outcomes by age, and keep what is computed in the background."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create two indexes and the table of snapshots."""
    has_reference = sa.text("reference IS NOT NULL")
    op.create_index(
        "ix_inference_logs_reference",
        "inference_logs",
        ["session_id", "reference"],
        sqlite_where=has_reference,
        postgresql_where=has_reference,
    )
    op.create_index("ix_outcomes_created_us", "outcomes", ["created_us"])
    op.create_table(
        "snapshots",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("content_json", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("snapshots")
    op.drop_index("ix_outcomes_created_us", "outcomes")
    op.drop_index("ix_inference_logs_reference", "inference_logs")
