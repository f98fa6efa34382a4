"""Made-up schools for tests: profiles of several kinds, and pupils with a known signal."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from student_success.core.paths import ROOT
from student_success.domain.profile import FeatureSpec, Profile
from student_success.domain.profile_file import read_profile
from student_success.domain.scale import Scale

SPREAD = 0.2
"""Standard deviation of the final grades, as a share of the scale."""
NOISE = 0.5
"""Share of the final grade's variance that no feature explains."""
UNKNOWN = 0.05
"""Share of the cells of a nullable feature that are empty."""
LEFT = 0.05
"""Share of pupils who do not finish, where the profile has a grade for them."""


def _school(
    name: str,
    grade: str,
    *,
    periods: tuple[str, ...] = (),
    numbers: int = 4,
    categories: Mapping[str, int] | None = None,
    nullable: tuple[str, ...] = (),
    rest: str = "",
) -> str:
    """Return a profile as TOML.

    Parameters
    ----------
    grade
        Lines of ``[grade]`` after column and label.
    periods
        Columns of the earlier grades; lines after the first are further keys.
    numbers
        Number of numeric features, by turns whole numbers from 0 to 30 and numbers from 0 to 1.
    categories
        Number of choices of each category.
    nullable
        Features that may be unknown.
    """
    parts = [
        f'format = 1\nname = "{name}"\ntitle = "School {name}"\n',
        f'[grade]\ncolumn = "final"\nlabel = "Final grade"\n{grade}\n',
    ]
    for period in periods:
        column, _, keys = period.partition("\n")
        parts.append(f'[[period]]\ncolumn = "{column}"\nlabel = "Grade {column}"\n{keys}\n')
    parts.append('[[section]]\nname = "pupil"\nlabel = "The pupil"\n')

    def feature(column: str, keys: str) -> None:
        parts.append(
            f'[[feature]]\ncolumn = "{column}"\nsection = "pupil"\nlabel = "{column}"\n{keys}\n'
            f"nullable = {str(column in nullable).lower()}\n"
        )

    for number in range(numbers):
        whole = number % 2 == 0
        kind, maximum = ("integer", 30) if whole else ("number", 1)
        feature(f"n{number}", f'kind = "{kind}"\nminimum = 0\nmaximum = {maximum}')
    for column, size in (categories or {}).items():
        choices = ", ".join(f'"{column}-{choice}"' for choice in range(size))
        feature(column, f'kind = "category"\nchoices = [{choices}]')
    return "\n".join([*parts, rest])


SCHOOLS: Mapping[str, str] = {
    "lower-is-better": _school(
        "lower-is-better",
        'minimum = 1\nmaximum = 6\nstep = 0.5\npass_mark = 4\nbetter = "lower"',
        periods=("autumn", "winter", "spring"),
        categories={"track": 3},
        nullable=("n1", "track"),
    ),
    "points": _school(
        "points",
        "minimum = 0\nmaximum = 100\nstep = 0.5\npass_mark = 50\nnot_finished = 0",
        numbers=6,
        rest='[audit]\ncolumns = ["sex"]\n[reference]\nalso = ["Student ID"]\n',
    ),
    "many-schools": _school(
        "many-schools",
        "minimum = 0\nmaximum = 10\npass_mark = 5",
        periods=("term1",),
        categories={"school": 500},
    ),
    "wide": _school(
        "wide",
        "minimum = 0\nmaximum = 20\nstep = 0.1\npass_mark = 10",
        periods=("prior\nminimum = 0\nmaximum = 4",),
        numbers=50,
        categories={f"c{number}": 2 + number for number in range(10)},
        nullable=("n3", "c2"),
    ),
}
"""Profiles as TOML, by name."""


def write_profile(path: Path, name: str) -> Profile:
    """Write the profile of a made-up school to a file, and return it."""
    path.write_text(SCHOOLS[name], "utf-8")
    return read_profile(path)


def write_pupils(path: Path, profile: Profile, *, pupils: int, seed: int = 1) -> Path:
    """Write a CSV file of pupils whose final grade depends on their features as follows.

    The first feature counts most, each further one three quarters of the one before; higher numbers
    and later choices mean better grades. A grade of a period is the final one with noise, which
    falls from period to period: a model can do better than to repeat the last grade. The file has a
    column for each audit column (two groups, without effect) and ``reference``.
    """
    rows = make_pupils(profile, pupils=pupils, seed=seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_pupils(profile: Profile, *, pupils: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return the rows of `write_pupils`; None is an unknown value."""
    random = Random(seed)
    weights = [0.75**number for number in range(len(profile.feature))]
    # Uniform from -1 to 1 has a variance of a third.
    unit = (3 / sum(weight**2 for weight in weights)) ** 0.5
    rows = []
    for number in range(pupils):
        drawn = [2 * random.random() - 1 for _ in profile.feature]
        known = unit * sum(w * value for w, value in zip(weights, drawn, strict=True))
        merit = (1 - NOISE) ** 0.5 * known + NOISE**0.5 * random.gauss(0, 1)
        left = profile.grade.not_finished is not None and random.random() < LEFT
        row: dict[str, Any] = {"reference": f"P-{number}"}
        for feature, value in zip(profile.feature, drawn, strict=True):
            row[feature.column] = _value(feature, (value + 1) / 2)
            if feature.nullable and random.random() < UNKNOWN:
                row[feature.column] = None
        for index, period in enumerate(profile.period):
            scale = profile.grade.scale
            if period.minimum is not None and period.maximum is not None:
                scale = Scale(period.minimum, period.maximum, 0.01)
            row[period.column] = _grade(scale, merit + random.gauss(0, 0.9 * 0.85**index))
        row[profile.grade.column] = (
            profile.grade.not_finished if left else _grade(profile.grade.scale, merit)
        )
        row |= {column: random.choice("ab") for column in profile.audit.columns}
        rows.append(row)
    return rows


def _value(feature: FeatureSpec, share: float) -> Any:
    """Return the value at a share, 0 to 1, of the range."""
    if feature.kind == "category":
        return feature.choices[int(share * len(feature.choices))].value
    assert feature.minimum is not None
    assert feature.maximum is not None
    value = feature.minimum + share * (feature.maximum - feature.minimum)
    return round(value) if feature.kind == "integer" else round(value, 3)


def _grade(scale: Scale, merit: float) -> float:
    level = round(scale.highest * (0.6 + SPREAD * merit))
    return scale.grade(min(max(level, 0), scale.highest))


def run_with_profile(profile: Path, code: str, *arguments: str) -> Any:
    """Run Python code in a process that works with a profile; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PROFILE_PATH": str(profile)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
