"""Why a grade was predicted, and what could change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradio_ui.html.grade_scale import grade_scale, round_grade, rounded_estimate
from gradio_ui.html.labels import grade_text, out_of
from gradio_ui.html.markup import Html, element, heading, items, paragraph
from gradio_ui.texts import Texts
from student_success.domain.decision import Decision
from student_success.domain.students import PASS_GRADE, PERIODS, PREDICTED, SCALE
from student_success.domain.tables.cells import feature_of

MAX_ITEMS = 3


def reasons(texts: Texts, explanation: Mapping[str, Any]) -> str:
    """Return the three strongest reasons, and the changes that would help most."""
    sentences = list(map(texts.spaced, explanation["reasons"][texts.language][:MAX_ITEMS]))
    if not sentences:
        return ""
    return element(
        "section",
        heading(texts("explain.title")),
        items(sentences, "ol"),
        _changes(texts, explanation),
        css="reasons",
    )


def main_reasons(texts: Texts, explanation: Mapping[str, Any]) -> str:
    """Name the strongest reason of an estimate; beside a grade, also the strongest other one.

    What counts as a reason is what does in `/explain`. The strongest is what makes the estimate
    worse most; what makes it better most if nothing makes it worse. The other one has the same
    effect: a reason to expect a pass would be misread as one of a risk.
    """
    counting = [
        c
        for c in explanation["contributions"]
        if feature_of(c["feature"]).is_reason(c["value"], float(c["share"]))
    ]
    if not counting:
        return texts("rank.no_reason")
    strongest = _strongest(counting)
    if not feature_of(strongest["feature"]).is_period:
        return _reason(texts, strongest)
    values = {c["feature"]: c["value"] for c in explanation["contributions"]}
    last = [period for period in PERIODS if values.get(period) is not None][-1:]
    label = texts("rank.last_grade") if [strongest["feature"]] == last else ""
    others = [
        c
        for c in counting
        if not feature_of(c["feature"]).is_period and (c["share"] > 0) == (strongest["share"] > 0)
    ]
    other = [_reason(texts, _strongest(others))] if others else []
    return texts.listed([_reason(texts, strongest, label), *other])


def _strongest(contributions: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    ranked = sorted(contributions, key=lambda c: SCALE.sign * float(c["share"]))
    return ranked[0] if SCALE.sign * float(ranked[0]["share"]) < 0 else ranked[-1]


def _reason(texts: Texts, contribution: Mapping[str, Any], label: str = "") -> str:
    share = float(contribution["share"])
    value = value_in_words(texts, contribution["feature"], contribution["value"], label)
    return f"{value} ({'+' if share > 0 else '−'}{texts.number(abs(share), SCALE.share_digits)})"


def what_if_result(texts: Texts, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the prediction for the controls beside the pupil's present prediction.

    The present prediction itself as `after` is what stands in the same place before any change.
    """
    old, new = float(before[PREDICTED]), float(after[PREDICTED])
    difference = round(new - old, 2)
    change = ("+" if difference > 0 else "−") + grade_text(texts, abs(difference))
    share = texts.percent(float(after["pass_probability"]))
    rounded = grade_text(texts, round_grade(new)) + out_of()
    name = "now" if after is before else "changed" if difference else "same"
    picture = grade_scale(
        texts,
        grade=new,
        low=float(after["interval"]["low"]),
        high=float(after["interval"]["high"]),
        passes=after["decision"] == Decision.PASS,
        known=[(texts("explain.before"), old)],
    )
    line = grade_text(texts, PASS_GRADE)
    sentence = element("strong", texts(f"explain.{name}", grade=rounded, change=change))
    chance = texts("result.probability", share=share, line=line)
    text = element("p", sentence, f" {chance}")
    return element("div", text, picture, css="changed", role="status")


def _changes(texts: Texts, explanation: Mapping[str, Any]) -> Html:
    """Return the changes that the API suggests, each with its effect."""
    listed = []
    for suggestion in explanation["what_if"][:MAX_ITEMS]:
        effect = texts(
            "explain.effect",
            grade=rounded_estimate(texts, float(suggestion[PREDICTED])) + out_of(),
            share=texts.percent(float(suggestion["pass_probability"])),
        )
        change = element("span", _change_in_words(texts, suggestion["change"]), " → ")
        listed.append(Html(change + element("strong", effect)))
    if not listed:
        return paragraph(texts("explain.no_ideas"))
    return Html(heading(texts("explain.ideas")) + items(listed))


def _change_in_words(texts: Texts, change: Mapping[str, Any]) -> str:
    return ", ".join(value_in_words(texts, name, value) for name, value in change.items())


def value_in_words(texts: Texts, name: str, value: Any, label: str = "") -> str:
    """Name a feature and its value as the form does, or by a shorter label."""
    about = feature_of(name).about
    words = (about.choices or {}).get(value)
    if words is not None:
        shown = texts.choose(words)
    elif value is None:
        shown = texts("form.not_known")
    else:
        is_number = isinstance(value, int | float)
        shown = texts.number(value, 2, short=True) if is_number else str(value)
    return texts("explain.set", name=label or texts.choose(about.label), value=shown)
