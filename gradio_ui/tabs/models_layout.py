"""Where things stand on the models tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from gradio_ui.html import models as view
from gradio_ui.texts import Words

REASON = 1000
"""Longest reason that the API takes."""


class Layout:
    """The components of the models tab, in the order they are read.

    Attributes
    ----------
    gate, inside
        What shows without a token, and with one.
    table, versions, evidence, job, log
        What is filled in by callbacks.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        with gr.Column(elem_classes=["group", "gate"]) as self.gate:
            self._build_gate()
        with gr.Column(visible=False, elem_id="models-inside") as self.inside:
            with gr.Row(elem_classes=["actions"]):
                self.refresh: Any = self._small("history.refresh", "models-refresh")
                self.lock: Any = self._small("models.lock", "lock")
            self.table: Any = gr.HTML("", elem_id="served")
            self.versions: Any = gr.HTML(view.reading(words), elem_id="versions")
            with gr.Column(elem_classes=["group"]):
                self._build_training()
            with gr.Column(elem_classes=["group"]):
                self._build_promotion()
            self.log: Any = gr.HTML("", elem_id="log")
        self.timer: Any = gr.Timer(1.0, active=False)

    def _build_gate(self) -> None:
        words = self._words
        self.token: Any = gr.Textbox(
            label=words("models.token"),
            info=words("models.token_help"),
            type="password",
            max_length=512,
            elem_id="token",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        )
        self.unlock: Any = gr.Button(words("models.unlock"), variant="primary", elem_id="unlock")

    def _build_training(self) -> None:
        words = self._words
        gr.HTML(f"<h2>{words('models.training')}</h2><p>{words('models.training_help')}</p>")
        with gr.Row(elem_classes=["fields"]):
            self.budget: Any = gr.Textbox(
                label=words("models.budget"),
                info=words("models.budget_help"),
                max_length=8,
                elem_id="budget",
                elem_classes=["field"],
            )
            self.family: Any = gr.Textbox(
                label=words("models.family_asked"),
                info=words("models.family_help"),
                max_length=64,
                elem_id="family",
                elem_classes=["field"],
            )
        with gr.Row(elem_classes=["actions"]):
            self.train: Any = gr.Button(words("models.train"), elem_id="train")
        self.job: Any = gr.HTML("", elem_id="job")

    def _build_promotion(self) -> None:
        words = self._words
        gr.HTML(f"<h2>{words('models.promotion')}</h2><p>{words('models.promotion_help')}</p>")
        with gr.Row(elem_classes=["fields"]):
            self.version: Any = gr.Dropdown(
                [],
                label=words("models.which"),
                allow_custom_value=True,
                elem_id="version",
                elem_classes=["field"],
            )
            self.reason: Any = gr.Textbox(
                label=words("models.reason"),
                max_length=REASON,
                elem_id="reason",
                elem_classes=["field"],
            )
        self.override: Any = gr.Textbox(
            label=words("models.override"),
            info=words("models.override_help"),
            max_length=REASON,
            elem_id="override",
        )
        with gr.Row(elem_classes=["actions"]):
            self.promote: Any = gr.Button(
                words("models.promote"), variant="primary", elem_id="promote"
            )
            self.back: Any = gr.Button(
                words("models.roll_back"), variant="stop", elem_id="roll-back"
            )
        self.evidence: Any = gr.HTML("", elem_id="evidence")

    def _small(self, key: str, name: str) -> Any:
        return gr.Button(self._words(key), size="sm", elem_id=name)
