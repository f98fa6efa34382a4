"""The part of the history tab where grades really obtained are recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiClient, ApiError
from gradio_ui.html.class_list import explain
from gradio_ui.html.labels import estimate_text, scale_in_words
from gradio_ui.html.markup import note, paragraph
from gradio_ui.tabs.base import Updates
from gradio_ui.tabs.upload import Upload, uploaded_file
from gradio_ui.texts import Texts
from gradio_ui.visitor_state import Visit
from student_success.domain.students import ACTUAL, PREDICTED
from student_success.domain.tables.cells import parse_final_grade
from student_success.domain.tables.outcomes import read_outcomes
from student_success.domain.tables.problems import Problem, TableError

_MAX_LINES = 1000
_MAX_MESSAGES = 20


class OutcomeForm:
    """Fields for one outcome or a whole list; created inside `gr.Blocks`.

    Attributes
    ----------
    inputs
        The fields, in the order of the parameters of `record`.
    upload
        The area for a file, which `record_file` reads.
    outputs
        What changes with the page of the history.
    """

    def __init__(self, texts: Texts, api: ApiClient, *, megabytes: int) -> None:
        self._texts, self._api = texts, api
        self._scale = scale_in_words(texts)
        self._megabytes = megabytes
        with gr.Accordion(texts("outcome.title"), open=False, elem_classes=["fold"]):
            gr.HTML(paragraph(texts("outcome.lead")))
            with gr.Row(elem_classes=["fields"]):
                self._prediction: Any = gr.Dropdown(
                    [],
                    label=texts("outcome.prediction"),
                    elem_id="outcome-prediction",
                    elem_classes=["field"],
                )
                grade = gr.Textbox(
                    label=texts("outcome.grade", scale=self._scale),
                    max_length=8,
                    elem_id="outcome-grade",
                )
            with gr.Row(elem_classes=["fields"]):
                lines = gr.Textbox(
                    label=texts("outcome.many"),
                    info=texts("outcome.many_help"),
                    lines=4,
                    max_lines=12,
                    elem_id="outcome-many",
                )
                self.reason: Any = gr.Textbox(
                    label=texts("outcome.reason"),
                    info=texts("outcome.reason_help"),
                    max_length=500,
                    elem_id="outcome-reason",
                )
            self.save: Any = gr.Button(
                texts("outcome.save"), variant="primary", elem_id="outcome-save"
            )
            self.upload = Upload(
                texts, "outcome", "outcome.upload", "outcome.limits", megabytes=megabytes
            )
        self.inputs = [self._prediction, grade, lines, self.reason]
        self.outputs = [self._prediction, self.reason]

    def offer(self, rows: Sequence[Mapping[str, Any]]) -> Updates:
        """Offer the predictions shown that have no outcome yet."""
        choices = [
            (
                f"#{row['id']} · {row['reference'] or '—'} · "
                f"{estimate_text(self._texts, float(row[PREDICTED]))} · "
                f"{self._texts.timestamp(str(row['timestamp']))}",
                str(row["prediction_id"]),
            )
            for row in rows
            if row[ACTUAL] is None
        ]
        # The reason of one correction must not replace grades that are saved later.
        return {
            self._prediction: gr.update(choices=choices, value=None),
            self.reason: gr.update(value=""),
        }

    def record(
        self, visit: Visit, prediction_id: str | None, grade: str, lines: str, reason: str
    ) -> str:
        """Send what was entered, unless a part of it is invalid; return the result in words.

        Parameters
        ----------
        reason
            Of a correction, which replaces recorded grades; "" for none.
        """
        texts = self._texts
        outcomes: list[dict[str, Any]] = []
        names: list[str] = []
        problems: list[str] = []
        if prediction_id or grade.strip():
            value = parse_final_grade(grade.strip())
            if prediction_id and value is not None:
                outcomes.append({"prediction_id": prediction_id, ACTUAL: value})
                names.append(texts("outcome.the_one"))
            else:
                problems.append(texts("outcome.bad_one", scale=self._scale))
        for number, line in enumerate(lines.splitlines()[:_MAX_LINES], 1):
            if not line.strip():
                continue
            reference, value = _parse_line(line)
            if reference and value is not None:
                outcomes.append({"session_id": visit.code, "reference": reference, ACTUAL: value})
                names.append(reference)
            else:
                problems.append(texts("outcome.bad_line", number=number, scale=self._scale))
        if problems:
            problems = [texts("outcome.nothing_saved"), *problems[:_MAX_MESSAGES]]
            return note("bad", " ".join(problems))
        if not outcomes:
            return note("bad", texts("outcome.nothing"))
        return self._send(visit, outcomes, names, reason)

    def record_file(self, visit: Visit, upload: Any, may_open: Callable[[str], bool]) -> str:
        """Send the grades of an uploaded file; return what became of each row in words.

        A file never corrects recorded grades: it is sent as soon as it is dropped.

        Parameters
        ----------
        may_open
            Tells whether the reader may use a session that the file names.
        """
        texts = self._texts
        try:
            data = uploaded_file(upload, limit=self._megabytes << 20)
            found = read_outcomes(data, session=visit.code)
        except TableError as error:
            return note("bad", explain(texts, error.problem))
        outcomes: list[dict[str, Any]] = []
        names: list[str] = []
        problems = [self._in_words(problem) for problem in found.invalid]
        for line, outcome in found.outcomes:
            session, place = outcome.session_id, texts("outcome.line", number=line)
            if session in (None, visit.code) or visit.admin_token or may_open(str(session)):
                outcomes.append(outcome.model_dump(exclude_defaults=True))
                names.append(place)
            else:
                why = texts("history.foreign_code").rstrip(".")
                problems.append(texts("explain.set", name=place, value=why))
        html = self._send(visit, outcomes, names, "") if outcomes else ""
        if problems:
            who = texts.listed(problems[:_MAX_MESSAGES])
            html += note("warn", texts("outcome.rejected", count=len(problems), who=who))
        if found.without_grade:
            html += note("info", texts("outcome.without_grade", count=found.without_grade))
        return html

    def _in_words(self, problem: Problem) -> str:
        texts = self._texts
        place = [] if problem.line is None else [texts("outcome.line", number=problem.line)]
        place += [problem.column] if problem.column else []
        why = explain(texts, problem).rstrip(".")
        return texts("explain.set", name=", ".join(place), value=why)

    def _send(
        self,
        visit: Visit,
        outcomes: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        reason: str,
    ) -> str:
        """Send outcomes; return what became of them in words."""
        texts = self._texts
        if reason.strip():
            correction = {"correct": True, "reason": reason.strip()}
            outcomes = [{**outcome, **correction} for outcome in outcomes]
        # The API token is enough if the interface has one; otherwise the admin token is required.
        try:
            answer = self._api.call(
                "POST", "/outcomes", body={"outcomes": outcomes}, token=visit.admin_token
            )
        except ApiError as error:
            if error.status == 401 and visit.admin_token is None:
                return note("bad", texts("outcome.admin"))
            raise
        return self._result(answer, names)

    def _result(self, answer: Mapping[str, Any], names: Sequence[str]) -> str:
        texts, rejected = self._texts, answer["rejected"]
        html = ""
        if answer["accepted"]:
            html = note("good", texts("outcome.accepted", count=answer["accepted"]))
        if rejected:
            reasons = texts.listed(
                texts(
                    "explain.set",
                    name=names[entry["index"]],
                    value=texts("outcome." + entry["error"]),
                )
                for entry in rejected[:_MAX_MESSAGES]
            )
            html += note("warn", texts("outcome.rejected", count=len(rejected), who=reasons))
        return html


def _parse_line(line: str) -> tuple[str, float | int | None]:
    """Read a reference and a grade; a comma within the last word is a decimal comma."""
    for separator in (";", "\t", " ", ","):
        reference, found, grade = line.strip().rpartition(separator)
        if found:
            return reference.rstrip(" ,"), parse_final_grade(grade.strip())
    return "", None
