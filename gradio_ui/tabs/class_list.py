"""The tab for a class: a file in, its bad cells named, its pupils ranked by risk."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.files import export
from gradio_ui.files.class_file import template, understand
from gradio_ui.files.rows import Pupil, Scored
from gradio_ui.files.spreadsheet import UnreadableError, read
from gradio_ui.html import class_list
from gradio_ui.html.markup import note, progress
from gradio_ui.tabs.base import House, Room, Updates, told
from gradio_ui.tabs.upload import Upload, content
from gradio_ui.visitor_state import Visit

CHUNK = 500
_ATTEMPTS = 8
_CHUNK_TIMEOUT = 60.0


class ClassRoom(Room):
    """Score a class list."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.upload = Upload(house.words, megabytes=house.settings.ui_max_upload_mb)
        self.found: Any = None
        self.go: Any = None
        self.bad_file: Any = None
        self.progress: Any = None
        self.results: Any = None
        self.overview: Any = None
        self.kind: Any = None
        self.search: Any = None
        self.table: Any = None
        self.page: Any = None
        self.saved: Any = None
        self._csv: Any = None
        self._xlsx: Any = None

    def build(self) -> None:
        """Lay out the tab and tie it together."""
        words = self.words
        gr.HTML(f"<p class='lead'>{words('class.lead')}</p>")
        with gr.Row(elem_classes=["actions"]):
            as_csv = gr.Button(words("class.template_csv"), size="sm", elem_id="template-csv")
            as_xlsx = gr.Button(words("class.template_xlsx"), size="sm", elem_id="template-xlsx")
        self.upload.build()
        self.build_notice()
        self.found = gr.HTML("")
        with gr.Row(elem_classes=["actions"]):
            self.go = gr.Button("", variant="primary", visible=False, elem_id="score")
            self.bad_file = gr.Button(
                words("class.bad_file"), size="sm", visible=False, elem_id="bad-cells"
            )
        self.progress = gr.HTML("")
        self._build_results()
        self.saved = gr.JSON(visible=False)
        self._tie(as_csv, as_xlsx)

    @property
    def outputs(self) -> list[Any]:
        """Every component `arrive` may change."""
        return [self.found, self.go, self.bad_file, self.progress, *self._result_outputs]

    def arrive(self, request: gr.Request) -> Updates:
        """Show the class again in this language."""
        visit = self.visits.of(request)
        updates: Updates = self._checked(visit) if visit.class_file else {}
        if visit.scored:
            updates |= self._results(visit, "all", "", 0)
        return updates

    @told
    def check(self, request: gr.Request, given: Any) -> Updates:
        """Read what was uploaded."""
        visit = self.visits.of(request)
        visit.class_file, visit.scored = None, ()
        cleared: Updates = {
            self.found: "",
            self.progress: "",
            self.go: gr.update(visible=False),
            self.bad_file: gr.update(visible=False),
            self.results: gr.update(visible=False),
        }
        try:
            name, data = content(given, limit=self.settings.ui_max_upload_mb << 20)
            visit.class_file = understand(read(data, name))
        except UnreadableError as error:
            return {**cleared, self.found: note("bad", self.words(error.key))}
        return cleared | self._checked(visit)

    def score(self, request: gr.Request) -> Iterator[Updates]:
        """Ask the API chunk by chunk, showing how far it is."""
        try:
            visit = self.visits.of(request)
            if visit.class_file is None or not visit.class_file.pupils:
                return
            yield from self._score(visit, visit.class_file.pupils)
        except Exception as error:
            yield {self.notice: self.failed(error), self.progress: ""}

    @told
    def show(self, request: gr.Request, kind: str, search: str, page: str) -> Updates:
        """Show the pupils that a filter, a search and a page name."""
        visit = self.visits.of(request)
        if not visit.scored:
            return {self.results: gr.update(visible=False)}
        return self._table(visit, kind, search or "", int(page or 0))

    def narrow(self, request: gr.Request, kind: str, search: str) -> Updates:
        """Show the first page of what a filter and a search let through."""
        return self.show(request, kind, search, "0")

    def save(self, request: gr.Request, file: export.Kind, kind: str, search: str) -> Any:
        """Make a file of the pupils shown."""
        visit = self.visits.of(request)
        rows = class_list.chosen(visit.scored, kind, search or "")
        return self._packed(
            file,
            self.words("file.results"),
            class_list.result_titles(self.words),
            class_list.result_rows(self.words, rows),
        )

    def save_bad(self, request: gr.Request) -> Any:
        """Make a file of every bad cell."""
        visit = self.visits.of(request)
        bad = visit.class_file.bad if visit.class_file else ()
        titles = class_list.bad_titles(self.words)
        name = self.words("file.bad_cells")
        return self._packed("csv", name, titles, class_list.bad_rows(self.words, bad))

    def _packed(
        self, kind: export.Kind, name: str, titles: list[str], rows: list[list[Any]]
    ) -> dict[str, str]:
        comma = self.words.language == "fr"
        return export.packed(kind, name, titles, rows, decimal_comma=comma)

    def _checked(self, visit: Visit) -> Updates:
        assert visit.class_file is not None
        count = len(visit.class_file.pupils)
        label = self.words("class.score", count=self.words.number(count, 0))
        return {
            self.found: class_list.summary(self.words, visit.class_file),
            self.go: gr.update(value=label, visible=count > 0, interactive=True),
            self.bad_file: gr.update(visible=len(visit.class_file.bad) > 0),
        }

    def _score(self, visit: Visit, pupils: tuple[Pupil, ...]) -> Iterator[Updates]:
        words, total = self.words, len(pupils)
        scored: list[Scored] = []
        yield {self.notice: "", self.go: gr.update(interactive=False)}
        try:
            for start in range(0, total, CHUNK):
                yield self._progress(start, total, words("class.scoring"))
                for update in self._chunk(visit, pupils[start : start + CHUNK], scored):
                    yield self._progress(start, total, update)
        except ApiError as error:
            yield {
                self.notice: self.failed(error),
                self.progress: "",
                self.go: gr.update(interactive=True),
            }
            return
        visit.scored = class_list.ranked(scored)
        done = note("good", words("class.scored", count=words.number(total, 0)))
        yield {self.progress: done, self.go: gr.update(interactive=True)} | self._results(
            visit, "all", "", 0
        )

    def _chunk(
        self, visit: Visit, pupils: tuple[Pupil, ...], scored: list[Scored]
    ) -> Iterator[str]:
        """Score a few pupils, waiting for the API where it is away; yields what to say."""
        # Sent again under the same key, a chunk whose answer got lost is not kept twice.
        key = uuid.uuid4().hex
        for attempt in range(_ATTEMPTS):
            try:
                answer = self.api.call(
                    "POST",
                    "/predict_batch",
                    body={"students": [pupil.features for pupil in pupils]},
                    session=visit.code,
                    key=key,
                    timeout=_CHUNK_TIMEOUT,
                )
            except ApiError as error:
                if not error.passing or attempt == _ATTEMPTS - 1:
                    raise
                yield self.words("class.again")
                time.sleep(max(error.retry_after, min(2.0**attempt / 2, 4.0)))
            else:
                scored.extend(map(Scored.of, pupils, answer["predictions"]))
                return

    def _progress(self, done: int, total: int, text: str) -> Updates:
        counted = self.words("class.done", done=done, total=total)
        return {self.progress: progress(self.words, done, total, f"{text} {counted}")}

    def _results(self, visit: Visit, kind: str, search: str, page: int) -> Updates:
        return {
            self.results: gr.update(visible=True),
            self.overview: class_list.overview(self.words, visit.scored),
            self.kind: kind,
            self.search: search,
        } | self._table(visit, kind, search, page)

    def _table(self, visit: Visit, kind: str, search: str, page: int) -> Updates:
        rows = class_list.chosen(visit.scored, kind, search)
        count = class_list.pages(len(rows))
        page = min(max(page, 0), count - 1)
        named = [(self.words("page.of", page=n + 1, pages=count), str(n)) for n in range(count)]
        return {
            self.table: class_list.ranking(self.words, rows, page),
            self.page: gr.update(choices=named, value=str(page), visible=count > 1),
        }

    @property
    def _result_outputs(self) -> list[Any]:
        return [self.results, self.overview, self.kind, self.search, self.table, self.page]

    def _build_results(self) -> None:
        words = self.words
        with gr.Column(visible=False) as self.results:
            self.overview = gr.HTML("")
            with gr.Row(elem_classes=["fields"]):
                self.kind = gr.Radio(
                    [(words(f"filter.{name}"), name) for name in class_list.FILTERS],
                    value="all",
                    label=words("filter.label"),
                    elem_classes=["pills"],
                    elem_id="filter",
                )
                self.search = gr.Textbox(
                    label=words("filter.search"), max_length=64, elem_id="search"
                )
            self.table = gr.HTML("", elem_id="ranking")
            self.page = gr.Dropdown(
                [("", "0")],
                value="0",
                label=words("page.label"),
                filterable=False,
                elem_classes=["pager"],
            )
            with gr.Row(elem_classes=["actions"]):
                self._csv = gr.Button(words("save.csv"), size="sm", elem_id="save-csv")
                self._xlsx = gr.Button(words("save.xlsx"), size="sm", elem_id="save-xlsx")

    def _tie(self, as_csv: Any, as_xlsx: Any) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        checked = [self.notice, self.found, self.go, self.bad_file, self.progress, self.results]
        self.upload.tie(self.check, checked, api_name="check_class")
        self.go.click(
            self.score,
            outputs=[self.notice, self.go, self.progress, *self._result_outputs],
            api_name="score_class",
            **quiet,
        )
        shown = [self.notice, self.results, self.table, self.page]
        # A pasted word is a change, and no input event of Gradio's.
        for trigger in (self.kind.input, self.search.change):
            trigger(
                self.narrow,
                inputs=[self.kind, self.search],
                outputs=shown,
                trigger_mode="always_last",
                api_visibility="private",
                **quiet,
            )
        self.page.input(
            self.show,
            inputs=[self.kind, self.search, self.page],
            outputs=shown,
            api_name="show_class",
            **quiet,
        )
        self._downloads(as_csv, as_xlsx)

    def _downloads(self, as_csv: Any, as_xlsx: Any) -> None:
        def blank(kind: export.Kind) -> Any:
            return self._packed(kind, self.words("file.template"), *template())

        def save(request: gr.Request, kind: str, search: str) -> Any:
            return self.save(request, "csv", kind, search)

        def save_xlsx(request: gr.Request, kind: str, search: str) -> Any:
            return self.save(request, "xlsx", kind, search)

        filters = [self.kind, self.search]
        for button, make, inputs, name in (
            (as_csv, lambda: blank("csv"), [], "template_csv"),
            (as_xlsx, lambda: blank("xlsx"), [], "template_xlsx"),
            (self._csv, save, filters, "save_csv"),
            (self._xlsx, save_xlsx, filters, "save_xlsx"),
            (self.bad_file, self.save_bad, [], "save_bad"),
        ):
            button.click(
                make, inputs=inputs, outputs=[self.saved], api_name=name, show_progress="hidden"
            ).then(None, inputs=[self.saved], js=export.SAVE, api_visibility="private")
