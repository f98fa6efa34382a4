"""Generate `data/README.md`, the data dictionary, from the features."""

from __future__ import annotations

from pathlib import Path

from student_success.core.errors import DatasetError
from student_success.domain.students import FEATURES, TARGET, Feature
from training.data.dataset import COLUMNS, DATA_DIR
from training.data.sample import AUDIT_COLUMNS
from training.data.sample_tables import PUPILS

DICTIONARY = DATA_DIR / "README.md"

_AUDIT = {
    "sex": "F or M",
    "address": "U (town) or R (country)",
    "famsize": "LE3 (three or fewer in the family) or GT3",
    "Pstatus": "T (parents live together) or A (apart)",
    "Medu": "mother's education, 0 (none) to 4 (higher)",
    "Fedu": "father's education, 0 (none) to 4 (higher)",
}


def render() -> str:
    """Return the content of the file."""
    features = "\n".join(_row(feature) for feature in FEATURES)
    audit = "\n".join(f"| `{name}` | {_AUDIT[name]} |" for name in AUDIT_COLUMNS)
    return f"""# Data dictionary

<!-- Made by `python -m training dictionary` from student_success/domain/students.py: edit that. -->

| file | what it is |
|---|---|
| `sample.csv` | {PUPILS:,} **synthetic** pupils, made by `python -m training sample`; committed |
| `final.csv` | the merged UCI data, made by `python -m training prepare`; not committed |
| `raw/` | the two UCI files it was made from; not committed |

A training reads the file that `DATA_PATH` names, else `final.csv`, else `sample.csv`. Any CSV with
the {len(COLUMNS)} columns below will do, in any order: UTF-8, separated by commas or semicolons,
one pupil a row. Every bad cell is reported at once, with its row and column.

## The features and the target

| column | what it is | values |
|---|---|---|
{features}
| `{TARGET}` | **Final grade**, what is predicted. | a whole number from 0 to 20 |

`G2` without `G1` is an error.

## Other columns

Any other column is set apart and never learnt from. These are used to audit fairness:

| column | values |
|---|---|
{audit}

`source` in `final.csv` says where a pupil was found: `both` courses, `mat` (mathematics) or `por`
(Portuguese). The grades are those in mathematics where there are any.

## Where it comes from

P. Cortez, A. Silva: *Using Data Mining to Predict Secondary School Student Performance*,
Proceedings of the 5th Future Business Technology Conference, 2008. UCI Machine Learning Repository,
data set 320, *Student Performance*, DOI [10.24432/C5TG7T](https://doi.org/10.24432/C5TG7T), licence
[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). Changes made: the two files are merged,
duplicates of a pupil are dropped, columns are put in another order.

The sample holds no row of that data. It was drawn from aggregates measured on it: how often each
value occurs, rank correlations, and how grades move from one period to the next
(`training/data/sample_tables.py`). A model trained on it says so wherever it answers;
use it to learn the application, not to judge pupils.
"""


def write(path: Path = DICTIONARY) -> None:
    """Write the file.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    try:
        path.write_text(render(), encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be written: {error.strerror}.") from error


def _row(feature: Feature) -> str:
    choices = feature.about.choices
    if choices is None:
        number = "whole number" if feature.kind == "integer" else "number"
        values = f"a {number} from {feature.low:g} to {feature.high:g}"
    else:
        told = {code: text.en.removeprefix(f"{code} – ") for code, text in choices.items()}
        values = ", ".join(
            f"`{code}`" if str(code) == words else f"`{code}` ({words})"
            for code, words in told.items()
        )
    empty = "; empty while not known" if feature.nullable else ""
    about = f"**{feature.about.label.en}.** {feature.about.help.en}"
    return f"| `{feature.name}` | {about} | {values}{empty} |"
