"""The tab that shows how the service and its model are doing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html.figures import figure, measure
from gradio_ui.html.markup import Cell, badge, facts, note, table
from gradio_ui.html.result import horizon_name, version_name
from gradio_ui.tabs.base import House, Room, Updates, told
from gradio_ui.texts import Words
from student_success.domain.students import FEATURES

_SAMPLE = re.compile(
    r"^student_success_(\w+?)(?:\{([^}]*)\})? ([-+0-9.eEnNaAiIfF]+)$", re.MULTILINE
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_MODES = ("none", "G1", "G1+G2")


class MonitoringRoom(Room):
    """Show health, figures and drift."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.health: Any = None
        self.live: Any = None
        self.drift: Any = None
        self.model: Any = None

    def build(self) -> None:
        """Lay out the tab and tie it together."""
        words = self.words
        gr.HTML(f"<p class='lead'>{words('monitor.lead')}</p>")
        self.build_notice()
        with gr.Row(elem_classes=["actions"]):
            refresh = gr.Button(words("history.refresh"), size="sm", elem_id="monitor-refresh")
        self.health = gr.HTML("", elem_id="health")
        self.live = gr.HTML("")
        self.drift = gr.HTML("", elem_id="drift")
        self.model = gr.HTML("")
        gr.HTML(self._links())
        refresh.click(
            self.look, outputs=self.outputs, api_name="monitoring", show_progress="hidden"
        )

    @property
    def outputs(self) -> list[Any]:
        """Every component that a look may change."""
        return [self.notice, self.health, self.live, self.drift, self.model]

    @told
    def look(self, request: gr.Request) -> Updates:
        """Ask the API for everything at once."""
        self.visits.of(request)
        health = self.api.health()
        if isinstance(health, ApiError):
            raise health
        updates: Updates = {self.health: _health(self.words, health)}
        updates[self.model] = _model(self.words, self.api.call("GET", "/model"))
        try:
            updates[self.live] = _live(self.words, self.api.text("/metrics"))
        except ApiError:
            # Often open to the internal network alone.
            updates[self.live] = ""
        updates[self.drift] = ""
        if self.api.offers("GET", "/drift"):
            updates[self.drift] = _drift(self.words, self.api.call("GET", "/drift"))
        return updates

    def _links(self) -> str:
        settings, words = self.settings, self.words
        public = (settings.api_public_url or "").rstrip("/")
        links = [
            (words("monitor.docs"), f"{public}/docs" if public else ""),
            ("Grafana", settings.grafana_url or ""),
            ("MLflow", settings.mlflow_url or ""),
        ]
        shown = [
            f'<li><a href="{escape(url)}" target="_blank" rel="noopener noreferrer">'
            f"{escape(name)}</a></li>"
            for name, url in links
            if url.startswith(("http://", "https://"))
        ]
        if not shown:
            return ""
        name = escape(words("monitor.links"))
        return f'<nav class="links" aria-label="{name}"><ul>{"".join(shown)}</ul></nav>'


def _health(words: Words, health: Mapping[str, Any]) -> str:
    def state(good: Any) -> Cell:
        return badge(words("state.yes" if good else "state.no"), "good" if good else "low")

    status = str(health.get("status"))
    tone = {"ok": "good", "degraded": "watch"}.get(status, "low")
    known = words(f"state.{status}") if words.has(f"state.{status}") else status
    version = health.get("model_version")
    return _titled(words("monitor.health")) + facts(
        [
            (words("monitor.status"), badge(known, tone)),
            (words("monitor.model"), version_name(words, str(version)) if version else "—"),
            (words("monitor.database"), state(health.get("db_ok"))),
            (words("monitor.registry"), state(health.get("registry_ok"))),
            (words("monitor.uptime"), _duration(words, float(health.get("uptime_seconds", 0)))),
        ]
    )


def _live(words: Words, text: str) -> str:
    """Read the few Prometheus figures that mean something to a reader."""
    passed = failed = 0.0
    error: dict[str, float] = {}
    coverage: float | None = None
    for name, labels, value in _SAMPLE.findall(text):
        tags, number = dict(_LABEL.findall(labels)), float(value)
        if name == "predictions_total":
            if tags.get("decision") == "echec":
                failed += number
            else:
                passed += number
        elif name == "live_mae" and number == number:
            error[tags.get("horizon", "")] = number
        elif name == "live_interval_coverage" and number == number:
            coverage = number
    pairs: list[tuple[str, Cell]] = [
        (words("monitor.predictions"), words.number(passed + failed, 0)),
        (words("class.failing"), words.number(failed, 0)),
    ]
    for horizon, value in sorted(error.items()):
        if horizon in _MODES and value > 0:
            name = words("monitor.live_mae", known=horizon_name(words, horizon))
            pairs.append((name, words.number(value, 2)))
    if coverage:
        pairs.append((words("monitor.coverage"), words.percent(coverage)))
    return _titled(words("monitor.live")) + facts(pairs)


def _drift(words: Words, drift: Mapping[str, Any]) -> str:
    """Show every feature and the predictions, those that moved first."""
    labels = {feature.name: words.of(feature.about.label) for feature in FEATURES}
    entries = [(words("drift.predictions"), drift.get("predictions") or {})]
    entries += [(labels.get(name, name), one) for name, one in drift.get("features", {}).items()]
    rows: list[Sequence[Cell]] = [
        [
            name,
            figure(words, entry.get("distance")),
            _p(words, entry.get("p_adjusted")),
            figure(words, entry.get("count"), 0),
            _verdict(words, str(entry.get("verdict"))),
        ]
        for name, entry in sorted(entries, key=lambda pair: pair[1].get("verdict") != "drift")
    ]
    titles = [words(f"drift.{name}") for name in ("feature", "distance", "p", "count", "verdict")]
    return _titled(words("drift.title")) + table(words, words("drift.caption"), titles, rows)


def _p(words: Words, value: Any) -> str:
    small = isinstance(value, int | float) and value < 0.001
    return f"< {words.number(0.001, 3)}" if small else figure(words, value)


def _verdict(words: Words, verdict: str) -> Cell:
    tones = {"drift": "watch", "stable": "good"}
    known = words(f"drift.{verdict}") if words.has(f"drift.{verdict}") else verdict
    return badge(known, tones[verdict]) if verdict in tones else known


def _model(words: Words, model: Mapping[str, Any]) -> str:
    if not model.get("model_loaded"):
        return note("warn", words("error.model_unavailable"))
    rows: list[Sequence[Cell]] = []
    for mode in _MODES:
        coverage = measure(model, mode, "candidate", "coverage")
        rows.append(
            [
                horizon_name(words, mode),
                figure(words, measure(model, mode, "candidate", "mae"), 2),
                figure(words, measure(model, mode, "baseline", "mae"), 2),
                figure(words, measure(model, mode, "candidate", "r2"), 2),
                "—" if coverage is None else words.percent(coverage),
            ]
        )
    dataset = model.get("dataset", {})
    made_of = words(
        "monitor.dataset", name=str(dataset.get("name", "—")), rows=str(dataset.get("rows", "—"))
    )
    titles = [words(f"quality.{n}") for n in ("known", "mae", "baseline", "r2", "coverage")]
    return (
        _titled(words("quality.title"))
        + table(words, words("quality.caption"), titles, rows)
        + f"<p>{escape(made_of)}</p>"
    )


def _titled(title: str) -> str:
    return f"<h2>{escape(title)}</h2>"


def _duration(words: Words, seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return words("monitor.duration", hours=hours, minutes=rest // 60)
