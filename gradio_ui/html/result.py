"""The prediction for one pupil."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradio_ui.html.grade_scale import grade_scale, round_grade
from gradio_ui.html.labels import (
    estimate_text,
    grade_text,
    horizon_sentence,
    known_grades,
    out_of,
    priority_badge,
    priority_of,
    version_name,
)
from gradio_ui.html.markup import element, items, local_time
from gradio_ui.texts import Texts
from student_success.domain.decision import Decision
from student_success.domain.students import FEATURES, PASS_GRADE, PASS_LEVEL, PREDICTED, SCALE

_CHANCES = ((0.95, "sure"), (0.80, "likely"), (0.60, "rather"), (0.40, "open"), (0.20, "doubtful"))
_IF_OPEN = {"sure": "likely", "unlikely": "doubtful"}
"""The sentence if the interval holds grades that pass and others that fail."""
_IF_DECIDED = {True: {"open": "rather"}, False: {"open": "doubtful"}}
"""The same if the interval holds passes alone, or fails alone."""


def chance_in_words(texts: Texts, prediction: Mapping[str, Any]) -> str:
    """Express the chance of passing in words that the interval beside them does not contradict."""
    probability = float(prediction["pass_probability"])
    name = next((name for lowest, name in _CHANCES if probability >= lowest), "unlikely")
    bounds = (float(prediction["interval"][end]) for end in ("low", "high"))
    ends = {SCALE.nearest(bound) >= PASS_LEVEL for bound in bounds}
    instead = _IF_OPEN if len(ends) > 1 else _IF_DECIDED[ends.pop()]
    return texts(f"chance.{instead.get(name, name)}")


def no_prediction_yet(texts: Texts) -> str:
    """Return what is shown before the first prediction."""
    return element("div", element("p", texts("result.waiting")), css="answer empty")


def invalid_fields(texts: Texts, count: int) -> str:
    """Return what is shown while fields are invalid; each field states its own problem."""
    text = texts("result.to_correct_one") if count == 1 else texts("result.to_correct", count=count)
    return element("div", element("p", text), css="answer empty", role="alert")


def outdated_mark(texts: Texts) -> str:
    """Return the place where the page says that the entries have changed since the estimate."""
    text = texts("result.outdated")
    return element("p", css="outdated", role="status", data_text=text)


def prediction_card(
    texts: Texts,
    pupil: Mapping[str, Any],
    prediction: Mapping[str, Any],
    *,
    name: str = "",
    outdated: bool = False,
) -> str:
    """Return the answer of ``POST /predict``, or of ``POST /explain``, as a card.

    Parameters
    ----------
    name
        What the reader calls the pupil, or "".
    outdated
        Whether the entries beside the card have changed since; the page marks the card.
    """
    grade = float(prediction[PREDICTED])
    interval = prediction["interval"]
    low, high = float(interval["low"]), float(interval["high"])
    passes = prediction["decision"] == Decision.PASS
    tone = "good" if passes else "low"
    known = known_grades(texts, pupil)
    unknown = sum(pupil.get(f.name) is None for f in FEATURES if not f.is_period)
    share = texts.percent(float(prediction["pass_probability"]))
    priority = priority_of(passes=passes, at_risk=bool(prediction["at_risk"]))
    expected = texts("result.pass" if passes else "result.fail")
    unusual = prediction.get("unusual", ())
    rounded = grade_text(texts, round_grade(grade))
    exact = texts("result.exact", grade=estimate_text(texts, grade), rounded=rounded)
    chance = texts("result.probability", share=share, line=grade_text(texts, PASS_GRADE))
    bounds = {
        "low": grade_text(texts, low),
        "high": grade_text(texts, high),
        "level": texts.percent(float(interval["level"])),
    }
    made: list[str] = [version_name(texts, str(prediction["model_version"]))]
    if "timestamp" in prediction:
        made += [" · ", local_time(texts, str(prediction["timestamp"]))]
    return element(
        "section",
        element("h2", name) if name else "",
        element(
            "p",
            expected,
            element("span", rounded, element("small", out_of()), css="big"),
            css="verdict",
            data_announce=f"{expected}, {rounded}{out_of()}. {chance}",
        ),
        grade_scale(texts, grade=grade, low=low, high=high, passes=passes, known=known),
        element("p", texts("scale.known", grades=_listed(texts, known)), css="known-grades")
        if known
        else "",
        element(
            "p",
            priority_badge(texts, priority),
            f" {texts(f'priority.{priority}_why')}",
            css=f"priority {priority}",
        ),
        element(
            "p",
            element("strong", chance_in_words(texts, prediction)),
            f" {chance}",
            css="chance",
        ),
        items(
            [
                *(
                    [exact]
                    if estimate_text(texts, grade) != estimate_text(texts, round_grade(grade))
                    else []
                ),
                texts("result.interval", **bounds),
                horizon_sentence(texts, str(prediction["horizon"])),
                *([texts.count("result.unknown", unknown)] if unknown else []),
            ]
        ),
        element("p", unusual_values(texts, unusual), css="unusual", role="note") if unusual else "",
        element("p", *made, css="made"),
        element(
            "details",
            element("summary", texts("result.not_for")),
            items(texts.many("notfor", "decide", "rank", "others")),
            css="notfor",
        ),
        css=f"answer {tone}",
        aria_label=texts("result.title"),
        **({"data_outdated": "yes"} if outdated else {}),
    )


def unusual_values(texts: Texts, unusual: Iterable[str]) -> str:
    """Say which values of a pupil lie far from the training data."""
    names = [texts.choose(f.about.label) for f in FEATURES if f.name in set(unusual)]
    return texts("result.unusual", values=", ".join(names))


def _listed(texts: Texts, known: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {grade_text(texts, value)}" for name, value in known)
