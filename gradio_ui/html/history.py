"""The predictions of a session: a table, and rows for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio_ui.html.grade_scale import rounded_estimate
from gradio_ui.html.labels import (
    decision_badge,
    decision_name,
    grade_text,
    horizon_name,
    version_name,
)
from gradio_ui.html.markup import local_time, table
from gradio_ui.texts import Texts
from student_success.domain.decision import Decision
from student_success.domain.students import ACTUAL, FEATURE_NAMES, PREDICTED


def history_table(texts: Texts, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the predictions as a table."""
    titles = texts.many(
        "history",
        *("number", "when", "reference", "grade", "probability", "verdict", "known", "actual"),
    )
    shown: list[Sequence[str]] = [
        [
            f"#{row['id']}",
            local_time(texts, str(row["timestamp"])),
            str(row["reference"] or "—"),
            rounded_estimate(texts, float(row[PREDICTED])),
            texts.percent(float(row["pass_probability"])),
            decision_badge(texts, row["decision"] == Decision.PASS),
            horizon_name(texts, row["horizon"]),
            "—" if row[ACTUAL] is None else grade_text(texts, float(row[ACTUAL])),
        ]
        for row in rows
    ]
    return table(texts, texts("history.caption"), titles, shown)


def file_titles(texts: Texts) -> list[str]:
    """Return the titles of `file_rows`."""
    names = ("when", "reference", "grade", "probability", "verdict", "known", "version", "actual")
    ids = texts.many("file", "session", "prediction")
    return [*texts.many("history", *names), *ids, *FEATURE_NAMES]


def file_rows(texts: Texts, rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the predictions as rows for a file."""
    return [
        [
            str(row["timestamp"]),
            row["reference"] or "",
            float(row[PREDICTED]),
            float(row["pass_probability"]),
            decision_name(texts, row["decision"] == Decision.PASS),
            horizon_name(texts, row["horizon"]),
            version_name(texts, str(row["model_version"])),
            row[ACTUAL],
            str(row["session_id"]),
            str(row["prediction_id"]),
            *(row["inputs_json"].get(name) for name in FEATURE_NAMES),
        ]
        for row in rows
    ]
