"""Check every cell of a table of pupils against the features and the scale of the profile.

The rules are those of the API, so that a pupil whom the API accepts is one whom the training
accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pandas as pd
import pandera.pandas as pa

from student_success.domain.students import (
    FEATURES,
    GRADE,
    GRADE_MAX,
    GRADE_MIN,
    GRADES_SECTION,
    PERIODS,
    SCALE,
    TARGET,
    About,
    Feature,
)
from student_success.domain.tables.cells import UNKNOWN, normalise, parse_number

Problems = dict[tuple[int, str], str]
"""What is wrong with a cell, by spreadsheet row and column; the column is empty for a whole row."""

_TARGET = Feature(
    TARGET,
    "number",
    About(GRADE.label, GRADE.label, GRADES_SECTION),
    nullable=False,
    low=GRADE_MIN,
    high=GRADE_MAX,
)
CHECKED: Mapping[str, Feature] = {feature.name: feature for feature in (*FEATURES, _TARGET)}
"""The features in their order, then the target."""
_DTYPES = {
    name: "str" if feature.kind == "category" else "float64" if feature.nullable else "int64"
    for name, feature in CHECKED.items()
    if feature.kind != "number"
}
_LISTED = 20
"""At most this many values of a category are listed in a message."""


def check_cells(cells: pd.DataFrame) -> tuple[pd.DataFrame, Problems]:
    """Convert the text of the cells, and name every cell that breaks a rule.

    Parameters
    ----------
    cells
        Text, indexed by spreadsheet row, with a column for each of `CHECKED`.

    Returns
    -------
    frame, problems
        The values as `training.data.dataset.Dataset.frame` holds them; not usable with problems.
    """
    typed, problems = _typed(cells)
    problems |= _violations(typed)
    if problems:
        return typed, problems
    # A grade such as 10.30000001 is the grade 10.3.
    typed[TARGET] = typed[TARGET].round(2)
    return typed.astype(_DTYPES), problems


def schema() -> pa.DataFrameSchema:
    """Derive the pandera schema of a table of pupils from the features and the target."""
    return pa.DataFrameSchema(
        {
            name: pa.Column(
                object if feature.kind == "category" else float,
                [pa.Check(check, error=rule(feature)) for check in _checks(feature)],
                nullable=feature.nullable,
            )
            for name, feature in CHECKED.items()
        },
        checks=[
            pa.Check(_in_order(earlier, later), error=later, ignore_na=False)
            for earlier, later in pairwise(PERIODS)
        ],
        strict=True,
    )


def rule(feature: Feature) -> str:
    """Return the rule for a cell of this feature in words."""
    if feature.name == TARGET:
        if SCALE.is_whole and SCALE.step == 1:
            return f"must be a whole number from {GRADE_MIN:g} to {GRADE_MAX:g}"
        return f"must be a grade from {GRADE_MIN:g} to {GRADE_MAX:g} in steps of {SCALE.step:g}"
    empty = ", or empty while it is not known" if feature.nullable else ""
    if feature.kind == "category":
        listed = ", ".join(feature.categories[:_LISTED])
        more = len(feature.categories) - _LISTED
        return f"must be one of: {listed}" + (f" and {more} more" if more > 0 else "") + empty
    number = "a whole number" if feature.kind == "integer" else "a number"
    return f"must be {number} from {feature.low:g} to {feature.high:g}{empty}"


_ORDER = {
    later: f"{later} is given but {earlier} is not: give both, {earlier} alone, or neither"
    for earlier, later in pairwise(PERIODS)
}


def _in_order(earlier: str, later: str) -> Callable[[pd.DataFrame], pd.Series[bool]]:
    return lambda table: table[earlier].notna() | table[later].isna()


def _checks(feature: Feature) -> list[Callable[[pd.Series[Any]], pd.Series[bool]]]:
    if feature.kind == "category":
        return [lambda cells: cells.isin(feature.categories)]
    within = [lambda cells: cells.between(feature.low, feature.high)]
    if feature.name == TARGET:
        return [*within, _exists]
    return [*within, lambda cells: cells % 1 == 0] if feature.kind == "integer" else within


def _exists(grades: pd.Series[Any]) -> pd.Series[bool]:
    return grades.isin([grade for grade in grades.unique() if SCALE.has(grade)])


def _typed(cells: pd.DataFrame) -> tuple[pd.DataFrame, Problems]:
    """Convert the text of numeric columns; text that is not a number becomes NaN and a problem."""
    columns: dict[str, pd.Series[Any]] = {}
    problems: Problems = {}
    for name, feature in CHECKED.items():
        text = cells[name]
        if feature.nullable:
            text = text.where(~is_unknown(text) | text.isin(feature.categories), "")
        if feature.kind == "category":
            columns[name] = text.where(text != "", None) if feature.nullable else text
            continue
        # Each way to write a number is read once: columns have few of them, files many rows.
        numbers = {cell: parse_number(cell) for cell in text.unique()}
        number = text.map(numbers).astype(float)
        columns[name] = number
        wrong = text.index[number.isna() & (text != "")]
        problems |= {(int(row), name): rule(feature) for row in wrong}
    return pd.DataFrame(columns), problems


def is_unknown(cells: pd.Series[Any]) -> pd.Series[bool]:
    """Return which cells say that a value is not known."""
    return cells.isin([cell for cell in cells.unique() if normalise(cell) in UNKNOWN])


def _violations(typed: pd.DataFrame) -> Problems:
    """Return every cell that breaks the schema, with what it must be."""
    try:
        schema().validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        failures = error.failure_cases
    else:
        return {}
    whole_row = failures["schema_context"] == "DataFrameSchema"
    problems = {
        (int(row), str(column)): rule(CHECKED[column])
        for row, column in failures.loc[~whole_row, ["index", "column"]].itertuples(index=False)
    }
    out_of_order = failures.loc[whole_row, ["index", "check"]].drop_duplicates()
    return problems | {
        (int(row), later): _ORDER[later] for row, later in out_of_order.itertuples(index=False)
    }
