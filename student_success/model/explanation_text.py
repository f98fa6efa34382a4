"""The sentences of an explanation, in plain French and English."""

from __future__ import annotations

from student_success.domain.students import FEATURES, SCALE

NOTE = {
    "fr": "Ce que le modèle observe chez des élèves comparables, sans promesse de cause à effet.",
    "en": "What the model sees in similar pupils, not a promise of cause and effect.",
}
_BY_NAME = {feature.name: feature for feature in FEATURES}
# "Raises the grade" is read as "makes it better", which is wrong where 1 is the best grade.
_WAYS = {
    "higher": {"fr": ("relève", "abaisse"), "en": ("raises", "lowers")},
    "lower": {"fr": ("dégrade", "améliore"), "en": ("worsens", "improves")},
}[SCALE.better]
"""Verbs for a contribution above and below 0, by language."""


def _way(share: float, language: str) -> str:
    return _WAYS[language][share <= 0]


def _number(value: float, digits: int = 2, *, comma: bool) -> str:
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return text.replace(".", ",") if comma else text


def _value_text(name: str, value: str | float | None, language: str) -> str:
    if value is None:
        return {"fr": "non connu", "en": "not known"}[language]
    choices = _BY_NAME[name].about.choices
    if choices and value in choices:
        return str(getattr(choices[value], language))
    assert isinstance(value, int | float)
    return _number(float(value), comma=language == "fr")


def sentence_fr(name: str, value: str | float | None, share: float) -> str:
    """Return the sentence for one contribution in French."""
    label = _BY_NAME[name].about.label.fr
    size = _number(abs(share), SCALE.share_digits, comma=True)
    points = "points" if round(abs(share), SCALE.share_digits) >= 2 else "point"
    return (
        f"{label} : {_value_text(name, value, 'fr')}. Par rapport à la moyenne des élèves, "
        f"cela {_way(share, 'fr')} la note estimée d'environ {size} {points}."
    )


def sentence_en(name: str, value: str | float | None, share: float) -> str:
    """Return the sentence for one contribution in English."""
    label = _BY_NAME[name].about.label.en
    size = _number(abs(share), SCALE.share_digits, comma=False)
    points = "point" if size == "1" else "points"
    return (
        f"{label}: {_value_text(name, value, 'en')}. Compared with pupils on average, this "
        f"{_way(share, 'en')} the estimated grade by about {size} {points}."
    )
