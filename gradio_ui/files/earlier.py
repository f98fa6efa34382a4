"""What was estimated of a pupil at an earlier moment of the year."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradio_ui.files.rows import Earlier, ScoredPupil
from gradio_ui.texts import LANGUAGES, table
from student_success.domain.students import GRADE_MAX, GRADE_MIN, PREDICTED
from student_success.domain.tables.cells import normalise, parse_number
from student_success.domain.tables.reader import Table


@dataclass(frozen=True, slots=True)
class EarlierEstimates:
    """Earlier estimates of the pupils of a class.

    Attributes
    ----------
    saved
        Those of a saved result, by its line.
    recorded
        Those of the session's history, newest first, by reference.
    """

    saved: Mapping[int, Earlier]
    recorded: Mapping[str, Sequence[Earlier]]

    def beside(self, scored: ScoredPupil) -> ScoredPupil:
        """Return a pupil with the estimate to compare with, if there is one.

        A saved result comes first, then the newest estimate made with other grades known, then the
        newest one.
        """
        recorded = self.recorded.get(scored.pupil.reference, ())
        others = [earlier for earlier in recorded if earlier.known != scored.horizon]
        newest = next(iter([*others, *recorded]), None)
        return replace(scored, earlier=self.saved.get(scored.pupil.line, newest))


def saved_estimates(rows: Table) -> dict[int, Earlier]:
    """Return the estimates in a file that the interface saved, by line; none in other files."""
    grade, known = (_position(rows, name) for name in ("grade", "known"))
    if grade is None:
        return {}
    found = {}
    for line, cells in rows.rows:
        value = parse_number(cells[grade].strip())
        if value is not None and GRADE_MIN <= value <= GRADE_MAX:
            found[line] = Earlier(value, cells[known] if known is not None else "")
    return found


def recorded_estimates(history: Iterable[Mapping[str, Any]]) -> dict[str, list[Earlier]]:
    """Return the estimates in the rows of ``GET /history`` by reference, in the order of rows."""
    found: dict[str, list[Earlier]] = {}
    for row in history:
        if row["reference"]:
            earlier = Earlier(float(row[PREDICTED]), str(row["horizon"]))
            found.setdefault(str(row["reference"]), []).append(earlier)
    return found


def _position(rows: Table, name: str) -> int | None:
    texts = table()
    titles = {
        normalise(texts[f"{section}.{name}"][language])
        for section in ("file", "history")
        for language in LANGUAGES
    }
    return next((i for i, title in enumerate(rows.titles) if normalise(title) in titles), None)
