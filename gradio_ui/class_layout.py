"""The components of the class tab, and the reading of its list."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiClient
from gradio_ui.files.class_file import pupils_of, read_class_table, template
from gradio_ui.files.earlier import saved_estimates
from gradio_ui.files.export import Format
from gradio_ui.html import class_list as html
from gradio_ui.html.markup import note, paragraph
from gradio_ui.tabs.answer import PupilAnswer
from gradio_ui.tabs.base import Tab, Updates, report_errors, small_button
from gradio_ui.tabs.column_choice import ColumnChoice
from gradio_ui.tabs.upload import Upload, uploaded_file
from gradio_ui.texts import Texts
from gradio_ui.visitor_state import Visit
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.problems import TableError

_MAX_NAME_CHARACTERS = 80
_TABLE_SCRIPT = """
let held = "";
const hold = (button) => {
  held = Object.entries(button?.dataset ?? {}).map(([k, v]) => `button[data-${k}="${v}"]`).join();
};
element.addEventListener("focusin", (event) => hold(event.target.closest("button")));
element.addEventListener("click", (event) => {
  const sort = event.target.closest("[data-sort]");
  const row = event.target.closest("tr[data-open]");
  if (sort) trigger("input", { by: sort.dataset.sort });
  if (row) trigger("select", { line: row.dataset.open });
  hold(sort ?? row?.querySelector("button"));
});
new MutationObserver(() => {
  if (!held || document.activeElement !== document.body) return;
  element.querySelector(held)?.focus({ preventScroll: true });
}).observe(element, { childList: true, subtree: true });
"""
"""Sends the title that was pressed, or the row. The table is written anew after that: the focus
returns to where it was."""
_BACK_SCRIPT = """
() => {
  const list = document.getElementById("ranking");
  const row = list.querySelector("[aria-current]") ?? list;
  row.scrollIntoView({ block: "center" });
  row.querySelector("button")?.focus({ preventScroll: true });
}
"""
"""On a narrow screen the pupil stands below the whole class: return to the row."""


class ClassLayout:
    """The components in reading order; created inside `gr.Blocks`.

    Attributes
    ----------
    bar
        What can be done with the list that was read.
    table
        Its input event means that a title was pressed, its select event that a row was.
    """

    def __init__(self, texts: Texts, api: ApiClient, *, megabytes: int) -> None:
        self._texts, self._api = texts, api
        gr.HTML(paragraph(texts("class.lead"), "lead"))
        self.upload = Upload(texts, "class", "class.upload", "class.limits", megabytes=megabytes)
        with gr.Row(elem_classes=["actions"]):
            self.example = small_button(texts("class.example"), "example-class")
            self.template_csv = small_button(texts("class.template_csv"), "template-csv")
            self.template_xlsx = small_button(texts("class.template_xlsx"), "template-xlsx")
        self.notice: Any = gr.HTML("", elem_classes=["notice"])
        self.summary: Any = gr.HTML("", elem_id="class-summary")
        self.choice = ColumnChoice(texts)
        with gr.Row(elem_classes=["bar"], visible=False) as self.bar:
            self.start: Any = gr.Button("", variant="primary", elem_id="score")
            self.save_invalid = small_button(texts("class.bad_file"), "bad-cells", visible=False)
        self.progress: Any = gr.HTML("", elem_id="class-progress")
        with gr.Column(visible=False, elem_id="class-results") as self.results:
            self._build_results()

    def _build_results(self) -> None:
        texts = self._texts
        self.overview: Any = gr.HTML("", elem_id="class-overview")
        with gr.Row(elem_classes=["fields", "filters"]):
            self.filter: Any = gr.Radio(
                html.filter_choices(texts),
                value="all",
                label=texts("filter.label"),
                elem_classes=["pills"],
                elem_id="filter",
            )
            self.search: Any = gr.Textbox(
                label=texts("filter.search"), max_length=64, elem_id="search"
            )
        with gr.Row(elem_classes=["two"]):
            with gr.Column(scale=3):
                self.table: Any = gr.HTML("", elem_id="ranking", js_on_load=_TABLE_SCRIPT)
                self.page: Any = gr.Dropdown(
                    [("", "0")],
                    value="0",
                    label=texts("page.label"),
                    filterable=False,
                    elem_classes=["pager"],
                )
                with gr.Row(elem_classes=["actions"]):
                    self.csv = small_button(texts("save.csv"), "save-csv")
                    self.xlsx = small_button(texts("save.xlsx"), "save-xlsx")
            with gr.Column(scale=2, elem_classes=["side"], elem_id="class-answer"):
                back = small_button(texts("class.back"), "back-to-list")
                back.click(None, js=_BACK_SCRIPT, api_visibility="private")
                self.printed: Any = gr.HTML("", elem_classes=["printed"])
                self.answer = PupilAnswer(texts, self._api, "class")


class ClassReading(Tab):
    """The part of the class tab that reads a list and says what has to be corrected."""

    layout: ClassLayout

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
        choices = self.layout.choice.choices(visit.choices.get(titles, Choices()), *fields)
        updates = self._read(visit, upload, choices)
        if visit.class_file:
            visit.choices[visit.class_file.titles] = choices
        return updates

    def template_file(self, file_format: Format) -> dict[str, str]:
        """Make a file of an empty class list."""
        return self.make_file(file_format, "file.template", *template(self.texts))

    def invalid_file(self, request: gr.Request, file_format: Format) -> dict[str, str]:
        """Make a file of every invalid cell."""
        class_file = self.visits.of(request).class_file
        rows = html.invalid_cell_rows(self.texts, class_file.invalid if class_file else ())
        return self.make_file(
            file_format, "file.bad_cells", html.invalid_cell_titles(self.texts), rows
        )

    def _read(self, visit: Visit, upload: Any, choices: Choices) -> Updates:
        visit.class_file, visit.scored, visit.scoring = None, (), None
        cleared: Updates = {
            self.layout.summary: "",
            self.layout.progress: "",
            self.layout.bar: gr.update(visible=False),
            self.layout.results: gr.update(visible=False),
        }
        try:
            data = uploaded_file(upload, limit=self.settings.ui_max_upload_mb << 20)
            rows = read_class_table(data, choices)
        except TableError as error:
            text = note("bad", html.explain(self.texts, error.problem))
            return {
                **cleared,
                self.layout.summary: text,
                **self.layout.choice.offer(error, choices),
            }
        visit.class_file, visit.saved_estimates = pupils_of(rows), saved_estimates(rows)
        stem = PurePath(str(upload.get("name") or "")).stem[:_MAX_NAME_CHARACTERS]
        visit.class_name = " · ".join(filter(None, (stem, choices.sheet)))
        return cleared | self._checked(visit) | self.layout.choice.offer(visit.class_file, choices)

    def _checked(self, visit: Visit) -> Updates:
        assert visit.class_file is not None
        count = 0 if visit.class_file.questions else len(visit.class_file.pupils)
        label = self.texts.count("class.score", count)
        has_invalid = len(visit.class_file.invalid) > 0
        return {
            self.layout.summary: html.summary(self.texts, visit.class_file),
            self.layout.bar: gr.update(visible=count > 0 or has_invalid),
            self.layout.start: gr.update(value=label, visible=count > 0, interactive=True),
            self.layout.save_invalid: gr.update(visible=has_invalid),
        }
