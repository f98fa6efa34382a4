"""The profile: what it refuses, each with one clear sentence; scales; what keeps models apart."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from student_success.core.errors import ConfigurationError
from student_success.core.paths import SHIPPED_PROFILE
from student_success.domain.profile import Profile
from student_success.domain.profile_file import read_profile
from student_success.domain.recorded_profile import differences
from student_success.domain.scale import Scale
from tests.schools import run_with_profile

SCHOOL = """
format = 1
name = "school"
title = "A school"

[grade]
column = "final"
label = "Final grade"
minimum = 1
maximum = 6
step = 0.5
pass_mark = 4
better = "lower"

[[period]]
column = "autumn"
label = "Autumn"

[[section]]
name = "pupil"
label = "The pupil"

[[feature]]
column = "lessons"
kind = "integer"
section = "pupil"
label = { fr = "Leçons", en = "Lessons" }
minimum = 0
maximum = 10

[[feature]]
column = "track"
kind = "category"
section = "pupil"
label = "Track"
choices = ["a", "b"]
"""


def written(path: Path, text: str) -> Path:
    file = path / "school.toml"
    file.write_text(text, "utf-8")
    return file


def test_profile_of_a_small_school_is_read(tmp_path: Path) -> None:
    profile = read_profile(written(tmp_path, SCHOOL))
    assert profile.columns == ("lessons", "track", "autumn")
    assert profile.grade.label.fr == "Final grade"
    assert profile.feature[0].label.fr == "Leçons"
    assert profile.grade.pass_level == 4
    assert not profile.warnings


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("format = 1", "format = 2", "line 2: format: Input should be 1"),
        ('name = "school"', 'name = "A School"', "line 3: name: String should match"),
        ('title = "A school"', "", "title: is missing"),
        ("step = 0.5", "step = 0.3", "line 6: grade: maximum must be minimum plus a whole number"),
        ("step = 0.5", "step = 0.001", "minimum and step must be multiples of 0.01"),
        ("step = 0.5", "step = -1", "line 11: grade.step: Input should be greater than 0"),
        ("maximum = 6", "maximum = 60000", "there are more than 1,001 grades"),
        ("maximum = 6", "maximum = 0", "line 6: grade: minimum must be below maximum"),
        ("maximum = 6", "maximum = inf", "line 10: grade.maximum: Input should be a finite number"),
        ("pass_mark = 4", "pass_mark = 4.2", "pass_mark is 4.2, which is no grade of this scale"),
        ("pass_mark = 4", "pass_mark = 6", "pass_mark is the worst grade"),
        ('better = "lower"', 'better = "low"', "line 13: grade.better: Input should be 'higher'"),
        (
            'better = "lower"',
            'better = "lower"\nnot_finished = 1',
            "not_finished must be the worst grade",
        ),
        ('column = "autumn"', 'column = "lessons"', "the column lessons is used twice"),
        ('column = "autumn"', 'column = "final"', "the column final is used twice"),
        ('column = "autumn"', 'column = "known"', "the program itself uses the name known"),
        ('column = "autumn"', 'column = "horizon"', "the program itself uses the name horizon"),
        ('column = "track"', 'column = "model_dump"', "itself uses the name model_dump"),
        ('column = "autumn"', 'column = "1st"', "period.1.column: String should match pattern"),
        (
            'column = "autumn"',
            'column = "autumn"\nminimum = 0',
            "line 15: period.1: give both minimum",
        ),
        ('section = "pupil"', 'section = "other"', "lessons: there is no section other"),
        ("maximum = 10", "maximum = -1", "feature.1: a number needs a minimum below its maximum"),
        ("maximum = 10", "maximum = 9.5", "the bounds of whole numbers must be whole"),
        (
            "maximum = 10",
            'maximum = 10\nchoices = ["1", "2"]',
            "the choices of a number must be whole numbers, without quotes",
        ),
        ("maximum = 10", "maximum = 10\nunit = 1", "feature.1.unit: there is no such key"),
        ('choices = ["a", "b"]', 'choices = ["a"]', "a category needs two or more choices"),
        ('choices = ["a", "b"]', 'choices = ["a", "a"]', "the choice a is given twice"),
        ('choices = ["a", "b"]', 'choices = ["a", 1]', "a category needs two or more choices"),
        (
            'choices = ["a", "b"]',
            'choices = ["a", "b"]\nmonotone = "raises"',
            "scale and monotone are for numbers",
        ),
        *(
            (old, f"{old}\nchange = {{ to = [{value}] }}", "must be a choice of a category")
            for old, value in (
                *(('choices = ["a", "b"]', '"c"'), ("maximum = 10", '"9"')),
                ('choices = ["a", "b"]', '"a", "A"'),
            )
        ),
        (
            'choices = ["a", "b"]',
            'choices = ["a", "b"]\n[training]\nunrecorded_when_not_finished = ["x"]',
            "unrecorded_when_not_finished: there is no feature x",
        ),
        (
            'choices = ["a", "b"]',
            'choices = ["a", "b"]\n[audit]\ncolumns = ["track"]',
            "the column track is used twice",
        ),
        (
            'choices = ["a", "b"]',
            'choices = ["a", "b"]\n[[audit.group]]\ncolumn = "sex"\nlabel = "Sex"',
            "audit: sex has a name, but is not one of its columns",
        ),
        (
            'choices = ["a", "b"]',
            'choices = ["a", "b"]\n[example]\nx = 1',
            "example: there is no feature or period x",
        ),
        *(
            (
                'choices = ["a", "b"]',
                f'choices = ["a", "b"]\n[example]\n{name} = {value}',
                f"the [example] has {name} = {value.strip(chr(34))}, which no pupil can have",
            )
            for name, value in (
                *(("lessons", "11"), ("lessons", "2.5"), ("lessons", '"2"')),
                *(("track", '"c"'), ("autumn", "0"), ("autumn", '"4"')),
            )
        ),
        ("format = 1", "format = ", "school.toml is not valid TOML"),
    ],
)
def test_broken_profile_is_refused_with_one_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in SCHOOL
    path = written(tmp_path, SCHOOL.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        read_profile(path)
    assert "school.toml" in caught.value.message
    assert sentence in caught.value.message
    assert len(caught.value.details) <= 1
    assert str(tmp_path) not in caught.value.message


def test_example_that_a_pupil_can_have_is_accepted(tmp_path: Path) -> None:
    example = '\n[example]\nlessons = 10\ntrack = "b"\nautumn = 4.25\n'
    assert read_profile(written(tmp_path, SCHOOL + example)).example["autumn"] == 4.25


_SCALES = """
import json
from gradio_ui.html.labels import simple_rule
from gradio_ui.texts import Texts
from training.fitting.families import SAME_SCALE

