"""The training data: find the file, check every cell, and describe it.

The check is derived from `student_success.domain.students.FEATURES`, so that a pupil the API
accepts is a pupil the training accepts. Anything that is not a feature is set apart for audits
and never used for training.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from student_success.core.errors import DatasetError
from student_success.core.settings import ROOT, Settings
from student_success.domain.students import (
    FEATURE_NAMES,
    FEATURES,
    GRADE_MAX,
    GRADE_MIN,
    NUMERIC,
    TARGET,
    Feature,
)
from training.data.csv_table import parse, read_bytes
from training.data.sample import SAMPLE_CONTENT_SHA256

DATA_DIR = ROOT / "data"
SAMPLE = DATA_DIR / "sample.csv"
if not SAMPLE.is_file():
    # An installed package has it beside this module.
    SAMPLE = Path(__file__).with_name("sample.csv")
COLUMNS = (*FEATURE_NAMES, TARGET)
MINIMUM_ROWS = 50
"""Fewer pupils cannot be split into meaningful folds."""

_TARGET = Feature(TARGET, "integer", FEATURES[-1].about, False, low=GRADE_MIN, high=GRADE_MAX)
_CHECKED = {feature.name: feature for feature in (*FEATURES, _TARGET)}
_DTYPES = {
    name: "str" if feature.kind == "category" else "int64"
    for name, feature in _CHECKED.items()
    if feature.kind != "number" and name != TARGET
}
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_ORDER = "G2 is given but G1 is not: give both, G1 alone, or neither"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A checked table of pupils.

    Attributes
    ----------
    frame
        The 17 features in the order of `FEATURE_NAMES`, then G3. Categories are text, whole
        numbers int64, G1, G2 (NaN: not known yet) and G3 float64.
    audit
        The other columns of the file as text, row by row beside `frame`; never used for training.
    name
        File name, without its folder.
    sha256
        Of the bytes of the file.
    synthetic
        Whether these are the pupils of the sample that ships with the project, whatever the path
        and format of the file.
    outcomes
        Description of the pupils added from the history; None if they were not requested.
    """

    frame: pd.DataFrame
    audit: pd.DataFrame
    name: str
    sha256: str
    rows: int
    synthetic: bool
    outcomes: Mapping[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """Return the description of the data for a run, a version and a model card."""
        return {
            "name": self.name,
            "rows": self.rows,
            "sha256": self.sha256,
            "synthetic": self.synthetic,
            **({} if self.outcomes is None else {"outcomes": dict(self.outcomes)}),
        }


def load(settings: Settings) -> Dataset:
    """Read the data that a training uses: `DATA_PATH`, else the prepared data, else the sample.

    Raises
    ------
    DatasetError
        If the file is missing, cannot be read, is too small, or has bad cells.
    """
    dataset = read(locate(settings))
    if dataset.rows < MINIMUM_ROWS:
        raise DatasetError(
            f"{dataset.name} has {dataset.rows} pupils; a training needs {MINIMUM_ROWS} or more."
        )
    return dataset


def locate(settings: Settings) -> Path:
    """Return the file that a training uses; if `DATA_PATH` is set, it is always used."""
    if settings.data_path is not None:
        return settings.data_path
    final = settings.data_dir / "final.csv"
    return final if final.exists() else SAMPLE


def read(path: Path) -> Dataset:
    """Read and check one CSV file.

    Commas or semicolons separate the cells; with semicolons a number may have a decimal comma. A
    grade that is not known yet is an empty cell.

    Raises
    ------
    DatasetError
        With one entry a problem in `details`: row (as a spreadsheet counts, the header is row 1),
        column, problem. Values are not included.
    """
    content = read_bytes(path)
    table = parse(path.name, content, required=COLUMNS)
    typed, problems = _typed(table.cells, decimal_comma=table.decimal_comma)
    problems = {(row, ""): problem for row, problem in table.ragged.items()} | problems
    problems |= _violations(typed)
    if problems:
        raise _refusal(path.name, problems)
    frame = typed.reset_index(drop=True).astype(_DTYPES)
    audit = table.cells.drop(columns=list(COLUMNS)).reset_index(drop=True).astype(str)
    return Dataset(
        frame=frame,
        audit=audit,
        name=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(frame),
        synthetic=content_sha256(frame.to_dict("records")) == SAMPLE_CONTENT_SHA256,
    )


def schema() -> pa.DataFrameSchema:
    """Derive the pandera schema of a table of pupils from the features and the target."""
    return pa.DataFrameSchema(
        {
            name: pa.Column(
                object if feature.kind == "category" else float,
                [pa.Check(check, error=rule(feature)) for check in _checks(feature)],
                nullable=feature.nullable,
            )
            for name, feature in _CHECKED.items()
        },
        checks=pa.Check(lambda t: t["G1"].notna() | t["G2"].isna(), error=_ORDER, ignore_na=False),
        strict=True,
    )


def rule(feature: Feature) -> str:
    """Return the rule for a cell of this feature in words."""
    if feature.kind == "category":
        return f"must be one of: {', '.join(feature.categories)}"
    number = "a whole number" if feature.kind == "integer" else "a number"
    empty = ", or empty while it is not known" if feature.nullable else ""
    return f"must be {number} from {feature.low:g} to {feature.high:g}{empty}"


def content_sha256(rows: Iterable[Mapping[Any, Any]]) -> str:
    """Return a hash of the pupils that does not depend on row order, separator or line ends."""
    lines = sorted(
        "\x1f".join(
            f"{float(row[name]):.10g}" if name in (*NUMERIC, TARGET) else str(row[name])
            for name in COLUMNS
        )
        for row in rows
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _checks(feature: Feature) -> list[Callable[[pd.Series[Any]], pd.Series[bool]]]:
    if feature.kind == "category":
        return [lambda cells: cells.isin(feature.categories)]
    within = [lambda cells: cells.between(feature.low, feature.high)]
    return [*within, lambda cells: cells % 1 == 0] if feature.kind == "integer" else within


def _typed(
    cells: pd.DataFrame, *, decimal_comma: bool
) -> tuple[pd.DataFrame, dict[tuple[int, str], str]]:
    """Convert the text of numeric columns; text that is not a number becomes NaN and a problem."""
    columns: dict[str, pd.Series[Any]] = {}
    problems: dict[tuple[int, str], str] = {}
    for name, feature in _CHECKED.items():
        text = cells[name]
        if feature.kind == "category":
            columns[name] = text
            continue
        if decimal_comma:
            text = text.map(lambda cell: cell.replace(",", "."))
        number = text.map(lambda cell: float(cell) if _NUMBER.fullmatch(cell) else math.nan)
        columns[name] = number.astype(float)
        odd = text.index[number.isna() & (text != "")]
        problems |= {(int(row), name): rule(feature) for row in odd}
    return pd.DataFrame(columns), problems


def _violations(typed: pd.DataFrame) -> dict[tuple[int, str], str]:
    """Return every cell that breaks the schema, with what it must be."""
    try:
        schema().validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        failures = error.failure_cases
    else:
        return {}
    whole_row = failures["schema_context"] == "DataFrameSchema"
    problems = {
        (int(row), str(column)): rule(_CHECKED[column])
        for row, column in failures.loc[~whole_row, ["index", "column"]].itertuples(index=False)
    }
    return problems | {
        (int(row), "G2"): _ORDER for row in failures.loc[whole_row, "index"].unique()
    }


def _refusal(name: str, problems: Mapping[tuple[int, str], str]) -> DatasetError:
    details = [
        {"row": row} | ({"column": column} if column else {}) | {"problem": problem}
        for (row, column), problem in sorted(problems.items())
    ]
    rows = len({row for row, _ in problems})
    return DatasetError(
        f"{name} has {len(details)} bad cell{'s' if len(details) > 1 else ''} in "
        f"{rows} row{'s' if rows > 1 else ''}; nothing was read.",
        details=details,
    )
