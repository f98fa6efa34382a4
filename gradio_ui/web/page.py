"""The page of one language: header, banner, tabs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html.markup import Tone, element, note, paragraph
from gradio_ui.tabs.base import Context, Tab, Updates, describe_error
from gradio_ui.tabs.class_list import ClassListTab
from gradio_ui.tabs.history import HistoryTab
from gradio_ui.tabs.models import ModelsTab
from gradio_ui.tabs.monitoring import MonitoringTab
from gradio_ui.tabs.pupil import PupilTab
from gradio_ui.texts import LANGUAGES, Texts
from gradio_ui.visitor_state import OtherBrowserError
from student_success.domain.students import PROFILE

POLL_SECONDS = 4.0
"""How often an open page checks whether the API is available."""
_TABS: dict[str, type[Tab]] = {
    "class": ClassListTab,
    "pupil": PupilTab,
    "history": HistoryTab,
    "models": ModelsTab,
    "monitor": MonitoringTab,
}
_FAILURES = ("unreachable", "unavailable", "no_history")

OPEN_SCRIPT = "() => [window.studentSuccess.opened()]"
"""Sends the code of the browser's tab."""
READY_SCRIPT = "() => window.studentSuccess.start()"
"""The page has received the first answer of its server: shows the tab of its address."""


class Page:
    """The interface in one language.

    Attributes
    ----------
    blocks
        The Gradio application.
    """

    def __init__(self, context: Context) -> None:
        self._texts, self._api, self._visits = context.texts, context.api, context.visits
        with gr.Blocks(title=self._texts("page.title"), analytics_enabled=False) as self.blocks:
            self._build(context)
        self.blocks.queue(default_concurrency_limit=16, max_size=500)

    def _build(self, context: Context) -> None:
        texts = self._texts
        other = next(language for language in LANGUAGES if language != texts.language)
        with gr.Row(elem_classes=["top"]):
            motto = f"{texts.choose(PROFILE.title)} · {texts('page.motto')}"
            gr.HTML(element("h1", texts("page.title")) + paragraph(motto))
            switch_label = Texts(other)("page.name")
            switch = gr.Button(switch_label, size="sm", elem_id="language", min_width=110)
        self.banner = gr.HTML("", elem_id="banner")
        self.tabs: dict[str, Tab] = {}
        selections: dict[str, Any] = {}
        with gr.Tabs(elem_id="tabs"):
            for name, tab_class in _TABS.items():
                with gr.Tab(texts(f"tab.{name}"), id=name, elem_id=f"tab-{name}") as tab:
                    self.tabs[name] = tab_class(context)
                selections[name] = tab.select
        gr.HTML(element("footer", texts("page.foot")))

        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        outputs = [output for tab in self.tabs.values() for output in tab.outputs]
        self.opened = gr.JSON(visible=False)
        shown = self.blocks.load(
            self.open,
            inputs=[self.opened],
            outputs=[self.banner, *outputs],
            js=OPEN_SCRIPT,
            **hidden,
        )
        shown.then(None, js=READY_SCRIPT, **hidden)
        for tab in self.tabs.values():
            tab.bind_opening(shown.then)
        notices = [tab.notice for tab in self.tabs.values()]
        gr.Timer(POLL_SECONDS).tick(self.poll, outputs=[self.banner, *notices], **hidden)
        switch.click(
            None, js=f"() => window.location.replace(`../{other}/${{location.hash}}`)", **hidden
        )
        for name, select in selections.items():
            self.tabs[name].bind_selection(select)

    def open(self, request: gr.Request, opened: Any) -> Updates:
        """Open the page: empty, or with the visit that the browser's tab began before."""
        opened = opened if isinstance(opened, dict) else {}
        try:
            visit = self._visits.open(
                request, str(opened.get("code") or ""), known=bool(opened.get("known"))
            )
        except OtherBrowserError as error:
            return {self.banner: describe_error(self._texts, error)}
        state = self._api_state()
        # `poll` compares with this state and removes the banner when the state changes.
        visit.banner = state
        updates: Updates = {self.banner: self._banner(state)}
        for tab in self.tabs.values():
            updates |= tab.restore(request)
        if visit.lost:
            visit.lost, visit.banner = False, "lost"
            updates[self.banner] = note("warn", self._texts("lost.forgotten"))
        return updates

    def poll(self, request: gr.Request) -> Updates:
        """Show whether the API is available; when it is again, remove the errors shown before."""
        try:
            visit = self._visits.of(request)
        except OtherBrowserError:
            return {self.banner: gr.skip()}
        state = self._api_state()
        before = visit.banner
        if before != "lost" or state != "ok":
            visit.banner = state
        if state == before or (before == "lost" and state == "ok"):
            return {self.banner: gr.skip()}
        if before in _FAILURES and state == "ok":
            visit.banner = "back"
            cleared = {tab.notice: "" for tab in self.tabs.values()}
            return {self.banner: note("good", self._texts("banner.back")), **cleared}
        return {self.banner: self._banner(state)}

    def _api_state(self) -> str:
        health = self._api.health()
        if isinstance(health, ApiError):
            return "unreachable"
        if not health["model_loaded"]:
            return "unavailable"
        if not health["db_ok"]:
            return "no_history"
        return "synthetic" if health.get("synthetic_data") else "ok"

    def _banner(self, state: str) -> str:
        if state == "ok":
            return ""
        tone: Tone = "bad" if state in _FAILURES else "info"
        return note("warn" if state == "unavailable" else tone, self._texts(f"banner.{state}"))
