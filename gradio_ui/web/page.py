"""The whole page in one language: header, banner, tabs."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html.markup import note
from gradio_ui.tabs.base import House, Room, Updates
from gradio_ui.tabs.class_list import ClassRoom
from gradio_ui.tabs.history import HistoryRoom
from gradio_ui.tabs.models import ModelsRoom
from gradio_ui.tabs.monitoring import MonitoringRoom
from gradio_ui.tabs.pupil import PupilRoom
from gradio_ui.texts import LANGUAGES, Words
from gradio_ui.visitor_state import StrangerError

LOOK_SECONDS = 4.0
"""How often an open page looks whether the API is there."""

AWAKE = "() => { document.documentElement.dataset.awake = 'yes'; }"
"""Marks the page as ready for a reader: it has heard from its server."""


class Page:
    """One language's interface.

    Attributes
    ----------
    blocks
        What Gradio serves.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self.words = house.words
        self.pupil = PupilRoom(house)
        self.classes = ClassRoom(house)
        self.history = HistoryRoom(house)
        self.models = ModelsRoom(house)
        self.monitoring = MonitoringRoom(house)
        self.rooms: dict[str, Room] = {
            "pupil": self.pupil,
            "class": self.classes,
            "history": self.history,
            "models": self.models,
            "monitor": self.monitoring,
        }
        self.banner: Any = None
        self.tabs: Any = None
        self.blocks = self._build()

    def arrive(self, request: gr.Request) -> Updates:
        """Open the page: as new, or with what was begun in the other language."""
        house = self._house
        try:
            visit = house.visits.take_over(request)
            state = self._state()
            # Remembered, so that `look` can tell that what is said here is over.
            house.visits.of(request).banner = state
            updates: Updates = {self.banner: self._banner(state)}
            if visit is not None:
                for room in self.rooms.values():
                    updates |= room.arrive(request)
                updates[self.tabs] = gr.Tabs(selected=visit.tab)
        except StrangerError:
            return {self.banner: note("bad", self.words("error.stranger"))}
        return updates

    def look(self, request: gr.Request) -> Updates:
        """Say whether the API is there; once it is back, take back what was said before."""
        try:
            visit = self._house.visits.of(request)
        except StrangerError:
            return {self.banner: gr.skip()}
        state = self._state()
        before, visit.banner = visit.banner, state
        if state == before:
            return {self.banner: gr.skip()}
        updates: Updates = {self.banner: self._banner(state)}
        if before in ("away", "unavailable", "no_history") and state == "ok":
            updates[self.banner] = note("good", self.words("banner.back"))
            visit.banner = "back"
            updates |= {room.notice: "" for room in self.rooms.values()}
        return updates

    def leave(self, request: gr.Request, *form: Any) -> None:
        """Hand this visit over to the page in the other language."""
        self.pupil.leave(request, *form)
        self._house.visits.hand_over(request)

    def _state(self) -> str:
        health = self._house.api.health()
        if isinstance(health, ApiError):
            return "away"
        if not health.get("model_loaded"):
            return "unavailable"
        if not health.get("db_ok"):
            return "no_history"
        return "synthetic" if health.get("synthetic_data") else "ok"

    def _banner(self, state: str) -> str:
        if state == "ok":
            return ""
        tone: Any = "info" if state == "synthetic" else "bad"
        return note(tone, self.words(f"banner.{state}"))

    def _build(self) -> Any:
        words = self.words
        other = next(language for language in LANGUAGES if language != words.language)
        with gr.Blocks(title=words("page.title"), analytics_enabled=False) as blocks:
            with gr.Row(elem_classes=["top"]):
                gr.HTML(
                    f"<h1>{escape(words('page.title'))}</h1><p>{escape(words('page.motto'))}</p>"
                )
                switch = gr.Button(
                    Words(other)("page.name"), size="sm", elem_id="language", min_width=110
                )
            self.banner = gr.HTML("", elem_id="banner")
            with gr.Tabs(elem_id="rooms") as self.tabs:
                tabs = {name: self._build_tab(name, room) for name, room in self.rooms.items()}
            gr.HTML(f"<footer>{escape(words('page.foot'))}</footer>")
            self._tie(blocks, tabs, switch, other)
        blocks.queue(default_concurrency_limit=16, max_size=500)
        return blocks

    def _build_tab(self, name: str, room: Room) -> Any:
        with gr.Tab(self.words(f"tab.{name}"), id=name, elem_id=f"room-{name}") as tab:
            room.build()
        return tab

    def _tie(self, blocks: Any, tabs: dict[str, Any], switch: Any, other: str) -> None:
        every = [self.banner, self.tabs]
        for room in self.rooms.values():
            every += [output for output in room.outputs if output not in every]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(self.arrive, outputs=every, **quiet).then(None, js=AWAKE)
        notices = [room.notice for room in self.rooms.values()]
        gr.Timer(LOOK_SECONDS).tick(self.look, outputs=[self.banner, *notices], **quiet)
        switch.click(self.leave, inputs=self.pupil.form.inputs, **quiet).then(
            None, js=f"() => {{ window.location.replace('../{other}/'); }}"
        )
        for name, look in (
            ("history", self.history.look),
            ("models", self.models.look),
            ("monitor", self.monitoring.look),
        ):
            shown = tabs[name].select(look, outputs=self.rooms[name].outputs, **quiet)
            if name == "models":
                self.models.then_list(shown)
        for name, tab in tabs.items():
            tab.select(self._remember(name), **quiet)

    def _remember(self, name: str) -> Any:
        def remember(request: gr.Request) -> None:
            self._house.visits.of(request).tab = name

        return remember
