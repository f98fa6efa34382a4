"""The features: strictness, order of grades, and the table derived from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from student_success.domain.students import (
    CATEGORICAL,
    EXAMPLE,
    FEATURE_NAMES,
    FEATURES,
    HORIZONS,
    NUMERIC,
    PERIODS,
    Horizon,
    StudentFeatures,
)

ABSENCES = "absences"
INTEGERS = {f.name: f for f in FEATURES if f.kind == "integer"}


def read(**changed: Any) -> StudentFeatures:
    return StudentFeatures.model_validate_json(json.dumps({**EXAMPLE, **changed}))


def problem(**changed: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**changed)
    [found] = caught.value.errors()
    return str(found["type"])


def test_reference_has_one_form() -> None:
    pupil = StudentFeatures.model_validate({**EXAMPLE, "reference": " e\u0301-1\ufeff "})
    assert pupil.reference == "é-1"


def test_features_have_names_and_order_of_the_contract() -> None:
    assert (
        *("school", "age", "reason", "nursery", "traveltime", "studytime", "failures"),
        *("schoolsup", "famsup", "paid", "activities", "higher", "freetime", "goout"),
        *("absences", "G1", "G2"),
    ) == FEATURE_NAMES
    assert set(CATEGORICAL) | set(NUMERIC) == set(FEATURE_NAMES)
    assert not set(CATEGORICAL) & set(NUMERIC)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("age", 15, 22),
        ("traveltime", 1, 4),
        ("studytime", 1, 4),
        ("failures", 0, 4),
        ("freetime", 1, 5),
        ("goout", 1, 5),
        ("absences", 0, 365),
        ("G1", 0, 20),
        ("G2", 0, 20),
    ],
)
def test_features_have_bounds_of_the_contract(name: str, low: int, high: int) -> None:
    feature = next(f for f in FEATURES if f.name == name)
    assert (feature.low, feature.high) == (low, high)
    for bound in (low, high):
        assert getattr(read(**{name: bound}), name) == bound
    assert problem(**{name: low - 1}) == "greater_than_equal"
    assert problem(**{name: high + 1}) == "less_than_equal"


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_whole_number_with_a_point_counts_as_an_integer(name: str) -> None:
    feature = INTEGERS[name]
    assert feature.high is not None
    found = getattr(read(**{name: float(feature.high)}), name)
    assert (found, type(found)) == (int(feature.high), int)


@pytest.mark.parametrize("name", sorted(INTEGERS))
@pytest.mark.parametrize("value", ["2", True, 2.5, [2], {}, "", 1e300])
def test_integer_of_another_type_is_refused(name: str, value: Any) -> None:
    assert problem(**{name: value})


@pytest.mark.parametrize("value", ["10", True, False, [10], {}, -0.01, 20.01])
def test_grade_of_another_type_or_out_of_range_is_refused(value: Any) -> None:
    assert problem(G1=value)


@pytest.mark.parametrize("name", CATEGORICAL)
@pytest.mark.parametrize("value", ["", "YES", "gp", 1, True, ["yes"], "yes "])
def test_unknown_category_is_refused(name: str, value: Any) -> None:
    assert problem(**{name: value}) == "literal_error"


@pytest.mark.parametrize(
    "name", [name for name in FEATURE_NAMES if name not in (*PERIODS, ABSENCES)]
)
def test_missing_required_feature_is_refused(name: str) -> None:
    body = {key: value for key, value in EXAMPLE.items() if key != name}
    with pytest.raises(ValidationError, match="Field required"):
        StudentFeatures.model_validate_json(json.dumps(body))


@pytest.mark.parametrize("name", [f.name for f in FEATURES if f.nullable])
def test_value_may_be_said_to_be_unknown(name: str) -> None:
    later = PERIODS[PERIODS.index(name) :] if name in PERIODS else ()
    found = read(**dict.fromkeys((name, *later)))
    assert getattr(found, name) is None


@pytest.mark.parametrize("name", ["school", "age"])
def test_school_and_age_must_be_known(name: str) -> None:
    assert problem(**{name: None})


def test_absences_may_be_left_out() -> None:
    body = {key: value for key, value in EXAMPLE.items() if key != ABSENCES}
    assert getattr(StudentFeatures.model_validate(body), ABSENCES) is None


@pytest.mark.parametrize(
    ("grades", "horizon"),
    [
        ({}, HORIZONS[0]),
        ({"G1": None}, HORIZONS[0]),
        ({"G1": None, "G2": None}, HORIZONS[0]),
        ({"G1": 0}, HORIZONS[1]),
        ({"G1": 10.5, "G2": None}, HORIZONS[1]),
        ({"G1": 0, "G2": 0}, HORIZONS[2]),
    ],
)
def test_horizon_follows_known_grades(grades: dict[str, Any], horizon: Horizon) -> None:
    body = {k: v for k, v in EXAMPLE.items() if k not in ("G1", "G2")} | grades
    assert StudentFeatures.model_validate_json(json.dumps(body)).horizon is horizon


def test_second_grade_without_the_first_is_refused() -> None:
    assert problem(G1=None) == "grades_out_of_order"


def test_reference_is_bounded_and_optional() -> None:
    assert read().reference is None
    assert read(reference="é" * 64).reference == "é" * 64
    assert problem(reference="x" * 65) == "string_too_long"
    assert problem(reference=7) == "string_type"


def test_unknown_field_is_refused() -> None:
    assert problem(sex="F") == "extra_forbidden"


def test_pupil_is_immutable() -> None:
    with pytest.raises(ValidationError):
        read().age = 18  # type: ignore[misc]


@given(
    st.fixed_dictionaries(
        {
            f.name: st.sampled_from(f.categories)
            if f.kind == "category"
            else st.integers(int(f.low or 0), int(f.high or 0))
            if f.kind == "integer"
            else st.floats(f.low, f.high)
            for f in FEATURES
        }
    )
)
def test_every_allowed_value_is_valid_and_returned_unchanged(body: dict[str, Any]) -> None:
    found = StudentFeatures.model_validate_json(json.dumps(body))
    assert found.model_dump(exclude={"reference"}) == body


def test_every_feature_has_label_and_help_in_both_languages() -> None:
    for feature in FEATURES:
        said = feature.public()
        for texts in (said["labels"], said["help"]):
            assert set(texts) == {"fr", "en"}
            assert all(text.strip() for text in texts.values())
        if said["choices"] is not None and feature.kind == "category":
            assert set(said["choices"]) == set(feature.categories)
        elif said["choices"] is not None:
            assert feature.low is not None
            assert feature.high is not None
            expected = {str(i) for i in range(int(feature.low), int(feature.high) + 1)}
            assert set(said["choices"]) == expected


def test_example_covers_every_feature() -> None:
    assert set(EXAMPLE) == set(FEATURE_NAMES)
    assert read().horizon is HORIZONS[2]
