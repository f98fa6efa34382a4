"""The answer for one pupil: seen first, read second."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from gradio_ui.files.rows import PASSES
from gradio_ui.html.grade_scale import grade_scale
from gradio_ui.html.markup import badge, when
from gradio_ui.texts import Words

_CHANCES = ((0.95, "sure"), (0.80, "likely"), (0.60, "rather"), (0.40, "open"), (0.20, "doubtful"))


def chance_in_words(words: Words, probability: float) -> str:
    """Say a probability of passing as a person would."""
    for least, name in _CHANCES:
        if probability >= least:
            return words(f"chance.{name}")
    return words("chance.unlikely")


def waiting(words: Words) -> str:
    """Return what stands in the place of the answer before there is one."""
    return f'<div class="answer empty"><p>{escape(words("result.waiting"))}</p></div>'


def to_correct(words: Words, count: int) -> str:
    """Return what stands there while fields are bad; each says itself what is wrong with it."""
    text = words("result.to_correct_one") if count == 1 else words("result.to_correct", count=count)
    return f'<div class="answer empty" role="alert"><p>{escape(text)}</p></div>'


def card(words: Words, pupil: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return the answer of ``POST /predict`` as a card."""
    grade = float(answer["predicted_G3"])
    low, high = int(answer["interval"]["low"]), int(answer["interval"]["high"])
    level, probability = float(answer["interval"]["level"]), float(answer["pass_probability"])
    passes = answer["decision"] == PASSES
    known = [(name, float(pupil[name])) for name in ("G1", "G2") if pupil.get(name) is not None]
    verdict = words("result.pass" if passes else "result.fail")
    picture = grade_scale(words, grade=grade, low=low, high=high, passes=passes, known=known)
    alarm = ""
    if answer["at_risk"]:
        alarm = f'<p class="alarm"><strong>{escape(words("result.alarm"))}</strong></p>'
    lines = [
        words("result.interval", low=low, high=high, level=words.percent(level)),
        words(f"horizon.{_key(str(answer['horizon']))}"),
    ]
    version = version_name(words, str(answer["model_version"]))
    made = f"{escape(version)} · {when(words, str(answer['timestamp'])).html}"
    return (
        f'<section class="answer {"good" if passes else "low"}" '
        f'aria-label="{escape(words("result.title"))}">'
        f'<p class="verdict">{badge(verdict, "good" if passes else "low").html}'
        f'<span class="big">{escape(words.number(grade))}<small> / 20</small></span></p>'
        f"{picture}"
        f'<p class="chance"><strong>{escape(chance_in_words(words, probability))}</strong> '
        f"{escape(words('result.probability', share=words.percent(probability)))}</p>"
        f"{alarm}<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        f'<p class="made">{made}</p>{not_for(words)}</section>'
    )


def not_for(words: Words) -> str:
    """Return what the prediction must not be used for."""
    return (
        f'<details class="notfor"><summary>{escape(words("result.not_for"))}</summary><ul>'
        + "".join(f"<li>{escape(words(f'notfor.{n}'))}</li>" for n in ("decide", "rank", "others"))
        + "</ul></details>"
    )


def version_name(words: Words, version: str) -> str:
    """Name a model version; the seed is no number."""
    if version == "seed":
        return words("model.seed")
    return words("model.version", version=version)


def horizon_name(words: Words, horizon: str) -> str:
    """Say which grades were known, in a word or two."""
    return words(f"horizon.short_{_key(horizon)}")


def _key(horizon: str) -> str:
    return {"none": "none", "G1": "g1", "G1+G2": "g1_g2"}[horizon]
