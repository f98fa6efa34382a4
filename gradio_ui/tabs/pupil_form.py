"""The form of one pupil, derived from `StudentFeatures`, and the reading of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from pydantic import ValidationError

from gradio_ui.html.labels import help_text, known_periods
from gradio_ui.tabs.base import Updates, add_part, small_button
from gradio_ui.texts import LANGUAGES, Texts
from student_success.domain.students import (
    EXAMPLE,
    FEATURES,
    HORIZONS,
    PERIODS,
    PROFILE,
    Feature,
    StudentFeatures,
)
from student_success.domain.tables.cells import parse_cell
from student_success.domain.tables.pupils import explain_errors

REFERENCE = "reference"
KNOWN = "known"
_MAX_RADIO_CHOICES = 3
"""Up to this many choices are shown side by side; more go into a list."""
_ALL_KNOWN = str(HORIZONS[-1])
_BY_NAME = {feature.name: feature for feature in FEATURES}
NOT_KNOWN = "?"
"""The choice of a reader who does not know; `parse_cell` reads it as an unknown value."""
_NULLABLE = {f.name for f in FEATURES if f.nullable and not f.is_period}
FOLDED = tuple(f.name for f in FEATURES if f.name in _NULLABLE and f.monotone is None)
"""What may be left unknown and for which the profile declares no direction: it weighs less."""
_SECTIONS = ("", *(section.name for section in PROFILE.section))
IN_ORDER = sorted(
    FEATURES,
    key=lambda f: (
        not f.is_period,
        f.name in FOLDED,
        _SECTIONS.index("" if f.is_period else f.about.group),
    ),
)
"""The features as the form has them, the grades first."""
_CHOICE_FIELDS = {KNOWN} | {f.name for f in FEATURES if f.about.choices is not None}
_TEXT_FIELDS = {f.name for f in FEATURES if f.about.choices is None}


class PupilForm:
    """The fields of the form, in reading order; created inside `gr.Blocks`."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._help: dict[str, str] = {}
        self.fields: dict[str, Any] = {}
        grades = [feature for feature in IN_ORDER if feature.is_period]
        if grades:
            with gr.Column(elem_classes=["group"]):
                add_part(texts("group.grades"))
                self._add_known()
                self._add_features(grades)
        others = [feature for feature in IN_ORDER if not feature.is_period]
        if FOLDED:
            self._add_folded(others)
        else:
            self._add_sections(others)
        with gr.Column(elem_classes=["group"]):
            add_part(texts("group.reference"))
            with gr.Row(elem_classes=["fields"]):
                common = self._common(REFERENCE, texts("form.reference"))
                self._help[REFERENCE] = texts("form.reference_help")
                self.fields[REFERENCE] = gr.Textbox(
                    **common, info=self._help[REFERENCE], max_length=64
                )
        self.inputs = list(self.fields.values())

    def _add_sections(self, features: Sequence[Feature]) -> None:
        for section in PROFILE.section:
            members = [feature for feature in features if feature.about.group == section.name]
            if members:
                with gr.Column(elem_classes=["group"]):
                    add_part(self._texts.choose(section.label))
                    self._add_features(members)

    def _add_folded(self, features: Sequence[Feature]) -> None:
        """Add what weighs most, and a button for the rest, which may stay unknown."""
        texts = self._texts
        if first := [feature for feature in features if feature.name not in FOLDED]:
            with gr.Column(elem_classes=["group"]):
                add_part(texts("group.first"))
                self._add_features(first)
        # The page opens and folds it, also without a connection.
        small_button(texts.count("form.more", len(FOLDED)), "more-button")
        # Gradio's accordion leaves out what is folded, and the page could not keep it.
        with gr.Column(elem_id="more"):
            self._add_sections([feature for feature in features if feature.name in FOLDED])

    def _add_features(self, features: Sequence[Feature]) -> None:
        with gr.Row(elem_classes=["fields"]):
            for feature in features:
                self._add_feature(feature)

    def _common(self, name: str, label: str, *css: str) -> dict[str, Any]:
        return {"label": label, "elem_id": f"field-{name}", "elem_classes": ["field", *css]}

    def values(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Return the values of `inputs` by field name."""
        return dict(zip(self.fields, inputs, strict=True))

    def mark(self, invalid: Mapping[str, str], before: frozenset[str]) -> Updates:
        """Write each problem beside its field, and remove the marks of the time before."""
        updates: Updates = {}
        for name in before | invalid.keys():
            is_invalid = name in invalid
            updates[self.fields[name]] = gr.update(
                info=f"⚠ {invalid[name]}" if is_invalid else self._help[name],
                elem_classes=["field", "bad"] if is_invalid else ["field"],
            )
        return updates

    def example(self) -> Updates:
        """Fill in an example."""
        return self.fill({**EXAMPLE, KNOWN: _ALL_KNOWN, REFERENCE: ""})

    def clear(self, marked: frozenset[str]) -> Updates:
        """Clear every field, and the marks of the invalid ones."""
        updates = self.fill({KNOWN: _ALL_KNOWN})
        for field, unmarked in self.mark({}, marked).items():
            updates[field] |= unmarked
        return updates

    def fill(self, values: Mapping[str, Any]) -> Updates:
        """Put values into the fields; fields without a value are cleared."""
        known = _known_grades(values.get(KNOWN))
        updates: Updates = {}
        for name, field in self.fields.items():
            value = values.get(name)
            if value is None and name in _NULLABLE & _CHOICE_FIELDS:
                value = NOT_KNOWN
            if name in _TEXT_FIELDS and isinstance(value, int | float):
                # Without separators of thousands: 12,000 could mean 12.
                written = f"{value:.10g}"
                value = written.replace(".", ",") if self._texts.language == "fr" else written
            visible = {"visible": name in known} if name in PERIODS else {}
            updates[field] = gr.update(value=value, **visible)
        return updates

    def read_kept(self, kept: Mapping[str, str]) -> dict[str, Any]:
        """Return the values that the page kept as it shows them, in either language."""
        values: dict[str, Any] = {}
        for name, text in kept.items():
            feature = _BY_NAME.get(name)
            choices = (feature.about.choices if feature else None) or {}
            shown: dict[str, Any] = {str(value): value for value in (*choices, NOT_KNOWN)}
            for language in LANGUAGES:
                texts = Texts(language)
                shown |= {texts.choose(words): value for value, words in choices.items()}
                shown[texts("form.not_known")] = NOT_KNOWN
            values[name] = (shown.get(text) if choices else text) or None
        return values

    def show_grades(self, known: Any) -> Updates:
        """Show the fields of the grades that are known."""
        return {
            self.fields[name]: gr.update(visible=name in _known_grades(known)) for name in PERIODS
        }

    def _add_known(self) -> None:
        texts = self._texts
        self._help[KNOWN] = texts("form.known_help")
        self.fields[KNOWN] = gr.Radio(
            [(_known_label(texts, horizon), str(horizon)) for horizon in reversed(HORIZONS)],
            value=_ALL_KNOWN,
            info=self._help[KNOWN],
            **self._common(KNOWN, texts("form.known"), "pills"),
        )

    def _add_feature(self, feature: Feature) -> None:
        texts, about = self._texts, feature.about
        self._help[feature.name] = help_text(texts, feature)
        choices = [(texts.choose(text), value) for value, text in (about.choices or {}).items()]
        is_radio = about.choices is not None and len(choices) <= _MAX_RADIO_CHOICES
        css = ["number"] if about.choices is None else ["pills"] if is_radio else []
        common = self._common(feature.name, texts.choose(about.label), *css)
        common["info"] = self._help[feature.name]
        unknown = None
        if feature.name in _NULLABLE:
            unknown = NOT_KNOWN
            choices.append((texts("form.not_known"), NOT_KNOWN))
        if about.choices is None:
            field = gr.Textbox(
                **common,
                placeholder=texts("form.not_known") if unknown else None,
                max_length=12,
                html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            )
        elif is_radio:
            field = gr.Radio(choices, value=unknown, **common)
        else:
            field = gr.Dropdown(choices, value=unknown, filterable=False, **common)
        self.fields[feature.name] = field


def read_form(texts: Texts, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the body of ``POST /predict``, and for each invalid field the problem in words."""
    body: dict[str, Any] = {}
    invalid: dict[str, str] = {}
    known = _known_grades(values.get(KNOWN))
    for feature in FEATURES:
        if feature.name in PERIODS and feature.name not in known:
            continue
        value = values.get(feature.name)
        text = "" if value is None else str(value).strip()
        if text:
            body[feature.name] = parse_cell(feature, text)
        elif feature.name in _NULLABLE:
            body[feature.name] = None
        if feature.name in PERIODS and body.get(feature.name) is None:
            invalid[feature.name] = texts("cell.give_grade", low=feature.low, high=feature.high)
    if reference := str(values.get(REFERENCE) or "").strip():
        body[REFERENCE] = reference
    try:
        StudentFeatures.model_validate(body)
    except ValidationError as error:
        for name, (key, placeholders) in explain_errors(error).items():
            if key == "missing":
                key = "cell.choose" if name in _CHOICE_FIELDS else "cell.fill"
            else:
                key = f"problem.{key}"
            invalid.setdefault(name, texts(key, **placeholders))
    return body, invalid


def _known_grades(horizon: Any) -> tuple[str, ...]:
    known = str(horizon) if horizon in HORIZONS else _ALL_KNOWN
    return tuple(period.name for period in known_periods(known))


def _known_label(texts: Texts, horizon: str) -> str:
    known = known_periods(horizon)
    if not known:
        return texts("known.none")
    return texts("known.until", period=texts.choose(known[-1].about.label))
