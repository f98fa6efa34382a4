"""The monitoring tab: health, live figures, drift, quality of the served model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gradio_ui.html.labels import horizon_name, metric, number_or_dash, version_name
from gradio_ui.html.markup import (
    Content,
    Html,
    badge,
    element,
    facts,
    heading,
    items,
    note,
    paragraph,
    table,
)
from gradio_ui.texts import Texts
from student_success.domain.students import FEATURES, Horizon

_SAMPLE = re.compile(
    r"^student_success_(\w+?)(?:\{([^}]*)\})? ([-+0-9.eEnNaAiIfF]+)$", re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_LABELS = {feature.name: feature.about.label for feature in FEATURES}


def health(texts: Texts, answer: Mapping[str, Any]) -> str:
    """Describe the answer of ``GET /health``."""

    def yes_or_no(value: Any) -> Html:
        return badge(texts("state.yes"), "good") if value else badge(texts("state.no"), "low")

    status = str(answer["status"])
    tone = {"ok": "good", "degraded": "watch"}.get(status, "low")
    hours, rest = divmod(int(answer["uptime_seconds"]), 3600)
    return heading(texts("monitor.health")) + facts(
        [
            (texts("monitor.status"), badge(texts.get(f"state.{status}", status), tone)),
            (texts("monitor.model"), version_name(texts, answer.get("model_version"))),
            (texts("monitor.database"), yes_or_no(answer["db_ok"])),
            (texts("monitor.registry"), yes_or_no(answer["registry_ok"])),
            (
                texts("monitor.uptime"),
                texts("monitor.duration", hours=hours, minutes=rest // 60),
            ),
        ]
    )


def live_figures(texts: Texts, metrics: str) -> str:
    """Show the few figures of ``GET /metrics`` (Prometheus text) that matter to a reader."""
    total = failing = 0.0
    errors: dict[str, float] = {}
    coverage = 0.0
    for name, labels, written in _SAMPLE.findall(metrics):
        tags, value = dict(_LABEL.findall(labels)), float(written)
        if math.isnan(value):
            continue
        if name == "predictions_total":
            total += value
            failing += value if tags.get("decision") == "echec" else 0
        elif name == "live_mae":
            errors[tags.get("horizon", "")] = value
        elif name == "live_interval_coverage":
            coverage = value
    pairs: list[tuple[str, Content]] = [
        (texts("monitor.predictions"), texts.number(total, 0)),
        (texts("class.failing"), texts.number(failing, 0)),
    ]
    for horizon in Horizon:
        if errors.get(horizon, 0) > 0:
            name = texts("monitor.live_mae", known=horizon_name(texts, horizon))
            pairs.append((name, texts.number(errors[horizon], 2)))
    if coverage:
        pairs.append((texts("monitor.coverage"), texts.percent(coverage)))
    return heading(texts("monitor.live")) + facts(pairs)


def drift(texts: Texts, answer: Mapping[str, Any]) -> str:
    """Show the drift of the predictions and of each feature; what has drifted comes first."""
    entries = [(texts("drift.predictions"), answer["predictions"])]
    entries += [(texts.choose(_LABELS[n]), entry) for n, entry in answer["features"].items()]
    rows: list[Sequence[Content]] = [
        [
            name,
            number_or_dash(texts, entry.get("distance")),
            _p_value(texts, entry.get("p_adjusted")),
            number_or_dash(texts, entry.get("count"), 0),
            _verdict(texts, str(entry["verdict"])),
        ]
        for name, entry in sorted(entries, key=lambda pair: pair[1]["verdict"] != "drift")
    ]
    titles = texts.many("drift", "feature", "distance", "p", "count", "verdict")
    return heading(texts("drift.title")) + table(texts, texts("drift.caption"), titles, rows)


def _p_value(texts: Texts, value: Any) -> str:
    is_small = isinstance(value, int | float) and value < 0.001
    return f"< {texts.number(0.001, 3)}" if is_small else number_or_dash(texts, value)


def _verdict(texts: Texts, verdict: str) -> Content:
    name = texts.get(f"drift.{verdict}", verdict)
    tone = {"drift": "watch", "stable": "good"}.get(verdict)
    return badge(name, tone) if tone else name


def model_quality(texts: Texts, model: Mapping[str, Any]) -> str:
    """Show the errors of the served model in cross-validation."""
    if not model.get("model_loaded"):
        return note("warn", texts("error.model_unavailable"))
    rows = []
    for horizon in Horizon:
        coverage = metric(model, horizon, "candidate", "coverage")
        rows.append(
            [
                horizon_name(texts, horizon),
                number_or_dash(texts, metric(model, horizon, "candidate", "mae"), 2),
                number_or_dash(texts, metric(model, horizon, "baseline", "mae"), 2),
                number_or_dash(texts, metric(model, horizon, "candidate", "r2"), 2),
                "—" if coverage is None else texts.percent(coverage),
            ]
        )
    dataset = model.get("dataset") or {}
    trained_on = texts(
        "monitor.dataset", name=dataset.get("name", "—"), rows=dataset.get("rows", "—")
    )
    titles = texts.many("quality", "known", "mae", "baseline", "r2", "coverage")
    caption = texts("quality.caption")
    return (
        heading(texts("quality.title"))
        + table(texts, caption, titles, rows)
        + paragraph(trained_on)
    )


def links(texts: Texts, urls: Mapping[str, str]) -> str:
    """Return links to other pages, by name; addresses that are not HTTP are left out."""
    shown = [
        element("a", name, href=url, target="_blank", rel="noopener noreferrer")
        for name, url in urls.items()
        if url.startswith(("http://", "https://"))
    ]
    if not shown:
        return ""
    return element("nav", items(shown), css="links", aria_label=texts("monitor.links")).html
