"""What the interface keeps of class lists is bounded for one visitor and for all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gradio_ui import visitor_state
from gradio_ui.files.class_file import MAX_KEPT_PROBLEMS
from gradio_ui.visitor_state import COOKIE, SessionCodes, Visits
from tests.unit.domain.tables.files import HEADER, read_class_list, row, text


def _request(number: int) -> Any:
    return SimpleNamespace(cookies={COOKIE: str(number)}, session_hash=str(number))


def test_invalid_cells_of_a_file_are_counted_but_not_all_kept() -> None:
    wrong = ["!" for _ in HEADER[1:]]
    found = read_class_list(text([HEADER, *([f"A-{n}", *wrong] for n in range(500))]))
    assert len(found.invalid) == MAX_KEPT_PROBLEMS
    assert found.problems == 500 * len(wrong)


def test_class_lists_idle_longest_are_forgotten_above_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visitor_state, "MAX_ROWS", 25)
    visits = Visits(SessionCodes(None))
    lists = read_class_list(text([HEADER, *(row(f"A-{n}", 10) for n in range(10))]))
    for number in range(4):
        visits.of(_request(number)).class_file = lists
    visits.of(_request(3))
    kept = [visits.of(_request(number)).class_file is not None for number in (3, 2, 1, 0)]
    assert kept == [True, True, False, False]
