"""The prediction for one pupil."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradio_ui.files.rows import PASSES
from gradio_ui.html.grade_scale import grade_scale
from gradio_ui.html.labels import horizon_key, version_name
from gradio_ui.html.markup import Html, badge, element, items, local_time
from gradio_ui.texts import Texts

_CHANCES = ((0.95, "sure"), (0.80, "likely"), (0.60, "rather"), (0.40, "open"), (0.20, "doubtful"))


def chance_in_words(texts: Texts, probability: float) -> str:
    """Express a probability of passing in words."""
    name = next((name for lowest, name in _CHANCES if probability >= lowest), "unlikely")
    return texts(f"chance.{name}")


def no_prediction_yet(texts: Texts) -> str:
    """Return what is shown before the first prediction."""
    return element("div", element("p", texts("result.waiting")), css="answer empty").html


def invalid_fields(texts: Texts, count: int) -> str:
    """Return what is shown while fields are invalid; each field states its own problem."""
    text = texts("result.to_correct_one") if count == 1 else texts("result.to_correct", count=count)
    return element("div", element("p", text), css="answer empty", role="alert").html


def prediction_card(texts: Texts, pupil: Mapping[str, Any], prediction: Mapping[str, Any]) -> str:
    """Return the answer of ``POST /predict`` as a card."""
    grade, probability = float(prediction["predicted_G3"]), float(prediction["pass_probability"])
    interval = prediction["interval"]
    low, high = int(interval["low"]), int(interval["high"])
    passes = prediction["decision"] == PASSES
    tone = "good" if passes else "low"
    known = [(name, float(pupil[name])) for name in ("G1", "G2") if pupil.get(name) is not None]
    share = texts.percent(probability)
    alarm = element("p", element("strong", texts("result.alarm")), css="alarm")
    version = version_name(texts, str(prediction["model_version"]))
    return element(
        "section",
        element(
            "p",
            badge(texts("result.pass" if passes else "result.fail"), tone),
            element("span", texts.number(grade), element("small", " / 20"), css="big"),
            css="verdict",
        ),
        Html(grade_scale(texts, grade=grade, low=low, high=high, passes=passes, known=known)),
        element(
            "p",
            element("strong", chance_in_words(texts, probability)),
            f" {texts('result.probability', share=share)}",
            css="chance",
        ),
        alarm if prediction["at_risk"] else "",
        items(
            [
                texts(
                    "result.interval",
                    low=low,
                    high=high,
                    level=texts.percent(float(interval["level"])),
                ),
                texts(f"horizon.{horizon_key(prediction['horizon'])}"),
            ]
        ),
        element("p", f"{version} · ", local_time(texts, str(prediction["timestamp"])), css="made"),
        element(
            "details",
            element("summary", texts("result.not_for")),
            items(texts.many("notfor", "decide", "rank", "others")),
            css="notfor",
        ),
        css=f"answer {tone}",
        aria_label=texts("result.title"),
    ).html
