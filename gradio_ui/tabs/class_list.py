"""The tab for a class: load a list, check its cells, predict, rank by risk, save."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.class_layout import ClassLayout, ClassReading
from gradio_ui.example_class import ExampleClass
from gradio_ui.files.export import Format
from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html import class_list as html
from gradio_ui.html.explanation import main_reasons
from gradio_ui.html.markup import Html, note, progress
from gradio_ui.scoring import Scoring, explain_pupils, start_scoring
from gradio_ui.tabs.base import Updates, report_errors, reveal
from gradio_ui.tabs.upload import send_script
from gradio_ui.visitor_state import OtherBrowserError, ShownPupil, Visit

_POLL_SECONDS = 0.2
_REASONS_SECONDS = 1.0
"""How often the table shows the reasons that have come meanwhile."""


class ClassListTab(ClassReading):
    """Predict a class list."""

    example = ExampleClass()

    def build(self) -> None:
        """Create the components and bind their events."""
        layout = ClassLayout(self.texts, self.api, megabytes=self.settings.ui_max_upload_mb)
        self.layout, self.notice = layout, layout.notice
        self.answer, self.table = layout.answer, layout.table
        self.add_download()

        page = [self.notice, layout.results, self.table, layout.page]
        checked = [layout.summary, layout.bar, layout.start, layout.save_invalid, layout.progress]
        self.outputs = [*page, *checked, layout.overview, layout.printed, layout.filter]
        self.outputs += [layout.search, *self.answer.outputs, *layout.choice.outputs]
        read = [self.notice, *checked, *layout.choice.outputs, layout.results]
        content, send = layout.upload.content, send_script("class")
        self.bind(layout.upload.zone.click, self.check, [content], read, "check_class", js=send)
        again = [content, *layout.choice.inputs]
        name = "check_class_again"
        self.bind(layout.choice.apply.click, self.check_again, again, read, name, js=send)
        score = self.bind(layout.start.click, self.score, name="score_class")
        example = self.bind(layout.example.click, self.show_example, name="example_class")
        for event in (score, example):
            self._bind_reasons(reveal(event, "class-results"))
        selection = [layout.filter, layout.search]
        paged = [*selection, layout.page]
        # Gradio sends no input event for pasted text, only a change event.
        shows: tuple[tuple[Any, Any, Any, str | None], ...] = (
            (layout.filter.input, self.show_first, selection, None),
            (layout.search.change, self.show_first, selection, None),
            (layout.page.input, self.show, paged, "show_class"),
            (self.table.input, self.sort, paged, None),
        )
        for bound, show, values, shown_name in shows:
            done = self.bind(bound, show, values, page, shown_name, trigger_mode="always_last")
            self._bind_reasons(done)
        opened = [self.notice, self.table, *self.answer.outputs]
        reveal(self.bind(self.table.select, self.open_pupil, outputs=opened), "class-answer")
        self.answer.bind(self, self.imagine)
        self.bind_download(layout.template_csv, self.template_file, "csv", name="template_csv")
        self.bind_download(layout.template_xlsx, self.template_file, "xlsx", name="template_xlsx")
        self.bind_download(layout.csv, self.result_file, "csv", selection, "save_csv")
        self.bind_download(layout.xlsx, self.result_file, "xlsx", selection, "save_xlsx")
        self.bind_download(self.layout.save_invalid, self.invalid_file, "csv", name="save_bad")

    def _bind_reasons(self, event: Any) -> None:
        self.bind(event.then, self.add_reasons, outputs=[self.table])

    def bind_opening(self, event: Any) -> None:
        """Follow a list that is being predicted, after the page was opened again."""
        self._bind_reasons(self.bind(event, self.follow))

    def restore(self, request: gr.Request) -> Updates:
        """Show the class and the opened pupil again."""
        visit = self.visits.of(request)
        updates: Updates = self._checked(visit) if visit.class_file else {}
        if visit.scored:
            updates |= self._scored(visit)
        if visit.class_pupil is not None:
            updates |= self.answer.show(visit.class_pupil)
        return updates

    def score(self, request: gr.Request) -> Iterator[Updates]:
        """Begin to predict the list, and follow it."""
        try:
            visit = self.visits.of(request)
            listed = visit.class_file
            if listed is None or listed.questions or not listed.pupils:
                return
            running = visit.scoring is not None and not visit.scoring.finished.is_set()
            if not running:
                visit.scoring = start_scoring(
                    self.api, listed.pupils, visit.code, visit.saved_estimates
                )
        except Exception as error:
            yield {self.notice: self.describe_error(error)}
            return
        yield from self.follow(request)

    def follow(self, request: gr.Request) -> Iterator[Updates]:
        """Show the progress of a list that is being predicted, and at last its result."""
        try:
            visit = self.visits.of(request)
            scoring = visit.scoring
            if scoring is None:
                return
            yield {self.notice: "", self.layout.start: gr.update(interactive=False)}
            while not scoring.finished.wait(_POLL_SECONDS):
                yield self._progress(scoring)
            visit.scoring = None
            start = gr.update(interactive=True)
            done: Updates = {self.layout.progress: "", self.layout.start: start}
            if scoring.error is not None:
                yield done | {self.notice: self.describe_error(scoring.error)}
                return
            self._keep(visit, scoring.scored)
            scored = note("good", self.texts.count("class.scored", len(visit.scored)))
            yield done | {self.layout.progress: scored} | self._scored(visit)
        except Exception as error:
            yield {self.notice: self.describe_error(error)}

    def show_example(self, request: gr.Request) -> Iterator[Updates]:
        """Show a made-up class; nothing of it is stored."""
        try:
            visit = self.visits.of(request)
            layout = self.layout
            yield {layout.progress: progress(self.texts("class.scoring"))}
            answers = self.example.answers(self.api)
            visit.class_file, visit.scoring = None, None
            made_up = {"prediction_id": "", "session_id": ""}
            scored = [ScoredPupil.from_prediction(p, answer | made_up) for p, answer in answers]
            self._keep(visit, scored)
            self._reasons(visit).update((p.line, main_reasons(self.texts, a)) for p, a in answers)
            example = note("info", self.texts("class.is_example"))
            hidden: Updates = {layout.bar: gr.update(visible=False), layout.progress: ""}
            yield hidden | {layout.summary: example} | self._scored(visit)
        except Exception as error:
            yield {self.notice: self.describe_error(error), self.layout.progress: ""}

    @report_errors
    def sort(
        self, request: gr.Request, event: gr.EventData, filter_name: str, search: str, page: str
    ) -> Updates:
        """Sort by a column; by the same column again, in the other direction."""
        visit = self.visits.of(request)
        name = str(getattr(event, "by", ""))
        if name in html.SORTS:
            same = visit.sorted_by == name
            visit.sorted_by, visit.descending = name, same and not visit.descending
        return self._ranking(visit, filter_name, search or "", 0)

    @report_errors
    def open_pupil(self, request: gr.Request, event: gr.EventData) -> Updates:
        """Show the pupil of a row, with reasons and controls."""
        visit = self.visits.of(request)
        line = str(getattr(event, "line", ""))
        scored = next((s for s in visit.scored if str(s.pupil.line) == line), None)
        if scored is None:
            return {self.notice: gr.skip()}
        shown = ShownPupil(scored.pupil.features, {}, None, html.pupil_name(scored))
        self.answer.explain(shown)
        shown.prediction = shown.explanation or {}
        visit.class_pupil, visit.opened = shown, scored.pupil.line
        return {self.table: self._table(visit), **self.answer.show(shown)}

    @report_errors
    def imagine(self, request: gr.Request, *inputs: Any) -> Updates:
        """Predict the opened pupil with the values of the controls."""
        shown = self.visits.of(request).class_pupil
        return {self.answer.changed: ""} if shown is None else self.answer.imagine(shown, inputs)

    def add_reasons(self, request: gr.Request) -> Iterator[Updates]:
        """Read the main reasons of the pupils of the page, and show them as they come."""
        try:
            visit = self.visits.of(request)
            reasons = self._reasons(visit)
            new = [s.pupil for _, s in visit.shown_rows if s.pupil.line not in reasons]
            shown = time.monotonic()
            for pupil, answer in explain_pupils(self.api, new):
                reasons[pupil.line] = main_reasons(self.texts, answer)
                if time.monotonic() - shown > _REASONS_SECONDS:
                    shown = time.monotonic()
                    yield {self.table: self._table(visit)}
            yield {self.table: self._table(visit) if new else gr.skip()}
        except (ApiError, OtherBrowserError):
            # The table is complete without; opening a row reports what is wrong.
            return

    @report_errors
    def show(self, request: gr.Request, filter_name: str, search: str, page: str) -> Updates:
        """Show a page of the pupils that match a filter and a search."""
        visit = self.visits.of(request)
        if not visit.scored:
            return {self.layout.results: gr.update(visible=False)}
        return self._ranking(visit, filter_name, search or "", int(page or 0))

    def show_first(self, request: gr.Request, filter_name: str, search: str) -> Updates:
        """Show the first page of the pupils that match a filter and a search."""
        return self.show(request, filter_name, search, "0")

    def result_file(
        self, request: gr.Request, file_format: Format, filter_name: str, search: str
    ) -> dict[str, str]:
        """Make a file of the pupils that match a filter and a search."""
        visit = self.visits.of(request)
        selected = html.select(visit.scored, filter_name, search or "")
        rows = html.result_rows(self.texts, selected, self._reasons(visit))
        return self.make_file(file_format, "file.results", html.result_titles(self.texts), rows)

    def _keep(self, visit: Visit, scored: list[ScoredPupil]) -> None:
        visit.scored, visit.reasons = html.sort_by_risk(scored), {}
        visit.scored_at = datetime.now(UTC).isoformat()
        visit.sorted_by, visit.class_pupil, visit.opened = "", None, None

    def _progress(self, scoring: Scoring) -> Updates:
        done, total = len(scoring.scored), scoring.total
        key = "class.again" if scoring.is_waiting else "class.scoring"
        text = f"{self.texts(key)} {self.texts('class.done', done=done, total=total)}"
        return {self.layout.progress: progress(text, done, total)}

    def _scored(self, visit: Visit) -> Updates:
        return {
            self.layout.results: gr.update(visible=True),
            self.layout.overview: html.overview(self.texts, visit.scored),
            self.layout.printed: self._printed_title(visit),
            self.layout.filter: gr.update(
                choices=html.filter_choices(self.texts, visit.scored), value="all"
            ),
            self.layout.search: "",
            **self.answer.clear(note("info", self.texts("class.open_hint"))),
        } | self._ranking(visit, "all", "", 0)

    def _ranking(self, visit: Visit, filter_name: str, search: str, page: int) -> Updates:
        rows = html.select(visit.scored, filter_name, search)
        if visit.sorted_by:
            key = html.SORTS[visit.sorted_by]
            rows.sort(key=lambda row: key(row[1]), reverse=visit.descending)
        count = html.page_count(len(rows))
        page = min(max(page, 0), count - 1)
        visit.shown_rows = rows[page * html.ROWS_PER_PAGE : (page + 1) * html.ROWS_PER_PAGE]
        choices = [(self.texts("page.of", page=n + 1, pages=count), str(n)) for n in range(count)]
        return {
            self.table: self._table(visit),
            self.layout.page: gr.update(choices=choices, value=str(page), visible=count > 1),
        }

    def _printed_title(self, visit: Visit) -> Html:
        name = visit.class_name if visit.class_file else self.texts("class.example_name")
        return html.printed_title(self.texts, name or self.texts("tab.class"), visit.scored_at)

    def _reasons(self, visit: Visit) -> dict[int, str]:
        """Return the reasons that have been read in this language, by line."""
        return visit.reasons.setdefault(self.texts.language, {})

    def _table(self, visit: Visit) -> str:
        return html.ranking(
            self.texts,
            visit.shown_rows,
            reasons=self._reasons(visit),
            printed=self._printed_title(visit),
            is_compared=any(scored.earlier for scored in visit.scored),
            sorted_by=visit.sorted_by,
            descending=visit.descending,
            opened=visit.opened,
        )
