"""The monitoring tab: health, live figures, drift, quality of the served model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradio_ui.html.labels import horizon_name, metric, number_or_dash, simple_rule, version_name
from gradio_ui.html.markup import (
    Html,
    badge,
    element,
    facts,
    items,
    note,
    paragraph,
    table,
)
from gradio_ui.html.models import quality_sentences
from gradio_ui.texts import Texts
from student_success.domain.decision import Decision
from student_success.domain.students import FEATURES, Horizon

_SAMPLE = re.compile(
    r"^student_success_(\w+?)(?:\{([^}]*)\})? ([-+0-9.eEnNaAiIfF]+)$", re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
ENOUGH_OUTCOMES = 30
"""Grades obtained from which on their mean error and their coverage are shown."""
_LOWEST_COVERAGE = 0.8
"""Of intervals that hold 90 % of the grades; below this, chance explains it no more."""
_MOST_NAMES = 4
_LABELS = {feature.name: feature.about.label for feature in FEATURES}


@dataclass(slots=True)
class LiveFigures:
    """The few figures of ``GET /metrics`` (Prometheus text) that matter to a reader.

    Attributes
    ----------
    errors, outcomes
        Mean error against grades obtained, and their number, by horizon.
    coverage
        Share of the grades obtained that lie within their interval; None while there are none.
    """

    predictions: int = 0
    failing: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    coverage: float | None = None

    @classmethod
    def read(cls, metrics: str) -> LiveFigures:
        """Read the answer of ``GET /metrics``."""
        figures = cls()
        for name, labels, written in _SAMPLE.findall(metrics):
            tags, value = dict(_LABEL.findall(labels)), float(written)
            if math.isnan(value):
                continue
            horizon = tags.get("horizon", "")
            if name == "predictions_total":
                figures.predictions += int(value)
                figures.failing += 0 if tags.get("decision") == Decision.PASS else int(value)
            elif name == "live_mae":
                figures.errors[horizon] = value
            elif name == "live_outcomes":
                figures.outcomes[horizon] = int(value)
            elif name == "live_interval_coverage":
                figures.coverage = value
        return figures

    @property
    def graded(self) -> int:
        """Number of grades obtained."""
        return sum(self.outcomes.values())


def conclusion(
    texts: Texts,
    health: Mapping[str, Any],
    live: LiveFigures | None,
    drift: Mapping[str, Any] | None,
) -> str:
    """Say in one sentence whether all is well, and if not, what to do."""
    if not health["model_loaded"]:
        return note("warn", texts("banner.unavailable"))
    status = str(health["status"])
    if status in ("degraded", "unavailable"):
        return note("bad", texts(f"conclusion.{status}"))
    if live and live.graded >= ENOUGH_OUTCOMES and (live.coverage or 0) < _LOWEST_COVERAGE:
        share = texts.percent(live.coverage or 0)
        return note("bad", texts("conclusion.wide", share=share, count=live.graded))
    if drift is None:
        return ""
    verdict = str(drift["verdict"])
    entries = [*drift["features"].items(), ("", drift["predictions"])]
    changed = [name for name, entry in entries if entry["verdict"] == "drift"]
    names = [
        texts.choose(_LABELS[name]) if name else texts("drift.predictions")
        for name in changed[:_MOST_NAMES]
    ]
    if len(changed) > _MOST_NAMES:
        names.append("…")
    needed = drift["minimum_count"]
    text = texts(f"conclusion.{verdict}", names=", ".join(names), needed=needed)
    return note("warn" if verdict == "drift" else "good", text)


def _folded(title: str, *content: str) -> str:
    return element("details", element("summary", element("h2", title)), *content, css="fold")


def health(texts: Texts, answer: Mapping[str, Any]) -> str:
    """Describe the answer of ``GET /health``."""

    def works(value: Any) -> Html:
        return badge(texts("state.ok"), "good") if value else badge(texts("state.down"), "low")

    status = str(answer["status"])
    tone = {"ok": "good", "degraded": "watch"}.get(status, "low")
    hours, rest = divmod(int(answer["uptime_seconds"]), 3600)
    figures = facts(
        [
            (texts("monitor.status"), badge(texts.get(f"state.{status}", status), tone)),
            (texts("monitor.model"), version_name(texts, answer.get("model_version"))),
            (texts("monitor.database"), works(answer["db_ok"])),
            (texts("monitor.registry"), works(answer["registry_ok"])),
            (
                texts("monitor.uptime"),
                texts("monitor.duration", hours=hours, minutes=rest // 60),
            ),
        ]
    )
    return _folded(texts("monitor.health"), figures)


def live_figures(texts: Texts, live: LiveFigures) -> str:
    """Show the figures since the start; a mean of a few grades would say nothing."""
    pairs: list[tuple[str, str]] = [
        (texts("monitor.predictions"), texts.number(live.predictions, 0)),
        (texts("class.failing"), texts.number(live.failing, 0)),
    ]
    for horizon in Horizon:
        count = live.outcomes.get(horizon, 0)
        if count >= ENOUGH_OUTCOMES and horizon in live.errors:
            known = horizon_name(texts, horizon)
            name = texts("monitor.live_mae", known=known, count=texts.number(count, 0))
            pairs.append((name, texts.number(live.errors[horizon], 2)))
    few = ""
    if live.graded >= ENOUGH_OUTCOMES and live.coverage is not None:
        count_text = texts.number(live.graded, 0)
        pairs.append((texts("monitor.coverage", count=count_text), texts.percent(live.coverage)))
    elif live.graded:
        few = paragraph(texts("monitor.too_few", count=live.graded, needed=ENOUGH_OUTCOMES))
    return _folded(texts("monitor.live"), facts(pairs), few)


def drift(texts: Texts, answer: Mapping[str, Any]) -> str:
    """Show the drift of the predictions and of each feature; features without drift are folded."""
    if answer["verdict"] == "insufficient_data":
        # Every row would say so.
        return ""
    entries = [(texts("drift.predictions"), answer["predictions"])]
    entries += [(texts.choose(_LABELS[n]), entry) for n, entry in answer["features"].items()]
    rows: dict[bool, list[Sequence[str]]] = {True: [], False: []}
    for name, entry in entries:
        row: Sequence[str] = [
            name,
            number_or_dash(texts, entry.get("distance")),
            _p_value(texts, entry.get("p_adjusted")),
            number_or_dash(texts, entry.get("count"), 0),
            _verdict(texts, str(entry["verdict"])),
        ]
        rows[entry["verdict"] == "drift"].append(row)
    titles = texts.many("drift", "feature", "distance", "p", "count", "verdict")
    changed, other = (table(texts, texts("drift.caption"), titles, rows[key]) for key in rows)
    if not rows[True]:
        return _folded(texts("drift.title"), other)
    unchanged = element(
        "details", element("summary", texts("drift.others", count=len(rows[False]))), other
    )
    return _folded(texts("drift.title"), changed, unchanged)


def _p_value(texts: Texts, value: Any) -> str:
    is_small = isinstance(value, int | float) and value < 0.001
    return f"< {texts.number(0.001, 3)}" if is_small else number_or_dash(texts, value)


def _verdict(texts: Texts, verdict: str) -> str:
    name = texts.get(f"drift.{verdict}", verdict)
    tone = {"drift": "watch", "stable": "good"}.get(verdict)
    return badge(name, tone) if tone else name


def model_quality(texts: Texts, model: Mapping[str, Any]) -> str:
    """Show the errors of the served model in cross-validation."""
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
    titles = texts.many("quality", "known", "mae", "r2", "coverage")
    titles.insert(2, simple_rule(texts))
    caption = texts("quality.caption")
    sentences = items(quality_sentences(texts, model))
    figures = table(texts, caption, titles, rows)
    return _folded(texts("quality.title"), sentences, figures, paragraph(trained_on))


def links(texts: Texts, urls: Mapping[str, str]) -> str:
    """Return links to other pages, by name; addresses that are not HTTP are left out."""
    shown = [
        element("a", name, href=url, target="_blank", rel="noopener noreferrer")
        for name, url in urls.items()
        if url.startswith(("http://", "https://"))
    ]
    if not shown:
        return ""
    return element("nav", items(shown), css="links", aria_label=texts("monitor.links"))
