"""Give audit head, health probe, moving alias and interval level places of their own."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_HEAD = "last-deployment"
_PROBE = "probe"
_MOVING = " (moving)"

_snapshots = sa.table(
    "snapshots", sa.column("name"), sa.column("created_us"), sa.column("content_json")
)
_alias_state = sa.table(
    "alias_state",
    sa.column("name"),
    sa.column("version"),
    sa.column("moving_to"),
    sa.column("updated_us"),
)
_head = sa.table("deployments_head", sa.column("id"), sa.column("hash"))
_keys = sa.table("idempotency_keys", sa.column("key_hash"))


def upgrade() -> None:
    """Add the tables and columns, and move what was kept elsewhere."""
    # Both databases add a column with a constant default without touching the rows.
    op.add_column(
        "inference_logs",
        sa.Column("interval_level", sa.Float, nullable=False, server_default=sa.text("0.9")),
    )
    op.add_column("alias_state", sa.Column("moving_to", sa.String(20)))
    op.create_table(
        "deployments_head",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "health_probe",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("checked_us", sa.BigInteger, nullable=False),
    )
    connection = op.get_bind()
    content = connection.scalar(
        sa.select(_snapshots.c.content_json).where(_snapshots.c.name == _HEAD)
    )
    if content is not None:
        connection.execute(sa.insert(_head).values(id=1, hash=json.loads(content)["hash"]))
        connection.execute(sa.delete(_snapshots).where(_snapshots.c.name == _HEAD))
    connection.execute(sa.delete(_keys).where(_keys.c.key_hash == _PROBE))
    for row in connection.execute(sa.select(_alias_state)).all():
        if row.name.endswith(_MOVING):
            alias = row.name.removesuffix(_MOVING)
            changed = connection.execute(
                sa.update(_alias_state)
                .where(_alias_state.c.name == alias)
                .values(moving_to=row.version)
            )
            if not changed.rowcount:
                connection.execute(
                    sa.insert(_alias_state).values(
                        name=alias, moving_to=row.version, updated_us=row.updated_us
                    )
                )
            connection.execute(sa.delete(_alias_state).where(_alias_state.c.name == row.name))


def downgrade() -> None:
    """Move everything back."""
    connection = op.get_bind()
    head = connection.scalar(sa.select(_head.c.hash))
    if head is not None:
        connection.execute(
            sa.insert(_snapshots).values(
                name=_HEAD, created_us=0, content_json=json.dumps({"hash": head})
            )
        )
    for row in connection.execute(
        sa.select(_alias_state).where(_alias_state.c.moving_to.is_not(None))
    ).all():
        connection.execute(
            sa.insert(_alias_state).values(
                name=f"{row.name}{_MOVING}", version=row.moving_to, updated_us=row.updated_us
            )
        )
    op.drop_table("health_probe")
    op.drop_table("deployments_head")
    op.drop_column("alias_state", "moving_to")
    op.drop_column("inference_logs", "interval_level")
