"""Pictures of grades as inline SVG; their colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from gradio_ui.files.rows import ScoredPupil
from gradio_ui.texts import Texts
from student_success.domain.students import GRADE_MAX, PASS_GRADE, SCALE

_WIDTH, _LEFT, _RIGHT = 400, 14, 386


def round_grade(grade: float) -> float:
    """Round to a grade that exists, half towards the better; this grade decides on a pass."""
    return SCALE.grade(min(max(math.floor(SCALE.level(grade) + 0.5), 0), SCALE.highest))


def _x(grade: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * min(max(grade, 0.0), GRADE_MAX) / GRADE_MAX, 1)


def _svg(css: str, height: int, label: str, content: str, attributes: str = "") -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 {_WIDTH} {height}"{attributes} role="img" '
        f'aria-label="{escape(label)}">{content}</svg>'
    )


def _band(low: int, high: int, shape: str) -> str:
    """Draw the track, and on it the interval; each whole grade covers half a point around it."""
    left, right = _x(low - 0.5), _x(high + 0.5)
    return (
        f'<rect class="track" x="{_LEFT}" width="{_RIGHT - _LEFT}" {shape}/>'
        f'<rect class="band" x="{left}" width="{round(right - left, 1)}" {shape}/>'
    )


def _pass_line(top: int, bottom: int) -> str:
    x = _x(PASS_GRADE)
    return f'<line class="pass" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'


def grade_scale(
    texts: Texts,
    *,
    grade: float,
    low: int,
    high: int,
    passes: bool,
    known: Sequence[tuple[str, float]] = (),
) -> str:
    """Draw a predicted grade on the scale from 0 to 20.

    Parameters
    ----------
    low, high
        The interval, whole grades.
    known
        Name and value of grades to mark with small circles.
    """
    x = _x(grade)
    ticks = "".join(
        f'<line class="tick" x1="{_x(n)}" x2="{_x(n)}" y1="62" y2="{70 if n % 5 == 0 else 66}"/>'
        + (f'<text class="number" x="{_x(n)}" y="84">{n}</text>' if n % 5 == 0 else "")
        for n in range(int(GRADE_MAX) + 1)
    )
    circles = "".join(
        f'<circle class="known" cx="{_x(value)}" cy="54" r="4.5"><title>{escape(name)} '
        f"{escape(texts.number(value))}</title></circle>"
        for name, value in known
    )
    label = texts(
        "scale.described",
        grade=texts.number(grade),
        low=low,
        high=high,
        line=texts.number(PASS_GRADE, 0),
    )
    return _svg(
        f"scale {'good' if passes else 'low'}",
        104,
        label,
        _band(low, high, 'y="46" height="16" rx="8"')
        + _pass_line(34, 72)
        + ticks
        + circles
        + f'<text class="pass-label" x="{_x(PASS_GRADE)}" y="100">{escape(texts("scale.pass"))}'
        f'</text><path class="pointer" d="M{x} 44 l-7 -11 h14 z"/>'
        f'<line class="needle" x1="{x}" x2="{x}" y1="44" y2="62"/>'
        f'<text class="grade" x="{min(max(x, 24), _WIDTH - 24)}" y="26">'
        f"{escape(texts.number(grade))}</text>",
    )


def grade_strip(texts: Texts, scored: ScoredPupil) -> str:
    """Draw a grade and its interval in the height of a line of text."""
    return _svg(
        f"strip {'good' if scored.passes else 'low'}",
        24,
        texts("scale.short", low=scored.low, high=scored.high),
        _band(scored.low, scored.high, 'y="8" height="8"')
        + _pass_line(1, 23)
        + f'<rect class="dot" x="{_x(scored.grade) - 5}" y="3" width="10" height="18"/>',
        ' preserveAspectRatio="none"',
    )


def distribution(texts: Texts, scored: Sequence[ScoredPupil]) -> str:
    """Draw how many pupils are predicted each whole grade."""
    counts = [0] * (int(GRADE_MAX) + 1)
    for pupil in scored:
        counts[min(int(GRADE_MAX), max(0, int(pupil.grade + 0.5)))] += 1
    highest = max(counts) or 1
    step = (_RIGHT - _LEFT) / (GRADE_MAX + 1)
    bars = []
    for grade, count in enumerate(counts):
        height = round(88 * count / highest, 1)
        left = round(_LEFT + step * grade + 1.5, 1)
        bars.append(
            f'<rect class="{"good" if grade >= PASS_GRADE else "low"}" x="{left}" '
            f'y="{round(108 - height, 1)}" width="{round(step - 3, 1)}" height="{height}" rx="2"/>'
        )
        if count:
            bars.append(
                f'<text class="count" x="{round(left + step / 2 - 1.5, 1)}" '
                f'y="{round(104 - height, 1)}">{count}</text>'
            )
        if grade % 5 == 0:
            bars.append(
                f'<text class="number" x="{round(left + step / 2 - 1.5, 1)}" y="123">{grade}</text>'
            )
    line = round(_LEFT + step * PASS_GRADE, 1)
    passing = sum(pupil.passes for pupil in scored)
    return _svg(
        "bars",
        130,
        texts("scale.distribution", count=len(scored), passing=passing),
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="108" y2="108"/>{"".join(bars)}'
        f'<line class="pass" x1="{line}" x2="{line}" y1="6" y2="112"/>',
    )


def over_time(texts: Texts, points: Sequence[tuple[str, float, bool, int | None]]) -> str:
    """Draw predictions in the order they were made.

    Parameters
    ----------
    points
        Oldest first: time, predicted grade, pass or not, and the grade obtained where known.
    """
    left, right, top, bottom = 28, 386, 8, 112

    def y(grade: float) -> float:
        return round(bottom - (bottom - top) * grade / GRADE_MAX, 1)

    step = (right - left - 16) / max(1, len(points) - 1)
    marks = []
    for place, (time, grade, passes, actual) in enumerate(points):
        x = round(left + 8 + step * place, 1) if len(points) > 1 else (left + right) / 2
        if actual is not None:
            marks.append(
                f'<line class="tick" x1="{x}" x2="{x}" y1="{y(grade)}" y2="{y(actual)}"/>'
                f'<path class="actual" d="M{x} {y(actual) - 4} l4 4 l-4 4 l-4 -4 z"/>'
            )
        marks.append(
            f'<circle class="{"good" if passes else "low"}" cx="{x}" cy="{y(grade)}" r="3.5">'
            f"<title>{escape(f'{time} · {texts.number(grade)}')}</title></circle>"
        )
    lines = "".join(
        f'<line class="{"pass" if n == PASS_GRADE else "axis"}" x1="{left}" x2="{right}" '
        f'y1="{y(n)}" y2="{y(n)}"/><text class="number" x="14" y="{y(n) + 4}">{n}</text>'
        for n in (0, 5, 10, 15, 20)
    )
    return _svg("time", 122, texts("scale.over_time", count=len(points)), lines + "".join(marks))
