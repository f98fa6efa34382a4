"""Pictures of grades as inline SVG; their colours come from the page's style sheet.

Each picture runs from the worst grade on the left to the best one on the right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html.labels import estimate_text, grade_text
from gradio_ui.html.markup import Html
from gradio_ui.texts import Texts
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PASS_GRADE, PASS_LEVEL, SCALE

_WIDTH, _LEFT, _RIGHT = 400, 14, 386
_MOST_LABELS, _MOST_TICKS, _MOST_BARS = 6, 30, 25
_DIGIT_WIDTH = 6.0
"""Width of a digit above a bar, in units of the picture."""


def round_grade(grade: float) -> float:
    """Round to a grade that exists, half towards the better; this grade decides on a pass."""
    return SCALE.grade(SCALE.nearest(grade))


def rounded_estimate(texts: Texts, grade: float) -> str:
    """Write a grade as a model computes it, and what it rounds to if only that one passes."""
    estimate = estimate_text(texts, grade)
    if SCALE.sign * (grade - PASS_GRADE) >= 0 or SCALE.nearest(grade) < PASS_LEVEL:
        return estimate
    return texts("result.rounds", grade=estimate, rounded=grade_text(texts, round_grade(grade)))


def _round_up(smallest: float) -> float:
    """Return the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(smallest))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= smallest)


def _multiples(step: float) -> list[float]:
    """Return the multiples of a step that lie on the scale."""
    first, last = math.ceil(GRADE_MIN / step - 1e-9), math.floor(GRADE_MAX / step + 1e-9)
    return [round(number * step, 6) for number in range(first, last + 1)]


_NUMBER_STEP = _round_up((GRADE_MAX - GRADE_MIN) / _MOST_LABELS)
_NUMBERS = _multiples(_NUMBER_STEP)
_TICKS = (
    [SCALE.grade(level) for level in range(SCALE.highest + 1)]
    if SCALE.highest <= _MOST_TICKS
    else _multiples(_NUMBER_STEP / 5)
)


def _x(grade: float) -> float:
    share = SCALE.level(grade) / SCALE.highest
    return round(_LEFT + (_RIGHT - _LEFT) * min(max(share, 0.0), 1.0), 1)


def svg(css: str, height: int, label: str, content: str, attributes: str = "") -> Html:
    """Return a picture of 400 units' width; a screen reader reads its label."""
    return Html(
        f'<svg class="{css}" viewBox="0 0 {_WIDTH} {height}"{attributes} role="img" '
        f'aria-label="{escape(label)}">{content}</svg>'
    )


def _band(low: float, high: float, shape: str) -> str:
    """Draw the track, and on it the interval; each grade covers half a step around it."""
    half = SCALE.step / 2
    ends = [_x(grade) for bound in (low, high) for grade in (bound - half, bound + half)]
    left, right = min(ends), max(ends)
    return (
        f'<rect class="track" x="{_LEFT}" width="{_RIGHT - _LEFT}" {shape}/>'
        f'<rect class="band" x="{left}" width="{round(right - left, 1)}" {shape}/>'
    )


def _line(x: float, top: int, bottom: int, css: str = "pass") -> str:
    return f'<line class="{css}" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'


def _numbers(places: Iterable[tuple[float, str]], y: int) -> str:
    return "".join(f'<text class="number" x="{x}" y="{y}">{text}</text>' for x, text in places)


