"""Read grades from OneRoster CSV files (1.1 and 1.2), and write predictions as such files.

A OneRoster data set is a ZIP file of tables. Each line item of ``lineItems.csv`` becomes a column
and each pupil a row, whose reference is the ``sourcedId`` of ``users.csv``. Names are not read.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO

from student_success.core.clock import iso, now_us
from student_success.domain.students import GRADE, PERIODS
from student_success.domain.tables.cells import feature_of, parse_number
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.grid import MAX_CELL_CHARACTERS
from student_success.domain.tables.problems import refuse

Lines = list[tuple[int, list[str]]]
_Pupil = tuple[int, dict[str, list[str]]]
"""Line of the first grade, and the grades of each line item."""
GRADED = "fully graded"
PREDICTED_STATUS = "partially graded"
"""Status of a prediction: it is no grade, and is not read as one."""
_DELETED = "tobedeleted"
_WORDS = ("status", "scoreStatus", "inProgress", "incomplete")
_NEEDED = {
    "lineItems.csv": ("sourcedId", "title", "classSourcedId"),
    "results.csv": ("lineItemSourcedId", "studentSourcedId", "score"),
    "users.csv": ("sourcedId",),
}
_RESULT_FIELDS = (
    *("sourcedId", "status", "dateLastModified", "lineItemSourcedId", "studentSourcedId"),
    *("scoreStatus", "score", "scoreDate", "comment"),
)
_LINE_ITEM_FIELDS = (
    *("sourcedId", "status", "dateLastModified", "title", "description", "assignDate", "dueDate"),
    *("classSourcedId", "categorySourcedId", "gradingPeriodSourcedId"),
    *("resultValueMin", "resultValueMax"),
)
_OTHER_FILES = (
    *("academicSessions", "categories", "classes", "classResources", "courses", "courseResources"),
    *("demographics", "enrollments", "orgs", "resources", "users"),
)


def read_oneroster(archive: zipfile.ZipFile, *, max_rows: int) -> dict[str, Lines]:
    """Return the header and the pupils of each class that has grades, with their line numbers.

    Tables are read row by row. A damaged archive raises the exceptions of `zipfile`.

    Raises
    ------
    TableError
        If the data set is not complete, a class has more than `max_rows` pupils, or a table
        cannot be read.
    """
    members = {PurePosixPath(member.filename).name: member for member in archive.infolist()}
    if "users.csv" not in members:
        raise refuse("oneroster", what="users.csv")

    def rows(name: str) -> Iterator[tuple[int, dict[str, str]]]:
        with archive.open(members[name]) as file:
            yield from _rows(name, file)

    left: set[str] = set()
    known: set[str] = set()
    for _, user in rows("users.csv"):
        (left if user.get("status") == _DELETED else known).add(user["sourcedId"])
    classes: dict[str, dict[str, str]] = {}
    class_of: dict[str, str | None] = {}
    for _, item in rows("lineItems.csv"):
        item_id, class_id = item["sourcedId"], item["classSourcedId"]
        is_deleted = item.get("status") == _DELETED
        class_of[item_id] = None if is_deleted else class_id
        if not is_deleted:
            classes.setdefault(class_id, {})[item_id] = _title(item)
    pupils: dict[str, dict[str, _Pupil]] = {}
    for line, result in rows("results.csv"):
        student, item_id = result["studentSourcedId"], result["lineItemSourcedId"]
        if result.get("status") == _DELETED or student in left:
            continue
        if student not in known or item_id not in class_of:
            raise refuse("oneroster", what=f"results.csv, {line}")
        of_class = class_of[item_id]
        if of_class is not None and _is_grade(result):
            in_class = pupils.setdefault(of_class, {})
            _, scores = in_class.setdefault(student, (line, {}))
            scores.setdefault(item_id, []).append(result["score"])
            if len(in_class) > max_rows:
                raise refuse("too_long", limit=max_rows)
    return {
        name: [(1, [REFERENCE, *items.values()]), *_lines(items, pupils[name])]
        for name, items in classes.items()
        if name in pupils
    }


def _is_grade(result: Mapping[str, str]) -> bool:
    graded = result.get("scoreStatus") in (None, "", GRADED)
    unfinished = any(result.get(field) == "true" for field in ("inProgress", "incomplete"))
    return graded and not unfinished and result["score"] != ""


def _lines(items: Iterable[str], pupils: Mapping[str, _Pupil]) -> Iterator[tuple[int, list[str]]]:
    for student, (line, scores) in pupils.items():
        # Several results of one line item stand beside each other, so that the cell is refused.
        yield line, [student, *(" / ".join(scores.get(item, ())) for item in items)]


def _rows(name: str, file: IO[bytes]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and fields of each row of a table."""
    try:
        reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
        missing = set(_NEEDED[name]) - set(reader.fieldnames or ())
        if missing:
            raise refuse("oneroster", what=f"{name}, {', '.join(sorted(missing))}")
        for row in reader:
            if None in row or None in row.values():
                raise refuse("oneroster", what=f"{name}, {reader.line_num}")
            fields = {key: text.strip()[:MAX_CELL_CHARACTERS] for key, text in row.items()}
            # Programs write these words in any case.
            words = {key: fields[key].casefold() for key in _WORDS if key in fields}
            yield reader.line_num, fields | words
    except UnicodeDecodeError:
        raise refuse("not_in_encoding", encoding="utf-8") from None
    except csv.Error:
        raise refuse("broken_quotes", at=reader.line_num + 1) from None


