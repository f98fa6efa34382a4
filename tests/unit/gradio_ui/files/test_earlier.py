from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from gradio_ui.files.class_file import read_class_table
from gradio_ui.files.earlier import EarlierEstimates, recorded_estimates, saved_estimates
from gradio_ui.files.rows import Earlier, ScoredPupil
from gradio_ui.html.class_list import result_rows, result_titles
from gradio_ui.texts import Texts
from student_success.domain.students import EXAMPLE, FEATURE_NAMES, PREDICTED
from student_success.domain.tables.pupils import Pupil


def _scored(reference: str = "A-1", grade: float = 12.3, horizon: str = "G1") -> ScoredPupil:
    pupil = Pupil(2, reference, {name: EXAMPLE[name] for name in FEATURE_NAMES})
    return ScoredPupil(pupil, grade, 9, 15, 0.9, True, False, horizon, "seed", "p", "s")


def _saved(texts: Texts, scored: ScoredPupil) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows(
        [result_titles(texts), *result_rows(texts, [(1, scored)], {})]
    )
    return out.getvalue().replace("12.3", "12,3").encode()


@pytest.mark.parametrize("language", ["fr", "en"])
def test_saved_estimates_are_read_from_a_file_of_either_language(language: Any) -> None:
    table = read_class_table(_saved(Texts(language), _scored()))
    assert saved_estimates(table) == {2: Earlier(12.3, "G1")}


def test_saved_estimates_are_none_in_other_files_and_for_impossible_grades() -> None:
    data = _saved(Texts("en"), _scored())
    for written in (b"-1", b"21", b"?", b""):
        assert saved_estimates(read_class_table(data.replace(b"12,3", written))) == {}
    other = data.replace(b"estimated grade", b"another title")
    assert saved_estimates(read_class_table(other)) == {}


def test_earlier_estimate_is_the_newest_with_other_grades_known() -> None:
    def row(reference: str | None, grade: float, horizon: str) -> dict[str, Any]:
        return {"reference": reference, PREDICTED: grade, "horizon": horizon}

    rows = [
        row("A-1", 9, "G1+G2"),
        row("A-1", 11, "G1"),
        row("A-1", 14, "none"),
        row(None, 3, "G1"),
    ]
    recorded = recorded_estimates(rows)
    assert set(recorded) == {"A-1"}
    now = _scored(grade=8, horizon="G1+G2")
    compared = EarlierEstimates({}, recorded).beside(now)
    assert compared.earlier == Earlier(11, "G1")
    assert compared.change == -3
    same = EarlierEstimates({}, {"A-1": [Earlier(9, "G1+G2")]}).beside(now)
    assert same.earlier == Earlier(9, "G1+G2")
    saved = EarlierEstimates({2: Earlier(8, "")}, recorded).beside(now)
    assert saved.earlier == Earlier(8, "")
    assert EarlierEstimates({}, recorded).beside(_scored("B-1")).earlier is None
    assert _scored().change == 0
