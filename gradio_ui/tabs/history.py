"""The tab of what was predicted in this session, and of the grades really obtained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.files import export
from gradio_ui.files.rows import PASSES
from gradio_ui.html.grade_scale import over_time
from gradio_ui.html.markup import Cell, badge, note, table, when
from gradio_ui.html.result import horizon_name, version_name
from gradio_ui.tabs.base import House, Room, Updates, told
from gradio_ui.tabs.outcomes import OutcomeForm
from gradio_ui.texts import Words
from gradio_ui.visitor_state import Visit
from student_success.domain.students import FEATURE_NAMES

PAGE = 25
_EXPORT_PAGE = 1000
_MOST_EXPORTED = 20_000


class HistoryRoom(Room):
    """Show, export and erase a session's predictions; enter outcomes."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.outcomes = OutcomeForm(house)
        self.code: Any = None
        self.chart: Any = None
        self.table: Any = None
        self.newer: Any = None
        self.older: Any = None
        self.saved: Any = None

    def build(self) -> None:
        """Lay out the tab and tie it together."""
        words = self.words
        gr.HTML(f"<p class='lead'>{words('history.lead')}</p>")
        self.build_notice()
        with gr.Row(elem_classes=["actions"]):
            refresh = gr.Button(words("history.refresh"), size="sm", elem_id="history-refresh")
            as_csv = gr.Button(words("save.csv"), size="sm", elem_id="history-csv")
            as_xlsx = gr.Button(words("save.xlsx"), size="sm", elem_id="history-xlsx")
        self.chart = gr.HTML("")
        self.table = gr.HTML("", elem_id="history-table")
        with gr.Row(elem_classes=["actions"]):
            self.newer = gr.Button(words("page.newer"), size="sm", visible=False, elem_id="newer")
            self.older = gr.Button(words("page.older"), size="sm", visible=False, elem_id="older")
        self.outcomes.build()
        with gr.Accordion(words("history.session"), open=False):
            gr.HTML(f"<p>{words('history.session_help')}</p>")
            self.code = gr.Textbox(
                label=words("history.code"), max_length=128, elem_id="code", buttons=["copy"]
            )
            with gr.Row(elem_classes=["actions"]):
                reopen = gr.Button(words("history.reopen"), size="sm", elem_id="reopen")
            gr.HTML(f"<p>{words('history.erase_help')}</p>")
            sure = gr.Checkbox(label=words("history.erase_sure"), elem_id="erase-sure")
            erase = gr.Button(words("history.erase"), size="sm", variant="stop", elem_id="erase")
        self.saved = gr.JSON(visible=False)
        self._tie(refresh, as_csv, as_xlsx, reopen, sure, erase)

    @property
    def outputs(self) -> list[Any]:
        """Every component that a look at the history may change."""
        return [
            self.notice,
            self.code,
            self.chart,
            self.table,
            self.newer,
            self.older,
            *self.outcomes.outputs,
        ]

    def arrive(self, request: gr.Request) -> Updates:
        """Show the same page of the history in this language."""
        visit = self.visits.of(request)
        return self._shown(visit) if visit.history else {}

    @told
    def look(self, request: gr.Request) -> Updates:
        """Show the newest predictions."""
        visit = self.visits.of(request)
        visit.before = ()
        return self._load(visit)

    @told
    def go_older(self, request: gr.Request) -> Updates:
        """Turn to the predictions before those shown."""
        visit = self.visits.of(request)
        if visit.history:
            visit.before = (*visit.before, int(visit.history[-1]["id"]))
        return self._load(visit)

    @told
    def go_newer(self, request: gr.Request) -> Updates:
        """Turn back."""
        visit = self.visits.of(request)
        visit.before = visit.before[:-1]
        return self._load(visit)

    @told
    def reopen(self, request: gr.Request, code: str) -> Updates:
        """Go on with an earlier session, named by its code."""
        visit = self.visits.of(request)
        wanted = code.strip()
        if not wanted or not wanted.isascii() or not wanted.isprintable() or " " in wanted:
            return {self.notice: note("bad", self.words("history.bad_code"))}
        visit.code, visit.before = wanted, ()
        return self._load(visit) | {
            self.notice: note("good", self.words("history.reopened", code=wanted))
        }

    @told
    def erase(self, request: gr.Request, sure: bool) -> Updates:
        """Erase the session for good; an administrator's token is asked for."""
        visit = self.visits.of(request)
        if not sure:
            return {self.notice: note("bad", self.words("history.not_sure"))}
        if visit.admin is None:
            return {self.notice: note("bad", self.words("history.erase_admin"))}
        answer = self.api.call(
            "DELETE", "/history", token=visit.admin, params={"session_id": visit.code}
        )
        visit.before = ()
        said = self.words("history.erased", count=self.words.number(answer["erased"], 0))
        return self._load(visit) | {self.notice: note("good", said)}

    @told
    def record(self, request: gr.Request, prediction: str | None, grade: str, many: str) -> Updates:
        """Enter grades really obtained."""
        visit = self.visits.of(request)
        said = self.outcomes.record(visit, prediction, grade or "", many or "")
        return self._load(visit) | {self.outcomes.said: said}

    def save(self, request: gr.Request, kind: export.Kind) -> dict[str, str]:
        """Make a file of the whole session."""
        visit = self.visits.of(request)
        rows: list[dict[str, Any]] = []
        try:
            while len(rows) < _MOST_EXPORTED:
                page = self._page(visit, _EXPORT_PAGE, int(rows[-1]["id"]) if rows else None)
                rows += page
                if len(page) < _EXPORT_PAGE:
                    break
        except ApiError:
            # Half a history must not pass for a whole one.
            return {}
        words = self.words
        names = ("when", "reference", "grade", "probability", "verdict", "known", "version")
        titles = [words(f"history.{name}") for name in (*names, "actual")]
        return export.packed(
            kind,
            words("file.history"),
            [*titles, *FEATURE_NAMES],
            [_exported(words, row) for row in rows],
            decimal_comma=words.language == "fr",
        )

    def _page(self, visit: Visit, limit: int, before: int | None) -> list[dict[str, Any]]:
        params: dict[str, str | int] = {"limit": limit}
        if before is not None:
            params["before_id"] = before
        found: list[dict[str, Any]] = self.api.call(
            "GET", "/history", session=visit.code, params=params
        )
        return found

    def _load(self, visit: Visit) -> Updates:
        before = visit.before[-1] if visit.before else None
        visit.history = tuple(self._page(visit, PAGE + 1, before))
        return self._shown(visit)

    def _shown(self, visit: Visit) -> Updates:
        words = self.words
        rows = visit.history[:PAGE]
        more = len(visit.history) > PAGE
        visit.history = rows
        if not rows:
            empty = note("info", words("history.empty"))
            shown: Updates = {self.chart: "", self.table: empty}
        else:
            shown = {self.chart: _chart(words, rows), self.table: _table(words, rows)}
        return {
            **shown,
            self.code: visit.code,
            self.newer: gr.update(visible=bool(visit.before)),
            self.older: gr.update(visible=more),
            **self.outcomes.choices(rows),
        }

    def _tie(
        self, refresh: Any, as_csv: Any, as_xlsx: Any, reopen: Any, sure: Any, erase: Any
    ) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "outputs": self.outputs}
        refresh.click(self.look, api_name="history", **quiet)
        self.older.click(self.go_older, api_name="history_older", **quiet)
        self.newer.click(self.go_newer, api_name="history_newer", **quiet)
        reopen.click(self.reopen, inputs=[self.code], api_name="reopen", **quiet)
        erase.click(self.erase, inputs=[sure], api_name="erase", **quiet)
        self.outcomes.tie(self.record, self.outputs)

        def save_csv(request: gr.Request) -> dict[str, str]:
            return self.save(request, "csv")

        def save_xlsx(request: gr.Request) -> dict[str, str]:
            return self.save(request, "xlsx")

        for button, make in ((as_csv, save_csv), (as_xlsx, save_xlsx)):
            button.click(
                make, outputs=[self.saved], show_progress="hidden", api_visibility="private"
            ).then(None, inputs=[self.saved], js=export.SAVE, api_visibility="private")


