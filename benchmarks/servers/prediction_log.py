"""Log a prediction the simple way: one SQLAlchemy insert and one commit a request."""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text, create_engine

metadata = MetaData()
logs = Table(
    "inference_logs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("inputs_json", Text),
    Column("predicted_g3", Float),
    Column("decision", String(16)),
)
engine = create_engine(f"sqlite:///{os.environ['BENCH_FOLDER']}/peer-{os.getpid()}.db")
metadata.create_all(engine)


def log_prediction(inputs: dict[str, Any], grade: float) -> None:
    """Commit one prediction."""
    decision = "reussite" if grade >= 10 else "echec"
    with engine.begin() as connection:
        connection.execute(
            logs.insert().values(
                inputs_json=json.dumps(inputs), predicted_g3=grade, decision=decision
            )
        )
