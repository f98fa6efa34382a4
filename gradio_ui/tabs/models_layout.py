"""The components of the models tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.html.markup import paragraph
from gradio_ui.html.models import family_choices, training_data, versions_loading
from gradio_ui.tabs.base import add_part, small_button
from gradio_ui.texts import Texts
from student_success.core.configuration.settings import Settings

MAX_REASON_CHARACTERS = 1000
"""The longest reason that the API accepts."""


class ModelsLayout:
    """The components in reading order; created inside `gr.Blocks`.

    Attributes
    ----------
    locked, unlocked
        What is visible without an admin token, and with one.
    exceptions
        The fields that `accepted` reads, in the order of its parameters.
    outputs
        Every component that the callbacks of the tab may change.
    """

    def __init__(self, texts: Texts, settings: Settings) -> None:
        self._texts, self._settings = texts, settings
        with gr.Column(elem_classes=["group", "gate"]) as self.locked:
            self.token: Any = gr.Textbox(
                label=texts("models.token"),
                info=texts("models.token_help"),
                type="password",
                max_length=512,
                elem_id="token",
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
            )
            self.unlock: Any = gr.Button(
                texts("models.unlock"), variant="primary", elem_id="unlock"
            )
        with gr.Column(visible=False, elem_id="models-inside") as self.unlocked:
            with gr.Row(elem_classes=["actions"]):
                self.refresh = small_button(texts("history.refresh"), "models-refresh")
                self.lock = small_button(texts("models.lock"), "lock")
            self.served: Any = gr.HTML("", elem_id="served")
            self.versions: Any = gr.HTML(versions_loading(texts), elem_id="versions")
            with gr.Column(elem_classes=["group"]):
                self._build_training()
            with gr.Column(elem_classes=["group"]):
                self._build_promotion()
            self.log: Any = gr.HTML("", elem_id="log")
        self.timer: Any = gr.Timer(1.0, active=False)
        filled = [self.served, self.versions, self.version, self.evidence, self.job, self.log]
        self.outputs = [self.locked, self.unlocked, *filled, self.timer]

    def _build_training(self) -> None:
        texts = self._texts
        data = training_data(texts, self._settings)
        add_part(texts("models.training"), f"{texts('models.training_help')} {data}")
        with gr.Row(elem_classes=["fields"]):
            self.budget = self._field("budget", 8, "models.budget", "models.budget_help")
            self.family: Any = gr.Dropdown(
                family_choices(texts),
                value="",
                label=texts("models.family_asked"),
                info=texts("models.family_help"),
                filterable=False,
                elem_id="family",
                elem_classes=["field"],
            )
        with gr.Row(elem_classes=["actions"]):
            self.train: Any = gr.Button(texts("models.train"), elem_id="train")
        self.job: Any = gr.HTML("", elem_id="job")

    def _build_promotion(self) -> None:
        texts = self._texts
        add_part(texts("models.promotion"), texts("models.promotion_help"))
        with gr.Row(elem_classes=["fields"]):
            self.version: Any = gr.Dropdown(
                [],
                label=texts("models.which"),
                allow_custom_value=True,
                elem_id="version",
                elem_classes=["field"],
            )
            self.reason = self._field("reason", MAX_REASON_CHARACTERS, "models.reason")
        with gr.Accordion(texts("models.exceptions"), open=False, elem_classes=["fold"]):
            gr.HTML(paragraph(texts("models.exceptions_help")))
            self.exceptions = [
                self._field("override", MAX_REASON_CHARACTERS, "models.override"),
                self._field("population", MAX_REASON_CHARACTERS, "models.population"),
                gr.Checkbox(label=texts("models.allow_synthetic"), elem_id="allow-synthetic"),
            ]
        with gr.Row(elem_classes=["actions"]):
            self.promote: Any = gr.Button(
                texts("models.promote"), variant="primary", elem_id="promote"
            )
            self.roll_back: Any = gr.Button(
                texts("models.roll_back"), variant="stop", elem_id="roll-back"
            )
        self.evidence: Any = gr.HTML("", elem_id="evidence")

    def accepted(
        self, fairness: str | None, population: str | None, synthetic: bool
    ) -> dict[str, Any]:
        """Return the exceptions that the reader makes, for the body of ``POST /promote``."""
        given = {
            "fairness_override": (fairness or "").strip()[:MAX_REASON_CHARACTERS],
            "population_override": (population or "").strip()[:MAX_REASON_CHARACTERS],
            "allow_synthetic": synthetic,
        }
        return {name: value for name, value in given.items() if value}

    def _field(self, elem_id: str, max_length: int, label: str, info: str | None = None) -> Any:
        return gr.Textbox(
            label=self._texts(label),
            info=self._texts(info) if info else None,
            max_length=max_length,
            elem_id=elem_id,
            elem_classes=["field"],
        )
