"""Why a grade was predicted, and what could change it: shown where the API offers `/explain`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from gradio_ui.files.rows import PASSES
from gradio_ui.html.grade_scale import PASS, grade_scale
from gradio_ui.texts import Words
from student_success.domain.students import FEATURES

SHOWN = 3
_FEATURES = {feature.name: feature for feature in FEATURES}


def reasons(words: Words, explanation: Mapping[str, Any]) -> str:
    """Return the three sentences that weigh most, each with what it adds or takes."""
    sentences = list(explanation.get("reasons", {}).get(words.language, ()))[:SHOWN]
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences)
    title = escape(words("explain.title"))
    ideas = _ideas(words, explanation)
    return f'<section class="reasons"><h2>{title}</h2><ol>{items}</ol>{ideas}</section>'


def changed(
    words: Words, before: Mapping[str, Any], after: Mapping[str, Any], pupil: Mapping[str, Any]
) -> str:
    """Return what the sliders lead to, beside the prediction as it stands."""
    old, new = float(before["predicted_G3"]), float(after["predicted_G3"])
    interval = after.get("interval") or {}
    passes = after["decision"] == PASSES if "decision" in after else new >= PASS - 0.5
    difference = round(new - old, 1)
    sign = "+" if difference > 0 else "−" if difference < 0 else "±"
    text = words(
        "explain.changed", grade=words.number(new), change=sign + words.number(abs(difference))
    )
    if "pass_probability" in after:
        text += " " + words(
            "result.probability", share=words.percent(float(after["pass_probability"]))
        )
    picture = ""
    if interval:
        picture = grade_scale(
            words,
            grade=new,
            low=int(interval["low"]),
            high=int(interval["high"]),
            passes=passes,
            known=[(words("explain.before"), old)],
        )
    del pupil
    return f'<div class="changed" role="status"><p>{escape(text)}</p>{picture}</div>'


def _ideas(words: Words, explanation: Mapping[str, Any]) -> str:
    """Return the API's own what-if: what a pupil could change, and to what effect."""
    items = []
    for idea in list(explanation.get("what_if", ()))[:SHOWN]:
        named = _named(words, idea.get("change"))
        if named:
            effect = words(
                "explain.effect",
                grade=words.number(float(idea["predicted_G3"])),
                share=words.percent(float(idea["pass_probability"])),
            )
            items.append(f"<li>{escape(named)} → <strong>{escape(effect)}</strong></li>")
    if not items:
        return ""
    return f"<h2>{escape(words('explain.ideas'))}</h2><ul>{''.join(items)}</ul>"


def _named(words: Words, change: Any) -> str:
    """Say a change in words: from the API's own sentence, or from the features it names."""
    if isinstance(change, str):
        return change
    if not isinstance(change, Mapping):
        return ""
    if words.language in change:
        return str(change[words.language])
    if "feature" in change:
        change = {change["feature"]: change.get("to", change.get("value"))}
    parts = []
    for name, value in change.items():
        feature = _FEATURES.get(name)
        if feature is None:
            continue
        choice = (feature.about.choices or {}).get(value)
        shown = words.of(choice) if choice else str(value)
        parts.append(words("explain.set", name=words.of(feature.about.label), value=shown))
    return ", ".join(parts)
