"""The form of one pupil, made from `StudentFeatures`; what it says is read here too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from pydantic import ValidationError

from gradio_ui.files.class_file import problems
from gradio_ui.tabs.base import Updates
from gradio_ui.texts import Words
from student_success.domain.students import EXAMPLE, FEATURES, Feature, Horizon, StudentFeatures
from student_success.domain.tabular import value_of

GROUPS = ("grades", "school", "situation", "support", "life")
GRADES = ("G1", "G2")
REFERENCE = "reference"
KNOWN = "known"
_PILLS = 3
"""Up to this many choices are shown side by side; more go into a list."""


class Form:
    """The fields, in the order they are read."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self.fields: dict[str, Any] = {}
        self._help: dict[str, str] = {}

    def build(self) -> None:
        """Lay out the fields in their groups."""
        words = self._words
        for group in GROUPS:
            with gr.Column(elem_classes=["group"]):
                gr.HTML(f"<h2>{words(f'group.{group}')}</h2>")
                if group == "grades":
                    self._build_known()
                with gr.Row(elem_classes=["fields", group]):
                    for feature in FEATURES:
                        if feature.about.group == group:
                            self._add(feature)
        with gr.Column(elem_classes=["group"]):
            gr.HTML(f"<h2>{words('group.reference')}</h2>")
            with gr.Row(elem_classes=["fields"]):
                self._help[REFERENCE] = words("form.reference_help")
                self.fields[REFERENCE] = gr.Textbox(
                    label=words("form.reference"),
                    info=self._help[REFERENCE],
                    max_length=64,
                    elem_id="field-reference",
                    elem_classes=["field"],
                )

    @property
    def inputs(self) -> list[Any]:
        """The components whose values `read` takes, in that order."""
        return list(self.fields.values())

    def values(self, given: Sequence[Any]) -> dict[str, Any]:
        """Name the values of `inputs`."""
        return dict(zip(self.fields, given, strict=True))

    def read(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the body of ``POST /predict``, and for each bad field why it is bad."""
        words = self._words
        body: dict[str, Any] = {}
        bad: dict[str, str] = {}
        known = _known(values[KNOWN])
        for feature in FEATURES:
            if feature.name in GRADES and feature.name not in known:
                continue
            given = values[feature.name]
            text = "" if given is None else str(given).strip()
            if text:
                body[feature.name] = value_of(feature, text)
            if feature.name in GRADES and body.get(feature.name) is None:
                bad[feature.name] = words("cell.give_grade")
        if reference := str(values[REFERENCE] or "").strip():
            body[REFERENCE] = reference
        try:
            StudentFeatures.model_validate(body)
        except ValidationError as error:
            for name, (key, filled) in problems(error).items():
                if key == "cell.missing":
                    key = "cell.choose" if _is_chosen(name) else "cell.fill"
                bad.setdefault(name, words(key, **filled))
        return body, bad

    def mark(self, bad: Mapping[str, str], before: frozenset[str]) -> Updates:
        """Write each problem beside its field, and take back those of the time before."""
        updates: Updates = {}
        for name in before | bad.keys():
            wrong = name in bad
            updates[self.fields[name]] = gr.update(
                info=f"⚠ {bad[name]}" if wrong else self._help[name],
                elem_classes=["field", "bad"] if wrong else ["field"],
            )
        return updates

    def example(self) -> Updates:
        """Fill in a pupil to try things with."""
        return self.fill(
            {
                name: self._words.number(value, 2, short=True) if name in GRADES else value
                for name, value in EXAMPLE.items()
            }
            | {KNOWN: Horizon.G1_G2.value, REFERENCE: ""}
        )

    def empty(self) -> Updates:
        """Take everything out again."""
        return self.fill({KNOWN: Horizon.G1_G2.value})

    def fill(self, values: Mapping[str, Any]) -> Updates:
        """Put values into the fields."""
        known = _known(values.get(KNOWN))
        updates: Updates = {}
        for name, field in self.fields.items():
            value = values.get(name)
            if name not in (KNOWN, REFERENCE) and not _is_chosen(name) and value is not None:
                value = str(value)
            if name in GRADES:
                updates[field] = gr.update(value=value, visible=name in known)
            else:
                updates[field] = gr.update(value=value)
        return updates

    def _build_known(self) -> None:
        words = self._words
        self._help[KNOWN] = words("form.known_help")
        self.fields[KNOWN] = gr.Radio(
            [(words(f"known.{n}"), h.value) for n, h in _HORIZONS.items()],
            value=Horizon.G1_G2.value,
            label=words("form.known"),
            info=self._help[KNOWN],
            elem_id="field-known",
            elem_classes=["field", "pills"],
        )

    def _add(self, feature: Feature) -> None:
        words = self._words
        about = feature.about
        self._help[feature.name] = words.of(about.help)
        common: dict[str, Any] = {
            "label": words.of(about.label),
            "info": self._help[feature.name],
            "elem_id": f"field-{feature.name}",
            "elem_classes": ["field"],
        }
        if about.choices is None:
            self.fields[feature.name] = gr.Textbox(
                **common, max_length=12, html_attributes=gr.InputHTMLAttributes(autocomplete="off")
            )
            return
        choices = [(words.of(text), value) for value, text in about.choices.items()]
        if len(choices) <= _PILLS:
            common["elem_classes"] = ["field", "pills"]
            self.fields[feature.name] = gr.Radio(choices, value=None, **common)
        else:
            self.fields[feature.name] = gr.Dropdown(choices, value=None, filterable=False, **common)


_HORIZONS = {"g1_g2": Horizon.G1_G2, "g1": Horizon.G1, "none": Horizon.NONE}
_SHOWN = {Horizon.G1_G2.value: GRADES, Horizon.G1.value: ("G1",), Horizon.NONE.value: ()}

SHOW_GRADES = """
(known) => [known !== "none", known === "G1+G2"].map(
  (visible) => ({ __type__: "update", visible }))
"""
"""Shows the fields of the grades that are known; runs in the reader's browser."""


def _known(horizon: Any) -> tuple[str, ...]:
    return _SHOWN.get(str(horizon), GRADES)


def _is_chosen(name: str) -> bool:
    return any(f.name == name and f.about.choices is not None for f in FEATURES)
