"""The models tab: versions, evidence, training job, log of deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio_ui.html.labels import dataset_name, metric, number_or_dash, version_name
from gradio_ui.html.markup import (
    Content,
    Html,
    badge,
    element,
    facts,
    heading,
    local_time,
    note,
    progress,
    table,
)
from gradio_ui.texts import Texts
from student_success.domain.students import HORIZONS

_BOTH_GRADES = HORIZONS[2]
"""Versions are compared on the predictions made with both period grades known."""
_BOTH_GRADES_IN_MLFLOW = "G1_G2"
"""The same horizon in MLflow, whose metric names allow no plus sign."""
_MAX_LOG_ROWS = 100


def version_number(version: str | None) -> int | None:
    """Read a version number that was chosen or typed."""
    text = (version or "").strip().lstrip("v")
    return int(text) if text.isdecimal() and 0 < len(text) < 16 else None


def served_model(texts: Texts, model: Mapping[str, Any]) -> str:
    """Describe the served version and its errors in cross-validation."""

    def score(scorer: str, name: str) -> str:
        return number_or_dash(texts, metric(model, _BOTH_GRADES, scorer, name))

    return heading(texts("models.served")) + facts(
        [
            (texts("monitor.model"), version_name(texts, model.get("model_version"))),
            (texts("models.mae"), score("candidate", "mae")),
            (texts("models.mae_baseline"), score("baseline", "mae")),
            (texts("models.r2"), score("candidate", "r2")),
            (texts("models.data"), dataset_name(texts, model.get("dataset"))),
        ]
    )


def versions_loading(texts: Texts) -> str:
    """State that the registry is being read."""
    return heading(texts("models.versions")) + note("info", texts("models.reading"))


def version_table(
    texts: Texts, versions: Sequence[Mapping[str, Any]], model: Mapping[str, Any]
) -> str:
    """Return the registered versions beside the served version and the baseline."""
    title = heading(texts("models.versions"))
    if not versions:
        return title + note("info", texts("models.no_versions"))
    served = number_or_dash(texts, metric(model, _BOTH_GRADES, "candidate", "mae"))
    baseline = number_or_dash(texts, metric(model, _BOTH_GRADES, "baseline", "mae"))
    rows: list[Sequence[Content]] = []
    for version in versions:
        metrics = version.get("metrics") or {}
        created = version.get("created_at")
        rows.append(
            [
                f"v{version['version']}",
                local_time(texts, str(created)) if created else "—",
                str(version.get("best_model") or "—"),
                number_or_dash(texts, metrics.get(f"{_BOTH_GRADES_IN_MLFLOW}/mae")),
                served,
                baseline,
                number_or_dash(texts, metrics.get(f"{_BOTH_GRADES_IN_MLFLOW}/r2")),
                dataset_name(texts, version.get("dataset")),
                badge(texts("models.is_served"), "good") if version.get("served") else "",
            ]
        )
    titles = texts.many(
        "models",
        *("number", "created", "family", "mae", "champion", "mae_baseline", "r2", "data", "state"),
    )
    return title + table(texts, texts("models.versions"), titles, rows)


def version_choices(texts: Texts, versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return label and number of each version that can be promoted."""
    return [
        (texts("model.version", version=version["version"]), str(version["version"]))
        for version in versions
        if not version.get("served")
    ]


def gate_conditions(texts: Texts, version: int, verdict: Mapping[str, Any]) -> str:
    """Return the conditions of the gate with their values; those not met come first."""
    conditions = sorted(verdict["conditions"], key=lambda condition: bool(condition["passed"]))
    passed = bool(verdict["passed"])
    # Fairness has dozens of conditions. Those that are met are folded away.
    folded = [c for c in conditions if c["passed"] and str(c["name"]).startswith("fairness.")]
    shown = [condition for condition in conditions if condition not in folded]
    title = texts("gate.passed" if passed else "gate.failed", version=version)
    html = note("good" if passed else "bad", title)
    html += _condition_table(texts, texts("gate.caption", version=version), shown)
    if folded:
        html += element(
            "details",
            element("summary", texts("gate.fair", count=len(folded))),
            Html(_condition_table(texts, texts("condition.fairness"), folded)),
        ).html
    return html


def _condition_table(texts: Texts, caption: str, conditions: Sequence[Mapping[str, Any]]) -> str:
    rows: list[Sequence[Content]] = [
        [
            badge(texts("gate.yes"), "good") if c["passed"] else badge(texts("gate.no"), "low"),
            _condition_name(texts, str(c["name"])),
            number_or_dash(texts, c.get("value"), 4),
            number_or_dash(texts, c.get("limit"), 4),
            # The API writes details in English only.
            element("span", str(c.get("detail", "")), lang="en"),
        ]
        for c in conditions
    ]
    titles = texts.many("gate", "state", "condition", "value", "limit", "detail")
    return table(texts, caption, titles, rows)


def training_job(texts: Texts, job: Mapping[str, Any]) -> str:
    """Return the progress of a training, or its result."""
    if job["state"] == "failed":
        return note("bad", texts("models.train_failed", why=str(job.get("error") or "")))
    if job["state"] == "done":
        result = job["result"]
        text = texts(
            "models.train_done",
            version=result["version"],
            family=result["best_model"],
            mae=number_or_dash(texts, result.get("test_mae")),
            r2=number_or_dash(texts, result.get("test_r2")),
        )
        return note("good", text)
    step = job.get("progress") or {}
    doing = str(step.get("doing", ""))
    key = f"step.{doing.replace(' ', '_').replace('-', '_')}"
    text = f"{texts('models.training_now')} {texts.get(key, doing)}".strip()
    share = step.get("share")
    return progress(text, round(100 * share) if isinstance(share, int | float) else None)


def deployment_log(texts: Texts, deployments: Sequence[Mapping[str, Any]]) -> str:
    """Return who changed the served version, when and why."""
    title = heading(texts("log.title"))
    if not deployments:
        return title + note("info", texts("log.empty"))
    rows: list[Sequence[Content]] = [
        [
            local_time(texts, str(deployment["at"])),
            texts(f"log.{deployment['action']}"),
            str(deployment["actor"]),
            version_name(texts, str(deployment.get("from_version") or "seed")),
            version_name(texts, str(deployment["to_version"])),
            str(deployment.get("reason") or "—"),
        ]
        for deployment in deployments[:_MAX_LOG_ROWS]
    ]
    titles = texts.many("log", "when", "what", "who", "from", "to", "why")
    return title + table(texts, texts("log.caption"), titles, rows)


def _condition_name(texts: Texts, name: str) -> str:
    """Name a condition; the part after its first dot is shown as the API writes it."""
    first, _, rest = name.partition(".")
    known = texts.get(f"condition.{first}", first)
    return f"{known} ({rest})" if rest else known
