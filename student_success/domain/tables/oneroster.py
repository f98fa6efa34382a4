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

from student_success.core.clock import iso, now_us
from student_success.domain.students import GRADE, PERIODS
from student_success.domain.tables.cells import feature_of, parse_number
from student_success.domain.tables.columns import REFERENCE
from student_success.domain.tables.grid import MAX_CELL_CHARACTERS, Grid
from student_success.domain.tables.problems import refuse

MAX_UNPACKED_BYTES = 64 << 20
GRADED = "fully graded"
PREDICTED_STATUS = "partially graded"
"""Status of a prediction: it is no grade, and is not read as one."""
_DELETED = "tobedeleted"
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


def read_oneroster(data: bytes) -> list[Grid] | None:
    """Return the grades of each class as a sheet; None if it is not a OneRoster data set.

    Raises
    ------
    TableError
        If the data set is not complete, is too large, or has a table that cannot be read.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return None
    with archive:
        members = {PurePosixPath(m.filename).name: m for m in archive.infolist()}
        if not {"results.csv", "lineItems.csv"} <= members.keys():
            return None
        used = [members[name] for name in _NEEDED if name in members]
        if sum(member.file_size for member in used) > MAX_UNPACKED_BYTES:
            raise refuse("too_large")
        if len(used) < len(_NEEDED):
            raise refuse("oneroster", what="users.csv")
        try:
            texts = {PurePosixPath(m.filename).name: archive.read(m) for m in used}
        except (zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError):
            raise refuse("not_a_table") from None
    items, results, users = ([*_rows(name, texts[name])] for name in _NEEDED)
    left = {user["sourcedId"] for _, user in users if user.get("status") == _DELETED}
    known = {user["sourcedId"] for _, user in users} - left
    titles = {item["sourcedId"]: _title(item) for _, item in items}
    classes: dict[str, list[str]] = {}
    for _, item in items:
        if item.get("status") != _DELETED:
            classes.setdefault(item["classSourcedId"], []).append(item["sourcedId"])
    scores: dict[tuple[str, str], list[str]] = {}
    lines: dict[str, int] = {}
    for line, result in results:
        student, item_id = result["studentSourcedId"], result["lineItemSourcedId"]
        if result.get("status") == _DELETED or student in left:
            continue
        if student not in known or item_id not in titles:
            raise refuse("oneroster", what=f"results.csv, {line}")
        lines.setdefault(student, line)
        if _is_grade(result):
            scores.setdefault((student, item_id), []).append(result["score"])
    grids = [
        Grid([(1, [REFERENCE, *(titles[item] for item in found)]), *_pupils(found, lines, scores)])
        for found in classes.values()
    ]
    named = zip(grids, classes, strict=True)
    return [Grid(grid.lines, sheet=name) for grid, name in named if len(grid.lines) > 1]


def _is_grade(result: Mapping[str, str]) -> bool:
    graded = result.get("scoreStatus") in (None, "", GRADED)
    unfinished = any(result.get(field) == "true" for field in ("inProgress", "incomplete"))
    return graded and not unfinished and result["score"] != ""


def _pupils(
    items: list[str], lines: Mapping[str, int], scores: Mapping[tuple[str, str], list[str]]
) -> Iterator[tuple[int, list[str]]]:
    for student, line in lines.items():
        # Several results of one line item stand beside each other, so that the cell is refused.
        cells = [" / ".join(scores.get((student, item), ())) for item in items]
        if any(cells):
            yield line, [student, *cells]


def _rows(name: str, content: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and fields of each row of a table."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        missing = set(_NEEDED[name]) - set(reader.fieldnames or ())
        if missing:
            raise refuse("oneroster", what=f"{name}, {', '.join(sorted(missing))}")
        for row in reader:
            if None in row or None in row.values():
                raise refuse("oneroster", what=f"{name}, {reader.line_num}")
            fields = {key: text.strip()[:MAX_CELL_CHARACTERS] for key, text in row.items()}
            yield reader.line_num, fields
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
