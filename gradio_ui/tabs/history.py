"""The tab of the session's predictions, and of the grades really obtained."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.files.export import Format
from gradio_ui.html.history import file_rows, file_titles, history_table
from gradio_ui.html.markup import note, paragraph
from gradio_ui.tabs.base import Tab, Updates, report_errors, small_button
from gradio_ui.tabs.outcomes import OutcomeForm
from gradio_ui.tabs.upload import send_script
from gradio_ui.visitor_state import Visit

ROWS_PER_PAGE = 25
_EXPORT_ROWS_PER_REQUEST = 1000
_MAX_EXPORT_ROWS = 20_000


class HistoryTab(Tab):
    """Show, save and erase a session's predictions; record outcomes."""

    def build(self) -> None:
        """Create the components and bind their events."""
        texts = self.texts
        self.add_lead("history.lead")
        self.add_notice()
        with gr.Row(elem_classes=["actions"]):
            refresh = small_button(texts("history.refresh"), "history-refresh")
            save_csv = small_button(texts("save.csv"), "history-csv")
            save_xlsx = small_button(texts("save.xlsx"), "history-xlsx")
        self.outcomes = OutcomeForm(texts, self.api, megabytes=self.settings.ui_max_upload_mb)
        with gr.Accordion(texts("history.session"), open=False, elem_classes=["fold"]):
            gr.HTML(paragraph(texts("history.session_help")))
            self.code = gr.Textbox(
                label=texts("history.code"), max_length=128, elem_id="code", buttons=["copy"]
            )
            with gr.Row(elem_classes=["actions"]):
                reopen = small_button(texts("history.reopen"), "reopen")
            gr.HTML(paragraph(texts("history.erase_help")))
            confirmed = gr.Checkbox(label=texts("history.erase_sure"), elem_id="erase-sure")
            erase = small_button(texts("history.erase"), "erase", variant="stop")
        self.table = gr.HTML("", elem_id="history-table")
        with gr.Row(elem_classes=["actions"]):
            self.newer = small_button(texts("page.newer"), "newer", visible=False)
            self.older = small_button(texts("page.older"), "older", visible=False)
        self.add_download()

        shown = [self.code, self.table, self.newer, self.older]
        self.outputs = [self.notice, *shown, *self.outcomes.outputs]
        self.bind(refresh.click, self.refresh, name="history")
        self.bind(self.older.click, self.show_older, name="history_older")
        self.bind(self.newer.click, self.show_newer, name="history_newer")
        self.bind(reopen.click, self.reopen, [self.code], name="reopen")
        self.bind(erase.click, self.erase, [confirmed], name="erase")
        self.bind(self.outcomes.save.click, self.record, self.outcomes.inputs, name="outcomes")
        upload, send = self.outcomes.upload, send_script("outcome")
        self.bind(
            upload.zone.click,
            self.record_file,
            [upload.content],
            None,
            "outcomes_file",
            js=send,
        )
        self.bind_download(save_csv, self.history_file, "csv")
        self.bind_download(save_xlsx, self.history_file, "xlsx")

    def bind_selection(self, event: Any) -> None:
        """Show the newest predictions when the reader turns to this tab."""
        self.bind(event, self.refresh)

    def restore(self, request: gr.Request) -> Updates:
        """Show the same page of the history in this language."""
        visit = self.visits.of(request)
        return self._shown(visit, more=False) if visit.history else {}

    @report_errors
    def refresh(self, request: gr.Request) -> Updates:
        """Show the newest predictions."""
        visit = self.visits.of(request)
        visit.previous_pages = ()
        return self._load(visit)

    @report_errors
    def show_older(self, request: gr.Request) -> Updates:
        """Show the page of older predictions."""
        visit = self.visits.of(request)
        if visit.history:
            visit.previous_pages = (*visit.previous_pages, int(visit.history[-1]["id"]))
        return self._load(visit)

    @report_errors
    def show_newer(self, request: gr.Request) -> Updates:
        """Show the page of newer predictions."""
        visit = self.visits.of(request)
        visit.previous_pages = visit.previous_pages[:-1]
        return self._load(visit)

    @report_errors
    def reopen(self, request: gr.Request, code: str) -> Updates:
        """Continue an earlier session, named by its code."""
        visit = self.visits.of(request)
        code = code.strip()
        if not code or not code.isascii() or not code.isprintable() or " " in code:
            return self.failure("history.bad_code")
        if visit.admin_token is None and not self.visits.codes.may_open(code):
            return self.failure("history.foreign_code")
        visit.code, visit.previous_pages = code, ()
        return self._load(visit) | self.success("history.reopened", code=code)

    @report_errors
    def erase(self, request: gr.Request, confirmed: bool) -> Updates:
        """Erase the session permanently; requires an administrator's token."""
        visit = self.visits.of(request)
        if not confirmed:
            return self.failure("history.not_sure")
        if visit.admin_token is None:
            return self.failure("history.erase_admin")
        answer = self.api.call(
            "DELETE", "/history", token=visit.admin_token, params={"session_id": visit.code}
        )
        visit.previous_pages = ()
        erased = note("good", self.texts.count("history.erased", answer["erased"]))
        return self._load(visit) | {self.notice: erased}

    @report_errors
    def record(
        self, request: gr.Request, prediction_id: str | None, grade: str, lines: str, reason: str
    ) -> Updates:
        """Record grades really obtained."""
        visit = self.visits.of(request)
        result = self.outcomes.record(visit, prediction_id, grade or "", lines or "", reason or "")
        return self._load(visit) | {self.notice: result}

    @report_errors
    def record_file(self, request: gr.Request, upload: Any) -> Updates:
        """Record the grades of a file."""
        visit = self.visits.of(request)
        result = self.outcomes.record_file(visit, upload, self.visits.codes.may_open)
        return self._load(visit) | {self.notice: result}

    def history_file(self, request: gr.Request, file_format: Format) -> dict[str, str]:
        """Make a file of the whole session."""
        visit = self.visits.of(request)
        rows: list[dict[str, Any]] = []
        try:
            while len(rows) < _MAX_EXPORT_ROWS:
                before = int(rows[-1]["id"]) if rows else None
                page = self._read(visit, _EXPORT_ROWS_PER_REQUEST, before)
                rows += page
                if len(page) < _EXPORT_ROWS_PER_REQUEST:
                    break
        except ApiError:
            # Without a file the reader cannot mistake a part of the history for all of it.
            return {}
        titles = file_titles(self.texts)
        return self.make_file(file_format, "file.history", titles, file_rows(self.texts, rows))

    def _read(self, visit: Visit, limit: int, before: int | None) -> list[dict[str, Any]]:
        params: dict[str, str | int] = {"limit": limit}
        if before is not None:
            params["before_id"] = before
        rows: list[dict[str, Any]] = self.api.call(
            "GET", "/history", session=visit.code, params=params
        )
        return rows

    def _load(self, visit: Visit) -> Updates:
        """Read the page that `visit` is at; one row more tells whether older ones exist."""
        before = visit.previous_pages[-1] if visit.previous_pages else None
        rows = self._read(visit, ROWS_PER_PAGE + 1, before)
        visit.history = tuple(rows[:ROWS_PER_PAGE])
        return self._shown(visit, more=len(rows) > ROWS_PER_PAGE)

    def _shown(self, visit: Visit, *, more: bool) -> Updates:
        texts, rows = self.texts, visit.history
        empty = note("info", texts("history.empty"))
        return {
            self.table: history_table(texts, rows) if rows else empty,
            self.code: visit.code,
            self.newer: gr.update(visible=bool(visit.previous_pages)),
            self.older: gr.update(visible=more),
            **self.outcomes.offer(rows),
        }
