"""The one form of references, and references that show nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from student_success.domain.schemas.history import OutcomesRequest
from student_success.domain.students import ACTUAL, EXAMPLE, SCALE, StudentFeatures

BLANK = ["", " ", "\t\n", "\u200b", " \ufeff\u200b ", "\u00a0"]


@pytest.mark.parametrize("reference", BLANK)
def test_reference_without_a_visible_character_is_none(reference: str) -> None:
    """Otherwise all pupils with such references would be one pupil."""
    student = StudentFeatures.model_validate(EXAMPLE | {"reference": reference})
    assert student.reference is None


@pytest.mark.parametrize("reference", BLANK)
def test_outcome_of_a_reference_without_a_visible_character_is_refused(reference: str) -> None:
    outcome = {"session_id": "a", "reference": reference, ACTUAL: SCALE.grade(0)}
    with pytest.raises(ValidationError) as caught:
        OutcomesRequest.model_validate({"outcomes": [outcome]})
    assert caught.value.errors()[0]["loc"] == ("outcomes", 0, "reference")


@pytest.mark.parametrize(
    ("reference", "normal"), [(" P-1 ", "P-1"), ("e\u0301", "\u00e9"), ("P\u200b-2", "P-2")]
)
def test_reference_has_one_form(reference: str, normal: str) -> None:
    assert StudentFeatures.model_validate(EXAMPLE | {"reference": reference}).reference == normal


@pytest.mark.parametrize("reference", ["\u0958" * 33, "\U0001d160" * 22], ids=["qa", "note"])
def test_reference_that_is_too_long_in_its_one_form_is_refused(reference: str) -> None:
    """NFC makes several characters of each of these; the database's column holds 64."""
    assert len(reference) <= 64
    with pytest.raises(ValidationError):
        StudentFeatures.model_validate(EXAMPLE | {"reference": reference})
    outcome = {"session_id": "a", "reference": reference, ACTUAL: SCALE.grade(0)}
    with pytest.raises(ValidationError):
        OutcomesRequest.model_validate({"outcomes": [outcome]})
    shorter = reference[: len(reference) // 2]
    assert StudentFeatures.model_validate(EXAMPLE | {"reference": shorter}).reference


def test_outcome_of_a_prediction_id_with_nul_is_refused() -> None:
    """PostgreSQL cannot compare it."""
    with pytest.raises(ValidationError):
        OutcomesRequest.model_validate(
            {"outcomes": [{"prediction_id": "a\0", ACTUAL: SCALE.grade(0)}]}
        )
