"""Pictures of a model's evidence: what it announced and what came true, its error by group."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from gradio_ui.html.grade_scale import svg
from gradio_ui.html.labels import group_name
from gradio_ui.html.markup import Html, element, figure
from gradio_ui.texts import Texts
from student_success.domain.students import HORIZONS

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 380, 12, 196
_BAR_LEFT, _BAR_RIGHT = 172, 316
_MAX_NAME_CHARACTERS = 24
"""A longer name of a group does not fit beside its bar."""
_ROW = 21


def model_charts(texts: Texts, model: Mapping[str, Any]) -> str:
    """Return the pictures for which ``GET /model`` has the figures; "" if it has none."""
    card = model.get("model_card") or {}
    bins = (card.get("calibration") or {}).get("bins") or []
    groups = [
        group
        for group in card.get("fairness") or []
        if group["horizon"] == HORIZONS[-1] and "value" in (group.get("mae") or {})
    ]
    pictures = []
    if bins:
        count = texts.number(sum(int(each["n"]) for each in bins), 0)
        caption = texts("chart.calibration", count=count, bins=len(bins))
        pictures.append(figure(_calibration(texts, bins), caption))
    if groups:
        pictures.append(figure(_errors(texts, groups), texts("chart.fairness")))
    return element("div", *pictures, css="charts") if pictures else ""


def _calibration(texts: Texts, bins: list[Mapping[str, Any]]) -> Html:
    """Draw announced against observed chances, with the diagonal on which they agree."""

    def x(share: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * share, 1)

    def y(share: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * share, 1)

    dots, sentences = "", []
    for each in bins:
        said, seen = float(each["probability"]), float(each["passed"])
        sentence = texts(
            "chart.bin",
            said=texts.percent(said),
            seen=texts.percent(seen),
            count=texts.number(int(each["n"]), 0),
        )
        sentences.append(sentence)
        dots += (
            f'<circle class="measured" cx="{x(said)}" cy="{y(seen)}" r="5">'
            f"<title>{escape(sentence)}</title></circle>"
        )
    numbers = "".join(
        f'<text class="number" x="{x(share)}" y="{_BOTTOM + 16}">{100 * share:g}</text>'
        f'<text class="number end" x="{_LEFT - 6}" y="{y(share) + 4}">{100 * share:g}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(share)}" y2="{y(share)}"/>'
        for share in (0.0, 0.5, 1.0)
    )
    middle = (_TOP + _BOTTOM) / 2
    titles = (
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 34}">{escape(texts("chart.said"))}</text>'
        f'<text x="14" y="{middle}" transform="rotate(-90 14 {middle})">'
        f"{escape(texts('chart.seen'))}</text>"
    )
    diagonal = f'<line class="pass" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>'
    return svg(
        "calibration", _BOTTOM + 40, texts.listed(sentences), numbers + titles + diagonal + dots
    )


def _errors(texts: Texts, groups: list[Mapping[str, Any]]) -> Html:
    """Draw the mean error of each group as a bar with its value and the number of its pupils."""
    largest = max(float(group["mae"]["value"]) for group in groups)
    rows, sentences = "", []
    for place, group in enumerate(groups):
        error, pupils = float(group["mae"]["value"]), texts.number(int(group["pupils"]), 0)
        name = group_name(texts, str(group["attribute"]), str(group["group"]))
        value = f"{texts.number(error, 2)} ({pupils})"
        sentences.append(f"{name} {value}")
        if len(name) > _MAX_NAME_CHARACTERS:
            name = f"{name[: _MAX_NAME_CHARACTERS - 1]}…"
        top = place * _ROW + 4
        width = round((_BAR_RIGHT - _BAR_LEFT) * error / largest, 1) if largest else 0
        rows += (
            f'<text class="end" x="{_BAR_LEFT - 8}" y="{top + 12}">{escape(name)}</text>'
            f'<rect class="bar" x="{_BAR_LEFT}" y="{top}" width="{width}" height="15" rx="2"/>'
            f'<text class="start" x="{_BAR_LEFT + width + 6}" y="{top + 12}">{escape(value)}</text>'
        )
    return svg("errors", len(groups) * _ROW + 6, texts.listed(sentences), rows)
