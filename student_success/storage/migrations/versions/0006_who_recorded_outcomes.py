"""Keep the role that recorded an outcome; trainings use what an administrator recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column. It is empty for the outcomes that were recorded before."""
    op.add_column("outcomes", sa.Column("recorded_by", sa.String(16), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("outcomes", "recorded_by")
