"""The tab for one pupil: the form, and the estimate beside it."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from gradio_ui.html import result
from gradio_ui.tabs.answer import PupilAnswer
from gradio_ui.tabs.base import Tab, Updates, report_errors, reveal, small_button
from gradio_ui.tabs.pupil_form import KNOWN, PupilForm, read_form
from gradio_ui.visitor_state import ShownPupil
from student_success.domain.students import PERIODS


class PupilTab(Tab):
    """Predict one pupil."""

    def build(self) -> None:
        """Create the components and bind their events."""
        texts = self.texts
        with gr.Row(elem_classes=["two"]):
            with gr.Column(scale=3, elem_classes=["left"], elem_id="form"):
                self.add_lead("pupil.lead")
                with gr.Row(elem_classes=["actions"]):
                    example = small_button(texts("pupil.example"), "example")
                    clear = small_button(texts("pupil.empty"), "empty")
                form = self.form = PupilForm(texts)
                with gr.Row(elem_classes=["bar"]):
                    start = gr.Button(texts("pupil.predict"), variant="primary", elem_id="predict")
            with gr.Column(scale=2, elem_classes=["side"], elem_id="answer"):
                self.add_notice()
                self.answer = PupilAnswer(texts, self.api, "pupil")

        self.outputs = [self.notice, *form.inputs, *self.answer.outputs]
        if known := form.fields.get(KNOWN):
            grades = [form.fields[name] for name in PERIODS]
            self.bind(known.input, form.show_grades, [known], grades)
        self._bind_filling(clear, self.clear, self.outputs, "empty")
        text_fields = [field for field in form.inputs if isinstance(field, gr.Textbox)]
        submits = [start.click, *(field.submit for field in text_fields)]
        self._bind_prediction(partial(gr.on, submits), "predict", "explain")
        # The names go to what is bound first.
        filled = self._bind_filling(example, form.example, form.inputs, "example")
        self._bind_prediction(filled.then)
        # The page itself notices what is typed, pasted or ticked; a list tells only Gradio.
        lists = [field.input for field in form.inputs if isinstance(field, gr.Dropdown)]
        gr.on(lists, None, js="() => window.studentSuccess.outdate()", api_visibility="private")
        self.answer.bind(self, self.imagine)

    def _bind_filling(self, button: Any, callback: Any, outputs: list[Any], name: str) -> Any:
        """Let a button put values into the form, which takes no others meanwhile."""
        hold, release = (f"() => window.studentSuccess.hold({held})" for held in ("true", "false"))
        filled = self.bind(button.click, callback, (), outputs, name, js=hold)
        filled.then(None, js=release, api_visibility="private")
        return filled

    def _bind_prediction(
        self, event: Any, name: str | None = None, explain: str | None = None
    ) -> None:
        predicted = self.bind(event, self.predict, self.form.inputs, name=name)
        shown = reveal(predicted, "answer")
        outputs = [self.notice, *self.answer.outputs]
        self.bind(shown.then, self.explain, outputs=outputs, name=explain)

    def restore(self, request: gr.Request) -> Updates:
        """Show again what stood in the form, and the pupil beside it."""
        visit = self.visits.of(request)
        kept = self.form.read_kept(visit.form)
        updates = self.form.fill(kept) if visit.form else {}
        if visit.pupil is not None:
            body, _ = read_form(self.texts, kept)
            updates |= self.answer.show(visit.pupil, outdated=body != visit.pupil.body)
        return updates

    @report_errors
    def clear(self, request: gr.Request) -> Updates:
        """Empty the form, and show no pupil."""
        visit = self.visits.of(request)
        updates = self.form.clear(visit.invalid_fields)
        visit.invalid_fields, visit.pupil = frozenset(), None
        return updates | self.answer.clear()

    @report_errors
    def predict(self, request: gr.Request, *inputs: Any) -> Updates:
        """Check the form, ask the API, and show the prediction."""
        visit = self.visits.of(request)
        body, invalid = read_form(self.texts, self.form.values(inputs))
        updates = self.form.mark(invalid, visit.invalid_fields)
        visit.invalid_fields, visit.pupil = frozenset(invalid), None
        if invalid:
            return updates | self.answer.clear(result.invalid_fields(self.texts, len(invalid)))
        try:
            prediction = self.api.call("POST", "/predict", body=body, session=visit.code)
        except Exception as error:
            return updates | self.answer.clear() | {self.notice: self.describe_error(error)}
        visit.pupil = ShownPupil(body, prediction)
        return updates | self.answer.show(visit.pupil)

    @report_errors
    def explain(self, request: gr.Request) -> Updates:
        """Show the reasons and the controls."""
        shown = self.visits.of(request).pupil
        if shown is None:
            return {self.notice: gr.skip()}
        self.answer.explain(shown)
        return self.answer.show(shown)

    @report_errors
    def imagine(self, request: gr.Request, *inputs: Any) -> Updates:
        """Predict the same pupil with the values of the controls."""
        shown = self.visits.of(request).pupil
        return {self.answer.changed: ""} if shown is None else self.answer.imagine(shown, inputs)
