"""The models tab: versions, evidence, training job, log of deployments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gradio_ui.html.labels import (
    HAS_LAST_GRADE,
    dataset_name,
    group_name,
    horizon_name,
    metric,
    number_or_dash,
    simple_rule,
    version_name,
)
from gradio_ui.html.markup import (
    Html,
    badge,
    element,
    facts,
    heading,
    items,
    local_time,
    note,
    progress,
    table,
)
from gradio_ui.html.model_charts import model_charts
from gradio_ui.texts import Texts
from student_success.core.configuration.settings import Settings
from student_success.domain.students import HORIZONS, PROFILE

_ALL_KNOWN = HORIZONS[-1]
"""Versions are compared on the predictions made with every period grade known."""
_ALL_KNOWN_IN_MLFLOW = _ALL_KNOWN.replace("+", "_")
"""The same horizon in MLflow, whose metric names allow no plus sign."""
_MAX_LOG_ROWS = 100
_SAME_WORDS = dict.fromkeys(("not_below_champion", "file_pupils"), "not_below_baseline")
"""Conditions of the gate that are explained like another one."""
_SMALLEST_FORECAST_SHARE = 0.05
"""Before this share of a training is done, a forecast of its end would be a guess."""


def version_number(version: str | None) -> int | None:
    """Read a version number that was chosen or typed."""
    text = (version or "").strip().lstrip("v")
    return int(text) if text.isdecimal() and 0 < len(text) < 16 else None


def served_model(texts: Texts, model: Mapping[str, Any]) -> str:
    """Describe the served version and its errors in cross-validation, in sentences."""
    title = heading(texts("models.served"))
    if not model.get("model_loaded"):
        school = texts.choose(PROFILE.title)
        return title + note("info", texts("models.none_served", school=school))
    dataset = model.get("dataset") or {}
    rows = dataset.get("rows")
    figures = facts(
        [
            (texts("monitor.model"), version_name(texts, model.get("model_version"))),
            (texts("models.data"), dataset_name(texts, dataset)),
            (texts("class.count"), texts.number(rows, 0) if isinstance(rows, int) else "—"),
        ]
    )
    sentences = items(quality_sentences(texts, model))
    return title + figures + sentences + model_charts(texts, model)


def quality_sentences(texts: Texts, model: Mapping[str, Any]) -> list[str]:
    """Say what each figure of ``GET /model`` means, with every period grade known."""

    def score(scorer: str, name: str) -> float | None:
        return metric(model, _ALL_KNOWN, scorer, name)

    mae, baseline = score("candidate", "mae"), score("baseline", "mae")
    r2, coverage = score("candidate", "r2"), score("candidate", "coverage")
    sentences = []
    if mae is not None and baseline is not None:
        values = {"mae": texts.number(mae, 2), "baseline": texts.number(baseline, 2)}
        sentences.append(texts("models.errs" if HAS_LAST_GRADE else "models.errs_median", **values))
    if r2 is not None:
        sentences.append(texts("models.explains", share=texts.percent(max(r2, 0.0))))
    if coverage is not None:
        sentences.append(texts("models.covers", share=texts.percent(coverage)))
    return sentences


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
    served = number_or_dash(texts, metric(model, _ALL_KNOWN, "candidate", "mae"), 2)
    baseline = number_or_dash(texts, metric(model, _ALL_KNOWN, "baseline", "mae"), 2)
    rows: list[Sequence[str]] = []
    for version in versions:
        metrics = version.get("metrics") or {}
        created = version.get("created_at")
        rows.append(
            [
                f"v{version['version']}",
                local_time(texts, str(created)) if created else "—",
                family_name(texts, str(version.get("best_model") or "—")),
                number_or_dash(texts, metrics.get(f"{_ALL_KNOWN_IN_MLFLOW}/mae"), 2),
                served,
                baseline,
                dataset_name(texts, version.get("dataset")),
                badge(texts("models.is_served"), "good") if version.get("served") else "",
            ]
        )
    titles = texts.many(
        "models",
        *("number", "created", "family", "mae", "champion", "data", "state"),
    )
    titles.insert(5, simple_rule(texts))
    return title + table(texts, texts("models.versions"), titles, rows)


def family_name(texts: Texts, family: str) -> str:
    """Name a family of models."""
    return texts.get(f"family.{family}", family)


def family_choices(texts: Texts) -> list[tuple[str, str]]:
    """Return name and code of each family that a training tries; the empty code means all."""
    names = [(texts(key), key.removeprefix("family.")) for key in texts.keys("family")]
    return [(texts("models.any_family"), ""), *names]


def training_data(texts: Texts, settings: Settings) -> str:
    """Say which data a training will use, by the settings that the interface shares with it."""
    final = settings.data_dir / "final.csv"
    if settings.data_path is not None:
        return texts("models.will_use", name=settings.data_path.name)
    if settings.profile_path is not None:
        return texts("models.no_data")
    return texts("models.will_use", name=final.name) if final.is_file() else texts("models.made_up")


def synthetic_warning(texts: Texts, versions: Sequence[Mapping[str, Any]], number: int) -> str:
    """Warn of a version that was trained on made-up data."""
    is_synthetic = any(
        str(version["version"]) == str(number) and (version.get("dataset") or {}).get("synthetic")
        for version in versions
    )
    return note("warn", texts("gate.synthetic", version=number)) if is_synthetic else ""


def version_choices(texts: Texts, versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return label and number of each version that can be promoted."""
    return [
        (texts("model.version", version=version["version"]), str(version["version"]))
        for version in versions
        if not version.get("served")
    ]


