"""Keep the grades that an administrator's outcome replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column. It is empty for outcomes that replaced none."""
    op.add_column("outcomes", sa.Column("replaced_json", sa.Text, nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("outcomes", "replaced_json")
