"""Strict JSON: what is refused, that nothing is echoed, and that the short check misses nothing."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.api.validation import MAX_PROBLEMS, _keys_are_plain, validate_json
from student_success.core.errors import InvalidInputError
from student_success.domain.schemas import (
    HistoryQuery,
    PromoteRequest,
    RollbackRequest,
    Students,
    TrainRequest,
)
from student_success.domain.students import EXAMPLE, StudentFeatures

PAIRS = [(json.dumps(name), json.dumps(value)) for name, value in EXAMPLE.items()]


def pupil(**changed: Any) -> bytes:
    return json.dumps({**EXAMPLE, **changed}).encode()


def raw(extra: bytes) -> bytes:
    """Return the example pupil with a piece of raw JSON at its end."""
    return pupil()[:-1] + b"," + extra + b"}"


def problems(body: bytes, model: Any = StudentFeatures) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(InvalidInputError) as caught:
        validate_json(model, body)
    assert all(set(item) == {"loc", "msg", "type"} for item in caught.value.details)
    return [(tuple(item["loc"]), item["type"]) for item in caught.value.details]


def repeats_a_key(body: bytes) -> bool:
    """Look the slow and exact way."""
    seen = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal seen
        seen = seen or len({name for name, _ in pairs}) < len(pairs)

    json.loads(body, object_pairs_hook=look)
    return seen


# Texts that try to look like structure: colons, quotes, escapes, braces, whole members.
tricky = st.one_of(
    st.text(alphabet=':",{}[]\\ a\u00e9\U0001f600', max_size=20),
    st.sampled_from(['"age":17', "::::", "\\", '\\"', "a:b", '","age":"', "\u2028"]),
)
references = st.builds(
    lambda text, ascii_only: ('"reference"', json.dumps(text, ensure_ascii=ascii_only)),
    tricky,
    st.booleans(),
)
# The same keys, written another way.
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
def test_short_check_for_repeated_keys_agrees_with_the_exact_one(body: bytes) -> None:
    if repeats_a_key(body):
        assert problems(body) == [((), "repeated_key")]
    else:
        validate_json(StudentFeatures, body)


@given(st.lists(bodies(), min_size=1, max_size=3))
def test_repeated_keys_show_in_a_batch_as_well(rows: list[bytes]) -> None:
    body = b'{"students":[' + b",".join(rows) + b"]}"
    if repeats_a_key(body):
        assert problems(body, Students) == [((), "repeated_key")]
    else:
        assert len(validate_json(Students, body).students) == len(rows)


def test_short_check_suffices_for_plain_pupils() -> None:
    for body in (pupil(), pupil(reference="a:b:c"), pupil(G2=None), pupil(reference=None)):
        assert _keys_are_plain(validate_json(StudentFeatures, body), body)


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
def test_repeated_key_is_refused(body: bytes, model: Any) -> None:
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
def test_what_is_not_json_is_refused(body: bytes) -> None:
    [(loc, kind)] = problems(body)
    assert loc == ()
    assert kind in ("json_invalid", "too_many_values")


@pytest.mark.parametrize("body", [b"[]", b"null", b"true", b"17", b'"text"', b"[" + pupil() + b"]"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert problems(body) == [((), "model_type")]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
@pytest.mark.parametrize("field", [b"G1", b"age"])
def test_number_that_is_not_finite_is_refused(field: bytes, number: bytes) -> None:
    body = pupil().replace(
        b'"' + field + b'": ' + json.dumps(EXAMPLE[field.decode()]).encode(),
        b'"' + field + b'": ' + number,
    )
    assert number in body
    assert {loc for loc, _ in problems(body)} == {(field.decode(),)}


@pytest.mark.parametrize("depth", [100, 150, 250, 5_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        nested = opening * depth + b"1" + closing * depth
        for body, model in (
            (raw(b'"x":' + nested), StudentFeatures),
            (nested, StudentFeatures),
            (b'{"students":' + nested + b"}", Students),
            (nested, HistoryQuery),
        ):
            assert problems(body, model)


def test_huge_numbers_within_json_are_refused_by_name() -> None:
    body = pupil().replace(b'"age": 17', b'"age": ' + b"9" * 400)
    assert problems(body) == [(("age",), "less_than_equal")]


def test_small_exponents_count_as_numbers() -> None:
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
def test_nul_is_refused_since_a_database_may_not_store_it(body: bytes, model: Any) -> None:
    assert [kind for _, kind in problems(body, model)] == ["string_pattern_mismatch"]


def test_no_problem_echoes_a_value() -> None:
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


def test_every_bad_row_of_a_batch_is_named() -> None:
    rows = [dict(EXAMPLE) for _ in range(10_000)]
    for number in range(0, 10_000, 3):
        rows[number] = {**EXAMPLE, "age": 99, "school": "?", "extra": 1}
    found = problems(json.dumps({"students": rows}).encode(), Students)
    assert {loc[1] for loc, _ in found} == set(range(0, 10_000, 3))


def test_every_problem_of_a_bad_row_is_named_while_they_are_few() -> None:
    rows = [EXAMPLE, {**EXAMPLE, "age": 99, "school": "?"}, 7, {**EXAMPLE, "G1": None}]
    found = problems(json.dumps({"students": rows, "other": 1}).encode(), Students)
    assert set(found) == {
        (("other",), "extra_forbidden"),
        (("students", 1, "age"), "less_than_equal"),
        (("students", 1, "school"), "literal_error"),
        (("students", 2), "model_type"),
        (("students", 3), "grades_out_of_order"),
    }


def test_batch_of_none_or_too_many_is_refused_as_such() -> None:
    assert problems(b'{"students": []}', Students) == [(("students",), "too_short")]
    body = json.dumps({"students": [EXAMPLE] * 10_001}).encode()
    assert problems(body, Students) == [(("students",), "too_long")]


def test_number_of_problems_told_is_bounded() -> None:
    body = json.dumps({f"k{i}": 1 for i in range(90)}).encode()
    assert len(problems(body)) == 90 + 15
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
def test_body_with_too_many_values_is_refused_cheaply(body: bytes, model: Any) -> None:
    started = time.process_time()
    tracemalloc.start()
    try:
        assert problems(body, model) == [((), "too_many_values")]
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 2.0


def test_separators_inside_texts_do_not_count_as_values() -> None:
    reason = '{[,"\\' * 200
    assert validate_json(RollbackRequest, json.dumps({"reason": reason}).encode()).reason == reason
    reference = ',[{"' * 16
    assert validate_json(StudentFeatures, pupil(reference=reference)).reference == reference
    many = json.dumps({"students": [{**EXAMPLE, "reference": "[{" * 32}] * 2_000}).encode()
    assert len(validate_json(Students, many).students) == 2_000


@pytest.mark.parametrize("reference", [None, "a:b", "::", "x"])
def test_batch_with_a_repeated_key_is_refused_wherever_it_stands(reference: str | None) -> None:
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
