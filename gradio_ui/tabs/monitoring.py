"""The tab that shows the state of the service and of its model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html import monitoring as html
from gradio_ui.tabs.base import Tab, Updates, report_errors, small_button


class MonitoringTab(Tab):
    """Show health, live figures, drift and quality."""

    def build(self) -> None:
        """Create the components and bind their events."""
        self.add_lead("monitor.lead")
        self.add_notice()
        with gr.Row(elem_classes=["actions"]):
            refresh = small_button(self.texts("history.refresh"), "monitor-refresh")
        self.conclusion = gr.HTML("", elem_id="conclusion")
        self.health = gr.HTML("", elem_id="health")
        self.live = gr.HTML("")
        self.drift = gr.HTML("", elem_id="drift")
        self.quality = gr.HTML("", elem_id="quality")
        settings = self.settings
        public_url = (settings.api_public_url or "").rstrip("/")
        urls = {
            self.texts("monitor.docs"): f"{public_url}/docs",
            "Grafana": settings.grafana_url or "",
            "MLflow": settings.mlflow_url or "",
        }
        gr.HTML(html.links(self.texts, urls))
        shown = [self.conclusion, self.health, self.live, self.drift, self.quality]
        self.outputs = [self.notice, *shown]
        self.bind(refresh.click, self.refresh, name="monitoring")

    def bind_selection(self, event: Any) -> None:
        """Read everything again when the reader turns to this tab."""
        self.bind(event, self.refresh)

    @report_errors
    def refresh(self, request: gr.Request) -> Updates:
        """Ask the API for everything."""
        self.visits.of(request)
        texts, health = self.texts, self.api.health()
        if isinstance(health, ApiError):
            raise health
        try:
            live = html.LiveFigures.read(self.api.text("/metrics"))
        except ApiError:
            # Behind a proxy this route is often closed to the interface.
            live = None
        drift = self.api.call("GET", "/drift") if health["model_loaded"] else None
        model = self.api.call("GET", "/model")
        return {
            self.conclusion: html.conclusion(texts, health, live, drift),
            self.health: html.health(texts, health),
            self.live: html.live_figures(texts, live) if live else "",
            self.drift: html.drift(texts, drift) if drift else "",
            self.quality: html.model_quality(texts, model) if drift else "",
        }
