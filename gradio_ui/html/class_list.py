"""A class list: the cells to correct, and the pupils ranked by risk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from gradio_ui.files.rows import ScoredPupil
from gradio_ui.html.grade_scale import distribution, grade_strip
from gradio_ui.html.labels import decision_badge, decision_name, horizon_name
from gradio_ui.html.markup import Content, Html, badge, element, facts, figure, note, table
from gradio_ui.texts import Texts
from student_success.domain.students import FEATURE_NAMES
from student_success.domain.tables.problems import Problem
from student_success.domain.tables.pupils import PupilList

Filter = Literal["all", "at_risk", "fail", "pass"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
ROWS_PER_PAGE = 50
_MAX_INVALID_SHOWN = 200


def summary(texts: Texts, class_list: PupilList) -> str:
    """Describe what was read, what must be confirmed, and what has to be corrected."""
    invalid, questions = class_list.invalid, class_list.questions
    sentences = [texts("class.read", rows=texts.number(class_list.rows, 0))]
    if class_list.problems:
        bad = texts.number(class_list.problems, 0)
        good = texts.number(len(class_list.pupils), 0)
        sentences.append(texts("class.bad", bad=bad, good=good))
    elif not questions:
        sentences.append(texts("class.all_good"))
    sentences += [explain(texts, problem) for problem in class_list.notes]
    level: Literal["warn", "good"] = "warn" if invalid or len(class_list.notes) > 1 else "good"
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
    return texts(f"problem.{problem.code}", **problem.values)


def invalid_cell_titles(texts: Texts) -> list[str]:
    """Return the titles of `invalid_cell_rows`."""
    return texts.many("bad", "line", "column", "value", "why")


def invalid_cell_rows(texts: Texts, invalid: Sequence[Problem]) -> list[list[Any]]:
    """Return each invalid cell as a row of a table or file."""
    return [[cell.line or "", cell.column, cell.value, explain(texts, cell)] for cell in invalid]


def overview(texts: Texts, scored: Sequence[ScoredPupil]) -> str:
    """Return the figures of the whole class, and the distribution of its grades."""
    failing = sum(not pupil.passes for pupil in scored)
    at_risk = sum(pupil.at_risk for pupil in scored)
    mean = sum(pupil.grade for pupil in scored) / len(scored)
    figures = facts(
        [
            (texts("class.count"), texts.number(len(scored), 0)),
            (texts("class.mean"), f"{texts.number(mean)} / 20"),
            (texts("class.failing"), texts.number(failing, 0)),
            (texts("class.at_risk"), texts.number(at_risk, 0)),
        ]
    )
    picture = figure(distribution(texts, scored), texts("class.distribution"))
    return element("div", Html(figures + picture), css="overview").html


def sort_by_risk(scored: Sequence[ScoredPupil]) -> tuple[ScoredPupil, ...]:
    """Sort pupils by risk, the most likely to fail first."""
    return tuple(
        sorted(scored, key=lambda pupil: (pupil.probability, pupil.grade, pupil.pupil.line))
    )


def select(
    scored: Sequence[ScoredPupil], filter_name: str, search: str
) -> list[tuple[int, ScoredPupil]]:
    """Return rank and pupil of those that match a filter and a search."""
    wanted = search.strip().casefold()
    return [
        (rank, pupil)
        for rank, pupil in enumerate(scored, 1)
        if _matches(pupil, filter_name) and wanted in _pupil_name(pupil).casefold()
    ]


def _matches(pupil: ScoredPupil, filter_name: str) -> bool:
    if filter_name == "at_risk":
        return pupil.at_risk
    return filter_name not in ("fail", "pass") or pupil.passes == (filter_name == "pass")


def _pupil_name(scored: ScoredPupil) -> str:
    """Name a pupil by reference, or else by line."""
    return scored.pupil.reference or f"#{scored.pupil.line}"


def page_count(rows: int) -> int:
    """Return how many pages a table of `rows` rows has."""
    return max(1, -(-rows // ROWS_PER_PAGE))


def ranking(texts: Texts, rows: Sequence[tuple[int, ScoredPupil]], page: int) -> str:
    """Return one page of the ranked pupils; `page` counts from 0."""
    shown: list[Sequence[Content]] = []
    for rank, pupil in rows[page * ROWS_PER_PAGE : (page + 1) * ROWS_PER_PAGE]:
        interval = element(
            "span",
            Html(grade_strip(texts, pupil)),
            element("small", f"{pupil.low}–{pupil.high}"),
            css="nowrap",
        )
        outcome = decision_badge(texts, pupil.passes).html
        if pupil.at_risk:
            outcome += f" {badge(texts('rank.at_risk'), 'watch').html}"
        shown.append(
            [
                str(rank),
                _pupil_name(pupil),
                texts.percent(pupil.probability),
                texts.number(pupil.grade),
                interval,
                Html(outcome),
                horizon_name(texts, pupil.horizon),
            ]
        )
    titles = texts.many(
        "rank", "place", "pupil", "probability", "grade", "interval", "verdict", "known"
    )
    return table(texts, texts("rank.caption"), titles, shown)


def result_titles(texts: Texts) -> list[str]:
    """Return the titles of `result_rows`."""
    names = ("place", "line", "reference", "grade", "low", "high", "probability", "verdict")
    more = ("at_risk", "known", "version", "session", "prediction")
    return [*texts.many("file", *names, *more), *FEATURE_NAMES]


def result_rows(texts: Texts, rows: Sequence[tuple[int, ScoredPupil]]) -> list[list[Any]]:
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
            texts("file.yes" if scored.at_risk else "file.no"),
            horizon_name(texts, scored.horizon),
            scored.version,
            scored.session_id,
            scored.prediction_id,
            *(scored.pupil.features.get(name) for name in FEATURE_NAMES),
        ]
        for rank, scored in rows
    ]