def grade_scale(
    texts: Texts,
    *,
    grade: float,
    low: float,
    high: float,
    passes: bool,
    known: Sequence[tuple[str, float]] = (),
) -> Html:
    """Draw a predicted grade on its scale.

    Parameters
    ----------
    low, high
        The interval, grades that exist.
    known
        Name and value of grades to mark with small circles.
    """
    x = _x(grade)
    ticks = "".join(_line(_x(n), 62, 70 if round(n, 6) in _NUMBERS else 66, "tick") for n in _TICKS)
    circles = "".join(
        f'<circle class="known" cx="{_x(value)}" cy="54" r="4.5"><title>{escape(name)} '
        f"{escape(grade_text(texts, value))}</title></circle>"
        for name, value in known
    )
    label = texts(
        "scale.described",
        worst=grade_text(texts, SCALE.grade(0)),
        best=grade_text(texts, SCALE.grade(SCALE.highest)),
        grade=estimate_text(texts, grade),
        low=grade_text(texts, low),
        high=grade_text(texts, high),
        line=grade_text(texts, PASS_GRADE),
    )
    return svg(
        f"scale {'good' if passes else 'low'}",
        104,
        label,
        _band(low, high, 'y="46" height="16" rx="8"')
        + _line(_x(PASS_GRADE), 34, 72)
        + ticks
        + _numbers(((_x(n), grade_text(texts, n)) for n in _NUMBERS), 84)
        + circles
        + f'<text class="pass-label" x="{min(max(_x(PASS_GRADE), 60), _WIDTH - 60)}" y="100">'
        f'{escape(texts("scale.pass"))}</text><path class="pointer" d="M{x} 44 l-7 -11 h14 z"/>'
        + _line(x, 44, 62, "needle")
        + f'<text class="grade" x="{min(max(x, 24), _WIDTH - 24)}" y="26">'
        f"{escape(estimate_text(texts, grade))}</text>",
    )


def grade_strip(texts: Texts, scored: ScoredPupil) -> Html:
    """Draw a grade and its interval in the height of a line of text."""
    low, high = grade_text(texts, scored.low), grade_text(texts, scored.high)
    return svg(
        f"strip {'good' if scored.passes else 'low'}",
        24,
        texts("scale.short", low=low, high=high),
        _band(scored.low, scored.high, 'y="8" height="8"')
        + _line(_x(PASS_GRADE), 1, 23)
        + f'<rect class="dot" x="{_x(scored.grade) - 5}" y="3" width="10" height="18"/>',
        ' preserveAspectRatio="none"',
    )


def distribution(texts: Texts, scored: Sequence[ScoredPupil]) -> Html:
    """Draw how many pupils are predicted each grade, or each few grades of a fine scale."""
    width = max(1, round(_round_up((SCALE.highest + 1) / _MOST_BARS)))
    # The pass mark begins a bar, so that no bar holds both passes and fails.
    first, last = -PASS_LEVEL // width, (SCALE.highest - PASS_LEVEL) // width
    counts = Counter((SCALE.nearest(pupil.grade) - PASS_LEVEL) // width for pupil in scored)
    highest = max(counts.values())
    step = (_RIGHT - _LEFT) / (last - first + 1)
    bars, labels, numbers = [], [], []
    for place in range(first, last + 1):
        count, left = counts[place], _LEFT + step * (place - first)
        levels = range(PASS_LEVEL + place * width, PASS_LEVEL + (place + 1) * width)
        grades = [SCALE.grade(level) for level in levels if 0 <= level <= SCALE.highest]
        height = round(88 * count / highest, 1)
        named = "–".join(dict.fromkeys(grade_text(texts, g) for g in (grades[0], grades[-1])))
        bars.append(
            f'<rect class="{"good" if place >= 0 else "low"}" x="{round(left + 1.5, 1)}" '
            f'y="{round(108 - height, 1)}" width="{round(step - 3, 1)}" height="{height}" rx="2">'
            f"<title>{escape(texts('explain.set', name=named, value=count))}</title></rect>"
        )
        middle = round(left + step / 2, 1)
        # A number wider than its bar would cover the next one.
        if count and len(str(count)) * _DIGIT_WIDTH <= step:
            labels.append(f'<text class="count" x="{middle}" y="{104 - height:.1f}">{count}</text>')
        numbers += [(middle, grade_text(texts, n)) for n in _NUMBERS if n in grades]
    passing = sum(pupil.passes for pupil in scored)
    return svg(
        "bars",
        130,
        texts("scale.distribution", count=len(scored), passing=passing),
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="108" y2="108"/>'
        + "".join([*bars, *labels])
        + _numbers(numbers, 123)
        + _line(round(_LEFT - step * first, 1), 6, 112),
    )
