"""The estimate of one pupil with its reasons and "what if" controls, on two tabs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from gradio_ui.api_client import ApiClient
from gradio_ui.html import explanation as html
from gradio_ui.html import result
from gradio_ui.html.labels import help_text
from gradio_ui.tabs.base import Tab, Updates, add_part
from gradio_ui.texts import Texts
from gradio_ui.visitor_state import ShownPupil
from student_success.domain.students import FEATURES, Feature

WHAT_IF = tuple(feature for feature in FEATURES if feature.change is not None)
"""What a pupil, a family or the school can change; each has a control."""
_LONG_TAIL = 60
"""Length of the slider of a count with a long tail: few pupils are absent more often."""


class PupilAnswer:
    """The components in reading order; created inside `gr.Blocks`.

    Parameters
    ----------
    name
        Makes the element ids unique among the tabs.

    Attributes
    ----------
    outputs
        Every component that `show` and `imagine` may change.
    """

    def __init__(self, texts: Texts, api: ApiClient, name: str) -> None:
        self._texts, self._api = texts, api
        gr.HTML(result.outdated_mark(texts), elem_classes=["mark"])
        self.card: Any = gr.HTML(result.no_prediction_yet(texts), elem_classes=["fades"])
        self.reasons: Any = gr.HTML("", elem_classes=["fades"])
        with gr.Column(visible=False, elem_classes=["whatif", "fades"]) as self.what_if:
            add_part(texts("explain.what_if"), texts("explain.what_if_help"))
            self.changed: Any = gr.HTML("", elem_classes=["changes"])
            self.controls = {
                feature.name: self._control(feature, f"{name}-{feature.name}")
                for feature in WHAT_IF
            }
        self.inputs = list(self.controls.values())
        self.outputs = [self.card, self.reasons, self.what_if, self.changed, *self.inputs]

    def bind(self, tab: Tab, imagine: Callable[..., Updates]) -> None:
        """Let each control ask `imagine` for the estimate with its new value."""
        shown = [tab.notice, self.changed]
        for control in self.inputs:
            tab.bind(control.input, imagine, self.inputs, shown, trigger_mode="always_last")

    def clear(self, card: str | None = None) -> Updates:
        """Show no pupil; `card` stands in place of the invitation."""
        return {
            self.card: result.no_prediction_yet(self._texts) if card is None else card,
            self.reasons: "",
            self.what_if: gr.update(visible=False),
            self.changed: "",
        }

    def show(self, shown: ShownPupil, *, outdated: bool = False) -> Updates:
        """Show the estimate, and its reasons as far as they have been read."""
        card = result.prediction_card(
            self._texts, shown.body, shown.prediction, name=shown.name, outdated=outdated
        )
        updates = self.clear(card)
        if shown.explanation is not None:
            updates[self.reasons] = html.reasons(self._texts, shown.explanation)
            updates[self.what_if] = gr.update(
                visible=any(shown.body.get(f.name) is not None for f in WHAT_IF)
            )
            # The place of the result is filled from the start: nothing moves when a result comes.
            updates[self.changed] = html.what_if_result(
                self._texts, shown.prediction, shown.prediction
            )
            for feature in WHAT_IF:
                updates[self.controls[feature.name]] = self._present_value(feature, shown.body)
        return updates

    def explain(self, shown: ShownPupil) -> None:
        """Read the reasons of an estimate; raises `ApiError`."""
        shown.explanation = self._api.call("POST", "/explain", body=shown.body)

    def imagine(self, shown: ShownPupil, values: Sequence[Any]) -> Updates:
        """Estimate the same pupil with the values of the controls."""
        changes = {
            feature.name: int(value) if feature.kind == "integer" else value
            for feature, value in zip(WHAT_IF, values, strict=True)
            if value is not None and shown.body.get(feature.name) is not None
        }
        after = self._api.call("POST", "/explain", body=shown.body | changes)
        return {self.changed: html.what_if_result(self._texts, shown.prediction, after)}

    def _control(self, feature: Feature, elem_id: str) -> Any:
        about = feature.about
        common: dict[str, Any] = {
            "label": self._texts.choose(about.label),
            "info": help_text(self._texts, feature),
            "elem_id": f"what-if-{elem_id}",
        }
        if about.choices is not None:
            return gr.Radio(self._choices(feature), elem_classes=["field", "pills"], **common)
        return gr.Slider(
            feature.bounds[0],
            _slider_end(feature),
            step=1 if feature.kind == "integer" else None,
            buttons=[],
            elem_classes=["field"],
            **common,
        )

    def _present_value(self, feature: Feature, body: Mapping[str, Any]) -> Any:
        """Return a control with the pupil's value, and none that could only be worse.

        What the profile calls better is worth trying. That less help could help is no idea to give,
        even where those who got it, because they needed it, had lower grades.
        """
        value = body.get(feature.name)
        if value is None or (feature.monotone is None and feature.is_best(value)):
            # Only what is known can change; a slider has no place for an unknown value.
            kept = value if value is not None or feature.about.choices else feature.low
            return gr.update(visible=False, value=kept)
        if feature.about.choices is not None:
            choices = [c for c in self._choices(feature) if _is_offered(feature, value, c[1])]
            return gr.update(visible=True, value=value, choices=choices)
        ends = feature.bounds[0], max(value, _slider_end(feature))
        low, high = (end if _is_offered(feature, value, end) else value for end in ends)
        return gr.update(visible=True, value=value, minimum=low, maximum=high)

    def _choices(self, feature: Feature) -> list[tuple[str, str]]:
        words = feature.about.choices or {}
        return [(self._texts.choose(text), value) for value, text in words.items()]


def _is_offered(feature: Feature, value: Any, other: Any) -> bool:
    """Return whether a pupil with `value` may try another one."""
    change = feature.change
    assert change is not None
    if other == value or feature.monotone is not None:
        return True
    if change.to:
        return other in change.to
    return change.better is None or (other > value) == (change.better == "higher")


def _slider_end(feature: Feature) -> float:
    low, high = feature.bounds
    return min(high, low + _LONG_TAIL) if feature.log else high
