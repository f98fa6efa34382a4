"""Strict JSON: what is rejected, that no input is echoed, and that the quick check is correct."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.api.validation import MAX_PROBLEMS, _has_unique_keys, validate_json
from student_success.core.errors import InvalidInputError
from student_success.domain.schemas.history import HistoryQuery
from student_success.domain.schemas.lifecycle import PromoteRequest, RollbackRequest, TrainRequest
from student_success.domain.schemas.prediction import Students
from student_success.domain.students import EXAMPLE, StudentFeatures

PAIRS = [(json.dumps(name), json.dumps(value)) for name, value in EXAMPLE.items()]


def pupil(**changed: Any) -> bytes:
    return json.dumps({**EXAMPLE, **changed}).encode()


def raw(extra: bytes) -> bytes:
    """Return the example pupil with raw JSON appended."""
    return pupil()[:-1] + b"," + extra + b"}"


def problems(body: bytes, model: Any = StudentFeatures) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(InvalidInputError) as caught:
        validate_json(model, body)
    assert all(set(item) == {"loc", "msg", "type"} for item in caught.value.details)
    return [(tuple(item["loc"]), item["type"]) for item in caught.value.details]


def repeats_a_key(body: bytes) -> bool:
    """Check slowly and exactly."""
    repeated = False

    def check(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in pairs}) < len(pairs)

    json.loads(body, object_pairs_hook=check)
    return repeated


# Strings that look like JSON structure: colons, quotes, escapes, braces, whole members.
tricky = st.one_of(
    st.text(alphabet=':",{}[]\\ a\u00e9\U0001f600', max_size=20),
    st.sampled_from(['"age":17', "::::", "\\", '\\"', "a:b", '","age":"', "\u2028"]),
)
references = st.builds(
    lambda text, ascii_only: ('"reference"', json.dumps(text, ensure_ascii=ascii_only)),
    tricky,
    st.booleans(),
)
# The same keys, with escapes.
escaped = st.sampled_from(
    [('"\\u0061ge"', "17"), ('"ag\\u0065"', "18"), ('"\\u0047\\u0031"', "10"), ('"G1"', "1e1")]
)
spaces = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    added = draw(st.lists(st.one_of(st.sampled_from(PAIRS), references, escaped), max_size=4))
    members = draw(st.permutations([*PAIRS, *added]))
    space = draw(spaces)
    text = ",".join(f"{space}{key}{space}:{space}{value}{space}" for key, value in members)
    return f"{space}{{{text}}}{space}".encode()


@given(bodies())
def test_quick_check_for_repeated_keys_agrees_with_the_exact_check(body: bytes) -> None:
    if repeats_a_key(body):
        assert problems(body) == [((), "repeated_key")]
    else:
        validate_json(StudentFeatures, body)


@given(st.lists(bodies(), min_size=1, max_size=3))
def test_repeated_key_in_a_batch_is_rejected(rows: list[bytes]) -> None:
    body = b'{"students":[' + b",".join(rows) + b"]}"
    if repeats_a_key(body):
        assert problems(body, Students) == [((), "repeated_key")]
    else:
        assert len(validate_json(Students, body).students) == len(rows)


def test_quick_check_accepts_pupils_without_escapes() -> None:
    for body in (pupil(), pupil(reference="a:b:c"), pupil(G2=None), pupil(reference=None)):
        assert _has_unique_keys(validate_json(StudentFeatures, body), body)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (raw(b'"age": 17'), StudentFeatures),
        (raw(b'"a\\u0067e": 17'), StudentFeatures),
        (raw(b'"reference": ":::", "reference": ":"'), StudentFeatures),
        (raw(b'"reference": "x", "reference": null'), StudentFeatures),
        (b'{"version": 1, "version": 2}', PromoteRequest),
        (b'{"reason": "a:", "reason": "b"}', RollbackRequest),
        (b'{"limit": 1, "limit": 1}', HistoryQuery),
        (b'{"wait": true, "w\\u0061it": false}', TrainRequest),
        (b'{"students": [], "students": [' + pupil() + b"]}", Students),
    ],
)
def test_repeated_key_is_rejected(body: bytes, model: Any) -> None:
    assert problems(body, model) == [((), "repeated_key")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b"\xef\xbb\xbf" + pupil(),
        pupil().decode().encode("utf-16"),
        pupil().decode().encode("utf-16-le"),
        raw(b'"reference": "\xff"'),
        raw(b'"reference": "\xed\xa0\x80"'),
        raw(b'"reference": "\\ud800"'),
        raw(b'"reference": "\\udc00x"'),
        raw(b'"reference": "\x00"'),
        raw(b'"reference": "\n"'),
        raw(b'"reference": "\\x"'),
        raw(b'"absences": 0x10'),
        raw(b'"G1": .5'),
        raw(b'"G1": +5'),
        raw(b'"G1": 05'),
        raw(b'"age": ' + b"1" * 5000),
        raw(b'"age": 17,'),
        raw(b"'age': 17"),
        raw(b'"x": // comment\n 1'),
        pupil() + b"x",
        pupil() + pupil(),
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:30] + b".." + body[-20:]),
)
def test_malformed_json_is_rejected(body: bytes) -> None:
    [(loc, error_type)] = problems(body)
    assert loc == ()
    assert error_type in ("json_invalid", "too_many_values")


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b"17", b'"text"', b"[" + pupil() + b"]"])
def test_json_that_is_not_an_object_is_rejected(body: bytes) -> None:
    assert problems(body) == [((), "model_type")]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
@pytest.mark.parametrize("field", [b"G1", b"age"])
def test_number_that_is_not_finite_is_rejected(field: bytes, number: bytes) -> None:
    body = pupil().replace(
        b'"' + field + b'": ' + json.dumps(EXAMPLE[field.decode()]).encode(),
        b'"' + field + b'": ' + number,
    )
    assert number in body
    assert {loc for loc, _ in problems(body)} == {(field.decode(),)}


@pytest.mark.parametrize("depth", [100, 150, 250, 5_000])
def test_deep_nesting_is_rejected(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = opening * depth + b"1" + closing * depth
        for body, model in (
            (raw(b'"x":' + nested), StudentFeatures),
            (nested, StudentFeatures),
            (b'{"students":' + nested + b"}", Students),
            (nested, HistoryQuery),
        ):
            assert problems(body, model)


def test_huge_number_is_rejected_with_its_field() -> None:
    body = pupil().replace(b'"age": 17', b'"age": ' + b"9" * 400)
    assert problems(body) == [(("age",), "less_than_equal")]


def test_number_with_exponent_is_accepted() -> None:
    assert validate_json(StudentFeatures, pupil().replace(b"10.0", b"1E+1")).G1 == 10.0
    assert validate_json(StudentFeatures, pupil().replace(b"10.0", b"-0.0")).G1 == 0.0


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (raw(b'"reference": "a\\u0000b"'), StudentFeatures),
        (b'{"reason": "a\\u0000"}', RollbackRequest),
        (b'{"version": 1, "reason": "\\u0000"}', PromoteRequest),
    ],
)
def test_nul_character_is_rejected_because_postgresql_cannot_store_it(
    body: bytes, model: Any
) -> None:
    assert [error_type for _, error_type in problems(body, model)] == ["string_pattern_mismatch"]


def test_errors_contain_no_input_value() -> None:
    secret = "Zoe-Lefevre"
    for body in (
        pupil(school=secret),
        pupil(age=secret),
        pupil(G1=secret),
        pupil(reference=[secret]),
        pupil(unknown=secret),
        pupil(reference=secret * 50),
        json.dumps(secret).encode(),
        f'{{"age": {secret}'.encode(),
    ):
        with pytest.raises(InvalidInputError) as caught:
            validate_json(StudentFeatures, body)
        assert secret not in json.dumps(caught.value.to_json())


def test_every_invalid_row_of_a_batch_is_reported() -> None:
    rows = [dict(EXAMPLE) for _ in range(10_000)]
    for number in range(0, 10_000, 3):
        rows[number] = {**EXAMPLE, "age": 99, "school": "?", "extra": 1}
    found = problems(json.dumps({"students": rows}).encode(), Students)
    assert {loc[1] for loc, _ in found} == set(range(0, 10_000, 3))


def test_every_error_of_an_invalid_row_is_reported_when_they_are_few() -> None:
    rows = [EXAMPLE, {**EXAMPLE, "age": 99, "school": "?"}, 7, {**EXAMPLE, "G1": None}]
    found = problems(json.dumps({"students": rows, "other": 1}).encode(), Students)
    assert set(found) == {
        (("other",), "extra_forbidden"),
        (("students", 1, "age"), "less_than_equal"),
        (("students", 1, "school"), "literal_error"),
        (("students", 2), "model_type"),
        (("students", 3), "grades_out_of_order"),
    }


def test_empty_or_too_long_batch_is_rejected() -> None:
    assert problems(b'{"students": []}', Students) == [(("students",), "too_short")]
    body = json.dumps({"students": [EXAMPLE] * 10_001}).encode()
    assert problems(body, Students) == [(("students",), "too_long")]


def test_number_of_reported_errors_is_limited() -> None:
    body = json.dumps({f"k{i}": 1 for i in range(90)}).encode()
    required = [field for field in StudentFeatures.model_fields.values() if field.is_required()]
    assert len(problems(body)) == 90 + len(required)
    empty = json.dumps({"students": [{}] * 10_000}).encode()
    found = problems(empty, Students)
    assert len(found) == 10_000
    assert len(found) > MAX_PROBLEMS


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b"{" + b",".join([b'"a":1'] * 170_000) + b"}", StudentFeatures),
        (b'{"x":[' + b",".join([b"[]"] * 330_000) + b"]}", StudentFeatures),
        (b'{"x":[' + b",".join([b"{}"] * 330_000) + b"]}", RollbackRequest),
        (b'{"students":[' + b",".join([b"{}"] * 5_000_000) + b"]}", Students),
        (b'{"students":[{' + b",".join([b'"a":1'] * 2_700_000) + b"}]}", Students),
    ],
    ids=["members", "arrays", "objects", "rows", "members of a row"],
)
def test_body_with_too_many_values_is_rejected_cheaply(body: bytes, model: Any) -> None:
    started = time.process_time()
    tracemalloc.start()
    try:
        assert problems(body, model) == [((), "too_many_values")]
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 2.0


def test_separators_inside_strings_do_not_count_as_values() -> None:
    reason = '{[,"\\' * 200
    assert validate_json(RollbackRequest, json.dumps({"reason": reason}).encode()).reason == reason
    reference = ',[{"' * 16
    assert validate_json(StudentFeatures, pupil(reference=reference)).reference == reference
    many = json.dumps({"students": [{**EXAMPLE, "reference": "[{" * 32}] * 2_000}).encode()
    assert len(validate_json(Students, many).students) == 2_000


@pytest.mark.parametrize("reference", [None, "a:b", "::", "x"])
def test_repeated_key_is_rejected_anywhere_in_a_batch(reference: str | None) -> None:
    pupil = {**EXAMPLE, "reference": reference}
    good = json.dumps({"students": [EXAMPLE, pupil]})
    assert len(validate_json(Students, good.encode()).students) == 2
    for repeated in (
        good.replace('"age": 17', '"age": 17, "age": 17', 1),
        good.replace('"G2": 9.8}', '"G2": 9.8, "reference": "a:b", "reference": null}', 1),
        good.replace("{", '{"students": [], ', 1),
        good.replace("{", '{"students": [{"a": 1}], ', 1),
    ):
        with pytest.raises(InvalidInputError):
            validate_json(Students, repeated.encode())