def gate_conditions(texts: Texts, version: int, verdict: Mapping[str, Any]) -> str:
    """Return the conditions of the gate in words; those not met come first, then what to do."""
    conditions = sorted(verdict["conditions"], key=lambda condition: bool(condition["passed"]))
    passed = bool(verdict["passed"])
    # Fairness has dozens of conditions. Those that are met are folded away.
    folded = [c for c in conditions if c["passed"] and str(c["name"]).startswith("fairness.")]
    shown = [condition for condition in conditions if condition not in folded]
    title = texts("gate.passed" if passed else "gate.failed", version=version)
    html: str = note("good" if passed else "bad", title)
    failed = [str(c["name"]).partition(".")[0] for c in conditions if not c["passed"]]
    if failed:
        advice = [texts.get(f"advice.{name}", texts("advice.other")) for name in failed]
        html += heading(texts("gate.next")) + items(dict.fromkeys(advice))
    html += _condition_table(texts, texts("gate.caption", version=version), shown)
    if folded:
        html += element(
            "details",
            element("summary", texts("gate.fair", count=len(folded))),
            _condition_table(texts, texts("condition.fairness"), folded),
        )
    return html


def _condition_table(texts: Texts, caption: str, conditions: Sequence[Mapping[str, Any]]) -> Html:
    rows: list[Sequence[str]] = [
        [
            badge(texts("gate.yes"), "good") if c["passed"] else badge(texts("gate.no"), "low"),
            _condition_name(texts, str(c["name"])),
            _condition_detail(texts, c),
        ]
        for c in conditions
    ]
    return table(texts, caption, texts.many("gate", "state", "condition", "detail"), rows)


def _condition_detail(texts: Texts, condition: Mapping[str, Any]) -> str:
    """Explain a condition with its value and limit; the API's English where we know no better."""
    first = str(condition["name"]).partition(".")[0]
    value, limit = (number_or_dash(texts, condition.get(name), 4) for name in ("value", "limit"))
    missing = "" if "—" not in (value, limit) else "_free" if limit == "—" else "_none"
    decided = "_yes" if condition["passed"] else "_no"
    detail = str(condition.get("detail", ""))
    named = f"why.{_SAME_WORDS.get(first, first)}"
    for key in (f"{named}{decided}{missing}", f"{named}{missing}"):
        if texts.has(key):
            return texts(key, value=value, limit=limit, what=detail.partition(": ")[2])
    return element("span", detail, lang="en")


def training_job(texts: Texts, job: Mapping[str, Any]) -> str:
    """Return the progress of a training, or its result."""
    if job["state"] == "failed":
        code, detail = (str(job.get(name) or "") for name in ("error_code", "error"))
        why = texts.get(f"failed.{code}", texts("failed.other"))
        folded = element(
            "details",
            element("summary", texts("failed.detail")),
            element("p", detail, lang="en"),
            css="detail",
        )
        return note("bad", texts("models.train_failed", why=why)) + (folded if detail else "")
    if job["state"] == "done":
        result = job["result"]
        text = texts(
            "models.train_done",
            version=result["version"],
            family=family_name(texts, str(result["best_model"])),
            mae=number_or_dash(texts, result.get("test_mae"), 2),
        )
        return note("good", text)
    step = job.get("progress") or {}
    doing = str(step.get("doing", ""))
    key = f"step.{doing.replace(' ', '_').replace('-', '_')}"
    share = step.get("share")
    done = float(share) if isinstance(share, int | float) else None
    parts = [texts("models.training_now"), texts.get(key, doing), _time_left(texts, job, done)]
    return progress(" ".join(filter(None, parts)), None if done is None else round(100 * done))


def _time_left(texts: Texts, job: Mapping[str, Any], done: float | None) -> str:
    """Say how long a training will still take if it goes on as fast as until now."""
    if done is None or done < _SMALLEST_FORECAST_SHARE or "created_at" not in job:
        return ""
    started = datetime.fromisoformat(str(job["created_at"]))
    seconds = (datetime.now(UTC) - started).total_seconds() * (1 - done) / done
    return texts.count("models.minutes_left", math.ceil(max(seconds, 1) / 60))


def deployment_log(texts: Texts, deployments: Sequence[Mapping[str, Any]]) -> str:
    """Return who changed the served version, when and why."""
    title = heading(texts("log.title"))
    if not deployments:
        return title + note("info", texts("log.empty"))
    rows: list[Sequence[str]] = [
        [
            local_time(texts, str(deployment["at"])),
            texts(f"log.{deployment['action']}"),
            str(deployment["actor"]),
            version_name(texts, str(before))
            if (before := deployment.get("from_version"))
            else texts("log.first"),
            version_name(texts, str(deployment["to_version"])),
            str(deployment.get("reason") or "—"),
        ]
        for deployment in deployments[:_MAX_LOG_ROWS]
    ]
    titles = texts.many("log", "when", "what", "who", "from", "to", "why")
    return title + table(texts, texts("log.caption"), titles, rows)


def _condition_name(texts: Texts, name: str) -> str:
    """Name a condition; the part after its first dot says of whom and when, such as a group."""
    first, _, rest = name.partition(".")
    known = texts.get(f"condition.{first}", first)
    if first == "fairness" and rest.count(".") >= 2 and "=" in rest:
        who, measure, horizon = rest.rsplit(".", 2)
        attribute, _, group = who.partition("=")
        what = texts.get(f"measure.{measure}", measure)
        rest = f"{group_name(texts, attribute, group)}, {what}, {horizon_name(texts, horizon)}"
    return f"{known} ({horizon_name(texts, rest)})" if rest else known
