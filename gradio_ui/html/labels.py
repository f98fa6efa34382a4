"""Names and figures that several tabs show in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from gradio_ui.html.markup import Html, badge
from gradio_ui.texts import Texts
from student_success.domain.profile import FeatureSpec, Group
from student_success.domain.students import (
    FEATURES,
    GRADE_MAX,
    GRADE_MIN,
    HORIZONS,
    PROFILE,
    SCALE,
    Feature,
    Horizon,
)

Priority = Literal["act", "watch", "none"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
PERIOD_FEATURES: tuple[Feature, ...] = tuple(f for f in FEATURES if f.is_period)
"""The grades that may be known before the final one, oldest first."""
_TONES: dict[Priority, str] = {"act": "low", "watch": "watch", "none": "good"}


def priority_of(*, passes: bool, at_risk: bool) -> Priority:
    """Say how urgent a pupil is: a fail is expected, too many alike fail, or neither."""
    if not passes:
        return "act"
    return "watch" if at_risk else "none"


def priority_badge(texts: Texts, priority: Priority) -> Html:
    """Return the priority as a badge."""
    return badge(texts(f"priority.{priority}"), _TONES[priority])


def grade_text(texts: Texts, grade: float) -> str:
    """Write a grade that exists."""
    return texts.number(grade, 2, short=True)


def estimate_text(texts: Texts, grade: float) -> str:
    """Write a grade as a model computes it, with a decimal more than the grades that exist."""
    return texts.number(grade, 1 if SCALE.step >= 0.5 else 2)


def out_of() -> str:
    """Return what follows a grade, such as "/ 20"; nothing where 20 would not be full marks."""
    return f" / {GRADE_MAX:g}" if SCALE.sign > 0 and GRADE_MIN == 0 else ""


def scale_in_words(texts: Texts) -> str:
    """Name the grades that exist."""
    low, high = grade_text(texts, GRADE_MIN), grade_text(texts, GRADE_MAX)
    name = "scale.whole" if SCALE.step == 1 else "scale.steps"
    return texts(name, low=low, high=high, step=grade_text(texts, SCALE.step))


HAS_LAST_GRADE = any(period.monotone for period in PERIOD_FEATURES)
"""Whether the rule of thumb is the last grade: a period is on the scale of the final grade."""


def simple_rule(texts: Texts) -> str:
    """Name the rule of thumb that a model is compared with."""
    return texts("models.last_grade" if HAS_LAST_GRADE else "models.median")


def help_text(texts: Texts, feature: Feature) -> str:
    """Return the help of a feature; "" if the profile has none, and the label stands in for it."""
    about = feature.about
    return "" if about.help == about.label else texts.choose(about.help)


def known_grades(texts: Texts, pupil: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return name and value of the period grades that are known."""
    return [
        (texts.choose(period.about.label), float(pupil[period.name]))
        for period in PERIOD_FEATURES
        if pupil.get(period.name) is not None
    ]


def known_periods(horizon: str) -> tuple[Feature, ...]:
    """Return the periods whose grades are known at a horizon."""
    return PERIOD_FEATURES[: HORIZONS.index(Horizon(horizon))]


def horizon_name(texts: Texts, horizon: str) -> str:
    """Name the grades that were known, in a word or two; another horizon stays as it is written."""
    if horizon not in HORIZONS:
        return horizon
    names = [period.name for period in known_periods(horizon)]
    return ", ".join(names) or texts("horizon.short_none")


def horizon_sentence(texts: Texts, horizon: str) -> str:
    """Say which grades an estimate is based on."""
    names = [texts.choose(period.about.label) for period in known_periods(horizon)]
    return texts("horizon.some", grades=", ".join(names)) if names else texts("horizon.none")


def group_name(texts: Texts, attribute: str, group: str) -> str:
    """Name a group of pupils as the profile does; what it has no words for, by column and value."""
    named: tuple[FeatureSpec | Group, ...] = (*PROFILE.feature, *PROFILE.audit.group)
    spec = next((each for each in named if each.column == attribute), None)
    if spec is None:
        return f"{attribute} {group}"
    words = (choice for choice in spec.choices if str(choice.value) == group)
    word = next(words, None)
    return f"{texts.choose(spec.label)} {group}" if word is None else texts.choose(word)


def version_name(texts: Texts, version: str | None) -> str:
    """Name a model version; the seed model has no number."""
    if version is None:
        return "—"
    return texts("model.seed") if version == "seed" else texts("model.version", version=version)


def decision_name(texts: Texts, passes: bool) -> str:
    """Name the expected outcome."""
    return texts("rank.pass" if passes else "rank.fail")


def decision_badge(texts: Texts, passes: bool) -> Html:
    """Return the expected outcome as a badge."""
    return badge(decision_name(texts, passes), "good" if passes else "low")


def dataset_name(texts: Texts, dataset: Mapping[str, Any] | None) -> str:
    """Name the data that a model was trained on; made-up data are marked."""
    if not dataset:
        return "—"
    name = str(dataset.get("name", "—"))
    return texts("models.synthetic", name=name) if dataset.get("synthetic") else name


def metric(model: Mapping[str, Any], horizon: str, scorer: str, name: str) -> float | None:
    """Return one figure of ``GET /model``, or None if the model came without it.

    Parameters
    ----------
    scorer
        ``"candidate"`` for the model itself, ``"baseline"`` for the rule of thumb.
    """
    value = (model.get("metrics") or {}).get(f"{horizon}/{scorer}/{name}")
    return float(value) if isinstance(value, int | float) else None


def number_or_dash(texts: Texts, value: Any, digits: int = 3) -> str:
    """Write a number, or a dash if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "—"
    return texts.number(value, digits, short=digits > 3)