def _chart(words: Words, rows: Sequence[Mapping[str, Any]]) -> str:
    points = [
        (
            words.moment(str(row["timestamp"])),
            float(row["predicted_G3"]),
            row["decision"] == PASSES,
            row["actual_G3"],
        )
        for row in reversed(rows)
    ]
    title = escape(words("history.chart"))
    return f"<figure>{over_time(words, points)}<figcaption>{title}</figcaption></figure>"


def _table(words: Words, rows: Sequence[Mapping[str, Any]]) -> str:
    names = ("number", "when", "reference", "grade", "probability", "verdict", "known", "actual")
    titles = [words(f"history.{name}") for name in names]
    return table(words, words("history.caption"), titles, [_row(words, row) for row in rows])


def _row(words: Words, row: Mapping[str, Any]) -> list[Cell]:
    passes = row["decision"] == PASSES
    actual = row["actual_G3"]
    return [
        f"#{row['id']}",
        when(words, str(row["timestamp"])),
        str(row.get("reference") or "—"),
        words.number(float(row["predicted_G3"])),
        words.percent(float(row["pass_probability"])),
        badge(words("rank.pass" if passes else "rank.fail"), "good" if passes else "low"),
        horizon_name(words, str(row["horizon"])),
        "—" if actual is None else words.number(float(actual)),
    ]


def _exported(words: Words, row: Mapping[str, Any]) -> list[Any]:
    return [
        str(row["timestamp"]),
        row.get("reference") or "",
        float(row["predicted_G3"]),
        float(row["pass_probability"]),
        words("rank.pass" if row["decision"] == PASSES else "rank.fail"),
        horizon_name(words, str(row["horizon"])),
        version_name(words, str(row["model_version"])),
        row["actual_G3"],
        *(row["inputs_json"].get(name) for name in FEATURE_NAMES),
    ]
