"""Why a grade was predicted, and what could change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradio_ui.files.rows import PASSES
from gradio_ui.html.grade_scale import grade_scale, round_grade, rounded_estimate
from gradio_ui.html.labels import estimate_text, grade_text, out_of
from gradio_ui.html.markup import Html, element, heading, items, paragraph
from gradio_ui.texts import Texts
from student_success.domain.students import PASS_GRADE, PREDICTED
from student_success.domain.tables.cells import feature_of

MAX_ITEMS = 3


def reasons(texts: Texts, explanation: Mapping[str, Any]) -> str:
    """Return the three strongest reasons, and the changes that would help most."""
    sentences = list(map(texts.spaced, explanation["reasons"][texts.language][:MAX_ITEMS]))
    if not sentences:
        return ""
    return element(
        "section",
        Html(heading(texts("explain.title"))),
        items(sentences, "ol"),
        Html(_changes(texts, explanation)),
        css="reasons",
    ).html


def what_if_result(texts: Texts, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the prediction for the sliders beside the pupil's present prediction."""
    old, new = float(before[PREDICTED]), float(after[PREDICTED])
    difference = round(new - old, 2)
    sign = "+" if difference > 0 else "−"
    change = sign + estimate_text(texts, abs(difference))
    share = texts.percent(float(after["pass_probability"]))
    rounded = grade_text(texts, round_grade(new)) + out_of()
    key = "explain.changed" if difference else "explain.same"
    text = texts(key, grade=rounded, change=change)
    picture = grade_scale(
        texts,
        grade=new,
        low=float(after["interval"]["low"]),
        high=float(after["interval"]["high"]),
        passes=after["decision"] == PASSES,
        known=[(texts("explain.before"), old)],
    )
    line = grade_text(texts, PASS_GRADE)
    sentence = paragraph(f"{text} {texts('result.probability', share=share, line=line)}")
    return element("div", Html(sentence + picture), css="changed", role="status").html


def _changes(texts: Texts, explanation: Mapping[str, Any]) -> str:
    """Return the changes that the API suggests, each with its effect."""
    listed = []
    for suggestion in explanation["what_if"][:MAX_ITEMS]:
        effect = texts(
            "explain.effect",
            grade=rounded_estimate(texts, float(suggestion[PREDICTED])) + out_of(),
            share=texts.percent(float(suggestion["pass_probability"])),
        )
        change = element("span", _change_in_words(texts, suggestion["change"]), " → ")
        listed.append(Html(change.html + element("strong", effect).html))
    if not listed:
        return paragraph(texts("explain.no_ideas"))
    return heading(texts("explain.ideas")) + items(listed).html


def _change_in_words(texts: Texts, change: Mapping[str, Any]) -> str:
    return ", ".join(value_in_words(texts, name, value) for name, value in change.items())


def value_in_words(texts: Texts, name: str, value: Any) -> str:
    """Name a feature and its value as the form does."""
    about = feature_of(name).about
    words = (about.choices or {}).get(value)
    if words is not None:
        shown = texts.choose(words)
    elif value is None:
        shown = texts("form.not_known")
    else:
        is_number = isinstance(value, int | float)
        shown = texts.number(value, 2, short=True) if is_number else str(value)
    return texts("explain.set", name=texts.choose(about.label), value=shown)
