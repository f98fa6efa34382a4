"""The controls beside a pupil's estimate."""

from __future__ import annotations

from typing import Any

import pytest

from gradio_ui.tabs.answer import WHAT_IF, PupilAnswer
from gradio_ui.texts import Texts
from student_success.domain.profile import Change, Text
from student_success.domain.students import EXAMPLE, About, Feature


@pytest.mark.parametrize(
    ("feature", "value", "offered"),
    [
        ("schoolsup", "no", {"yes", "no"}),
        # Taking help away, or studying less, is no idea to give.
        ("schoolsup", "yes", None),
        ("studytime", 3, {3, 4}),
        ("studytime", 4, None),
        ("goout", 3, {1, 2, 3}),
        ("absences", 10, (0, 60)),
        ("absences", 0, (0, 60)),
        ("absences", None, None),
    ],
)
def test_control_offers_what_could_help(feature: str, value: Any, offered: Any) -> None:
    answer = PupilAnswer.__new__(PupilAnswer)
    answer._texts = Texts("en")
    about = next(each for each in WHAT_IF if each.name == feature)
    update = answer._present_value(about, EXAMPLE | {feature: value})
    assert update["visible"] is (offered is not None)
    if isinstance(offered, set):
        assert {choice for _, choice in update["choices"]} == offered
    elif offered:
        assert (update["minimum"], update["maximum"]) == offered
    if value is not None:
        assert update["value"] == value


def test_slider_of_a_large_number_reaches_its_better_end() -> None:
    about = About(Text(en="Minutes of reading"), Text(en="A week."), "pupil")
    change = Change(step=10, better="higher")
    reading = Feature("reading", "integer", about, nullable=False, low=0, high=300, change=change)
    answer = PupilAnswer.__new__(PupilAnswer)
    update = answer._present_value(reading, {"reading": 120})
    assert (update["minimum"], update["value"], update["maximum"]) == (120, 120, 300)
