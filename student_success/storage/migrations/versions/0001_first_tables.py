"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create predictions, outcomes, idempotency keys, deployments, alias state and jobs."""
    op.create_table(
        "inference_logs",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("prediction_id", sa.String(32), nullable=False, unique=True),
        sa.Column("session_id", sa.String(128), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("inputs_json", sa.Text, nullable=False),
        sa.Column("reference", sa.String(64)),
        sa.Column("predicted_g3", sa.Float, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("pass_probability", sa.Float, nullable=False),
        sa.Column("interval_low", sa.SmallInteger, nullable=False),
        sa.Column("interval_high", sa.SmallInteger, nullable=False),
        sa.Column("horizon", sa.String(8), nullable=False),
        sa.Column("at_risk", sa.Boolean, nullable=False),
        sa.Column("model_version", sa.String(20), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inference_logs_session", "inference_logs", ["session_id", "id"])
    op.create_table(
        "outcomes",
        sa.Column("prediction_id", sa.String(32), primary_key=True),
        sa.Column("session_id", sa.String(128), nullable=False, index=True),
        sa.Column("actual_g3", sa.SmallInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key_hash", sa.String(64), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(128), nullable=False, index=True),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "deployments",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("from_version", sa.String(20)),
        sa.Column("to_version", sa.String(20), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("evidence_json", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "alias_state",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("version", sa.String(20)),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("finished_us", sa.BigInteger),
        sa.Column("progress_json", sa.Text, nullable=False),
        sa.Column("result_json", sa.Text),
        sa.Column("error", sa.Text),
    )


def downgrade() -> None:
    """Drop them, with all they hold."""
    for table in (
        "jobs",
        "alias_state",
        "deployments",
        "idempotency_keys",
        "outcomes",
        "inference_logs",
    ):
        op.drop_table(table)
