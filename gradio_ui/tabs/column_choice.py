"""The part of the class tab where a reader says what a file holds, when that is not certain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from gradio_ui.html.markup import table
from gradio_ui.tabs.base import Updates, small_button
from gradio_ui.texts import Texts
from student_success.domain.students import FEATURES, PERIODS
from student_success.domain.tables.columns import REFERENCE, Choices
from student_success.domain.tables.problems import TableError
from student_success.domain.tables.pupils import PupilList
from student_success.domain.tables.text import ENCODINGS

_LEFT_OUT = "-"
_COLUMN_CODES = {"no_column", "shared", "twice", "unknown_title", "read_as", "names_left_out"}
_ENCODING_CODES = {"encoding", "not_in_encoding", "mixed_encodings"}


class ColumnChoice:
    """Fields for sheet, encoding and columns; created inside `gr.Blocks`.

    Attributes
    ----------
    inputs
        The fields, in the order of the parameters of `choices`.
    outputs
        What `offer` changes.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        holds = [(texts("columns.reference"), REFERENCE)]
        holds += [(texts.choose(feature.about.label), feature.name) for feature in FEATURES]
        holds += [(texts("columns.left_out"), _LEFT_OUT)]
        with gr.Column(visible=False, elem_id="columns", elem_classes=["group"]) as self._box:
            with gr.Row(elem_classes=["fields"]):
                self._sheet = self._dropdown("sheet")
                self._encoding = self._dropdown(
                    "encoding",
                    [(texts("columns.automatic"), ""), *((name, name) for name in ENCODINGS)],
                )
                self._title = self._dropdown("title")
                self._holds = self._dropdown("holds", holds)
            self._without: Any = gr.Checkbox(
                label=texts("columns.without_grades"), elem_id="without-grades"
            )
            with gr.Row(elem_classes=["actions"]):
                self.apply: Any = small_button(texts("columns.apply"), "read-again")
            self._preview: Any = gr.HTML("")
        self.inputs = [self._sheet, self._encoding, self._title, self._holds, self._without]
        self.outputs = [self._box, self._preview, *self.inputs]

    def offer(self, result: PupilList | TableError, choices: Choices) -> Updates:
        """Show the fields that can change how this file is read; none if nothing is uncertain."""
        sheets: Sequence[str] = ()
        titles: Sequence[str] = ()
        title = holds = None
        preview, codes = "", set()
        if isinstance(result, TableError):
            sheets, codes = result.sheets, {result.problem.code} & _ENCODING_CODES
        else:
            found = {problem.code for problem in (*result.invalid, *result.notes)}
            codes = found & _COLUMN_CODES
            codes |= {question.code for question in result.questions}
            if codes or choices != Choices():
                titles = [title for title in result.titles if title]
                preview = self._first_rows(result)
                title, holds = _suggested(result)
        uncertain = bool(codes or sheets or titles)
        encoding_matters = bool(codes & (_ENCODING_CODES | {"read_as"}) or choices.encoding)
        return {
            self._box: gr.update(visible=uncertain),
            self._preview: preview,
            self._sheet: gr.update(choices=list(sheets), value=None, visible=bool(sheets)),
            self._encoding: gr.update(value=choices.encoding or "", visible=encoding_matters),
            self._title: gr.update(choices=list(titles), value=title, visible=bool(titles)),
            self._holds: gr.update(value=holds, visible=bool(titles)),
            self._without: gr.update(value=choices.without_grades, visible=bool(titles)),
        }

    def choices(
        self,
        before: Choices,
        sheet: str | None,
        encoding: str | None,
        title: str | None,
        holds: str | None,
        without: bool,
    ) -> Choices:
        """Return the choices of before with what the fields say now."""
        columns = dict(before.columns)
        if title and holds:
            name = "" if holds == _LEFT_OUT else holds
            columns = {old: held for old, held in columns.items() if not name or held != name}
            columns[title] = name
        return replace(
            before,
            columns=columns,
            sheet=sheet or before.sheet,
            encoding=encoding or None,
            without_grades=bool(without),
        )

    def _dropdown(self, name: str, choices: Sequence[tuple[str, str]] = ()) -> Any:
        return gr.Dropdown(
            list(choices),
            label=self._texts(f"columns.{name}"),
            value=None,
            filterable=False,
            visible=False,
            elem_id=f"columns-{name}",
            elem_classes=["field"],
        )

    def _first_rows(self, result: PupilList) -> str:
        width = len(result.titles)
        rows = [[*cells, *[""] * width][:width] for cells in result.first]
        return table(self._texts, self._texts("columns.caption"), list(result.titles), rows)


def _suggested(result: PupilList) -> tuple[str | None, str | None]:
    """Return the first column that seems to hold grades, and the period that its title numbers."""
    asked = [q.values["columns"] for q in result.questions if q.code == "grades_left_out"]
    shown = ", ".join(map(str, asked)).split(", ")
    title = next((title for title in result.titles if title and title in shown), None)
    number = re.search(r"\d+", title or "")
    numbered = {str(n): name for n, name in enumerate(PERIODS, start=1)}
    return title, numbered.get(number[0]) if number else None
