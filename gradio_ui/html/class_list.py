"""A class list: the cells to correct, and the pupils ranked by risk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html.grade_scale import distribution, grade_strip, round_grade
from gradio_ui.html.labels import (
    PRIORITIES,
    Priority,
    decision_name,
    estimate_text,
    grade_text,
    horizon_name,
    out_of,
    priority_badge,
    priority_of,
)
from gradio_ui.html.markup import (
    Html,
    Tone,
    element,
    facts,
    figure,
    local_time,
    note,
    table,
)
from gradio_ui.texts import Texts
from student_success.domain.students import FEATURE_NAMES, SCALE
from student_success.domain.tables.problems import Problem
from student_success.domain.tables.pupils import PupilList

SORTS: dict[str, Callable[[ScoredPupil], Any]] = {
    "pupil": lambda scored: pupil_name(scored).casefold(),
    "priority": lambda scored: PRIORITIES.index(_priority(scored)),
    "probability": lambda scored: scored.probability,
    "grade": lambda scored: scored.grade,
    "change": lambda scored: scored.change,
}
"""The columns that the list can be sorted by, and what orders them."""
_COLUMNS = ("pupil", "priority", "probability", "grade", "change", "reason")
ROWS_PER_PAGE = 50
_MAX_INVALID_SHOWN = 200


def summary(texts: Texts, class_list: PupilList) -> str:
    """Describe what was read, what must be confirmed, and what has to be corrected."""
    invalid, questions = class_list.invalid, class_list.questions
    sentences = [texts.count("class.read", class_list.rows)]
    if class_list.problems:
        sentences.append(texts.count("class.to_fix", class_list.problems))
        usable = len(class_list.pupils)
        none = texts("class.usable_none")
        sentences.append(texts.count("class.usable", usable) if usable else none)
    elif not questions:
        sentences.append(texts("class.all_good"))
    sentences += [explain(texts, problem) for problem in class_list.notes]
    level: Tone = "warn" if invalid or len(class_list.notes) > 1 else "good"
    html = "".join(note("bad", explain(texts, question)) for question in questions)
    html += note(level, " ".join(sentences))
    if invalid:
        rows = invalid_cell_rows(texts, invalid[:_MAX_INVALID_SHOWN])
        shown = [[str(value) for value in row] for row in rows]
        html += table(texts, texts("bad.caption"), invalid_cell_titles(texts), shown)
    if class_list.problems > _MAX_INVALID_SHOWN:
        total = texts.number(class_list.problems, 0)
        html += note("info", texts("bad.more", shown=_MAX_INVALID_SHOWN, total=total))
    return html


def explain(texts: Texts, problem: Problem) -> str:
    """Return a problem of a table in words."""
    return texts.choose(problem.text)


def invalid_cell_titles(texts: Texts) -> list[str]:
    """Return the titles of `invalid_cell_rows`."""
    return texts.many("bad", "line", "column", "value", "why")


def invalid_cell_rows(texts: Texts, invalid: Sequence[Problem]) -> list[list[Any]]:
    """Return each invalid cell as a row of a table or file."""
    return [[cell.line or "", cell.column, cell.value, explain(texts, cell)] for cell in invalid]


def overview(texts: Texts, scored: Sequence[ScoredPupil]) -> str:
    """Return the figures of the whole class, and the distribution of its grades."""
    mean = sum(pupil.grade for pupil in scored) / len(scored)
    figures = facts(
        [
            (texts("class.to_help"), texts.number(Counter(map(_priority, scored))["act"], 0)),
            (texts("class.count"), texts.number(len(scored), 0)),
            (texts("class.mean"), f"{estimate_text(texts, mean)}{out_of()}"),
        ]
    )
    picture = figure(distribution(texts, scored), texts("class.distribution"))
    return element("div", figures, picture, css="overview")


def sort_by_risk(scored: Sequence[ScoredPupil]) -> tuple[ScoredPupil, ...]:
    """Sort pupils by risk, the most likely to fail first; of equal ones the worse grade."""

    def risk(scored: ScoredPupil) -> tuple[float, float, int]:
        return scored.probability, SCALE.level(scored.grade), scored.pupil.line

    return tuple(sorted(scored, key=risk))


def filter_choices(texts: Texts, scored: Sequence[ScoredPupil] = ()) -> list[tuple[str, str]]:
    """Return label and name of each filter; the label has the number of its pupils."""
    counts = Counter(map(_priority, scored))
    named = [(texts("filter.all"), "all", len(scored))]
    named += [(texts(f"priority.{name}"), name, counts[name]) for name in PRIORITIES]
    return [(f"{label} ({texts.number(count, 0)})", name) for label, name, count in named]


def select(
    scored: Sequence[ScoredPupil], filter_name: str, search: str
) -> list[tuple[int, ScoredPupil]]:
    """Return rank and pupil of those that match a filter and a search."""
    wanted = search.strip().casefold()
    return [
        (rank, pupil)
        for rank, pupil in enumerate(scored, 1)
        if filter_name in ("all", _priority(pupil)) and wanted in pupil_name(pupil).casefold()
    ]


def _priority(scored: ScoredPupil) -> Priority:
    return priority_of(passes=scored.passes, at_risk=scored.at_risk)


def pupil_name(scored: ScoredPupil) -> str:
    """Name a pupil by reference, or else by line."""
    return scored.pupil.reference or f"#{scored.pupil.line}"


def page_count(rows: int) -> int:
    """Return how many pages a table of `rows` rows has."""
    return max(1, -(-rows // ROWS_PER_PAGE))


def printed_title(texts: Texts, name: str, scored_at: str) -> Html:
    """Say on paper which class this is, and when it was predicted (ISO 8601)."""
    return element("strong", texts("rank.printed", name=name), " ", local_time(texts, scored_at))


def ranking(
    texts: Texts,
    rows: Sequence[tuple[int, ScoredPupil]],
    *,
    reasons: Mapping[int, str],
    printed: str = "",
    is_compared: bool = False,
    sorted_by: str = "",
    descending: bool = False,
    opened: int | None = None,
) -> str:
    """Return pupils as a table; each row opens its pupil, each title sorts.

    Parameters
    ----------
    reasons
        The main reasons of each pupil, by line; those not read yet are left out.
    printed
        The title of each printed sheet, see `printed_title`.
    is_compared
        Whether a column shows the change since an earlier estimate.
    opened
        Line of the pupil that is shown beside the table.
    """
    if not rows:
        return note("info", texts("table.empty"))
    columns = [column for column in _COLUMNS if is_compared or column != "change"]
    heads = []
    for column in columns:
        title = texts(f"rank.{column}")
        if column not in SORTS:
            heads.append(element("th", title, scope="col"))
            continue
        state = ("descending" if descending else "ascending") if column == sorted_by else "none"
        button = element("button", title, type="button", data_sort=column)
        heads.append(element("th", button, scope="col", aria_sort=state))
    body = []
    for rank, scored in rows:
        line = scored.pupil.line
        # Screen readers announce that a button is the current one, but not that a row is.
        current = {"aria_current": "true"} if line == opened else {}
        button = element(
            "button", pupil_name(scored), type="button", data_open=str(line), **current
        )
        interval = f"{grade_text(texts, scored.low)}–{grade_text(texts, scored.high)}"
        grade = element(
            "span",
            element("strong", grade_text(texts, round_grade(scored.grade))),
            grade_strip(texts, scored),
            element("small", interval, data_title=texts("rank.interval")),
            css="nowrap",
        )
        cells: dict[str, str] = {
            "pupil": Html(f"{element('small', str(rank))} {button}"),
            "priority": priority_badge(texts, _priority(scored)),
            "probability": texts.percent(scored.probability),
            "grade": grade,
            "change": _change(texts, scored),
            "reason": reasons.get(line, "…"),
        }
        row = (
            element("td", cells[column], data_cell=column, data_title=texts(f"card.{column}"))
            for column in columns
        )
        body.append(element("tr", *row, data_open=str(line), **current))
    content = element(
        "table",
        element("caption", texts("rank.caption_sorted" if sorted_by else "rank.caption")),
        # The head of a table is repeated on each sheet of paper.
        element(
            "thead",
            element("tr", element("th", printed, colspan=str(len(columns))), css="printed"),
            element("tr", *heads),
        ),
        element("tbody", *body),
    )
    return element("div", content, css="sheet ranking")


def _change(texts: Texts, scored: ScoredPupil) -> str:
    """Return the earlier and the present estimate, which of them is better, and what was known."""
    earlier = scored.earlier
    if earlier is None:
        return "—"
    before, now = (estimate_text(texts, grade) for grade in (earlier.grade, scored.grade))
    if before == now:
        name, sign, tone = "same", "=", ""
    else:
        name, sign, tone = ("better", "↑", "good") if scored.change > 0 else ("worse", "↓", "low")
    known = horizon_name(texts, earlier.known)
    return element(
        "span",
        element("b", sign, role="img", aria_label=texts(f"rank.{name}"), css=f"sign {tone}"),
        f" {before} → {now} ",
        element("small", texts("rank.then", known=known)) if known else "",
    )


def result_titles(texts: Texts) -> list[str]:
    """Return the titles of `result_rows`."""
    names = ("place", "line", "reference", "grade", "low", "high", "probability", "verdict")
    more = ("priority", "reason", "known", "version", "session", "prediction")
    return [*texts.many("file", *names, *more), *FEATURE_NAMES]


def result_rows(
    texts: Texts, rows: Sequence[tuple[int, ScoredPupil]], reasons: Mapping[int, str]
) -> list[list[Any]]:
    """Return ranked pupils as rows for a file: the prediction first, then the features sent."""
    return [
        [
            rank,
            scored.pupil.line,
            scored.pupil.reference,
            scored.grade,
            scored.low,
            scored.high,
            round(scored.probability, 4),
            decision_name(texts, scored.passes),
            texts(f"priority.{_priority(scored)}"),
            reasons.get(scored.pupil.line, ""),
            horizon_name(texts, scored.horizon),
            scored.version,
            scored.session_id,
            scored.prediction_id,
            *(scored.pupil.features.get(name) for name in FEATURE_NAMES),
        ]
        for rank, scored in rows
    ]