def _title(item: Mapping[str, str]) -> str:
    """Return the title of a line item, with its scale where that is not one of the profile.

    Such a title names no column, so that its grades are not read as those of another scale.
    """
    texts = item.get("resultValueMin", ""), item.get("resultValueMax", "")
    low, high = map(parse_number, texts)
    periods = [(feature_of(name).low, feature_of(name).high) for name in PERIODS]
    scales = [(GRADE.minimum, GRADE.maximum), *periods]
    fits = any(low in (None, least) and high in (None, most) for least, most in scales)
    return item["title"] if fits else f"{item['title']} ({texts[0]}–{texts[1]})"


def write_oneroster(
    predictions: Iterable[tuple[str, str]],
    *,
    line_item: str,
    title: str,
    class_id: str,
    category: str,
    period: str,
) -> bytes:
    """Return predictions as the results of one line item: a ZIP file of OneRoster 1.1.

    Parameters
    ----------
    predictions
        Reference (``sourcedId``) and predicted grade of each pupil.
    line_item, class_id, category, period
        The ``sourcedId`` of the line item to make, and of what it belongs to.
    """
    today = iso(now_us())[:10]
    item = (line_item, "", "", title, "", today, today, class_id, category, period)
    results = [
        (
            *(f"{line_item}-{reference}", "", "", line_item, reference, PREDICTED_STATUS),
            *(grade, today, "predicted"),
        )
        for reference, grade in predictions
    ]
    manifest = [("manifest.version", "1.0"), ("oneroster.version", "1.1")]
    manifest += [(f"file.{name}", "absent") for name in _OTHER_FILES]
    manifest += [("file.lineItems", "bulk"), ("file.results", "bulk")]
    tables: dict[str, list[tuple[str, ...]]] = {
        "manifest.csv": [("propertyName", "value"), *manifest],
        "lineItems.csv": [
            _LINE_ITEM_FIELDS,
            (*item, f"{GRADE.minimum:g}", f"{GRADE.maximum:g}"),
        ],
        "results.csv": [_RESULT_FIELDS, *results],
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in tables.items():
            text = io.StringIO()
            csv.writer(text).writerows(rows)
            archive.writestr(name, text.getvalue())
    return out.getvalue()
