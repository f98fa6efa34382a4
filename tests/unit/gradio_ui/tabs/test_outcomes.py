"""The list of grades that a reader types in."""

from __future__ import annotations

import pytest

from gradio_ui.tabs.outcomes import _parse_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((line, ("A-01", 12)) for line in ("A-01;12", "A-01 ; 12", "A-01\t12", "A-01 12")),
        *((line, ("A-01", 12)) for line in ("A-01,12", "A-01, 12", "A-01 , 12,0")),
        ("3B 07;12", ("3B 07", 12)),
        ("3B 07 12", ("3B 07", 12)),
        # No grade of the shipped profile; never the grade 5 of a pupil "A-01 10".
        ("A-01 10,5", ("A-01", None)),
        ("A-01, 10,5", ("A-01", None)),
        ("12", ("", None)),
    ],
)
def test_line_is_a_reference_and_a_grade_with_a_decimal_comma(
    line: str, expected: tuple[str, int | None]
) -> None:
    assert _parse_line(line) == expected