print(json.dumps([SAME_SCALE, simple_rule(Texts("en"))]))
"""


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("", [["autumn"], "Simple rule (last grade)"]),
        ("minimum = 1\nmaximum = 6", [["autumn"], "Simple rule (last grade)"]),
        ("minimum = 0\nmaximum = 6", [[], "Simple rule (median grade)"]),
    ],
)
def test_period_is_on_the_scale_of_the_grade_by_its_bounds(
    tmp_path: Path, bounds: str, expected: list[Any]
) -> None:
    text = SCHOOL.replace('label = "Autumn"', f'label = "Autumn"\n{bounds}')
    assert run_with_profile(written(tmp_path, text), _SCALES) == expected


def test_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    for content, sentence in (
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"#" * (1 << 21), "is larger than 1 MB"),
    ):
        path = tmp_path / "school.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=sentence):
            read_profile(path)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_profile(tmp_path / "absent.toml")


def test_sensitive_feature_is_warned_of(tmp_path: Path) -> None:
    profile = read_profile(written(tmp_path, SCHOOL.replace('"lessons"', '"Gender"')))
    assert profile.warnings[0].startswith("Gender looks sensitive")


def shipped(**changed: Any) -> Profile:
    content = tomllib.loads(SHIPPED_PROFILE.read_text("utf-8"))
    return Profile.model_validate(content | changed)


def test_profiles_differ_by_facts_and_not_by_texts() -> None:
    ours = shipped()
    content = ours.model_dump()
    assert not differences(ours, shipped(title="Another title", name="other"))
    harder = shipped(grade=content["grade"] | {"pass_mark": 12})
    assert differences(ours, harder) == ["pass_mark of the grade is 12.0, not 10.0"]
    fewer = shipped(feature=content["feature"][:-1], training={}, example={})
    assert "feature absences is absent, not integer" in differences(ours, fewer)
    assert differences(ours, shipped(period=[], example={}))


@pytest.mark.parametrize(
    ("written", "existing"),
    [
        (9.5, 10),
        (9.49, 9),
        (0.3, 1),
        (0, 0),
        (20, 20),
        (20.4, None),
        (-0.1, None),
        (9.0000001, 9),
        (math.nan, None),
    ],
)
def test_final_grade_between_two_is_rounded_only_if_the_profile_says_so(
    written: float, existing: int | None
) -> None:
    grade = shipped().grade
    assert grade.model_copy(update={"rounded": True}).existing(written) == existing
    exists = existing is not None and abs(written - existing) < 1e-3
    assert grade.existing(written) == (existing if exists else None)


@given(
    minimum=st.integers(-50, 50),
    steps=st.integers(1, 1000),
    step=st.sampled_from([1, 0.5, 0.25, 0.1, 0.05, 0.01, 5]),
    better=st.sampled_from(["higher", "lower"]),
    data=st.data(),
)
def test_grade_and_level_are_the_same_in_both_directions(
    minimum: int, steps: int, step: float, better: Any, data: st.DataObject
) -> None:
    scale = Scale(minimum, minimum + steps * step, step, better)
    assert scale.highest == steps
    level = data.draw(st.integers(0, steps))
    grade = scale.grade(level)
    assert scale.has(grade)
    assert scale.level(grade) == pytest.approx(level, abs=1e-9)
    assert scale.grade(steps) == pytest.approx(scale.maximum if better == "higher" else minimum)
    assert not scale.has(grade + step / 3)


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("step", [1, 0.5, 0.25, 0.2, 0.1, 0.05])
def test_nearest_grade_is_the_one_that_decides(step: float, better: Any) -> None:
    """A prediction is displayed in hundredths, and the nearest of the grades decides on a pass."""
    scale = Scale(0, 20, step, better)
    for hundredths in range(scale.highest * scale.parts + 1):
        decides = (2 * hundredths + scale.parts) // (2 * scale.parts)
        assert scale.nearest(scale.displayed(hundredths)) == decides


def test_final_grade_halfway_between_two_tenths_counts_as_the_better() -> None:
    grade = shipped(grade=shipped().grade.model_dump() | {"step": 0.1, "rounded": True}).grade
    assert [grade.existing(written) for written in (9.95, 0.15, 0.149)] == [10.0, 0.2, 0.1]
