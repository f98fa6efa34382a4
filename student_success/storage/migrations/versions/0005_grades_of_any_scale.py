"""Name the grades independently of the profile, and let them be fractions."""

from alembic import op

revision = "0005"
down_revision = "0004"

_RENAMED = (
    ("inference_logs", "predicted_g3", "predicted_grade"),
    ("outcomes", "actual_g3", "actual_grade"),
)


def upgrade() -> None:
    """Rename two columns, and widen the columns of intervals, outcomes and horizons."""
    for table, old, new in _RENAMED:
        op.alter_column(table, old, new_column_name=new)
    _change_types("DOUBLE PRECISION", 200)


def downgrade() -> None:
    """Change everything back; fractions of a grade are rounded."""
    _change_types("SMALLINT", 8)
    for table, old, new in _RENAMED:
        op.alter_column(table, new, new_column_name=old)


def _change_types(grade: str, horizon_length: int) -> None:
    # SQLite keeps a fraction in a column of whole numbers, and a text of any length.
    if op.get_bind().dialect.name == "sqlite":
        return
    # All columns of a table in one statement: PostgreSQL writes its rows once.
    op.execute(
        f"ALTER TABLE inference_logs ALTER COLUMN interval_low TYPE {grade}, "
        f"ALTER COLUMN interval_high TYPE {grade}, "
        f"ALTER COLUMN horizon TYPE VARCHAR({horizon_length})"
    )
    op.execute(f"ALTER TABLE outcomes ALTER COLUMN actual_grade TYPE {grade}")
