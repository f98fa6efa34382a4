"""The tab for a class: load a list, check its cells, predict, rank by risk, save."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.files.class_file import read_class_list, template
from gradio_ui.files.export import Format
from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html import class_list as html
from gradio_ui.html.markup import note, progress
from gradio_ui.tabs.base import Tab, Updates, report_errors, small_button
from gradio_ui.tabs.column_choice import ColumnChoice
from gradio_ui.tabs.upload import SEND_SCRIPT, Upload, uploaded_file
from gradio_ui.visitor_state import Visit
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.pupils import Pupil

CHUNK_ROWS = 500
_MAX_ATTEMPTS = 8
_CHUNK_TIMEOUT_SECONDS = 60.0


class ClassListTab(Tab):
    """Predict a class list."""

    def build(self) -> None:
        """Create the components and bind their events."""
        texts = self.texts
        self.add_lead("class.lead")
        with gr.Row(elem_classes=["actions"]):
            template_csv = small_button(texts("class.template_csv"), "template-csv")
            template_xlsx = small_button(texts("class.template_xlsx"), "template-xlsx")
        upload = Upload(texts, megabytes=self.settings.ui_max_upload_mb)
        self.add_notice()
        self.summary = gr.HTML("")
        self.choice = ColumnChoice(texts)
        with gr.Row(elem_classes=["actions"]):
            self.start = gr.Button("", variant="primary", visible=False, elem_id="score")
            self.save_invalid = small_button(texts("class.bad_file"), "bad-cells", visible=False)
        self.progress = gr.HTML("")
        with gr.Column(visible=False) as self.results:
            self._build_results()
        self.add_download()

        results = [self.results, self.overview, self.filter, self.search, self.table, self.page]
        checked = [self.summary, self.start, self.save_invalid, self.progress]
        self.outputs = [self.notice, *checked, *self.choice.outputs, *results]
        read = [self.notice, *checked, *self.choice.outputs, self.results]
        self.bind(
            upload.zone.click,
            self.check,
            [upload.content],
            read,
            "check_class",
            js=SEND_SCRIPT,
        )
        self.bind(
            self.choice.apply.click,
            self.check_again,
            [upload.content, *self.choice.inputs],
            read,
            "check_class_again",
            js=SEND_SCRIPT,
        )
        self.bind(
            self.start.click,
            self.score,
            outputs=[self.notice, self.start, self.progress, *results],
            name="score_class",
        )
        shown = [self.notice, self.results, self.table, self.page]
        selection = [self.filter, self.search]
        # Gradio sends no input event for pasted text, only a change event.
        for event in (self.filter.input, self.search.change):
            self.bind(event, self.show_first, selection, shown, trigger_mode="always_last")
        self.bind(self.page.input, self.show, [*selection, self.page], shown, "show_class")
        self.bind_download(template_csv, self.template_file, "csv", name="template_csv")
        self.bind_download(template_xlsx, self.template_file, "xlsx", name="template_xlsx")
        self.bind_download(self._csv, self.result_file, "csv", selection, "save_csv")
        self.bind_download(self._xlsx, self.result_file, "xlsx", selection, "save_xlsx")
        self.bind_download(self.save_invalid, self.invalid_file, "csv", name="save_bad")

    def _build_results(self) -> None:
        texts = self.texts
        self.overview = gr.HTML("")
        with gr.Row(elem_classes=["fields"]):
            self.filter = gr.Radio(
                [(texts(f"filter.{name}"), name) for name in html.FILTERS],
                value="all",
                label=texts("filter.label"),
                elem_classes=["pills"],
                elem_id="filter",
            )
            self.search = gr.Textbox(label=texts("filter.search"), max_length=64, elem_id="search")
        self.table = gr.HTML("", elem_id="ranking")
        self.page = gr.Dropdown(
            [("", "0")],
            value="0",
            label=texts("page.label"),
            filterable=False,
            elem_classes=["pager"],
        )
        with gr.Row(elem_classes=["actions"]):
            self._csv = small_button(texts("save.csv"), "save-csv")
            self._xlsx = small_button(texts("save.xlsx"), "save-xlsx")

    def restore(self, request: gr.Request) -> Updates:
        """Show the class again in this language."""
        visit = self.visits.of(request)
        updates: Updates = self._checked(visit) if visit.class_file else {}
        if visit.scored:
            updates |= self._scored(visit)
        return updates

    @report_errors
    def check(self, request: gr.Request, upload: Any) -> Updates:
        """Read an uploaded list; one with the same titles as before is read as it was then."""
        visit = self.visits.of(request)
        updates = self._read(visit, upload, Choices())
        titles = visit.class_file.titles if visit.class_file else ()
        if remembered := visit.choices.get(titles):
            updates = self._read(visit, upload, remembered)
        return updates

    @report_errors
    def check_again(self, request: gr.Request, upload: Any, *fields: Any) -> Updates:
        """Read an uploaded list again with what the reader said about it."""
        visit = self.visits.of(request)
        titles = visit.class_file.titles if visit.class_file else ()
        choices = self.choice.choices(visit.choices.get(titles, Choices()), *fields)
        updates = self._read(visit, upload, choices)
        if visit.class_file:
            visit.choices[visit.class_file.titles] = choices
        return updates

    def score(self, request: gr.Request) -> Iterator[Updates]:
        """Predict the list in chunks, and show the progress."""
        try:
            visit = self.visits.of(request)
            class_list = visit.class_file
            if class_list is None or class_list.questions or not class_list.pupils:
                return
            yield {self.notice: "", self.start: gr.update(interactive=False)}
            yield from self._score(visit, class_list.pupils)
            text = self.texts("class.scored", count=self.texts.number(len(visit.scored), 0))
            done = {self.progress: note("good", text), self.start: gr.update(interactive=True)}
            yield done | self._scored(visit)
        except Exception as error:
            yield {
                self.notice: self.describe_error(error),
                self.progress: "",
                self.start: gr.update(interactive=True),
            }

    @report_errors
    def show(self, request: gr.Request, filter_name: str, search: str, page: str) -> Updates:
        """Show a page of the pupils that match a filter and a search."""
        visit = self.visits.of(request)
        if not visit.scored:
            return {self.results: gr.update(visible=False)}
        return self._ranking(visit, filter_name, search or "", int(page or 0))

    def show_first(self, request: gr.Request, filter_name: str, search: str) -> Updates:
        """Show the first page of the pupils that match a filter and a search."""
        return self.show(request, filter_name, search, "0")

    def template_file(self, file_format: Format) -> dict[str, str]:
        """Make a file of an empty class list."""
        return self.make_file(file_format, "file.template", *template())

    def result_file(
        self, request: gr.Request, file_format: Format, filter_name: str, search: str
    ) -> dict[str, str]:
        """Make a file of the pupils that match a filter and a search."""
        rows = html.select(self.visits.of(request).scored, filter_name, search or "")
        titles = html.result_titles(self.texts)
        return self.make_file(
            file_format, "file.results", titles, html.result_rows(self.texts, rows)
        )

    def invalid_file(self, request: gr.Request, file_format: Format) -> dict[str, str]:
        """Make a file of every invalid cell."""
        class_file = self.visits.of(request).class_file
        rows = html.invalid_cell_rows(self.texts, class_file.invalid if class_file else ())
        return self.make_file(
            file_format, "file.bad_cells", html.invalid_cell_titles(self.texts), rows
        )

    def _read(self, visit: Visit, upload: Any, choices: Choices) -> Updates:
        visit.class_file, visit.scored = None, ()
        cleared: Updates = {
            self.summary: "",
            self.progress: "",
            self.start: gr.update(visible=False),
            self.save_invalid: gr.update(visible=False),
            self.results: gr.update(visible=False),
        }
        try:
            data = uploaded_file(upload, limit=self.settings.ui_max_upload_mb << 20)
            visit.class_file = read_class_list(data, choices)
        except TableError as error:
            text = note("bad", html.explain(self.texts, error.problem))
            return {**cleared, self.summary: text, **self.choice.offer(error, choices)}
        return cleared | self._checked(visit) | self.choice.offer(visit.class_file, choices)

    def _checked(self, visit: Visit) -> Updates:
        assert visit.class_file is not None
        count = 0 if visit.class_file.questions else len(visit.class_file.pupils)
        label = self.texts("class.score", count=self.texts.number(count, 0))
        return {
            self.summary: html.summary(self.texts, visit.class_file),
            self.start: gr.update(value=label, visible=count > 0, interactive=True),
            self.save_invalid: gr.update(visible=len(visit.class_file.invalid) > 0),
        }

    def _score(self, visit: Visit, pupils: tuple[Pupil, ...]) -> Iterator[Updates]:
        total = len(pupils)
        scored: list[ScoredPupil] = []
        for start in range(0, total, CHUNK_ROWS):
            yield self._progress(start, total, "class.scoring")
            for key in self._score_chunk(visit, pupils[start : start + CHUNK_ROWS], scored):
                yield self._progress(start, total, key)
        visit.scored = html.sort_by_risk(scored)

    def _score_chunk(
        self, visit: Visit, pupils: tuple[Pupil, ...], scored: list[ScoredPupil]
    ) -> Iterator[str]:
        """Predict a chunk, and retry while the API is unavailable; yields the texts to show."""
        # With the same key, a chunk whose answer was lost is not stored twice.
        key = uuid.uuid4().hex
        for attempt in range(_MAX_ATTEMPTS):
            try:
                answer = self.api.call(
                    "POST",
                    "/predict_batch",
                    body={"students": [pupil.features for pupil in pupils]},
                    session=visit.code,
                    idempotency_key=key,
                    timeout=_CHUNK_TIMEOUT_SECONDS,
                )
            except ApiError as error:
                if not error.is_transient or attempt == _MAX_ATTEMPTS - 1:
                    raise
                yield "class.again"
                time.sleep(max(error.retry_after, min(2.0**attempt / 2, 4.0)))
            else:
                scored.extend(map(ScoredPupil.from_prediction, pupils, answer["predictions"]))
                return

    def _progress(self, done: int, total: int, key: str) -> Updates:
        text = f"{self.texts(key)} {self.texts('class.done', done=done, total=total)}"
        return {self.progress: progress(text, done, total)}

    def _scored(self, visit: Visit) -> Updates:
        return {
            self.results: gr.update(visible=True),
            self.overview: html.overview(self.texts, visit.scored),
            self.filter: "all",
            self.search: "",
        } | self._ranking(visit, "all", "", 0)

    def _ranking(self, visit: Visit, filter_name: str, search: str, page: int) -> Updates:
        rows = html.select(visit.scored, filter_name, search)
        count = html.page_count(len(rows))
        page = min(max(page, 0), count - 1)
        choices = [(self.texts("page.of", page=n + 1, pages=count), str(n)) for n in range(count)]
        return {
            self.table: html.ranking(self.texts, rows, page),
            self.page: gr.update(choices=choices, value=str(page), visible=count > 1),
        }
