"""The training data: find the file, check every cell, and describe it.

What a table of pupils has to hold is what the profile says. The audit columns of the profile are
set apart and never used for training; other columns are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from student_success.core.configuration.settings import Settings
from student_success.core.errors import DatasetError
from student_success.core.paths import ROOT
from student_success.domain.students import (
    FEATURE_NAMES,
    GRADE,
    NUMERIC,
    PROFILE,
    TARGET,
)
from student_success.domain.tables.columns import Choices
from student_success.domain.tables.problems import Problem
from student_success.domain.tables.reader import read_bytes, read_choices
from training.data.csv_table import read_pupil_table
from training.data.sample import SAMPLE_CONTENT_SHA256
from training.data.shipped import is_shipped_profile
from training.data.suitability import copies, remarks, unsuitable

DATA_DIR = ROOT / "data"
SAMPLE = DATA_DIR / "sample.csv"
if not SAMPLE.is_file():
    # An installed package has it beside this module.
    SAMPLE = Path(__file__).with_name("sample.csv")
COLUMNS = (*FEATURE_NAMES, TARGET)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A checked table of pupils.

    Attributes
    ----------
    frame
        The features in the order of `FEATURE_NAMES`, then the target, in grades. Categories are
        text, whole numbers int64, all others float64; what is not known is missing (NaN), and a
        whole number that may be unknown is float64.
    audit
        The audit columns of the profile that the file has, as text, row by row beside `frame`;
        never used for training.
    name
        File name, without its folder.
    sha256
        Of the bytes of the file.
    synthetic
        Whether these are the pupils of the sample that ships with the project, whatever the path
        and format of the file.
    outcomes
        Description of the pupils added from the history; None if they were not requested.
    copies
        Rows that repeated another pupil and were left out.
    remarks
        What was left out and what is seldom meant, in sentences.
    """

    frame: pd.DataFrame
    audit: pd.DataFrame
    name: str
    sha256: str
    rows: int
    synthetic: bool
    outcomes: Mapping[str, Any] | None = None
    copies: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def inputs(self) -> pd.DataFrame:
        """The features, without what is not recorded of those who did not finish."""
        return hide_unrecorded(self.frame)[list(FEATURE_NAMES)]

    @property
    def grades(self) -> NDArray[np.float64]:
        """The final grades."""
        return self.frame[TARGET].to_numpy(dtype=np.float64)

    @property
    def added(self) -> int:
        """Number of pupils added from the history; they are the last rows."""
        return 0 if self.outcomes is None else int(self.outcomes["rows"])

    def describe(self) -> dict[str, Any]:
        """Return the description of the data for a run, a version and a model card."""
        return {
            "name": self.name,
            "rows": self.rows,
            "sha256": self.sha256,
            "synthetic": self.synthetic,
            "copies_left_out": self.copies,
            **({} if self.outcomes is None else {"outcomes": dict(self.outcomes)}),
            **({"remarks": list(self.remarks)} if self.remarks else {}),
        }


def load(settings: Settings) -> Dataset:
    """Read the data that a training uses: `DATA_PATH`, else the prepared data, else the sample.

    Raises
    ------
    DatasetError
        If the file is missing, cannot be read, has bad cells, or cannot teach a model anything.
    """
    return require_suitable(read(locate(settings), read_choices(settings.data_mapping)))


def locate(settings: Settings) -> Path:
    """Return the file that a training uses; if `DATA_PATH` is set, it is always used.

    Raises
    ------
    DatasetError
        If it is not set and the profile is not the one that ships.
    """
    if settings.data_path is not None:
        return settings.data_path
    if not is_shipped_profile():
        raise DatasetError(
            f"There is no data for the profile {PROFILE.name}. Set DATA_PATH to the file with your "
            "pupils."
        )
    final = settings.data_dir / "final.csv"
    return final if final.exists() else SAMPLE


def read(path: Path, choices: Choices | None = None) -> Dataset:
    """Read and check a table: text in any dialect, or a spreadsheet with one sheet of pupils.

    A number may have a decimal comma, and a choice may be written as its label. A value that is not
    known yet is an empty cell, where the profile allows it. Pupils without a final grade and copies
    of a pupil are left out.

    Parameters
    ----------
    choices
        What a person said about the table.

    Raises
    ------
    DatasetError
        With one entry a problem in `details`: row (as a spreadsheet counts, the header is row 1),
        column, problem. Values are not included.
    """
    content = read_bytes(path)
    table = read_pupil_table(path.name, content, choices)
    if table.problems:
        raise _refusal(path.name, table.problems)
    if table.frame.empty:
        raise DatasetError(
            f"No pupil of {path.name} has a final grade ({TARGET}): nothing can be learnt. Fill in "
            "the column with the grades of pupils who have finished."
        )
    left_out = list(table.remarks)
    if table.without_grade:
        left_out.append(
            f"{table.without_grade} of {len(table.frame) + table.without_grade} pupils have no "
            f"{TARGET} and were left out. Fill in the grades that are known."
        )
    # Other columns do not count: a number of the row would make every copy another pupil.
    repeated = copies(table.frame)
    if number := int(repeated.sum()):
        left_out.append(
            f"{number} of {len(table.frame)} rows repeat another row and were left out: each pupil "
            "counts once. Remove the copies."
        )
    frame = table.frame[~repeated].reset_index(drop=True)
    return Dataset(
        frame=frame,
        audit=table.audit[~repeated].reset_index(drop=True),
        name=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(frame),
        synthetic=is_shipped_profile()
        and content_sha256(frame.to_dict("records")) == SAMPLE_CONTENT_SHA256,
        copies=number,
        remarks=tuple(left_out),
    )


def require_suitable(dataset: Dataset) -> Dataset:
    """Refuse pupils from whom nothing can be learnt; return the others with all remarks.

    Raises
    ------
    DatasetError
        With one entry a problem in `details`.
    """
    if problems := list(unsuitable(dataset.frame)):
        # What was left out may be the cause.
        said = " ".join([*problems, *dataset.remarks])
        raise DatasetError(
            f"{dataset.name} is not suitable for a training. {said}",
            details=[{"problem": problem} for problem in problems],
        )
    return replace(dataset, remarks=(*dataset.remarks, *remarks(dataset.frame)))


def hide_unrecorded(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the pupils without what is not recorded of those who did not finish.

    A model would learn from such a value who left, and the value is another one when a prediction
    is made. The columns are those of ``unrecorded_when_not_finished`` in the profile.
    """
    columns = list(PROFILE.training.unrecorded_when_not_finished)
    if GRADE.not_finished is None or not columns:
        return frame
    left = frame[TARGET] == GRADE.not_finished
    hidden = {column: frame[column].where(~left) for column in columns}
    return frame.assign(**hidden)


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


def _refusal(name: str, problems: Sequence[Problem]) -> DatasetError:
    details = [
        {"row": problem.line}
        | ({"column": problem.column} if problem.column else {})
        | {"problem": problem.text.en}
        for problem in sorted(problems, key=lambda problem: (problem.line or 0, problem.column))
    ]
    rows = len({problem.line for problem in problems})
    return DatasetError(
        f"{name} has {len(details)} bad cell{'s' if len(details) > 1 else ''} in "
        f"{rows} row{'s' if rows > 1 else ''}; nothing was read.",
        details=details,
    )
