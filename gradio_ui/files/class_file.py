"""Class lists: read them, and make an empty one."""

from __future__ import annotations

from functools import cache
from typing import Any

from gradio_ui.texts import LANGUAGES, Texts, table
from student_success.domain.students import EXAMPLE, FEATURES, Feature
from student_success.domain.tables.cells import normalise
from student_success.domain.tables.columns import Choices, pupil_columns
from student_success.domain.tables.pupils import PupilList, read_pupils
from student_success.domain.tables.reader import Table, read_table

MAX_KEPT_PROBLEMS = 1_000
"""More invalid cells of one file are counted, not kept in memory."""


def read_class_table(data: bytes, choices: Choices | None = None) -> Table:
    """Read the table of a class list; raises `TableError` if it is not a readable one."""
    return read_table(data, pupil_columns(), choices, own_titles=_own_titles())


def pupils_of(rows: Table) -> PupilList:
    """Return the pupils of a class list."""
    return read_pupils(rows, max_problems=MAX_KEPT_PROBLEMS)


def template(texts: Texts) -> tuple[list[str], list[list[Any]]]:
    """Return the titles and two example rows of an empty class list, in the reader's words."""
    titles = [texts("file.reference"), *(texts.choose(f.about.label) for f in FEATURES)]
    example = [_in_words(texts, feature) for feature in FEATURES]
    without_grades = [None if f.is_period else _in_words(texts, f) for f in FEATURES]
    return titles, [["A-01", *example], ["A-02", *without_grades]]


def _in_words(texts: Texts, feature: Feature) -> Any:
    value = EXAMPLE[feature.name]
    words = (feature.about.choices or {}).get(value)
    return value if words is None else texts.choose(words)


@cache
def _own_titles() -> frozenset[str]:
    """Return the titles of the files that the interface saves: results and histories."""
    return frozenset(
        normalise(text[language])
        for key, text in table().items()
        if key.startswith(("file.", "history."))
        for language in LANGUAGES
    )
