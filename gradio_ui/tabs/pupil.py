"""The tab for one pupil: the form, the prediction, its reasons, and "what if" sliders."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.html import explanation, result
from gradio_ui.tabs.base import Tab, Updates, add_part, report_errors, small_button
from gradio_ui.tabs.pupil_form import GRADES, KNOWN, PupilForm, read_form
from gradio_ui.visitor_state import Visit
from student_success.domain.tabular import feature_of

WHAT_IF = ("studytime", "goout", "freetime", "absences")
"""Features that a pupil can change; each has a slider."""
_MAX_ABSENCES_SHOWN = 60
"""Upper end of the slider, because few pupils are absent more often."""

SHOW_RESULT_SCRIPT = """
() => {
  const bad = document.querySelector(".field.bad input");
  if (bad) { bad.focus(); bad.scrollIntoView({ block: "center" }); }
  else if (window.innerWidth < 900) {
    document.getElementById("answer").scrollIntoView({ block: "start" });
  }
}
"""
"""Scrolls to the first invalid field, or to the prediction if it is off the screen."""


class PupilTab(Tab):
    """Predict one pupil."""

    def build(self) -> None:
        """Create the components and bind their events."""
        texts = self.texts
        with gr.Row(elem_classes=["two"]):
            with gr.Column(scale=3, elem_classes=["left"]):
                self.add_lead("pupil.lead")
                with gr.Row(elem_classes=["actions"]):
                    example = small_button(texts("pupil.example"), "example")
                    clear = small_button(texts("pupil.empty"), "empty")
                form = self.form = PupilForm(texts)
                start = gr.Button(texts("pupil.predict"), variant="primary", elem_id="predict")
            with gr.Column(scale=2, elem_classes=["right"], elem_id="answer"):
                self.add_notice()
                self.prediction = gr.HTML(result.no_prediction_yet(texts))
                self.reasons = gr.HTML("")
                with gr.Column(visible=False, elem_classes=["whatif"]) as self.what_if:
                    add_part(texts("explain.what_if"), texts("explain.what_if_help"))
                    self.sliders = {name: self._slider(name) for name in WHAT_IF}
                    self.changed = gr.HTML("")

        sliders = list(self.sliders.values())
        explained = [self.notice, self.reasons, self.what_if, self.changed, *sliders]
        self.outputs = [self.prediction, *form.inputs, *explained]
        known = form.fields[KNOWN]
        self.bind(known.input, form.show_grades, [known], [form.fields[name] for name in GRADES])
        self.bind(example.click, form.example, outputs=form.inputs, name="example")
        self.bind(clear.click, form.clear, outputs=form.inputs, name="empty")
        text_fields = [field for field in form.inputs if isinstance(field, gr.Textbox)]
        predicted = gr.on(
            [start.click, *(field.submit for field in text_fields)],
            self.predict,
            inputs=form.inputs,
            outputs=[self.notice, self.prediction, self.reasons, self.what_if, *form.inputs],
            show_progress="hidden",
            api_name="predict",
        ).then(None, js=SHOW_RESULT_SCRIPT, api_visibility="private")
        self.bind(predicted.then, self.explain, outputs=explained, name="explain")
        for slider in sliders:
            shown = [self.notice, self.changed]
            self.bind(slider.input, self.imagine, sliders, shown, trigger_mode="always_last")

    def restore(self, request: gr.Request) -> Updates:
        """Show the pupil again in this language."""
        visit = self.visits.of(request)
        updates = self.form.fill(visit.form) if visit.form else {}
        if visit.prediction is not None and visit.pupil is not None:
            card = result.prediction_card(self.texts, visit.pupil, visit.prediction)
            updates[self.prediction] = card
        if visit.explanation is not None:
            updates |= self._explained(visit)
        return updates

    def keep_form(self, request: gr.Request, *inputs: Any) -> None:
        """Keep the content of the form for the page in the other language."""
        self.visits.of(request).form = self.form.values(inputs)

    @report_errors
    def predict(self, request: gr.Request, *inputs: Any) -> Updates:
        """Check the form, ask the API, and show the prediction."""
        visit = self.visits.of(request)
        body, invalid = read_form(self.texts, self.form.values(inputs))
        updates = self.form.mark(invalid, visit.invalid_fields)
        visit.invalid_fields = frozenset(invalid)
        updates |= {self.what_if: gr.update(visible=False), self.reasons: ""}
        visit.pupil = visit.prediction = visit.explanation = None
        if invalid:
            return {**updates, self.prediction: result.invalid_fields(self.texts, len(invalid))}
        try:
            prediction = self.api.call("POST", "/predict", body=body, session=visit.code)
        except Exception as error:
            message = self.describe_error(error)
            waiting = result.no_prediction_yet(self.texts)
            return {**updates, self.prediction: waiting, self.notice: message}
        visit.pupil, visit.prediction = body, prediction
        return {**updates, self.prediction: result.prediction_card(self.texts, body, prediction)}

    @report_errors
    def explain(self, request: gr.Request) -> Updates:
        """Show the reasons and the sliders."""
        visit = self.visits.of(request)
        if visit.pupil is None:
            return {self.reasons: "", self.notice: gr.skip()}
        visit.explanation = self.api.call("POST", "/explain", body=visit.pupil)
        return self._explained(visit)

    @report_errors
    def imagine(self, request: gr.Request, *inputs: Any) -> Updates:
        """Predict the same pupil with the values of the sliders."""
        visit = self.visits.of(request)
        if visit.pupil is None or visit.prediction is None:
            return {self.changed: ""}
        values = {name: int(value) for name, value in zip(self.sliders, inputs, strict=True)}
        after = self.api.call("POST", "/explain", body=visit.pupil | values)
        return {self.changed: explanation.what_if_result(self.texts, visit.prediction, after)}

    def _explained(self, visit: Visit) -> Updates:
        assert visit.explanation is not None
        assert visit.pupil is not None
        updates: Updates = {
            self.reasons: explanation.reasons(self.texts, visit.explanation),
            self.what_if: gr.update(visible=True),
            self.changed: "",
        }
        for name, slider in self.sliders.items():
            value = int(visit.pupil[name])
            updates[slider] = gr.update(value=value, maximum=max(value, _slider_end(name)))
        return updates

    def _slider(self, name: str) -> Any:
        feature = feature_of(name)
        return gr.Slider(
            int(feature.low or 0),
            _slider_end(name),
            step=1,
            label=self.texts.choose(feature.about.label),
            info=self.texts.choose(feature.about.help),
            buttons=[],
            elem_id=f"what-if-{name}",
        )


def _slider_end(name: str) -> int:
    return min(int(feature_of(name).high or 0), _MAX_ABSENCES_SHOWN)
