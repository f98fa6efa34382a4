"""Generate the data dictionary from the profile; `data/README.md` is that of the shipped one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from student_success.core.errors import DatasetError
from student_success.domain.profile import Group
from student_success.domain.students import (
    FEATURES,
    GRADE,
    GRADE_MAX,
    GRADE_MIN,
    PERIODS,
    PROFILE,
    SCALE,
    TARGET,
    Feature,
)
from training.data.dataset import COLUMNS, DATA_DIR
from training.data.sample_tables import PUPILS
from training.data.shipped import is_shipped_profile, require_shipped_profile

DICTIONARY = DATA_DIR / "README.md"


def render() -> str:
    """Return the content of the file."""
    parts = [_HEAD]
    if is_shipped_profile():
        parts.append(_FILES)
    parts.append(_columns())
    if PROFILE.audit.columns:
        parts.append(_audit())
    if is_shipped_profile():
        parts.append(_ORIGIN)
    return "\n".join(parts)


_HEAD = """# Data dictionary

<!-- Made by `python -m training dictionary` from the profile: edit that. -->
"""
_FILES = f"""| file | what it is |
|---|---|
| `sample.csv` | {PUPILS:,} **synthetic** pupils, made by `python -m training sample`; committed |
| `final.csv` | the merged UCI data, made by `python -m training prepare`; not committed |
| `raw/` | the two UCI files it was made from; not committed |

A training reads the file that `DATA_PATH` names, else `final.csv`, else `sample.csv`.
"""
_ORIGIN = """\
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
(`training/data/sample_tables.py`). One thing differs on purpose. In the real data no pupil who left
the course has an absence on record. In the sample those pupils have absences like the others. A
model trained on it says so in its answers; use it to learn the application, not to judge pupils.
"""


def _columns() -> str:
    features = "\n".join(_row(feature) for feature in FEATURES)
    order = "".join(
        f"\n`{later}` without `{earlier}` is an error." for earlier, later in pairwise(PERIODS)
    )
    return f"""Any CSV with the {len(COLUMNS)} columns below will do, in any order: UTF-8,
separated by commas or semicolons, one pupil a row. Every bad cell is reported at once, with its row
and column. Pupils without a final grade and copies of a pupil are left out and counted.

## The features and the target

| column | what it is | values |
|---|---|---|
{features}
| `{TARGET}` | **{GRADE.label.en}**, what is predicted. | {_target_values()} |
{order}
"""


def _audit() -> str:
    named = {group.column: group for group in PROFILE.audit.group}
    rows = "\n".join(f"| `{name}` | {_groups(named.get(name))} |" for name in PROFILE.audit.columns)
    return f"""## Other columns

These are never learnt from. They show whether any group of pupils is predicted worse:

| column | values |
|---|---|
{rows}

Further columns are not read.
"""


def _groups(group: Group | None) -> str:
    """Return the label of an audit column and its groups, as far as the profile names them."""
    if group is None:
        return "groups of pupils"
    named = ", ".join(f"{choice.value} ({choice.en})" for choice in group.choices)
    return f"{group.label.en}: {named}" if named else group.label.en


def _target_values() -> str:
    bounds = f"from {GRADE_MIN:g} to {GRADE_MAX:g}"
    is_each = SCALE.is_whole and SCALE.step == 1
    return f"a whole number {bounds}" if is_each else f"a grade {bounds} in steps of {SCALE.step:g}"


def write(path: Path | None) -> Path:
    """Write the file, by default `DICTIONARY`, and return its path.

    Raises
    ------
    DatasetError
        If it cannot be written.
    ConfigurationError
        If the default would be replaced by the dictionary of another profile.
    """
    if path is None:
        require_shipped_profile("The data dictionary of this folder")
        path = DICTIONARY
    try:
        path.write_text(render(), encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{path.name} cannot be written: {error.strerror}.") from error
    return path


def _row(feature: Feature) -> str:
    choices = feature.about.choices
    if choices is None:
        number = "a whole number" if feature.kind == "integer" else "a number"
        values = f"{number} from {feature.low:g} to {feature.high:g}"
    else:
        labels = {code: text.en.removeprefix(f"{code} – ") for code, text in choices.items()}
        values = ", ".join(
            f"`{code}`" if str(code) == words else f"`{code}` ({words})"
            for code, words in labels.items()
        )
    empty = "; empty while not known" if feature.nullable else ""
    about = f"**{feature.about.label.en}.** {feature.about.help.en}"
    return f"| `{feature.name}` | {about} | {values}{empty} |"
