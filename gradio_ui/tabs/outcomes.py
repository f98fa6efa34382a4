"""Grades really obtained: one by one or a list, where the API offers `/outcomes`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiError
from gradio_ui.html.markup import note
from gradio_ui.tabs.base import House, Updates
from gradio_ui.visitor_state import Visit

_MOST = 1000
_SHOWN = 20


class OutcomeForm:
    """The part of the history tab where grades are entered."""

    def __init__(self, house: House) -> None:
        self._words, self._api = house.words, house.api
        self.box: Any = None
        self.prediction: Any = None
        self.grade: Any = None
        self.many: Any = None
        self.said: Any = None
        self._save: Any = None

    def build(self) -> None:
        """Lay out the fields."""
        words = self._words
        with gr.Accordion(words("outcome.title"), open=False, visible=False) as self.box:
            gr.HTML(f"<p>{words('outcome.lead')}</p>")
            with gr.Row(elem_classes=["fields"]):
                self.prediction = gr.Dropdown(
                    [], label=words("outcome.prediction"), elem_id="outcome-prediction"
                )
                self.grade = gr.Textbox(
                    label=words("outcome.grade"), max_length=4, elem_id="outcome-grade"
                )
            self.many = gr.Textbox(
                label=words("outcome.many"),
                info=words("outcome.many_help"),
                lines=4,
                max_lines=12,
                elem_id="outcome-many",
            )
            self._save = gr.Button(words("outcome.save"), variant="primary", elem_id="outcome-save")
            self.said = gr.HTML("")

    @property
    def outputs(self) -> list[Any]:
        """The components that change with the history shown."""
        return [self.box, self.prediction, self.said]

    def tie(self, record: Callable[..., Updates], outputs: list[Any]) -> None:
        """Tie the button to the room's callback."""
        self._save.click(
            record,
            inputs=[self.prediction, self.grade, self.many],
            outputs=outputs,
            show_progress="hidden",
            api_name="outcomes",
        )

    def choices(self, rows: Sequence[Mapping[str, Any]]) -> Updates:
        """Offer the predictions shown that have no outcome yet."""
        words = self._words
        open_ones = [
            (
                f"#{row['id']} · {row.get('reference') or '—'} · "
                f"{words.number(float(row['predicted_G3']))} · "
                f"{words.moment(str(row['timestamp']))}",
                str(row["prediction_id"]),
            )
            for row in rows
            if row["actual_G3"] is None
        ]
        return {
            self.box: gr.update(visible=self._api.offers("POST", "/outcomes")),
            self.prediction: gr.update(choices=open_ones, value=None),
            self.said: "",
        }

    def record(self, visit: Visit, prediction: str | None, grade: str, many: str) -> str:
        """Send what was entered; return what came of it, in words."""
        words = self._words
        outcomes: list[dict[str, Any]] = []
        named: list[str] = []
        wrong: list[str] = []
        if prediction or grade.strip():
            value = _grade(grade)
            if prediction and value is not None:
                outcomes.append({"prediction_id": prediction, "actual_G3": value})
                named.append(words("outcome.the_one"))
            else:
                wrong.append(words("outcome.bad_one"))
        for number, line in enumerate(many.splitlines()[:_MOST], 1):
            if not line.strip():
                continue
            reference, value = _line(line)
            if reference and value is not None:
                outcomes.append(
                    {"session_id": visit.code, "reference": reference, "actual_G3": value}
                )
                named.append(reference)
            else:
                wrong.append(words("outcome.bad_line", number=number))
        if wrong:
            return note("bad", " ".join(wrong[:_SHOWN]))
        if not outcomes:
            return note("bad", words("outcome.nothing"))
        # The interface's own token is enough where it has one; else an administrator's is needed.
        try:
            answer = self._api.call(
                "POST", "/outcomes", body={"outcomes": outcomes}, token=visit.admin
            )
        except ApiError as error:
            if error.status == 401 and visit.admin is None:
                return note("bad", words("outcome.admin"))
            raise
        return self._said(answer, named)

    def _said(self, answer: Mapping[str, Any], named: Sequence[str]) -> str:
        words = self._words
        rejected = list(answer.get("rejected", ()))
        html = ""
        if answer["accepted"]:
            html = note("good", words("outcome.accepted", count=answer["accepted"]))
        if rejected:
            who = "; ".join(self._refusal(one, named) for one in rejected[:_SHOWN])
            html += note("warn", words("outcome.rejected", count=len(rejected), who=who))
        return html

    def _refusal(self, one: Mapping[str, Any], named: Sequence[str]) -> str:
        key = f"outcome.{one.get('error')}"
        why = self._words(key if self._words.has(key) else "outcome.other")
        return f"{named[int(one['index'])]}: {why}"


def _grade(text: str) -> int | None:
    """Read a whole grade from 0 to 20."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value <= 20 else None


def _line(line: str) -> tuple[str, int | None]:
    for mark in (";", "\t", ",", " "):
        reference, found, grade = line.strip().rpartition(mark)
        if found:
            return reference.strip(), _grade(grade)
    return "", None
