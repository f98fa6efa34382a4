"""Pictures of grades, as inline SVG: they take their colours from the page, light or dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gradio_ui.files.rows import Scored
from gradio_ui.texts import Words

PASS = 10.0
MOST = 20
_WIDTH, _LEFT, _RIGHT = 400, 14, 386


def _x(grade: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * min(max(grade, 0.0), MOST) / MOST, 1)


def grade_scale(
    words: Words,
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
        Name and value of the period grades already known, drawn small under the scale.
    """
    said = words(
        "scale.described", grade=words.number(grade), low=low, high=high, line=words.number(PASS, 0)
    )
    at, line = _x(grade), _x(PASS)
    ticks = "".join(
        f'<line class="tick" x1="{_x(n)}" x2="{_x(n)}" y1="62" y2="{70 if n % 5 == 0 else 66}"/>'
        + (f'<text class="number" x="{_x(n)}" y="84">{n}</text>' if n % 5 == 0 else "")
        for n in range(MOST + 1)
    )
    marks = "".join(
        f'<circle class="known" cx="{_x(value)}" cy="54" r="4.5"><title>{escape(name)} '
        f"{escape(words.number(value))}</title></circle>"
        for name, value in known
    )
    return (
        f'<svg class="scale {"good" if passes else "low"}" viewBox="0 0 {_WIDTH} 104" role="img" '
        f'aria-label="{escape(said)}">'
        f'<rect class="track" x="{_LEFT}" y="46" width="{_RIGHT - _LEFT}" height="16" rx="8"/>'
        f'<rect class="band" x="{_x(low - 0.5)}" y="46" '
        f'width="{round(_x(high + 0.5) - _x(low - 0.5), 1)}" height="16" rx="8"/>'
        f'<line class="pass" x1="{line}" x2="{line}" y1="34" y2="72"/>'
        f"{ticks}{marks}"
        f'<text class="password" x="{line}" y="100">'
        f"{escape(words('scale.pass'))}</text>"
        f'<path class="pointer" d="M{at} 44 l-7 -11 h14 z"/>'
        f'<line class="needle" x1="{at}" x2="{at}" y1="44" y2="62"/>'
        f'<text class="grade" x="{min(max(at, 24), _WIDTH - 24)}" y="26">'
        f"{escape(words.number(grade))}</text></svg>"
    )


def strip(words: Words, scored: Scored) -> str:
    """Draw a grade and its interval in the height of a line of text."""
    low, high = _x(scored.low - 0.5), _x(scored.high + 0.5)
    colour = "good" if scored.passes else "low"
    said = words("scale.short", low=scored.low, high=scored.high)
    return (
        f'<svg class="strip {colour}" viewBox="0 0 {_WIDTH} 24" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(said)}">'
        f'<rect class="track" x="{_LEFT}" y="8" width="{_RIGHT - _LEFT}" height="8"/>'
        f'<rect class="band" x="{low}" y="8" width="{round(high - low, 1)}" height="8"/>'
        f'<line class="pass" x1="{_x(PASS)}" x2="{_x(PASS)}" y1="1" y2="23"/>'
        f'<rect class="dot" x="{_x(scored.grade) - 5}" y="3" width="10" height="18"/></svg>'
    )


def distribution(words: Words, scored: Sequence[Scored]) -> str:
    """Draw how many pupils are predicted each whole grade."""
    counts = [0] * (MOST + 1)
    for one in scored:
        counts[min(MOST, max(0, int(one.grade + 0.5)))] += 1
    most = max(counts) or 1
    step = (_RIGHT - _LEFT) / (MOST + 1)
    bars = []
    for grade, count in enumerate(counts):
        height = round(88 * count / most, 1)
        left = round(_LEFT + step * grade + 1.5, 1)
        colour = "good" if grade >= PASS else "low"
        bars.append(
            f'<rect class="{colour}" x="{left}" y="{round(108 - height, 1)}" '
            f'width="{round(step - 3, 1)}" height="{height}" rx="2"/>'
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
    line = round(_LEFT + step * PASS, 1)
    passing = sum(one.passes for one in scored)
    said = words("scale.distribution", count=len(scored), passing=passing)
    return (
        f'<svg class="bars" viewBox="0 0 {_WIDTH} 130" role="img" aria-label="{escape(said)}">'
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="108" y2="108"/>{"".join(bars)}'
        f'<line class="pass" x1="{line}" x2="{line}" y1="6" y2="112"/></svg>'
    )


def over_time(words: Words, points: Sequence[tuple[str, float, bool, int | None]]) -> str:
    """Draw predictions in the order they were made.

    Parameters
    ----------
    points
        Oldest first: when, predicted grade, pass or not, and the grade obtained where known.
    """
    left, right, top, bottom = 28, 386, 8, 112

    def y(grade: float) -> float:
        return round(bottom - (bottom - top) * grade / MOST, 1)

    step = (right - left - 16) / max(1, len(points) - 1)
    drawn = []
    for place, (when, grade, passes, actual) in enumerate(points):
        x = round(left + 8 + step * place, 1) if len(points) > 1 else (left + right) / 2
        label = f"{when} · {words.number(grade)}"
        if actual is not None:
            drawn.append(
                f'<line class="tick" x1="{x}" x2="{x}" y1="{y(grade)}" y2="{y(actual)}"/>'
                f'<path class="actual" d="M{x} {y(actual) - 4} l4 4 l-4 4 l-4 -4 z"/>'
            )
        drawn.append(
            f'<circle class="{"good" if passes else "low"}" cx="{x}" cy="{y(grade)}" r="3.5">'
            f"<title>{escape(label)}</title></circle>"
        )
    lines = "".join(
        f'<line class="{"pass" if n == PASS else "axis"}" x1="{left}" x2="{right}" '
        f'y1="{y(n)}" y2="{y(n)}"/><text class="number" x="14" y="{y(n) + 4}">{n}</text>'
        for n in (0, 5, 10, 15, 20)
    )
    said = words("scale.over_time", count=len(points))
    return (
        f'<svg class="time" viewBox="0 0 {_WIDTH} 122" role="img" aria-label="{escape(said)}">'
        f"{lines}{''.join(drawn)}</svg>"
    )
