"""The tables of the database; migrations in `migrations/` bring an existing one to this state.

Times are integers, microseconds since 1970 in UTC, so that they sort and compare the same way on
SQLite and PostgreSQL.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()
# SQLite gives its 64-bit row id only to a column declared INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")
# SQLite keeps a fraction in a column of whole numbers too, so migration 0005 leaves its columns.
_Grade = Float().with_variant(SmallInteger, "sqlite")

inference_logs = Table(
    "inference_logs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("prediction_id", String(32), nullable=False, unique=True),
    Column("session_id", String(128), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("inputs_json", Text, nullable=False),
    Column("reference", String(64)),
    Column("predicted_grade", Float, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("pass_probability", Float, nullable=False),
    Column("interval_low", _Grade, nullable=False),
    Column("interval_high", _Grade, nullable=False),
    Column("horizon", String(200).with_variant(String(8), "sqlite"), nullable=False),
    Column("at_risk", Boolean, nullable=False),
    Column("model_version", String(20), nullable=False),
    # Rows of before this column were all computed at this level.
    Column("interval_level", Float, nullable=False, server_default=text("0.9")),
    Index("ix_inference_logs_session", "session_id", "id"),
    # A row without a reference is not in it, so that it costs those predictions nothing. So it is
    # on PostgreSQL, by the migration; said here, it would have every start import that dialect.
    Index(
        "ix_inference_logs_reference",
        "session_id",
        "reference",
        sqlite_where=text("reference IS NOT NULL"),
    ),
    # An id is never given twice, not even after the newest row was erased: paging relies on it.
    sqlite_autoincrement=True,
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("prediction_id", String(32), primary_key=True),
    Column("session_id", String(128), nullable=False, index=True),
    Column("actual_grade", _Grade, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
    # The role of who recorded it; None before migration 0006.
    Column("recorded_by", String(16)),
    # JSON list of the grades that others replaced, oldest first; None if there are none.
    Column("replaced_json", Text),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("content_json", Text, nullable=False),
)
"""Reports that one worker computes and all workers read; aggregates only."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key_hash", String(64), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("session_id", String(128), nullable=False, index=True),
    Column("answer", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("created_us", BigInteger, nullable=False),
    Column("action", String(16), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text),
    Column("from_version", String(20)),
    Column("to_version", String(20), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("evidence_json", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    sqlite_autoincrement=True,
)

deployments_head = Table(
    "deployments_head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
)
"""One row with the hash of the newest deployment, so that a removed newest row is detected."""

health_probe = Table(
    "health_probe",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("checked_us", BigInteger, nullable=False),
)
"""One row that the health check writes, to show that the database accepts writes."""

alias_state = Table(
    "alias_state",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", String(20)),
    Column("updated_us", BigInteger, nullable=False),
    Column("moving_to", String(20)),
)
"""Where MLflow's alias pointed when it was last set or accepted, and where the service was about to
move it. An alias that points anywhere else was moved by somebody."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_us", BigInteger, nullable=False, index=True),
    Column("finished_us", BigInteger),
    Column("progress_json", Text, nullable=False),
    Column("result_json", Text),
    Column("error", Text),
)
