"""The tab for one pupil: the form on one side, the answer on the other."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.html import explanation, result
from gradio_ui.tabs.base import House, Room, Updates, told
from gradio_ui.tabs.pupil_form import GRADES, KNOWN, SHOW_GRADES, Form
from gradio_ui.visitor_state import Visit
from student_success.domain.students import FEATURES

WHAT_IF = ("studytime", "goout", "freetime", "absences")
"""What a pupil can change, each on a slider."""
_MOST_ABSENCES = 60

LOOK = """
() => {
  const bad = document.querySelector(".field.bad input");
  if (bad) { bad.focus(); bad.scrollIntoView({ block: "center" }); }
  else if (window.innerWidth < 900) {
    document.getElementById("answer").scrollIntoView({ block: "start" });
  }
}
"""
"""Leads the eye to the first bad field, or to the answer where it is off the screen."""


class PupilRoom(Room):
    """Predict one pupil."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.form = Form(house.words)
        self.answer: Any = None
        self.reasons: Any = None
        self.what_if: Any = None
        self.changed: Any = None
        self.sliders: dict[str, Any] = {}

    def build(self) -> None:
        """Lay out form and answer, and tie them together."""
        words = self.words
        with gr.Row(elem_classes=["two"]):
            with gr.Column(scale=3, elem_classes=["left"]):
                gr.HTML(f"<p class='lead'>{words('pupil.lead')}</p>")
                with gr.Row(elem_classes=["actions"]):
                    example = gr.Button(words("pupil.example"), size="sm", elem_id="example")
                    empty = gr.Button(words("pupil.empty"), size="sm", elem_id="empty")
                self.form.build()
                go = gr.Button(words("pupil.predict"), variant="primary", elem_id="predict")
            with gr.Column(scale=2, elem_classes=["right"], elem_id="answer"):
                self.build_notice()
                self.answer = gr.HTML(result.waiting(words))
                self.reasons = gr.HTML("")
                self._build_what_if()
        self._tie(example, empty, go)

    @property
    def outputs(self) -> list[Any]:
        """Every component `arrive` may change."""
        return [
            self.notice,
            self.answer,
            self.reasons,
            self.what_if,
            self.changed,
            *self.form.inputs,
            *self.sliders.values(),
        ]

    def arrive(self, request: gr.Request) -> Updates:
        """Show the pupil again in this language."""
        visit = self.visits.of(request)
        updates = self.form.fill(visit.form) if visit.form else {}
        if visit.answer is not None and visit.pupil is not None:
            updates[self.answer] = result.card(self.words, visit.pupil, visit.answer)
        if visit.explanation is not None:
            updates |= self._explained(visit)
        return updates

    def leave(self, request: gr.Request, *given: Any) -> None:
        """Keep what is in the form for the page in the other language."""
        self.visits.of(request).form = self.form.values(given)

    @told
    def predict(self, request: gr.Request, *given: Any) -> Updates:
        """Check the form, ask the API, show the answer."""
        visit = self.visits.of(request)
        body, bad = self.form.read(self.form.values(given))
        updates = self.form.mark(bad, visit.marked)
        visit.marked = frozenset(bad)
        updates[self.what_if] = gr.update(visible=False)
        updates[self.reasons] = ""
        visit.pupil = visit.answer = visit.explanation = None
        if bad:
            fields = result.to_correct(self.words, len(bad))
            return {**updates, self.answer: fields}
        updates[self.answer] = result.waiting(self.words)
        try:
            answer = self.api.call("POST", "/predict", body=body, session=visit.code)
        except Exception as error:
            return {**updates, self.notice: self.failed(error)}
        visit.pupil, visit.answer = body, answer
        return {**updates, self.answer: result.card(self.words, body, answer)}

    @told
    def explain(self, request: gr.Request) -> Updates:
        """Add the reasons, where the API offers them."""
        visit = self.visits.of(request)
        if visit.pupil is None or not self.api.offers("POST", "/explain"):
            return {self.reasons: "", self.notice: gr.skip()}
        visit.explanation = self._ask(visit.pupil)
        return self._explained(visit)

    @told
    def imagine(self, request: gr.Request, *given: Any) -> Updates:
        """Answer the sliders: the same pupil, but for what they say."""
        visit = self.visits.of(request)
        if visit.pupil is None or visit.answer is None:
            return {self.changed: ""}
        pupil = visit.pupil | {
            name: int(value) for name, value in zip(self.sliders, given, strict=True)
        }
        after = self._ask(pupil)
        return {self.changed: explanation.changed(self.words, visit.answer, after, pupil)}

    def _ask(self, pupil: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.api.call("POST", "/explain", body=pupil)
        return found

    def _explained(self, visit: Visit) -> Updates:
        assert visit.explanation is not None
        assert visit.pupil is not None
        updates: Updates = {
            self.reasons: explanation.reasons(self.words, visit.explanation),
            self.what_if: gr.update(visible=True),
            self.changed: "",
        }
        for name, slider in self.sliders.items():
            value = int(visit.pupil[name])
            updates[slider] = gr.update(value=value, maximum=max(value, _most(name)))
        return updates

    def _build_what_if(self) -> None:
        words = self.words
        with gr.Column(visible=False, elem_classes=["whatif"]) as self.what_if:
            gr.HTML(f"<h2>{words('explain.what_if')}</h2><p>{words('explain.what_if_help')}</p>")
            for feature in FEATURES:
                if feature.name in WHAT_IF:
                    self.sliders[feature.name] = gr.Slider(
                        int(feature.low or 0),
                        _most(feature.name),
                        step=1,
                        label=words.of(feature.about.label),
                        info=words.of(feature.about.help),
                        buttons=[],
                        elem_id=f"what-if-{feature.name}",
                    )
            self.changed = gr.HTML("")

    def _tie(self, example: Any, empty: Any, go: Any) -> None:
        form = self.form
        form.fields[KNOWN].change(
            None,
            inputs=[form.fields[KNOWN]],
            outputs=[form.fields[name] for name in GRADES],
            js=SHOW_GRADES,
            api_visibility="private",
        )
        for button, values, name in (
            (example, form.example, "example"),
            (empty, form.empty, "empty"),
        ):
            button.click(values, outputs=form.inputs, show_progress="hidden", api_name=name)
        texts = [field for field in form.inputs if isinstance(field, gr.Textbox)]
        asked = gr.on(
            [go.click, *(field.submit for field in texts)],
            self.predict,
            inputs=form.inputs,
            outputs=[self.notice, self.answer, self.reasons, self.what_if, *form.inputs],
            show_progress="hidden",
            api_name="predict",
        )
        asked.then(None, js=LOOK, api_visibility="private").then(
            self.explain,
            outputs=[
                self.notice,
                self.reasons,
                self.what_if,
                self.changed,
                *self.sliders.values(),
            ],
            show_progress="hidden",
            api_name="explain",
        )
        for slider in self.sliders.values():
            slider.input(
                self.imagine,
                inputs=list(self.sliders.values()),
                outputs=[self.notice, self.changed],
                show_progress="hidden",
                trigger_mode="always_last",
                api_visibility="private",
            )


def _most(name: str) -> int:
    """Return where a slider ends: few pupils are absent all year."""
    high = next(feature.high for feature in FEATURES if feature.name == name)
    return min(int(high or 0), _MOST_ABSENCES)
